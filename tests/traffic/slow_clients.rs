//! A client may be slow, but one that stops is waited for only for a limited time (DESIGN §2.4, §5; case 74).

use std::time::Instant;

use crate::support::backend::OK;
use crate::support::frames::{END_STREAM, Frames, GET_EVENTS, Reaction, headers};
use crate::support::http2::request;
use crate::support::{Backend, DEADLINE, Setup};

const HEAD: &str = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n";

/// Case 74: the body of an upload stops.
#[test]
fn a_body_that_stops_is_a_timeout_of_the_request_and_not_of_the_backend() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.http.body_timeout", "200ms").start();
    let mut connection = proxy.connect();
    connection.send(format!("{HEAD}half")).unwrap();
    let answer = connection.answer_to("POST").unwrap();
    assert_eq!(answer.verdict(), "408 request_timeout");
    assert!(connection.is_closed(), "later bytes of the body must not be read as a request");

    let http2 = proxy.http2();
    let exchange = http2.open(request("POST", "/events", &[("content-length", "10")]), false).unwrap();
    let (head, _, _) = exchange.head().unwrap();
    assert_eq!(head.status, 408);
    assert_eq!(http2.get("/events").unwrap().verdict(), "200", "the other streams go on");
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// Case 74: each byte of the body comes in time.
#[test]
fn a_slow_body_arrives() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("limits.http.body_timeout", "2s");
    let proxy = setup.set("backend.response_timeout", "1s").start();
    let mut connection = proxy.connect();
    connection.send(HEAD).unwrap();
    let start = Instant::now();
    for byte in b"0123456789" {
        // Each byte waits for an exchange with another process, which makes the client slow without a fixed time.
        proxy.admin.status();
        connection.send([*byte]).unwrap();
    }
    assert_eq!(connection.answer_to("POST").unwrap().text(), "ok");
    assert!(start.elapsed() < DEADLINE);
    assert_eq!(backend.wait_for(1).remove(0).body, b"0123456789");
}

#[test]
fn a_backend_that_does_not_answer_a_whole_upload_is_a_timeout_of_the_backend() {
    let backend = Backend::never_answering();
    let setup = Setup::new(&backend.url()).set("limits.http.body_timeout", "20s");
    let proxy = setup.set("backend.response_timeout", "200ms").start();
    let mut connection = proxy.connect();
    assert_eq!(connection.post("/events", "whole").unwrap().verdict(), "504 backend_timeout");
}

/// Case 74: a head has one deadline, even if its bytes keep coming.
#[test]
fn a_head_that_comes_byte_by_byte_is_cut() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.request_timeout", "300ms").start();
    for client in [proxy.producer(), proxy.anonymous()] {
        let mut connection = client.connect(proxy.address).unwrap();
        connection.send("GET /events HTTP/1.1\r\nX-A: ").unwrap();
        let start = Instant::now();
        let sent = (0..).take_while(|_| {
            // Each byte waits for an exchange with another process, which makes the client slow without a fixed time.
            proxy.admin.status();
            connection.send("a").is_ok() && start.elapsed() < DEADLINE
        });
        let count = sent.count();
        assert!(start.elapsed() < DEADLINE / 2, "{count} bytes in {:?}", start.elapsed());
    }
    assert!(backend.received().is_empty());
}

/// Frames between requests do not start the deadline of a head: a connection that pings is idle.
#[test]
fn a_connection_of_http2_that_pings_is_not_cut_as_a_slow_head() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("limits.lobby.request_timeout", "300ms");
    let proxy = setup.set("limits.idle_timeout", "60s").start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(headers(1, END_STREAM, GET_EVENTS)).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    let start = Instant::now();
    while start.elapsed().as_millis() < 1500 {
        assert!(connection.answers_ping(), "after {:?}", start.elapsed());
        proxy.admin.status();
    }
    connection.send(headers(3, END_STREAM, GET_EVENTS)).unwrap();
    assert_eq!(connection.reaction(3), Reaction::Answer(200));
}

/// A backend whose answers are larger than all buffers on the way.
fn large_backend() -> Backend {
    let length = 64 * 1024 * 1024;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    Backend::answering(answer)
}

/// Case 74, in both versions of HTTP.
#[test]
fn a_client_that_reads_nothing_is_cut_and_holds_nothing() {
    let backend = large_backend();
    let setup = Setup::new(&backend.url()).set("limits.http.write_timeout", "300ms");
    let proxy = setup.set("limits.lobby.request_timeout", "300ms").start();
    let mut http1 = proxy.connect();
    http1.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    proxy.admin.wait_for("sidegate_slots_used", 1.0);
    proxy.admin.wait_for("sidegate_slots_used", 0.0);

    let http2 = proxy.http2();
    let (head, _body, _) = http2.open(request("GET", "/events", &[]), true).unwrap().head().unwrap();
    assert_eq!(head.status, 200);
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// A stream without data is the choice of the backend, for any time.
#[test]
fn a_client_that_waits_for_data_is_not_cut() {
    let backend = Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            if head.starts_with("GET /stream") {
                connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")?;
            } else {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    });
    let setup = Setup::new(&backend.url()).set("limits.http.write_timeout", "200ms");
    let proxy = setup.set("limits.lobby.request_timeout", "200ms").start();
    let http2 = proxy.http2();
    let (_, _body, _) = http2.open(request("GET", "/stream", &[]), true).unwrap().head().unwrap();
    let start = Instant::now();
    while start.elapsed().as_millis() < 1500 {
        assert_eq!(http2.get("/events").unwrap().verdict(), "200");
    }
}
