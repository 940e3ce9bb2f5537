//! The recording of a request: its facts, gathered step by step while it is decided.

use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::Instant;

use super::ending::PartialRecord;
use super::{Content, Ending, Reply};
use crate::forward::{Answer, Times};
use crate::identity::Unauthenticated;
use crate::policy::{Difference, Verdict, deciding_rule};
use crate::proxy::client::Client;
use crate::proxy::session::{ForwardedRequest, Session};
use crate::refusal::{Reader, Reason, Refusal, ResponseFlaw};
use crate::target::Target;
use crate::telemetry::{
    Decision, DifferenceRecord, Done, Refused, RequestId, RequestSummary, RequestTimes, TraceStart,
    kept_chain, kept_method, kept_name, shortened,
};
use crate::trace_context::TraceContext;

/// The facts about a request, gathered while it is decided. Dropping it, because the client has left, records the request.
pub(crate) struct Recording {
    ending: Ending,
    time: Timestamp,
    started: Instant,
    request_id: RequestId,
    reader: Reader,
    /// A summary of the request, once it is going to be refused.
    summary: Option<Box<RequestSummary>>,
}

impl Recording {
    /// Starts with the request's headers.
    pub(crate) fn start(session: &Arc<Session>, request: &Request<Incoming>) -> Self {
        Self::of(session, Reader::of(request), request.method(), request.uri()).traced(request)
    }

    fn traced(mut self, request: &Request<Incoming>) -> Self {
        let Session { services, peer, .. } = &*self.ending.session;
        let begun = TraceStart {
            time: self.time,
            started: self.started,
            id: self.request_id,
            method: request.method(),
            path: request.uri().path(),
            headers: request.headers(),
            source: peer.address,
        };
        let handshake = || self.ending.session.take_handshake();
        self.ending.trace =
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
                presented: None,
                rule: None,
                difference: None,
                took: None,
                cause: None,
            })
        });
        Self { ending: Ending::of(session, record), time, started, request_id, reader, summary: None }
    }

    /// Starts with bytes that were not parsed as a request.
    pub(crate) fn unparsed(session: &Arc<Session>) -> Self {
        let mut recording = Self::of(session, Reader::Whole, &unknown_method(), &Uri::default());
        if let Some(record) = &mut recording.ending.record {
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
        self.ending.trace.as_ref().map(|trace| trace.onward())
    }

    /// Notes the reason why the client is not authenticated, which another judgement may change.
    pub(crate) fn set_unauthenticated(&mut self, because: &Unauthenticated) {
        self.ending.set_unauthenticated(because);
    }

    /// Notes the authenticated client.
    pub(crate) fn set_client(&mut self, client: &Arc<Client>) {
        if let Some(trace) = &mut self.ending.trace {
            trace.set_client(&client.name);
        }
        self.ending.set_authenticated();
        if let Some(record) = &mut self.ending.record {
            record.client = Some(Arc::clone(client));
        }
    }

    /// Notes the verdict of the policy in force.
    pub(crate) fn set_verdict(&mut self, verdict: &Verdict) {
        self.ending.denied = verdict.as_ref().err().cloned();
        if let Some(trace) = &mut self.ending.trace {
            trace.set_rule(deciding_rule(verdict).map(|rule| rule.name()));
        }
        if let Some(record) = &mut self.ending.record {
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
        self.ending.session.services.trials.differ(since, &difference, differed);
        if let Some(record) = &mut self.ending.record {
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
        let live = self.ending.session.services.live.load();
        let headers = live.policy.relevant_headers(headers);
        let host = host.filter(|_| live.policy.depends_on_host());
        self.summary = Some(Box::new(RequestSummary::of(method, uri, headers, host)));
    }

    /// Registers the request as forwarded. It is judged again until its answer ends.
    pub(crate) fn register_forwarded(&mut self, request: ForwardedRequest) {
        self.ending.request.register_forwarded(request);
    }

    /// `true` if the request may not go on. The task that asks is woken when that changes.
    pub(crate) fn poll_withdrawn(&self, cx: &Context<'_>) -> bool {
        self.ending.request.poll_withdrawn(cx)
    }

    /// Notes that the backend has answered.
    pub(crate) fn set_times(&mut self, times: Times) {
        self.ending.times = Some(times);
    }

    /// Notes the cause for which the backend's answer is not HTTP.
    pub(crate) fn set_cause(&mut self, cause: ResponseFlaw) {
        if let Some(record) = &mut self.ending.record {
            record.cause = Some(cause);
        }
    }

    /// Ends with the backend's answer.
    pub(crate) fn forwarded(mut self, response: Response<Answer>) -> Response<Reply> {
        self.decide_forwarded(response.status().as_u16());
        response.map(|answer| Reply::new(Content::Forwarded(answer), self.ending))
    }

    /// Ends with the backend's agreement to switch protocols. The record is written at the end of the other protocol.
    pub(crate) fn switched(mut self, response: Response<()>) -> (Response<Reply>, Ending) {
        self.decide_forwarded(response.status().as_u16());
        self.ending.set_done(Done::Forwarded);
        (response.map(|()| Reply::empty()), self.ending)
    }

    /// Ends without an answer, because the client left in the middle of its request. What it may still read says so.
    pub(crate) fn left(mut self, refusal: &Refusal) -> Response<Reply> {
        self.ending.decide(Decision::Forwarded, None);
        let response = refusal.response(self.reader, self.request_id.as_str(), &refusal.detail());
        response.map(|body| Reply::new(Content::Refused(Full::new(body)), self.ending))
    }

    /// Ends with a refusal.
    pub(crate) fn refused(mut self, refusal: &Refusal) -> Response<Reply> {
        let detail = refusal.detail();
        let response = refusal.response(self.reader, self.request_id.as_str(), &detail);
        self.keep(refusal, detail);
        let status = response.status().as_u16();
        self.ending.decide(Decision::Refused(refusal.reason(), refusal.fault()), Some(status));
        response.map(|body| Reply::new(Content::Refused(Full::new(body)), self.ending))
    }

    /// Keeps the refusal, so that it can be explained later.
    fn keep(&mut self, refusal: &Refusal, detail: String) {
        let Session { services, peer, .. } = &*self.ending.session;
        let peer_summary = peer.summary();
        // A request that a trial let pass may be refused for another reason.
        let is_denied =
            self.ending.denied.as_ref().filter(|_| refusal.reason() == Reason::InsufficientPermissions);
        services.refusals.keep(Refused {
            time: Timestamp::now(),
            judged_at: self.time,
            request_id: self.request_id,
            source: peer.address,
            generation: services.live.load().generation,
            client: peer_summary.name.as_deref().map(kept_name),
            chain: peer_summary.client.and_then(|client| kept_chain(&client.chain)),
            request: self.summary.take().map(|summary| *summary).unwrap_or_default(),
            reason: refusal.reason(),
            detail: detail.into(),
            rule: is_denied.and_then(|denied| denied.rule().cloned()),
        });
    }

    /// Ends with a refusal that is written out at once.
    pub(crate) fn whole(self, refusal: &Refusal) -> Response<Bytes> {
        let response = refusal.response(Reader::Whole, self.request_id.as_str(), &refusal.detail());
        self.refused(refusal).into_body().add_bytes(response.body().len() as u64);
        response
    }

    /// Ends with a refusal, as bytes of HTTP/1.1.
    pub(crate) fn framed(self, refusal: &Refusal) -> Vec<u8> {
        let frame = refusal.frame(self.request_id.as_str());
        let mut reply = self.refused(refusal).into_body();
        let bytes = reply.size_hint().exact().unwrap_or_default();
        reply.add_bytes(bytes);
        frame
    }

    /// Counts the decision, and the time that Sidegate and the backend took until the answer's headers are passed on.
    fn decide_forwarded(&mut self, status: u16) {
        self.ending.decide(Decision::Forwarded, Some(status));
        let Some(times) = self.ending.times else { return };
        let added = (times.asked - self.started) + times.answered.elapsed();
        let took = RequestTimes { added, backend: times.answered - times.asked };
        let counters = &self.ending.session.services.counters;
        counters.added.took(took.added);
        counters.waited.took(took.backend);
        self.ending.record.iter_mut().for_each(|record| record.took = Some(took));
    }
}

/// `-`, as in the logs of other servers, for a method that is not known or too long to be kept.
fn unknown_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}
