//! A request that its client takes back holds its place in flight until the backend has ended its work on the request (DESIGN
//! §2.3).

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::support::admin::{IN_FLIGHT, QUEUED, SLOTS_USED};
use crate::support::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, headers, pseudo_headers,
};
use crate::support::http2::request;
use crate::support::{Backend, BlockingBackend, Proxy, Setup, eventually};

/// A setup with five places for requests in flight, for which requests wait long.
fn with_five_places(url: &str) -> Setup {
    Setup::new(url).set("backend.max_in_flight", 5).set("backend.queue_timeout", "60s")
}

/// The requests that a test takes back.
#[derive(Clone, Copy)]
enum Kind {
    WithoutBody,
    /// Uploads of which half has arrived.
    Uploads,
}

/// Sends requests and resets each right after it has arrived, with every error code in turn. The first five are reset once
/// they are in work at the backend, for which `wait_for` waits.
fn take_back_by_resets(proxy: &Proxy, count: u32, kind: Kind, wait_for: impl Fn(u32)) -> Frames {
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    for number in 0..count {
        let stream = 2 * number + 1;
        let request = match kind {
            Kind::WithoutBody => headers(stream, END_STREAM, &pseudo_headers("GET", "/events")),
            Kind::Uploads => {
                [headers(stream, 0, &pseudo_headers("POST", "/events")), frame(DATA, 0, stream, "half")]
                    .concat()
            }
        };
        connection.send(request).unwrap();
        assert!(connection.answers_ping(), "after {number} requests");
        if number < 5 {
            wait_for(number + 1);
        }
        connection.send(frame(RST_STREAM, 0, stream, (number % 14).to_be_bytes())).unwrap();
    }
    assert!(connection.answers_ping());
    connection
}

#[test]
fn requests_that_are_reset_hold_their_places_until_the_backend_has_ended_its_work() {
    for kind in [Kind::WithoutBody, Kind::Uploads] {
        for workers in [1, 2] {
            let blocking = BlockingBackend::start();
            let proxy = with_five_places(&blocking.backend.url()).set("workers", workers).start();
            let connection = take_back_by_resets(&proxy, 60, kind, |number| blocking.wait_for(number));
            blocking.wait_for(5);
            assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
            // The requests that waited for a place have left the queue.
            proxy.admin.wait_for(QUEUED, 0.0);
            drop(connection);
            // The slot is given back once the work has ended, like the places.
            assert_eq!(proxy.admin.metrics().value(SLOTS_USED), 1.0);
            blocking.assert_ends(&proxy, 5);
            proxy.admin.wait_for(SLOTS_USED, 0.0);
        }
    }
}

#[test]
fn requests_whose_connections_are_closed_hold_their_places_until_the_backend_has_ended_its_work() {
    let blocking = BlockingBackend::start();
    // The proxy does not see that the client of a waiting upload left before the upload has its turn, or its wait ends.
    let setup = with_five_places(&blocking.backend.url()).set("backend.queue_timeout", "2s");
    let proxy = setup.set("workers", 2).start();
    let client = proxy.producer();
    for number in 0..40 {
        let mut connection = client.connect(proxy.address).unwrap();
        let (head, rest) = match number % 2 {
            0 => ("GET /events HTTP/1.1\r\nHost: localhost\r\n", "\r\n"),
            _ => ("POST /events HTTP/1.1\r\nHost: localhost\r\n", "Content-Length: 10\r\n\r\nhalf"),
        };
        connection.send([head, rest].concat()).unwrap();
        if number < 5 {
            blocking.wait_for(number + 1);
        }
    }
    proxy.admin.wait_for(QUEUED, 0.0);
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
    blocking.assert_ends(&proxy, 5);
    proxy.admin.wait_for(SLOTS_USED, 0.0);
}

/// A backend that never answers does not keep its places for ever.
#[test]
fn a_request_taken_back_holds_its_place_for_no_longer_than_its_answer_may_take() {
    let blocking = BlockingBackend::start();
    let proxy = with_five_places(&blocking.backend.url()).set("backend.response_timeout", "1s").start();
    let _connection = take_back_by_resets(&proxy, 5, Kind::WithoutBody, |number| blocking.wait_for(number));
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert_eq!(blocking.working(), 5, "the backend still works on all of them");
    blocking.gate.open();
}

#[test]
fn a_server_that_stops_does_not_wait_for_requests_that_were_taken_back() {
    let blocking = BlockingBackend::start();
    let mut proxy = with_five_places(&blocking.backend.url()).set("drain_timeout", "60s").start();
    drop(take_back_by_resets(&proxy, 5, Kind::WithoutBody, |number| blocking.wait_for(number)));
    blocking.wait_for(5);
    proxy.process.signal("INT");
    assert!(proxy.process.exit().success());
    blocking.gate.open();
}

/// In front of a backend that closes at once and works on, the end of a connection says nothing about the work. With
/// `backend.ignore_client_abort` the proxy does not end the connection before the answer.
#[test]
fn with_ignore_client_abort_a_backend_that_closes_at_once_ends_its_work_before_its_places_are_free() {
    for workers in [1, 2] {
        let blocking = BlockingBackend::closing_at_once();
        let setup = with_five_places(&blocking.backend.url()).set("backend.ignore_client_abort", true);
        let proxy = setup.set("workers", workers).start();
        let client = proxy.producer();
        let connection =
            take_back_by_resets(&proxy, 30, Kind::WithoutBody, |number| blocking.wait_for(number));
        for _ in 0..30 {
            let mut connection = client.connect(proxy.address).unwrap();
            connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        }
        proxy.admin.wait_for(QUEUED, 0.0);
        assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
        drop(connection);
        blocking.assert_ends(&proxy, 5);
        proxy.admin.wait_for(SLOTS_USED, 0.0);
    }
}

/// An upload that is cut off never becomes a whole request, so the backend never answers it. Its place is free once its answer
/// may take no longer.
#[test]
fn with_ignore_client_abort_a_cut_upload_holds_its_place_for_as_long_as_an_answer_may_take() {
    let blocking = BlockingBackend::closing_at_once();
    let setup = with_five_places(&blocking.backend.url()).set("backend.ignore_client_abort", true);
    let proxy = setup.set("backend.response_timeout", "2s").start();
    let connection = take_back_by_resets(&proxy, 5, Kind::Uploads, |number| blocking.wait_for(number));
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert_eq!(blocking.working(), 5, "the backend still works on all of them");
    drop(connection);
    blocking.gate.open();
}

/// In the middle of an answer the backend learns from the end of its connection that the client has left.
#[test]
fn a_client_that_leaves_during_the_answer_ends_the_work_for_it() {
    let backend = Backend::scripted(|connection| {
        connection.head()?;
        connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        // The backend never reads its connection; in the end its writes fail.
        loop {
            connection.wire.send("9\r\ndata: 1\n\n\r\n")?;
            std::thread::yield_now();
        }
    });
    let proxy = with_five_places(&backend.url()).start();
    for _ in 0..10 {
        let mut http1 = proxy.connect();
        http1.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        http1.read_until(b"data: 1").unwrap();
        let http2 = proxy.http2();
        let (_, body, _) = http2.open(request("GET", "/events", &[]), true).unwrap().head().unwrap();
        drop((http1, body, http2));
    }
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// A backend of HTTP/2 that answers no request by itself. It pushes the socket and the stream of each to `requests`, and notes
/// every HEADERS and RST_STREAM.
fn silent_http2_backend(requests: &Arc<Mutex<Vec<(TcpStream, u32)>>>) -> Backend {
    let requests = Arc::clone(requests);
    Backend::scripted(move |connection| {
        frames::serve(connection, |connection, stream| {
            connection.record_event("HEADERS".to_owned());
            let socket = connection.wire.stream.stream.try_clone()?;
            requests.lock().unwrap().push((socket, stream));
            Ok(())
        })
    })
}

#[test]
fn an_http2_backend_works_on_no_more_requests_than_there_are_places() {
    let requests = Arc::default();
    let backend = silent_http2_backend(&requests);
    let noted = |what: &str| backend.start_lines().iter().filter(|noted| noted.starts_with(what)).count();
    let proxy = with_five_places(&backend.url().replace("http:", "h2c:")).set("workers", 1).start();
    let connection = take_back_by_resets(&proxy, 60, Kind::WithoutBody, |number| {
        eventually("the request", || noted("HEADERS"), |count| *count == usize::try_from(number).unwrap());
    });
    drop(connection);
    proxy.admin.wait_for(QUEUED, 0.0);
    assert_eq!((noted("HEADERS"), noted("RST_STREAM")), (5, 0));
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
    for (socket, stream) in requests.lock().unwrap().drain(..) {
        (&socket).write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, [0x88])).unwrap();
    }
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// A reset does not say when the work of the backend ends. So at most an eighth of the places goes to requests that are reset
/// at once, and stays taken for as long as an answer may take; the other requests are reset once their answers begin.
#[test]
fn of_many_cancelled_calls_an_http2_backend_sees_a_part_reset_at_once() {
    let requests = Arc::default();
    let backend = silent_http2_backend(&requests);
    let noted = |what: &str| backend.start_lines().iter().filter(|noted| noted.starts_with(what)).count();
    let setup = with_five_places(&backend.url().replace("http:", "h2c:"));
    let proxy = setup
        .set("backend.max_in_flight", 16)
        .set("backend.reserved_for_others", 0)
        .set("workers", 1)
        .start();
    let client = proxy.http2();
    for number in 1..=20 {
        let exchange = client.open(request("GET", "/events", &[]), true).unwrap();
        eventually("the request", || noted("HEADERS"), |count| *count >= number.min(16));
        exchange.reset();
    }
    eventually("the resets", || noted("RST_STREAM"), |resets| *resets == 2);
    proxy.admin.wait_for(QUEUED, 0.0);
    assert_eq!(noted("HEADERS"), 16, "a place of a request that was taken back stays taken");
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 14.0);
}
