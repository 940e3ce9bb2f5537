//! Kept connections to the backend: for how long they are kept, and the one repetition of a request that was lost with one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{BackendConnection, OK};
use crate::support::frames::{self, DATA, END_STREAM, GOAWAY, frame, headers};
use crate::support::{Answer, Backend, Proxy, Setup};

/// Takes every request, but closes the connection at the moment of a second one, as often as `losses` says. Some of the answer
/// may be sent before.
fn closing(losses: usize, before: &'static str) -> Backend {
    let left = AtomicUsize::new(losses);
    Backend::scripted(move |connection| {
        let mut is_kept = false;
        while connection.request()?.is_some() {
            let takes_one = |left: usize| left.checked_sub(1);
            if is_kept && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes_one).is_ok() {
                connection.wire.send(before)?;
                return Ok(());
            }
            connection.wire.send(OK)?;
            is_kept = true;
        }
        Ok(())
    })
}

fn one_worker(backend: &Backend) -> Proxy {
    Setup::new(&backend.url()).set("workers", 1).start()
}

/// Sends a first request, whose connection to the backend is kept, and then this one, by HTTP/1.1 or HTTP/2.
fn second(proxy: &Proxy, by_http1: bool, method: &str, body: &'static [u8]) -> Answer {
    let mut http1 = proxy.connect();
    assert_eq!(http1.get("/first").unwrap().text(), "ok");
    match by_http1 {
        true => {
            let length =
                if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            let head = format!("{method} /second HTTP/1.1\r\nHost: localhost\r\nX-A: b  c\r\n{length}\r\n");
            http1.send([head.as_bytes(), body].concat()).unwrap();
            http1.answer_to(method).unwrap()
        }
        false => {
            let request = crate::support::http2::request(method, "/second", &[("x-a", "b  c")]);
            proxy.http2().ask(request, body).unwrap()
        }
    }
}

fn seconds(backend: &Backend) -> Vec<String> {
    backend
        .received()
        .into_iter()
        .filter(|request| request.head.contains(" /second "))
        .map(|r| r.head)
        .collect()
}

#[test]
fn an_idempotent_request_that_a_kept_connection_lost_is_sent_once_more() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        for by_http1 in [true, false] {
            let backend = closing(1, "");
            let proxy = one_worker(&backend);
            assert_eq!(second(&proxy, by_http1, method, b"").status, 200, "{method}");
            let heads = seconds(&backend);
            assert_eq!(heads.len(), 2, "{method}: {heads:?}");
            assert_eq!(heads[0], heads[1], "the same request");
            assert!(heads[0].contains("x-a: b  c\r\n"), "{heads:?}");
            // One request of the client, one record and one count.
            let metrics = proxy.admin.metrics();
            for (name, labels) in [
                ("sidegate_backend_requests_total", ("result", "answered")),
                ("sidegate_decisions_total", ("reason", "permitted")),
            ] {
                assert_eq!(metrics.labelled(name, &[labels]), 2.0, "{name}");
            }
        }
    }
}

#[test]
fn a_request_that_is_lost_twice_is_not_sent_a_third_time() {
    let losing = Arc::new(AtomicBool::new(false));
    let loses = Arc::clone(&losing);
    let backend = Backend::scripted(move |connection| {
        while connection.request()?.is_some() {
            if loses.load(Ordering::SeqCst) {
                return Ok(());
            }
            connection.wire.send(OK)?;
        }
        Ok(())
    });
    let proxy = one_worker(&backend);
    let mut first = proxy.connect();
    assert_eq!(first.get("/first").unwrap().text(), "ok");
    losing.store(true, Ordering::SeqCst);
    assert_eq!(first.get("/second").unwrap().verdict(), "504 backend_unavailable");
    assert_eq!(seconds(&backend).len(), 2);
    // A new connection is not closed for its age: its request is not sent again at all.
    assert_eq!(first.get("/second").unwrap().verdict(), "504 backend_unavailable");
    assert_eq!(seconds(&backend).len(), 3);
}

#[test]
fn a_request_that_may_have_had_an_effect_or_an_answer_is_never_repeated() {
    let byte = "H";
    for (method, body, before) in [
        ("POST", &b""[..], ""),
        ("PATCH", b"", ""),
        ("PUT", b"body", ""),
        ("DELETE", b"body", ""),
        ("POST", b"body", ""),
        ("GET", b"", byte),
        ("GET", b"", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("GET", b"", "HTTP/1.1 200 OK\r\nContent-Le"),
    ] {
        for by_http1 in [true, false] {
            let backend = closing(1, before);
            let proxy = one_worker(&backend);
            let answer = second(&proxy, by_http1, method, body);
            assert_eq!(answer.verdict(), "504 backend_unavailable", "{method} {before:?}");
            assert_eq!(seconds(&backend).len(), 1, "{method} {before:?}");
        }
    }
}

#[test]
fn a_request_that_a_kept_connection_of_http2_lost_is_sent_once_more() {
    fn answer(connection: &mut BackendConnection, stream: u32) -> io::Result<()> {
        let head = headers(stream, 0, &[(":status", "200"), ("content-length", "2")]);
        connection.wire.send([head, frame(DATA, END_STREAM, stream, "ok")].concat())
    }
    let goaway = frame(GOAWAY, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]);
    for last_words in [Vec::new(), goaway] {
        let streams = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&streams);
        let backend = Backend::scripted(move |connection| {
            let mut is_kept = false;
            frames::serve(connection, |connection, stream| {
                let number = seen.fetch_add(1, Ordering::SeqCst);
                if is_kept && number < 2 {
                    connection.wire.send(&last_words)?;
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                is_kept = true;
                answer(connection, stream)
            })
        });
        let url = backend.url().replace("http:", "h2c:");
        let proxy = Setup::new(&url).set("workers", 1).start();
        let mut client = proxy.connect();
        assert_eq!(client.get("/first").unwrap().text(), "ok");
        assert_eq!(client.get("/second").unwrap().text(), "ok");
        assert_eq!((streams.load(Ordering::SeqCst), backend.connections()), (3, 2));
    }
}

/// Returns the number of connections that two requests take, one after the other after this pause.
fn connections_of_two(keep_alive: &str, keep_idle: Option<&str>, pause: Duration) -> usize {
    let answer = format!("HTTP/1.1 200 OK\r\n{keep_alive}Content-Length: 2\r\n\r\nok");
    let backend = Backend::answering(answer);
    let setup = Setup::new(&backend.url()).set("workers", 1);
    let proxy = keep_idle.into_iter().fold(setup, |setup, idle| setup.set("backend.keep_idle", idle)).start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").unwrap().text(), "ok");
    let start = Instant::now();
    while start.elapsed() < pause {
        std::thread::sleep(pause.saturating_sub(start.elapsed()));
    }
    let answer = client.get("/").unwrap();
    assert_eq!((answer.text().as_str(), answer.header("keep-alive")), ("ok", None));
    backend.connections()
}

#[test]
fn an_idle_connection_is_kept_for_no_longer_than_the_backend_announces() {
    let (at_once, later) = (Duration::ZERO, Duration::from_millis(1200));
    // The margin below 2 s is half of the time: 500 ms of the announced second, 1 s of two.
    for announced in ["timeout=1", "timeout=2, max=100", "max=7, timeout=2"] {
        let header = format!("Connection: keep-alive\r\nKeep-Alive: {announced}\r\n");
        assert_eq!(connections_of_two(&header, None, later), 2, "{announced}");
    }
    for announced in ["timeout=0", "timeout=60, max=0"] {
        let header = format!("Connection: keep-alive, Keep-Alive\r\nKeep-Alive: {announced}\r\n");
        assert_eq!(connections_of_two(&header, None, at_once), 2, "{announced}");
    }
    for announced in ["timeout=60", "timeout=60, max=1", "max=100", "timeout=soon"] {
        let header = format!("Keep-Alive: {announced}\r\n");
        assert_eq!(connections_of_two(&header, None, later), 1, "{announced}");
    }
    assert_eq!(connections_of_two("", None, later), 1);
}

#[test]
fn the_time_for_which_an_idle_connection_is_kept_is_a_setting() {
    let (at_once, later) = (Duration::ZERO, Duration::from_millis(1200));
    assert_eq!(connections_of_two("", Some("1s"), later), 2);
    assert_eq!(
        connections_of_two("Keep-Alive: timeout=60\r\n", Some("1s"), later),
        2,
        "the shorter time holds"
    );
    assert_eq!(connections_of_two("", Some("0s"), at_once), 2);
    assert_eq!(connections_of_two("", Some("60s"), later), 1);
}
