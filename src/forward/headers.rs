//! Headers of a request on their way to the backend: headers that the client may not send are stripped, the policy judges the
//! rest, and then Sidegate sets its own. The order is always this one, so that no header of a client removes what was judged
//! or what is set.

mod identity;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};
use http_body::Body;

use crate::client_headers::{self, Sender, StripPattern, StripPatterns, join};
use crate::identity::Attribute;
use crate::policy::Upgrade;
use crate::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};

pub use crate::client_headers::{strip_connection, strip_trailers};
pub use identity::{IdentityHeaders, IdentitySettings};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// The headers that are the same for all requests of one connection.
#[derive(Debug)]
pub struct ConnectionHeaders {
    peer: IpAddr,
    forwarded_for: HeaderValue,
    /// `for=…;proto=https`, to which the host is added.
    forwarded: String,
}

impl ConnectionHeaders {
    /// Returns the headers that name the peer.
    #[must_use]
    pub fn of(peer: IpAddr) -> Self {
        let peer = peer.to_canonical();
        let forwarded = match peer {
            IpAddr::V4(address) => format!("for={address};proto=https"),
            IpAddr::V6(address) => format!("for=\"[{address}]\";proto=https"),
        };
        // An address is visible ASCII.
        let forwarded_for = value(&peer.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { peer, forwarded_for, forwarded }
    }

    /// The peer's address.
    #[must_use]
    pub const fn peer(&self) -> IpAddr {
        self.peer
    }
}

/// The values that Sidegate sets for one request.
#[derive(Debug)]
pub struct OwnHeaders<'a> {
    /// The identity headers of the client.
    pub identity: &'a IdentityHeaders,
    /// The headers of the connection.
    pub connection: &'a ConnectionHeaders,
    /// The host of the request, or the backend's own if the request names none.
    pub host: &'a str,
    /// The request's id, 32 hexadecimal digits.
    pub request_id: &'a str,
    /// The trace context, if the request is traced here. Trace headers of others pass unchanged.
    pub trace: Option<TraceContext>,
}

/// The configured identity headers, each with the attribute that it carries. The client's headers of these names are always
/// stripped, also if the certificate has no such attribute.
pub type Custom = [(HeaderName, Attribute)];

/// The client's wishes about its own connection, read before its headers are stripped.
#[derive(Clone, Copy, Debug)]
pub struct HopByHopWishes {
    takes_trailers: bool,
    upgrade: Option<Upgrade>,
}

impl HopByHopWishes {
    /// The protocol that the client asks to switch to.
    #[must_use]
    pub const fn upgrade(self) -> Option<Upgrade> {
        self.upgrade
    }
}

/// Strips what a client may not say: what is left is judged and forwarded. A trusted proxy may name the client that it
/// forwards for.
pub fn strip<B: Body>(request: &mut Request<B>, own: &[StripPattern], sender: Sender) -> HopByHopWishes {
    let wishes =
        HopByHopWishes { takes_trailers: takes_trailers(request.headers()), upgrade: switch_asked(request) };
    client_headers::strip(request.headers_mut(), own, sender);
    wishes
}

/// Sets Sidegate's own headers; to be called after the client's were stripped and judged.
pub fn set<B>(request: &mut Request<B>, wishes: HopByHopWishes, said: &OwnHeaders<'_>) {
    let version = request.version();
    let headers = request.headers_mut();
    if wishes.takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    headers.reserve(8 + said.identity.0.len());
    if let Some(host) = host(headers, said.host) {
        // A value that was not stripped comes from a trusted proxy.
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("https"));
    append(headers, X_FORWARDED_FOR, said.connection.forwarded_for.clone());
    if let Ok(forwarded) = HeaderValue::try_from(forwarded(said)) {
        append(headers, header::FORWARDED, forwarded);
    }
    headers.append(header::VIA, via(version));
    headers.extend(value(said.request_id).map(|value| (X_REQUEST_ID, value)));
    let known = TraceContext::of(headers);
    if known.is_none() {
        headers.remove(TRACESTATE);
    }
    let begun = || TraceContext::begin(said.request_id, false).filter(|_| known.is_none());
    if let Some(trace) = said.trace.or_else(begun).and_then(|trace| trace.header()) {
        headers.insert(TRACEPARENT, trace);
    }
    for (name, value) in &said.identity.0 {
        headers.insert(name.clone(), value.clone());
    }
}

/// Sets `Host` to the host of the request, which it mostly is already.
fn host(headers: &mut HeaderMap, host: &str) -> Option<HeaderValue> {
    if let Some(said) = headers.get(header::HOST).filter(|said| said.as_bytes() == host.as_bytes()) {
        return Some(said.clone());
    }
    let host = value(host)?;
    headers.insert(header::HOST, host.clone());
    Some(host)
}

/// Has a body of unknown length sent in chunks, whatever the method is. Otherwise hyper takes a GET or HEAD for one without a
/// body, and the body would be lost.
pub(super) fn frame_unknown_length<B: http_body::Body>(request: &mut Request<B>) {
    let body = request.body();
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The one protocol that a request may ask to switch to.
const WEBSOCKET: &str = "websocket";

/// The protocol that a request asks to switch to. Only an HTTP/1.1 GET without a body can ask: a body would be read as the
/// new protocol by one side, and as a body by the other.
fn switch_asked<B: Body>(request: &Request<B>) -> Option<Upgrade> {
    let headers = request.headers();
    let asks = headers.contains_key(header::UPGRADE)
        && request.version() == Version::HTTP_11
        && *request.method() == http::Method::GET
        && request.body().is_end_stream()
        && agrees_to_switch(headers);
    asks.then_some(Upgrade::WebSocket)
}

/// `true` if `Connection` and `Upgrade` say that the connection switches to WebSocket.
pub(super) fn agrees_to_switch(headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, token: &str| {
        let values = headers.get_all(name).into_iter();
        let mut tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    says(header::UPGRADE, WEBSOCKET) && says(header::CONNECTION, "upgrade")
}

/// Sets `Connection` and `Upgrade` for a switch to WebSocket; to be called after stripping.
pub fn switch(headers: &mut HeaderMap) {
    headers.remove(header::TE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Turns a request that was prepared for HTTP/1.1 into one of HTTP/2: `Host` becomes `:authority`, and headers about the
/// connection are removed.
pub(super) fn fit_http2<B>(request: &mut Request<B>, scheme: Scheme) {
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    let host = headers.remove(header::HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    // Without an authority there is no scheme either; a host that was accepted is always a valid authority.
    parts.scheme = parts.authority.is_some().then_some(scheme);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 sidegate",
        Version::HTTP_10 => "1.0 sidegate",
        _ => "1.1 sidegate",
    })
}

/// `true` if the client accepts trailers. The backend is told, because gRPC servers insist on it.
fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut values =
        headers.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// The element of `Forwarded` (RFC 7239). A host with a port, or an IPv6 address, needs its quotes.
fn forwarded(said: &OwnHeaders<'_>) -> String {
    let start = &said.connection.forwarded;
    let host = said.host;
    let mut out = String::with_capacity(start.len() + host.len() + 8);
    out.push_str(start);
    out.push_str(";host=\"");
    out.push_str(host);
    out.push('"');
    out
}

/// Adds to a list of the proxies before us, in one field: some backends read only the first field, some only the last.
fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match headers.entry(&name) {
        Entry::Vacant(place) => {
            place.insert(value);
        }
        Entry::Occupied(mut place) => {
            place.append(value);
            join(headers, &name, b", ");
        }
    }
}

/// Returns the names that are stripped from trailers beside the listed ones, for a request that may have trailers.
pub fn own_of_trailers<B: Body>(request: &Request<B>, own: &StripPatterns) -> Option<StripPatterns> {
    (!own.is_empty() && !request.body().is_end_stream()).then(|| Arc::clone(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_takes_away_only_the_clients_own() {
        let mut request = Request::builder()
            .header("connection", "x-forwarded-for, client-cert")
            .body(String::new())
            .unwrap();
        let identity = IdentityHeaders(vec![(CLIENT_CERT, HeaderValue::from_static(":AA==:"))]);
        let connection = ConnectionHeaders::of("192.0.2.1".parse().unwrap());
        let said = OwnHeaders {
            identity: &identity,
            connection: &connection,
            host: "a",
            request_id: "0123456789abcdef0123456789abcdef",
            trace: None,
        };
        let wishes = strip(&mut request, &[], Sender::Client);
        set(&mut request, wishes, &said);
        assert_eq!(request.headers().get("client-cert").unwrap(), ":AA==:");
        assert_eq!(request.headers().get("x-forwarded-for").unwrap(), "192.0.2.1");
        assert_eq!(request.headers().get("forwarded").unwrap(), "for=192.0.2.1;proto=https;host=\"a\"");
        assert!(TraceContext::of(request.headers()).is_some());
    }
}
