//! Case 72: a backend breaks the rules of HTTP. The client gets a 504, or sees that its answer is incomplete. That connection
//! to the backend is never used again, and the next request is answered.

use std::io;
use std::time::{Duration, Instant};

use crate::support::backend::{BackendConnection, OK};
use crate::support::http2::Http2;
use crate::support::{Answer, Backend, Proxy, Setup};

/// The result that the client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The proxy answers with its own 504.
    Refused(&'static str),
    /// The answer ends early, and the client can see that.
    Aborted,
    /// The answer is complete.
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

/// Returns a backend that misbehaves when asked for `/bad` and is good otherwise.
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
        // The connection to the backend has been good until the misdeed.
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(connection.get("/good").unwrap().text(), "ok", "{name}");
        let before = backend.connections();
        let answer = if by_http1 { connection.get("/bad") } else { http2.get("/bad") };
        let (text, outcome) = outcome(answer);
        assert!(outcome.is_some_and(|outcome| expected.contains(&outcome)), "{name}: {text}");
        // The same client and another client each send one more request.
        if let Ok(answer) = connection.get("/good") {
            assert_eq!(answer.text(), "ok", "{name}: {answer:?}");
        }
        assert_eq!(http2.get("/good").unwrap().text(), "ok", "{name}");
        assert_eq!(backend.connections(), before + 1, "{name}: the bad connection was used again");
        assert!(start.elapsed() < Duration::from_secs(15), "{name}: {:?}", start.elapsed());
    }
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// The bytes of the backend are no valid answer. Nothing of them reaches the client.
#[test]
fn an_invalid_answer_becomes_a_504() {
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

/// A body that ends early, or that breaks its framing, never looks complete to the client.
#[test]
fn an_answer_that_breaks_off_never_looks_complete() {
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
        // A 504 is still possible if the head of the answer was not sent yet.
        assert_outcome(name, &[Outcome::Aborted, REFUSED], misdeed);
    }
}

/// Bytes after a good answer never reach a client, neither in that answer nor in the next one.
#[test]
fn bytes_after_an_answer_never_reach_a_client() {
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

/// An answer with two framings is refused: a parser that reads the other framing finds another answer in the body (RFC 9112
/// §6.3).
#[test]
fn an_answer_with_two_framings_is_refused() {
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

/// Interim answers never count as the answer, however many of them the backend sends.
#[test]
fn interim_answers_without_end_become_a_504() {
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

/// An answer that arrives before the request is complete is passed on. The backend never takes the rest of that request for
/// another request.
#[test]
fn an_early_answer_is_passed_on_and_its_connection_is_not_used_again() {
    let backend = Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            if head.starts_with("POST") {
                connection.wire.send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")?;
                // The backend reads on, as if the rest of the body were another request.
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
