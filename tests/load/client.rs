//! Clients by the thousand, on one thread: each a task that speaks HTTP/1.1 over TLS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::Client;

/// Whatever takes longer than this is lost.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Runs all of it on one runtime, to its end.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A socket from an address of this machine.
pub async fn socket(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// A connection on which TLS is done.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

/// An answer: its status, and the reason of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    /// Whether the server ends the connection with it.
    pub closes: bool,
}

impl Answer {
    pub fn is(&self, status: u16, reason: &str) -> bool {
        self.status == status && self.reason == reason
    }
}

impl Connection {
    pub async fn open(client: &Client, to: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        let opening = async {
            let socket = socket(to, from).await?;
            let connector = TlsConnector::from(client.config.clone());
            connector.connect("localhost".try_into().unwrap(), socket).await
        };
        let stream = timeout(PATIENCE, opening).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self { stream, read: Vec::new() })
    }

    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    pub async fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }

    /// Reads an answer whole; one without a length has no body, or goes on until somebody else reads it.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n").await?).to_lowercase();
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(head.clone()))?;
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = self.exactly(length).await?;
        let reason = match field(&head, "content-type") {
            Some("application/problem+json") => {
                let problem: serde_json::Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
                problem["reason"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        };
        Ok(Answer { status, reason, closes: field(&head, "connection") == Some("close") })
    }

    pub async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Ok(self.read.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(self.read.drain(..length).collect())
    }

    async fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
        match read.map_err(|_| io::ErrorKind::TimedOut)?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.read.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    /// Ends it with a reset, as a client does that dies.
    pub fn abort(self) {
        let (socket, _) = self.stream.into_inner();
        let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find_map(|(field, value)| (field == name).then(|| value.trim()))
}
