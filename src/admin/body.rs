//! The answers of the admin listener: a whole body, or events for as long as a client listens.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use super::exchange::AnswerGuard;
use crate::printable;

/// An answer.
pub(super) type Answer = Response<Body>;

/// The body of an answer, and a guard that is dropped when hyper has taken all of it.
#[derive(Debug)]
pub(super) struct Body {
    content: Content,
    _handed_over: Option<AnswerGuard>,
}

#[derive(Debug)]
enum Content {
    /// A whole body.
    Whole(Full<Bytes>),
    /// Events, until no further one can come.
    Events(Receiver<Bytes>),
}

impl Body {
    const fn new(content: Content) -> Self {
        Self { content, _handed_over: None }
    }

    /// `true` if the body goes on for as long as a client listens.
    pub(super) const fn is_events(&self) -> bool {
        matches!(self.content, Content::Events(_))
    }

    /// Returns the body with a guard that is dropped with it.
    pub(super) fn with(self, told: AnswerGuard) -> Self {
        Self { _handed_over: Some(told), ..self }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.content {
            Content::Whole(body) => Pin::new(body).poll_frame(cx),
            Content::Events(events) => {
                events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(body) if body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => body.size_hint(),
            Content::Events(_) => SizeHint::default(),
        }
    }
}

/// An answer in JSON, indented for people.
pub(super) fn json(status: StatusCode, what: &impl Serialize) -> Answer {
    written(status, serde_json::to_vec_pretty(what))
}

/// An answer in JSON without indentation, for programs.
pub(super) fn compact(what: &impl Serialize) -> Answer {
    written(StatusCode::OK, serde_json::to_vec(what))
}

fn written(status: StatusCode, json: serde_json::Result<Vec<u8>>) -> Answer {
    match json {
        Ok(json) => {
            let mut json = printable::escape_json(json);
            json.push(b'\n');
            typed(status, "application/json", Bytes::from(json))
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n"),
    }
}

/// An answer of one line of text.
pub(super) fn text(status: StatusCode, text: &'static str) -> Answer {
    typed(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

/// An answer that only these methods are allowed.
pub(super) fn not_allowed(methods: &'static str, why: &'static str) -> Answer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, why);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// An answer of that content type.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    with_type(status, kind, Content::Whole(Full::new(body)))
}

/// An answer of events.
pub(super) fn events(receiver: Receiver<Bytes>) -> Answer {
    with_type(StatusCode::OK, "text/event-stream; charset=utf-8", Content::Events(receiver))
}

fn with_type(status: StatusCode, kind: &'static str, content: Content) -> Answer {
    let mut response = Response::new(Body::new(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
