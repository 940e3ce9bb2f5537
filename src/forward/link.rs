//! A connection to the backend that one exchange uses at a time, and drives.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;

use super::bell::Bell;
use super::exchange::{BrokenOff, Outgoing, poll_whole};
use super::linger::{self, Stage, Work};
use super::socket::Socket;
use crate::refusal::BackendFault;

fn has_two_framings(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// A connection to the backend, with hyper's two ends of it.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    wire: Box<Wire>,
    bell: Bell,
    /// HTTP has come to its end on it.
    over: bool,
}

/// The end of a connection that moves bytes.
type Wire = Connection<TokioIo<Socket>, Outgoing>;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("over", &self.over).finish_non_exhaustive()
    }
}

/// What hyper says of a request that it was given.
pub(super) type Tried = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>;

/// What became of a request.
pub(super) enum Sent<C> {
    /// By this connection.
    Answered(Response<Incoming>, C, Work),
    /// The connection was closed before a byte of the request was written: it can go out on another.
    Returned(Request<Outgoing>, Work),
    Failed(BackendFault),
}

impl<C> Sent<C> {
    pub(super) fn of(answer: Tried, connection: C, work: Work) -> Self {
        match answer {
            // Two framings: whoever reads the other one finds another answer in it (RFC 9112 §6.3).
            Ok(response) if has_two_framings(response.headers()) => Self::Failed(BackendFault::NotHttp),
            Ok(response) => Self::Answered(response, connection, work),
            Err(error) => Self::failed(error, work),
        }
    }

    fn failed(mut error: TrySendError<Request<Outgoing>>, work: Work) -> Self {
        match error.take_message() {
            Some(request) => Self::Returned(request, work),
            None if error.error().is_parse() => Self::Failed(BackendFault::NotHttp),
            None => Self::Failed(BackendFault::Terminated),
        }
    }

    pub(super) fn map<D>(self, to: impl FnOnce(C) -> D) -> Sent<D> {
        match self {
            Self::Answered(response, connection, work) => Sent::Answered(response, to(connection), work),
            Self::Returned(request, work) => Sent::Returned(request, work),
            Self::Failed(fault) => Sent::Failed(fault),
        }
    }
}

impl Link {
    pub(super) fn new(sender: SendRequest<Outgoing>, connection: Wire) -> Self {
        Self { sender, wire: Box::new(connection), bell: Bell::new(), over: false }
    }

    /// Sends a request and drives the connection until its answer's headers are there.
    pub(super) fn send(mut self, request: Request<Outgoing>, work: Work) -> impl Future<Output = Sent<Self>> {
        let answer = self.sender.try_send_request(request);
        Unanswered(Some((self, work))).answered(answer)
    }

    /// Whether it can take a request now. A connection at rest is looked at, not waited for.
    pub(super) fn is_open(&mut self) -> bool {
        self.look();
        !self.over && self.sender.is_ready()
    }

    /// The socket, for what the backend may still say to a client that is gone.
    pub(super) fn into_abandoned(self) -> Socket {
        self.wire.into_parts().io.into_inner()
    }

    /// The socket, once the backend has agreed to speak something else than HTTP on it, and what it has already said.
    pub(super) fn into_socket(mut self) -> Option<(Socket, Bytes)> {
        self.look();
        self.over.then(|| {
            let parts = self.wire.into_parts();
            (parts.io.into_inner(), parts.read_buf)
        })
    }

    /// Moves it on. Its errors reach the exchange by the other end, as errors of the answer or of its body.
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        self.bell.wakes(cx.waker());
        self.advance();
    }

    /// Moves it on as far as it goes now.
    fn look(&mut self) {
        self.bell.wakes_nobody();
        self.advance();
    }

    fn advance(&mut self) {
        self.over = self.over || self.wire.poll_without_shutdown(&mut self.bell.context()).is_ready();
    }

    /// What is here of an answer's body. Only driving brings more.
    pub(super) fn poll_here(&self, body: &mut Incoming) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.bell.muffled(|| poll_whole(body, false, &mut Context::from_waker(Waker::noop())))
    }
}

/// A request that was sent and has no answer yet. Its work is not over where nobody waits for it any more.
struct Unanswered(Option<(Link, Work)>);

impl Unanswered {
    async fn answered(mut self, answer: impl Future<Output = Tried>) -> Sent<Link> {
        // Nothing waits for its turn here: what it asks is there or not.
        let mut answer = pin!(unconstrained(answer));
        let answered = poll_fn(|cx| {
            // The connection first: what it reads is what the answer waits for, and nothing else brings it.
            let is_over = self.0.as_mut().is_none_or(|(link, _)| {
                link.drive(cx);
                link.over
            });
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                // The connection was closed while nobody used it.
                Poll::Pending if is_over => Poll::Ready(None),
                answer => answer.map(Some),
            }
        })
        .await;
        let Some((link, work)) = self.0.take() else { return Sent::Failed(BackendFault::Terminated) };
        if work.is_left() && !matches!(answered, Some(Ok(_))) {
            linger::abandon(link, work, Stage::Unanswered);
            return Sent::Failed(BackendFault::Terminated);
        }
        match answered {
            Some(answered) => Sent::of(answered, link, work),
            // A request that the connection has not taken comes back when the connection is dropped.
            None => {
                drop(link);
                match answer.await {
                    Ok(_) => Sent::Failed(BackendFault::Terminated),
                    Err(error) => Sent::failed(error, work),
                }
            }
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((link, work)) = self.0.take() {
            linger::abandon(link, work, Stage::Unanswered);
        }
    }
}
