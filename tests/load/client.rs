//! Thousands of clients on one thread; each is a task that speaks HTTP/1.1 over TLS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::Client;

/// Deadline of each step of a client. A step that takes longer counts as failed.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Runs a future to its end on a new runtime of one thread.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Connects from this loopback address, so that a driver can act as clients of many addresses.
pub async fn connect_from(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// A connection whose TLS handshake is complete.
pub struct LoadConnection {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

/// The parts of an answer that the scenarios check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerSummary {
    pub status: u16,
    /// Documented reason of a refusal; empty for other answers.
    pub reason: String,
    /// True if the answer has `Connection: close`.
    pub closes: bool,
}

impl AnswerSummary {
    pub fn is(&self, status: u16, reason: &str) -> bool {
        self.status == status && self.reason == reason
    }
}

impl LoadConnection {
    pub async fn open(client: &Client, to: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        let opening = async {
            let socket = connect_from(to, from).await?;
            let connector = TlsConnector::from(client.config.clone());
            connector.connect("localhost".try_into().unwrap(), socket).await
        };
        let stream = timeout(DEADLINE, opening).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self { stream, read: Vec::new() })
    }

    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    pub async fn get(&mut self, path: &str) -> io::Result<AnswerSummary> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    pub async fn ask(&mut self, request: &str) -> io::Result<AnswerSummary> {
        self.send(request).await?;
        self.answer().await
    }

    /// Reads a whole answer. The body of an answer without `Content-Length` is left to the caller.
    pub async fn answer(&mut self) -> io::Result<AnswerSummary> {
        let head = String::from_utf8_lossy(&self.read_until(b"\r\n\r\n").await?).to_lowercase();
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(head.clone()))?;
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = self.read_exactly(length).await?;
        let reason = match field(&head, "content-type") {
            Some("application/problem+json") => {
                let problem: serde_json::Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
                problem["reason"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        };
        Ok(AnswerSummary { status, reason, closes: field(&head, "connection") == Some("close") })
    }

    pub async fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Ok(self.read.drain(..at + end.len()).collect());
            }
            self.fill_buffer().await?;
        }
    }

    async fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.fill_buffer().await?;
        }
        Ok(self.read.drain(..length).collect())
    }

    async fn fill_buffer(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let read = timeout(DEADLINE, self.stream.read(&mut buffer)).await;
        match read.map_err(|_| io::ErrorKind::TimedOut)?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.read.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    /// Ends the sending side of the connection; answers can still be read.
    pub async fn close_sending_side(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Ends the connection with a TCP reset, like a client whose process is killed.
    pub fn abort(self) {
        let (socket, _) = self.stream.into_inner();
        let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    }
}

/// Opens an HTTP/2 connection. The task drives the connection; it ends when all requests are dropped.
pub async fn open_http2(
    client: &Client,
    to: SocketAddr,
    from: Ipv4Addr,
    settings: &h2::client::Builder,
) -> io::Result<(SendRequest<Bytes>, JoinHandle<()>)> {
    let socket = connect_from(to, from).await?;
    let connector = TlsConnector::from(client.alpn(&["h2"]).config);
    let stream = connector.connect("localhost".try_into().unwrap(), socket).await?;
    let (requests, connection) = settings.handshake(stream).await.map_err(io::Error::other)?;
    let driver = tokio::task::spawn_local(async { drop(connection.await) });
    Ok((requests, driver))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find_map(|(field, value)| (field == name).then(|| value.trim()))
}
