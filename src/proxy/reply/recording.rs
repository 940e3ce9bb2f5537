//! The recording of a request: its facts, gathered step by step while it is decided.

use std::sync::Arc;
use std::task::Context;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::Instant;

use super::ending::{DENIED, PartialRecord};
use super::{Content, Ending, Reply};
use crate::forward::{Answer, Times};
use crate::policy::{Denied, Difference, Verdict, deciding_rule};
use crate::proxy::client::Client;
use crate::proxy::session::{ForwardedRequest, RequestGuard, Session};
use crate::refusal::{Reader, Reason, Refusal};
use crate::target::Target;
use crate::telemetry::{
    Decision, DifferenceRecord, Refused, RequestId, RequestSummary, RequestTimes, Trace, TraceStart,
    kept_chain, kept_method, kept_name, shortened,
};
use crate::trace_context::TraceContext;

/// The facts about a request, gathered while it is decided.
pub(crate) struct Recording {
    session: Arc<Session>,
    request: RequestGuard,
    time: Timestamp,
    started: Instant,
    request_id: RequestId,
    reader: Reader,
    /// The policy's denial. In a trial the request passes all the same.
    denied: Option<Denied>,
    /// Set once the backend has answered.
    times: Option<Times>,
    /// The trace, if the request is traced.
    trace: Option<Box<Trace>>,
    /// The audit record, if records are kept.
    record: Option<Box<PartialRecord>>,
    /// A summary of the request, once it is going to be refused.
    summary: Option<Box<RequestSummary>>,
}

impl Recording {
    /// Starts with the request's headers.
    pub(crate) fn start(session: &Arc<Session>, request: &Request<Incoming>) -> Self {
        Self::of(session, Reader::of(request), request.method(), request.uri()).traced(request)
    }

    fn traced(mut self, request: &Request<Incoming>) -> Self {
        let Session { services, peer, .. } = &*self.session;
        let begun = TraceStart {
            time: self.time,
            started: self.started,
            id: self.request_id,
            method: request.method(),
            path: request.uri().path(),
            headers: request.headers(),
            source: peer.address,
        };
        let handshake = || self.session.take_handshake();
        self.trace =
            services.tracer.as_ref().and_then(|tracer| tracer.begin(&begun, &services.ids, handshake));
        self
    }

    fn of(session: &Arc<Session>, reader: Reader, method: &Method, uri: &Uri) -> Self {
        let request_id = session.services.ids.next();
        let (time, started) = (Timestamp::now(), Instant::now());
        let record = session.services.audit.as_ref().map(|audit| {
            Box::new(PartialRecord {
                time,
                started,
                request_id,
                method: kept_method(method).unwrap_or_else(unknown_method),
                path: shortened(uri.path()),
                query: uri.query().filter(|_| audit.tells_queries()).map(shortened),
                client: None,
                rule: None,
                difference: None,
                took: None,
            })
        });
        Self {
            request: RequestGuard::begin(session),
            session: Arc::clone(session),
            time,
            started,
            request_id,
            reader,
            denied: None,
            times: None,
            trace: None,
            record,
            summary: None,
        }
    }

    /// Starts with bytes that were not parsed as a request.
    pub(crate) fn unparsed(session: &Arc<Session>) -> Self {
        let mut recording = Self::of(session, Reader::Whole, &unknown_method(), &Uri::default());
        if let Some(record) = &mut recording.record {
            "-".clone_into(&mut record.path);
        }
        recording
    }

    /// The time at which the request came: the one instant at which it is judged.
    pub(crate) const fn time(&self) -> Timestamp {
        self.time
    }

    /// The request's id.
    pub(crate) fn request_id(&self) -> &str {
        self.request_id.as_str()
    }

    /// The trace context for the backend, if the request is traced.
    pub(crate) fn onward(&self) -> Option<TraceContext> {
        self.trace.as_ref().map(|trace| trace.onward())
    }

    /// Notes the authenticated client.
    pub(crate) fn set_client(&mut self, client: &Arc<Client>) {
        if let Some(trace) = &mut self.trace {
            trace.set_client(&client.name);
        }
        if let Some(record) = &mut self.record {
            record.client = Some(Arc::clone(client));
        }
    }

    /// Notes the verdict of the policy in force.
    pub(crate) fn set_verdict(&mut self, verdict: &Verdict) {
        self.denied = verdict.as_ref().err().cloned();
        if let Some(trace) = &mut self.trace {
            trace.set_rule(deciding_rule(verdict).map(|rule| rule.name()));
        }
        if let Some(record) = &mut self.record {
            record.rule = deciding_rule(verdict).map(Arc::clone);
        }
    }

    /// Notes that the shadow policy, in force as such since `since`, decides otherwise.
    pub(crate) fn add_difference(
        &mut self,
        since: Timestamp,
        difference: Difference,
        client: &Client,
        target: &Target,
    ) {
        let id = (self.time, self.request_id.as_str());
        let asked = (target.method().as_str(), target.path());
        let differed = DifferenceRecord::of(id, &client.name, asked, &difference);
        self.session.services.trials.differ(since, &difference, differed);
        if let Some(record) = &mut self.record {
            record.difference = Some(difference);
        }
    }

    /// Keeps a summary of a request that is going to be refused. Headers and host are kept if the policy looks at them.
    pub(crate) fn record_refused(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        host: Option<&str>,
    ) {
        let live = self.session.services.live.load();
        let headers = live.policy.relevant_headers(headers);
        let host = host.filter(|_| live.policy.depends_on_host());
        self.summary = Some(Box::new(RequestSummary::of(method, uri, headers, host)));
    }

    /// Registers the request as forwarded. It is judged again until its answer ends.
    pub(crate) fn register_forwarded(&mut self, request: ForwardedRequest) {
        self.request.register_forwarded(request);
    }

    /// `true` if the request may not go on. The task that asks is woken when that changes.
    pub(crate) fn poll_withdrawn(&self, cx: &Context<'_>) -> bool {
        self.request.poll_withdrawn(cx)
    }

    /// Notes that the backend has answered.
    pub(crate) fn set_times(&mut self, times: Times) {
        self.times = Some(times);
    }

    /// Ends with the backend's answer.
    pub(crate) fn forwarded(self, response: Response<Answer>) -> Response<Reply> {
        let status = response.status().as_u16();
        response.map(|answer| self.reply(Content::Forwarded(answer), Decision::Forwarded, status))
    }

    /// Ends with the backend's agreement to switch protocols. The record is written at the end of the other protocol.
    pub(crate) fn switched(self, response: Response<()>) -> (Response<Reply>, Ending) {
        let ending = self.ending(Decision::Forwarded, response.status().as_u16());
        (response.map(|()| Reply { body: Content::Refused(Full::default()), ending: None }), ending)
    }

    /// Ends with a refusal.
    pub(crate) fn refused(mut self, refusal: &Refusal) -> Response<Reply> {
        let detail = refusal.detail();
        let response = refusal.response(self.reader, self.request_id.as_str(), &detail);
        self.keep(refusal, detail);
        let status = response.status().as_u16();
        let decision = Decision::Refused(refusal.reason());
        response.map(|body| self.reply(Content::Refused(Full::new(body)), decision, status))
    }

    /// Keeps the refusal, so that it can be explained later.
    fn keep(&mut self, refusal: &Refusal, detail: String) {
        let Session { services, peer, .. } = &*self.session;
        let peer_summary = peer.summary();
        // A request that a trial let pass may be refused for another reason.
        let is_denied = self.denied.as_ref().filter(|_| refusal.reason() == Reason::InsufficientPermissions);
        services.refusals.keep(Refused {
            time: Timestamp::now(),
            judged_at: self.time,
            request_id: self.request_id,
            source: peer.address,
            generation: services.live.load().generation,
            client: peer_summary.name.map(kept_name),
            chain: peer_summary.client.and_then(|client| kept_chain(&client.chain)),
            request: self.summary.take().map(|summary| *summary).unwrap_or_default(),
            reason: refusal.reason(),
            detail: detail.into(),
            rule: is_denied.and_then(|denied| denied.rule().cloned()),
        });
    }

    /// Ends with a refusal, as bytes of HTTP/1.1.
    pub(crate) fn framed(self, refusal: &Refusal) -> Vec<u8> {
        let frame = refusal.frame(self.request_id.as_str());
        let reply = self.refused(refusal).into_body();
        let bytes = reply.size_hint().exact().unwrap_or_default();
        reply.ending.into_iter().for_each(|mut ending| ending.add_bytes(bytes));
        frame
    }

    /// The time that Sidegate and the backend took, if the answer's headers are passed on now.
    fn took(&self, times: Times) -> RequestTimes {
        let added = (times.asked - self.started) + times.answered.elapsed();
        RequestTimes { added, backend: times.answered - times.asked }
    }

    fn reply(self, body: Content, decision: Decision, status: u16) -> Reply {
        Reply { body, ending: Some(self.ending(decision, status)) }
    }

    fn ending(mut self, done: Decision, status: u16) -> Ending {
        let services = &self.session.services;
        let counters = &services.counters;
        counters.decided(done);
        let let_pass = self.denied.take().filter(|_| done != DENIED);
        if let Some(denied) = &let_pass {
            services.trials.let_pass(denied.rule().map(|rule| &**rule));
        }
        if let Some(took) = self.times.map(|times| self.took(times)) {
            counters.added.took(took.added);
            counters.waited.took(took.backend);
            self.record.iter_mut().for_each(|record| record.took = Some(took));
        }
        Ending {
            record: self.record,
            trace: self.trace,
            times: self.times,
            done,
            on_trial: let_pass.is_some(),
            status,
            bytes: 0,
            session: self.session,
            request: self.request,
        }
    }
}

/// `-`, as in the logs of other servers, for a method that is not known or too long to be kept.
fn unknown_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}
