//! A backend that does what it is told, and can be told otherwise while it runs.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// 200 with a short body; `/stream…` is an event stream, `/slow` takes a while.
    Well,
    /// Takes the request and says nothing.
    Silent,
    /// Says the head of an answer and part of its body.
    HalfAnswer,
    /// Resets the connection.
    Resets,
    /// Answers what is no HTTP.
    Garbage,
    /// Answers after ten seconds.
    Slow,
    /// Works for a while, on a request of which it has the head, and looks at its connection only then.
    Deaf,
}

/// Runs on a thread of its own; stops with it.
pub struct Backend {
    pub address: SocketAddr,
    mood: watch::Sender<Mood>,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// How often each `X-Once` was seen.
    seen: Mutex<HashMap<String, usize>>,
    most_at_once: AtomicUsize,
    at_once: AtomicUsize,
}

impl Backend {
    pub fn start(mood: Mood) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), mood)
    }

    /// On an address of its own, or one that it had before.
    pub fn start_at(address: SocketAddr, mood: Mood) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, moods) = watch::channel(mood);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            super::client::run(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, moods, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, mood, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn feels(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Requests that came more than once.
    pub fn repeated(&self) -> usize {
        self.shared.seen.lock().unwrap().values().filter(|times| **times > 1).count()
    }

    /// The most requests that it ever worked on at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, moods: watch::Receiver<Mood>, shared: Arc<Shared>) {
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            let (moods, shared) = (moods.clone(), Arc::clone(&shared));
            tokio::spawn(async move { converse(socket, moods, shared).await });
        }
    }
}

async fn converse(
    mut socket: TcpStream,
    moods: watch::Receiver<Mood>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = read.drain(..at + 4).collect();
                break String::from_utf8_lossy(&head).to_lowercase();
            }
            let mut buffer = [0; 4096];
            match socket.read(&mut buffer).await? {
                0 => return Ok(()),
                length => read.extend_from_slice(&buffer[..length]),
            }
        };
        let work = Work::of(&shared, &head);
        let mood = *moods.borrow();
        answer(&mut socket, mood, &head).await?;
        drop(work);
    }
}

/// One request that is worked on.
struct Work<'s>(&'s Shared);

impl<'s> Work<'s> {
    fn of(shared: &'s Shared, head: &str) -> Self {
        if let Some(once) = head.lines().find_map(|line| line.strip_prefix("x-once: ")) {
            *shared.seen.lock().unwrap().entry(once.to_owned()).or_default() += 1;
        }
        let at_once = shared.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(socket: &mut TcpStream, mood: Mood, head: &str) -> io::Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    match mood {
        Mood::Well if head.starts_with("get /stream") => stream(socket).await,
        Mood::Well => {
            if head.starts_with("get /slow") {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            socket.write_all(OK).await
        }
        Mood::Silent => std::future::pending().await,
        Mood::HalfAnswer => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await?;
            std::future::pending().await
        }
        Mood::Resets => {
            let _ = socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Mood::Garbage => {
            socket.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await?;
            Err(io::ErrorKind::InvalidData.into())
        }
        Mood::Deaf => {
            let time = if head.starts_with("post") { 2000 } else { 100 };
            tokio::time::sleep(Duration::from_millis(time)).await;
            socket.write_all(OK).await
        }
        Mood::Slow => {
            tokio::time::sleep(Duration::from_secs(10)).await;
            socket.write_all(OK).await
        }
    }
}

/// Ten events, a tenth of a second apart, and a proper end.
async fn stream(socket: &mut TcpStream) -> io::Result<()> {
    socket
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await?;
    for _ in 0..10 {
        socket.write_all(b"9\r\ndata: 1\n\n\r\n").await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    socket.write_all(b"0\r\n\r\n").await
}
