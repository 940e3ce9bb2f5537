//! The status of the running server, in numbers: `/status`, and the source of most metrics.

use jiff::Timestamp;
use serde::Serialize;

use crate::identity::Expiry;
use crate::reload::Summary;
use crate::telemetry::{Counted, Differed};

/// The status of the running server: `/status`, and the source of most metrics.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of the program.
    pub version: &'static str,
    /// The commit that it was built from.
    pub commit: &'static str,
    /// Whether the readiness probe answers yes.
    pub ready: bool,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Counts the snapshots of policy and trust that were put in force.
    pub generation: u64,
    /// What becomes of what the policy denies: `enforce` or `audit`.
    pub mode: &'static str,
    /// The policy that is tried beside it, if one is.
    pub shadow: Option<ShadowStatus>,
    /// Worker threads.
    pub workers: usize,
    /// Connection slots that are taken.
    pub slots_used: usize,
    /// Connection slots that there are.
    pub slots_limit: usize,
    /// Connections without a slot.
    pub lobby: usize,
    /// Those of them that are in their TLS handshake.
    pub handshakes: usize,
    /// Requests that the backend is working on.
    pub in_flight: usize,
    /// How many there may be.
    pub in_flight_limit: usize,
    /// Requests that wait for a place among them.
    pub queued: usize,
    /// How the backend is: untried, up, failing, down or unwell.
    pub backend: &'static str,
    /// Idle connections to the backend.
    pub backend_idle_connections: usize,
    /// Connections closed before TLS because their source came too often.
    pub turned_away: u64,
    /// Connections that could not be accepted.
    pub accept_errors: u64,
    /// Log lines that were dropped.
    pub log_dropped: u64,
    /// Audit records that were dropped.
    pub audit_dropped: u64,
    /// Spans that were dropped.
    pub spans_dropped: u64,
    /// What came of reloads.
    pub reload: Summary,
    /// What expires, the first first.
    pub expires: Vec<Expires>,
}

/// A policy that is tried beside the one in force, and what that has shown.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowStatus {
    /// How the configuration names it.
    pub policies: String,
    /// Mistakes in what was read last; with any, what was judged before still is.
    pub problems: usize,
    /// Since when it is judged beside this very policy; nothing where it never could be.
    pub since: Option<Timestamp>,
    /// Where the two differed since then, by the rule that makes the difference.
    pub differences: Vec<Counted>,
    /// The last of these, the newest first.
    pub recent: Vec<Differed>,
}

/// One thing that expires, and when.
#[derive(Clone, Debug, Serialize)]
pub struct Expires {
    /// `server`, `ca` or `crl`.
    pub kind: &'static str,
    /// The file that it came from.
    pub file: String,
    /// Its subject; of a CRL, its issuer.
    pub name: String,
    /// Until when it is valid.
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
