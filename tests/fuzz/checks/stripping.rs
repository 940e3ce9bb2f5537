//! Any headers and trailers of a client: the backend gets the allowed ones unchanged, each header of Sidegate once, and nothing
//! else.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Version};
use sidegate::client_headers::{Sender, StripPattern};
use sidegate::forward::headers::{
    ConnectionHeaders, IdentityHeaders, IdentitySettings, OwnHeaders, set, strip, strip_trailers,
};
use sidegate::identity::{Attribute, Identity};

const REQUEST_ID: &str = "0123456789abcdef0123456789abcdef";

/// Names that a client may not send, folded.
const FORBIDDEN: &str = "client-cert client-cert-chain client-ip fastly-client-ip forwarded proxy proxy-authorization \
    proxy-client-ip proxy-remote-user smuniversalid smuser true-client-ip x-anonymous-consumer x-apigateway-api-userinfo \
    x-cluster-client-ip x-endpoint-api-userinfo x-host x-http-host-override x-http-method x-http-method-override \
    x-http-path-override x-method-override x-ms-forwarded-client-ip x-override-url x-proxy-remote-user x-real-ip \
    x-request-id";
const FORBIDDEN_STARTS: &str = "cf-access- cf-cert- cf-client-cert- cf-connecting-ip \
    cloudfront-viewer-cert- iv- oam- oidc- osso- remote- shib- sm- ssl-client- sslclientcert \
    tailscale- wl-proxy- x-accel- x-amzn-mtls- x-amzn-oidc- x-appengine- x-arr- x-auth-request- x-authenticated- \
    x-authentik- x-client- x-clientcert x-cloudscheduler x-cloudtasks- x-consumer- x-credential- x-envoy- x-forwarded- x-goog-authenticated-user- \
    x-goog-iap- x-ms-client-principal x-ms-token- x-original- x-pomerium- x-proxy-user x-proxyuser x-remote- x-rewrite- \
    x-sendfile x-ssl- x-tailscale- x-vouch- x-webauth-";
const HOP_BY_HOP: &str = "connection keep-alive proxy-connection te transfer-encoding upgrade http2-settings";
/// Headers that Sidegate writes itself or in one canonical form.
const REWRITTEN: &str = "content-length cookie expect host traceparent tracestate via x-identity";
const NOT_IN_TRAILERS: &str = "authorization cache-control content-encoding content-length content-range content-type cookie \
    expect host max-forwards range trailer transfer-encoding";

fn lists(names: &str, name: &str) -> bool {
    names.split(' ').any(|listed| listed == name)
}

fn fold(name: &str) -> String {
    name.to_lowercase().replace(|character: char| !character.is_ascii_alphanumeric(), "-")
}

fn is_forbidden(name: &str) -> bool {
    let folded = fold(name);
    lists(FORBIDDEN, &folded)
        || folded == "x-identity"
        || folded.starts_with("x-acme-")
        || FORBIDDEN_STARTS.split(' ').any(|start| folded.starts_with(start))
        || (["content-length", "host", "transfer-encoding"].contains(&folded.as_str()) && folded != name)
}

/// Parses lines of the form `name:value`; lines that are not headers are skipped.
fn fields(text: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

fn named_by_connection(fields: &HeaderMap) -> Vec<String> {
    let values = fields.get_all("connection").iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.map(|token| String::from_utf8_lossy(token).trim().to_lowercase()).collect()
}

fn own() -> Arc<[StripPattern]> {
    Arc::new([
        StripPattern::of(&HeaderName::from_static("x-identity")),
        StripPattern::parse("X-Acme-*").unwrap(),
    ])
}

pub fn check(text: &[u8]) {
    let fields = fields(text);
    check_headers(&fields);
    check_trailers(&fields);
}

fn check_headers(fields: &HeaderMap) {
    let got = rewritten(fields);
    check_set_headers(fields, &got);
    check_removed_headers(fields, &got);
    check_kept_headers(fields, &got);
}

/// Returns the headers of the request to the backend.
fn rewritten(fields: &HeaderMap) -> HeaderMap {
    let identity = Identity::from_attributes([(Attribute::CommonName, "orders".to_owned())]);
    let settings = IdentitySettings {
        client_cert: true,
        client_cert_chain: true,
        xfcc: true,
        custom: Arc::new([(HeaderName::from_static("x-identity"), Attribute::CommonName)]),
        stripped: own(),
    };
    let identity = IdentityHeaders::of(&settings, &identity, &[b"leaf".as_slice().into()]);
    let connection = ConnectionHeaders::of(IpAddr::from([192, 0, 2, 1]));
    let said = OwnHeaders {
        identity: &identity,
        connection: &connection,
        host: "events.example",
        request_id: REQUEST_ID,
        trace: None,
    };
    let mut request = Request::new(String::new());
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = fields.clone();
    let wishes = strip(&mut request, &own(), Sender::Client);
    check_judged(fields, request.headers());
    set(&mut request, wishes, &said);
    std::mem::take(request.headers_mut())
}

/// Checks that each header of Sidegate has its value and comes once.
fn check_set_headers(fields: &HeaderMap, got: &HeaderMap) {
    for (name, value) in [
        ("host", "events.example"),
        ("client-cert", ":bGVhZg==:"),
        ("x-identity", "orders"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "events.example"),
        ("forwarded", "for=192.0.2.1;proto=https;host=\"events.example\""),
        ("x-request-id", REQUEST_ID),
    ] {
        assert_eq!(got.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}: {fields:?}");
    }
    for once in ["traceparent", "x-forwarded-client-cert"] {
        assert_eq!(got.get_all(once).iter().count(), 1, "{once}: {fields:?}");
    }
    assert!(got.get("client-cert-chain").is_none(), "{fields:?}");
}

/// Checks that no forbidden and no hop-by-hop header of the client is left.
fn check_removed_headers(fields: &HeaderMap, got: &HeaderMap) {
    let set = ["client-cert", "forwarded", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-host"];
    let set = [&set[..], &["x-forwarded-proto", "x-request-id", "x-identity"]].concat();
    let te = got.get("te").is_some();
    for name in got.keys().map(HeaderName::as_str) {
        assert!(set.contains(&name) || !is_forbidden(name), "{name}: {fields:?}");
        let is_hop = lists(HOP_BY_HOP, name) && !(te && ["te", "connection"].contains(&name));
        assert!(!is_hop, "{name}: {fields:?}");
    }
    assert!(!te || (got["te"] == "trailers" && got["connection"] == "te"), "{fields:?}");
}

/// Checks that all other headers of the client are unchanged.
fn check_kept_headers(fields: &HeaderMap, got: &HeaderMap) {
    let named = named_by_connection(fields);
    for name in fields.keys().map(HeaderName::as_str) {
        let is_free = !is_forbidden(name)
            && !lists(HOP_BY_HOP, name)
            && !lists(REWRITTEN, name)
            && !named.contains(&name.to_owned());
        let (before, after) = (fields.get_all(name), got.get_all(name));
        if is_free {
            assert!(before.iter().eq(after.iter()), "{name}: {fields:?} became {got:?}");
        }
    }
}

/// Checks that a policy judges only headers that are forwarded.
fn check_judged(fields: &HeaderMap, judged: &HeaderMap) {
    for name in judged.keys().map(HeaderName::as_str) {
        let is_hop = lists(HOP_BY_HOP, name);
        assert!(!is_forbidden(name) && !is_hop && name != "expect", "{name}: {fields:?}");
        assert!(
            !named_by_connection(fields).contains(&name.to_owned()) || name == "content-length",
            "{name}: {fields:?}"
        );
    }
}

fn check_trailers(fields: &HeaderMap) {
    let mut got = fields.clone();
    strip_trailers(&mut got, &own());
    let named = named_by_connection(fields);
    let may_be = |name: &str| {
        !is_forbidden(name)
            && !lists(HOP_BY_HOP, name)
            && !lists(NOT_IN_TRAILERS, &fold(name))
            && !named.contains(&name.to_owned())
    };
    for name in fields.keys().map(HeaderName::as_str) {
        let (before, after) = (fields.get_all(name), got.get_all(name));
        if may_be(name) {
            assert!(before.iter().eq(after.iter()), "{name}: {fields:?} became {got:?}");
        } else {
            assert!(after.iter().next().is_none(), "{name}: {fields:?} became {got:?}");
        }
    }
}
