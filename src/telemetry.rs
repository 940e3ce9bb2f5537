//! What can be seen from outside: counters, audit records, request ids, the process's own log.
//!
//! Each worker counts for itself, in memory that no other worker writes; the counts are added up when somebody asks.
//! Lines leave the data path through bounded channels: what does not fit is dropped and counted, nothing waits.

mod audit;
mod history;
mod ids;
mod latency;
mod lines;
mod log;
mod refusals;
mod share;
mod traces;
mod trials;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, Method};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::refusal::{BackendFault, Reason};

use audit::cut;
pub use audit::{Audit, Destination, Keeping, Record, Told, Took, shortened};
pub use history::{History, Sample, Times, Totals};
pub use ids::{RequestId, RequestIds};
pub use latency::{BOUNDS as BUCKET_BOUNDS, Distribution, Histogram};
pub use lines::Dropped;
pub use log::{Format, Log};
pub use refusals::{Chain, Refusals, Refused, RequestSummary, kept_chain, kept_method, kept_name};
pub use share::Share;
pub use traces::{Batch, Outbox, Trace, Tracer};
pub use trials::{ByRule, Counted, Differed, Opinion, Trials};

/// What was decided about a request: it was forwarded, or refused for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Permitted, admitted and answered by the backend.
    Forwarded,
    /// Answered by Sidegate itself.
    Refused(Reason),
}

impl Decision {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Forwarded).chain(Reason::ALL.into_iter().map(Self::Refused))
    }

    /// The label `outcome` of metrics, and `decision` of audit records.
    #[must_use]
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::Forwarded => "allowed",
            Self::Refused(Reason::NotAuthenticated | Reason::InvalidCertificate) => "unauthenticated",
            Self::Refused(Reason::AmbiguousRequest | Reason::HeadersTooLarge) => "ambiguous",
            Self::Refused(Reason::InsufficientPermissions) => "denied",
            Self::Refused(_) => "unavailable",
        }
    }

    /// The label `reason`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forwarded => "permitted",
            Self::Refused(reason) => reason.row().reason,
        }
    }

    /// What was done, in audit records.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused(reason) => reason.row().reason,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Forwarded => 0,
            Self::Refused(reason) => 1 + reason as usize,
        }
    }
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A full one.
    Full,
    /// Resumed from a ticket.
    Resumed,
    /// It failed: a protocol violation or a failed proof of possession.
    Failed,
    /// It took too long.
    TimedOut,
    /// There was none: plain HTTP.
    PlainHttp,
    /// It was ended for a newer connection, or because the process ends.
    GaveWay,
}

impl Handshake {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Resumed, Self::Failed, Self::TimedOut, Self::PlainHttp, Self::GaveWay];

    /// The label `result`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::PlainHttp => "plain_http",
            Self::GaveWay => "gave_way",
        }
    }
}

/// A request that may be traced.
#[derive(Debug)]
pub struct Begun<'a> {
    /// When it came,
    pub time: Timestamp,
    /// by the clock that never jumps.
    pub started: Instant,
    /// Its id.
    pub id: RequestId,
    /// Its method.
    pub method: &'a Method,
    /// Its path.
    pub path: &'a str,
    /// Its headers, which say whose trace it belongs to.
    pub headers: &'a HeaderMap,
    /// The peer.
    pub source: SocketAddr,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// What was decided.
    pub decision: Decision,
    /// What was done.
    pub done: Decision,
    /// The status that was answered.
    pub status: u16,
    /// When the backend was asked, and when it answered.
    pub asked: Option<(Instant, Instant)>,
}

/// The handshake of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Handshaken {
    /// When it began.
    pub began: Instant,
    /// When it was done.
    pub ended: Instant,
    /// Whether a session was resumed.
    pub resumed: bool,
}

/// All faults, with the label `result` of each.
pub(crate) const BACKEND_RESULTS: [(Option<BackendFault>, &str); 7] = [
    (None, "answered"),
    (Some(BackendFault::Unreachable), "unreachable"),
    (Some(BackendFault::ConnectTimeout), "connect_timeout"),
    (Some(BackendFault::Insecure), "insecure"),
    (Some(BackendFault::Terminated), "terminated"),
    (Some(BackendFault::NotHttp), "not_http"),
    (Some(BackendFault::ResponseTimeout), "response_timeout"),
];

const fn backend_index(fault: Option<BackendFault>) -> usize {
    match fault {
        None => 0,
        Some(BackendFault::Unreachable) => 1,
        Some(BackendFault::ConnectTimeout) => 2,
        Some(BackendFault::Insecure) => 3,
        Some(BackendFault::Terminated) => 4,
        Some(BackendFault::NotHttp) => 5,
        Some(BackendFault::ResponseTimeout) => 6,
    }
}

/// How many decisions there are to count: forwarded, and each reason.
pub const DECISIONS: usize = 1 + Reason::ALL.len();

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct Counters {
    decisions: [AtomicU64; DECISIONS],
    backend: [AtomicU64; 7],
    handshakes: [AtomicU64; 6],
    /// What was added to requests that the backend answered.
    pub added: Histogram,
    /// How long the backend took for the headers of its answers.
    pub waited: Histogram,
}

impl Counters {
    /// A request was decided.
    pub fn decided(&self, decision: Decision) {
        count(&self.decisions, decision.index());
    }

    /// The backend answered, or did not.
    pub fn asked_backend(&self, fault: Option<BackendFault>) {
        count(&self.backend, backend_index(fault));
    }

    /// A handshake ended.
    pub fn count_handshake(&self, result: Handshake) {
        count(&self.handshakes, result as usize);
    }

    /// How often that was decided.
    pub fn decisions(&self, decision: Decision) -> u64 {
        read(&self.decisions, decision.index())
    }

    /// How often the backend did that.
    pub fn backend(&self, fault: Option<BackendFault>) -> u64 {
        read(&self.backend, backend_index(fault))
    }

    /// How many handshakes ended so.
    pub fn handshakes(&self, result: Handshake) -> u64 {
        read(&self.handshakes, result as usize)
    }
}

fn count(counters: &[AtomicU64], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counters: &[AtomicU64], index: usize) -> u64 {
    counters.get(index).map_or(0, |counter| counter.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_happens_has_a_counter_of_its_own() {
        let counters = Counters::default();
        for decision in Decision::all() {
            counters.decided(decision);
        }
        for (fault, _) in BACKEND_RESULTS {
            counters.asked_backend(fault);
        }
        for result in Handshake::ALL {
            counters.count_handshake(result);
        }
        assert!(Decision::all().all(|decision| counters.decisions(decision) == 1));
        assert!(BACKEND_RESULTS.iter().all(|(fault, _)| counters.backend(*fault) == 1));
        assert!(Handshake::ALL.into_iter().all(|result| counters.handshakes(result) == 1));
    }
}
