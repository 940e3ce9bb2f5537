//! The activity of a connection: busy, reading the head of a request, or idle, and since when.
//!
//! hyper's own header timeout runs between requests too, where silence is allowed for longer. Reads and answers are therefore
//! noted here, and looked at only when a timer says that the connection may have been silent for too long.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::atomic_instant::AtomicInstant;

/// The activity of one connection. Only the connection's own tasks write it, all on one thread.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    /// Requests that are being answered.
    busy: AtomicU32,
    /// Requests that ever began; wraps around.
    requests: AtomicU32,
    /// Requests of HTTP/2 that were accepted; wraps around.
    accepted: AtomicU32,
    /// The end of the last answer; not set before the first.
    idle_since: AtomicInstant,
    /// The last instant at which the socket took something and had no room for the rest; not set while nothing waits for the
    /// socket.
    blocked_since: AtomicInstant,
    /// The first byte of a head that is not complete.
    head_since: AtomicInstant,
    /// The bytes read of HTTP/1.1 end in the middle of a message, perhaps of a body that is not wanted.
    amid_message: AtomicBool,
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request is being answered.
    Busy,
    /// The head of a request has begun, at that instant, and is not complete.
    ReadingHead(Instant),
    /// No request has begun since the connection was accepted, at that instant.
    New(Instant),
    /// The last answer ended at that instant.
    Idle(Instant),
}

impl Activity {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            busy: 0.into(),
            requests: 0.into(),
            accepted: 0.into(),
            idle_since: AtomicInstant::unset(),
            blocked_since: AtomicInstant::unset(),
            head_since: AtomicInstant::unset(),
            amid_message: false.into(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.in_progress() > 0 {
            return Phase::Busy;
        }
        match (self.head_since.get(self.start), self.idle_since.get(self.start)) {
            (Some(since), _) => Phase::ReadingHead(since),
            (None, Some(since)) => Phase::Idle(since),
            (None, None) => Phase::New(self.start),
        }
    }

    /// `true` if no request has begun for `period`, every request was read to its end, and every answer is written out.
    pub(crate) fn is_quiet_for(&self, period: Duration, now: Instant) -> bool {
        let is_quiet = match self.phase() {
            Phase::New(since) | Phase::Idle(since) => since + period <= now,
            Phase::Busy | Phase::ReadingHead(_) => false,
        };
        is_quiet && !self.amid_message.load(Ordering::Relaxed) && !self.is_blocked()
    }

    /// The instant since which the socket has had no room for what is written to it.
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since.get(self.start)
    }

    /// `true` while the socket has no room for what is written to it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked_since.is_set()
    }

    /// Notes the result of a write. Only bytes that the socket takes start the clock anew: TLS takes some even when the
    /// socket does not.
    pub(crate) fn note_write(&self, is_full: bool, has_moved: bool) {
        let was_blocked = self.is_blocked();
        if is_full && (has_moved || !was_blocked) {
            self.blocked_since.set_now(self.start);
        } else if !is_full && was_blocked {
            self.blocked_since.clear();
        }
    }

    /// Starts the time of idleness anew: the client has just read the end of the last answer.
    pub(crate) fn restart_idle(&self) {
        if self.idle_since.is_set() {
            self.idle_since.set_now(self.start);
        }
    }

    /// `true` if no request has begun yet, whatever was read of its head.
    pub(crate) fn is_new(&self) -> bool {
        self.in_progress() == 0 && !self.idle_since.is_set()
    }

    /// `true` if no request is being answered.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.in_progress() == 0
    }

    /// Number of requests that ever began.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Notes that HTTP/2 has handed over a request, or that its own answer was replaced.
    pub(crate) fn note_accepted(&self) {
        let accepted = self.accepted.load(Ordering::Relaxed).wrapping_add(1);
        self.accepted.store(accepted, Ordering::Relaxed);
    }

    /// Number of requests that HTTP/2 has handed over; wraps around.
    pub(crate) fn accepted(&self) -> u32 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Number of requests that are being answered.
    pub(crate) fn in_progress(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Notes that bytes came in. While a request is answered they belong to its body, or wait.
    pub(crate) fn note_read(&self) {
        if self.is_at_rest() && !self.head_since.is_set() {
            self.head_since.set_now(self.start);
        }
    }

    /// `true` if what was read so far ends in the middle of a message.
    pub(crate) fn is_amid_message(&self) -> bool {
        self.amid_message.load(Ordering::Relaxed)
    }

    /// Notes whether what was read so far ends in the middle of a message.
    pub(crate) fn set_amid_message(&self, amid: bool) {
        self.amid_message.store(amid, Ordering::Relaxed);
    }

    /// Notes that the head of a request is complete. Returns the number of the request on its connection.
    pub(super) fn begin_request(&self) -> u32 {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.head_since.clear();
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes the end of an answer. Returns `true` if no other request is being answered.
    pub(super) fn end_request(&self) -> bool {
        self.idle_since.set_now(self.start);
        self.busy.fetch_sub(1, Ordering::Relaxed) == 1
    }
}
