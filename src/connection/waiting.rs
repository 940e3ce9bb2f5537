//! Answers of an HTTP/2 connection that wait for their reader.
//!
//! HTTP/2 takes a part of an answer as soon as there is room for one byte of it, and keeps the rest until the client opens
//! its window. So a part counts as waiting until its last byte has been written out, and not only until it was handed over.
//! Each answer of which parts wait has a clock, which starts anew when the client makes room for something of that answer;
//! and what all parts hold is bounded. (HTTP/1.1 has no windows: there the socket tells, see `pulse`.)

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::{Connection, window};

/// Bounds of what waits for readers.
mod most {
    /// Answers that may wait on a connection that holds no slot: strangers and clients without a permission read their refusals,
    /// or leave. On other connections more of them may wait for as long as the worker has [`WORKER_BYTES`] for it.
    pub(super) const ANSWERS: usize = 16;
    /// Bytes of answers that one connection may have handed over to HTTP/2; then the next part stays where it is.
    pub(super) const BYTES: usize = 256 * 1024;
    /// Memory that answers hold on all connections of a worker, beyond [`ANSWERS`] of each.
    pub(super) const WORKER_BYTES: usize = 4 << 20;
}

/// Memory that an open stream takes beside the bytes of its answer: its task, its state in HTTP/2, its record.
const STREAM: usize = 4096;

/// The waiting parts of one connection's answers.
#[derive(Debug)]
pub(super) struct Waiting {
    parts: Mutex<Parts>,
    /// Number of waiting parts, which is read at every turn of the connection.
    count: AtomicUsize,
    /// Bytes that the client's window of the connection has room for.
    window: AtomicI64,
    /// Whether the answers wait for the socket or the connection's window, one behind the other, and not for windows of their own.
    in_line: AtomicBool,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            parts: Mutex::default(),
            count: AtomicUsize::new(0),
            window: AtomicI64::new(window::INITIAL),
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
    /// The number of the answer's request on its connection.
    answer: u32,
    /// Parts of it that wait.
    parts: usize,
    /// The instant since which the client has taken nothing of it.
    since: Instant,
    /// The task that hands over the next part, where that has to wait until those before it have left.
    next: Option<Waker>,
}

impl Waiting {
    /// Number of parts that have not left.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The instant since which some answer waits in vain.
    pub(super) fn oldest(&self) -> Option<Instant> {
        if self.count() == 0 {
            return None;
        }
        let parts = self.parts();
        parts.clocks.iter().map(|clock| parts.moved.map_or(clock.since, |moved| moved.max(clock.since))).min()
    }

    /// Bytes that were handed over and have not left.
    fn bytes(&self) -> usize {
        self.parts().bytes
    }

    fn begin(&self, answer: u32, bytes: usize, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut parts = self.parts();
        parts.bytes += bytes;
        match parts.clock(answer) {
            // Behind the part before it, this one waits for as long as that does.
            Some(clock) => clock.parts += 1,
            None => parts.clocks.push(Clock { answer, parts: 1, since: now, next: None }),
        }
    }

    /// The client has opened the window of the connection by so many bytes.
    pub(super) fn opens(&self, by: i64) {
        self.window.fetch_add(by, Ordering::Relaxed);
    }

    /// The client has taken so many bytes of that answer.
    fn moves(&self, answer: u32, bytes: usize, now: Instant) {
        self.takes(bytes);
        let mut parts = self.parts();
        if let Some(clock) = parts.clock(answer) {
            clock.since = now;
        }
        if self.is_in_line() {
            parts.moved = Some(now);
        }
    }

    fn takes(&self, bytes: usize) {
        self.window.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Notes what the answers wait for, at the end of a turn, when everything has left for which there was room.
    fn note(&self, is_socket_full: bool) {
        let in_line = is_socket_full || self.window.load(Ordering::Relaxed) <= 0;
        self.in_line.store(in_line, Ordering::Relaxed);
    }

    fn is_in_line(&self) -> bool {
        self.in_line.load(Ordering::Relaxed)
    }

    /// A part has left.
    fn end(&self, answer: u32, bytes: usize, now: impl FnOnce() -> Instant) {
        let is_last = self.count.fetch_sub(1, Ordering::Relaxed) == 1;
        let mut parts = self.parts();
        parts.bytes = parts.bytes.saturating_sub(bytes);
        let next = if is_last {
            let last = parts.clocks.pop();
            // An idle connection keeps nothing of a busy time.
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

    /// Whether a part of this answer has not left. If so, the task is woken once all of its parts have.
    fn wait_for_own(&self, answer: u32, waker: &Waker) -> bool {
        let mut parts = self.parts();
        let Some(clock) = parts.clock(answer) else { return false };
        clock.next = Some(waker.clone());
        true
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // Nothing panics while it is held.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    fn clock(&mut self, answer: u32) -> Option<&mut Clock> {
        self.clocks.iter_mut().find(|clock| clock.answer == answer)
    }

    /// A part has left: gives the task that waits for the last of them.
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

/// The maker of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// An answer of the backend: its bytes are counted elsewhere, with the place in flight or with what is read ahead.
    Backend,
    /// A refusal, which no place in flight and no other bound accounts for.
    Sidegate,
}

/// Memory that answers hold on all connections of one worker.
#[derive(Debug, Default)]
pub struct Unread(AtomicUsize);

impl Unread {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_too_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > most::WORKER_BYTES
    }
}

impl Connection {
    /// Hands a part of an answer over: of the answer to the request of that number, of which so many bytes are remembered.
    pub(super) fn hand_over(self: &Arc<Self>, bytes: Bytes, answer: u32, kept: usize, maker: Maker) -> Part {
        if bytes.is_empty() {
            return Part::free(bytes);
        }
        let length = bytes.len();
        let cost = STREAM + kept + if maker == Maker::Sidegate { length } else { 0 };
        self.worker.unread.add(cost);
        self.waiting.begin(answer, length, Instant::now());
        Part { bytes, held: Some(Held { connection: Arc::clone(self), answer, length, cost }) }
    }

    /// Ready while more of an answer may be handed over: its first part always, so that no answer waits for the reader of another;
    /// a further one while the connection and its worker hold little. Otherwise the task is woken once what was handed over has left.
    pub(super) fn poll_room(&self, answer: u32, cx: &Context<'_>) -> Poll<()> {
        if self.waiting.count() == 0 {
            return Poll::Ready(());
        }
        let is_full = self.waiting.bytes() >= most::BYTES || self.worker.unread.is_too_much();
        if is_full && self.waiting.wait_for_own(answer, cx.waker()) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Whether more answers wait for their reader than the connection may have. To be asked at the end of a turn, when
    /// everything has left for which there is room. Answers that wait for the socket are not too many as long as the client reads:
    /// meanwhile no more requests are read. Those that wait for the connection's window are not, as long as the worker holds little:
    /// a client that asks many things at once opens that window while it reads.
    pub(super) fn waits_too_much(&self) -> bool {
        let is_full = self.pulse.blocked_since().is_some();
        if self.waiting.count() > 0 {
            self.waiting.note(is_full);
        }
        self.has_too_many_waiting()
            && !is_full
            && (!self.waiting.is_in_line() || self.worker.unread.is_too_much())
    }

    /// Whether as many answers wait as the connection may have.
    pub(super) fn has_too_many_waiting(&self) -> bool {
        self.waiting.count() > most::ANSWERS && (!self.holding.has_slot() || self.worker.unread.is_too_much())
    }
}

/// A part of an answer, as HTTP holds it until it is written out.
#[derive(Debug)]
pub struct Part {
    bytes: Bytes,
    /// `None` where nothing is counted: of HTTP/1.1, and once all has left.
    held: Option<Held>,
}

impl Part {
    /// A part that is not counted.
    pub const fn free(bytes: Bytes) -> Self {
        Self { bytes, held: None }
    }
}

/// The entry of a part among those that wait.
#[derive(Debug)]
struct Held {
    connection: Arc<Connection>,
    answer: u32,
    /// Length of the part when it was handed over.
    length: usize,
    /// Memory that it is counted as.
    cost: usize,
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
        let Some(held) = self.held.as_ref().filter(|_| count > 0) else { return };
        if self.bytes.is_empty() {
            held.connection.waiting.takes(count);
            self.held = None;
        } else {
            held.connection.waiting.moves(held.answer, count, Instant::now());
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connection.worker.unread.take(self.cost);
        self.connection.waiting.end(self.answer, self.length, Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_answer_of_which_nothing_was_taken_counts() {
        let (waiting, start) = (Waiting::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(waiting.oldest(), None);
        waiting.begin(1, 10, after(1));
        waiting.begin(2, 20, after(2));
        assert_eq!((waiting.oldest(), waiting.bytes(), waiting.count()), (Some(after(1)), 30, 2));
        waiting.moves(1, 1, after(5));
        assert_eq!(waiting.oldest(), Some(after(2)), "the progress of one answer saves no other");
        waiting.end(2, 20, || after(6));
        assert_eq!((waiting.oldest(), waiting.bytes()), (Some(after(5)), 10));
        waiting.end(1, 10, || after(7));
        assert_eq!((waiting.oldest(), waiting.bytes(), waiting.count()), (None, 0, 0));
    }

    #[test]
    fn answers_that_stand_in_line_have_the_clock_of_the_line() {
        let (waiting, start) = (Waiting::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        (1..=3).for_each(|answer| waiting.begin(answer, 10, after(1)));
        waiting.note(true);
        waiting.moves(1, 5, after(10));
        assert_eq!(waiting.oldest(), Some(after(10)), "the socket takes one after the other");
        waiting.note(false);
        waiting.moves(1, 5, after(20));
        assert_eq!(waiting.oldest(), Some(after(10)), "the others wait for windows of their own");
        waiting.takes(usize::try_from(window::INITIAL).unwrap());
        waiting.note(false);
        waiting.end(1, 10, || after(30));
        assert_eq!(waiting.oldest(), Some(after(30)), "all wait for the window of the connection");
        waiting.opens(1_000);
        waiting.note(false);
        waiting.end(2, 10, || after(40));
        assert_eq!(waiting.oldest(), Some(after(30)));
    }

    #[test]
    fn parts_of_one_answer_have_one_clock() {
        let (waiting, start) = (Waiting::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        waiting.begin(1, 10, after(1));
        waiting.begin(1, 10, after(2));
        waiting.begin(2, 10, after(50));
        assert_eq!(waiting.oldest(), Some(after(1)), "one more part is no progress");
        waiting.moves(1, 1, after(3));
        assert_eq!(waiting.oldest(), Some(after(3)), "the second part waits behind the first");
        waiting.end(1, 10, || after(4));
        assert_eq!(waiting.oldest(), Some(after(4)), "the end of a part is progress");
        waiting.end(1, 10, || after(5));
        assert_eq!((waiting.oldest(), waiting.count()), (Some(after(50)), 1));
    }

    #[test]
    fn a_part_that_waits_for_those_before_it_is_woken_by_the_last_of_them() {
        struct Counted(AtomicUsize);
        impl std::task::Wake for Counted {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (waiting, woken) = (Waiting::default(), Arc::new(Counted(0.into())));
        let waker = Waker::from(Arc::clone(&woken));
        let is_woken = || woken.0.load(Ordering::Relaxed);
        assert!(!waiting.wait_for_own(1, &waker), "nothing of it waits");
        for answer in [1, 1, 2] {
            waiting.begin(answer, 1, Instant::now());
        }
        assert!(waiting.wait_for_own(1, &waker) && !waiting.wait_for_own(3, &waker));
        waiting.end(2, 1, Instant::now);
        waiting.end(1, 1, Instant::now);
        assert_eq!(is_woken(), 0);
        waiting.end(1, 1, Instant::now);
        assert_eq!((is_woken(), waiting.count(), waiting.parts().clocks.len()), (1, 0, 0));
    }
}
