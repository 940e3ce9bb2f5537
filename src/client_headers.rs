//! Headers that never reach the backend as the client sent them. The proxy strips them before the policy judges a request,
//! and the check of policies refuses conditions on them, which could never hold. Pure.
//!
//! Names are compared folded. CGI, WSGI, PHP and Rack turn a header into a variable, which has no case and no special
//! characters: they take `X_Remote.User` for `X-Remote-User`, so a client could set an identity header under another
//! spelling.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Reason for which a header never reaches the backend as the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// The header belongs to one connection (RFC 9110 §7.6.1).
    Connection,
    /// The header frames the message; Sidegate sets a new one.
    Framing,
    /// The header names the host, which the request line or `:authority` may name as well.
    Host,
    /// The header names the client to some server or framework.
    Identity,
    /// The header rewrites the request in some server or framework.
    Override,
    /// The header is set by proxies and names their own peers.
    Proxies,
    /// Sidegate sets the header itself.
    Set,
}

/// Sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A client, which speaks for itself alone.
    Client,
    /// A proxy of `trusted_proxies`, which may name the client that it forwards for.
    TrustedProxy,
}

/// A name, or the prefix of a family of names if it ends in `*`, with the reason for its removal.
type Listed = (&'static str, RemovalReason);

use RemovalReason::{Identity, Override, Proxies, Set};

/// Families and names of identity and rewriting headers, grouped by first letter, so that most names need no comparison. The
/// table in `deploy/README.md` has their origins.
const OF_C: &[Listed] = &[
    ("cf-access-*", Identity),
    ("cf-cert-*", Identity),
    ("cf-client-cert-*", Identity),
    ("cf-connecting-ip*", Proxies),
    ("client-cert", Identity),
    ("client-cert-chain", Identity),
    ("client-ip", Proxies),
    ("cloudfront-viewer-cert-*", Identity),
];
const OF_F: &[Listed] = &[("fastly-client-ip", Proxies), ("forwarded", Proxies)];
const OF_I: &[Listed] = &[("iv-*", Identity)];
const OF_O: &[Listed] = &[("oam-*", Identity), ("oidc-*", Identity), ("osso-*", Identity)];
const OF_P: &[Listed] = &[
    ("proxy", Override),
    ("proxy-authorization", RemovalReason::Connection),
    ("proxy-client-ip", Proxies),
    ("proxy-remote-user", Identity),
];
const OF_R: &[Listed] = &[("remote-*", Identity)];
const OF_S: &[Listed] = &[
    ("shib-*", Identity),
    ("sm-*", Identity),
    ("smuniversalid", Identity),
    ("smuser", Identity),
    ("ssl-client-*", Identity),
    ("sslclientcert*", Identity),
];
const OF_T: &[Listed] = &[("tailscale-*", Identity), ("true-client-ip", Proxies)];
const OF_W: &[Listed] = &[("wl-proxy-*", Identity)];

/// Names that begin with `X-`, grouped by the next letter.
const OF_X_A: &[Listed] = &[
    ("x-accel-*", Override),
    ("x-amzn-mtls-*", Identity),
    ("x-amzn-oidc-*", Identity),
    ("x-anonymous-consumer", Identity),
    ("x-apigateway-api-userinfo", Identity),
    ("x-appengine-*", Identity),
    ("x-arr-*", Identity),
    ("x-auth-request-*", Identity),
    ("x-authenticated-*", Identity),
    ("x-authentik-*", Identity),
];
const OF_X_C: &[Listed] = &[
    ("x-client-*", Identity),
    ("x-clientcert*", Identity),
    ("x-cloudscheduler*", Identity),
    ("x-cloudtasks-*", Identity),
    ("x-cluster-client-ip", Proxies),
    ("x-consumer-*", Identity),
    ("x-credential-*", Identity),
];
const OF_X_E: &[Listed] = &[("x-endpoint-api-userinfo", Identity), ("x-envoy-*", Override)];
const OF_X_F: &[Listed] = &[
    ("x-forwarded-client-cert", Identity),
    ("x-forwarded-user", Identity),
    ("x-forwarded-email", Identity),
    ("x-forwarded-groups", Identity),
    ("x-forwarded-prefix", Override),
    ("x-forwarded-uri", Override),
    ("x-forwarded-*", Proxies),
];
const OF_X_G: &[Listed] = &[("x-goog-authenticated-user-*", Identity), ("x-goog-iap-*", Identity)];
const OF_X_H: &[Listed] = &[
    ("x-host", Override),
    ("x-http-host-override", Override),
    ("x-http-method", Override),
    ("x-http-method-override", Override),
    ("x-http-path-override", Override),
];
const OF_X_M: &[Listed] = &[
    ("x-method-override", Override),
    ("x-ms-client-principal*", Identity),
    ("x-ms-forwarded-client-ip", Proxies),
    ("x-ms-token-*", Identity),
];
const OF_X_O: &[Listed] = &[("x-original-*", Override), ("x-override-url", Override)];
const OF_X_P: &[Listed] = &[
    ("x-pomerium-*", Identity),
    ("x-proxy-remote-user", Identity),
    ("x-proxy-user*", Identity),
    ("x-proxyuser*", Identity),
];
const OF_X_R: &[Listed] =
    &[("x-real-ip", Proxies), ("x-remote-*", Identity), ("x-request-id", Set), ("x-rewrite-*", Override)];
const OF_X_S: &[Listed] = &[("x-sendfile*", Override), ("x-ssl-*", Identity)];
const OF_X_T: &[Listed] = &[("x-tailscale-*", Identity)];
const OF_X_V: &[Listed] = &[("x-vouch-*", Identity)];
const OF_X_W: &[Listed] = &[("x-webauth-*", Identity)];

/// Names that frame or route a message. Another spelling has no meaning for Sidegate, but a backend that folds names would
/// use it (request smuggling).
const FRAMING: [(&str, RemovalReason); 3] = [
    ("content-length", RemovalReason::Framing),
    ("host", RemovalReason::Host),
    ("transfer-encoding", RemovalReason::Connection),
];

/// Names of headers in the backend's request whose value may differ from what the client sent.
const MADE_ANEW: [Listed; 4] =
    [("expect", RemovalReason::Framing), ("traceparent", Set), ("tracestate", Set), ("via", Set)];

/// Names by which a trusted proxy names its client, in this spelling only.
const OF_PROXIES: [&str; 10] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Headers of one connection, which never go on to the next (RFC 9110 §7.6.1), and framing, which is made anew.
const HOP_BY_HOP: [&str; 7] =
    ["connection", "http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Returns the reason for which a header with this name, in any spelling, never reaches the backend as the client sent it;
/// `None` if the header passes.
#[must_use]
pub fn removal_reason(name: &str) -> Option<RemovalReason> {
    let name = name.to_ascii_lowercase();
    let folds = |other: &&str| folds_to(&name, other);
    if HOP_BY_HOP.iter().any(folds) {
        return Some(RemovalReason::Connection);
    }
    let listed = FRAMING.iter().chain(&MADE_ANEW).find(|(other, _)| folds(other));
    listed.or_else(|| listed_as(&name)).map(|(_, removal_reason)| *removal_reason)
}

/// Returns the families and names that are removed.
#[cfg(test)]
fn listed_names() -> impl Iterator<Item = &'static str> {
    (b'a'..=b'z').flat_map(|first| {
        let then = (b'a'..=b'z').filter(move |_| first == b'x');
        let of_x = then.flat_map(move |then| group(&[first, b'-', then]));
        group(&[first]).iter().chain(of_x).map(|(name, _)| *name)
    })
}

const fn group(name: &[u8]) -> &'static [Listed] {
    match name {
        [b'c', ..] => OF_C,
        [b'f', ..] => OF_F,
        [b'i', ..] => OF_I,
        [b'o', ..] => OF_O,
        [b'p', ..] => OF_P,
        [b'r', ..] => OF_R,
        [b's', ..] => OF_S,
        [b't', ..] => OF_T,
        [b'w', ..] => OF_W,
        [b'x', _, then, ..] => of_x(*then),
        _ => &[],
    }
}

const fn of_x(then: u8) -> &'static [Listed] {
    match then {
        b'a' => OF_X_A,
        b'c' => OF_X_C,
        b'e' => OF_X_E,
        b'f' => OF_X_F,
        b'g' => OF_X_G,
        b'h' => OF_X_H,
        b'm' => OF_X_M,
        b'o' => OF_X_O,
        b'p' => OF_X_P,
        b'r' => OF_X_R,
        b's' => OF_X_S,
        b't' => OF_X_T,
        b'v' => OF_X_V,
        b'w' => OF_X_W,
        _ => &[],
    }
}

/// Returns the entry that matches a name in lower case.
fn listed_as(name: &str) -> Option<&'static Listed> {
    group(name.as_bytes()).iter().find(|(listed, _)| matches_listed(listed, name))
}

/// Returns true if an entry is this name, or is a family that includes this name.
fn matches_listed(listed: &str, name: &str) -> bool {
    match listed.strip_suffix('*') {
        Some(family) => name.get(..family.len()).is_some_and(|start| folds_to(start, family)),
        None => folds_to(name, listed),
    }
}

/// Returns true if two names are the same variable for programs that fold names.
#[must_use]
pub fn folds_to(name: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(|(a, b)| fold(a) == fold(b))
}

/// Pattern for further headers that a configuration removes: a name, or a family of names that ends in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripPattern(Box<str>);

/// Patterns of the configuration, shared by all requests.
pub type StripPatterns = Arc<[StripPattern]>;

impl StripPattern {
    /// Makes a pattern for one header, in every spelling.
    #[must_use]
    pub fn of(name: &HeaderName) -> Self {
        Self(name.as_str().into())
    }

    /// Parses a name, or a family such as `X-Acme-*`.
    ///
    /// # Errors
    /// The mistake and its remedy.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let (name, is_family) = match text.strip_suffix('*') {
            Some(family) => (family, true),
            None => (text, false),
        };
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            let help =
                "write the name of a header, or a family of them that ends in `*`: `X-Acme-User`, `X-Acme-*`";
            return Err((format!("`{text}` is not the name of a header"), help.to_owned()));
        };
        // The parser of names accepts a star, because a star is a token character (RFC 9110 §5.6.2).
        if name.contains('*') {
            let help = "a `*` stands for any end, and only at the end".to_owned();
            return Err((format!("`{text}` has a `*` that is not its end"), help));
        }
        let own = Self(if is_family { format!("{header}*") } else { header.as_str().to_owned() }.into());
        match own.needed() {
            Some(needed) => Err((
                format!("`{text}` would take away `{needed}`, which is set for the backend or needed by it"),
                "name headers by which a server tells the backend who asks; what Sidegate sets is never the client's own"
                    .to_owned(),
            )),
            None => Ok(own),
        }
    }

    /// Returns true if the pattern removes a header with this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches_listed(&self.0, name)
    }

    /// Returns a header that the pattern matches and that must not be removed: a header that changes the meaning of the
    /// message, or one that Sidegate sets. A family may include headers that Sidegate sets.
    fn needed(&self) -> Option<&'static str> {
        const OF_MESSAGES: [&str; 5] = ["host", "content-length", "content-type", "expect", "trailer"];
        const OF_SIDEGATE: [&str; 10] = [
            "client-cert",
            "client-cert-chain",
            "forwarded",
            "traceparent",
            "tracestate",
            "x-forwarded-client-cert",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id",
        ];
        let of_sidegate = OF_SIDEGATE.iter().filter(|_| !self.0.ends_with('*'));
        let mut all = OF_MESSAGES.iter().chain(&HOP_BY_HOP).chain(&["via"]).chain(of_sidegate);
        all.find(|needed| self.matches(needed)).copied()
    }
}

/// Returns true for a header that frames, routes or describes a message: a configuration must not use it for an identity.
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

/// Removes all headers that this sender may not set. Most requests have none of them, so the common cost is one comparison
/// for each name.
pub fn strip(headers: &mut HeaderMap, own: &[StripPattern], sender: Sender) {
    let is_removed = |name: &HeaderName| {
        is_hop_by_hop(name.as_str())
            || matches!(name.as_str(), "content-length" | "expect")
            || is_protected_from(name, own, sender)
    };
    // New framing is set from the body. An empty body has none, but some backends require a length, so `0` is kept.
    if remove(headers, is_removed, &header::CONTENT_LENGTH).is_some_and(|length| length == "0") {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    join(headers, &header::COOKIE, b"; ");
}

/// Removes the selected headers, and the headers that `Connection` names if `Connection` is selected. Returns the value of one
/// of the removed headers.
fn remove(
    headers: &mut HeaderMap,
    is_removed: impl Fn(&HeaderName) -> bool,
    returned: &HeaderName,
) -> Option<HeaderValue> {
    let found: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    let has_connection = found.contains(&header::CONNECTION);
    let named = if has_connection { named_by_connection(headers) } else { Vec::new() };
    let mut value = None;
    let mut take = |name: HeaderName| {
        let removed = headers.remove(&name);
        if name == *returned {
            value = value.take().or(removed);
        }
    };
    // `Connection` may name the header that is returned.
    named.into_iter().for_each(&mut take);
    found.into_iter().for_each(&mut take);
    value
}

fn is_protected_from(name: &HeaderName, own: &[StripPattern], sender: Sender) -> bool {
    (is_protected(name.as_str()) && !(sender == Sender::TrustedProxy && OF_PROXIES.contains(&name.as_str())))
        || own.iter().any(|own| own.matches(name.as_str()))
}

fn is_protected(name: &str) -> bool {
    let is_framing = matches!(name.as_bytes().first(), Some(b'c' | b'h' | b't'))
        && FRAMING.iter().any(|(framing, _)| folds_to(name, framing) && name != *framing);
    is_framing || listed_as(name).is_some()
}

/// Removes all trailers that a client may not set: the stripped headers, and those that frame, route, authenticate or
/// describe a message (RFC 9110 §6.5.1).
pub fn strip_trailers(trailers: &mut HeaderMap, own: &[StripPattern]) {
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
    let is_removed = |name: &HeaderName| {
        is_hop_by_hop(name.as_str())
            || is_protected_from(name, own, Sender::Client)
            || OTHERS.iter().any(|other| folds_to(name.as_str(), other))
    };
    remove(trailers, is_removed, &header::CONTENT_LENGTH);
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Removes the headers of one connection, and the headers that `Connection` names. Returns `Keep-Alive`, by which the other
/// side says for how long it keeps an idle connection.
pub fn strip_connection(headers: &mut HeaderMap) -> Option<HeaderValue> {
    remove(headers, |name| is_hop_by_hop(name.as_str()), &KEEP_ALIVE)
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok()).collect()
}

/// Joins the fields with one name to one field. HTTP/2 may split a cookie, and HTTP/1.1 allows only one (RFC 9113 §8.2.3).
pub fn join(headers: &mut HeaderMap, name: &HeaderName, separator: &[u8]) {
    let mut values = headers.get_all(name).iter();
    if values.next().is_none() || values.next().is_none() {
        return;
    }
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    // The join of valid values is a valid value.
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(separator)) {
        headers.insert(name.clone(), joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(lines: &[(&str, &str)], own: &[StripPattern]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        strip(&mut headers, own, Sender::Client);
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
        let own = [
            StripPattern::of(&HeaderName::from_static("who-is-it")),
            StripPattern::parse("X-Acme-*").unwrap(),
        ];
        assert!(stripped(&[("who_is.it", "x"), ("x.acme_user", "y"), ("X-ACME-", "z")], &own).is_empty());
        assert_eq!(
            stripped(&[("accept", "x"), ("x-custom", "y"), ("xclient", "z"), ("x-acme", "z")], &own),
            ["accept", "x-acme", "x-custom", "xclient"]
        );
    }

    /// An entry in the wrong group would never be found.
    #[test]
    fn every_listed_name_is_removed_and_refused_in_conditions() {
        assert!(listed_names().count() > 60, "{}", listed_names().count());
        for listed in listed_names() {
            let name = listed.replace('*', "a");
            for spelled in [name.to_uppercase(), name.replace('-', "_"), name.replace('-', ".")] {
                assert!(stripped(&[(&spelled, "x")], &[]).is_empty(), "{spelled}");
                assert!(removal_reason(&spelled).is_some(), "{spelled}");
            }
        }
        for name in OF_PROXIES {
            assert!(removal_reason(name).is_some(), "{name}");
        }
    }

    #[test]
    fn headers_of_honest_clients_pass() {
        for name in [
            "accept",
            "authorization",
            "cf-ray",
            "cookie",
            "content-type",
            "idempotency-key",
            "if-match",
            "origin",
            "referer",
            "sec-websocket-key",
            "soapaction",
            "tenant",
            "user-agent",
            "x-amz-date",
            "x-amzn-trace-id",
            "x-api-key",
            "x-auth-token",
            "x-b3-traceid",
            "x-cloud-trace-context",
            "x-correlation-id",
            "x-csrf-token",
            "x-goog-api-key",
            "x-mode",
            "x-ms-client-request-id",
            "x-ms-version",
            "x-requested-with",
            "x-tenant",
        ] {
            assert_eq!(stripped(&[(name, "x")], &[]), [name]);
            assert_eq!(removal_reason(name), None, "{name}");
        }
    }

    #[test]
    fn connection_and_the_headers_that_it_names_are_removed() {
        let lines = [
            ("Connection", "close, X-Tracking"),
            ("connection", "Keep-Alive"),
            ("x-tracking", "1"),
            ("accept", "*/*"),
        ];
        assert_eq!(stripped(&lines, &[]), ["accept"]);
    }

    #[test]
    fn cookies_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        strip(&mut headers, &[], Sender::Client);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn patterns_that_match_necessary_headers_are_refused() {
        for good in ["X-Acme-User", "x_acme_*", "Authorization", "X-*"] {
            assert!(StripPattern::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            "a b",
            "X-*-User",
            "Host",
            "content_length",
            "Content-*",
            "T*",
            "Via",
            "X-Forwarded-For",
            "client.cert",
        ] {
            assert!(StripPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
