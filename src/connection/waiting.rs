//! Answers of an HTTP/2 connection that wait for their reader.
//!
//! HTTP/2 takes a part of an answer as soon as there is room for one byte of it, and keeps the rest until the client opens
//! its window. So a part counts as waiting until its last byte has been written out, and not only until it was handed over.
//! Each answer of which parts wait has a clock, which starts anew when the client makes room for something of that answer;
//! and what all parts hold is bounded. (HTTP/1.1 has no windows: there the socket tells, see `pulse`.)

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::Connection;

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

/// Wakers that are kept of answers that wait for room. Beyond it all are woken, so that those of streams that ended go.
const MOST_WAKERS: usize = 512;

/// Answers that are woken when a part has left: more than one, for one of them may have ended, and not all, for there is
/// room for few.
const WOKEN: usize = 4;

/// The waiting parts of one connection's answers.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    parts: Mutex<Parts>,
    /// Number of waiting parts, which is read at every turn of the connection.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Parts {
    clocks: Vec<Clock>,
    bytes: usize,
    /// Tasks of answers that wait until less is held, first come, first served.
    for_room: VecDeque<Waker>,
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
        self.parts().clocks.iter().map(|clock| clock.since).min()
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
            None => parts.clocks.push(Clock { answer, parts: 1, since: now }),
        }
    }

    /// The client has taken something of that answer.
    fn moves(&self, answer: u32, now: Instant) {
        if let Some(clock) = self.parts().clock(answer) {
            clock.since = now;
        }
    }

    /// A part has left.
    fn end(&self, answer: u32, bytes: usize, now: impl FnOnce() -> Instant) {
        let is_last = self.count.fetch_sub(1, Ordering::Relaxed) == 1;
        let mut parts = self.parts();
        parts.bytes = parts.bytes.saturating_sub(bytes);
        if is_last {
            // An idle connection keeps nothing of a busy time.
            parts.clocks.clear();
            parts.clocks.shrink_to(1);
        } else {
            parts.end(answer, now);
        }
        let woken = parts.next_for_room(is_last);
        drop(parts);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Registers a task that is woken once something has left.
    fn wait_for_room(&self, waker: &Waker) {
        let mut parts = self.parts();
        if parts.for_room.iter().any(|known| known.will_wake(waker)) {
            return;
        }
        let is_full = parts.for_room.len() >= MOST_WAKERS;
        let all = if is_full { std::mem::take(&mut parts.for_room) } else { VecDeque::new() };
        parts.for_room.push_back(waker.clone());
        drop(parts);
        all.into_iter().for_each(Waker::wake);
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // Nothing panics while it is held.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    /// Takes those that may go on. Once nothing waits, no part will leave that could wake the others: then it is all of them.
    fn next_for_room(&mut self, nothing_waits: bool) -> VecDeque<Waker> {
        if nothing_waits || self.for_room.is_empty() {
            return std::mem::take(&mut self.for_room);
        }
        let next = if self.bytes < most::BYTES { WOKEN.min(self.for_room.len()) } else { 0 };
        self.for_room.drain(..next).collect()
    }

    fn clock(&mut self, answer: u32) -> Option<&mut Clock> {
        self.clocks.iter_mut().find(|clock| clock.answer == answer)
    }

    fn end(&mut self, answer: u32, now: impl FnOnce() -> Instant) {
        match self.clock(answer) {
            Some(clock) if clock.parts > 1 => {
                clock.parts -= 1;
                clock.since = now();
            }
            _ => self.clocks.retain(|clock| clock.answer != answer),
        }
    }
}

/// Bytes that answers hold on all connections of one worker.
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
    pub(super) fn hand_over(self: &Arc<Self>, bytes: Bytes, answer: u32, kept: usize) -> Part {
        if bytes.is_empty() {
            return Part::free(bytes);
        }
        let length = bytes.len();
        let cost = length + STREAM + kept;
        self.worker.unread.add(cost);
        self.waiting.begin(answer, length, Instant::now());
        Part { bytes, held: Some(Held { connection: Arc::clone(self), answer, length, cost }) }
    }

    /// Ready while more of an answer may be handed over. Otherwise the task is woken when there may be.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.waiting.count() == 0 {
            return Poll::Ready(());
        }
        let is_full = self.waiting.bytes() >= most::BYTES || self.worker.unread.is_too_much();
        if !is_full {
            return Poll::Ready(());
        }
        self.waiting.wait_for_room(cx.waker());
        Poll::Pending
    }

    /// Whether more answers wait for their reader than the connection may have. To be asked at the end of a turn, when
    /// everything has left for which there is room.
    /// Answers that wait for the socket are not too many as long as the client reads: meanwhile no more requests are read.
    pub(super) fn waits_too_much(&self) -> bool {
        self.has_too_many_waiting() && self.pulse.blocked_since().is_none()
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
    /// Its bytes at first.
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
        if self.bytes.is_empty() {
            self.held = None;
        } else if let Some(held) = self.held.as_ref().filter(|_| count > 0) {
            held.connection.waiting.moves(held.answer, Instant::now());
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
        waiting.moves(1, after(5));
        assert_eq!(waiting.oldest(), Some(after(2)), "the progress of one answer saves no other");
        waiting.end(2, 20, || after(6));
        assert_eq!((waiting.oldest(), waiting.bytes()), (Some(after(5)), 10));
        waiting.end(1, 10, || after(7));
        assert_eq!((waiting.oldest(), waiting.bytes(), waiting.count()), (None, 0, 0));
    }

    #[test]
    fn parts_of_one_answer_have_one_clock() {
        let (waiting, start) = (Waiting::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        waiting.begin(1, 10, after(1));
        waiting.begin(1, 10, after(2));
        waiting.begin(2, 10, after(50));
        assert_eq!(waiting.oldest(), Some(after(1)), "one more part is no progress");
        waiting.moves(1, after(3));
        assert_eq!(waiting.oldest(), Some(after(3)), "the second part waits behind the first");
        waiting.end(1, 10, || after(4));
        assert_eq!(waiting.oldest(), Some(after(4)), "the end of a part is progress");
        waiting.end(1, 10, || after(5));
        assert_eq!((waiting.oldest(), waiting.count()), (Some(after(50)), 1));
    }

    #[test]
    fn tasks_that_wait_for_room_are_woken_and_stay_few() {
        struct Counted(AtomicUsize);
        impl std::task::Wake for Counted {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let waiting = Waiting::default();
        waiting.begin(1, 1, Instant::now());
        let wakers: Vec<_> = (0..=MOST_WAKERS).map(|_| Arc::new(Counted(0.into()))).collect();
        for waker in &wakers {
            for _ in 0..2 {
                waiting.wait_for_room(&Arc::clone(waker).into());
            }
        }
        assert_eq!(waiting.parts().for_room.len(), 1, "all but the last were woken to make room");
        waiting.end(1, 1, Instant::now);
        assert!(wakers.iter().all(|waker| waker.0.load(Ordering::Relaxed) == 1));
        assert!(waiting.parts().for_room.is_empty());
    }

    struct Silent;

    impl std::task::Wake for Silent {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn few_are_woken_while_others_wait_and_all_before_nobody_would_wake_them() {
        let waiting = Waiting::default();
        let waits = || waiting.parts().for_room.len();
        for (answer, bytes) in [(1, most::BYTES), (2, 1), (3, 1), (4, 1)] {
            waiting.begin(answer, bytes, Instant::now());
        }
        let wakers: Vec<Waker> = (0..10).map(|_| Waker::from(Arc::new(Silent))).collect();
        wakers.iter().for_each(|waker| waiting.wait_for_room(waker));
        waiting.end(2, 1, Instant::now);
        assert_eq!(waits(), 10, "there is no room yet");
        waiting.end(1, most::BYTES, Instant::now);
        assert_eq!(waits(), 10 - WOKEN);
        waiting.end(3, 1, Instant::now);
        waiting.wait_for_room(&wakers[0]);
        assert_eq!(waits(), 10 - 2 * WOKEN + 1);
        waiting.end(4, 1, Instant::now);
        assert_eq!(waits(), 0, "nothing waits any more");
    }
}
