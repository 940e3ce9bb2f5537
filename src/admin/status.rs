//! The status of the running server, in numbers: `/status`, and the source of most metrics.

use jiff::Timestamp;
use serde::Serialize;

use crate::forward::Condition;
use crate::identity::Expiry;
use crate::policy::Mode;
use crate::reload::Summary;
use crate::telemetry::{DifferenceRecord, RuleCount};

/// The status of the running server: `/status`, and the source of most metrics.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    /// The version of the program.
    pub version: &'static str,
    /// The commit that it was built from.
    pub commit: &'static str,
    /// The readiness probe answers yes.
    pub ready: bool,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The generation of the snapshot in force: the number of snapshots so far.
    pub generation: u64,
    /// The treatment of denied requests: `enforce` or `audit`.
    pub mode: Mode,
    /// The shadow policy, if one is configured.
    pub shadow: Option<ShadowStatus>,
    /// Number of worker threads.
    pub workers: usize,
    /// Connection slots in use.
    pub slots_used: usize,
    /// Connection slots in total.
    pub slots_limit: usize,
    /// Connections without a slot.
    pub lobby: usize,
    /// Connections in their TLS handshake.
    pub handshakes: usize,
    /// Requests that the backend is working on.
    pub in_flight: usize,
    /// Most requests that the backend may work on.
    pub in_flight_limit: usize,
    /// Requests that wait for a place in flight.
    pub queued: usize,
    /// The condition of the backend: untried, up, failing, down or unwell.
    pub backend: Condition,
    /// Idle connections to the backend.
    pub backend_idle_connections: usize,
    /// Connections closed before TLS because their source exceeded its rate.
    pub turned_away: u64,
    /// Connections that could not be accepted.
    pub accept_errors: u64,
    /// Log lines that were dropped.
    pub log_dropped: u64,
    /// Audit records that were dropped.
    pub audit_dropped: u64,
    /// Spans that were dropped.
    pub spans_dropped: u64,
    /// The outcomes of reloads.
    pub reload: Summary,
    /// Certificates and CRLs that expire, the earliest first.
    pub expires: Vec<Expires>,
}

/// A shadow policy, and its differences from the policy in force.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShadowStatus {
    /// The path in the configuration.
    pub policies: String,
    /// Number of mistakes in the files read last; with any, the earlier policy is still compared.
    pub problems: usize,
    /// The time since which these two policies are compared; `None` if they never were.
    pub since: Option<Timestamp>,
    /// The differences since then, by the rule that makes the difference.
    pub differences: Vec<RuleCount>,
    /// The last differences, the newest first.
    pub recent: Vec<DifferenceRecord>,
}

/// A certificate or CRL that expires.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Expires {
    /// `server`, `ca` or `crl`.
    pub kind: &'static str,
    /// The file.
    pub file: String,
    /// The subject; of a CRL, the issuer.
    pub name: String,
    /// The end of validity.
    pub until: Timestamp,
    /// Seconds until then; negative afterwards.
    pub seconds_left: i64,
}

impl Expires {
    /// Returns the expiry as seen at `now`.
    pub(super) fn of(expiry: Expiry, now: Timestamp) -> Self {
        let seconds_left = expiry.until.duration_since(now).as_secs();
        let Expiry { kind, file, name, until, .. } = expiry;
        Self { kind: kind.name(), file, name, until, seconds_left }
    }
}
