//! Answers of an HTTP/2 connection that wait for the client to read them.
//!
//! HTTP/2 takes a part of an answer as soon as there is room for one byte of it, and keeps the rest until the client opens
//! its window. A part therefore counts as unread until its last byte is written out, not only until it is handed over. Each
//! answer with unread parts has a clock, which starts anew when the client makes room for something of that answer; and what
//! all parts hold is bounded. (HTTP/1.1 has no windows: there the socket tells, see `Activity::blocked_since`.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Session;

/// Answers that may wait on a connection that holds no slot: clients that are not authenticated or not permitted read their
/// refusals, or leave. On other connections more answers may wait for as long as the worker has memory for them.
const MOST_ANSWERS: usize = 16;
/// Bytes of answers that one connection may have handed over to HTTP/2; then the next part stays where it is.
const MOST_BYTES: usize = 256 * 1024;
/// Memory that an open stream takes beside the bytes of its answer, in bytes: its task, its state in HTTP/2, its record.
const STREAM_MEMORY: usize = 4096;
/// The window of a connection before the client opens it further (RFC 9113 §6.9.2), in bytes.
const INITIAL_WINDOW: i64 = 65_535;

/// The unread parts of one connection's answers.
#[derive(Debug)]
pub(super) struct UnreadAnswers {
    parts: Mutex<Parts>,
    /// Number of unread parts, which is read at every turn of the connection.
    count: AtomicUsize,
    /// Bytes that the client's window of the connection has room for.
    window: AtomicI64,
    /// The answers wait for the socket or for the connection's window, one behind the other, and not for windows of their own
    /// streams.
    in_line: AtomicBool,
}

impl Default for UnreadAnswers {
    fn default() -> Self {
        Self {
            parts: Mutex::default(),
            count: AtomicUsize::new(0),
            window: AtomicI64::new(INITIAL_WINDOW),
            in_line: AtomicBool::new(false),
        }
    }
}

#[derive(Debug, Default)]
struct Parts {
    clocks: Vec<Clock>,
    bytes: usize,
    /// The last instant at which the client took something of any answer while the others stood in line behind it.
    moved: Option<Instant>,
}

/// The clock of one answer.
#[derive(Debug)]
struct Clock {
    /// Number of the answer's request on its connection.
    answer: u32,
    /// Number of unread parts of the answer.
    parts: usize,
    /// The instant since which the client has taken nothing of the answer.
    since: Instant,
    /// The task that hands over the next part, if that part has to wait until those before it are written out.
    next: Option<Waker>,
}

impl UnreadAnswers {
    /// Number of unread parts.
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The instant since which the client has taken nothing of some answer.
    pub(super) fn oldest(&self) -> Option<Instant> {
        if self.count() == 0 {
            return None;
        }
        let parts = self.parts.lock();
        parts.clocks.iter().map(|clock| parts.moved.map_or(clock.since, |moved| moved.max(clock.since))).min()
    }

    /// Bytes that were handed over and are not written out.
    fn bytes(&self) -> usize {
        self.parts.lock().bytes
    }

    fn begin(&self, answer: u32, bytes: usize, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut parts = self.parts.lock();
        parts.bytes += bytes;
        match parts.clock(answer) {
            // Behind the part before it, this one waits for as long as that part does.
            Some(clock) => clock.parts += 1,
            None => parts.clocks.push(Clock { answer, parts: 1, since: now, next: None }),
        }
    }

    fn open_window(&self, by: i64) {
        self.window.fetch_add(by, Ordering::Relaxed);
    }

    fn use_window(&self, bytes: usize) {
        self.window.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Notes that the client has taken so many bytes of that answer.
    fn advance(&self, answer: u32, bytes: usize, now: Instant) {
        self.use_window(bytes);
        let mut parts = self.parts.lock();
        if let Some(clock) = parts.clock(answer) {
            clock.since = now;
        }
        if self.is_in_line() {
            parts.moved = Some(now);
        }
    }

    /// Notes what the answers wait for, at the end of a turn, when everything for which there was room is written out.
    fn note_turn(&self, is_socket_full: bool) {
        let in_line = is_socket_full || self.window.load(Ordering::Relaxed) <= 0;
        self.in_line.store(in_line, Ordering::Relaxed);
    }

    fn is_in_line(&self) -> bool {
        self.in_line.load(Ordering::Relaxed)
    }

    /// Notes that a part is written out, or dropped with its stream.
    fn end(&self, answer: u32, bytes: usize, now: impl FnOnce() -> Instant) {
        let is_last = self.count.fetch_sub(1, Ordering::Relaxed) == 1;
        let mut parts = self.parts.lock();
        parts.bytes = parts.bytes.saturating_sub(bytes);
        let next = if is_last {
            let last = parts.clocks.pop();
            // An idle connection keeps no memory of a busy time.
            parts.clocks.shrink_to(1);
            last.and_then(|clock| clock.next)
        } else {
            let now = now();
            if self.is_in_line() {
                parts.moved = Some(now);
            }
            parts.end(answer, now)
        };
        drop(parts);
        next.into_iter().for_each(Waker::wake);
    }

    /// `true` if a part of this answer is unread. If so, the task is woken once all its parts are written out.
    fn wait_for_own(&self, answer: u32, waker: &Waker) -> bool {
        let mut parts = self.parts.lock();
        let Some(clock) = parts.clock(answer) else { return false };
        clock.next = Some(waker.clone());
        true
    }
}

impl Parts {
    fn clock(&mut self, answer: u32) -> Option<&mut Clock> {
        self.clocks.iter_mut().find(|clock| clock.answer == answer)
    }

    /// Removes a part. Returns the task that waits for the last part of the answer, if this was the last one.
    fn end(&mut self, answer: u32, now: Instant) -> Option<Waker> {
        let place = self.clocks.iter().position(|clock| clock.answer == answer)?;
        let clock = self.clocks.get_mut(place)?;
        if clock.parts > 1 {
            clock.parts -= 1;
            clock.since = now;
            return None;
        }
        self.clocks.swap_remove(place).next
    }
}

/// The origin of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An answer of the backend: its bytes are counted elsewhere, with the place in flight or with what is read ahead.
    Backend,
    /// A refusal by Sidegate, which no place in flight and no other bound accounts for.
    Sidegate,
}

impl Session {
    /// Hands over a part of the answer to request number `answer`, of which `kept` bytes are kept in memory.
    pub(super) fn hand_over(
        self: &Arc<Self>,
        bytes: Bytes,
        answer: u32,
        kept: usize,
        origin: Origin,
    ) -> Part {
        if bytes.is_empty() {
            return Part::uncounted(bytes);
        }
        let length = bytes.len();
        let memory = STREAM_MEMORY + kept + if origin == Origin::Sidegate { length } else { 0 };
        self.services.unread.add(memory);
        self.unread.begin(answer, length, Instant::now());
        Part { bytes, entry: Some(Entry { session: Arc::clone(self), answer, length, memory }) }
    }

    /// Ready while more of an answer may be handed over: its first part always, so that no answer waits for the reader of
    /// another; a further part while the connection and its worker hold little. Otherwise the task is woken once what was
    /// handed over is written out.
    pub(super) fn poll_room(&self, answer: u32, cx: &Context<'_>) -> Poll<()> {
        if self.unread.count() == 0 {
            return Poll::Ready(());
        }
        let is_full = self.unread.bytes() >= MOST_BYTES || self.services.unread.is_full();
        if is_full && self.unread.wait_for_own(answer, cx.waker()) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// `true` if the client's window of the connection has room for so many bytes.
    pub(crate) fn has_window_for(&self, bytes: usize) -> bool {
        self.unread.window.load(Ordering::Relaxed) >= i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    /// Notes that the client has opened the window of the connection by so many bytes.
    pub(crate) fn open_window(&self, by: i64) {
        self.unread.open_window(by);
    }

    /// `true` if more answers are unread than the connection may have, and reading on would not help. To be called at the end
    /// of a turn, when everything for which there is room is written out.
    ///
    /// Answers that wait for the socket are not too many as long as the client reads: meanwhile no more requests are read.
    /// Answers that wait for the connection's window are not too many as long as the worker holds little: a client with many
    /// requests at once opens that window while it reads.
    pub(crate) fn has_hopelessly_many_unread(&self) -> bool {
        let is_full = self.activity.is_blocked();
        if self.unread.count() > 0 {
            self.unread.note_turn(is_full);
        }
        self.has_too_many_unread()
            && !is_full
            && (!self.unread.is_in_line() || self.services.unread.is_full())
    }

    /// `true` if more answers are unread than the connection may have.
    pub(crate) fn has_too_many_unread(&self) -> bool {
        self.unread.count() > MOST_ANSWERS && (!self.holding.has_slot() || self.services.unread.is_full())
    }
}

/// A part of an answer, as HTTP holds it until it is written out.
#[derive(Debug)]
pub struct Part {
    bytes: Bytes,
    /// `None` where nothing is counted: in HTTP/1.1, and once everything is written out.
    entry: Option<Entry>,
}

impl Part {
    /// Returns a part that is not counted.
    pub const fn uncounted(bytes: Bytes) -> Self {
        Self { bytes, entry: None }
    }
}

/// The entry of a part among the unread ones.
#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    answer: u32,
    /// Length of the part when it was handed over, in bytes.
    length: usize,
    /// Memory that the part is counted as, in bytes.
    memory: usize,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        let Some(entry) = self.entry.as_ref().filter(|_| count > 0) else { return };
        if self.bytes.is_empty() {
            entry.session.unread.use_window(count);
            self.entry = None;
        } else {
            entry.session.unread.advance(entry.answer, count, Instant::now());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.session.services.unread.subtract(self.memory);
        self.session.unread.end(self.answer, self.length, Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_answer_of_which_nothing_was_taken_counts() {
        let (unread, start) = (UnreadAnswers::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(unread.oldest(), None);
        unread.begin(1, 10, after(1));
        unread.begin(2, 20, after(2));
        assert_eq!((unread.oldest(), unread.bytes(), unread.count()), (Some(after(1)), 30, 2));
        unread.advance(1, 1, after(5));
        assert_eq!(unread.oldest(), Some(after(2)), "the progress of one answer saves no other");
        unread.end(2, 20, || after(6));
        assert_eq!((unread.oldest(), unread.bytes()), (Some(after(5)), 10));
        unread.end(1, 10, || after(7));
        assert_eq!((unread.oldest(), unread.bytes(), unread.count()), (None, 0, 0));
    }

    #[test]
    fn answers_that_stand_in_line_have_the_clock_of_the_line() {
        let (unread, start) = (UnreadAnswers::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        (1..=3).for_each(|answer| unread.begin(answer, 10, after(1)));
        unread.note_turn(true);
        unread.advance(1, 5, after(10));
        assert_eq!(unread.oldest(), Some(after(10)), "the socket takes one after the other");
        unread.note_turn(false);
        unread.advance(1, 5, after(20));
        assert_eq!(unread.oldest(), Some(after(10)), "the others wait for windows of their own");
        unread.use_window(usize::try_from(INITIAL_WINDOW).unwrap());
        unread.note_turn(false);
        unread.end(1, 10, || after(30));
        assert_eq!(unread.oldest(), Some(after(30)), "all wait for the window of the connection");
        unread.open_window(1_000);
        unread.note_turn(false);
        unread.end(2, 10, || after(40));
        assert_eq!(unread.oldest(), Some(after(30)));
    }

    #[test]
    fn parts_of_one_answer_have_one_clock() {
        let (unread, start) = (UnreadAnswers::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        unread.begin(1, 10, after(1));
        unread.begin(1, 10, after(2));
        unread.begin(2, 10, after(50));
        assert_eq!(unread.oldest(), Some(after(1)), "one more part is no progress");
        unread.advance(1, 1, after(3));
        assert_eq!(unread.oldest(), Some(after(3)), "the second part waits behind the first");
        unread.end(1, 10, || after(4));
        assert_eq!(unread.oldest(), Some(after(4)), "the end of a part is progress");
        unread.end(1, 10, || after(5));
        assert_eq!((unread.oldest(), unread.count()), (Some(after(50)), 1));
    }

    #[test]
    fn a_waiting_part_is_woken_by_the_last_part_before_it() {
        struct Counted(AtomicUsize);
        impl std::task::Wake for Counted {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (unread, woken) = (UnreadAnswers::default(), Arc::new(Counted(0.into())));
        let waker = Waker::from(Arc::clone(&woken));
        let is_woken = || woken.0.load(Ordering::Relaxed);
        assert!(!unread.wait_for_own(1, &waker), "nothing of it waits");
        for answer in [1, 1, 2] {
            unread.begin(answer, 1, Instant::now());
        }
        assert!(unread.wait_for_own(1, &waker) && !unread.wait_for_own(3, &waker));
        unread.end(2, 1, Instant::now);
        unread.end(1, 1, Instant::now);
        assert_eq!(is_woken(), 0);
        unread.end(1, 1, Instant::now);
        assert_eq!((is_woken(), unread.count(), unread.parts.lock().clocks.len()), (1, 0, 0));
    }
}
