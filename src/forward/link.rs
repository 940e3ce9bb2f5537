//! A connection of HTTP/1.1 to the backend, which one exchange at a time uses and drives.

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

use super::abandoned::{self, Stage, Work};
use super::exchange::{BrokenOff, Outgoing, poll_whole};
use super::socket::Socket;
use super::task_waker::TaskWaker;
use super::{NoAnswer, response_flaw};
use crate::refusal::{BackendFault, ResponseFlaw};

fn has_two_framings(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// A connection to the backend, with hyper's two halves of it.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    wire: Box<Wire>,
    waker: TaskWaker,
    /// HTTP has ended on the connection.
    over: bool,
}

/// The half of a connection that moves bytes.
type Wire = Connection<TokioIo<Socket>, Outgoing>;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("over", &self.over).finish_non_exhaustive()
    }
}

/// hyper's result of sending a request.
pub(super) type SendResult = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>;

/// The fate of a request that was given to a connection.
pub(super) enum SendOutcome<C> {
    /// An answer came, on this connection.
    Answered(Response<Incoming>, C, Work),
    /// The connection was closed before a byte of the request was written: it can go out on another.
    Returned(Request<Outgoing>, Work),
    Failed(NoAnswer),
}

impl<C> SendOutcome<C> {
    /// Takes hyper's result. `flaw` finds the cause of an answer that hyper could not read.
    pub(super) fn of(
        answer: SendResult,
        connection: C,
        work: Work,
        flaw: impl FnOnce(&hyper::Error, C) -> ResponseFlaw,
    ) -> Self {
        match answer {
            // An answer with two framings: a parser that follows the other framing finds another answer in it (RFC 9112 §6.3).
            Ok(response) if has_two_framings(response.headers()) => Self::not_http(ResponseFlaw::TwoFramings),
            Ok(response) => Self::Answered(response, connection, work),
            Err(error) => Self::failed(error, work, |error| flaw(error, connection)),
        }
    }

    fn failed(
        mut error: TrySendError<Request<Outgoing>>,
        work: Work,
        flaw: impl FnOnce(&hyper::Error) -> ResponseFlaw,
    ) -> Self {
        if let Some(request) = error.take_message() {
            return Self::Returned(request, work);
        }
        // The connection or the stream may have failed because the client's body did.
        if let Some(failure) = work.upload_failure() {
            return Self::Failed(failure.into());
        }
        match response_flaw::is_of_response(error.error()) {
            true => Self::not_http(flaw(error.error())),
            false => Self::terminated(),
        }
    }

    fn not_http(flaw: ResponseFlaw) -> Self {
        Self::Failed(NoAnswer::Fault(BackendFault::NotHttp(flaw)))
    }

    /// The connection ended before the headers of an answer.
    pub(super) fn terminated() -> Self {
        Self::Failed(NoAnswer::Fault(BackendFault::Terminated))
    }

    pub(super) fn map<D>(self, to: impl FnOnce(C) -> D) -> SendOutcome<D> {
        match self {
            Self::Answered(response, connection, work) => {
                SendOutcome::Answered(response, to(connection), work)
            }
            Self::Returned(request, work) => SendOutcome::Returned(request, work),
            Self::Failed(no_answer) => SendOutcome::Failed(no_answer),
        }
    }
}

impl Link {
    pub(super) fn new(sender: SendRequest<Outgoing>, connection: Wire) -> Self {
        Self { sender, wire: Box::new(connection), waker: TaskWaker::new(), over: false }
    }

    /// Sends a request and drives the connection until the headers of the answer have come.
    pub(super) fn send(
        mut self,
        request: Request<Outgoing>,
        work: Work,
    ) -> impl Future<Output = SendOutcome<Self>> {
        let answer = self.sender.try_send_request(request);
        Unanswered(Some((self, work))).answered(answer)
    }

    /// `true` if the connection can take a request now. An idle connection is polled once, not waited for.
    pub(super) fn is_open(&mut self) -> bool {
        self.look();
        !self.over && self.sender.is_ready()
    }

    /// Returns the socket of an exchange whose client has left.
    pub(super) fn into_abandoned(self) -> Socket {
        self.wire.into_parts().io.into_inner()
    }

    /// Finds the cause for which hyper could not read the answer: the bytes are still in its buffer.
    fn flaw(self, error: &hyper::Error) -> ResponseFlaw {
        response_flaw::of_head(error, &self.wire.into_parts().read_buf)
    }

    /// Returns the socket once the backend has agreed to switch protocols, and the bytes that were read behind its agreement.
    pub(super) fn into_socket(mut self) -> Option<(Socket, Bytes)> {
        self.look();
        self.over.then(|| {
            let parts = self.wire.into_parts();
            (parts.io.into_inner(), parts.read_buf)
        })
    }

    /// Polls the connection for the task of its exchange. Errors reach the exchange through the other half, as errors of the
    /// answer or its body.
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        self.waker.set_task(cx.waker());
        self.advance();
    }

    /// Polls the connection without a task to wake.
    fn look(&mut self) {
        self.waker.clear_task();
        self.advance();
    }

    fn advance(&mut self) {
        self.over = self.over || self.wire.poll_without_shutdown(&mut self.waker.context()).is_ready();
    }

    /// Returns what was read of an answer's body. Only `drive` reads more.
    pub(super) fn poll_here(&self, body: &mut Incoming) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.waker.without_waking(|| poll_whole(body, false, &mut Context::from_waker(Waker::noop())))
    }
}

/// A request that was sent and has no answer yet. Dropping it abandons the exchange: the backend may still work on it.
struct Unanswered(Option<(Link, Work)>);

impl Unanswered {
    async fn answered(mut self, answer: impl Future<Output = SendResult>) -> SendOutcome<Link> {
        // tokio's budget would only delay this future: it is polled again as soon as the connection has read.
        let mut answer = pin!(unconstrained(answer));
        let answered = poll_fn(|cx| {
            // The connection is polled first: the answer waits for what it reads.
            let is_over = self.0.as_mut().is_none_or(|(link, _)| {
                link.drive(cx);
                link.over
            });
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                // The connection was closed while it was idle.
                Poll::Pending if is_over => Poll::Ready(None),
                answer => answer.map(Some),
            }
        })
        .await;
        let Some((link, work)) = self.0.take() else { return SendOutcome::terminated() };
        if let Some(failure) = work.upload_failure()
            && !matches!(answered, Some(Ok(_)))
        {
            abandoned::abandon(link, work, Stage::Unanswered);
            return SendOutcome::Failed(failure.into());
        }
        match answered {
            Some(answered) => SendOutcome::of(answered, link, work, |error, link| link.flaw(error)),
            // A request that the connection has not taken comes back when the connection is dropped.
            None => {
                drop(link);
                match answer.await {
                    Ok(_) => SendOutcome::terminated(),
                    Err(error) => SendOutcome::failed(error, work, |_| ResponseFlaw::Other),
                }
            }
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((link, work)) = self.0.take() {
            abandoned::abandon(link, work, Stage::Unanswered);
        }
    }
}
