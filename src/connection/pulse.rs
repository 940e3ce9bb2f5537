//! The pulse of a connection: whether it is busy, reading a request's head, or idle, and since when.
//!
//! hyper's own header timeout runs between requests too, where silence is allowed for longer; so what is read and
//! what is answered is felt here, and looked at only when a timer says that it might have been too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::lines::Lines;
use super::window::Updates;
use super::{Asked, Connection, Maker, Part, rest};
use crate::handshake::{Protocol, Stream};

/// Written by the connection's own tasks alone, all on one thread.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    /// Requests that are being answered.
    busy: AtomicU32,
    /// Requests that ever began, wrapping.
    asked: AtomicU32,
    /// Milliseconds from the start to the end of the last answer, plus one; 0 before the first.
    idle_since: AtomicU64,
    /// Milliseconds from the start to when the socket last took something and had no room for the rest, plus one; 0 where
    /// nothing waits for it.
    blocked_since: AtomicU64,
    /// Milliseconds from the start to the first byte of a head that is not complete yet, plus one; 0 where there is none.
    head_since: AtomicU64,
    /// Whether what was read of HTTP/1.1 ends in the middle of a message: of a body that nobody wants, it may be.
    amid: AtomicBool,
}

/// Phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Felt {
    /// A request is being answered.
    Busy,
    /// A request's head has begun and is not complete.
    ReadingHead(Instant),
    /// Nothing has been asked yet.
    Fresh(Instant),
    /// The last answer ended then.
    Idle(Instant),
}

impl Pulse {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            busy: 0.into(),
            asked: 0.into(),
            idle_since: 0.into(),
            blocked_since: 0.into(),
            head_since: 0.into(),
            amid: false.into(),
        }
    }

    pub(super) fn felt(&self) -> Felt {
        let at = |mark: u64| self.start + std::time::Duration::from_millis(mark.saturating_sub(1));
        let head = self.head_since.load(Ordering::Relaxed);
        let idle = self.idle_since.load(Ordering::Relaxed);
        match self.busy.load(Ordering::Relaxed) {
            0 if head > 0 => Felt::ReadingHead(at(head)),
            0 if idle > 0 => Felt::Idle(at(idle)),
            0 => Felt::Fresh(self.start),
            _ => Felt::Busy,
        }
    }

    /// Whether nothing has been asked for a while, everything that was asked is read to its end, and everything that was
    /// answered is out.
    pub(super) fn rests(&self, now: Instant) -> bool {
        let is_quiet = match self.felt() {
            Felt::Fresh(since) | Felt::Idle(since) => since + rest::AFTER <= now,
            Felt::Busy | Felt::ReadingHead(_) => false,
        };
        is_quiet && !self.amid.load(Ordering::Relaxed) && self.blocked_since().is_none()
    }

    /// Since when the socket has had no room for what is written to it.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        let mark = self.blocked_since.load(Ordering::Relaxed);
        (mark > 0).then(|| self.start + std::time::Duration::from_millis(mark - 1))
    }

    /// Notes what a write has left in front of the socket. Only bytes that the socket takes start the clock anew: TLS takes some
    /// even when the socket does not.
    fn wrote(&self, is_full: bool, has_moved: bool) {
        let was_blocked = self.blocked_since.load(Ordering::Relaxed) > 0;
        if is_full && (has_moved || !was_blocked) {
            self.blocked_since.store(self.mark(), Ordering::Relaxed);
        } else if !is_full && was_blocked {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
    }

    /// The end of the last answer has just left: the client is idle from now on.
    pub(super) fn idle_anew(&self) {
        if self.idle_since.load(Ordering::Relaxed) > 0 {
            self.idle_since.store(self.mark(), Ordering::Relaxed);
        }
    }

    /// Whether nothing has been asked yet: no request has begun, whatever of it was read.
    pub(super) fn is_fresh(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0 && self.idle_since.load(Ordering::Relaxed) == 0
    }

    /// Whether no request is being answered.
    pub(super) fn is_at_rest(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Requests that ever began.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Requests that are being answered.
    pub(super) fn in_progress(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    fn mark(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Bytes came in. While a request is answered they belong to its body, or wait.
    fn read(&self) {
        if self.busy.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.mark(), Ordering::Relaxed);
        }
    }
}

/// A request that is being answered: from its head until its answer has ended.
#[derive(Debug)]
pub struct Busy {
    connection: Arc<Connection>,
    /// Its number among the exchanges, once it is one.
    exchange: Option<usize>,
    /// Number of the request on its connection.
    number: u32,
    /// Bytes that are remembered of what was asked.
    kept: usize,
}

impl Busy {
    /// The head is complete.
    pub fn start(connection: &Arc<Connection>) -> Self {
        connection.pulse.busy.fetch_add(1, Ordering::Relaxed);
        let number = connection.pulse.asked.fetch_add(1, Ordering::Relaxed);
        connection.pulse.head_since.store(0, Ordering::Relaxed);
        connection.leash.set_busy(true);
        Self { connection: Arc::clone(connection), exchange: None, number, kept: 0 }
    }

    /// It goes to the backend, and is judged again for as long as that lasts.
    pub fn asks(&mut self, asked: Asked) {
        self.kept = asked.size();
        self.exchange = Some(self.connection.exchanges.begin(asked));
    }

    /// Whether it may not go on. The task that asks is woken when that changes.
    pub fn poll_withdrawn(&self, cx: &Context<'_>) -> bool {
        let (exchanges, Some(number)) = (&self.connection.exchanges, self.exchange) else { return false };
        // Of HTTP/1.1 the connection's own task is polled anyway.
        if self.connection.protocol == Protocol::Http2 {
            exchanges.wake(number, cx.waker());
        }
        exchanges.is_withdrawn(number)
    }

    /// Hands a part of the answer over to HTTP, counted until its last byte has left.
    pub fn hand_over(&self, bytes: Bytes, maker: Maker) -> Part {
        match self.connection.protocol {
            Protocol::Http1 => Part::free(bytes),
            Protocol::Http2 => self.connection.hand_over(bytes, self.number, self.kept, maker),
        }
    }

    /// Ready while more of the answer may be handed over. Otherwise the task is woken when there may be.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.connection.poll_room(self.number, cx)
    }

    /// Whether it may not go on.
    pub fn is_withdrawn(&self) -> bool {
        self.exchange.is_some_and(|number| self.connection.exchanges.is_withdrawn(number))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(number) = self.exchange {
            self.connection.exchanges.end(number);
        }
        let pulse = &self.connection.pulse;
        pulse.idle_since.store(pulse.mark(), Ordering::Relaxed);
        if pulse.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.connection.leash.set_busy(false);
        }
    }
}

/// A stream whose reading is felt, and on which hyper answers nothing by itself: its answers to what it cannot parse are
/// withheld, so that a documented one can be given in their place.
#[derive(Debug)]
pub(super) struct Felted {
    stream: Stream,
    connection: Arc<Connection>,
    /// Of HTTP/1.1.
    lines: Option<Lines>,
    /// Reader of the client's frames, in HTTP/2.
    updates: Updates,
    /// How many requests had begun when all answers to them were last known to be written whole.
    written_after: u32,
    withheld: Option<StatusCode>,
    /// What was read, and looked at, and is to be read once more.
    given_back: Bytes,
    /// Bytes behind a request that asks for another protocol. They are of that protocol, or requests, and are read once the
    /// answer has told which.
    beyond: Bytes,
    /// The task that would read more, where something is not read for now.
    reader: Option<Waker>,
    /// Bytes that the socket had taken when that was last looked at.
    taken: u64,
}

/// State of a stream when HTTP on it ended.
pub(super) struct Parts {
    pub(super) stream: Stream,
    /// The status that hyper would have answered with where it could not parse.
    pub(super) unparsed: Option<StatusCode>,
    /// Bytes that were read behind a request that asked for another protocol.
    pub(super) beyond: Bytes,
}

impl Felted {
    pub(super) fn new(stream: Stream, connection: Arc<Connection>) -> Self {
        let lines = (connection.protocol == Protocol::Http1).then(Lines::default);
        let taken = stream.write_progress().taken;
        Self {
            stream,
            connection,
            lines,
            updates: Updates::default(),
            written_after: 0,
            withheld: None,
            given_back: Bytes::new(),
            beyond: Bytes::new(),
            reader: None,
            taken,
        }
    }

    pub(super) fn into_parts(self) -> Parts {
        Parts { stream: self.stream, unparsed: self.withheld, beyond: self.beyond }
    }

    /// What was read is to be read once more, before anything else.
    pub(super) fn gives_back(&mut self, read: &[u8]) {
        self.given_back = Bytes::copy_from_slice(read);
    }

    /// Whether these bytes are an answer of hyper's own: nobody asked anything since the last answer was written whole.
    /// (hyper flushes only what it has written to the end, and its answer ends the connection.)
    fn withholds(&mut self, bytes: &[u8]) -> bool {
        let pulse = &self.connection.pulse;
        if !pulse.is_at_rest() || pulse.asked.load(Ordering::Relaxed) != self.written_after {
            return false;
        }
        // A switched connection, and HTTP/2, write other things at rest.
        let status = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        self.withheld = self.withheld.or_else(|| StatusCode::from_bytes(status?).ok());
        self.withheld.is_some()
    }

    /// Whether no more requests are read for now: answers to those before wait for a socket that is full, and the connection has
    /// as many of them as it may. (Those that wait for a window end the connection: only reading could open one.)
    fn reads_no_more(&self) -> bool {
        self.lines.is_none()
            && self.connection.pulse.blocked_since().is_some()
            && self.connection.has_too_many_waiting()
    }

    /// Reads on, and looks at what was read: at lines in HTTP/1.1, at updates of the connection's window in HTTP/2.
    fn poll_read_lines(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll_bytes(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if self.connection.protocol == Protocol::Http2 {
            let opened = self.updates.read(read);
            self.connection.waiting.opens(opened);
        }
        let Some(lines) = self.lines.as_mut().filter(|_| !read.is_empty()) else {
            return Poll::Ready(Ok(()));
        };
        self.connection.pulse.read();
        if let Some(end) = lines.look(buf, before) {
            let beyond = buf.filled().get(end..).unwrap_or_default();
            self.beyond = [beyond, &self.beyond].concat().into();
            buf.set_filled(end);
        }
        self.connection.pulse.amid.store(!lines.end_with_a_message(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    /// Reads what was kept from an earlier read, or the stream.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.beyond.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let kept = self.beyond.split_to(self.beyond.len().min(buf.remaining()));
        buf.put_slice(&kept);
        Poll::Ready(Ok(()))
    }

    /// Whether the last request asks for another protocol, and its answer has not told yet whether that follows.
    fn may_switch(&mut self) -> bool {
        let Some(lines) = self.lines.as_mut().filter(|lines| lines.may_switch()) else { return false };
        // A head that was read is a request only a moment later; and until a switched connection ends, its request counts as
        // being answered.
        let pulse = &self.connection.pulse;
        if pulse.is_at_rest() && pulse.asked() == lines.heads() {
            lines.go_on();
            self.connection.pulse.amid.store(!self.beyond.is_empty(), Ordering::Relaxed);
        }
        lines.may_switch()
    }

    /// Keeps what comes behind such a request. Only the end of the connection is told.
    fn poll_read_beyond(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reader = Some(cx.waker().clone());
        if !self.beyond.is_empty() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.beyond = Bytes::copy_from_slice(read);
        buf.set_filled(before);
        Poll::Pending
    }
}

impl AsyncRead for Felted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.given_back.is_empty() {
            let again = this.given_back.split_to(this.given_back.len().min(buf.remaining()));
            buf.put_slice(&again);
            return Poll::Ready(Ok(()));
        }
        if this.may_switch() {
            return this.poll_read_beyond(cx, buf);
        }
        if this.reads_no_more() {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Of HTTP/2 these may be frames of any kind; who asks nothing by them is idle, whatever is said.
        this.poll_read_lines(cx, buf)
    }
}

impl AsyncWrite for Felted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.withholds(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        self.felt(cx, |this, cx| {
            ready!(this.poll_begin(cx))?;
            Pin::new(&mut this.stream).poll_write(cx, buf)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.withholds(bufs.first().map_or(&[][..], |buf| buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        self.felt(cx, |this, cx| {
            ready!(this.poll_begin(cx))?;
            Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.felt(cx, Self::poll_all_out)
    }

    /// HTTP/1.1 ends when everything is out; the stream is closed afterwards by whoever has it then.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.connection.protocol {
            Protocol::Http1 => self.felt(cx, Self::poll_all_out),
            Protocol::Http2 => self.felt(cx, |this, cx| Pin::new(&mut this.stream).poll_shutdown(cx)),
        }
    }
}

impl Felted {
    /// hyper is about to write: what goes before that, first.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let early = &self.connection.early;
        ready!(early.poll_write_to(&mut self.stream, cx))?;
        early.is_clean(false);
        Poll::Ready(Ok(()))
    }

    fn poll_all_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &self.connection;
        let is_at_rest = connection.pulse.is_at_rest();
        if is_at_rest {
            self.written_after = connection.pulse.asked.load(Ordering::Relaxed);
            // The answer has ended by which a switch of protocols was declined: what is behind its request may be read.
            if self.lines.is_some() {
                self.reader.take().into_iter().for_each(Waker::wake);
            }
        }
        ready!(connection.early.poll_write_to(&mut self.stream, cx))?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        connection.early.is_clean(flushed.is_ready());
        flushed
    }

    /// Writes, and notes how the socket took it.
    fn felt<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let wrote = write(self, cx);
        let written = self.stream.write_progress();
        self.connection.pulse.wrote(written.is_full, written.taken != self.taken);
        self.taken = written.taken;
        if !written.is_full && self.lines.is_none() {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        wrote
    }
}
