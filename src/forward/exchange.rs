//! One exchange with the backend: a request out, its answer back, on a connection that this exchange drives.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::headers;
use super::pool::Pool;
use crate::admission::Guards;
use crate::refusal::BackendFault;
use crate::unread;

/// A request's body on its way to the backend: the client's, without the trailers that it may not set.
#[derive(Debug)]
pub struct Outgoing {
    /// Taken only when it is dropped.
    body: Option<Incoming>,
    upload: Option<Arc<Upload>>,
    /// Names that it may not set beside the built-in ones.
    custom: Option<Arc<headers::Custom>>,
}

impl Outgoing {
    pub(super) fn new(
        body: Incoming,
        upload: Option<Arc<Upload>>,
        custom: Option<Arc<headers::Custom>>,
    ) -> Self {
        Self { body: Some(body), upload, custom }
    }
}

/// The backend answered early, or not at all: what it did not read, nobody does.
impl Drop for Outgoing {
    fn drop(&mut self) {
        self.body.take().into_iter().for_each(unread::forget);
    }
}

/// How an upload moves: as long as it does, the backend is not late with its answer.
#[derive(Debug)]
pub(super) struct Upload {
    start: Instant,
    /// Milliseconds from the start to the last byte that moved.
    moved: AtomicU64,
}

impl Upload {
    /// Of a request that has a body.
    pub(super) fn of(body: &Incoming) -> Option<Arc<Self>> {
        (!body.is_end_stream()).then(|| Arc::new(Self { start: Instant::now(), moved: AtomicU64::new(0) }))
    }

    pub(super) fn moved_last(&self) -> Instant {
        self.start + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    fn moves(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        if let (Poll::Ready(_), Some(upload)) = (&frame, &self.upload) {
            upload.moves();
        }
        frame.map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                headers::strip_trailers(trailers, self.custom.as_deref().unwrap_or_default());
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// A connection to the backend, with hyper's two ends of it.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    /// Gone once the connection has ended.
    connection: Option<Box<Wire>>,
}

/// The end of a connection that moves bytes.
type Wire = Connection<TokioIo<TcpStream>, Outgoing>;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("open", &self.connection.is_some()).finish()
    }
}

/// What became of a request.
pub(super) enum Sent {
    Answered(Response<Incoming>, Link),
    /// The connection was closed before a byte of the request was written: it can go out on another.
    Returned(Request<Outgoing>),
    Failed(BackendFault),
}

impl Link {
    pub(super) fn new(sender: SendRequest<Outgoing>, connection: Wire) -> Self {
        Self { sender, connection: Some(Box::new(connection)) }
    }

    /// Sends a request and drives the connection until its answer's headers are there.
    pub(super) async fn send(mut self, request: Request<Outgoing>) -> Sent {
        let mut answer = pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            // The connection first: what it reads is what the answer waits for.
            drive(&mut self.connection, cx);
            answer.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Sent::Answered(response, self),
            Err(mut error) => match error.take_message() {
                Some(request) => Sent::Returned(request),
                None => Sent::Failed(fault(error.error())),
            },
        }
    }

    /// Whether it can take a request now. Driven with nobody to wake: a connection at rest is looked at, not waited for.
    pub(super) fn is_open(&mut self) -> bool {
        drive(&mut self.connection, &mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// Moves a connection on. Its errors reach the exchange by the other end, as errors of the answer or of its body.
fn drive(connection: &mut Option<Box<Wire>>, cx: &mut Context<'_>) {
    if let Some(running) = connection
        && Pin::new(&mut **running).poll(cx).is_ready()
    {
        *connection = None;
    }
}

fn fault(error: &hyper::Error) -> BackendFault {
    if error.is_parse() { BackendFault::NotHttp } else { BackendFault::Terminated }
}

/// The body of the backend's answer. It drives the connection that it comes over, and keeps the guards of its
/// exchange until its end, however that comes.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    /// Taken at the end: to the pool if the connection can be used again, or dropped and so closed.
    link: Option<Link>,
    pool: Arc<Pool>,
    _guards: Guards,
}

impl Answer {
    pub(super) fn new(body: Incoming, link: Link, pool: Arc<Pool>, guards: Guards) -> Self {
        let mut answer = Self { body, link: Some(link), pool, _guards: guards };
        answer.release_at_end();
        answer
    }

    /// Gives the connection back as soon as the body has ended, if both sides of it are at rest then.
    fn release_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(mut link) = self.link.take()
            && link.is_open()
        {
            self.pool.give_back(link);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(link) = &mut this.link {
            drive(&mut link.connection, cx);
        }
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        match &mut frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_connection(trailers);
                }
                this.release_at_end();
            }
            Poll::Ready(None) => this.release_at_end(),
            // A broken answer ends its connection with it.
            Poll::Ready(Some(Err(_))) => this.link = None,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
