//! Sidegate's own answers in one table, from which the responses, the documentation and the tests come.
//!
//! A refusal is `application/problem+json` (RFC 9457). A gRPC client gets a gRPC status with the same `detail`.
//! The `type` of the problem leads to one of these headings:
//!
//! # not_authenticated
//! 401: no client certificate was presented. Present one that was issued by a client CA of this service.
//!
//! # invalid_certificate
//! 401: a client certificate was presented and is not valid here; `detail` says what is wrong with it.
//!
//! # insufficient_permissions
//! 403: the client is authenticated, and no grant allows the request, or a deny rule forbids it.
//!
//! # ambiguous_request
//! 400: two parsers could read the request differently, so it is not forwarded; `detail` says where.
//!
//! # headers_too_large
//! 431: the request has more or longer headers than this service accepts (`limits.http`). Send fewer or shorter ones.
//!
//! # request_timeout
//! 408: the client stopped sending the request's body. Send the body without long pauses, or send the request again.
//!
//! # server_full
//! 504: every connection slot is taken, or all that this client may have. Try again after `Retry-After` seconds.
//!
//! # overloaded
//! 504: a rate limit or the limit of requests in flight is reached, or the service behind Sidegate could not be reached several
//! times in a row and gets no requests for a moment. Try again after `Retry-After` seconds.
//!
//! # backend_unavailable
//! 504: the service behind Sidegate refuses connections, resets them, or answers with something that is not HTTP.
//!
//! # backend_timeout
//! 504: the service behind Sidegate did not answer in time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use crate::identity::{Flaw, Unauthenticated};
use crate::target::Ambiguity;

/// The reasons of DESIGN §3, one row of the table each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No client certificate.
    NotAuthenticated,
    /// A certificate that is malformed, expired, of an unknown issuer, revoked …
    InvalidCertificate,
    /// The client is authenticated, and no grant allows the request.
    InsufficientPermissions,
    /// All slots are taken.
    ServerFull,
    /// A rate, in-flight or queue limit is reached.
    Overloaded,
    /// The backend refuses, resets, or cannot be reached.
    BackendUnavailable,
    /// The backend does not answer in time.
    BackendTimeout,
    /// An authenticated client's request that two parsers could read differently.
    AmbiguousRequest,
    /// More or longer headers than Sidegate accepts.
    HeadersTooLarge,
    /// The client stopped sending the body.
    RequestTimeout,
}

/// The documentation of a reason.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The HTTP status code.
    pub status: StatusCode,
    /// The title, which is also the phrase of an HTTP/1.1 status line.
    pub title: &'static str,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The situations in which the reason is given, for README's table.
    pub when: &'static str,
}

impl Reason {
    /// All reasons, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::NotAuthenticated,
        Self::InvalidCertificate,
        Self::InsufficientPermissions,
        Self::ServerFull,
        Self::Overloaded,
        Self::BackendUnavailable,
        Self::BackendTimeout,
        Self::AmbiguousRequest,
        Self::HeadersTooLarge,
        Self::RequestTimeout,
    ];

    /// The reason's row of the table.
    #[must_use]
    pub const fn row(self) -> Row {
        let (status, title, reason, when) = match self {
            Self::NotAuthenticated => (
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "not_authenticated",
                "no client certificate was presented",
            ),
            Self::InvalidCertificate => (
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "invalid_certificate",
                "the certificate is malformed, expired, not yet valid, of an unknown issuer, revoked, not for client authentication or too weak",
            ),
            Self::InsufficientPermissions => (
                StatusCode::FORBIDDEN,
                "Forbidden",
                "insufficient_permissions",
                "the client is authenticated, and no grant allows the request or a deny rule forbids it",
            ),
            Self::ServerFull => (
                StatusCode::GATEWAY_TIMEOUT,
                "Service Unavailable",
                "server_full",
                "all connection slots are taken, or all that this client may have",
            ),
            Self::Overloaded => (
                StatusCode::GATEWAY_TIMEOUT,
                "Service Unavailable",
                "overloaded",
                "the client's rate, or the limit of requests in flight and in the queue, is reached, or the backend could not be reached several times in a row",
            ),
            Self::BackendUnavailable => (
                StatusCode::GATEWAY_TIMEOUT,
                "Service Unavailable",
                "backend_unavailable",
                "the backend refuses connections, resets them, cannot be reached or does not speak HTTP",
            ),
            Self::BackendTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "Service Unavailable",
                "backend_timeout",
                "the backend did not answer in time",
            ),
            Self::AmbiguousRequest => (
                StatusCode::BAD_REQUEST,
                "Bad Request",
                "ambiguous_request",
                "the client is authenticated, and its request could be read in two ways",
            ),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request Header Fields Too Large",
                "headers_too_large",
                "the client is authenticated, and its request has too many or too long headers",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "Request Timeout",
                "request_timeout",
                "the client has the permission, and stopped sending the body of its request",
            ),
        };
        Row { status, title, reason, when }
    }

    /// The side at fault, unless the refusal itself knows better ([`Refusal::fault`]).
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Self::NotAuthenticated
            | Self::InvalidCertificate
            | Self::AmbiguousRequest
            | Self::HeadersTooLarge
            | Self::RequestTimeout => Fault::Client,
            Self::InsufficientPermissions => Fault::Policy,
            Self::ServerFull | Self::Overloaded => Fault::Limit,
            Self::BackendUnavailable | Self::BackendTimeout => Fault::Backend,
        }
    }

    const fn phrase(self) -> ReasonPhrase {
        match self {
            Self::NotAuthenticated | Self::InvalidCertificate => ReasonPhrase::from_static(b"Unauthorized"),
            Self::InsufficientPermissions => ReasonPhrase::from_static(b"Forbidden"),
            Self::ServerFull | Self::Overloaded | Self::BackendUnavailable | Self::BackendTimeout => {
                ReasonPhrase::from_static(b"Service Unavailable")
            }
            Self::AmbiguousRequest => ReasonPhrase::from_static(b"Bad Request"),
            Self::HeadersTooLarge => ReasonPhrase::from_static(b"Request Header Fields Too Large"),
            Self::RequestTimeout => ReasonPhrase::from_static(b"Request Timeout"),
        }
    }
}

/// The fault for which the backend gave no answer, in the terms of RFC 9209 §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendFault {
    /// No connection: refused, unroutable, no such name.
    Unreachable,
    /// A connection was not made within `backend.connect_timeout`.
    ConnectTimeout,
    /// No TLS: the certificate is not of the authorities in `backend.tls.ca`, or is for another name, or the backend speaks
    /// no TLS.
    Insecure,
    /// The connection ended before the response's headers.
    Terminated,
    /// The answer is not HTTP, or is framed in a way that two parsers could read differently.
    NotHttp(ResponseFlaw),
    /// No headers within `backend.response_timeout`.
    ResponseTimeout,
    /// No connection, because this process has no descriptor, port or memory left for one.
    OwnResources,
}

impl BackendFault {
    const fn facts(self) -> (Reason, Fault, Option<&'static str>) {
        match self {
            Self::Unreachable => {
                (Reason::BackendUnavailable, Fault::Backend, Some("sidegate; error=connection_refused"))
            }
            Self::ConnectTimeout => {
                (Reason::BackendTimeout, Fault::Backend, Some("sidegate; error=connection_timeout"))
            }
            Self::Insecure => {
                (Reason::BackendUnavailable, Fault::Backend, Some("sidegate; error=tls_protocol_error"))
            }
            Self::Terminated => {
                (Reason::BackendUnavailable, Fault::Backend, Some("sidegate; error=connection_terminated"))
            }
            Self::NotHttp(_) => {
                (Reason::BackendUnavailable, Fault::Backend, Some("sidegate; error=http_protocol_error"))
            }
            Self::ResponseTimeout => {
                (Reason::BackendTimeout, Fault::Backend, Some("sidegate; error=http_response_timeout"))
            }
            Self::OwnResources => {
                (Reason::BackendUnavailable, Fault::Sidegate, Some("sidegate; error=proxy_internal_error"))
            }
        }
    }
}

/// The cause for which an answer of the backend is not HTTP: for operators, in records and in the log. Clients are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFlaw {
    /// The first line is no status line of HTTP/1 (RFC 9112 §4).
    StatusLine,
    /// The backend speaks TLS, and Sidegate was told to speak plain HTTP.
    Tls,
    /// The backend speaks HTTP/2, and Sidegate was told to speak HTTP/1.1; or the other way round.
    OtherVersion,
    /// A header goes on in the next line (obsolete line folding, RFC 9112 §5.2).
    FoldedHeader,
    /// A line between the status line and the end of the headers is no header field.
    HeaderName,
    /// A header's value holds a control character.
    HeaderValue,
    /// More header fields than `backend.max_response_headers`, or more bytes of them than are read.
    TooManyHeaders,
    /// `Content-Length` is no number, or several that differ (RFC 9112 §6.3).
    ContentLength,
    /// `Transfer-Encoding` has another coding than `chunked`, or one that is not the last (RFC 9112 §6.1).
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` together (RFC 9112 §6.3).
    TwoFramings,
    /// A chunk of the body is malformed (RFC 9112 §7.1).
    Chunk,
    /// A switch to another protocol for which the request did not ask.
    UnaskedSwitch,
    /// A violation of HTTP/2 (RFC 9113).
    Http2,
    /// Another violation of HTTP.
    Other,
}

impl ResponseFlaw {
    /// All causes.
    pub const ALL: [Self; 14] = [
        Self::StatusLine,
        Self::Tls,
        Self::OtherVersion,
        Self::FoldedHeader,
        Self::HeaderName,
        Self::HeaderValue,
        Self::TooManyHeaders,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::TwoFramings,
        Self::Chunk,
        Self::UnaskedSwitch,
        Self::Http2,
        Self::Other,
    ];

    /// The value of `cause` in audit records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StatusLine => "status_line",
            Self::Tls => "tls",
            Self::OtherVersion => "other_version",
            Self::FoldedHeader => "folded_header",
            Self::HeaderName => "header_name",
            Self::HeaderValue => "header_value",
            Self::TooManyHeaders => "too_many_headers",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::TwoFramings => "two_framings",
            Self::Chunk => "chunk",
            Self::UnaskedSwitch => "unasked_switch",
            Self::Http2 => "http2",
            Self::Other => "other",
        }
    }
}

/// The side at fault when a request is not answered by the backend, or not to its end. Records, metrics, alerts and the page
/// take it from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client: its certificate, its request, its reading, or its leaving.
    Client,
    /// The backend.
    Backend,
    /// The policy, which does not allow the request.
    Policy,
    /// A configured limit, which others or the client itself have used up.
    Limit,
    /// Sidegate itself, or its configuration.
    Sidegate,
}

impl Fault {
    /// The value of `fault` in metrics and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Policy => "policy",
            Self::Limit => "limit",
            Self::Sidegate => "sidegate",
        }
    }
}

/// One refusal: the answer to one client about one request.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// 401, by the verdict on the client's certificate.
    Unauthenticated(Unauthenticated),
    /// 401 in plain text, because the client spoke HTTP to a port that speaks HTTPS.
    PlainHttp,
    /// 400.
    Ambiguous(Ambiguity),
    /// 431.
    HeadersTooLarge,
    /// 408: the client stopped sending its body.
    Stalled,
    /// 400: the client ended its body before the announced end. Usually the client has left, and reads no answer.
    CutShort,
    /// 403 for this method and path.
    NotPermitted {
        /// The request's method.
        method: Method,
        /// The request's path, as it was sent.
        path: String,
    },
    /// 504: no slot is free.
    ServerFull,
    /// 504: the client holds as many slots as it may.
    ShareTaken,
    /// 504: the client has as many requests in flight and in the queue as it may have.
    InFlightTaken,
    /// 504: the client has exceeded its rate; after this time it may send the next request.
    TooOften(Duration),
    /// 504: the limits of requests in flight and of the queue are reached. After this time all these requests have left.
    Overloaded(Duration),
    /// 504: the backend could not be reached several times in a row; after this time it is tried again.
    Paused(Duration),
    /// 504: the backend gave no answer.
    Backend(BackendFault),
}

/// Longest path in a detail, in bytes: a detail is one sentence.
const MAX_PATH_IN_DETAIL: usize = 200;
/// The page above, on which each reason is a heading.
const TYPE: &str = "https://docs.rs/sidegate/latest/sidegate/refusal/index.html#";

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

impl Refusal {
    /// The facts of this refusal: its row of the table, the side at fault, and the value of `Proxy-Status` (RFC 9209) with its error
    /// type, for answers that have that header.
    const fn facts(&self) -> (Reason, Fault, Option<&'static str>) {
        match self {
            Self::Unauthenticated(Unauthenticated::NoCertificate) | Self::PlainHttp => {
                (Reason::NotAuthenticated, Fault::Client, None)
            }
            // Every client of the authority is refused until an operator provides a current CRL.
            Self::Unauthenticated(Unauthenticated::Invalid(
                Flaw::RevocationUnknown | Flaw::RevocationOutdated,
            )) => (Reason::InvalidCertificate, Fault::Sidegate, None),
            Self::Unauthenticated(Unauthenticated::Invalid(_)) => {
                (Reason::InvalidCertificate, Fault::Client, None)
            }
            Self::Ambiguous(_) | Self::CutShort => (Reason::AmbiguousRequest, Fault::Client, None),
            Self::HeadersTooLarge => (Reason::HeadersTooLarge, Fault::Client, None),
            Self::Stalled => (Reason::RequestTimeout, Fault::Client, None),
            Self::NotPermitted { .. } => {
                (Reason::InsufficientPermissions, Fault::Policy, Some("sidegate; error=http_request_denied"))
            }
            Self::ServerFull | Self::ShareTaken => {
                (Reason::ServerFull, Fault::Limit, Some("sidegate; error=connection_limit_reached"))
            }
            Self::InFlightTaken | Self::TooOften(_) => {
                (Reason::Overloaded, Fault::Limit, Some("sidegate; error=http_request_denied"))
            }
            Self::Overloaded(_) => {
                (Reason::Overloaded, Fault::Limit, Some("sidegate; error=destination_unavailable"))
            }
            // The circuit breaker is open because the backend could not be reached.
            Self::Paused(_) => {
                (Reason::Overloaded, Fault::Backend, Some("sidegate; error=destination_unavailable"))
            }
            Self::Backend(fault) => fault.facts(),
        }
    }

    /// The row of the table to which this refusal belongs.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.facts().0
    }

    /// The side at fault.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.facts().1
    }

    /// One sentence for the client. It never contains a policy rule, another client, the backend's address or an internal
    /// error.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Unauthenticated(Unauthenticated::NoCertificate) => {
                "this service needs a client certificate and none was presented".to_owned()
            }
            Self::Unauthenticated(Unauthenticated::Invalid(flaw)) => flaw.to_string(),
            Self::PlainHttp => {
                "this port speaks HTTPS with client certificates; use https:// and present one".to_owned()
            }
            Self::Ambiguous(ambiguity) => ambiguity.to_string(),
            Self::HeadersTooLarge => "the request has too many headers, or too long ones".to_owned(),
            Self::Stalled => "nothing of the request's body came for too long".to_owned(),
            Self::CutShort => "the request's body ended before its announced end".to_owned(),
            Self::NotPermitted { method, path } => {
                let end = path.char_indices().nth(MAX_PATH_IN_DETAIL).map(|(index, _)| index);
                let (path, cut) = match end.and_then(|end| path.get(..end)) {
                    Some(start) => (start, "…"),
                    None => (path.as_str(), ""),
                };
                ["no grant allows ", method.as_str(), " ", path, cut].concat()
            }
            Self::ServerFull => "all connection slots are taken; try again later".to_owned(),
            Self::ShareTaken => {
                "this client has as many connections as it may; close one, or try again later".to_owned()
            }
            Self::InFlightTaken => {
                "this client has as many requests in progress as it may; wait for one of their answers"
                    .to_owned()
            }
            Self::TooOften(wait) => {
                format!("this client asks more often than it may; try again in {} s", whole_seconds(*wait))
            }
            Self::Overloaded(_) => "too many requests are in progress; try again later".to_owned(),
            Self::Paused(wait) => {
                format!(
                    "the service could not be reached several times in a row; try again in {} s",
                    whole_seconds(*wait)
                )
            }
            Self::Backend(BackendFault::ConnectTimeout) => {
                "the service did not accept a connection in time".to_owned()
            }
            Self::Backend(BackendFault::ResponseTimeout) => "the service did not answer in time".to_owned(),
            Self::Backend(BackendFault::Unreachable) => "the service is not reachable".to_owned(),
            Self::Backend(BackendFault::Insecure) => {
                "no secure connection to the service can be made".to_owned()
            }
            Self::Backend(BackendFault::Terminated) => {
                "the service closed the connection before it answered".to_owned()
            }
            Self::Backend(BackendFault::NotHttp(_)) => {
                "the service gave an answer that is not HTTP".to_owned()
            }
            Self::Backend(BackendFault::OwnResources) => {
                "the proxy has no resources for another connection to the service".to_owned()
            }
        }
    }

    /// Seconds after which it makes sense to try again. If that depends on what others do, it is the least possible time.
    fn retry_after(&self) -> Option<HeaderValue> {
        let wait = match self {
            Self::TooOften(wait) | Self::Overloaded(wait) | Self::Paused(wait) => *wait,
            Self::ServerFull | Self::ShareTaken | Self::InFlightTaken | Self::Backend(_) => Duration::ZERO,
            _ => return None,
        };
        Some(HeaderValue::from(whole_seconds(wait)))
    }

    /// Returns the whole answer in the form that its reader understands. `detail` is [`Self::detail`], which callers need as
    /// well.
    #[must_use]
    pub fn response(&self, reader: Reader, request_id: &str, detail: &str) -> Response<Bytes> {
        let reason = self.reason();
        let row = reason.row();
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = row.status;
        response.extensions_mut().insert(reason.phrase());
        let headers = response.headers_mut();
        headers.reserve(5);
        if let Some(challenge) = challenge(reason) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(proxy_status) = self.facts().2 {
            headers.insert(PROXY_STATUS, HeaderValue::from_static(proxy_status));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if reader == Reader::Grpc {
            headers.insert(header::CONTENT_TYPE, GRPC);
            headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(row.status)));
            headers.extend(grpc_message(detail).map(|message| (GRPC_MESSAGE, message)));
            return response;
        }
        let body = self.body(request_id, detail);
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if reader == Reader::Whole {
            *response.body_mut() = Bytes::from(body);
        }
        response
    }

    /// Only the detail holds text of others; everything else needs no escapes.
    fn body(&self, request_id: &str, detail: &str) -> Vec<u8> {
        let Row { reason, title, status, .. } = self.reason().row();
        let status = status.as_str();
        let before = [
            r#"{"type":""#,
            TYPE,
            reason,
            r#"","title":""#,
            title,
            r#"","status":"#,
            status,
            r#","reason":""#,
            reason,
            r#"","detail":"#,
        ];
        let mut body = Vec::with_capacity(320);
        before.iter().for_each(|text| body.extend_from_slice(text.as_bytes()));
        // Writing text into memory cannot fail.
        let _ = serde_json::to_writer(&mut body, detail);
        for text in [r#","request_id":""#, request_id, "\"}\n"] {
            body.extend_from_slice(text.as_bytes());
        }
        body
    }

    /// Returns the same answer as raw HTTP/1.1, for bytes that were not parsed as a request. The connection ends with it.
    #[must_use]
    pub fn frame(&self, request_id: &str) -> Vec<u8> {
        let response = self.response(Reader::Whole, request_id, &self.detail());
        let row = self.reason().row();
        let mut frame = format!("HTTP/1.1 {} {}\r\n", row.status.as_u16(), row.title).into_bytes();
        for (name, value) in response.headers() {
            frame.extend_from_slice(name.as_str().as_bytes());
            frame.extend_from_slice(b": ");
            frame.extend_from_slice(value.as_bytes());
            frame.extend_from_slice(b"\r\n");
        }
        frame.extend_from_slice(b"connection: close\r\n\r\n");
        frame.extend_from_slice(response.body());
        frame
    }
}

/// Rounds up to whole seconds, and to one at least: a client that comes earlier would come too early.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The parts of a refusal that a client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The whole answer.
    Whole,
    /// The headers of the answer to GET, without a body: the answer to HEAD.
    Head,
    /// Headers alone, with a gRPC status. A gRPC client may read a body before the status, and would then report "unknown"
    /// and not what happened.
    Grpc,
}

impl Reader {
    /// The reader that sent this request.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        // `application/grpc-web` has its status elsewhere.
        match content_type.and_then(|content_type| content_type.strip_prefix(b"application/grpc")) {
            Some([] | [b'+' | b';', ..]) => Self::Grpc,
            _ if request.method() == Method::HEAD => Self::Head,
            _ => Self::Whole,
        }
    }
}

/// The gRPC status for an HTTP status, as gRPC's specification maps it for answers without one, so that both agree.
const fn grpc_status(status: StatusCode) -> u16 {
    match status {
        StatusCode::BAD_REQUEST => 13,     // INTERNAL
        StatusCode::UNAUTHORIZED => 16,    // UNAUTHENTICATED
        StatusCode::FORBIDDEN => 7,        // PERMISSION_DENIED
        StatusCode::GATEWAY_TIMEOUT => 14, // UNAVAILABLE
        _ => 2,                            // UNKNOWN
    }
}

/// The value of `grpc-message`: UTF-8, everything but visible ASCII percent-encoded.
fn grpc_message(text: &str) -> Option<HeaderValue> {
    let mut message = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => message.push_str("%25"),
            b' '..=b'~' => message.push(char::from(byte)),
            _ => message.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&message).ok()
}

/// The challenge, which RFC 9110 §11.6.1 requires in every 401. No scheme is registered for TLS client certificates; this
/// name says what is required.
const fn challenge(reason: Reason) -> Option<HeaderValue> {
    match reason {
        Reason::NotAuthenticated => Some(HeaderValue::from_static(
            "ClientCertificate realm=\"sidegate\", error=\"not_authenticated\"",
        )),
        Reason::InvalidCertificate => Some(HeaderValue::from_static(
            "ClientCertificate realm=\"sidegate\", error=\"invalid_certificate\"",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phrase_is_the_title() {
        for reason in Reason::ALL {
            assert_eq!(reason.phrase().as_bytes(), reason.row().title.as_bytes());
        }
    }

    #[test]
    fn every_reason_has_its_heading_on_this_page() {
        let page = include_str!("refusal.rs");
        for reason in Reason::ALL {
            assert!(page.contains(&format!("//! # {}\n", reason.row().reason)), "{reason:?}");
        }
    }

    #[test]
    fn who_comes_back_when_told_does_not_come_too_early() {
        for (milliseconds, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            let refusal = Refusal::TooOften(Duration::from_millis(milliseconds));
            assert_eq!(refusal.retry_after().unwrap(), seconds.to_string().as_str());
            assert!(refusal.detail().ends_with(&format!(" {seconds} s")));
        }
    }

    #[test]
    fn a_detail_is_one_sentence_however_long_the_path() {
        let refusal = Refusal::NotPermitted { method: Method::GET, path: format!("/{}", "é".repeat(5000)) };
        assert!(refusal.detail().chars().count() < 240);
    }

    #[test]
    fn a_grpc_client_gets_the_status_and_the_detail_in_its_own_words() {
        let of = |content_type: &str| {
            Reader::of(&Request::builder().header("content-type", content_type).body(()).unwrap())
        };
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc;a=b"] {
            assert_eq!(of(grpc), Reader::Grpc, "{grpc}");
        }
        for other in ["application/grpc-web", "application/grpc-web+proto", "application/json", ""] {
            assert_eq!(of(other), Reader::Whole, "{other}");
        }
        let refusal = Refusal::NotPermitted { method: Method::POST, path: "/größer%20".to_owned() };
        let answer = refusal.response(Reader::Grpc, "", &refusal.detail());
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.headers()["grpc-status"], "7");
        assert_eq!(answer.headers()["grpc-message"], "no grant allows POST /gr%C3%B6%C3%9Fer%2520");
        assert!(answer.body().is_empty());
    }
}
