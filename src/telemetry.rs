//! Telemetry: counters, audit records, request ids, traces, the log of the process.
//!
//! Each worker counts in memory of its own; the counts are added up when they are read. Lines leave the data path through
//! bounded channels: a line that does not fit is dropped and counted, and no request waits.

mod audit;
mod handshakes;
mod history;
mod ids;
mod latency;
mod lines;
mod log;
mod refusals;
mod share;
mod throttle;
mod traces;
mod trials;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, Method};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::identity::Flaw;
use crate::refusal::{BackendFault, Fault, Reason};

pub use audit::{
    Audit, Destination, Record, RecordSettings, RecordedIdentity, RecordedPresented, RequestTimes, shortened,
};
pub use handshakes::{FailedHandshakes, Handshake};
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
    /// The request was permitted, and admitted unless its client left before.
    Forwarded,
    /// The request was answered by Sidegate itself, for this reason and by the fault of that side.
    Refused(Reason, Fault),
}

impl Decision {
    /// All decisions.
    pub fn all() -> impl Iterator<Item = Self> {
        let usual = Reason::ALL.into_iter().map(|reason| Self::Refused(reason, reason.fault()));
        let unusual = UNUSUAL.into_iter().map(|(reason, fault)| Self::Refused(reason, fault));
        std::iter::once(Self::Forwarded).chain(usual).chain(unusual)
    }

    /// The side at fault; `None` for a request that was forwarded.
    #[must_use]
    pub const fn fault(self) -> Option<Fault> {
        match self {
            Self::Forwarded => None,
            Self::Refused(_, fault) => Some(fault),
        }
    }

    /// The value of the label `outcome` in metrics, and of `decision` in audit records.
    #[must_use]
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::Forwarded => "allowed",
            Self::Refused(Reason::NotAuthenticated | Reason::InvalidCertificate, _) => "unauthenticated",
            Self::Refused(Reason::AmbiguousRequest | Reason::HeadersTooLarge, _) => "ambiguous",
            Self::Refused(Reason::RequestTimeout, _) => "incomplete",
            Self::Refused(Reason::InsufficientPermissions, _) => "denied",
            Self::Refused(..) => "unavailable",
        }
    }

    /// The value of the label `reason`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forwarded => "permitted",
            Self::Refused(reason, _) => reason.row().reason,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Forwarded => 0,
            Self::Refused(reason, fault) => {
                let unusual = UNUSUAL.iter().position(|unusual| *unusual == (reason, fault));
                unusual.map_or(1 + reason as usize, |number| 1 + Reason::ALL.len() + number)
            }
        }
    }
}

/// Refusals by the fault of another side than is usual for their reason ([`Refusal::fault`](crate::refusal::Refusal::fault)).
const UNUSUAL: [(Reason, Fault); 3] = [
    (Reason::InvalidCertificate, Fault::Sidegate),
    (Reason::Overloaded, Fault::Backend),
    (Reason::BackendUnavailable, Fault::Sidegate),
];

/// The way in which an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The backend's answer was passed on to its end.
    Forwarded,
    /// The client left before the end of the answer: before it began, or in the middle.
    ClientLeft,
    /// The backend's answer broke off.
    BrokenOff,
    /// The permission was withdrawn in the middle of the answer.
    Withdrawn,
    /// The client read nothing of the answer for too long.
    Unread,
    /// Sidegate closed the connection: the time for requests in progress was over when it stopped, or the connection gave
    /// way to another.
    Stopped,
    /// The request was answered by Sidegate itself.
    Refused(Reason, Fault),
}

impl Done {
    /// All ways in which the answer to a forwarded request does not come to its end.
    pub const UNFINISHED: [Self; 5] =
        [Self::ClientLeft, Self::BrokenOff, Self::Withdrawn, Self::Unread, Self::Stopped];

    /// All ways.
    pub fn all() -> impl Iterator<Item = Self> {
        let refused = Decision::all().filter_map(|decision| match decision {
            Decision::Forwarded => None,
            Decision::Refused(reason, fault) => Some(Self::Refused(reason, fault)),
        });
        std::iter::once(Self::Forwarded).chain(Self::UNFINISHED).chain(refused)
    }

    /// The value of `done` in audit records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::ClientLeft => "client_left",
            Self::BrokenOff => "broken_off",
            Self::Withdrawn => "withdrawn",
            Self::Unread => "unread",
            Self::Stopped => "stopped",
            Self::Refused(reason, _) => reason.row().reason,
        }
    }

    /// The side at fault; `None` if the answer came to its end.
    #[must_use]
    pub const fn fault(self) -> Option<Fault> {
        match self {
            Self::Forwarded => None,
            Self::ClientLeft | Self::Unread => Some(Fault::Client),
            Self::BrokenOff => Some(Fault::Backend),
            Self::Withdrawn => Some(Fault::Policy),
            Self::Stopped => Some(Fault::Sidegate),
            Self::Refused(_, fault) => Some(fault),
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
    /// The way in which the exchange ended.
    pub done: Done,
    /// The status of the answer; `None` if the client left before there was one.
    pub status: Option<u16>,
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

/// The result of an exchange with the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendResult {
    /// The headers of an answer came.
    Answered,
    /// No answer came, for this reason.
    Fault(BackendFault),
    /// The client left before the answer. The backend may have carried the request out.
    ClientLeft,
    /// The client's body was malformed, or stopped coming, before there was an answer.
    RequestBroken,
    /// The permission was withdrawn before there was an answer.
    Withdrawn,
}

impl BackendResult {
    /// All values of the label `result`.
    pub const NAMES: [&str; 11] = [
        "answered",
        "unreachable",
        "connect_timeout",
        "insecure",
        "terminated",
        "not_http",
        "response_timeout",
        "own_resources",
        "client_left",
        "request_broken",
        "withdrawn",
    ];

    const fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Fault(BackendFault::Unreachable) => 1,
            Self::Fault(BackendFault::ConnectTimeout) => 2,
            Self::Fault(BackendFault::Insecure) => 3,
            Self::Fault(BackendFault::Terminated) => 4,
            Self::Fault(BackendFault::NotHttp(_)) => 5,
            Self::Fault(BackendFault::ResponseTimeout) => 6,
            Self::Fault(BackendFault::OwnResources) => 7,
            Self::ClientLeft => 8,
            Self::RequestBroken => 9,
            Self::Withdrawn => 10,
        }
    }
}

/// Number of decisions that are counted: forwarded, and each reason with each side that may be at fault.
pub const DECISIONS: usize = 1 + Reason::ALL.len() + UNUSUAL.len();

/// Number of ways in which an answer does not come to its end.
pub const UNFINISHED: usize = Done::UNFINISHED.len();

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct Counters {
    decisions: [AtomicU64; DECISIONS],
    backend: [AtomicU64; BackendResult::NAMES.len()],
    unfinished: [AtomicU64; UNFINISHED],
    handshakes: [AtomicU64; Handshake::COUNT],
    /// Requests that were refused for an invalid certificate, by its flaw.
    flaws: [AtomicU64; Flaw::NAMES.len()],
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

    /// Counts the result of an exchange with the backend.
    pub fn asked_backend(&self, result: BackendResult) {
        count(&self.backend, result.index());
    }

    /// Counts the end of an exchange, if its answer did not come to its own end.
    pub fn ended(&self, done: Done) {
        if let Some(index) = Done::UNFINISHED.iter().position(|unfinished| *unfinished == done) {
            count(&self.unfinished, index);
        }
    }

    /// Counts a handshake.
    pub fn count_handshake(&self, result: Handshake) {
        count(&self.handshakes, result.index());
    }

    /// Number of these decisions.
    pub fn decisions(&self, decision: Decision) -> u64 {
        read(&self.decisions, decision.index())
    }

    /// Number of exchanges with the backend by result, in the order of [`BackendResult::NAMES`].
    pub fn backend(&self) -> [u64; BackendResult::NAMES.len()] {
        std::array::from_fn(|index| read(&self.backend, index))
    }

    /// Number of answers that did not come to their end, in the order of [`Done::UNFINISHED`].
    pub fn unfinished(&self) -> [u64; UNFINISHED] {
        std::array::from_fn(|index| read(&self.unfinished, index))
    }

    /// Number of handshakes with this result.
    pub fn handshakes(&self, result: Handshake) -> u64 {
        read(&self.handshakes, result.index())
    }

    /// Counts a request that was refused for the flaw of this name of its client's certificate.
    pub fn count_flaw(&self, flaw: &str) {
        if let Some(index) = Flaw::NAMES.iter().position(|name| *name == flaw) {
            count(&self.flaws, index);
        }
    }

    /// Numbers of requests that were refused for an invalid certificate, in the order of [`Flaw::NAMES`].
    pub fn flaws(&self) -> [u64; Flaw::NAMES.len()] {
        std::array::from_fn(|index| read(&self.flaws, index))
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
    use crate::refusal::ResponseFlaw;

    fn results() -> impl Iterator<Item = BackendResult> {
        let faults = [
            BackendFault::Unreachable,
            BackendFault::ConnectTimeout,
            BackendFault::Insecure,
            BackendFault::Terminated,
            BackendFault::NotHttp(ResponseFlaw::Other),
            BackendFault::ResponseTimeout,
            BackendFault::OwnResources,
        ];
        let others = [
            BackendResult::Answered,
            BackendResult::ClientLeft,
            BackendResult::RequestBroken,
            BackendResult::Withdrawn,
        ];
        faults.into_iter().map(BackendResult::Fault).chain(others)
    }

    #[test]
    fn everything_that_happens_has_a_counter_of_its_own() {
        let counters = Counters::default();
        for decision in Decision::all() {
            counters.decided(decision);
        }
        for result in results() {
            counters.asked_backend(result);
        }
        Done::all().for_each(|done| counters.ended(done));
        for result in Handshake::all() {
            counters.count_handshake(result);
        }
        assert!(Decision::all().all(|decision| counters.decisions(decision) == 1));
        assert_eq!(counters.backend(), [1; BackendResult::NAMES.len()]);
        assert_eq!(counters.unfinished(), [1; UNFINISHED]);
        assert!(Handshake::all().all(|result| counters.handshakes(result) == 1));
        counters.count_flaw("expired");
        let flaws = Flaw::NAMES.into_iter().zip(counters.flaws());
        assert_eq!(flaws.filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [("expired", 1)]);
    }
}
