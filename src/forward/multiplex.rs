//! Connections to a backend that speaks HTTP/2: each carries many exchanges and is driven by a task of its own.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::Request;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::abandoned::{self, Work};
use super::exchange::Outgoing;
use super::framing::AnswerLimits;
use super::link::{SendOutcome, SendResult};
use super::socket::Socket;
use crate::refusal::{BackendFault, ResponseFlaw};

/// Most exchanges on one connection before another is made; the backend may allow fewer.
const STREAMS: usize = 100;
/// Bytes that the backend may send ahead on a stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that the backend may send ahead on a connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Time between pings. A backend that has vanished without closing is noticed by them while requests wait.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Time for the answer to a ping.
const PING_WITHIN: Duration = Duration::from_secs(10);

/// Returns hyper's client for connections to the backend.
pub(super) fn client(limits: &AnswerLimits) -> Builder<TokioExecutor> {
    let mut client = Builder::new(TokioExecutor::new());
    client
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN);
    client
}

/// One worker's connections to an HTTP/2 backend.
#[derive(Debug, Default)]
pub(super) struct Multiplex {
    connections: Mutex<Vec<SharedConnection>>,
    /// Held while a connection is made, so that many requests at once make one connection and not many.
    dialing: tokio::sync::Mutex<()>,
}

/// One connection, shared by many exchanges.
struct SharedConnection {
    sender: SendRequest<Outgoing>,
    load: Arc<Load>,
    used: Instant,
}

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection").field("load", &self.load).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    /// Most streams that the backend allows at once.
    most: AtomicUsize,
    opened: Instant,
    /// Milliseconds from then to the last answer's head, plus one; 0 before the first.
    last_answer: AtomicU64,
}

impl Load {
    fn has_answered_since(&self, since: Instant) -> bool {
        let last_answer = self.last_answer.load(Ordering::Relaxed).checked_sub(1);
        last_answer.is_some_and(|last_answer| self.opened + Duration::from_millis(last_answer) > since)
    }
}

/// One exchange's stream on a connection.
#[derive(Debug)]
pub(super) struct Stream(Arc<Load>);

impl Stream {
    /// Notes that an answer has come, or a fault in its place.
    pub(super) fn note_answer(&self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_answer.store(now.saturating_add(1), Ordering::Relaxed);
    }
}

/// A request that was sent and has no answer yet. Dropping it abandons the exchange. The pending answer is on the heap,
/// because it can outlive its waiting task.
struct Unanswered(Option<(PendingAnswer, Stream, Work)>);

type PendingAnswer = Pin<Box<dyn Future<Output = SendResult> + Send>>;

/// A copy of a request that may be sent once more, and the connection that it was sent on.
type Copy = Option<Box<(Request<Outgoing>, SendRequest<Outgoing>)>>;

/// Sends a request and waits for its answer's headers. A request that `may_repeat`, is idempotent and has no body comes back if
/// its connection is closed before that.
pub(super) fn send(
    (mut sender, stream): OpenStream,
    request: Request<Outgoing>,
    work: Work,
    may_repeat: bool,
) -> impl Future<Output = SendOutcome<Stream>> {
    let repeats = may_repeat && !work.has_body() && request.method().is_idempotent();
    let copy = repeats.then(|| Box::new((copy_of(&request), sender.clone())));
    let answer = sender.try_send_request(request);
    Unanswered(Some((Box::pin(answer), stream, work))).answered(copy)
}

fn copy_of(request: &Request<Outgoing>) -> Request<Outgoing> {
    let mut copy = Request::new(Outgoing::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

impl Unanswered {
    async fn answered(mut self, copy: Copy) -> SendOutcome<Stream> {
        let answered = poll_fn(|cx| match &mut self.0 {
            Some((answer, ..)) => answer.as_mut().poll(cx).map(Some),
            None => Poll::Ready(None),
        })
        .await;
        let (Some(answered), Some((_, stream, work))) = (answered, self.0.take()) else {
            return SendOutcome::terminated();
        };
        stream.note_answer();
        match answered {
            Ok(response) => SendOutcome::Answered(response, stream, work),
            Err(error) => {
                SendOutcome::failed(error, work, |_| ResponseFlaw::Http2, |error| lost(error, copy))
            }
        }
    }
}

/// Returns the copy of a request if its connection has ended, which is not the same as the end of its stream.
fn lost(error: &hyper::Error, copy: Copy) -> Option<Request<Outgoing>> {
    let (request, sender) = *copy?;
    let of_http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let has_ended = sender.is_closed() || of_http2.is_some_and(|error| error.is_go_away() || error.is_io());
    has_ended.then_some(request)
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((answer, stream, work)) = self.0.take() {
            abandoned::abandon_stream(answer, stream, work);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection with a stream for one more exchange.
pub(super) type OpenStream = (SendRequest<Outgoing>, Stream);

impl Multiplex {
    /// Opens a stream on a connection that has room, and was not opened before that instant.
    pub(super) fn take(&self, since: Option<Instant>) -> Option<OpenStream> {
        let mut connections = self.connections();
        connections.retain(|line| !line.sender.is_closed());
        let is_old = |line: &SharedConnection| since.is_some_and(|since| line.load.opened < since);
        connections.iter_mut().filter(|line| !is_old(line)).find_map(SharedConnection::take)
    }

    /// Waits while another request makes a connection. Then the caller looks for a connection again, and may make one.
    pub(super) async fn turn_to_dial(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.dialing.lock().await
    }

    /// Begins HTTP/2 on a new socket, and opens the first stream.
    pub(super) async fn open(
        &self,
        socket: Socket,
        limits: &AnswerLimits,
    ) -> Result<OpenStream, BackendFault> {
        let handshake = client(limits).handshake(TokioIo::new(socket));
        let (sender, connection) = handshake.await.map_err(|_| BackendFault::Terminated)?;
        let load = Arc::new(Load {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(STREAMS),
            opened: Instant::now(),
            last_answer: AtomicU64::new(0),
        });
        tokio::spawn(drive(connection, Arc::clone(&load)));
        let mut line = SharedConnection { sender, load, used: Instant::now() };
        let stream = line.take().ok_or(BackendFault::Terminated)?;
        self.connections().push(line);
        Ok(stream)
    }

    /// Closes connections that have been without exchanges for that time.
    pub(super) fn sweep(&self, keep_idle: Duration) {
        let now = Instant::now();
        self.connections().retain(|line| {
            let carries = line.load.streams.load(Ordering::Relaxed) > 0;
            !line.sender.is_closed() && (carries || now.duration_since(line.used) < keep_idle)
        });
    }

    /// Opens no more streams on connections whose exchanges have had no answer since that instant. Their exchanges go on;
    /// then they end.
    pub(super) fn retire_silent(&self, since: Instant) {
        self.connections().retain(|line| {
            line.load.streams.load(Ordering::Relaxed) == 0 || line.load.has_answered_since(since)
        });
    }

    /// Connections that carry nothing just now.
    pub(super) fn idle(&self) -> usize {
        self.connections().iter().filter(|line| line.load.streams.load(Ordering::Relaxed) == 0).count()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<SharedConnection>> {
        self.connections.lock()
    }
}

impl SharedConnection {
    /// Opens a stream if there is room. All streams of a worker are opened on its own thread, so the room is not taken
    /// between check and use.
    fn take(&mut self) -> Option<OpenStream> {
        let Load { streams, most, .. } = &*self.load;
        let has_room = streams.load(Ordering::Relaxed) < most.load(Ordering::Relaxed);
        if !has_room || !self.sender.is_ready() {
            return None;
        }
        streams.fetch_add(1, Ordering::Relaxed);
        self.used = Instant::now();
        Some((self.sender.clone(), Stream(Arc::clone(&self.load))))
    }
}

/// Drives a connection to its end, and notes how much the backend takes. Its errors reach each exchange as its own.
async fn drive(mut connection: Connection<TokioIo<Socket>, Outgoing, TokioExecutor>, load: Arc<Load>) {
    poll_fn(|cx| {
        let end = Pin::new(&mut connection).poll(cx);
        let wanted = connection.current_max_send_streams().clamp(1, STREAMS);
        load.most.store(wanted, Ordering::Relaxed);
        match end {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}
