//! An answer may come before its request has ended. The client can read it, instead of a reset, as long as the client sends
//! no more than `limits.http.discard` within `limits.http.discard_timeout`. The rest of the body is never read as a request
//! (DESIGN §5).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::support::frames::{
    ACK, DATA, END_STREAM, Frames, GOAWAY, HEADERS, POST_EVENTS, RST_STREAM, Reaction, SETTINGS,
    WINDOW_UPDATE, frame, headers, pseudo_headers,
};
use crate::support::http2::{Http2, request};
use crate::support::{Backend, Client, Proxy, Setup, eventually};

const KIB: usize = 1024;

/// A backend that answers every upload with 413 before it reads the body.
fn refusing_backend() -> Backend {
    Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            if head.starts_with("POST") {
                connection
                    .wire
                    .send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
                while !connection.wire.read_available()?.is_empty() {}
                return Ok(());
            }
            connection.wire.send(crate::support::backend::OK)?;
        }
        Ok(())
    })
}

/// Returns clients whose uploads are refused early, with the status: by the proxy (401, 403) or by the backend (413).
fn refused_clients(proxy: &Proxy) -> [(Client, u16); 3] {
    [(proxy.anonymous(), 401), (proxy.consumer(), 403), (proxy.producer(), 413)]
}

/// The head of an upload of this length.
fn upload_head(length: usize) -> String {
    format!("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn an_http1_client_can_send_the_rest_of_its_body_within_the_budget() {
    let backend = refusing_backend();
    let proxy = Proxy::in_front_of(&backend.url());
    for (client, status) in refused_clients(&proxy) {
        for length in [1, 60 * KIB] {
            let mut connection = client.connect(proxy.address).unwrap();
            connection.send(upload_head(length)).unwrap();
            // The body is sent after the answer: a socket that is closed by then would answer it with a reset.
            let mut answer = connection.head().unwrap();
            connection.send("x".repeat(length)).unwrap();
            let body = answer.header("content-length").unwrap().parse().unwrap();
            answer.body = connection.read_exactly(body).unwrap();
            assert_eq!(answer.status, status, "{answer:?}");
        }
    }
}

/// Starts a proxy that discards little.
fn proxy_with_a_small_budget(backend: &Backend) -> Proxy {
    let setup = Setup::new(&backend.url()).set("limits.http.discard", 64 * KIB);
    setup.set("limits.http.discard_timeout", "1s").start()
}

#[test]
fn an_http1_connection_ends_beyond_the_budget() {
    let backend = refusing_backend();
    let proxy = proxy_with_a_small_budget(&backend);
    for (client, status) in refused_clients(&proxy) {
        // This client goes on without an end.
        let mut connection = client.connect(proxy.address).unwrap();
        connection.send(upload_head(1 << 40)).unwrap();
        assert_eq!(connection.head().unwrap().status, status);
        let start = Instant::now();
        let sent = (0..100_000).take_while(|_| connection.send("x".repeat(16 * KIB)).is_ok()).count();
        assert!(sent < 100_000, "{status}: all of it was taken");
        assert!(start.elapsed() < Duration::from_secs(10), "{status}: {:?}", start.elapsed());
        // This client stops in the middle of its body.
        let mut connection = client.connect(proxy.address).unwrap();
        connection.send(upload_head(1000)).unwrap();
        let start = Instant::now();
        assert_eq!(connection.answer_to("POST").unwrap().status, status);
        assert!(connection.is_closed(), "{status}");
        assert!(start.elapsed() < Duration::from_secs(5), "{status}: {:?}", start.elapsed());
    }
}

#[test]
fn an_http2_client_can_send_the_rest_of_its_body_within_the_budget() {
    let backend = refusing_backend();
    let proxy = Proxy::in_front_of(&backend.url());
    for (client, status) in refused_clients(&proxy) {
        let connection = Http2::connect(&client, proxy.address).unwrap();
        let exchange = connection.open(request("POST", "/events", &[]), false).unwrap();
        let answer = exchange.finish_with(Bytes::from(vec![b'x'; 60 * KIB])).unwrap();
        assert_eq!(answer.status, status);
        let next = connection.get("/readable").unwrap();
        assert_eq!(next.status, if status == 401 { 401 } else { 200 }, "the other streams go on");
    }
}

/// The stream ends after its answer, and other streams go on.
#[test]
fn only_the_stream_of_http2_ends_beyond_the_budget() {
    let backend = refusing_backend();
    let proxy = proxy_with_a_small_budget(&backend);
    for (client, status) in refused_clients(&proxy) {
        // 200 KiB, for which the windows have room, or nothing at all.
        for frames in [20, 0] {
            let mut connection = Frames::connect(&client, proxy.address).unwrap();
            // The client waits until the server has opened the window of the connection.
            while connection.next().unwrap().kind != WINDOW_UPDATE {}
            let accepted = frame(SETTINGS, ACK, 0, "");
            connection.send([accepted, headers(1, 0, POST_EVENTS)].concat()).unwrap();
            let start = Instant::now();
            connection.send(frame(DATA, 0, 1, vec![b'x'; 10 * KIB]).repeat(frames)).unwrap();
            let (mut answered, mut ended) = (0, false);
            let reset = loop {
                let frame = connection.next().unwrap();
                match frame.kind {
                    GOAWAY => panic!("{status}: {frame:?}"),
                    HEADERS => answered = frame.status(),
                    RST_STREAM => break frame.error(),
                    _ => {}
                }
                ended |= frame.kind == DATA && frame.flags & END_STREAM != 0;
            };
            assert_eq!((answered, ended), (status, true), "the answer comes whole before the reset");
            // NO_ERROR or CANCEL (RFC 9113 §8.1).
            assert!([0, 8].contains(&reset), "{status}: error {reset}");
            assert!(start.elapsed() < Duration::from_secs(5), "{status}: {:?}", start.elapsed());
            connection.send(headers(3, END_STREAM, &pseudo_headers("GET", "/readable"))).unwrap();
            let expected = if status == 401 { 401 } else { 200 };
            assert_eq!(connection.reaction(3), Reaction::Answer(expected));
        }
    }
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
            assert_eq!(next.status, answer.status, "the answer to /next, and not to the hidden request");
        }
    }
    assert!(backend.received().is_empty());
}

/// Many clients read nothing until they have sent everything.
#[test]
fn a_refused_upload_of_any_usual_size_gets_its_answer_and_not_a_reset() {
    let backend = refusing_backend();
    let proxy = Proxy::in_front_of(&backend.url());
    for (client, status) in refused_clients(&proxy) {
        for length in [60 * KIB, 1000 * KIB, 10_000 * KIB] {
            let mut connection = client.connect(proxy.address).unwrap();
            let answer = connection.post("/events", &"x".repeat(length)).unwrap();
            assert_eq!(answer.status, status, "HTTP/1.1, {length}");
            let connection = Http2::connect(&client, proxy.address).unwrap();
            let exchange = connection.open(request("POST", "/events", &[]), false).unwrap();
            let answer = exchange.finish_with(Bytes::from(vec![b'x'; length])).unwrap();
            assert_eq!(answer.status, status, "HTTP/2, {length}");
        }
    }
    proxy.admin.wait_for("sidegate_connections", 0.0);
}

/// Connections whose upload is discarded count in the lobby, and hold no slot.
#[test]
fn uploads_that_are_discarded_hold_a_place_in_the_lobby_and_no_slot() {
    let backend = refusing_backend();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.max_per_source", 2).start();
    let mut connections: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = proxy.consumer().connect(proxy.address).unwrap();
            connection.send(upload_head(1 << 20)).unwrap();
            let head = connection.head().unwrap();
            assert_eq!(head.status, 403);
            connection.read_exactly(head.header("content-length").unwrap().parse().unwrap()).unwrap();
            connection
        })
        .collect();
    let closed = |connections: &mut Vec<crate::support::tls::Tls>| connections[0].is_closed();
    eventually("the oldest gives way", || closed(&mut connections), |closed| *closed);
    assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 0.0);
}

#[test]
fn an_answer_may_come_before_the_upload_is_over() {
    let backend = Backend::scripted(|connection| {
        connection.head()?;
        connection.wire.send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection
        .send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nstart")
        .unwrap();
    let answer = connection.answer_to("POST").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
}
