//! A connection of HTTP/1.1 to the backend, which one exchange at a time uses and drives.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;

use super::abandoned::{self, Stage, Work};
use super::exchange::{BrokenOff, Outgoing, poll_whole};
use super::framing::AnswerLimits;
use super::recorder::Recorder;
use super::socket::Socket;
use super::task_waker::TaskWaker;
use super::{NoAnswer, response_flaw};
use crate::refusal::{BackendFault, ResponseFlaw};

/// The largest head that hyper reads with a buffer of its usual size.
const USUAL_BUFFER: usize = 400 * 1024;

/// Returns hyper's client for connections to the backend. White space before the colon of a header is removed, as RFC 9112
/// §5.1 demands of a proxy. Folded lines stay an error: a line of white space inside of a header would be a part of the
/// header for some parsers, and the end of the headers for others.
///
/// The client reads up to 100 headers, for which hyper needs no allocation. The rare answer with more is read again by a client
/// [`with_room`] for them.
pub(super) fn client(limits: &AnswerLimits) -> http1::Builder {
    let mut client = http1::Builder::new();
    client.allow_spaces_after_header_name_in_responses(true).max_header_size(limits.header_bytes);
    if limits.header_bytes > USUAL_BUFFER {
        client.max_buf_size(limits.header_bytes);
    }
    client
}

/// Returns hyper's client for answers with as many headers as `backend.max_response_headers` allows.
pub(super) fn with_room(limits: &AnswerLimits) -> http1::Builder {
    let mut client = client(limits);
    client.max_headers(limits.headers);
    client
}

/// A connection to the backend, with hyper's two halves of it.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    wire: Box<Wire>,
    waker: TaskWaker,
    /// HTTP has ended on the connection.
    over: bool,
    kept: Kept,
}

/// The further use of a connection, and its limits.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The connection ends with its present exchange.
    closes: bool,
    /// Longest time that the connection may be idle after its present exchange.
    idle_limit: Duration,
    limits: AnswerLimits,
    /// The client has room for all headers that the limits allow.
    has_room: bool,
}

/// The half of a connection that moves bytes.
type Wire = Connection<TokioIo<Recorder>, Outgoing>;

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
    /// The connection was closed after the request was written, and before a byte of an answer. The request is idempotent and
    /// has no body: on a kept connection, which the backend may have closed for its own reasons, it can be sent once more.
    Lost(Request<Outgoing>, Work),
    Failed(NoAnswer),
}

impl<C> SendOutcome<C> {
    /// Takes hyper's error. `flaw` finds the cause of an answer that hyper could not read, `lost` the request that may be sent
    /// once more.
    pub(super) fn failed(
        mut error: TrySendError<Request<Outgoing>>,
        work: Work,
        flaw: impl FnOnce(&hyper::Error) -> ResponseFlaw,
        lost: impl FnOnce(&hyper::Error) -> Option<Request<Outgoing>>,
    ) -> Self {
        if let Some(request) = error.take_message() {
            return Self::Returned(request, work);
        }
        // The connection or the stream may have failed because the client's body did.
        if let Some(failure) = work.upload_failure() {
            return Self::Failed(failure.into());
        }
        let error = error.error();
        if response_flaw::is_of_response(error) {
            return Self::not_http(flaw(error));
        }
        let lost = if work.has_body() { None } else { lost(error) };
        match lost.filter(|request| request.method().is_idempotent()) {
            Some(request) => Self::Lost(request, work),
            None => Self::terminated(),
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
            Self::Lost(request, work) => SendOutcome::Lost(request, work),
            Self::Failed(no_answer) => SendOutcome::Failed(no_answer),
        }
    }
}

impl Link {
    /// Begins HTTP/1.1 on a new socket.
    pub(super) async fn open(
        socket: Socket,
        limits: AnswerLimits,
        idle_limit: Duration,
    ) -> hyper::Result<Self> {
        let handshake = client(&limits).handshake(TokioIo::new(Recorder::new(socket)));
        let (sender, connection) = handshake.await?;
        let kept = Kept { closes: idle_limit.is_zero(), idle_limit, limits, has_room: false };
        Ok(Self::new(sender, connection, kept))
    }

    fn new(sender: SendRequest<Outgoing>, connection: Wire, kept: Kept) -> Self {
        Self { sender, wire: Box::new(connection), waker: TaskWaker::new(), over: false, kept }
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

    /// Ends the connection with its present exchange.
    pub(super) fn close_afterwards(&mut self) {
        self.kept.closes = true;
    }

    /// Keeps the connection idle for no longer than that.
    pub(super) fn limit_idle_time(&mut self, limit: Duration) {
        self.kept.idle_limit = self.kept.idle_limit.min(limit);
        self.kept.closes |= limit.is_zero();
    }

    pub(super) const fn idle_limit(&self) -> Duration {
        self.kept.idle_limit
    }

    /// `true` if the connection can take a request now. An idle connection is polled once, not waited for.
    pub(super) fn is_open(&mut self) -> bool {
        if self.kept.closes {
            return false;
        }
        self.look();
        !self.over && self.sender.is_ready()
    }

    /// Returns the socket of an exchange whose client has left.
    pub(super) fn into_abandoned(self) -> Socket {
        self.wire.into_parts().io.into_inner().into_socket()
    }

    /// Returns the socket once the backend has agreed to switch protocols, and the bytes that were read behind its agreement.
    pub(super) fn into_socket(mut self) -> Option<(Socket, Bytes)> {
        self.look();
        self.over.then(|| {
            let parts = self.wire.into_parts();
            (parts.io.into_inner().into_socket(), parts.read_buf)
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
        let kept = link.kept;
        let (answered, parts) = match answered {
            Some(Ok(response)) => return SendOutcome::Answered(response, link, work),
            Some(error) => (error, link.wire.into_parts()),
            // A request that the connection has not taken comes back when the connection is dropped.
            None => {
                let parts = link.wire.into_parts();
                (answer.await, parts)
            }
        };
        let (recorder, read) = (parts.io.into_inner(), parts.read_buf);
        match answered {
            Ok(_) => SendOutcome::terminated(),
            Err(error) if error.error().is_parse_too_large() && !kept.has_room && work.is_sent() => {
                read_with_room(recorder, read, kept, work).await
            }
            Err(error) => {
                let flaw = |error: &hyper::Error| response_flaw::of_head(error, &read);
                SendOutcome::failed(error, work, flaw, |_| recorder.lost_request())
            }
        }
    }
}

/// Reads an answer again, with room for all headers that the limits allow. hyper wants a request for that, which is not
/// written again.
fn read_with_room(
    recorder: Recorder,
    read: Bytes,
    kept: Kept,
    work: Work,
) -> Pin<Box<dyn Future<Output = SendOutcome<Link>> + Send>> {
    Box::pin(async move {
        let Some(request) = recorder.request() else {
            return SendOutcome::not_http(ResponseFlaw::TooManyHeaders);
        };
        let wire = TokioIo::new(recorder.read_again(read));
        match with_room(&kept.limits).handshake(wire).await {
            Ok((sender, connection)) => {
                Link::new(sender, connection, Kept { has_room: true, ..kept }).send(request, work).await
            }
            Err(_) => SendOutcome::not_http(ResponseFlaw::TooManyHeaders),
        }
    })
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((link, work)) = self.0.take() {
            abandoned::abandon(link, work, Stage::Unanswered);
        }
    }
}
