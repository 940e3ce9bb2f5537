//! Every documented answer that Sidegate gives itself, in one table: response, documentation and tests come from it.
//!
//! A refusal is `application/problem+json` (RFC 9457). Its `type` is this page and one of these headings:
//!
//! # not_authenticated
//! 401: no client certificate was presented. Present one that was issued by a client CA of this service.
//!
//! # invalid_certificate
//! 401: a client certificate was presented and is not valid here; `detail` says what is wrong with it.
//!
//! # insufficient_permissions
//! 403: the client is known, and no grant allows what it asked for, or a deny rule forbids it.
//!
//! # ambiguous_request
//! 400: two parsers could read the request differently, so it is not passed on; `detail` says where.
//!
//! # headers_too_large
//! 431: the request's headers are more, or longer, than this service takes (`limits.http`). Send fewer or shorter ones.
//!
//! # request_timeout
//! 408: the request's body stopped coming. Send it without long pauses, or send the request again.
//!
//! # server_full
//! 504: every connection slot is taken. Try again after `Retry-After` seconds.
//!
//! # overloaded
//! 504: a rate limit or the limit of requests in flight is reached. Try again after `Retry-After` seconds.
//!
//! # backend_unavailable
//! 504: the service behind Sidegate refuses connections, resets them, or answers with something that is no HTTP.
//!
//! # backend_timeout
//! 504: the service behind Sidegate did not answer in time.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::identity::Unauthenticated;
use crate::target::Ambiguity;

/// The reasons of DESIGN §3. One row of the table each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No client certificate.
    NotAuthenticated,
    /// A certificate that is malformed, expired, of an unknown issuer, revoked …
    InvalidCertificate,
    /// Authenticated, and not allowed.
    InsufficientPermissions,
    /// All slots are taken.
    ServerFull,
    /// A rate, in-flight or queue limit is reached.
    Overloaded,
    /// The backend refuses, resets, or cannot be reached.
    BackendUnavailable,
    /// The backend did not answer in time.
    BackendTimeout,
    /// An authenticated client's request that two parsers could read differently.
    AmbiguousRequest,
    /// More or longer headers than are taken.
    HeadersTooLarge,
    /// A body that stopped coming.
    RequestTimeout,
}

/// What the documentation says of a reason.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The HTTP status code.
    pub status: StatusCode,
    /// The title, which is also the phrase of an HTTP/1.1 status line.
    pub title: &'static str,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// When it is given, for README's table.
    pub when: &'static str,
}

impl Reason {
    /// All of them, in the order of the documentation.
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

    /// Its row of the table.
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
                "all connection slots are taken",
            ),
            Self::Overloaded => (
                StatusCode::GATEWAY_TIMEOUT,
                "Service Unavailable",
                "overloaded",
                "the limit of requests in flight, or a rate limit, is reached",
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
                "the client is allowed to, and stopped sending its request's body",
            ),
        };
        Row { status, title, reason, when }
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

/// Whose fault it was that the backend gave no answer, in the words of RFC 9209 §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendFault {
    /// No connection: refused, unroutable, no such name.
    Unreachable,
    /// A connection was not made within `backend.connect_timeout`.
    ConnectTimeout,
    /// No TLS: its certificate is not of the authorities in `backend.tls.ca`, or is of another name, or it speaks none.
    Insecure,
    /// The connection ended before the response's headers.
    Terminated,
    /// What came back is no HTTP.
    NotHttp,
    /// No headers within `backend.response_timeout`.
    ResponseTimeout,
}

/// One refusal: what is told to one client about one request.
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
    /// 403 for this method and path.
    NotPermitted {
        /// The request's method.
        method: Method,
        /// The request's path, as it was sent.
        path: String,
    },
    /// 504: no slot is free.
    ServerFull,
    /// 504: the limit of requests in flight is reached.
    Overloaded,
    /// 504: the backend gave no answer.
    Backend(BackendFault),
}

/// Longer paths are cut in a detail: it is one sentence.
const MAX_PATH_IN_DETAIL: usize = 200;
/// The page above, on which each reason is a heading.
const TYPE: &str = "https://docs.rs/sidegate/latest/sidegate/refusal/index.html#";

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

#[derive(Serialize)]
struct Problem<'a> {
    r#type: Type,
    title: &'static str,
    status: u16,
    reason: &'static str,
    detail: &'a str,
    request_id: &'a str,
}

struct Type(&'static str);

impl Serialize for Type {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{TYPE}{}", self.0))
    }
}

impl Refusal {
    /// The row of the table that this refusal belongs to.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unauthenticated(Unauthenticated::NoCertificate) | Self::PlainHttp => {
                Reason::NotAuthenticated
            }
            Self::Unauthenticated(Unauthenticated::Invalid(_)) => Reason::InvalidCertificate,
            Self::Ambiguous(_) => Reason::AmbiguousRequest,
            Self::HeadersTooLarge => Reason::HeadersTooLarge,
            Self::Stalled => Reason::RequestTimeout,
            Self::NotPermitted { .. } => Reason::InsufficientPermissions,
            Self::ServerFull => Reason::ServerFull,
            Self::Overloaded => Reason::Overloaded,
            Self::Backend(BackendFault::ConnectTimeout | BackendFault::ResponseTimeout) => {
                Reason::BackendTimeout
            }
            Self::Backend(_) => Reason::BackendUnavailable,
        }
    }

    /// One sentence for whoever reads the answer: never a policy rule, another client, the backend's address or an
    /// internal error.
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
            Self::NotPermitted { method, path } => {
                let end = path.char_indices().nth(MAX_PATH_IN_DETAIL).map(|(index, _)| index);
                match end.and_then(|end| path.get(..end)) {
                    Some(start) => format!("no grant allows {method} {start}…"),
                    None => format!("no grant allows {method} {path}"),
                }
            }
            Self::ServerFull => "all connection slots are taken; try again later".to_owned(),
            Self::Overloaded => "too many requests are in progress; try again later".to_owned(),
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
            Self::Backend(BackendFault::NotHttp) => "the service gave an answer that is not HTTP".to_owned(),
        }
    }

    /// The error type of `Proxy-Status` (RFC 9209 §2.3), where the answer carries one.
    const fn proxy_status(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match self {
            Self::NotPermitted { .. } => "sidegate; error=http_request_denied",
            Self::ServerFull => "sidegate; error=connection_limit_reached",
            Self::Overloaded => "sidegate; error=destination_unavailable",
            Self::Backend(BackendFault::Unreachable) => "sidegate; error=connection_refused",
            Self::Backend(BackendFault::ConnectTimeout) => "sidegate; error=connection_timeout",
            Self::Backend(BackendFault::Insecure) => "sidegate; error=tls_protocol_error",
            Self::Backend(BackendFault::Terminated) => "sidegate; error=connection_terminated",
            Self::Backend(BackendFault::NotHttp) => "sidegate; error=http_protocol_error",
            Self::Backend(BackendFault::ResponseTimeout) => "sidegate; error=http_response_timeout",
            _ => return None,
        }))
    }

    /// Seconds after which it makes sense to try again.
    const fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Self::ServerFull | Self::Overloaded | Self::Backend(_) => Some(HeaderValue::from_static("1")),
            _ => None,
        }
    }

    /// The whole answer. To HEAD it has the headers of the answer to GET, and no body.
    #[must_use]
    pub fn response(&self, method: &Method, request_id: &str) -> Response<Bytes> {
        let reason = self.reason();
        let row = reason.row();
        let body = self.body(request_id);
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = row.status;
        response.extensions_mut().insert(reason.phrase());
        let headers = response.headers_mut();
        headers.reserve(5);
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Some(challenge) = challenge(reason) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(status) = self.proxy_status() {
            headers.insert(PROXY_STATUS, status);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if method != Method::HEAD {
            *response.body_mut() = Bytes::from(body);
        }
        response
    }

    fn body(&self, request_id: &str) -> Vec<u8> {
        let row = self.reason().row();
        let problem = Problem {
            r#type: Type(row.reason),
            title: row.title,
            status: row.status.as_u16(),
            reason: row.reason,
            detail: &self.detail(),
            request_id,
        };
        let mut body = Vec::with_capacity(320);
        // Text and numbers into memory: nothing here can fail.
        let _ = serde_json::to_writer(&mut body, &problem);
        body.push(b'\n');
        body
    }

    /// The same answer as raw HTTP/1.1, for what never became a request. The connection ends with it.
    #[must_use]
    pub fn frame(&self, request_id: &str) -> Vec<u8> {
        let response = self.response(&Method::GET, request_id);
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

/// RFC 9110 §11.6.1 wants a challenge in every 401. No scheme is registered for TLS client certificates; this one
/// says in its name what is asked for.
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
    fn a_detail_is_one_sentence_however_long_the_path() {
        let refusal = Refusal::NotPermitted { method: Method::GET, path: format!("/{}", "é".repeat(5000)) };
        assert!(refusal.detail().chars().count() < 240);
    }
}
