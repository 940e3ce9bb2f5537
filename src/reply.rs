//! The answer's body on its way to the client, and the record of the decision that ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;

use crate::client::Client;
use crate::connection::{Busy, Connection};
use crate::forward::Answer;
use crate::policy::Rule;
use crate::refusal::Refusal;
use crate::telemetry::{Decision, Record, RequestId};

/// The body of an answer. While it lives the connection is busy; when it ends, however it ends, the decision is
/// recorded.
#[derive(Debug)]
pub struct Reply {
    body: Source,
    ending: Ending,
}

#[derive(Debug)]
enum Source {
    /// The backend's, streamed.
    Forwarded(Answer),
    /// Our own, whole.
    Refused(Full<Bytes>),
}

/// What happens at the end of an answer.
#[derive(Debug)]
struct Ending {
    /// Written at the end, if records are kept.
    record: Option<Box<Recorded>>,
    decision: Decision,
    status: u16,
    bytes: u64,
    connection: Arc<Connection>,
    _busy: Busy,
}

/// What is known of a request while it is decided.
pub struct Recording {
    connection: Arc<Connection>,
    busy: Busy,
    request_id: RequestId,
    method: Method,
    /// Only where records are kept.
    record: Option<Box<Recorded>>,
}

/// The parts of an audit record that are known before its end.
#[derive(Debug)]
struct Recorded {
    time: Timestamp,
    started: Instant,
    request_id: RequestId,
    method: Method,
    path: String,
    client: Option<Arc<Client>>,
    rule: Option<Arc<Rule>>,
}

impl Recording {
    /// Starts with the request's headers.
    pub fn start(connection: &Arc<Connection>, request: &Request<Incoming>) -> Self {
        Self::of(connection, request.method().clone(), request.uri().path())
    }

    fn of(connection: &Arc<Connection>, method: Method, path: &str) -> Self {
        let request_id = connection.worker.ids.next();
        let record = connection.worker.audit.is_some().then(|| {
            Box::new(Recorded {
                time: Timestamp::now(),
                started: Instant::now(),
                request_id,
                method: method.clone(),
                path: path.to_owned(),
                client: None,
                rule: None,
            })
        });
        Self { busy: Busy::start(connection), connection: Arc::clone(connection), request_id, method, record }
    }

    /// Starts with what never became a request.
    pub fn unparsed(connection: &Arc<Connection>) -> Self {
        // As in the logs of other servers: `-` for what is not known. It is a method that nobody can send.
        let method = Method::from_bytes(b"-").unwrap_or_default();
        Self::of(connection, method, "-")
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

    /// This rule decided, or none did.
    pub fn decided_by(&mut self, rule: Option<&Arc<Rule>>) {
        if let Some(record) = &mut self.record {
            record.rule = rule.map(Arc::clone);
        }
    }

    /// The backend answered.
    pub fn forwarded(self, response: Response<Answer>) -> Response<Reply> {
        let status = response.status().as_u16();
        response.map(|answer| self.reply(Source::Forwarded(answer), Decision::Forwarded, status))
    }

    /// We answer.
    pub fn refused(self, refusal: &Refusal) -> Response<Reply> {
        let response = refusal.response(&self.method, self.request_id.as_str());
        let status = response.status().as_u16();
        let decision = Decision::Refused(refusal.reason());
        response.map(|body| self.reply(Source::Refused(Full::new(body)), decision, status))
    }

    /// We answer, as bytes of HTTP/1.1.
    pub fn framed(self, refusal: &Refusal) -> Vec<u8> {
        let frame = refusal.frame(self.request_id.as_str());
        let mut reply = self.refused(refusal).into_body();
        reply.ending.bytes = reply.size_hint().exact().unwrap_or_default();
        frame
    }

    fn reply(self, body: Source, decision: Decision, status: u16) -> Reply {
        self.connection.worker.counters.decided(decision);
        Reply {
            body,
            ending: Ending {
                record: self.record,
                decision,
                status,
                bytes: 0,
                connection: self.connection,
                _busy: self.busy,
            },
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let (Some(record), Some(audit)) = (&self.record, &self.connection.worker.audit) {
            audit.write(&Record {
                time: record.time,
                request_id: record.request_id.as_str(),
                source: self.connection.peer.address,
                client: record.client.as_deref().map(|client| client.name.as_str()),
                identity: record.client.as_deref().and_then(|client| client.told.as_ref()),
                grants: record.client.as_deref().map(|client| client.grants.as_slice()).unwrap_or_default(),
                method: &record.method,
                path: &record.path,
                decision: self.decision,
                rule: record.rule.as_deref(),
                status: self.status,
                bytes: self.bytes,
                duration: record.started.elapsed(),
            });
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match &mut self.body {
            Source::Forwarded(answer) => Pin::new(answer).poll_frame(cx),
            Source::Refused(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.ending.bytes = self.ending.bytes.saturating_add(data.len() as u64);
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
