//! Case 72, over HTTP/2: a backend sends broken frames, broken answers, or answers that end early. The client gets a 504, or
//! sees that its answer is incomplete, and the next request is answered.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bad_backends::{Outcome, REFUSED, outcome};
use crate::support::backend::BackendConnection;
use crate::support::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM, block,
    frame, headers,
};
use crate::support::http2::Http2;
use crate::support::{Backend, Setup};

type Misdeed = fn(&mut BackendConnection, u32) -> io::Result<()>;

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
fn assert_outcome(name: &str, expected: &[Outcome], misdeed: Misdeed) {
    let is_bad = Arc::new(AtomicBool::new(false));
    let turns = Arc::clone(&is_bad);
    let backend = Backend::scripted(move |connection| {
        frames::serve(connection, |connection, stream| match turns.load(Ordering::SeqCst) {
            true => misdeed(connection, stream),
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
        let (text, outcome) = outcome(answer);
        assert!(outcome.is_some_and(|outcome| expected.contains(&outcome)), "{name}: {text}");
        assert_eq!(http2.get("/good").unwrap().text(), "ok", "{name}: the next request");
        assert!(start.elapsed() < Duration::from_secs(15), "{name}: {:?}", start.elapsed());
    }
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

#[test]
fn an_invalid_answer_becomes_a_504() {
    let cases: [(&str, Misdeed); 21] = [
        ("noise", |c, _| c.wire.send([0xff; 100])),
        ("an answer of HTTP/1.1", |c, _| c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
        ("a frame beyond the most", |c, s| c.wire.send(frame(DATA, 0, s, vec![0; 20_000]))),
        ("the end of the connection", |_, _| closed()),
        ("a reset", |c, s| c.wire.send(frame(RST_STREAM, 0, s, 2u32.to_be_bytes()))),
        ("a reset that says nothing was done", |c, s| {
            c.wire.send(frame(RST_STREAM, 0, s, 7u32.to_be_bytes()))
        }),
        ("a farewell", |c, _| c.wire.send(frame(GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 1]))),
        ("data before a head", |c, s| c.wire.send(frame(DATA, END_STREAM, s, "ok"))),
        ("a promise", |c, s| {
            let promised = [2u32.to_be_bytes().to_vec(), block(&[(":method", "GET")])].concat();
            c.wire.send(frame(PUSH_PROMISE, END_HEADERS, s, promised))
        }),
        ("an answer on an unknown stream", |c, _| answers(c, &[STATUS], 99)),
        ("no status", |c, s| answers(c, &[("content-length", "0")], s)),
        ("two statuses", |c, s| answers(c, &[STATUS, (":status", "500")], s)),
        ("a status that is none", |c, s| answers(c, &[(":status", "2x0")], s)),
        ("a status below all", |c, s| answers(c, &[(":status", "099")], s)),
        ("a switch of protocols", |c, s| answers(c, &[(":status", "101")], s)),
        ("a capital in a name", |c, s| answers(c, &[STATUS, ("X-A", "1")], s)),
        ("a line in a value", |c, s| answers(c, &[STATUS, ("x-a", "1\r\nset-cookie: a=1")], s)),
        ("a header of connections", |c, s| answers(c, &[STATUS, ("transfer-encoding", "chunked")], s)),
        ("a length that is none", |c, s| answers(c, &[STATUS, ("content-length", "2x")], s)),
        ("10,000 headers", |c, s| {
            let fields: Vec<_> = (0..10_000).map(|number| (format!("x-{number}"), "1")).collect();
            let block = [block(&[STATUS]), block(&fields)].concat();
            let (first, rest) = block.split_at(16_000);
            c.wire.send(frame(HEADERS, END_STREAM, s, first))?;
            rest.chunks(16_000).try_for_each(|part| c.wire.send(frame(CONTINUATION, 0, s, part)))?;
            c.wire.send(frame(CONTINUATION, END_HEADERS, s, ""))
        }),
        ("headers without end", |c, s| {
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
    for (name, misdeed) in cases {
        assert_outcome(name, &[REFUSED, LATE], misdeed);
    }
}

#[test]
fn an_answer_that_breaks_off_never_looks_complete() {
    fn head(c: &mut BackendConnection, s: u32) -> io::Result<()> {
        c.wire.send([headers(s, 0, &[STATUS]), frame(DATA, 0, s, "half")].concat())
    }
    let cases: [(&str, Misdeed); 6] = [
        ("with the connection", |c, s| head(c, s).and_then(|()| closed())),
        ("with a reset", |c, s| {
            head(c, s)?;
            c.wire.send(frame(RST_STREAM, 0, s, 2u32.to_be_bytes()))
        }),
        ("with a reset that is no error", |c, s| {
            head(c, s)?;
            c.wire.send(frame(RST_STREAM, 0, s, 0u32.to_be_bytes()))
        }),
        ("with noise", |c, s| head(c, s).and_then(|()| c.wire.send([0xff; 100]))),
        ("before its length", |c, s| {
            c.wire.send(headers(s, 0, &[STATUS, ("content-length", "10")]))?;
            c.wire.send(frame(DATA, END_STREAM, s, "half"))
        }),
        ("beyond its length", |c, s| {
            c.wire.send(headers(s, 0, &[STATUS, ("content-length", "2")]))?;
            c.wire.send(frame(DATA, END_STREAM, s, "half"))
        }),
    ];
    for (name, misdeed) in cases {
        // A 504 is still possible if the head of the answer was not sent yet.
        assert_outcome(name, &[Outcome::Aborted, REFUSED], misdeed);
    }
}

/// Interim answers never count as the answer, however many of them the backend sends.
#[test]
fn interim_answers_without_end_become_a_504() {
    assert_outcome("interim answers", &[LATE, REFUSED], |c, s| {
        let early = headers(s, 0, &[(":status", "103"), ("link", "</a>")]).repeat(100);
        loop {
            c.wire.send(&early)?;
        }
    });
}
