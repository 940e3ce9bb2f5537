//! The end of an exchange: the decision is counted when it falls, and the audit record is written when the exchange ends,
//! however it ends. A request therefore never passes without a record, not even if its client leaves before the answer.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use tokio::time::Instant;

use super::ReplyBroken;
use crate::forward::Times;
use crate::identity::Unauthenticated;
use crate::policy::{Denied, Difference, Rule};
use crate::proxy::client::Client;
use crate::proxy::session::{RequestGuard, Session};
use crate::refusal::{Fault, Reason, Refusal, ResponseFlaw};
use crate::telemetry::{
    Audit, Decision, Done, Record, RecordedPresented, RequestId, RequestTimes, Trace, TraceEnd,
};

/// The end of an exchange, or of the protocol that it switched to. Dropping it writes the record.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The audit record, if records are kept.
    pub(super) record: Option<Box<PartialRecord>>,
    /// The trace, if the request is traced.
    pub(super) trace: Option<Box<Trace>>,
    /// The instants of the exchange with the backend, once the backend has answered.
    pub(super) times: Option<Times>,
    /// The decision, as it was carried out; `None` until it has fallen.
    decision: Option<Decision>,
    /// The decision if the client leaves before there is one.
    if_left: Decision,
    /// The flaw of the client's certificate, if that is invalid.
    flaw: Option<&'static str>,
    /// The policy's denial. In a trial the request passes all the same.
    pub(super) denied: Option<Denied>,
    /// The way in which the exchange ends if it ended now.
    done: Done,
    /// The status of the answer, once there is one.
    status: Option<u16>,
    bytes: u64,
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
    /// The statements of an invalid certificate about itself.
    pub(super) presented: Option<Arc<RecordedPresented>>,
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) difference: Option<Difference>,
    pub(super) took: Option<RequestTimes>,
    /// The cause for which the backend's answer is not HTTP.
    pub(super) cause: Option<ResponseFlaw>,
}

/// The decision about a request that the policy denies, where the policy is enforced.
const DENIED: Decision = Decision::Refused(Reason::InsufficientPermissions, Fault::Policy);

impl Ending {
    /// Begins with the request.
    pub(super) fn of(session: &Arc<Session>, record: Option<Box<PartialRecord>>) -> Self {
        Self {
            record,
            trace: None,
            times: None,
            decision: None,
            // Only a permitted request waits for anything, but for one whose client is judged again.
            if_left: Decision::Forwarded,
            flaw: None,
            denied: None,
            done: Done::ClientLeft,
            status: None,
            bytes: 0,
            request: RequestGuard::begin(session),
            session: Arc::clone(session),
        }
    }

    /// The request that ends with the answer.
    pub(crate) const fn request(&self) -> &RequestGuard {
        &self.request
    }

    /// Adds bytes that were passed on to the client.
    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts the decision. The first one stands.
    pub(super) fn decide(&mut self, decision: Decision, status: Option<u16>) {
        if self.decision.is_some() {
            return;
        }
        self.decision = Some(decision);
        self.status = status;
        if let Decision::Refused(reason, fault) = decision {
            self.done = Done::Refused(reason, fault);
        }
        let services = &self.session.services;
        services.counters.decided(decision);
        self.flaw.into_iter().for_each(|flaw| services.counters.count_flaw(flaw));
        if decision == DENIED {
            self.denied = None;
        } else if let Some(denied) = &self.denied {
            services.trials.let_pass(denied.rule().map(|rule| &**rule));
        }
    }

    /// Notes the reason why the client is not authenticated, as far as it is known: the client may be judged again.
    pub(super) fn set_unauthenticated(&mut self, because: &Unauthenticated) {
        self.flaw = match because {
            Unauthenticated::Invalid(flaw) => Some(flaw.name()),
            Unauthenticated::NoCertificate => None,
        };
        let refusal = Refusal::Unauthenticated(because.clone());
        self.if_left = Decision::Refused(refusal.reason(), refusal.fault());
        if let Some(record) = &mut self.record {
            record.presented = self.session.peer.summary().presented;
        }
    }

    /// Notes that the client is authenticated after all.
    pub(super) fn set_authenticated(&mut self) {
        if self.flaw.take().is_some() {
            self.if_left = Decision::Forwarded;
            self.record.iter_mut().for_each(|record| record.presented = None);
        }
    }

    /// Notes the way in which the exchange ends if nothing follows.
    pub(super) fn set_done(&mut self, done: Done) {
        self.done = done;
    }

    /// Notes that the answer broke off.
    pub(super) fn set_broken(&mut self, broken: &ReplyBroken) {
        self.done = broken.done();
        if let (Some(flaw), Some(record)) = (broken.flaw(), &mut self.record) {
            record.cause = Some(flaw);
        }
    }

    /// Notes that the answer was passed on to its end. An answer that broke off before stays broken.
    pub(super) fn set_complete(&mut self) {
        if self.done == Done::ClientLeft {
            self.done = Done::Forwarded;
        }
    }

    /// The way in which the exchange ended. A connection that Sidegate has closed, or whose request lost its permission, looks
    /// to an answer like one whose client has left.
    fn done(&self) -> Done {
        match self.done {
            Done::ClientLeft | Done::Forwarded if self.request.is_withdrawn() => Done::Withdrawn,
            Done::ClientLeft => self.session.closed_by_us().unwrap_or(Done::ClientLeft),
            done => done,
        }
    }

    /// `true` if the record is written. A sample is kept of the requests that were allowed, passed on to their end and decided
    /// without any difference; everything else is kept.
    fn is_kept(&self, record: &PartialRecord, done: Done, audit: &Audit) -> bool {
        done != Done::Forwarded
            || self.denied.is_some()
            || record.difference.is_some()
            || audit.keeps(&record.request_id)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // The client left before its request was answered.
        self.decide(self.if_left, None);
        let carried_out = self.decision.unwrap_or(self.if_left);
        let decision = if self.denied.is_some() { DENIED } else { carried_out };
        let done = self.done();
        self.session.services.counters.ended(done);
        if let Some(trace) = self.trace.take() {
            trace.end(TraceEnd {
                decision,
                done,
                status: self.status,
                asked: self.times.map(|times| (times.asked, times.answered)),
            });
        }
        if let (Some(record), Some(audit)) = (&self.record, &self.session.services.audit)
            && self.is_kept(record, done, audit)
        {
            audit.write(&Record {
                time: record.time,
                request_id: record.request_id.as_str(),
                source: self.session.peer.address,
                client: record.client.as_deref().map(|client| client.name.as_str()),
                identity: record.client.as_deref().and_then(|client| client.recorded_identity.as_ref()),
                presented: record.presented.as_deref(),
                flaw: self.flaw,
                grants: record.client.as_deref().map(|client| client.grants.as_slice()).unwrap_or_default(),
                method: record.method.as_str(),
                path: &record.path,
                query: record.query.as_deref(),
                decision,
                done,
                cause: record.cause,
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
