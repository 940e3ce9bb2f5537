//! What of a request's headers reaches the backend: first everything is stripped that the client may not say, then
//! what Sidegate says itself is set. In this order, always: nothing that a client names can take away what is set.

mod identity;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};
use http_body::Body;

use crate::identity::Attribute;
use crate::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};

pub use identity::{IdentityHeaders, IdentitySettings};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What belongs to one connection, never to the next (RFC 9110 §7.6.1), and framing, which is made anew.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whole names that a client may not set: identity, rewriting in legacy frameworks, and CGI's `HTTP_PROXY`.
const PROTECTED: [&str; 15] = [
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "proxy",
    "proxy-authorization",
    "remote-user",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

/// Families of names that a client may not set.
const PROTECTED_FAMILIES: [&str; 6] =
    ["x-forwarded-", "x-client-", "x-ssl-", "x-remote-", "x-envoy-", "ssl-client-"];

/// Names that frame or route a message. In another spelling they mean nothing here, and what they say to those who
/// fold names.
const FRAMING: [&str; 3] = ["content-length", "host", "transfer-encoding"];

/// What a proxy that is trusted says of whom it speaks for; in no other spelling.
const OF_PROXIES: [HeaderName; 6] =
    [header::FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REAL_IP];

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// What is the same for all requests of one connection.
#[derive(Debug)]
pub struct ConnectionHeaders {
    peer: IpAddr,
    forwarded_for: HeaderValue,
    /// `for=…;proto=https`, to which the host is added.
    forwarded: String,
}

impl ConnectionHeaders {
    /// The headers that name the peer.
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

    /// The address that they name.
    #[must_use]
    pub const fn peer(&self) -> IpAddr {
        self.peer
    }
}

/// What is said of one request.
#[derive(Debug)]
pub struct Said<'a> {
    /// Who the client is.
    pub identity: &'a IdentityHeaders,
    /// Whence it came.
    pub connection: &'a ConnectionHeaders,
    /// The one host of the request, or the backend's own where it named none.
    pub host: &'a str,
    /// The request's id, 32 hexadecimal digits.
    pub request_id: &'a str,
    /// Where in its trace it is, if it is traced here. What others trace passes as it came.
    pub trace: Option<TraceContext>,
    /// Whether the peer is a proxy that is believed what it says of its own peer.
    pub trusted: bool,
}

/// Names that are stripped beside the built-in ones: the user's own identity headers, on every route, also where the
/// certificate gives them no value.
pub type Custom = [(HeaderName, Attribute)];

/// Makes a client's request one for the backend: strips, then sets.
pub fn rewrite<B>(request: &mut Request<B>, custom: &Custom, said: &Said<'_>) {
    let version = request.version();
    let headers = request.headers_mut();
    let takes_trailers = takes_trailers(headers);
    strip(headers, custom, said.trusted);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    join(headers, &header::COOKIE, b"; ");
    headers.reserve(8 + said.identity.0.len());
    if let Some(host) = host(headers, said.host) {
        // Where something is left of them, a trusted proxy said it.
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

/// Has `Host` say the one host of the request, which it mostly does already.
fn host(headers: &mut HeaderMap, host: &str) -> Option<HeaderValue> {
    if let Some(said) = headers.get(header::HOST).filter(|said| said.as_bytes() == host.as_bytes()) {
        return Some(said.clone());
    }
    let host = value(host)?;
    headers.insert(header::HOST, host.clone());
    Some(host)
}

/// Has a body of unknown length sent in chunks whatever the method is. Without being told, hyper takes a GET or HEAD for
/// one without a body, and what the client sent would be lost.
pub(super) fn frame_unknown_length<B: http_body::Body>(request: &mut Request<B>) {
    let body = request.body();
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The one protocol that a request may ask to switch to.
pub const WEBSOCKET: &str = "websocket";

/// The protocol that a request asks to switch to. Only an HTTP/1.1 GET that has nothing else to say can ask: what
/// follows it would be read as the new protocol by one side, and as a body by the other.
pub fn switch_asked<B: http_body::Body>(request: &Request<B>) -> Option<&'static str> {
    let headers = request.headers();
    let asks = headers.contains_key(header::UPGRADE)
        && request.version() == Version::HTTP_11
        && *request.method() == http::Method::GET
        && request.body().is_end_stream()
        && agrees_to_switch(headers);
    asks.then_some(WEBSOCKET)
}

/// Whether `Connection` and `Upgrade` say that WebSocket is to be spoken.
pub(super) fn agrees_to_switch(headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, token: &str| {
        let values = headers.get_all(name).into_iter();
        let mut tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    says(header::UPGRADE, WEBSOCKET) && says(header::CONNECTION, "upgrade")
}

/// Says that WebSocket is to be spoken; to be called after everything was stripped.
pub fn switch(headers: &mut HeaderMap) {
    headers.remove(header::TE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Makes a request that was rewritten for HTTP/1.1 one of HTTP/2: `Host` becomes `:authority`, and what concerns a
/// connection is not said.
pub(super) fn fit_http2<B>(request: &mut Request<B>, scheme: Scheme) {
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    let host = headers.remove(header::HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    // Without an authority there is no scheme either; a host that was read as one always is one.
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

/// Whether the client takes trailers. They pass, so the backend may know (gRPC servers insist).
fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut values =
        headers.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// RFC 7239; a host with a port, or an IPv6 address, needs its quotes.
fn forwarded(said: &Said<'_>) -> String {
    let start = &said.connection.forwarded;
    let host = said.host;
    let mut out = String::with_capacity(start.len() + host.len() + 8);
    out.push_str(start);
    out.push_str(";host=\"");
    out.push_str(host);
    out.push('"');
    out
}

/// Adds to a list of the proxies before us, in one field: some backends read the first one only, some the last.
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

/// Makes one field of several. HTTP/2 may cut a cookie, HTTP/1.1 knows only one (RFC 9113 §8.2.3).
fn join(headers: &mut HeaderMap, name: &HeaderName, separator: &[u8]) {
    let mut values = headers.get_all(name).iter();
    if values.next().is_none() || values.next().is_none() {
        return;
    }
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    // Values that were valid stay so when they are joined.
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(separator)) {
        headers.insert(name.clone(), joined);
    }
}

/// Removes everything that a client may not say. Most requests hold nothing of it, and cost one look at each name.
fn strip(headers: &mut HeaderMap, custom: &Custom, trusted: bool) {
    let goes = |name: &HeaderName| {
        is_hop_by_hop(name.as_str())
            || matches!(name.as_str(), "content-length" | "expect")
            || is_protected_from(name, custom, trusted)
    };
    // Framing is made anew from the body; only an empty one has none, and some backends insist on its length.
    if remove(headers, goes).is_some_and(|length| length == "0") {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Removes these, and what `Connection` names if it is among them. Gives back the length of the body, if that was.
fn remove(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) -> Option<HeaderValue> {
    let found: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    if found.contains(&header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    let mut length = None;
    for name in found {
        let value = headers.remove(&name);
        if name == header::CONTENT_LENGTH {
            length = value;
        }
    }
    length
}

fn is_protected_from(name: &HeaderName, custom: &Custom, trusted: bool) -> bool {
    (is_protected(name.as_str()) && !(trusted && OF_PROXIES.contains(name)))
        || custom.iter().any(|(own, _)| folds_to(name.as_str(), own.as_str()))
}

/// The user's own names, for a request whose trailers may hold them.
pub fn custom_of_trailers<B: Body>(request: &Request<B>, custom: &Arc<Custom>) -> Option<Arc<Custom>> {
    (!custom.is_empty() && !request.body().is_end_stream()).then(|| Arc::clone(custom))
}

/// The names that a client may not set in trailers either, with those that frame, route or authenticate a message, or
/// say how to read it (RFC 9110 §6.5.1).
pub fn strip_trailers(trailers: &mut HeaderMap, custom: &Custom) {
    const OTHERS: [&str; 13] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "max-forwards",
        "range",
        "trailer",
        "transfer-encoding",
    ];
    remove(trailers, |name| {
        is_hop_by_hop(name.as_str())
            || is_protected_from(name, custom, false)
            || OTHERS.iter().any(|other| folds_to(name.as_str(), other))
    });
}

/// Removes what belongs to one connection only, and whatever `Connection` names.
pub fn strip_connection(headers: &mut HeaderMap) {
    remove(headers, |name| is_hop_by_hop(name.as_str()));
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok()).collect()
}

/// Whether a header frames, routes or authenticates a message, so that it cannot carry an identity beside that.
#[must_use]
pub fn is_reserved(name: &HeaderName) -> bool {
    const OTHERS: [HeaderName; 7] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::VIA,
        header::FORWARDED,
        header::TRAILER,
    ];
    is_hop_by_hop(name.as_str()) || OTHERS.contains(name)
}

/// Legacy servers read `X_Remote_User` and `X.Remote.User` as `X-Remote-User`, some of them (CGI) whatever is no letter
/// and no digit between the words; so all of these are the same here.
fn is_protected(name: &str) -> bool {
    // Every protected name starts with one of these; most names do not.
    match name.as_bytes().first() {
        Some(b'c' | b'h' | b't')
            if FRAMING.iter().any(|framing| folds_to(name, framing) && name != *framing) =>
        {
            return true;
        }
        Some(b'c' | b'f' | b'p' | b'r' | b's' | b'x') => {}
        _ => return false,
    }
    PROTECTED.iter().any(|protected| folds_to(name, protected))
        || PROTECTED_FAMILIES
            .iter()
            .any(|family| name.get(..family.len()).is_some_and(|start| folds_to(start, family)))
}

fn folds_to(name: &str, protected: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == protected.len() && name.bytes().zip(protected.bytes()).all(|(a, b)| fold(a) == fold(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(lines: &[(&str, &str)], custom: &Custom) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        strip(&mut headers, custom, false);
        let mut left: Vec<_> = headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn identity_and_rewriting_headers_never_pass_however_they_are_spelt() {
        for name in [
            "X-Forwarded-Client-Cert",
            "Client-Cert",
            "client_cert_chain",
            "X-SSL-Client-S-DN",
            "x_client_name",
            "X.Remote.User",
            "x-remote_user",
            "X~Remote!User",
            "x+client*id",
            "X-HTTP-Method-Override",
            "x_http_method",
            "X-Original-URL",
            "X-Rewrite-Url",
            "X-Forwarded-Prefix",
            "x-envoy-original-path",
            "Forwarded",
            "X-Real-IP",
            "Proxy",
            "X-Forwarded-Path",
            "x.forwarded_uri",
            "X-Envoy-Internal",
            "Remote_User",
            "Ssl-Client-Subject-Dn",
            "Content_Length",
            "Transfer.Encoding",
        ] {
            assert!(stripped(&[(name, "x")], &[]).is_empty(), "{name}");
        }
        let custom = [(HeaderName::from_static("who-is-it"), Attribute::CommonName)];
        assert!(stripped(&[("who_is.it", "x")], &custom).is_empty());
        assert_eq!(
            stripped(&[("accept", "x"), ("x-custom", "y"), ("xclient", "z")], &[]),
            ["accept", "x-custom", "xclient"]
        );
    }

    #[test]
    fn connection_takes_away_only_the_clients_own() {
        let lines = [
            ("Connection", "close, X-Tracking"),
            ("connection", "Keep-Alive"),
            ("x-tracking", "1"),
            ("accept", "*/*"),
        ];
        assert_eq!(stripped(&lines, &[]), ["accept"]);
        let mut request =
            Request::builder().header("connection", "x-forwarded-for, client-cert").body(()).unwrap();
        let identity = IdentityHeaders(vec![(CLIENT_CERT, HeaderValue::from_static(":AA==:"))]);
        let connection = ConnectionHeaders::of("192.0.2.1".parse().unwrap());
        let said = Said {
            identity: &identity,
            connection: &connection,
            host: "a",
            request_id: "0123456789abcdef0123456789abcdef",
            trace: None,
            trusted: false,
        };
        rewrite(&mut request, &[], &said);
        assert_eq!(request.headers().get("client-cert").unwrap(), ":AA==:");
        assert_eq!(request.headers().get("x-forwarded-for").unwrap(), "192.0.2.1");
        assert_eq!(request.headers().get("forwarded").unwrap(), "for=192.0.2.1;proto=https;host=\"a\"");
        assert!(TraceContext::of(request.headers()).is_some());
    }

    #[test]
    fn cookies_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        join(&mut headers, &header::COOKIE, b"; ");
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
