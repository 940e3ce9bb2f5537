//! A connection of HTTP/1.1 that is asked nothing for a moment keeps its stream and little else. Nobody notices.

use crate::support::backend::OK;
use crate::support::{Backend, Client, Proxy, Setup};

/// A stranger who says nothing is sent away after this, and whoever has said nothing for as long has been at rest for a while.
const SILENCE: &str = "800ms";

fn proxy(backend: &Backend) -> Proxy {
    Setup::new(&backend.url()).set("limits.lobby.request_timeout", SILENCE).start()
}

fn rest(proxy: &Proxy) {
    assert!(proxy.anonymous().connect(proxy.address).unwrap().is_closed());
}

#[test]
fn it_is_served_as_before_however_often_it_rests() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    for round in 0..3 {
        rest(&proxy);
        let body = format!("{round}").repeat(10_000);
        assert_eq!(connection.post("/events", &body).unwrap().verdict(), "200");
        assert!(backend.received().last().is_some_and(|last| last.body == body.as_bytes()));
        // And what comes along with the byte that wakes it, too.
        rest(&proxy);
        connection.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).unwrap();
        for _ in 0..3 {
            assert_eq!(connection.answer_to("GET").unwrap().verdict(), "200");
        }
    }
    assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 1.0, "it kept its slot");
    // A head that begins with one byte is one head, and has its deadline.
    rest(&proxy);
    connection.send("G").unwrap();
    connection.send("ET /events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(connection.answer_to("GET").unwrap().verdict(), "200");
    connection.send("G").unwrap();
    assert!(connection.is_closed());
}

#[test]
fn what_it_hears_at_rest_holds() {
    let backend = Backend::ok();
    let mut proxy = proxy(&backend);
    let connect = |proxy: &Proxy| {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(connection.get("/events").unwrap().verdict(), "200");
        connection
    };
    let (mut asks, mut silent) = (connect(&proxy), connect(&proxy));
    rest(&proxy);
    // Another policy: nobody may do anything.
    std::fs::write(proxy.setup.path("policy.yaml"), "version: 1\n").unwrap();
    proxy.admin.reload();
    assert_eq!(asks.get("/events").unwrap().verdict(), "403 insufficient_permissions");
    proxy.process.signal("TERM");
    assert!(silent.is_closed() && asks.is_closed());
    assert!(proxy.process.exit().success());
}

#[test]
fn what_is_wrong_after_a_rest_is_wrong() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let after_a_rest = |client: Client, bytes: &str| {
        let mut connection = client.connect(proxy.address).unwrap();
        connection.get("/events").unwrap();
        rest(&proxy);
        connection.send(bytes).unwrap();
        let verdict = connection.answer_to("GET").unwrap().verdict();
        assert!(connection.is_closed());
        verdict
    };
    let long = format!("GET /events HTTP/1.1\r\nHost: a\r\nX-A: {}\nX-B: b\r\n\r\n", "a".repeat(100));
    for bytes in ["no HTTP\r\n\r\n", "GET /events HTTP/1.1\nHost: a\r\n\r\n", &long] {
        assert_eq!(after_a_rest(proxy.producer(), bytes), "400 ambiguous_request", "{bytes}");
    }
    assert_eq!(after_a_rest(proxy.anonymous(), "no HTTP\r\n\r\n"), "401 not_authenticated");
    assert_eq!(backend.received().len(), 3, "those before the rests");
}

/// Where a body was answered before it had come, what comes after a pause is that body, and no request.
#[test]
fn it_does_not_rest_in_the_middle_of_a_body() {
    let backend = Backend::scripted(|connection| {
        while connection.head()?.is_some() {
            connection.wire.send(OK)?;
        }
        Ok(())
    });
    let proxy = proxy(&backend);
    let hidden = "GET /events/hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for (framing, body) in [
        (format!("Content-Length: {}", hidden.len()), hidden),
        (format!("Content-Length: {}", hidden.len() + 1000), hidden),
        ("Transfer-Encoding: chunked".to_owned(), &chunk),
    ] {
        for client in [proxy.producer(), proxy.consumer(), proxy.anonymous()] {
            let mut connection = client.connect(proxy.address).unwrap();
            connection.send(format!("POST /events HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).unwrap();
            let _ = connection.answer_to("POST").unwrap();
            rest(&proxy);
            let _ = connection.send(body);
            let further = connection.read_to_end().unwrap_or_default();
            assert!(further.is_empty(), "{framing}: {}", String::from_utf8_lossy(&further));
        }
    }
    let heads = backend.start_lines();
    assert!(heads.iter().all(|head| !head.contains("hidden")), "{heads:?}");
}
