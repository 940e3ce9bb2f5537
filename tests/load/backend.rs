//! A backend whose behaviour can be changed while it runs.

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

/// The reaction of the backend to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// 200 with a short body; `/stream…` is an event stream, `/slow` takes 300 ms.
    Working,
    /// No answer.
    Silent,
    /// The head of an answer and a part of its body, then nothing.
    HalfAnswer,
    /// A reset of the connection.
    Resets,
    /// Bytes that are not HTTP.
    Garbage,
    /// An answer after ten seconds.
    Slow,
    /// An answer after 100 ms (2 s for POST), during which the backend does not notice that the connection is closed.
    IgnoresClosing,
}

/// Runs on its own thread until it is dropped.
pub struct FaultyBackend {
    pub address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Number of requests for each value of `X-Once`.
    requests_by_id: Mutex<HashMap<String, usize>>,
    /// Values of `X-Request-Id`; `None` unless they are recorded.
    request_ids: Mutex<Option<Vec<String>>>,
    most_at_once: AtomicUsize,
    at_once: AtomicUsize,
}

impl FaultyBackend {
    pub fn start(behaviour: Behaviour) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), behaviour)
    }

    /// Starts the backend on this address, so that it can come back where it was before.
    pub fn start_at(address: SocketAddr, behaviour: Behaviour) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (behaviour, behaviours) = watch::channel(behaviour);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            super::client::run(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, behaviours, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, behaviour, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Records the values of `X-Request-Id` from now on.
    pub fn record_request_ids(&self) {
        *self.shared.request_ids.lock().unwrap() = Some(Vec::new());
    }

    /// The recorded values of `X-Request-Id`.
    pub fn request_ids(&self) -> Vec<String> {
        self.shared.request_ids.lock().unwrap().clone().unwrap_or_default()
    }

    /// Number of requests that came more than once.
    pub fn repeated(&self) -> usize {
        self.shared.requests_by_id.lock().unwrap().values().filter(|times| **times > 1).count()
    }

    /// The largest number of requests that the backend ever worked on at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }
}

impl Drop for FaultyBackend {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, behaviours: watch::Receiver<Behaviour>, shared: Arc<Shared>) {
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            let (behaviours, shared) = (behaviours.clone(), Arc::clone(&shared));
            tokio::spawn(async move { serve(socket, behaviours, shared).await });
        }
    }
}

async fn serve(
    mut socket: TcpStream,
    behaviours: watch::Receiver<Behaviour>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut read = Vec::new();
    while let Some(head) = read_head(&mut socket, &mut read).await? {
        let request = RequestInProgress::begin(&shared, &head);
        let behaviour = *behaviours.borrow();
        answer(&mut socket, behaviour, &head).await?;
        drop(request);
    }
    Ok(())
}

/// Returns the next head in lower case; `None` at the end of the connection.
async fn read_head(socket: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = read.drain(..at + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).to_lowercase()));
        }
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer).await? {
            0 => return Ok(None),
            length => read.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Counts a request as long as the backend works on it.
struct RequestInProgress<'s>(&'s Shared);

impl<'s> RequestInProgress<'s> {
    fn begin(shared: &'s Shared, head: &str) -> Self {
        if let Some(id) = head.lines().find_map(|line| line.strip_prefix("x-once: ")) {
            *shared.requests_by_id.lock().unwrap().entry(id.to_owned()).or_default() += 1;
        }
        if let Some(ids) = &mut *shared.request_ids.lock().unwrap() {
            ids.extend(head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).map(str::to_owned));
        }
        let at_once = shared.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for RequestInProgress<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(socket: &mut TcpStream, behaviour: Behaviour, head: &str) -> io::Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    match behaviour {
        Behaviour::Working if head.starts_with("get /stream") => stream(socket).await,
        Behaviour::Working => {
            if head.starts_with("get /slow") {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            socket.write_all(OK).await
        }
        Behaviour::Silent => std::future::pending().await,
        Behaviour::HalfAnswer => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await?;
            std::future::pending().await
        }
        Behaviour::Resets => {
            let _ = socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Behaviour::Garbage => {
            socket.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await?;
            Err(io::ErrorKind::InvalidData.into())
        }
        Behaviour::IgnoresClosing => {
            let time = if head.starts_with("post") { 2000 } else { 100 };
            tokio::time::sleep(Duration::from_millis(time)).await;
            socket.write_all(OK).await
        }
        Behaviour::Slow => {
            tokio::time::sleep(Duration::from_secs(10)).await;
            socket.write_all(OK).await
        }
    }
}

/// Sends ten events, 100 ms apart, and the end of the body.
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
