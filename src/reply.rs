//! The answer's body on its way to the client, and the record of the decision that ends with it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::client::Client;
use crate::connection::{Asked, Busy, Connection};
use crate::forward::{Answer, BrokenOff, Times};
use crate::policy::{Denied, Difference, Rule, Verdict, rule_of};
use crate::refusal::{Reader, Reason, Refusal};
use crate::target::Target;
use crate::telemetry::{
    self, Audit, Decision, Differed, Record, Refused, RequestId, Took, kept_chain, kept_name,
};

/// The body of an answer. While it lives the connection is busy; when it ends, however it ends, the decision is
/// recorded.
#[derive(Debug)]
pub struct Reply {
    body: Source,
    /// Of a switch of protocols the end is not here.
    ending: Option<Ending>,
}

#[derive(Debug)]
enum Source {
    /// The backend's, streamed.
    Forwarded(Answer),
    /// Our own, whole.
    Refused(Full<Bytes>),
}

/// What happens at the end of an answer, or of what it began.
#[derive(Debug)]
pub struct Ending {
    /// Written at the end, if records are kept.
    record: Option<Box<Recorded>>,
    /// What was done.
    done: Decision,
    /// Whether the policy denies it.
    on_trial: bool,
    status: u16,
    bytes: u64,
    connection: Arc<Connection>,
    busy: Busy,
}

/// What a policy's no comes to where it is enforced.
const DENIED: Decision = Decision::Refused(Reason::InsufficientPermissions);

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
    /// Only where records are kept.
    record: Option<Box<Recorded>>,
    /// What was asked, once that is going to be refused.
    asked: Option<Box<telemetry::Asked>>,
}

/// The parts of an audit record that are known before its end.
#[derive(Debug)]
struct Recorded {
    time: Timestamp,
    started: Instant,
    request_id: RequestId,
    method: Method,
    path: String,
    query: Option<String>,
    client: Option<Arc<Client>>,
    rule: Option<Arc<Rule>>,
    difference: Option<Difference>,
    took: Option<Took>,
}

impl Recording {
    /// Starts with the request's headers.
    pub fn start(connection: &Arc<Connection>, request: &Request<Incoming>) -> Self {
        Self::of(connection, Reader::of(request), request.method(), request.uri())
    }

    fn of(connection: &Arc<Connection>, reader: Reader, method: &Method, uri: &Uri) -> Self {
        let request_id = connection.worker.ids.next();
        let (time, started) = (Timestamp::now(), Instant::now());
        let record = connection.worker.audit.as_ref().map(|audit| {
            Box::new(Recorded {
                time,
                started,
                request_id,
                method: method.clone(),
                path: uri.path().to_owned(),
                query: uri.query().filter(|_| audit.tells_queries()).map(str::to_owned),
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
            record,
            asked: None,
        }
    }

    /// Starts with what never became a request.
    pub fn unparsed(connection: &Arc<Connection>) -> Self {
        // As in the logs of other servers: `-` for what is not known. It is a method that nobody can send.
        let method = Method::from_bytes(b"-").unwrap_or_default();
        let mut recording = Self::of(connection, Reader::Whole, &method, &Uri::default());
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

    /// The client is known.
    pub fn is_of(&mut self, client: &Arc<Client>) {
        if let Some(record) = &mut self.record {
            record.client = Some(Arc::clone(client));
        }
    }

    /// So the policy in force has decided.
    pub fn judged(&mut self, verdict: &Verdict) {
        self.denied = verdict.as_ref().err().cloned();
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

    /// It is going to be refused, and asked this. Of the headers those are kept that the policy looks at.
    pub fn asked(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap) {
        let headers = self.connection.worker.live.load().policy.headers_looked_at(headers);
        self.asked = Some(Box::new(telemetry::Asked::of(method, uri, headers)));
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
        self.busy.offers(!response.body().is_end_stream());
        response.map(|answer| self.reply(Source::Forwarded(answer), Decision::Forwarded, status))
    }

    /// The backend agreed to switch to another protocol; the decision's end is the end of that.
    pub fn switched(self, response: Response<()>) -> (Response<Reply>, Ending) {
        let ending = self.ending(Decision::Forwarded, response.status().as_u16());
        (response.map(|()| Reply { body: Source::Refused(Full::default()), ending: None }), ending)
    }

    /// We answer.
    pub fn refused(mut self, refusal: &Refusal) -> Response<Reply> {
        self.keep(refusal);
        let response = refusal.response(self.reader, self.request_id.as_str());
        let status = response.status().as_u16();
        let decision = Decision::Refused(refusal.reason());
        response.map(|body| self.reply(Source::Refused(Full::new(body)), decision, status))
    }

    /// Keeps it for whoever asks why.
    fn keep(&mut self, refusal: &Refusal) {
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
            client: introduced.name.as_deref().map(kept_name),
            chain: introduced.client.and_then(|client| kept_chain(&client.chain)),
            request: self.asked.take().map(|asked| *asked).unwrap_or_default(),
            reason: refusal.reason(),
            detail: refusal.detail().into(),
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
            done,
            on_trial: let_pass.is_some(),
            status,
            bytes: 0,
            connection: self.connection,
            busy: self.busy,
        }
    }
}

impl Ending {
    /// What ends with it.
    pub const fn busy(&self) -> &Busy {
        &self.busy
    }

    /// So many bytes moved.
    pub fn moved(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
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
                decision: if self.on_trial { DENIED } else { self.done },
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

/// Why an answer breaks off. The client sees a reset, or a body without its end.
#[derive(Debug)]
pub enum Broken {
    /// The backend's did.
    Backend(BrokenOff),
    /// The client may not have the rest.
    Withdrawn,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(error) => write!(f, "the backend's answer broke off: {error}"),
            Self::Withdrawn => f.write_str("the grant was withdrawn"),
        }
    }
}

impl std::error::Error for Broken {}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let is_withdrawn = self.ending.as_ref().is_some_and(|ending| ending.busy.is_withdrawn());
        let frame = match &mut self.body {
            Source::Forwarded(_) if is_withdrawn => return Poll::Ready(Some(Err(Broken::Withdrawn))),
            Source::Forwarded(answer) => Pin::new(answer).poll_frame(cx).map_err(Broken::Backend),
            Source::Refused(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        };
        let ends = self.is_end_stream();
        if let Some(ending) = &mut self.ending {
            ending.busy.offers(!ends && matches!(frame, Poll::Ready(Some(Ok(_)))));
            if let Poll::Ready(Some(Ok(frame))) = &frame
                && let Some(data) = frame.data_ref()
            {
                ending.moved(data.len() as u64);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Forwarded(answer) => answer.is_end_stream(),
            Source::Refused(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Forwarded(answer) => answer.size_hint(),
            Source::Refused(body) => body.size_hint(),
        }
    }
}
