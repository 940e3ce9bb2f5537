//! The end of an answer: what is known by then of its request goes where it is kept.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::client::Client;
use crate::connection::{Busy, Connection};
use crate::forward::Times;
use crate::policy::{Difference, Rule};
use crate::refusal::Reason;
use crate::telemetry::{Audit, Decision, Ended, Record, RequestId, Took, Trace};

/// What happens at the end of an answer, or of what it began.
#[derive(Debug)]
pub struct Ending {
    /// Written at the end, if records are kept.
    pub(super) record: Option<Box<Recorded>>,
    /// Told at the end, if it is traced.
    pub(super) trace: Option<Box<Trace>>,
    pub(super) times: Option<Times>,
    /// What was done.
    pub(super) done: Decision,
    /// Whether the policy denies it.
    pub(super) on_trial: bool,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) connection: Arc<Connection>,
    pub(super) busy: Busy,
}

/// The parts of an audit record that are known before its end.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) time: Timestamp,
    pub(super) started: Instant,
    pub(super) request_id: RequestId,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) client: Option<Arc<Client>>,
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) difference: Option<Difference>,
    pub(super) took: Option<Took>,
}

/// What a policy's no comes to where it is enforced.
pub(super) const DENIED: Decision = Decision::Refused(Reason::InsufficientPermissions);

impl Ending {
    /// What ends with it.
    pub const fn busy(&self) -> &Busy {
        &self.busy
    }

    /// So many bytes moved.
    pub fn moved(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn decision(&self) -> Decision {
        if self.on_trial { DENIED } else { self.done }
    }

    /// Of what was allowed, and would be by whatever else judges it, a share is kept; of everything else all.
    fn is_kept(&self, record: &Recorded, audit: &Audit) -> bool {
        self.done != Decision::Forwarded
            || self.on_trial
            || record.difference.is_some()
            || audit.keeps(&record.request_id)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.take() {
            trace.end(Ended {
                decision: self.decision(),
                done: self.done,
                status: self.status,
                asked: self.times.map(|times| (times.asked, times.answered)),
            });
        }
        if let (Some(record), Some(audit)) = (&self.record, &self.connection.worker.audit)
            && self.is_kept(record, audit)
        {
            audit.write(&Record {
                time: record.time,
                request_id: record.request_id.as_str(),
                source: self.connection.peer.address,
                client: record.client.as_deref().map(|client| client.name.as_str()),
                identity: record.client.as_deref().and_then(|client| client.told.as_ref()),
                grants: record.client.as_deref().map(|client| client.grants.as_slice()).unwrap_or_default(),
                method: record.method.as_str(),
                path: &record.path,
                query: record.query.as_deref(),
                decision: self.decision(),
                done: self.done,
                rule: record.rule.as_deref(),
                difference: record.difference.as_ref(),
                status: self.status,
                bytes: self.bytes,
                duration: record.started.elapsed(),
                took: record.took,
            });
        }
    }
}
