//! The backend learns from the proxy where a request came from: `Forwarded`, `X-Forwarded-*`, `Via` and the request id are
//! set by the proxy, and taken over only from proxies that the configuration trusts (DESIGN §5).

use serde_json::json;

use crate::support::proxy::forwarded;
use crate::support::{Backend, Proxy, Setup};

#[test]
fn forwarding_headers_of_a_client_are_replaced() {
    let received = forwarded(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\n\r\n",
    );
    assert_eq!(received.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.header("x-forwarded-proto"), ["https"]);
    assert_eq!(received.header("x-forwarded-host"), ["localhost"]);
    assert!(!received.head.contains("6.6.6.6") && !received.head.contains("evil"), "{}", received.head);
    assert_eq!(received.header("x-request-id").len(), 1);
}

/// RFC 7239 and RFC 9110 §7.6.3. A proxy in front of Sidegate has set `Via` as well.
#[test]
fn the_backend_gets_forwarded_x_forwarded_and_via() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for (request, version, before) in [
        ("GET / HTTP/1.1\r\nHost: shop.example:8443\r\n\r\n", "1.1", None),
        (
            "GET / HTTP/1.0\r\nHost: shop.example:8443\r\nVia: 1.1 a, 1.1 b\r\n\r\n",
            "1.0",
            Some("1.1 a, 1.1 b"),
        ),
    ] {
        assert_eq!(proxy.connect().ask(request).unwrap().status, 200);
        let received = backend.received().pop().unwrap();
        assert_eq!(
            received.header("forwarded"),
            ["for=127.0.0.1;proto=https;host=\"shop.example:8443\""],
            "{}",
            received.head
        );
        assert_eq!(received.header("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(received.header("x-forwarded-host"), ["shop.example:8443"]);
        let via = received.header("via");
        assert_eq!(via.last(), Some(&format!("{version} sidegate").as_str()));
        assert_eq!(via.len() - 1, usize::from(before.is_some()));
        assert!(before.is_none_or(|before| via[0] == before));
    }
    let http2 = proxy.http2();
    assert_eq!(http2.get("/").unwrap().status, 200);
    assert_eq!(backend.received().pop().unwrap().header("via"), ["2 sidegate"]);
}

/// W3C Trace Context: a valid trace is forwarded, and an invalid one is replaced. The request id is always set by the proxy.
#[test]
fn a_valid_trace_is_forwarded_and_the_request_id_is_replaced() {
    let (backend, good) = (Backend::ok(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let mut proxy = Proxy::in_front_of(&backend.url());
    let mut ids = std::collections::BTreeSet::new();
    for (fields, goes_on) in [
        ("".to_owned(), false),
        (format!("traceparent: {good}\r\ntracestate: a=b\r\n"), true),
        (format!("traceparent: {good}\r\ntraceparent: {good}\r\ntracestate: a=b\r\n"), false),
        (format!("traceparent: {}\r\ntracestate: a=b\r\n", good.to_uppercase()), false),
        (format!("traceparent: {}\r\ntracestate: a=b\r\n", good.replace("0af7", "xyz7")), false),
        ("traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n".to_owned(), false),
        ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01\r\n".to_owned(), false),
        (format!("traceparent: {good}-more\r\ntracestate: a=b\r\n"), false),
        ("X-Request-Id: forged\r\nx_request_id: forged\r\n".to_owned(), false),
    ] {
        proxy.connect().ask(&format!("GET /traced HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).unwrap();
        let received = backend.received().pop().unwrap();
        let [trace] = received.header("traceparent")[..] else { panic!("{}", received.head) };
        assert_eq!(trace == good, goes_on, "{fields}: {trace}");
        assert_eq!(received.header("tracestate").len(), usize::from(goes_on), "{fields}");
        let [id] = received.header("x-request-id")[..] else { panic!("{}", received.head) };
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        // A new trace contains the request id, so that logs and traces can be joined.
        assert!(goes_on || trace.contains(id), "{trace} for {id}");
        proxy.process.audit_where("the request", |record| record["request_id"] == id);
        assert!(ids.insert(id.to_owned()), "{id} twice");
        assert!(!received.head.contains("forged"), "{}", received.head);
    }
}

/// Headers that a proxy in front of Sidegate sets.
const PROXY_HEADERS: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Proto: http\r\n\
     X-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 80\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n";

/// Case 60.
#[test]
fn a_trusted_proxy_may_set_forwarding_headers_and_no_identity() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .set("trusted_proxies", vec!["127.0.0.0/8"])
        .set("identity_headers.custom", json!({ "X-Forwarded-User": "common_name" }))
        .start();
    let spoofed = "X-Forwarded-Client-Cert: spoofed\r\nX-Forwarded-Uri: spoofed\r\nX-Forwarded-Prefix: spoofed\r\n\
                   X-Forwarded-Path: spoofed\r\nX-Forwarded-User: spoofed\r\nX_Forwarded_For: spoofed\r\n\
                   x.real-ip: spoofed\r\nX-Envoy-Original-Path: spoofed\r\n";
    proxy
        .connect()
        .ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{PROXY_HEADERS}{spoofed}\r\n"))
        .unwrap();
    proxy.connect().get("/").unwrap();
    let received = backend.wait_for(2);
    let first = &received[0];
    assert_eq!(first.header("x-forwarded-for"), ["203.0.113.9, 10.1.1.1, 127.0.0.1"]);
    assert_eq!(first.header("forwarded"), ["for=203.0.113.9, for=127.0.0.1;proto=https;host=\"localhost\""]);
    assert_eq!(first.header("x-forwarded-proto"), ["http"]);
    assert_eq!(first.header("x-forwarded-host"), ["shop.example"]);
    assert_eq!(first.header("x-forwarded-port"), ["80"]);
    assert_eq!(first.header("x-real-ip"), ["203.0.113.9"]);
    assert_eq!(first.header("x-forwarded-user"), ["order-producer"]);
    assert!(!first.head.contains("spoofed"), "{}", first.head);
    let second = &received[1];
    assert_eq!(
        second.header("x-forwarded-for"),
        ["127.0.0.1"],
        "without such headers, the address is that of the peer"
    );
    assert_eq!(second.header("x-forwarded-proto"), ["https"]);
    assert_eq!(second.header("x-forwarded-host"), ["localhost"]);
}

#[test]
fn an_untrusted_proxy_is_not_believed_and_the_policy_uses_the_address_of_the_peer() {
    let backend = Backend::ok();
    let policy = "version: 1\npermissions: { all: ['* /**'] }\nclients:\n  - name: everyone\n    match: { any: true }\n    \
                  permissions: [all]\n    when: { source: [127.0.0.0/8] }\n";
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{PROXY_HEADERS}\r\n");
    for (trusted, address) in [("10.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "203.0.113.9, 10.1.1.1, 127.0.0.1")]
    {
        let setup = Setup::new(&backend.url()).policy(policy).set("trusted_proxies", vec![trusted]);
        assert_eq!(setup.start().connect().ask(&request).unwrap().status, 200, "{trusted}");
        let last = backend.received().pop().unwrap();
        assert_eq!(last.header("x-forwarded-for"), [address], "{trusted}");
    }
}
