//! A client of HTTP/2. A runtime in the background drives every connection between the steps of a test.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::{Answer, Client, DEADLINE};

static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Starts a task in the background.
pub fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    RUNTIME.spawn(work)
}

/// Runs a step in the background and waits for it.
#[track_caller]
pub fn wait<T: Send + 'static>(step: impl Future<Output = T> + Send + 'static) -> T {
    wait_within(DEADLINE, step)
}

/// Runs a step in the background and waits for it until this deadline.
#[track_caller]
pub fn wait_within<T: Send + 'static>(limit: Duration, step: impl Future<Output = T> + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    RUNTIME.spawn(async move { done.send(step.await) });
    result.recv_timeout(limit).expect("a step of HTTP/2 within the deadline")
}

/// An open connection; closed when dropped.
pub struct Http2 {
    requests: SendRequest<Bytes>,
    ended: watch::Receiver<Option<Result<(), Arc<h2::Error>>>>,
    connection: tokio::task::JoinHandle<()>,
    resumed: bool,
}

impl Http2 {
    pub fn connect(client: &Client, address: SocketAddr) -> io::Result<Self> {
        let config = client.alpn(&["h2"]).config;
        wait(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
            let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            let (requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
            let (end, ended) = watch::channel(None);
            let connection = tokio::spawn(async move {
                let result = connection.await.map_err(Arc::new);
                end.send_replace(Some(result));
            });
            Ok(Self { requests, ended, connection, resumed })
        })
    }

    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.ask(request("GET", path, &[]), b"")
    }

    /// Sends a complete request and reads the complete answer.
    pub fn ask(&self, request: Request<()>, body: &'static [u8]) -> io::Result<Answer> {
        let exchange = self.open(request, body.is_empty())?;
        exchange.finish(body)
    }

    /// Sends the head of a request.
    pub fn open(&self, request: Request<()>, end: bool) -> io::Result<Exchange> {
        let requests = self.requests.clone();
        wait(async move {
            let mut requests = requests.ready().await.map_err(io::Error::other)?;
            let (response, body) = requests.send_request(request, end).map_err(io::Error::other)?;
            Ok(Exchange { response, body, ended: end })
        })
    }

    /// Waits until the server ends the connection without an error of HTTP/2. An error of the socket is allowed: the server
    /// may close it before this side has written its GOAWAY.
    #[track_caller]
    pub fn assert_ends_in_order(&self) {
        let mut ended = self.ended.clone();
        let end = wait(async move { ended.wait_for(Option::is_some).await.unwrap().clone().unwrap() });
        assert!(end.as_ref().map_or_else(|error| error.is_io(), |()| true), "{end:?}");
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        // The task would otherwise keep the socket open.
        self.connection.abort();
    }
}

/// A stream whose head was sent.
pub struct Exchange {
    response: ResponseFuture,
    pub body: SendStream<Bytes>,
    ended: bool,
}

impl Exchange {
    /// Sends the rest of the body and reads the complete answer.
    pub fn finish(self, body: &'static [u8]) -> io::Result<Answer> {
        self.finish_with(Bytes::from_static(body))
    }

    /// Sends the rest of the body and reads the complete answer, for a body that is not static.
    pub fn finish_with(mut self, body: Bytes) -> io::Result<Answer> {
        wait(async move {
            if !self.ended {
                // A stream that was refused early may be closed already; the answer tells the reason.
                let _ = self.body.send_data(body, true);
            }
            let (head, body) = self.response.await.map_err(io::Error::other)?.into_parts();
            collect(Response::from_parts(head, ()), body).await.map_err(io::Error::other)
        })
    }

    /// Reads the complete answer without ending the request.
    pub fn answer_before_end(self) -> io::Result<Answer> {
        wait(async move {
            let Self { response, body: _unended, .. } = self;
            let (head, body) = response.await.map_err(io::Error::other)?.into_parts();
            collect(Response::from_parts(head, ()), body).await.map_err(io::Error::other)
        })
    }

    /// Waits for the head of the answer; returns it with both bodies, which stay open.
    pub fn head(self) -> io::Result<(Answer, RecvStream, SendStream<Bytes>)> {
        wait(async move {
            let (head, body) = self.response.await.map_err(io::Error::other)?.into_parts();
            Ok((of_head(&Response::from_parts(head, ())), body, self.body))
        })
    }

    /// Cancels the stream with RST_STREAM.
    pub fn reset(mut self) {
        wait(async move { self.body.send_reset(h2::Reason::CANCEL) });
    }
}

async fn collect(head: Response<()>, mut body: RecvStream) -> Result<Answer, h2::Error> {
    let mut answer = of_head(&head);
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        answer.body.extend_from_slice(&chunk);
    }
    answer.trailers = body.trailers().await?.as_ref().map(pairs).unwrap_or_default();
    Ok(answer)
}

fn of_head(head: &Response<()>) -> Answer {
    Answer { status: head.status().as_u16(), headers: pairs(head.headers()), ..Answer::default() }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// Returns the head of a request to `https://localhost`.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}
