//! Who goes away is missed on the other side: a client's end ends the work of the backend, and the backend's end ends the
//! client's answer where everybody can see it (DESIGN §5).

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::support::backend::BackendConnection;
use crate::support::frames::{self, DATA, END_STREAM, Frames, GOAWAY, RST_STREAM, headers};
use crate::support::http2::{Http2, request};
use crate::support::{Backend, DEADLINE, Proxy, Setup, eventually};

/// A backend that begins something, and tells when its connection has come to an end.
fn abandoned(
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

/// Everything that a client can leave open, in both versions of HTTP; each ends as the client goes.
fn assert_missed(name: &str, begin: fn(&mut BackendConnection) -> io::Result<()>, has_head: bool) {
    for asks in ["GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", POST] {
        let (backend, ends) = abandoned(begin);
        let proxy = Proxy::in_front_of(&backend.url());
        let mut http1 = proxy.producer().connect(proxy.address).unwrap();
        http1.send(asks).unwrap();
        eventually("the request", || backend.start_lines().len(), |begun| *begun == 1);
        if has_head {
            http1.head().unwrap();
        }
        drop(http1);
        ends.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{name}, HTTP/1.1: the backend works on"));
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
    for (with_body, whole_connection) in [(false, false), (true, false), (false, true), (true, true)] {
        let (backend, ends) = abandoned(begin);
        let proxy = Proxy::in_front_of(&backend.url());
        let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
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
        ends.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{name}, HTTP/2: the backend works on"));
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
}

#[test]
fn a_client_that_goes_before_the_answer() {
    assert_missed("before the answer", |_| Ok(()), false);
}

#[test]
fn a_client_that_goes_within_the_answer() {
    let begin = |connection: &mut BackendConnection| {
        connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    };
    assert_missed("within the answer", begin, true);
}

/// A stream of an HTTP/2 backend is reset, and its connection stays for the others.
#[test]
fn a_stream_of_a_backend_is_reset_when_its_client_goes() {
    let backend = Backend::scripted(|connection| {
        frames::serve(connection, |connection, _| {
            connection.record_event("HEADERS".to_owned());
            Ok(())
        })
    });
    let noted = |what: &str| backend.start_lines().iter().filter(|noted| noted.starts_with(what)).count();
    let proxy = Setup::new(&backend.url().replace("http:", "h2c:")).set("workers", 1).start();
    for number in 1..=2 {
        let mut client = proxy.producer().connect(proxy.address).unwrap();
        client.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        eventually("the request", || noted("HEADERS"), |requests| *requests == number);
        drop(client);
        eventually("the reset", || noted("RST_STREAM"), |resets| *resets == number);
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
    assert_eq!(backend.connections(), 1);
}

/// Answers with this, then hangs up.
fn breaking(answer: &'static str) -> Backend {
    Backend::scripted(move |connection| {
        connection.request()?;
        connection.wire.send(answer)
    })
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
const COUNTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";

/// Every byte of HTTP/1.1: chunks without the last, less than the length, or no farewell of TLS.
#[test]
fn an_answer_that_breaks_off_is_seen_in_http1() {
    for (answer, version) in [(CHUNKED, "1.1"), (COUNTED, "1.1"), (CHUNKED, "1.0"), (COUNTED, "1.0")] {
        let backend = breaking(answer);
        let proxy = Proxy::in_front_of(&backend.url());
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send(format!("GET /events HTTP/{version}\r\nHost: localhost\r\n\r\n")).unwrap();
        let mut bytes = Vec::new();
        let end = connection.stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.is_empty() || text.starts_with("HTTP/1.1 504") {
            // It broke off before the head was out.
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
fn an_answer_that_breaks_off_is_seen_in_http2() {
    for answer in [CHUNKED, COUNTED] {
        let backend = breaking(answer);
        let proxy = Proxy::in_front_of(&backend.url());
        let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
        let fields =
            [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];
        connection.send(headers(1, END_STREAM, &fields)).unwrap();
        let ending = loop {
            let frame = connection.next().unwrap();
            assert_ne!(frame.kind, GOAWAY, "the other streams go on");
            if frame.stream == 1 && (frame.kind == RST_STREAM || frame.flags & END_STREAM != 0) {
                break frame;
            }
        };
        // A 504 has an end, where the head was not out yet.
        if ending.kind == DATA {
            assert!(String::from_utf8_lossy(&ending.payload).contains("backend_unavailable"), "{ending:?}");
            continue;
        }
        assert_eq!(ending.kind, RST_STREAM, "{answer}");
        assert_ne!(ending.error(), 0, "{answer}: no error would make it whole");
        assert!(connection.answers_ping(), "{answer}");
    }
}

/// An upload that its client leaves is never whole at the backend.
#[test]
fn an_upload_that_breaks_off_is_seen_by_the_backend() {
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
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send(upload).unwrap();
        eventually("the upload", || backend.start_lines().len(), |begun| *begun == number);
        drop(connection);
        is_done.recv_timeout(DEADLINE).unwrap();
    }
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let mut exchange = http2.open(request("POST", "/events", &[]), false).unwrap();
    exchange.body.send_data(Bytes::from_static(b"half"), false).unwrap();
    eventually("the upload", || backend.start_lines().len(), |now| *now == 3);
    exchange.reset();
    is_done.recv_timeout(DEADLINE).unwrap();
    for body in seen.lock().unwrap().iter() {
        assert!(!body.ends_with("0\r\n\r\n") && body.len() < 1000, "{body}");
    }
}

/// A backend that says nothing more, for as long as nobody says anything: by both protocols the answer breaks off, and the
/// next request works.
#[test]
fn an_answer_of_which_nothing_more_comes_breaks_off() {
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
    let mut http1 = proxy.producer().connect(proxy.address).unwrap();
    http1.send("GET /half HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let rest = String::from_utf8(http1.read_to_end().unwrap_or_default()).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\nhalf"), "{rest}");
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    http2.get("/half").expect_err("half an answer");
    assert_eq!(http2.get("/whole").unwrap().verdict(), "200");
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// What the client sends meanwhile is no silence.
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
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n").unwrap();
    connection.read_until(b"\r\n\r\nha").unwrap();
    for part in ["a", "b", "c", "d", "e"] {
        // Each wait is for nothing else than time: a quarter of what is allowed, and together more than that.
        std::thread::park_timeout(std::time::Duration::from_millis(500));
        connection.send(part).unwrap();
    }
    assert_eq!(connection.read_exactly(2).unwrap(), b"lf");
}
