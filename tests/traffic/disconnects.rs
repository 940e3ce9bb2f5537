//! The end of one side reaches the other: when a client goes, the work of the backend ends; when the backend breaks off, the
//! client can see that its answer is incomplete (DESIGN §5).

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::support::backend::BackendConnection;
use crate::support::frames::{self, DATA, END_STREAM, Frames, GET_EVENTS, GOAWAY, RST_STREAM, headers};
use crate::support::http2::request;
use crate::support::{Backend, DEADLINE, Proxy, Setup, eventually};

/// A backend that runs `begin` for a request, and reports the end of its connection.
fn backend_reporting_its_end(
    begin: impl Fn(&mut BackendConnection) -> io::Result<()> + Send + Sync + 'static,
) -> (Backend, Receiver<()>) {
    let (ended, ends) = channel();
    let ended = Mutex::new(ended);
    let backend = Backend::scripted(move |connection| {
        if connection.head()?.is_some() {
            begin(connection)?;
            while connection.wire.read_available().is_ok_and(|bytes| !bytes.is_empty()) {}
            let _ = ended.lock().unwrap().send(());
        }
        Ok(())
    });
    (backend, ends)
}

const POST: &str = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf";

/// The point at which the client goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    BeforeTheAnswer,
    WithinTheAnswer,
}

/// Asserts that the work of the backend ends when the client goes, with and without a body, in both versions of HTTP, and
/// with the stream as with the connection.
fn assert_work_ends(point: Point, begin: fn(&mut BackendConnection) -> io::Result<()>) {
    for asks in ["GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", POST] {
        let (backend, ends) = backend_reporting_its_end(begin);
        let proxy = Proxy::in_front_of(&backend.url());
        let mut http1 = proxy.connect();
        http1.send(asks).unwrap();
        eventually("the request", || backend.start_lines().len(), |begun| *begun == 1);
        if point == Point::WithinTheAnswer {
            http1.head().unwrap();
        }
        drop(http1);
        ends.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("HTTP/1.1: the backend works on"));
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
    for (with_body, whole_connection) in [(false, false), (true, false), (false, true), (true, true)] {
        let (backend, ends) = backend_reporting_its_end(begin);
        let proxy = Proxy::in_front_of(&backend.url());
        let http2 = proxy.http2();
        let method = if with_body { "POST" } else { "GET" };
        let mut exchange = http2.open(request(method, "/events", &[]), !with_body).unwrap();
        if with_body {
            exchange.body.send_data(Bytes::from_static(b"half"), false).unwrap();
        }
        eventually("the request", || backend.start_lines().len(), |begun| *begun == 1);
        if whole_connection {
            drop(http2);
        } else {
            exchange.reset();
        }
        ends.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("HTTP/2: the backend works on"));
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
}

#[test]
fn a_client_that_goes_before_the_answer_ends_the_work_of_the_backend() {
    assert_work_ends(Point::BeforeTheAnswer, |_| Ok(()));
}

#[test]
fn a_client_that_goes_within_the_answer_ends_the_work_of_the_backend() {
    let begin = |connection: &mut BackendConnection| {
        connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    };
    assert_work_ends(Point::WithinTheAnswer, begin);
}

/// Only the stream ends: other requests use the same connection.
#[test]
fn the_stream_to_an_http_2_backend_is_reset_when_its_client_goes() {
    let backend = Backend::scripted(|connection| {
        frames::serve(connection, |connection, _| {
            connection.record_event("HEADERS".to_owned());
            Ok(())
        })
    });
    let count = |event: &str| backend.start_lines().iter().filter(|line| line.starts_with(event)).count();
    let proxy = Setup::new(&backend.url().replace("http:", "h2c:")).set("workers", 1).start();
    for number in 1..=2 {
        let mut client = proxy.connect();
        client.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        eventually("the request", || count("HEADERS"), |requests| *requests == number);
        drop(client);
        eventually("the reset", || count("RST_STREAM"), |resets| *resets == number);
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
    assert_eq!(backend.connections(), 1);
}

/// A backend that sends these bytes and closes the connection.
fn backend_closing_after(answer: &'static str) -> Backend {
    Backend::scripted(move |connection| {
        connection.request()?;
        connection.wire.send(answer)
    })
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
const COUNTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";

/// In HTTP/1.1 the client misses the last chunk, bytes of the Content-Length, or the close_notify of TLS.
#[test]
fn an_incomplete_answer_is_seen_as_incomplete_in_http1() {
    for (answer, version) in [(CHUNKED, "1.1"), (COUNTED, "1.1"), (CHUNKED, "1.0"), (COUNTED, "1.0")] {
        let backend = backend_closing_after(answer);
        let proxy = Proxy::in_front_of(&backend.url());
        let mut connection = proxy.connect();
        connection.send(format!("GET /events HTTP/{version}\r\nHost: localhost\r\n\r\n")).unwrap();
        let mut bytes = Vec::new();
        let end = connection.stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.is_empty() || text.starts_with("HTTP/1.1 504") {
            // The answer broke off before the head was sent.
            continue;
        }
        assert!(text.contains("half"), "{text}");
        assert!(!text.ends_with("0\r\n\r\n"), "a last chunk: {text}");
        let is_short = text.to_lowercase().contains("\r\ncontent-length: 10\r\n");
        let is_unended = text.to_lowercase().contains("\r\ntransfer-encoding: chunked\r\n");
        assert!(is_short || is_unended || end.is_err(), "HTTP/{version}, {answer}: {end:?} after {text}");
    }
}

#[test]
fn an_incomplete_answer_is_seen_as_incomplete_in_http2() {
    for answer in [CHUNKED, COUNTED] {
        let backend = backend_closing_after(answer);
        let proxy = Proxy::in_front_of(&backend.url());
        let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
        connection.send(headers(1, END_STREAM, GET_EVENTS)).unwrap();
        let ending = loop {
            let frame = connection.next().unwrap();
            assert_ne!(frame.kind, GOAWAY, "the other streams go on");
            if frame.stream == 1 && (frame.kind == RST_STREAM || frame.flags & END_STREAM != 0) {
                break frame;
            }
        };
        // If the head was not sent yet, the client gets a whole 504.
        if ending.kind == DATA {
            assert!(String::from_utf8_lossy(&ending.payload).contains("backend_unavailable"), "{ending:?}");
            continue;
        }
        assert_eq!(ending.kind, RST_STREAM, "{answer}");
        assert_ne!(ending.error(), 0, "{answer}: NO_ERROR would make the answer look whole");
        assert!(connection.answers_ping(), "{answer}");
    }
}

/// An upload that its client breaks off must not look whole to the backend.
#[test]
fn an_incomplete_upload_is_seen_as_incomplete_by_the_backend() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&seen);
    let (done, is_done) = channel();
    let done = Mutex::new(done);
    let backend = Backend::scripted(move |connection| {
        if connection.head()?.is_none() {
            return Ok(());
        }
        let read = connection.wire.read_to_end()?;
        noting.lock().unwrap().push(String::from_utf8_lossy(&read).into_owned());
        let _ = done.lock().unwrap().send(());
        Ok(())
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let chunked =
        "POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    for (upload, number) in [(POST, 1), (chunked, 2)] {
        let mut connection = proxy.connect();
        connection.send(upload).unwrap();
        eventually("the upload", || backend.start_lines().len(), |begun| *begun == number);
        drop(connection);
        is_done.recv_timeout(DEADLINE).unwrap();
    }
    let http2 = proxy.http2();
    let mut exchange = http2.open(request("POST", "/events", &[]), false).unwrap();
    exchange.body.send_data(Bytes::from_static(b"half"), false).unwrap();
    eventually("the upload", || backend.start_lines().len(), |now| *now == 3);
    exchange.reset();
    is_done.recv_timeout(DEADLINE).unwrap();
    for body in seen.lock().unwrap().iter() {
        assert!(!body.ends_with("0\r\n\r\n") && body.len() < 1000, "{body}");
    }
}

/// `backend.idle_timeout` is the limit while neither side sends anything. The answer breaks off in both versions of HTTP, and
/// the next request works.
#[test]
fn an_answer_that_stalls_breaks_off() {
    let backend = Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            connection.wire.send(match head.starts_with("GET /whole ") {
                true => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                false => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            })?;
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("backend.idle_timeout", "200ms").start();
    let mut http1 = proxy.connect();
    http1.send("GET /half HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let rest = String::from_utf8(http1.read_to_end().unwrap_or_default()).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\nhalf"), "{rest}");
    let http2 = proxy.http2();
    http2.get("/half").expect_err("half an answer");
    assert_eq!(http2.get("/whole").unwrap().verdict(), "200");
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// Bytes that the client sends count as activity.
#[test]
fn an_answer_waits_for_an_upload_that_goes_on() {
    let backend = Backend::scripted(|connection| {
        while connection.head()?.is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")?;
            connection.wire.read_exactly(5)?;
            connection.wire.send("lf")?;
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("backend.idle_timeout", "2s").start();
    let mut connection = proxy.connect();
    connection.send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n").unwrap();
    connection.read_until(b"\r\n\r\nha").unwrap();
    for part in ["a", "b", "c", "d", "e"] {
        // Each wait is a quarter of the timeout, and all waits together are longer than the timeout.
        std::thread::park_timeout(std::time::Duration::from_millis(500));
        connection.send(part).unwrap();
    }
    assert_eq!(connection.read_exactly(2).unwrap(), b"lf");
}
