//! Connections to a backend that speaks HTTP/2: each carries many exchanges, and is driven by a task of its own.

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

use super::exchange::Outgoing;
use super::linger::{self, Work};
use super::link::{Sent, Tried};
use super::socket::Socket;
use crate::refusal::BackendFault;

/// Exchanges on one connection before another is made; the backend may want fewer.
const STREAMS: usize = 100;
/// What the backend may send ahead on a stream, and on the connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of an answer's header list.
const HEADER_LIST: u32 = 64 * 1024;
/// A backend that was taken away without a word is noticed while somebody waits for it.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_WITHIN: Duration = Duration::from_secs(10);
/// A connection that carries nothing is closed after this time.
const IDLE_FOR: Duration = Duration::from_secs(55);

/// One worker's connections to an HTTP/2 backend.
#[derive(Debug, Default)]
pub(super) struct Multiplex {
    lines: Mutex<Vec<Line>>,
    /// Held while a connection is made, so that a crowd of requests makes one and not a crowd of them.
    dialing: tokio::sync::Mutex<()>,
}

/// One connection.
struct Line {
    sender: SendRequest<Outgoing>,
    load: Arc<Load>,
    used: Instant,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("load", &self.load).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    /// As many as the backend takes at once.
    most: AtomicUsize,
    opened: Instant,
    /// Milliseconds from then to the last answer's head, plus one; 0 before the first.
    heard: AtomicU64,
}

impl Load {
    fn has_heard_since(&self, since: Instant) -> bool {
        let heard = self.heard.load(Ordering::Relaxed).checked_sub(1);
        heard.is_some_and(|heard| self.opened + Duration::from_millis(heard) > since)
    }
}

/// One exchange's part of a connection.
#[derive(Debug)]
pub(super) struct Stream(Arc<Load>);

impl Stream {
    /// An answer came, or a fault in its place.
    pub(super) fn hears(&self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(now.saturating_add(1), Ordering::Relaxed);
    }
}

/// A request that was sent and has no answer yet. On the heap: it outlives whoever waits for it.
struct Unanswered(Option<(Waited, Stream, Work)>);

type Waited = Pin<Box<dyn Future<Output = Tried> + Send>>;

/// Sends a request and waits for its answer's headers.
pub(super) fn send(
    (mut sender, stream): Seat,
    request: Request<Outgoing>,
    work: Work,
) -> impl Future<Output = Sent<Stream>> {
    let answer = sender.try_send_request(request);
    Unanswered(Some((Box::pin(answer), stream, work))).answered()
}

impl Unanswered {
    async fn answered(mut self) -> Sent<Stream> {
        let answered = poll_fn(|cx| match &mut self.0 {
            Some((answer, ..)) => answer.as_mut().poll(cx).map(Some),
            None => Poll::Ready(None),
        })
        .await;
        let (Some(answered), Some((_, stream, work))) = (answered, self.0.take()) else {
            return Sent::Failed(BackendFault::Terminated);
        };
        stream.hears();
        Sent::of(answered, stream, work)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((answer, stream, work)) = self.0.take() {
            linger::abandon_stream(answer, stream, work);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection with room for one more exchange.
pub(super) type Seat = (SendRequest<Outgoing>, Stream);

impl Multiplex {
    /// A connection that is there and has room.
    pub(super) fn take(&self) -> Option<Seat> {
        let mut lines = self.lines();
        lines.retain(|line| !line.sender.is_closed());
        lines.iter_mut().find_map(Line::take)
    }

    /// Waits for whoever makes a connection just now; then it is one's own turn to look, and to make one.
    pub(super) async fn turn_to_dial(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.dialing.lock().await
    }

    /// Speaks HTTP/2 on a new socket, and takes the first seat.
    pub(super) async fn open(&self, socket: Socket) -> Result<Seat, BackendFault> {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|_| BackendFault::Terminated)?;
        let load = Arc::new(Load {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(STREAMS),
            opened: Instant::now(),
            heard: AtomicU64::new(0),
        });
        tokio::spawn(drive(connection, Arc::clone(&load)));
        let mut line = Line { sender, load, used: Instant::now() };
        let seat = line.take().ok_or(BackendFault::Terminated)?;
        self.lines().push(line);
        Ok(seat)
    }

    /// Lets go of connections that carry nothing for long; they end by that.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.lines().retain(|line| {
            let carries = line.load.streams.load(Ordering::Relaxed) > 0;
            !line.sender.is_closed() && (carries || now.duration_since(line.used) < IDLE_FOR)
        });
    }

    /// Gives no more seats on connections that carry something and have answered nothing since then. What they carry goes
    /// on; then they end.
    pub(super) fn leave_silent(&self, since: Instant) {
        self.lines().retain(|line| {
            line.load.streams.load(Ordering::Relaxed) == 0 || line.load.has_heard_since(since)
        });
    }

    /// Connections that carry nothing just now.
    pub(super) fn idle(&self) -> usize {
        self.lines().iter().filter(|line| line.load.streams.load(Ordering::Relaxed) == 0).count()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock()
    }
}

impl Line {
    /// All seats of a worker are taken on its own thread: nobody takes one between the look and the taking.
    fn take(&mut self) -> Option<Seat> {
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
