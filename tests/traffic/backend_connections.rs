//! Connections to the backend are used again, but bytes that belong to no request are never an answer, and a request that was
//! sent is never sent twice (DESIGN §5).

use std::io;

use crate::support::backend::OK;
use crate::support::{Backend, Proxy, Setup};

#[test]
fn a_connection_to_the_backend_is_kept_and_a_closed_one_is_replaced() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = proxy.connect();
    for _ in 0..3 {
        assert_eq!(connection.get("/events").unwrap().status, 200);
    }
    assert_eq!(backend.connections(), 1, "kept alive between requests");
    backend.close_connections();
    assert_eq!(connection.post("/events", "body").unwrap().status, 200);
    assert_eq!(backend.connections(), 2);
    assert_eq!(backend.wait_for(4)[3].body, b"body");
}

/// A backend may send bytes that belong to no request: with an answer, or later while the connection is idle. That connection
/// is not used again, and the next request goes over another one.
#[test]
fn bytes_without_a_request_are_never_an_answer() {
    for at_once in [true, false] {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (sent, done) = std::sync::mpsc::channel::<()>();
        let turns = std::sync::Mutex::new(Some((wait, sent)));
        let backend = Backend::scripted(move |connection| {
            let first = turns.lock().unwrap().take();
            while connection.request()?.is_some() {
                let Some((wait, sent)) = &first else {
                    connection.wire.send(OK)?;
                    continue;
                };
                let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
                if at_once {
                    connection.wire.send([OK.as_bytes(), forged.as_bytes()].concat())?;
                } else {
                    connection.wire.send(OK)?;
                    wait.recv().map_err(io::Error::other)?;
                    connection.wire.send(forged)?;
                }
                sent.send(()).map_err(io::Error::other)?;
            }
            Ok(())
        });
        let proxy = Setup::new(&backend.url()).set("workers", 1).start();
        let mut connection = proxy.connect();
        assert_eq!(connection.get("/events").unwrap().text(), "ok");
        // If the bytes came at once, they have ended the connection already.
        let _ = go.send(());
        done.recv().unwrap();
        assert_eq!(connection.post("/events", "body").unwrap().text(), "ok", "at once: {at_once}");
        assert_eq!(backend.wait_for(2)[1].body, b"body");
        assert_eq!(backend.connections(), 2);
    }
}

#[test]
fn bytes_after_an_answer_are_never_the_next_answer() {
    let backend = Backend::scripted(|connection| {
        while connection.request()?.is_some() {
            connection.wire.send(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"))?;
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = proxy.connect();
    for _ in 0..3 {
        assert_eq!(connection.get("/events").unwrap().text(), "ok");
    }
}

/// The backend may have acted on a request of which a part was sent, so the proxy does not try again.
#[test]
fn a_request_that_was_sent_is_never_sent_twice() {
    let backend = Backend::scripted(|connection| {
        connection.request()?;
        Ok(())
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let answer = proxy.connect().post("/events", "once").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
    assert_eq!(backend.received().len(), 1);
}
