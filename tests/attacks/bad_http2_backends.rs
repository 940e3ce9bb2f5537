//! Case 72 for HTTP/2: a backend that sends malformed frames, malformed answers or incomplete answers. The client gets 504 or
//! an incomplete answer, and the next request succeeds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bad_backends::{Outcome, REFUSED, classify};
use crate::support::backend::BackendConnection;
use crate::support::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INTERNAL_ERROR, PUSH_PROMISE,
    REFUSED_STREAM, RST_STREAM, block, frame, headers,
};
use crate::support::http2::Http2;
use crate::support::{Backend, Setup};

type BadHttp2Answer = fn(&mut BackendConnection, u32) -> io::Result<()>;

const STATUS: (&str, &str) = (":status", "200");
const LATE: Outcome = Outcome::Refused("504 backend_timeout");

fn good(connection: &mut BackendConnection, stream: u32) -> io::Result<()> {
    let head = headers(stream, 0, &[STATUS, ("content-length", "2")]);
    connection.wire.send([head, frame(DATA, END_STREAM, stream, "ok")].concat())
}

fn answers(c: &mut BackendConnection, fields: &[(&str, &str)], stream: u32) -> io::Result<()> {
    c.wire.send(headers(stream, END_STREAM, fields))
}

fn closed() -> io::Result<()> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

#[track_caller]
fn assert_outcome(name: &str, expected: &[Outcome], send_bad: BadHttp2Answer) {
    let is_bad = Arc::new(AtomicBool::new(false));
    let is_bad_now = Arc::clone(&is_bad);
    let backend = Backend::scripted(move |connection| {
        frames::serve(connection, |connection, stream| match is_bad_now.load(Ordering::SeqCst) {
            true => send_bad(connection, stream),
            false => good(connection, stream),
        })
    });
    let url = backend.url().replace("http:", "h2c:");
    let proxy = Setup::new(&url).set("workers", 1).set("backend.response_timeout", "1s").start();
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    for by_http1 in [true, false] {
        let start = Instant::now();
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(connection.get("/good").unwrap().text(), "ok", "{name}");
        is_bad.store(true, Ordering::SeqCst);
        let answer = if by_http1 { connection.get("/bad") } else { http2.get("/bad") };
        is_bad.store(false, Ordering::SeqCst);
        let (text, outcome) = classify(answer);
        assert!(outcome.is_some_and(|outcome| expected.contains(&outcome)), "{name}: {text}");
        assert_eq!(http2.get("/good").unwrap().text(), "ok", "{name}: the next request");
        assert!(start.elapsed() < Duration::from_secs(15), "{name}: {:?}", start.elapsed());
    }
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

#[test]
fn an_answer_that_is_not_http2_is_refused() {
    let cases: [(&str, BadHttp2Answer); 21] = [
        ("noise", |c, _| c.wire.send([0xff; 100])),
        ("an answer of HTTP/1.1", |c, _| c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
        ("a frame beyond the maximum size", |c, s| c.wire.send(frame(DATA, 0, s, vec![0; 20_000]))),
        ("the end of the connection", |_, _| closed()),
        ("a reset", |c, s| c.wire.send(frame(RST_STREAM, 0, s, INTERNAL_ERROR.to_be_bytes()))),
        ("a reset with REFUSED_STREAM", |c, s| {
            c.wire.send(frame(RST_STREAM, 0, s, REFUSED_STREAM.to_be_bytes()))
        }),
        ("a GOAWAY", |c, _| c.wire.send(frame(GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 1]))),
        ("data before a head", |c, s| c.wire.send(frame(DATA, END_STREAM, s, "ok"))),
        ("a PUSH_PROMISE", |c, s| {
            let promised = [2u32.to_be_bytes().to_vec(), block(&[(":method", "GET")])].concat();
            c.wire.send(frame(PUSH_PROMISE, END_HEADERS, s, promised))
        }),
        ("an answer on a stream without a request", |c, _| answers(c, &[STATUS], 99)),
        ("no status", |c, s| answers(c, &[("content-length", "0")], s)),
        ("two statuses", |c, s| answers(c, &[STATUS, (":status", "500")], s)),
        ("a status that is not a number", |c, s| answers(c, &[(":status", "2x0")], s)),
        ("a status below 100", |c, s| answers(c, &[(":status", "099")], s)),
        ("a switch of protocols", |c, s| answers(c, &[(":status", "101")], s)),
        ("a capital letter in a name", |c, s| answers(c, &[STATUS, ("X-A", "1")], s)),
        ("a line break in a value", |c, s| answers(c, &[STATUS, ("x-a", "1\r\nset-cookie: a=1")], s)),
        ("a connection-specific header", |c, s| answers(c, &[STATUS, ("transfer-encoding", "chunked")], s)),
        ("a length that is not a number", |c, s| answers(c, &[STATUS, ("content-length", "2x")], s)),
        ("10,000 headers", |c, s| {
            let fields: Vec<_> = (0..10_000).map(|number| (format!("x-{number}"), "1")).collect();
            let block = [block(&[STATUS]), block(&fields)].concat();
            let (first, rest) = block.split_at(16_000);
            c.wire.send(frame(HEADERS, END_STREAM, s, first))?;
            rest.chunks(16_000).try_for_each(|part| c.wire.send(frame(CONTINUATION, 0, s, part)))?;
            c.wire.send(frame(CONTINUATION, END_HEADERS, s, ""))
        }),
        ("an endless header block", |c, s| {
            c.wire.send(frame(HEADERS, END_STREAM, s, block(&[STATUS])))?;
            for number in 0..10_000_000 {
                c.wire.send(frame(
                    CONTINUATION,
                    0,
                    s,
                    block(&[(format!("x-{number}"), "1".repeat(4000))]),
                ))?;
            }
            Ok(())
        }),
    ];
    for (name, send_bad) in cases {
        assert_outcome(name, &[REFUSED, LATE], send_bad);
    }
}

#[test]
fn an_incomplete_http2_answer_is_never_complete_to_the_client() {
    fn head(c: &mut BackendConnection, s: u32) -> io::Result<()> {
        c.wire.send([headers(s, 0, &[STATUS]), frame(DATA, 0, s, "half")].concat())
    }
    let cases: [(&str, BadHttp2Answer); 6] = [
        ("the connection is closed", |c, s| head(c, s).and_then(|()| closed())),
        ("a reset", |c, s| {
            head(c, s)?;
            c.wire.send(frame(RST_STREAM, 0, s, INTERNAL_ERROR.to_be_bytes()))
        }),
        ("a reset with NO_ERROR", |c, s| {
            head(c, s)?;
            c.wire.send(frame(RST_STREAM, 0, s, 0u32.to_be_bytes()))
        }),
        ("noise", |c, s| head(c, s).and_then(|()| c.wire.send([0xff; 100]))),
        ("less than the length", |c, s| {
            c.wire.send(headers(s, 0, &[STATUS, ("content-length", "10")]))?;
            c.wire.send(frame(DATA, END_STREAM, s, "half"))
        }),
        ("more than the length", |c, s| {
            c.wire.send(headers(s, 0, &[STATUS, ("content-length", "2")]))?;
            c.wire.send(frame(DATA, END_STREAM, s, "half"))
        }),
    ];
    for (name, send_bad) in cases {
        // A 504 is right if the head of the answer was not sent yet.
        assert_outcome(name, &[Outcome::Aborted, REFUSED], send_bad);
    }
}

/// Interim answers do not count as the answer, and their number and time are limited.
#[test]
fn interim_http2_answers_are_limited() {
    assert_outcome("interim answers", &[LATE, REFUSED], |c, s| {
        let early = headers(s, 0, &[(":status", "103"), ("link", "</a>")]).repeat(100);
        loop {
            c.wire.send(&early)?;
        }
    });
}
