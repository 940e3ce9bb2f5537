//! The order of refusals, in every state of the server: a client that is not authenticated gets 401 and learns nothing else;
//! a client without the permission gets 403; only a permitted client learns about slots, the backend and the shutdown (DESIGN
//! §2).

use std::io;

use sidegate::demo::pki::Credential;

use crate::support::backend::{OK, RefusingPort};
use crate::support::http2::Http2;
use crate::support::tls::{TLS_12, TLS_13, Tls};
use crate::support::{Backend, Client, Pki, Proxy, Setup, eventually};

/// A name, the certificate that the client presents, and the verdict.
type Presented = (&'static str, fn(&Pki) -> Option<Credential>, &'static str);

const PRESENTED: [Presented; 12] = [
    ("no certificate", |_| None, "401 not_authenticated"),
    ("unknown CA", |pki| Some(pki.unknown_ca()), "401 invalid_certificate"),
    ("namesake of the CA", |pki| Some(pki.same_named_ca()), "401 invalid_certificate"),
    ("copy of the issuer's name", |pki| Some(pki.self_signed_as_the_issuer()), "401 invalid_certificate"),
    ("expired", |pki| Some(pki.expired()), "401 invalid_certificate"),
    ("not yet valid", |pki| Some(pki.not_yet_valid()), "401 invalid_certificate"),
    ("wrong usage", |pki| Some(pki.wrong_usage()), "401 invalid_certificate"),
    ("CA as leaf", |pki| Some(pki.ca_as_leaf()), "401 invalid_certificate"),
    ("X.509 v1", |pki| Some(pki.version_1()), "401 invalid_certificate"),
    ("two SPIFFE ids", |pki| Some(pki.two_spiffe_ids()), "401 invalid_certificate"),
    ("valid, denied", |pki| Some(pki.consumer.clone()), "403 insufficient_permissions"),
    ("valid, allowed", |pki| Some(pki.producer.clone()), ALLOWED),
];
/// The verdict on a permitted client: it depends on the state of the server.
const ALLOWED: &str = "depends on the state";

/// Cases 1, 2, 3, 4, 5, 19 and 30: certificates that are no identity, and no certificate.
#[test]
fn refusals_have_their_order_when_the_server_is_idle() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    assert_order(&proxy, "200");
}

#[test]
fn refusals_have_their_order_when_the_server_is_full() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", 1).start();
    let mut holder = proxy.connect();
    assert_eq!(holder.get("/events").unwrap().status, 200);
    assert_order(&proxy, "504 server_full");
    assert_eq!(holder.get("/events").unwrap().status, 200, "a client keeps its slot");
}

/// Case 80.
#[test]
fn refusals_have_their_order_when_the_backend_refuses() {
    let backend = RefusingPort::new();
    let proxy = Setup::new(&backend.url()).set("backend.breaker.failures", 0).start();
    assert_order(&proxy, "504 backend_unavailable");
}

/// Case 80.
#[test]
fn refusals_have_their_order_when_the_backend_is_known_to_refuse() {
    let backend = RefusingPort::new();
    let proxy = Setup::new(&backend.url())
        .set("backend.breaker.failures", 1)
        .set("backend.breaker.pause", "1h")
        .set("backend.breaker.max_pause", "1h")
        .start();
    let mut first = proxy.connect();
    assert_eq!(first.get("/events").unwrap().verdict(), "504 backend_unavailable");
    assert_order(&proxy, "504 overloaded");
}

/// Case 80.
#[test]
fn refusals_have_their_order_when_the_backend_hangs() {
    let backend = Backend::never_answering();
    let proxy = Setup::new(&backend.url()).set("backend.response_timeout", "200ms").start();
    assert_order(&proxy, "504 backend_timeout");
}

/// For a moment after the signal new connections are still answered, because load balancers learn about the shutdown late.
/// Requests that began before the signal are finished. The order of refusals holds for both.
#[test]
fn refusals_have_their_order_when_the_server_is_draining() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            if request.start_line() != "GET /hold HTTP/1.1" {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("drain_timeout", "60s").start();
    let mut holder = proxy.connect();
    holder.send("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    let begun: Vec<(Presented, Tls)> =
        PRESENTED.into_iter().map(|presented| (presented, begin(&proxy, presented))).collect();
    proxy.process.signal("TERM");
    eventually("readiness", || proxy.admin.get("/readyz").status, |status| *status == 503);
    for ((name, _, expected), mut connection) in begun {
        let answer = connection.send("\r\n").and_then(|()| connection.answer_to("GET"));
        let verdict = answer.map_or_else(|error| error.to_string(), |answer| answer.verdict());
        assert_eq!(verdict, expected_in_state(expected, "200"), "{name}");
    }
    assert_order(&proxy, "200");
}

#[test]
fn an_ambiguous_path_is_refused_after_authentication_and_before_the_permissions() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for path in ["/events/../admin", "/a%2Fb", "//", "/%zz", "/a;b", "/%00"] {
        let answer = |client: Client| client.connect(proxy.address).unwrap().get(path).unwrap().verdict();
        assert_eq!(answer(proxy.anonymous()), "401 not_authenticated", "{path}");
        assert_eq!(answer(proxy.client(&proxy.pki().expired())), "401 invalid_certificate", "{path}");
        assert_eq!(answer(proxy.consumer()), "400 ambiguous_request", "{path}");
        assert_eq!(answer(proxy.producer()), "400 ambiguous_request", "{path}");
    }
    assert!(backend.received().is_empty(), "no such request reached the backend");
}

/// Case 63.
#[test]
fn no_path_is_exempt_from_authentication() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for path in ["/livez", "/readyz", "/metrics", "/status", "/healthz", "/ping", "/"] {
        let mut connection = proxy.anonymous().connect(proxy.address).unwrap();
        assert_eq!(connection.get(path).unwrap().verdict(), "401 not_authenticated", "{path}");
        let mut connection = proxy.consumer().connect(proxy.address).unwrap();
        assert_eq!(connection.get(path).unwrap().verdict(), "403 insufficient_permissions", "{path}");
    }
}

/// Sends a request without its last line break, so that the request is incomplete when the server begins to drain.
fn begin(proxy: &Proxy, (_, credential, _): Presented) -> Tls {
    let credential = credential(proxy.pki());
    let client = Client::new(proxy.pki(), credential.as_ref(), &[TLS_13]);
    let mut connection = client.connect(proxy.address).unwrap();
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    connection
}

/// Asserts the verdict on each client, over TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2, after a full handshake and a resumed one.
#[track_caller]
fn assert_order(proxy: &Proxy, allowed: &str) {
    let wrong: Vec<_> =
        PRESENTED.into_iter().flat_map(|presented| wrong_answers(proxy, presented, allowed)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn wrong_answers(proxy: &Proxy, (name, credential, expected): Presented, allowed: &str) -> Vec<String> {
    let credential = credential(proxy.pki());
    let expected = expected_in_state(expected, allowed);
    let mut wrong = Vec::new();
    for (tls, version) in [("TLS 1.2", TLS_12), ("TLS 1.3", TLS_13)] {
        for (http, ask) in [("HTTP/1.1", http1 as Ask), ("HTTP/2", http2)] {
            let client = Client::new(proxy.pki(), credential.as_ref(), &[version]);
            for resumed in [false, true] {
                let verdict = match ask(&client, proxy) {
                    Ok((verdict, was_resumed)) if was_resumed == resumed => verdict,
                    Ok((verdict, _)) => format!("{verdict}, not resumed"),
                    Err(error) => error.to_string(),
                };
                if verdict != expected {
                    wrong.push(format!(
                        "{name}, {tls}, {http}, resumed: {resumed}: not {expected} but {verdict}"
                    ));
                }
            }
        }
    }
    wrong
}

/// Returns the expected verdict: for a permitted client, the one of the state.
fn expected_in_state<'a>(expected: &'a str, allowed: &'a str) -> &'a str {
    if expected == ALLOWED { allowed } else { expected }
}

/// Asks once, and returns the verdict with whether the session was resumed.
type Ask = fn(&Client, &Proxy) -> io::Result<(String, bool)>;

fn http1(client: &Client, proxy: &Proxy) -> io::Result<(String, bool)> {
    let mut connection = client.alpn(&["http/1.1"]).connect(proxy.address)?;
    let answer = connection.get("/events")?;
    Ok((answer.verdict(), connection.is_resumed()))
}

fn http2(client: &Client, proxy: &Proxy) -> io::Result<(String, bool)> {
    let connection = Http2::connect(client, proxy.address)?;
    let answer = connection.get("/events")?;
    Ok((answer.verdict(), connection.is_resumed()))
}
