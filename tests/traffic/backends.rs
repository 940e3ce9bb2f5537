//! The backend may speak TLS, listen on a Unix socket, or speak HTTP/2. The promises of forwarding hold for each of these
//! (DESIGN §5).

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderValue, Response};
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use sidegate::demo::pki::{Authority, Leaf, pem};

use crate::support::backend_listeners::{self, Http2Backend};
use crate::support::frames;
use crate::support::http2::request;
use crate::support::{Answer, Backend, Proxy, Setup};

fn get(proxy: &Proxy, path: &str) -> io::Result<Answer> {
    proxy.producer().connect(proxy.address)?.get(path)
}

/// The certificate that a backend asks of the proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientAuth {
    None,
    Required,
}

/// A backend that speaks TLS, with a certificate of its own authority, and the setup for a proxy in front of it.
struct TlsBackend {
    authority: Authority,
    setup: Setup,
    backend: Backend,
}

impl TlsBackend {
    fn new(client_auth: ClientAuth) -> Self {
        let backend = Backend::ok();
        let setup = Setup::new("https://127.0.0.1:1");
        let authority = Authority::root("Backends").unwrap();
        let credential = authority.issue(&Leaf::server().unwrap()).unwrap();
        let clients = (client_auth == ClientAuth::Required).then_some(&authority);
        let front = backend_listeners::listen_tls(
            backend_listeners::server_config(&credential, clients, "http/1.1"),
            backend.address,
        );
        let certificate = pem("CERTIFICATE", authority.certificate());
        fs::write(setup.path("backend-ca.crt"), certificate).unwrap();
        let setup = setup
            .set("backend.url", format!("https://127.0.0.1:{}", front.port()))
            .set("backend.tls.ca", "backend-ca.crt")
            .set("backend.tls.server_name", "localhost");
        Self { authority, setup, backend }
    }
}

#[test]
fn a_backend_is_reached_by_tls_with_an_authority_of_its_own() {
    let TlsBackend { setup, backend, .. } = TlsBackend::new(ClientAuth::None);
    let proxy = setup.start();
    let mut connection = proxy.connect();
    for number in 1..=3 {
        assert_eq!(connection.post("/events", "x").unwrap().text(), "ok");
        assert_eq!(backend.wait_for(number).len(), number);
    }
    assert_eq!(backend.connections(), 1, "the connection is kept alive");
    assert_eq!(backend.received()[0].start_line(), "POST /events HTTP/1.1");
}

#[test]
fn a_backend_of_another_authority_or_another_name_never_gets_a_byte() {
    let TlsBackend { setup, backend, .. } = TlsBackend::new(ClientAuth::None);
    let other = pem("CERTIFICATE", Authority::root("Backends").unwrap().certificate());
    fs::write(setup.path("backend-ca.crt"), other).unwrap();
    let mut proxy = setup.start();
    let answer = get(&proxy, "/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
    assert_eq!(answer.header("proxy-status"), Some("sidegate; error=tls_protocol_error"));
    assert!(!answer.text().contains("BadSignature"), "{answer:?}");
    let line = proxy.process.log_where("a warning", |line| line["level"] == "WARN");
    assert!(line["error"].as_str().unwrap().contains("BadSignature"), "{line}");
    assert!(backend.received().is_empty());

    let TlsBackend { setup, backend, .. } = TlsBackend::new(ClientAuth::None);
    let proxy = setup.set("backend.tls.server_name", "elsewhere.example").start();
    let answer = get(&proxy, "/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
    assert!(backend.received().is_empty());
}

#[test]
fn a_backend_that_asks_for_a_certificate_gets_the_proxy_s_and_never_the_client_s() {
    let TlsBackend { setup, backend, .. } = TlsBackend::new(ClientAuth::Required);
    let proxy = setup.start();
    let answer = get(&proxy, "/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
    assert!(backend.received().is_empty());

    let TlsBackend { setup, backend, authority } = TlsBackend::new(ClientAuth::Required);
    let own = Leaf::client("sidecar", "Shop").with(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, "sidecar");
    });
    authority.issue(&own).unwrap().write(setup.folder.path(), "own").unwrap();
    let setup = setup.set("backend.tls.certificate", "own.crt").set("backend.tls.key", "own.key");
    let proxy = setup.start();
    assert_eq!(get(&proxy, "/events").unwrap().text(), "ok");
    assert_eq!(backend.wait_for(1).len(), 1);
}

#[test]
fn mistakes_in_the_certificates_for_the_backend_are_reported_at_the_start() {
    let TlsBackend { setup, authority, .. } = TlsBackend::new(ClientAuth::None);
    fs::write(setup.path("backend-ca.crt"), "nothing").unwrap();
    authority.issue(&Leaf::client("a", "b")).unwrap().write(setup.folder.path(), "own").unwrap();
    authority.issue(&Leaf::client("c", "d")).unwrap().write(setup.folder.path(), "other").unwrap();
    let setup = setup.set("backend.tls.certificate", "own.crt").set("backend.tls.key", "other.key");
    let finished = setup.run();
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("there is no certificate in"), "{}", finished.stderr);
    fs::write(setup.path("backend-ca.crt"), pem("CERTIFICATE", authority.certificate())).unwrap();
    let finished = setup.run();
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("go together"), "{}", finished.stderr);
}

#[test]
fn a_backend_is_reached_on_a_unix_socket() {
    let backend = Backend::ok();
    let setup = Setup::new("unix:app.sock");
    backend_listeners::listen_unix(&setup.path("app.sock"), backend.address);
    let proxy = setup.start();
    let mut connection = proxy.connect();
    for _ in 0..2 {
        assert_eq!(connection.post("/events", "x").unwrap().text(), "ok");
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.received()[0].header("host"), ["localhost"]);
}

#[test]
fn a_missing_unix_socket_is_an_unavailable_backend() {
    let proxy = Setup::new("unix:app.sock").start();
    let answer = get(&proxy, "/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
}

fn grpc_answer() -> Http2Backend {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Http2Backend::answering(head, "answer", Some(trailers))
}

#[test]
fn a_backend_of_http_2_gets_and_sends_trailers() {
    let backend = grpc_answer();
    let proxy = Setup::new(&backend.url()).start();
    let connection = proxy.http2();
    let call = request(
        "POST",
        "/shop.Events/Publish?x=%2F",
        &[("te", "trailers"), ("content-type", "application/grpc"), ("x-client-name", "spoofed")],
    );
    let answer = connection.ask(call, b"question").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "answer"));
    assert_eq!(answer.trailers, [("grpc-status".to_owned(), "0".to_owned())]);

    let seen = backend.received().remove(0);
    assert_eq!(seen.head.uri().to_string(), "http://localhost/shop.Events/Publish?x=%2F");
    assert_eq!(seen.head.method(), "POST");
    assert_eq!(seen.body, b"question");
    let header = |name: &str| seen.head.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("te"), Some("trailers"));
    assert_eq!(header("host"), None);
    assert_eq!(header("connection"), None);
    assert_eq!(header("x-client-name"), None);
    assert!(header("client-cert").is_some());
}

#[test]
fn a_backend_of_http_2_serves_clients_of_http_1() {
    let backend = grpc_answer();
    let proxy = Setup::new(&backend.url()).start();
    let mut connection = proxy.connect();
    let answer = connection
        .ask("GET /events/17 HTTP/1.1\r\nHost: events.example:8443\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n\r\n")
        .unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "answer"));
    let seen = backend.received().remove(0);
    assert_eq!(seen.head.uri().to_string(), "http://events.example:8443/events/17");
    assert!(seen.head.headers().get("x-mine").is_none());
}

#[test]
fn requests_share_one_http_2_connection_and_a_lost_connection_is_replaced() {
    let backend = grpc_answer();
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let connection = proxy.http2();
    let ask = |count: usize| {
        let open: Vec<_> =
            (0..count).map(|_| connection.open(request("GET", "/events", &[]), true).unwrap()).collect();
        for exchange in open {
            assert_eq!(exchange.finish(b"").unwrap().text(), "answer");
        }
    };
    ask(50);
    assert_eq!(backend.connections(), 1);
    backend.close_connections();
    ask(5);
    assert_eq!(backend.connections(), 2);
    assert_eq!(backend.received().len(), 55);
}

#[test]
fn an_http_2_backend_that_hangs_and_one_that_speaks_http_1_get_different_reasons() {
    let backend = Http2Backend::scripted(|_, respond| {
        // The stream stays open for as long as `respond` lives.
        std::mem::forget(respond);
    });
    let proxy = Setup::new(&backend.url()).set("backend.response_timeout", "200ms").start();
    let answer = get(&proxy, "/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_timeout");

    let silent = Backend::never_answering();
    let proxy =
        Setup::new(&silent.url().replace("http:", "h2c:")).set("backend.response_timeout", "200ms").start();
    let answer = get(&proxy, "/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_timeout");

    let speaks_http_1 =
        Backend::scripted(|connection| connection.wire.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let proxy = Setup::new(&speaks_http_1.url().replace("http:", "h2c:")).start();
    let answer = get(&proxy, "/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
}

#[test]
fn an_incomplete_answer_of_an_http_2_backend_is_incomplete_for_the_client() {
    // The answer ends before its Content-Length: its frames are whole, but its body is not.
    let backend = Http2Backend::scripted(|_, mut respond| {
        let head = Response::builder().header("content-length", "10").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data("part".into(), true).unwrap();
    });
    let proxy = Setup::new(&backend.url()).start();
    assert!(get(&proxy, "/events").is_err());
    let connection = proxy.http2();
    assert!(connection.get("/events").is_err());
}

/// Over TLS, ALPN agrees on HTTP/2 in the handshake. On a Unix socket, the configuration says it beforehand.
#[test]
fn a_backend_of_http_2_is_reached_by_tls_and_on_a_unix_socket() {
    let backend = grpc_answer();
    let setup = Setup::new("h2://127.0.0.1:1");
    let authority = Authority::root("Backends").unwrap();
    let credential = authority.issue(&Leaf::server().unwrap()).unwrap();
    let front = backend_listeners::listen_tls(
        backend_listeners::server_config(&credential, None, "h2"),
        backend.address,
    );
    fs::write(setup.path("backend-ca.crt"), pem("CERTIFICATE", authority.certificate())).unwrap();
    let by_tls = setup
        .set("backend.url", format!("h2://127.0.0.1:{}", front.port()))
        .set("backend.tls.ca", "backend-ca.crt")
        .set("backend.tls.server_name", "localhost");
    let on_a_socket = Setup::new("unix+h2c:app.sock");
    backend_listeners::listen_unix(&on_a_socket.path("app.sock"), backend.address);
    for (setup, scheme) in [(by_tls, "https"), (on_a_socket, "http")] {
        let proxy = setup.set("workers", 1).start();
        let before = backend.connections();
        let connection = proxy.http2();
        for _ in 0..3 {
            let answer = connection.ask(request("POST", "/events", &[("te", "trailers")]), b"x").unwrap();
            assert_eq!(answer.text(), "answer", "{scheme}");
            assert_eq!(answer.trailers, [("grpc-status".to_owned(), "0".to_owned())], "{scheme}");
        }
        assert_eq!(backend.connections(), before + 1, "{scheme}: one connection serves all requests");
        let seen = backend.received().pop().unwrap();
        assert_eq!(seen.head.uri().to_string(), format!("{scheme}://localhost/events"));
    }
}

/// `OPTIONS *` is about the server as a whole. Its target is not a path, in HTTP/2 as in HTTP/1.1.
#[test]
fn options_with_an_asterisk_reaches_a_backend_of_http_2() {
    let backend = grpc_answer();
    let proxy = Setup::new(&backend.url()).start();
    let mut connection = proxy.connect();
    let answer = connection.ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "answer"));
    let seen = backend.received().remove(0);
    assert_eq!(seen.head.uri().path(), "*");
}

/// The backend may have acted on a request of which a part was sent. So the proxy does not try again on another connection.
#[test]
fn a_request_of_a_lost_http_2_connection_is_never_sent_twice() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let backend = Backend::scripted(move |connection| {
        frames::serve(connection, |_, _| {
            counting.fetch_add(1, Ordering::SeqCst);
            Err(io::ErrorKind::ConnectionAborted.into())
        })
    });
    let proxy = Setup::new(&backend.url().replace("http:", "h2c:")).start();
    for number in 1..=3 {
        let answer = proxy.connect().post("/events", "once").unwrap();
        assert_eq!(answer.verdict(), "504 backend_unavailable");
        assert_eq!(asked.load(Ordering::SeqCst), number);
    }
}

/// Case 80: a backend that is available only now and then.
#[test]
fn a_backend_that_flaps_is_used_whenever_it_is_available() {
    let backend = Backend::ok();
    let setup = Setup::new("unix:app.sock");
    let path = setup.path("app.sock");
    let proxy = setup.set("workers", 1).start();
    let mut connection = proxy.connect();
    for number in 1..=5 {
        assert_eq!(connection.post("/events", "x").unwrap().verdict(), "504 backend_unavailable");
        let stranger = proxy.anonymous().connect(proxy.address).unwrap().get("/events").unwrap();
        assert_eq!(stranger.verdict(), "401 not_authenticated");
        backend_listeners::listen_unix(&path, backend.address);
        assert_eq!(connection.post("/events", "x").unwrap().text(), "ok");
        assert_eq!(backend.wait_for(number).len(), number, "the failed request was never sent");
        fs::remove_file(&path).unwrap();
        backend.close_connections();
    }
}
