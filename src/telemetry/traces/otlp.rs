//! OTLP's JSON: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>. Ids are hexadecimal there, enumerations are
//! numbers, and whole numbers of 64 bits are texts.

use serde::Serialize;
use tokio::time::Instant;

use super::{Batch, Finished, Trace, is_failure};
use crate::trace_context::SpanId;
use crate::version;

#[derive(Clone, Copy, Serialize)]
#[serde(into = "u8")]
enum Kind {
    Internal,
    Server,
    Client,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute<'static>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: &'a str,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'a str,
    kind: Kind,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    status: Status,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Serialize)]
enum Value<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Number(String),
    #[serde(rename = "boolValue")]
    Truth(bool),
}

/// The status of a span: unset, or error (2).
#[derive(Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

impl Status {
    fn failed(failed: bool) -> Self {
        Self { code: failed.then_some(2) }
    }
}

fn text<'a>(key: &'static str, value: &'a str) -> Attribute<'a> {
    Attribute { key, value: Value::Text(value) }
}

fn number(key: &'static str, value: impl ToString) -> Attribute<'static> {
    Attribute { key, value: Value::Number(value.to_string()) }
}

/// Writes ended requests as one message.
pub(super) fn batch(finished: &[Finished]) -> Batch {
    let spans: Vec<Span<'_>> = finished.iter().flat_map(Finished::spans).collect();
    let count = spans.len() as u64;
    let resource = Resource {
        attributes: vec![text("service.name", "sidegate"), text("service.version", version::VERSION)],
    };
    let scope = Scope { name: "sidegate", version: version::VERSION };
    let request =
        Request { resource_spans: [ResourceSpans { resource, scope_spans: [ScopeSpans { scope, spans }] }] };
    // Texts and numbers cannot fail to serialize.
    Batch { body: serde_json::to_vec(&request).unwrap_or_default(), spans: count }
}

impl Finished {
    fn spans(&self) -> Vec<Span<'_>> {
        let mut spans = vec![self.request(), self.decision()];
        spans.extend(self.backend());
        spans.extend(self.handshake());
        spans
    }

    fn status_code(&self) -> Option<Attribute<'static>> {
        self.ended.status.map(|status| number("http.response.status_code", status))
    }

    fn is_server_error(&self) -> bool {
        self.ended.status.is_some_and(|status| status >= 500)
    }

    /// The span of the whole request, from its headers to the end of its answer.
    fn request(&self) -> Span<'_> {
        let Trace { context, parent, method, path, client, started, source, .. } = &self.trace;
        let mut attributes = vec![
            text("http.request.method", method),
            text("url.scheme", "https"),
            text("url.path", path),
            text("client.address", source),
        ];
        attributes.extend(self.status_code());
        attributes.extend(client.as_deref().map(|client| text("sidegate.client", client)));
        let failed = self.is_server_error();
        let mut span = self.span(method, Kind::Server, (*started, self.at), attributes, failed);
        span.span_id = context.span().to_owned();
        span.parent_span_id = parent.as_ref().map(digits);
        span
    }

    /// The span of the decision, from the headers until the decision was made.
    fn decision(&self) -> Span<'_> {
        let Trace { started, decided, decision, rule, .. } = &self.trace;
        let ended = &self.ended;
        let mut attributes = vec![
            text("sidegate.decision", ended.decision.outcome()),
            text("sidegate.reason", ended.decision.reason()),
            text("sidegate.done", ended.done.name()),
        ];
        attributes.extend(rule.as_deref().map(|rule| text("sidegate.rule", rule)));
        let end = decided.unwrap_or(self.at);
        self.child("decision", Kind::Internal, decision, (*started, end), attributes)
    }

    /// The span of the backend's work, from sending the request until the headers of the answer, or until it was known that
    /// there is none.
    fn backend(&self) -> Option<Span<'_>> {
        let Trace { backend, decided, .. } = &self.trace;
        let failed = is_failure(self.ended.done);
        let (times, attributes) = match self.ended.asked {
            Some(times) => (times, self.status_code().into_iter().collect()),
            None if failed => {
                ((decided.unwrap_or(self.at), self.at), vec![text("error.type", self.ended.done.name())])
            }
            None => return None,
        };
        let mut span = self.child("backend", Kind::Client, backend, times, attributes);
        span.status = Status::failed(failed || self.is_server_error());
        Some(span)
    }

    /// The span of the connection's handshake, with its first traced request.
    fn handshake(&self) -> Option<Span<'_>> {
        let (id, handshake) = self.trace.handshake.as_ref()?;
        let attributes = vec![Attribute { key: "tls.resumed", value: Value::Truth(handshake.resumed) }];
        let times = (handshake.began, handshake.ended);
        Some(self.child("handshake", Kind::Internal, id, times, attributes))
    }

    fn child<'a>(
        &'a self,
        name: &'a str,
        kind: Kind,
        id: &SpanId,
        times: (Instant, Instant),
        attributes: Vec<Attribute<'a>>,
    ) -> Span<'a> {
        let mut span = self.span(name, kind, times, attributes, false);
        span.span_id = digits(id);
        span.parent_span_id = Some(self.trace.context.span().to_owned());
        span
    }

    fn span<'a>(
        &'a self,
        name: &'a str,
        kind: Kind,
        (start, end): (Instant, Instant),
        attributes: Vec<Attribute<'a>>,
        failed: bool,
    ) -> Span<'a> {
        Span {
            trace_id: self.trace.context.trace(),
            span_id: String::new(),
            parent_span_id: None,
            name,
            kind,
            start_time_unix_nano: self.unix(start),
            end_time_unix_nano: self.unix(end),
            attributes,
            status: Status::failed(failed),
        }
    }

    /// An instant of this request, by the one reading of the civil clock at its beginning.
    fn unix(&self, instant: Instant) -> String {
        let Trace { time, started, .. } = &self.trace;
        let nanoseconds =
            |duration: std::time::Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
        let after = nanoseconds(instant.saturating_duration_since(*started));
        let before = nanoseconds(started.saturating_duration_since(instant));
        (time.as_nanosecond() + after - before).to_string()
    }
}

fn digits(id: &SpanId) -> String {
    String::from_utf8_lossy(id).into_owned()
}
