//! Telemetry: counters, audit records, request ids, traces, the log of the process.
//!
//! Each worker counts in memory of its own; the counts are added up when they are read. Lines leave the data path through
//! bounded channels: a line that does not fit is dropped and counted, and no request waits.

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
pub use audit::{Audit, Destination, Record, RecordSettings, RecordedIdentity, RequestTimes, shortened};
pub use history::{History, Sample, Times, Totals};
pub use ids::{RequestId, RequestIds};
pub use latency::{BOUNDS as BUCKET_BOUNDS, Distribution, Histogram};
pub use lines::Dropped;
pub use log::{Format, Log};
pub use refusals::{Chain, Refusals, Refused, RequestSummary, kept_chain, kept_method, kept_name};
pub use share::Share;
pub use traces::{Batch, Outbox, Trace, Tracer};
pub use trials::{ByRule, DifferenceRecord, PolicyDecision, RuleCount, Trials};

/// The decision about a request: forwarded, or refused for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request was permitted, admitted and answered by the backend.
    Forwarded,
    /// The request was answered by Sidegate itself.
    Refused(Reason),
}

impl Decision {
    /// All decisions.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Forwarded).chain(Reason::ALL.into_iter().map(Self::Refused))
    }

    /// The value of the label `outcome` in metrics, and of `decision` in audit records.
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

    /// The value of the label `reason`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forwarded => "permitted",
            Self::Refused(reason) => reason.row().reason,
        }
    }

    /// The value of `done` in audit records.
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

/// The end of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A full handshake.
    Full,
    /// A handshake resumed from a ticket.
    Resumed,
    /// A failure: a protocol violation or a failed proof of possession.
    Failed,
    /// The handshake took too long.
    TimedOut,
    /// Plain HTTP came in place of a handshake.
    PlainHttp,
    /// The connection was closed for a newer one, or because the process ends.
    GaveWay,
}

impl Handshake {
    /// All results.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Resumed, Self::Failed, Self::TimedOut, Self::PlainHttp, Self::GaveWay];

    /// The value of the label `result`.
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

/// A request at its beginning, for its trace.
#[derive(Debug)]
pub struct TraceStart<'a> {
    /// The time at which the request came, by the civil clock.
    pub time: Timestamp,
    /// The same instant by the monotonic clock.
    pub started: Instant,
    /// The request id.
    pub id: RequestId,
    /// The method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a str,
    /// The headers, which may name the trace that the request belongs to.
    pub headers: &'a HeaderMap,
    /// The peer.
    pub source: SocketAddr,
}

/// The end of a request, for its trace.
#[derive(Clone, Copy, Debug)]
pub struct TraceEnd {
    /// The decision of the policy.
    pub decision: Decision,
    /// The decision as it was carried out.
    pub done: Decision,
    /// The status of the answer.
    pub status: u16,
    /// The instants at which the exchange with the backend began and its answer's headers came.
    pub asked: Option<(Instant, Instant)>,
}

/// The handshake of a connection.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeTimes {
    /// The start of the handshake.
    pub began: Instant,
    /// The end of the handshake.
    pub ended: Instant,
    /// The session was resumed.
    pub resumed: bool,
}

/// All results of exchanges with the backend, with the value of the label `result` for each.
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

/// Number of decisions that are counted: forwarded, and each reason.
pub const DECISIONS: usize = 1 + Reason::ALL.len();

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct Counters {
    decisions: [AtomicU64; DECISIONS],
    backend: [AtomicU64; 7],
    handshakes: [AtomicU64; 6],
    /// Time that Sidegate added to requests that the backend answered.
    pub added: Histogram,
    /// Time that the backend took for the headers of its answers.
    pub waited: Histogram,
}

impl Counters {
    /// Counts a decision.
    pub fn decided(&self, decision: Decision) {
        count(&self.decisions, decision.index());
    }

    /// Counts an exchange with the backend, by its fault if it had one.
    pub fn asked_backend(&self, fault: Option<BackendFault>) {
        count(&self.backend, backend_index(fault));
    }

    /// Counts a handshake.
    pub fn count_handshake(&self, result: Handshake) {
        count(&self.handshakes, result as usize);
    }

    /// Number of these decisions.
    pub fn decisions(&self, decision: Decision) -> u64 {
        read(&self.decisions, decision.index())
    }

    /// Number of exchanges with the backend with this result.
    pub fn backend(&self, fault: Option<BackendFault>) -> u64 {
        read(&self.backend, backend_index(fault))
    }

    /// Number of handshakes with this result.
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
