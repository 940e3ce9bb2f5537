//! Case 72: a backend that speaks what is no HTTP. The client gets a 504, or sees its answer break off; that connection to
//! the backend is never used again; and the next request works.

use std::io;
use std::time::{Duration, Instant};

use crate::support::backend::{BackendConnection, OK};
use crate::support::http2::Http2;
use crate::support::{Answer, Backend, Proxy, Setup};

/// What the client may see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 504 of our own.
    Refused(&'static str),
    /// An answer that breaks off where everybody can see it.
    Aborted,
    /// An answer that is whole.
    Answered(u16),
}

pub const REFUSED: Outcome = Outcome::Refused("504 backend_unavailable");

pub fn outcome(answer: io::Result<Answer>) -> (String, Option<Outcome>) {
    let outcome = match &answer {
        Ok(answer) if answer.verdict() == "504 backend_unavailable" => Some(REFUSED),
        Ok(answer) if answer.verdict() == "504 backend_timeout" => {
            Some(Outcome::Refused("504 backend_timeout"))
        }
        Ok(answer) if answer.reason().is_none() => Some(Outcome::Answered(answer.status)),
        Ok(_) => None,
        Err(_) => Some(Outcome::Aborted),
    };
    (format!("{answer:?}").chars().take(300).collect(), outcome)
}

type Misdeed = fn(&mut BackendConnection) -> io::Result<()>;

/// Does something bad when asked for `/bad`, and is a good backend otherwise.
fn backend(misdeed: Misdeed) -> Backend {
    Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            if request.start_line().contains(" /bad ") {
                misdeed(connection)?;
            } else {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    })
}

fn proxy(backend: &Backend) -> Proxy {
    Setup::new(&backend.url()).set("workers", 1).set("backend.response_timeout", "1s").start()
}

#[track_caller]
fn assert_outcome(name: &str, expected: &[Outcome], misdeed: Misdeed) {
    let backend = backend(misdeed);
    let proxy = proxy(&backend);
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    for by_http1 in [true, false, true] {
        let start = Instant::now();
        // The connection to the backend is a good one until then.
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(connection.get("/good").unwrap().text(), "ok", "{name}");
        let before = backend.connections();
        let answer = if by_http1 { connection.get("/bad") } else { http2.get("/bad") };
        let (text, outcome) = outcome(answer);
        assert!(outcome.is_some_and(|outcome| expected.contains(&outcome)), "{name}: {text}");
        // The next request of the same client, and of another.
        if let Ok(answer) = connection.get("/good") {
            assert_eq!(answer.text(), "ok", "{name}: {answer:?}");
        }
        assert_eq!(http2.get("/good").unwrap().text(), "ok", "{name}");
        assert_eq!(backend.connections(), before + 1, "{name}: the bad connection was used again");
        assert!(start.elapsed() < Duration::from_secs(15), "{name}: {:?}", start.elapsed());
    }
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// What it says is no answer, and nothing of it gets through.
#[test]
fn what_is_no_answer() {
    let cases: [(&str, Misdeed); 22] = [
        ("noise", |c| c.wire.send(b"\x00\xff\x16\x03\x01\x00\r\n\r\n".repeat(100))),
        ("another protocol", |c| c.wire.send("SSH-2.0-OpenSSH_9.6\r\n\r\n")),
        ("HTTP/0.9", |c| c.wire.send("<html>ok</html>\r\n\r\n")),
        ("HTTP/2", |c| c.wire.send(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\r\n\r\n")),
        ("another version", |c| c.wire.send("HTTP/2.0 200 OK\r\n\r\n")),
        ("no status", |c| c.wire.send("HTTP/1.1\r\n\r\n")),
        ("a status that is none", |c| c.wire.send("HTTP/1.1 2x0 OK\r\n\r\n")),
        ("a status too short", |c| c.wire.send("HTTP/1.1 20 OK\r\n\r\n")),
        ("a status below all", |c| c.wire.send("HTTP/1.1 099 OK\r\n\r\n")),
        ("two lengths", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")
        }),
        ("a length that is none", |c| c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok")),
        ("a negative length", |c| c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok")),
        ("a length beyond 64 bits", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok")
        }),
        ("NUL in a header", |c| c.wire.send("HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok")),
        ("a bare CR in a header", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 2\r\n\r\nok")
        }),
        ("a header without a name", |c| c.wire.send("HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok")),
        ("a header without a colon", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nbad header\r\nContent-Length: 2\r\n\r\nok")
        }),
        ("a folded header", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok")
        }),
        ("an unsolicited 101", |c| {
            c.wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw")
        }),
        ("10,000 headers", |c| {
            let headers: String = (0..10_000).map(|number| format!("X-{number}: 1\r\n")).collect();
            c.wire.send(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\nok"))
        }),
        ("headers without end", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\n")?;
            for number in 0..10_000_000 {
                c.wire.send(format!("X-{number}: {}\r\n", "x".repeat(1000)))?;
            }
            Ok(())
        }),
        ("one header without end", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nX-A: ")?;
            for _ in 0..10_000_000 {
                c.wire.send("x".repeat(10_000))?;
            }
            Ok(())
        }),
    ];
    for (name, misdeed) in cases {
        assert_outcome(name, &[REFUSED], misdeed);
    }
}

/// A body that breaks off, or off its framing, is never whole to the client.
#[test]
fn answers_that_break_off() {
    let cases: [(&str, Misdeed); 6] = [
        ("within its length", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }),
        ("within a chunk", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf")?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }),
        ("between chunks", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }),
        ("before the last line", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n")?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }),
        ("a chunk of no size", |c| {
            c.wire.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\nxx\r\n0\r\n\r\n",
            )
        }),
        ("a chunk beyond 64 bits", |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n10000000000000004\r\nhalf\r\n0\r\n\r\n")
        }),
    ];
    for (name, misdeed) in cases {
        // Where the head was not out yet it may still become a 504.
        assert_outcome(name, &[Outcome::Aborted, REFUSED], misdeed);
    }
}

/// An answer may be good, and what follows it is not: nothing of that is anybody's answer.
#[test]
fn what_follows_an_answer_is_nobody_s() {
    let cases: [(&str, u16, Misdeed); 5] = [
        ("another answer", 200, |c| {
            c.wire.send(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"))
        }),
        ("a body where none can be", 204, |c| {
            c.wire.send("HTTP/1.1 204 No Content\r\nContent-Length: 40\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        }),
        ("a body of what did not change", 304, |c| {
            c.wire.send("HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        }),
        ("more than its length", 200, |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more")
        }),
        ("more than its chunks", 200, |c| {
            c.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        }),
    ];
    for (name, status, misdeed) in cases {
        assert_outcome(name, &[Outcome::Answered(status), REFUSED], misdeed);
    }
}

/// Whoever reads it by the other framing finds another answer in it (RFC 9112 §6.3).
#[test]
fn an_answer_with_two_framings() {
    let backend = backend(|c| {
        c.wire.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )
    });
    let proxy = proxy(&backend);
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    let answer = connection.get("/bad").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/good").unwrap().text(), "ok");
}

/// Interim answers are no answer, however many there are.
#[test]
fn interim_answers_without_end() {
    let misdeeds: [Misdeed; 2] = [
        |c| {
            let early = format!("HTTP/1.1 103 Early Hints\r\nLink: </{}>\r\n\r\n", "a".repeat(8000));
            loop {
                c.wire.send(&early)?;
            }
        },
        |c| loop {
            c.wire.send("HTTP/1.1 100 Continue\r\n\r\n".repeat(100))?;
        },
    ];
    for misdeed in misdeeds {
        assert_outcome("interim answers", &[Outcome::Refused("504 backend_timeout"), REFUSED], misdeed);
    }
}

/// An answer to a request that is not over yet is passed on; the rest of that request is nobody's.
#[test]
fn an_answer_before_the_request_is_over() {
    let backend = Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            if head.starts_with("POST") {
                connection.wire.send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")?;
                // And reads on, as if the rest were another request.
            } else {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    });
    let proxy = proxy(&backend);
    for _ in 0..3 {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection
            .send("POST /bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nGET /hidden")
            .unwrap();
        let answer = connection.answer_to("POST").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
        let before = backend.connections();
        let mut next = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(next.get("/good").unwrap().text(), "ok");
        assert_eq!(backend.connections(), before + 1, "the connection with half a request was used again");
    }
}
