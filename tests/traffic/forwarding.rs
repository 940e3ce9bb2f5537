//! What is allowed is forwarded, byte for byte, and nothing that carries identity or framing is believed (DESIGN §5).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::backend::{OK, ReceivedRequest};
use crate::support::certificates::producer;
use crate::support::http2::{Http2, request, wait};
use crate::support::tls::Tls;
use crate::support::{Answer, Backend, Proxy, Setup};

fn connect(proxy: &Proxy) -> Tls {
    proxy.producer().connect(proxy.address).unwrap()
}

/// Sends one request through a proxy of its own and returns what arrived.
fn forwarded(request: &str) -> ReceivedRequest {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let answer = connect(&proxy).ask(request).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    backend.wait_for(1).remove(0)
}

#[test]
fn the_path_and_the_query_arrive_as_they_were_sent() {
    for target in [
        "/",
        "/events/",
        "/events?",
        "/events?a[]=1&b=%7B2%7D",
        "/events/a%20b",
        "/events?x=1&y=%C3%A9&x=2",
        "/caf%C3%A9?q=a/b:c",
        "/~a.b_c-d!$&'()*+,=:@",
    ] {
        let received = forwarded(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(received.start_line(), format!("GET {target} HTTP/1.1"));
        assert_eq!(received.header("host"), ["localhost"]);
    }
}

#[test]
fn a_fragment_is_cut_and_an_absolute_target_of_the_same_host_becomes_a_path() {
    let received = forwarded("GET /events#fragment HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(received.start_line(), "GET /events HTTP/1.1");
    let received = forwarded("GET https://localhost/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(received.start_line(), "GET /events HTTP/1.1");
}

#[test]
fn headers_of_the_connection_end_here() {
    let received = forwarded(
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\
         Proxy-Authorization: Basic eA==\r\nX-Kept: yes\r\nAccept: a\r\nAccept: b\r\n\r\n",
    );
    for gone in
        ["x-mine", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "proxy-authorization"]
    {
        assert!(received.header(gone).is_empty(), "{gone}: {}", received.head);
    }
    assert_eq!(received.header("x-kept"), ["yes"]);
    assert_eq!(received.header("accept").join(","), "a,b", "order and repetition stay");
}

#[test]
fn no_header_that_carries_identity_is_believed_in_any_spelling() {
    let spoofed = [
        "X-Forwarded-Client-Cert",
        "x-forwarded-client-cert",
        "X_Forwarded_Client_Cert",
        "Client-Cert",
        "client_cert",
        "Client.Cert",
        "Client-Cert-Chain",
        "X-SSL-Client-DN",
        "X-Ssl-Cert",
        "X_SSL_Verified",
        "X-Client-Name",
        "x-client_id",
        "X.Client.Id",
        "X-Remote-User",
        "X_Remote_User",
        "X.Remote.User",
        "x-remote_user",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Uri",
        "X-Forwarded-Prefix",
        "X-Envoy-Original-Path",
        "X-Real-IP",
        "X-Forwarded-Path",
        "X_Forwarded_Uri",
        "X-Envoy-Decorator-Operation",
        "X-Original-Uri",
        "Remote-User",
        "SSL_CLIENT_VERIFY",
        "Content_Length",
        "Transfer_Encoding",
    ];
    let fields: String = spoofed.iter().map(|name| format!("{name}: spoofed\r\n")).collect();
    for connection in ["keep-alive", "Client-Cert, X-Client-Name, X-Forwarded-For"] {
        let received = forwarded(&format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n{fields}\r\n"
        ));
        assert!(!received.head.contains("spoofed"), "{}", received.head);
        assert_eq!(received.header("client-cert").len(), 1, "set after the stripping: {}", received.head);
    }
}

#[test]
fn identity_is_set_from_the_certificate_that_was_judged() {
    let backend = Backend::ok();
    let custom =
        json!({ "X-Client-Name": "common_name", "X-Client-Mail": "email", "X-Team": "organization" });
    let proxy = Setup::new(&backend.url()).set("identity_headers.custom", custom).start();
    let spoof = "X-Client-Mail: a@b\r\nX-Team: Admins\r\nX_Team: Admins\r\n";
    connect(&proxy).ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{spoof}\r\n")).unwrap();
    let received = backend.wait_for(1).remove(0);
    let leaf = STANDARD.encode(&proxy.pki().producer.chain[0]);
    assert_eq!(received.header("client-cert"), [format!(":{leaf}:")]);
    assert_eq!(received.header("x-client-name"), ["order-producer"]);
    assert_eq!(received.header("x-team"), ["Shop"]);
    assert!(received.header("x_team").is_empty());
    assert!(received.header("x-client-mail").is_empty(), "the certificate has no e-mail: {}", received.head);
}

#[test]
fn identity_headers_that_are_off_are_stripped_all_the_same() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("identity_headers.client_cert", false).start();
    let spoof = "Client-Cert: :AAAA:\r\nX-Forwarded-Client-Cert: Subject=\"CN=admin\"\r\n";
    connect(&proxy).ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{spoof}\r\n")).unwrap();
    let received = backend.wait_for(1).remove(0);
    assert!(received.header("client-cert").is_empty(), "{}", received.head);
    assert!(received.header("x-forwarded-client-cert").is_empty(), "{}", received.head);
}

/// RFC 9440 §2.3.
#[test]
fn the_rest_of_the_chain_is_told_where_it_is_asked_for() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("identity_headers.client_cert_chain", true);
    let intermediate = setup.pki.ca.intermediate("Between").unwrap();
    let credential = intermediate.issue(&producer()).unwrap();
    let proxy = setup.start();
    let spoof = "GET / HTTP/1.1\r\nHost: localhost\r\nClient-Cert-Chain: :AAAA:\r\n\r\n";
    proxy.client(&credential).connect(proxy.address).unwrap().ask(spoof).unwrap();
    connect(&proxy).ask(spoof).unwrap();
    let received = backend.wait_for(2);
    let told: Vec<_> =
        credential.chain[1..].iter().map(|der| format!(":{}:", STANDARD.encode(der))).collect();
    assert_eq!(received[0].header("client-cert-chain"), [told.join(", ")]);
    assert!(received[1].header("client-cert-chain").is_empty(), "a leaf alone: {}", received[1].head);
}

#[test]
fn envoy_s_form_of_identity_is_set_where_it_is_asked_for() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("identity_headers.xfcc", true).start();
    let spoof = "X-Forwarded-Client-Cert: Subject=\"CN=admin\"\r\n";
    connect(&proxy).ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{spoof}\r\n")).unwrap();
    let received = backend.wait_for(1).remove(0);
    let [value] = received.header("x-forwarded-client-cert")[..] else { panic!("{}", received.head) };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &proxy.pki().producer.chain[0]);
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(value.starts_with(&format!("Hash={hash};")), "{value}");
    assert!(value.contains("URI=spiffe://shop.example/ns/orders/sa/producer"), "{value}");
    assert!(value.contains("CN=order-producer") && !value.contains("admin"), "{value}");
}

#[test]
fn where_it_came_from_is_said_by_the_proxy_alone() {
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

/// RFC 7239, RFC 9110 §7.6.3; a proxy before us has said `Via` too.
#[test]
fn the_way_is_told_in_every_form_that_backends_know() {
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
        assert_eq!(connect(&proxy).ask(request).unwrap().status, 200);
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
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    assert_eq!(http2.get("/").unwrap().status, 200);
    assert_eq!(backend.received().pop().unwrap().header("via"), ["2 sidegate"]);
}

/// W3C Trace Context: a good trace goes on, and of a bad one nothing is left. The request's id is ours, always.
#[test]
fn a_trace_goes_on_and_a_request_has_an_id_of_ours() {
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
        connect(&proxy).ask(&format!("GET /traced HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).unwrap();
        let received = backend.received().pop().unwrap();
        let [trace] = received.header("traceparent")[..] else { panic!("{}", received.head) };
        assert_eq!(trace == good, goes_on, "{fields}: {trace}");
        assert_eq!(received.header("tracestate").len(), usize::from(goes_on), "{fields}");
        let [id] = received.header("x-request-id")[..] else { panic!("{}", received.head) };
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        // Logs and traces find each other.
        assert!(goes_on || trace.contains(id), "{trace} for {id}");
        proxy.process.audit_where("the request", |record| record["request_id"] == id);
        assert!(ids.insert(id.to_owned()), "{id} twice");
        assert!(!received.head.contains("forged"), "{}", received.head);
    }
}

const OF_A_PROXY: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Proto: http\r\n\
     X-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 80\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n";

/// Case 60.
#[test]
fn a_trusted_proxy_is_believed_whence_it_forwards_and_nothing_else() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .set("trusted_proxies", vec!["127.0.0.0/8"])
        .set("identity_headers.custom", json!({ "X-Forwarded-User": "common_name" }))
        .start();
    let spoofed = "X-Forwarded-Client-Cert: spoofed\r\nX-Forwarded-Uri: spoofed\r\nX-Forwarded-Prefix: spoofed\r\n\
                   X-Forwarded-Path: spoofed\r\nX-Forwarded-User: spoofed\r\nX_Forwarded_For: spoofed\r\n\
                   x.real-ip: spoofed\r\nX-Envoy-Original-Path: spoofed\r\n";
    connect(&proxy).ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{OF_A_PROXY}{spoofed}\r\n")).unwrap();
    connect(&proxy).get("/").unwrap();
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
    assert_eq!(second.header("x-forwarded-for"), ["127.0.0.1"], "nothing said, nothing believed");
    assert_eq!(second.header("x-forwarded-proto"), ["https"]);
    assert_eq!(second.header("x-forwarded-host"), ["localhost"]);
}

#[test]
fn a_proxy_elsewhere_is_not_believed_and_the_policy_knows_the_peer_alone() {
    let backend = Backend::ok();
    let policy = "version: 1\npermissions: { all: ['* /**'] }\nclients:\n  - name: everyone\n    match: { any: true }\n    \
                  permissions: [all]\n    when: { source: [127.0.0.0/8] }\n";
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{OF_A_PROXY}\r\n");
    for (trusted, address) in [("10.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "203.0.113.9, 10.1.1.1, 127.0.0.1")]
    {
        let setup = Setup::new(&backend.url()).policy(policy).set("trusted_proxies", vec![trusted]);
        assert_eq!(connect(&setup.start()).ask(&request).unwrap().status, 200, "{trusted}");
        let last = backend.received().pop().unwrap();
        assert_eq!(last.header("x-forwarded-for"), [address], "{trusted}");
    }
}

#[test]
fn http2_becomes_http1_with_its_host_and_one_cookie() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let connection = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let request = request("GET", "/events?a=1", &[("cookie", "a=1"), ("cookie", "b=2"), ("x-kept", "yes")]);
    assert_eq!(connection.ask(request, b"").unwrap().text(), "ok");
    let received = backend.wait_for(1).remove(0);
    assert_eq!(received.start_line(), "GET /events?a=1 HTTP/1.1");
    assert_eq!(received.header("host"), ["localhost"]);
    assert_eq!(received.header("cookie"), ["a=1; b=2"]);
    assert_eq!(received.header("x-kept"), ["yes"]);
    assert!(received.header("transfer-encoding").is_empty(), "no body, no framing: {}", received.head);
}

#[test]
fn bodies_arrive_whole_with_one_framing() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut http1 = connect(&proxy);
    http1.post("/events", "counted").unwrap();
    http1
        .ask("POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        .unwrap();
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    http2.ask(request("POST", "/events", &[]), b"of unknown length").unwrap();
    http2.ask(request("POST", "/events", &[("content-length", "7")]), b"counted").unwrap();
    http1.post("/events", "").unwrap();
    http1
        .ask("GET /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nasked\r\n0\r\n\r\n")
        .unwrap();
    http2.ask(request("GET", "/events", &[]), b"asked of unknown length").unwrap();
    let received = backend.wait_for(7);
    let bodies: Vec<_> = received.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
    let expected =
        ["counted", "abcde", "of unknown length", "counted", "", "asked", "asked of unknown length"];
    assert_eq!(bodies, expected);
    for request in &received {
        let framings = request.header("content-length").len() + request.header("transfer-encoding").len();
        assert!(framings <= 1, "{}", request.head);
    }
    assert_eq!(received[0].header("content-length"), ["7"]);
    assert_eq!(received[4].header("content-length"), ["0"]);
}

/// Case 59.
#[test]
fn trailers_pass_in_both_directions_but_never_identity_in_them() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
    let backend = Backend::answering(answer);
    let custom = json!({ "Who-Is-It": "common_name" });
    let proxy = Setup::new(&backend.url()).set("identity_headers.custom", custom).start();
    let answer = connect(&proxy)
        .ask(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\na\r\n0\r\nX-Up: 1\r\nClient-Cert: spoofed\r\nX_Remote_User: spoofed\r\nWho-Is-It: spoofed\r\n\
             who_is.it: spoofed\r\nContent-Length: 7\r\nTransfer-Encoding: spoofed\r\nHost: spoofed\r\n\
             content_type: spoofed\r\nX-Forwarded-For: spoofed\r\n\r\n",
        )
        .unwrap();
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let raw = String::from_utf8_lossy(&backend.wait_for(1)[0].raw).to_lowercase();
    assert!(raw.contains("x-up: 1"), "{raw}");
    assert!(!raw.contains("spoofed"), "{raw}");

    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let mut exchange =
        http2.open(request("POST", "/events", &[("te", "trailers"), ("trailer", "x-up")]), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-up", "2".parse().unwrap());
    trailers.insert("x-client-name", "spoofed".parse().unwrap());
    trailers.insert("who_is_it", "spoofed".parse().unwrap());
    exchange.body.send_data(Bytes::from_static(b"b"), false).unwrap();
    exchange.body.send_trailers(trailers).unwrap();
    let (head, mut body, _) = exchange.head().unwrap();
    assert_eq!(head.status, 200);
    let trailers = wait(async move {
        while body.data().await.is_some() {}
        body.trailers().await.unwrap().unwrap()
    });
    assert_eq!(trailers["x-sum"], "7");
    let raw = String::from_utf8_lossy(&backend.wait_for(2)[1].raw).to_lowercase();
    assert!(raw.contains("x-up: 2") && !raw.contains("spoofed"), "{raw}");
}

#[test]
fn what_the_backend_answers_passes_untouched() {
    for (status, phrase) in [
        (200, "OK"),
        (201, "Made It"),
        (301, "Moved"),
        (400, "Bad"),
        (401, "Who"),
        (403, "No"),
        (404, "Not Here"),
        (418, "Teapot"),
        (500, "Broken"),
        (503, "Later"),
        (504, "Gateway Timeout"),
        (599, "Odd"),
    ] {
        let body = "{\"its\":\"own\"}";
        let head = format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Length: {}\r\nX-Own: a\r\nX-Own: b\r\n",
            body.len()
        );
        let backend = Backend::answering(format!("{head}Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n{body}"));
        let proxy = Proxy::in_front_of(&backend.url());
        let http1 = connect(&proxy).get("/events").unwrap();
        let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap().get("/events").unwrap();
        assert_eq!((http1.status, http1.phrase.as_str()), (status, phrase));
        for answer in [http1, http2] {
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
            let values = |name: &str| -> Vec<_> {
                answer
                    .headers
                    .iter()
                    .filter(|(header, _)| header == name)
                    .map(|(_, value)| value.as_str())
                    .collect()
            };
            assert_eq!((values("x-own"), values("set-cookie")), (vec!["a", "b"], vec!["a=1", "b=2"]));
            assert!(values("proxy-status").is_empty() && values("www-authenticate").is_empty());
        }
    }
}

#[test]
fn the_backend_s_connection_headers_end_here_too() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = Proxy::in_front_of(&backend.url());
    let http1 = connect(&proxy).get("/").unwrap();
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap().get("/").unwrap();
    for answer in [http1, http2] {
        assert_eq!(answer.text(), "ok");
        assert!(answer.header("x-hop").is_none() && answer.header("keep-alive").is_none(), "{answer:?}");
    }
}

#[test]
fn answers_without_a_body_have_none_and_head_keeps_its_length() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            connection.wire.send(match request.start_line() {
                "HEAD /events HTTP/1.1" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                "GET /none HTTP/1.1" => "HTTP/1.1 204 No Content\r\n\r\n",
                "GET /same HTTP/1.1" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
                _ => OK,
            })?;
        }
        Ok(())
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    let answer = connection.ask("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("12345")));
    assert_eq!(connection.get("/none").unwrap().status, 204);
    assert_eq!(connection.get("/same").unwrap().header("etag"), Some("\"a\""));
    assert_eq!(connection.get("/events").unwrap().text(), "ok", "the connection is still in step");
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let answer = http2.ask(request("HEAD", "/events", &[]), b"").unwrap();
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("12345"), 0));
}

#[test]
fn the_backend_s_connection_is_kept_and_a_stale_one_is_replaced() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = connect(&proxy);
    for _ in 0..3 {
        assert_eq!(connection.get("/events").unwrap().status, 200);
    }
    assert_eq!(backend.connections(), 1, "kept alive between requests");
    backend.close_connections();
    assert_eq!(connection.post("/events", "body").unwrap().status, 200);
    assert_eq!(backend.connections(), 2);
    assert_eq!(backend.wait_for(4)[3].body, b"body");
}

/// What a backend says without being asked is nobody's answer, whether it comes with the answer before it or later, while
/// the connection is idle: that connection is used no more, and what would have gone over it goes over another.
#[test]
fn what_nobody_asked_for_is_never_an_answer() {
    for at_once in [true, false] {
        let (go, when) = std::sync::mpsc::channel::<()>();
        let (told, done) = std::sync::mpsc::channel::<()>();
        let turns = std::sync::Mutex::new(Some((when, told)));
        let backend = Backend::scripted(move |connection| {
            let first = turns.lock().unwrap().take();
            while connection.request()?.is_some() {
                let Some((when, told)) = &first else {
                    connection.wire.send(OK)?;
                    continue;
                };
                let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
                if at_once {
                    connection.wire.send([OK.as_bytes(), forged.as_bytes()].concat())?;
                } else {
                    connection.wire.send(OK)?;
                    when.recv().map_err(io::Error::other)?;
                    connection.wire.send(forged)?;
                }
                told.send(()).map_err(io::Error::other)?;
            }
            Ok(())
        });
        let proxy = Setup::new(&backend.url()).set("workers", 1).start();
        let mut connection = connect(&proxy);
        assert_eq!(connection.get("/events").unwrap().text(), "ok");
        // Where it came at once, the connection has already ended by it.
        let _ = go.send(());
        done.recv().unwrap();
        assert_eq!(connection.post("/events", "body").unwrap().text(), "ok", "at once: {at_once}");
        assert_eq!(backend.wait_for(2)[1].body, b"body");
        assert_eq!(backend.connections(), 2);
    }
}

/// More than a task may do in one turn of its runtime: whoever is cut off there is to be woken again.
#[test]
fn hundreds_of_requests_sent_ahead_are_all_answered() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = connect(&proxy);
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400)).unwrap();
    for _ in 0..400 {
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
    }
}

/// Something of it was sent, so nobody knows what the backend made of it: no second try.
#[test]
fn a_request_that_was_sent_is_never_sent_twice() {
    let backend = Backend::scripted(|connection| {
        connection.request()?;
        Ok(())
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let answer = connect(&proxy).post("/events", "once").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
    assert_eq!(backend.received().len(), 1);
}

#[test]
fn a_backend_that_takes_no_connection_in_time_is_a_504() {
    // A queue of one, which is taken: the kernel drops what knocks after that.
    let queue = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    queue.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    queue.listen(0).unwrap();
    let address = queue.local_addr().unwrap().as_socket().unwrap();
    let _taken = TcpStream::connect(address).unwrap();
    let proxy = Setup::new(&format!("http://{address}")).set("backend.connect_timeout", "200ms").start();
    let start = Instant::now();
    let answer = connect(&proxy).get("/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_timeout");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_backend_that_does_not_answer_in_time_is_a_504_and_its_connection_is_not_used_again() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            if !request.start_line().contains("/hang") {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("backend.response_timeout", "200ms").set("workers", 1).start();
    let mut connection = connect(&proxy);
    let answer = connection.get("/hang").unwrap();
    assert_eq!(
        (answer.verdict().as_str(), answer.phrase.as_str()),
        ("504 backend_timeout", "Service Unavailable")
    );
    assert_eq!(connection.get("/events").unwrap().status, 200);
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_backend_that_breaks_its_framing_is_a_504() {
    for broken in [
        "NOT HTTP AT ALL\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
        "HTTP/1.1 2",
    ] {
        let backend = Backend::scripted(move |connection| {
            connection.request()?;
            connection.wire.send(broken)
        });
        let proxy = Proxy::in_front_of(&backend.url());
        let mut connection = connect(&proxy);
        assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable", "{broken:?}");
        assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable", "{broken:?}");
        assert_eq!(backend.connections(), 2, "never used again: {broken:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let backend = Backend::scripted(move |connection| {
            connection.request()?;
            connection.wire.send(cut)
        });
        let proxy = Proxy::in_front_of(&backend.url());
        let http1 = connect(&proxy).get("/events");
        assert!(http1.is_err(), "a short answer must not look whole: {http1:?}");
        let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap().get("/events");
        assert!(http2.is_err(), "a short answer must not look whole: {http2:?}");
    }
}

#[test]
fn bytes_after_an_answer_are_never_the_next_answer() {
    let backend = Backend::scripted(|connection| {
        while connection.request()?.is_some() {
            connection.wire.send(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"))?;
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = connect(&proxy);
    for _ in 0..3 {
        assert_eq!(connection.get("/events").unwrap().text(), "ok");
    }
}

#[test]
fn an_event_stream_is_passed_on_as_it_comes() {
    let backend = Backend::streaming();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut http1 = connect(&proxy);
    http1.send("GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(http1.head().unwrap().header("content-type"), Some("text/event-stream"));
    assert!(http1.read_until(b"data: 1\n\n").is_ok(), "the event, while the answer goes on");
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let (_, mut body, _) = http2.open(request("GET", "/events/stream", &[]), true).unwrap().head().unwrap();
    let event = wait(async move { body.data().await.unwrap().unwrap() });
    assert_eq!(&event[..], b"data: 1\n\n");
}

#[test]
fn a_client_that_waits_for_leave_gets_it_or_its_refusal() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let expecting =
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut allowed = connect(&proxy);
    allowed.send(expecting).unwrap();
    assert_eq!(allowed.read_line().unwrap(), "HTTP/1.1 100 Continue");
    assert_eq!(allowed.read_line().unwrap(), "");
    allowed.send("body").unwrap();
    assert_eq!(allowed.answer_to("POST").unwrap().status, 200);
    assert_eq!(backend.wait_for(1)[0].body, b"body");

    let mut denied = proxy.consumer().connect(proxy.address).unwrap();
    denied.send(expecting).unwrap();
    let answer = denied.answer_to("POST").unwrap();
    assert_eq!((answer.verdict().as_str(), answer.informational.len()), ("403 insufficient_permissions", 0));
}

#[test]
fn the_body_of_a_refused_request_is_never_read_as_a_request() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let hidden = "GET /readable HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for client in [proxy.anonymous(), proxy.consumer()] {
        let mut connection = client.connect(proxy.address).unwrap();
        let answer = connection.post("/events", hidden).unwrap();
        assert!([401, 403].contains(&answer.status));
        let rest = connection.send("").and_then(|()| connection.get("/next"));
        if let Ok(next) = rest {
            assert_eq!(next.status, answer.status, "the answer to /next, and to nothing hidden");
        }
    }
    assert!(backend.received().is_empty());
}

#[test]
fn a_refused_upload_gets_its_answer_and_not_a_reset() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.consumer().connect(proxy.address).unwrap();
    let answer = connection.post("/events", &"x".repeat(60 * 1024)).unwrap();
    assert_eq!(answer.verdict(), "403 insufficient_permissions");
}

#[test]
fn two_framings_are_refused_or_read_by_the_chunks_and_the_connection_closes() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    connection
        .send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
        .unwrap();
    let answer: io::Result<Answer> = connection.answer_to("POST");
    let answer = answer.unwrap();
    if answer.status == 200 {
        let received = backend.wait_for(1).remove(0);
        assert_eq!((received.body.as_slice(), received.header("content-length").len()), (b"a".as_slice(), 0));
    } else {
        assert_eq!(answer.status, 400);
    }
    assert!(connection.is_closed());
}

#[test]
fn an_answer_may_come_before_the_upload_is_over() {
    let backend = Backend::scripted(|connection| {
        connection.head()?;
        connection.wire.send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    connection
        .send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nstart")
        .unwrap();
    let answer = connection.answer_to("POST").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
}

#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            let path = request.start_line().split(' ').nth(1).unwrap_or_default().to_owned();
            connection
                .wire
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()))?;
        }
        Ok(())
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    let post = "POST /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.send(format!("{}{post}{}{}", get("/a"), get("/c%2Fd"), get("/e"))).unwrap();
    let answers: Vec<_> = (0..4).map(|_| connection.answer_to("GET").unwrap()).collect();
    let bodies: Vec<_> = [0, 1, 3].map(|index: usize| answers[index].text()).into();
    assert_eq!(bodies, ["/a", "/b", "/e"]);
    assert_eq!(answers[2].verdict(), "400 ambiguous_request");
}

#[test]
fn http_1_0_is_served_too() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    let answer = connection.ask("GET /events HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(connection.is_closed());
    let received = backend.wait_for(1).remove(0);
    assert_eq!(received.start_line(), "GET /events HTTP/1.1");
    assert_eq!(received.header("host"), [backend.address.to_string()]);
}

#[test]
fn a_backend_of_http_1_0_ends_its_answer_with_its_connection() {
    let backend = Backend::scripted(|connection| {
        connection.request()?;
        connection.wire.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    for _ in 0..2 {
        assert_eq!(connection.get("/events").unwrap().text(), "until the end");
    }
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    assert_eq!(http2.get("/events").unwrap().text(), "until the end");
}

#[test]
fn interim_answers_of_the_backend_pass_and_are_not_the_answer() {
    let backend = Backend::answering(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Own\r\nX-Own: 1\r\n\r\n{OK}"
    ));
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    for _ in 0..2 {
        let answer = connection.post("/events", "x").unwrap();
        assert_eq!((answer.informational.as_slice(), answer.text().as_str()), ([103].as_slice(), "ok"));
    }
    let request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.send(request).unwrap();
    let early = String::from_utf8(connection.read_until(b"\r\n\r\n").unwrap()).unwrap();
    assert_eq!(early, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");

    // Who would take it for the answer gets none.
    let answer = connect(&proxy).ask("GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!((answer.informational.as_slice(), answer.text().as_str()), ([].as_slice(), "ok"));
    let connection = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().text(), "ok");
}

#[test]
fn an_interim_answer_does_not_wait_for_the_answer() {
    let (go, wait_for_go) = std::sync::mpsc::channel::<()>();
    let wait_for_go = std::sync::Mutex::new(wait_for_go);
    let backend = Backend::scripted(move |connection| {
        connection.request()?;
        connection.wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        let _ = wait_for_go.lock().unwrap().recv();
        connection.wire.send(OK)
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let early = connection.read_until(b"\r\n\r\n").unwrap();
    assert!(early.starts_with(b"HTTP/1.1 103 "));
    go.send(()).unwrap();
    assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
}

#[test]
fn interim_answers_stay_in_order_where_requests_come_together() {
    let backend = Backend::answering(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"));
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)).unwrap();
    for _ in 0..20 {
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
    }
}

#[test]
fn bytes_that_are_no_ascii_pass_in_the_values_of_headers() {
    let backend =
        Backend::answering(b"HTTP/1.1 200 OK\r\nX-Down: caf\xe9\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = connect(&proxy);
    connection.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Up: caf\xe9\r\n\r\n").unwrap();
    let head = connection.read_until(b"\r\n\r\n").unwrap();
    assert!(
        head.windows(12).any(|window| window == b"x-down: caf\xe9"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    let raw = backend.wait_for(1).remove(0).raw;
    assert!(raw.windows(10).any(|window| window == b"x-up: caf\xe9"), "{}", String::from_utf8_lossy(&raw));
}
