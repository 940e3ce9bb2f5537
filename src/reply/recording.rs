//! What is known of a request while it is decided, gathered step by step.

use std::sync::Arc;
use std::task::Context;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::Instant;

use super::ending::{DENIED, Recorded};
use super::{Ending, Reply, Source};
use crate::client::Client;
use crate::connection::{Asked, Busy, Connection};
use crate::forward::{Answer, Times};
use crate::policy::{Denied, Difference, Verdict, rule_of};
use crate::refusal::{Reader, Reason, Refusal};
use crate::target::Target;
use crate::telemetry::{
    self, Begun, Decision, Differed, Refused, RequestId, Took, Trace, kept_chain, kept_method, kept_name,
    shortened,
};
use crate::trace_context::TraceContext;

/// What is known of a request while it is decided.
pub struct Recording {
    connection: Arc<Connection>,
    busy: Busy,
    time: Timestamp,
    started: Instant,
    request_id: RequestId,
    reader: Reader,
    /// The policy's no, which may let it pass all the same.
    denied: Option<Denied>,
    /// Once the backend has answered.
    times: Option<Times>,
    /// Only where it is traced.
    trace: Option<Box<Trace>>,
    /// Only where records are kept.
    record: Option<Box<Recorded>>,
    /// What was asked, once that is going to be refused.
    asked: Option<Box<telemetry::Asked>>,
}

impl Recording {
    /// Starts with the request's headers.
    pub fn start(connection: &Arc<Connection>, request: &Request<Incoming>) -> Self {
        Self::of(connection, Reader::of(request), request.method(), request.uri()).traced(request)
    }

    fn traced(mut self, request: &Request<Incoming>) -> Self {
        let Connection { worker, peer, .. } = &*self.connection;
        let begun = Begun {
            time: self.time,
            started: self.started,
            id: self.request_id,
            method: request.method(),
            path: request.uri().path(),
            headers: request.headers(),
            source: peer.address,
        };
        let handshake = || self.connection.take_handshake();
        self.trace = worker.tracer.as_ref().and_then(|tracer| tracer.begin(&begun, &worker.ids, handshake));
        self
    }

    fn of(connection: &Arc<Connection>, reader: Reader, method: &Method, uri: &Uri) -> Self {
        let request_id = connection.worker.ids.next();
        let (time, started) = (Timestamp::now(), Instant::now());
        let record = connection.worker.audit.as_ref().map(|audit| {
            Box::new(Recorded {
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
            busy: Busy::start(connection),
            connection: Arc::clone(connection),
            time,
            started,
            request_id,
            reader,
            denied: None,
            times: None,
            trace: None,
            record,
            asked: None,
        }
    }

    /// Starts with what never became a request.
    pub fn unparsed(connection: &Arc<Connection>) -> Self {
        let mut recording = Self::of(connection, Reader::Whole, &unknown_method(), &Uri::default());
        if let Some(record) = &mut recording.record {
            "-".clone_into(&mut record.path);
        }
        recording
    }

    /// When the request came: the one instant by which it is judged.
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        self.request_id.as_str()
    }

    /// Where in its trace the backend's work is, if it is traced.
    pub fn onward(&self) -> Option<TraceContext> {
        self.trace.as_ref().map(|trace| trace.onward())
    }

    /// The client is known.
    pub fn is_of(&mut self, client: &Arc<Client>) {
        if let Some(trace) = &mut self.trace {
            trace.is_of(&client.name);
        }
        if let Some(record) = &mut self.record {
            record.client = Some(Arc::clone(client));
        }
    }

    /// So the policy in force has decided.
    pub fn judged(&mut self, verdict: &Verdict) {
        self.denied = verdict.as_ref().err().cloned();
        if let Some(trace) = &mut self.trace {
            trace.decided(rule_of(verdict).map(|rule| rule.name()));
        }
        if let Some(record) = &mut self.record {
            record.rule = rule_of(verdict).map(Arc::clone);
        }
    }

    /// The policy that is tried beside it, since then, has decided otherwise.
    pub fn differs(&mut self, since: Timestamp, difference: Difference, client: &Client, target: &Target) {
        let id = (self.time, self.request_id.as_str());
        let asked = (target.method().as_str(), target.path());
        let differed = Differed::of(id, &client.name, asked, &difference);
        self.connection.worker.trials.differ(since, &difference, differed);
        if let Some(record) = &mut self.record {
            record.difference = Some(difference);
        }
    }

    /// The question of a request that is going to be refused. Headers and host are kept if the policy looks at them.
    pub fn asked(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, host: Option<&str>) {
        let live = self.connection.worker.live.load();
        let headers = live.policy.relevant_headers(headers);
        let host = host.filter(|_| live.policy.depends_on_host());
        self.asked = Some(Box::new(telemetry::Asked::of(method, uri, headers, host)));
    }

    /// It goes to the backend, and is judged again for as long as that lasts.
    pub fn asks(&mut self, asked: Asked) {
        self.busy.asks(asked);
    }

    /// Whether it may not go on.
    pub fn poll_withdrawn(&self, cx: &Context<'_>) -> bool {
        self.busy.poll_withdrawn(cx)
    }

    /// The backend has answered; what comes next is to pass that on.
    pub fn answered(&mut self, times: Times) {
        self.times = Some(times);
    }

    /// The backend's answer is passed on.
    pub fn forwarded(self, response: Response<Answer>) -> Response<Reply> {
        let status = response.status().as_u16();
        response.map(|answer| self.reply(Source::Forwarded(answer), Decision::Forwarded, status))
    }

    /// The backend agreed to switch to another protocol; the decision's end is the end of that.
    pub fn switched(self, response: Response<()>) -> (Response<Reply>, Ending) {
        let ending = self.ending(Decision::Forwarded, response.status().as_u16());
        (response.map(|()| Reply { body: Source::Refused(Full::default()), ending: None }), ending)
    }

    /// We answer.
    pub fn refused(mut self, refusal: &Refusal) -> Response<Reply> {
        let detail = refusal.detail();
        let response = refusal.response(self.reader, self.request_id.as_str(), &detail);
        self.keep(refusal, detail);
        let status = response.status().as_u16();
        let decision = Decision::Refused(refusal.reason());
        response.map(|body| self.reply(Source::Refused(Full::new(body)), decision, status))
    }

    /// Keeps it for whoever asks why.
    fn keep(&mut self, refusal: &Refusal, detail: String) {
        let Connection { worker, peer, .. } = &*self.connection;
        let introduced = peer.introduced();
        // Let pass on trial, it may be refused for something else.
        let is_denied = self.denied.as_ref().filter(|_| refusal.reason() == Reason::InsufficientPermissions);
        worker.refusals.keep(Refused {
            time: Timestamp::now(),
            judged_at: self.time,
            request_id: self.request_id,
            source: peer.address,
            generation: worker.live.load().generation,
            client: introduced.name.map(kept_name),
            chain: introduced.client.and_then(|client| kept_chain(&client.chain)),
            request: self.asked.take().map(|asked| *asked).unwrap_or_default(),
            reason: refusal.reason(),
            detail: detail.into(),
            rule: is_denied.and_then(|denied| denied.rule().cloned()),
        });
    }

    /// We answer, as bytes of HTTP/1.1.
    pub fn framed(self, refusal: &Refusal) -> Vec<u8> {
        let frame = refusal.frame(self.request_id.as_str());
        let reply = self.refused(refusal).into_body();
        let bytes = reply.size_hint().exact().unwrap_or_default();
        reply.ending.into_iter().for_each(|mut ending| ending.moved(bytes));
        frame
    }

    /// The answer's headers are passed on now.
    fn took(&self, times: Times) -> Took {
        let added = (times.asked - self.started) + times.answered.elapsed();
        Took { added, backend: times.answered - times.asked }
    }

    fn reply(self, body: Source, decision: Decision, status: u16) -> Reply {
        Reply { body, ending: Some(self.ending(decision, status)) }
    }

    fn ending(mut self, done: Decision, status: u16) -> Ending {
        let worker = &self.connection.worker;
        let counters = &worker.counters;
        counters.decided(done);
        let let_pass = self.denied.take().filter(|_| done != DENIED);
        if let Some(denied) = &let_pass {
            worker.trials.let_pass(denied.rule().map(|rule| &**rule));
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
            connection: self.connection,
            busy: self.busy,
        }
    }
}

/// `-`, as in the logs of other servers, for a method that is not known or too long to be kept.
fn unknown_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}
