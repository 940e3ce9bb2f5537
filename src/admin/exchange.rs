//! One connection of the admin listener: its phase, since when, and its time limit. hyper limits the time of a head alone; a
//! body, an unread answer, and silence between requests are limited here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Time limit for a whole request, head and body, from the start of the connection or the first byte of the request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for an answer to be read.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit between two requests: longer than the interval of usual scrapers.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest time between two checks of a time limit, which a new phase may have shortened.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request is waited for, or has come in part.
    Asking,
    /// An answer was read, and no byte of the next request has come.
    Idle,
    /// An answer is being made.
    Working,
    /// An answer is being written.
    Answering,
    /// Events are being written, for as long as the client listens.
    Listening,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// hyper has taken all of the answer.
    is_handed_over: bool,
    /// The instant since which the socket takes nothing more.
    stalled: Option<Instant>,
    /// A request was answered before.
    has_answered: bool,
    /// The turn that the answer needs, until it was read.
    turn: Option<OwnedSemaphorePermit>,
}

/// The exchange of one connection.
#[derive(Debug)]
pub(super) struct Exchange {
    state: Mutex<State>,
    eviction: Notify,
}

impl Exchange {
    pub(super) fn new(now: Instant) -> Self {
        let state = State {
            phase: Phase::Asking,
            since: now,
            is_handed_over: false,
            stalled: None,
            has_answered: false,
            turn: None,
        };
        Self { state: Mutex::new(state), eviction: Notify::new() }
    }

    /// The phase of the connection, and the instant at which it began.
    pub(super) fn phase(&self) -> (Phase, Instant) {
        let state = self.state();
        (state.phase, state.since)
    }

    /// `true` if this is not the first request.
    pub(super) fn has_answered(&self) -> bool {
        self.state().has_answered
    }

    /// Begins to make an answer.
    pub(super) fn work(&self, turn: Option<OwnedSemaphorePermit>) {
        let mut state = self.state();
        state.enter(Phase::Working);
        state.turn = turn;
    }

    /// Begins to write an answer.
    pub(super) fn answer(&self, is_events: bool) {
        let mut state = self.state();
        state.enter(if is_events { Phase::Listening } else { Phase::Answering });
        state.has_answered = true;
        if is_events {
            state.turn = None;
        }
    }

    /// Gives the turn to another exchange if the answer only waits for its client.
    pub(super) fn give_up_turn(&self) -> Option<OwnedSemaphorePermit> {
        let mut state = self.state();
        if state.phase == Phase::Answering { state.turn.take() } else { None }
    }

    /// Ends the connection, to give its place to another.
    pub(super) fn evict(&self) {
        self.eviction.notify_one();
    }

    /// Waits until the connection has to end: it was evicted, or exceeded a time limit.
    pub(super) async fn end(&self) {
        loop {
            let now = Instant::now();
            let limit = self.limit();
            if limit.is_some_and(|limit| limit <= now) {
                return;
            }
            let look = limit.map_or(now + CHECK_INTERVAL, |limit| limit.min(now + CHECK_INTERVAL));
            tokio::select! {
                () = self.eviction.notified() => return,
                () = sleep_until(look) => {}
            }
        }
    }

    fn limit(&self) -> Option<Instant> {
        let state = self.state();
        match state.phase {
            Phase::Asking => Some(state.since + REQUEST_TIMEOUT),
            Phase::Idle => Some(state.since + IDLE_TIMEOUT),
            Phase::Working => None,
            Phase::Answering => Some(state.since + RESPONSE_TIMEOUT),
            Phase::Listening => state.stalled.map(|stalled| stalled + RESPONSE_TIMEOUT),
        }
    }

    fn hand_over(&self) {
        self.state().is_handed_over = true;
    }

    fn flushed(&self) {
        let mut state = self.state();
        if state.phase == Phase::Answering && state.is_handed_over {
            state.enter(Phase::Idle);
            state.turn = None;
        }
    }

    fn received(&self) {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            state.enter(Phase::Asking);
        }
    }

    fn written(&self, is_stalled: bool) {
        let mut state = self.state();
        state.stalled = is_stalled.then(|| state.stalled.unwrap_or_else(Instant::now));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, Instant::now());
        (self.is_handed_over, self.stalled) = (false, None);
    }
}

/// A guard in an answer's body: hyper drops the body when it has taken all of it.
#[derive(Debug)]
pub(super) struct AnswerGuard(Arc<Exchange>);

impl AnswerGuard {
    pub(super) const fn new(exchange: Arc<Exchange>) -> Self {
        Self(exchange)
    }
}

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}

/// A socket that notes its reads and writes in the exchange.
#[derive(Debug)]
pub(super) struct Line {
    socket: TcpStream,
    exchange: Arc<Exchange>,
}

impl Line {
    pub(super) const fn new(socket: TcpStream, exchange: Arc<Exchange>) -> Self {
        Self { socket, exchange }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.exchange.received();
        }
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.exchange.written(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.exchange.written(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper flushes the socket only when everything before was written to it.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if flushed.is_ready() {
            self.exchange.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
