//! The end of an answer: the audit record is written and the trace is closed.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::forward::Times;
use crate::policy::{Difference, Rule};
use crate::proxy::client::Client;
use crate::proxy::session::{RequestGuard, Session};
use crate::refusal::Reason;
use crate::telemetry::{Audit, Decision, Record, RequestId, RequestTimes, Trace, TraceEnd};

/// The end of an answer, or of the protocol that it switched to. Dropping it writes the record.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The audit record, if records are kept.
    pub(super) record: Option<Box<PartialRecord>>,
    /// The trace, if the request is traced.
    pub(super) trace: Option<Box<Trace>>,
    pub(super) times: Option<Times>,
    /// The decision as it was carried out.
    pub(super) done: Decision,
    /// The policy denies the request, and a trial let it pass.
    pub(super) on_trial: bool,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) session: Arc<Session>,
    pub(super) request: RequestGuard,
}

/// The parts of an audit record that are known before its end.
#[derive(Debug)]
pub(super) struct PartialRecord {
    pub(super) time: Timestamp,
    pub(super) started: Instant,
    pub(super) request_id: RequestId,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) client: Option<Arc<Client>>,
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) difference: Option<Difference>,
    pub(super) took: Option<RequestTimes>,
}

/// The decision about a request that the policy denies, where the policy is enforced.
pub(super) const DENIED: Decision = Decision::Refused(Reason::InsufficientPermissions);

impl Ending {
    /// The request that ends with the answer.
    pub(crate) const fn request(&self) -> &RequestGuard {
        &self.request
    }

    /// Adds bytes that were passed on to the client.
    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn decision(&self) -> Decision {
        if self.on_trial { DENIED } else { self.done }
    }

    /// `true` if the record is written. A sample is kept of the requests that were allowed without any difference; everything
    /// else is kept.
    fn is_kept(&self, record: &PartialRecord, audit: &Audit) -> bool {
        self.done != Decision::Forwarded
            || self.on_trial
            || record.difference.is_some()
            || audit.keeps(&record.request_id)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.take() {
            trace.end(TraceEnd {
                decision: self.decision(),
                done: self.done,
                status: self.status,
                asked: self.times.map(|times| (times.asked, times.answered)),
            });
        }
        if let (Some(record), Some(audit)) = (&self.record, &self.session.services.audit)
            && self.is_kept(record, audit)
        {
            audit.write(&Record {
                time: record.time,
                request_id: record.request_id.as_str(),
                source: self.session.peer.address,
                client: record.client.as_deref().map(|client| client.name.as_str()),
                identity: record.client.as_deref().and_then(|client| client.recorded_identity.as_ref()),
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
