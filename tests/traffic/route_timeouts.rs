//! Time limits of a route: they replace those of the configuration, and what has none ends with its client.

use std::io;

use crate::support::admin::IN_FLIGHT;
use crate::support::backend::BackendConnection;
use crate::support::blocking::{BlockingBackend, Gate};
use crate::support::frames::{self, DATA, END_STREAM, frame, headers};
use crate::support::http2::{Http2, request};
use crate::support::{Backend, Proxy, Setup};

/// A policy whose producer may do everything by a broad route, and some of it by narrow ones with time limits.
fn policy(narrow: &str, more: &str) -> String {
    format!(
        r#"version: 1
permissions:
  everything: ["* /**"]
  narrow: [{narrow}]
  other: ["GET /other"{more}]
clients:
  - name: producer
    match: {{ uri: "spiffe://shop.example/ns/orders/sa/*" }}
    permissions: [everything, narrow]
  - name: again
    match: {{ uri: "spiffe://shop.example/ns/orders/**" }}
    permissions: [other]
"#
    )
}

/// A proxy whose configuration waits for a response for less than a second.
fn impatient(backend: &str, policy: &str) -> Proxy {
    let setup = Setup::new(backend).policy(policy).set("workers", 1);
    setup.set("backend.response_timeout", "700ms").set("backend.idle_timeout", "700ms").start()
}

/// Waits until the time limit of the configuration has passed since now.
fn outlast(proxy: &Proxy) {
    assert_eq!(proxy.connect().get("/late").unwrap().verdict(), "504 backend_timeout");
}

#[test]
fn an_answer_that_a_route_waits_for_is_forwarded_later_than_the_configuration_allows() {
    for limit in ["none", "5m"] {
        let blocking = BlockingBackend::start();
        let narrow = format!("{{ route: GET /poll, timeouts: {{ response: {limit} }} }}");
        let proxy = impatient(&blocking.backend.url(), &policy(&narrow, ""));
        let http2 = proxy.http2();
        let mut http1 = proxy.connect();
        http1.send("GET /poll HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let stream = http2.open(request("GET", "/poll", &[]), true).unwrap();
        blocking.wait_for(2);
        outlast(&proxy);
        blocking.gate.open();
        assert_eq!(http1.answer_to("GET").unwrap().text(), "ok", "{limit}");
        assert_eq!(stream.finish(b"").unwrap().text(), "ok", "{limit}");
    }
}

/// Of several routes that grant a request, the longest time limit counts, in every order and by every entry.
#[test]
fn the_longest_time_limit_of_the_granting_routes_counts() {
    let short = "{ route: GET /poll, timeouts: { response: 200ms } }";
    let long = "{ route: GET /p*, timeouts: { response: 5m } }";
    for (narrow, more) in [
        (format!("{short}, {long}"), String::new()),
        (format!("{long}, {short}"), String::new()),
        (short.to_owned(), format!(", {long}")),
        (long.to_owned(), format!(", {short}")),
    ] {
        let blocking = BlockingBackend::start();
        let proxy = impatient(&blocking.backend.url(), &policy(&narrow, &more));
        let mut client = proxy.connect();
        client.send("GET /poll HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        blocking.wait_for(1);
        outlast(&proxy);
        blocking.gate.open();
        assert_eq!(client.answer_to("GET").unwrap().text(), "ok", "{narrow} {more}");
    }
}

/// A route may also be less patient than the configuration.
#[test]
fn a_shorter_time_limit_of_a_route_counts_beside_a_broad_grant_without_one() {
    let blocking = BlockingBackend::start();
    let narrow = policy("{ route: GET /poll, timeouts: { response: 300ms } }", "");
    let proxy = Setup::new(&blocking.backend.url()).policy(&narrow).start();
    assert_eq!(proxy.connect().get("/poll").unwrap().verdict(), "504 backend_timeout");
    assert_eq!(proxy.http2().get("/poll").unwrap().verdict(), "504 backend_timeout");
    blocking.gate.open();
}

/// A place in flight is not lost to a request without a time limit whose client has left.
#[test]
fn a_request_without_a_time_limit_ends_with_its_client() {
    let silent = Backend::never_answering();
    let narrow = "{ route: GET /poll, timeouts: { response: none, idle: none } }";
    let proxy = impatient(&silent.url(), &policy(narrow, ""));
    let mut http1 = proxy.connect();
    http1.send("GET /poll HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let http2 = proxy.http2();
    let stream = http2.open(request("GET", "/poll", &[]), true).unwrap();
    proxy.admin.wait_for(IN_FLIGHT, 2.0);
    outlast(&proxy);
    proxy.admin.wait_for(IN_FLIGHT, 2.0);
    drop(http1);
    stream.reset();
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// Sends the head and the first part of an answer, and the rest behind the gate.
fn halting(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            if request.start_line().contains("/late") {
                continue;
            }
            connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")?;
            gate.pass();
            connection.wire.send("k")?;
        }
        Ok(())
    })
}

#[test]
fn a_pause_in_an_answer_is_as_long_as_the_route_allows() {
    let gate = Gate::default();
    let backend = halting(&gate);
    let narrow =
        "{ route: GET /feed, timeouts: { idle: none } }, { route: GET /news, timeouts: { idle: 5m } }";
    let proxy = impatient(&backend.url(), &policy(narrow, ""));
    let http2: Http2 = proxy.http2();
    for path in ["/feed", "/news"] {
        let mut http1 = proxy.connect();
        http1.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
        http1.read_until(b"\r\n\r\no").unwrap();
        let stream = http2.open(request("GET", path, &[]), true).unwrap();
        backend.wait_for(2);
        outlast(&proxy);
        gate.let_pass(2);
        assert_eq!(http1.read_exactly(1).unwrap(), b"k", "{path}");
        assert_eq!(stream.finish(b"").unwrap().text(), "ok", "{path}");
        backend.clear_records();
    }
    assert!(proxy.connect().get("/default").is_err(), "broken off after the configured pause");
    gate.open();
}

/// gRPC servers send their headers with the first message.
#[test]
fn a_stream_of_grpc_waits_for_its_first_message() {
    fn answer(connection: &mut BackendConnection, stream: u32) -> io::Result<()> {
        let head = headers(stream, 0, &[(":status", "200"), ("content-type", "application/grpc")]);
        let message = frame(DATA, 0, stream, b"\0\0\0\0\x02ok");
        let trailers = headers(stream, END_STREAM, &[("grpc-status", "0")]);
        connection.wire.send([head, message, trailers].concat())
    }
    let gate = Gate::default();
    let passing = gate.clone();
    let backend = Backend::scripted(move |connection| {
        frames::serve(connection, |connection, stream| {
            connection.record_event(format!("stream {stream}"));
            // The second stream is the one that outlasts the time limit of the configuration.
            if stream == 1 {
                return Ok(());
            }
            passing.pass();
            answer(connection, 1)?;
            answer(connection, stream)
        })
    });
    let narrow = "{ route: POST /feed.Feed/Subscribe, timeouts: { response: none } }";
    let url = backend.url().replace("http:", "h2c:");
    let proxy = impatient(&url, &policy(narrow, ""));
    let http2 = proxy.http2();
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let stream = http2.open(request("POST", "/feed.Feed/Subscribe", &grpc), true).unwrap();
    outlast(&proxy);
    gate.open();
    let answer = stream.finish(b"").unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"\0\0\0\0\x02ok".as_slice()));
    assert_eq!(answer.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
}
