//! A connection of HTTP/1.1 that is idle for a moment rests: it keeps little memory besides its socket. Neither the client
//! nor the backend can tell (DESIGN §2.4).

use crate::support::backend::OK;
use crate::support::{Backend, Client, Proxy, Setup};

/// Time after which a silent stranger is closed. A connection that was idle for as long rests.
const SILENCE: &str = "800ms";

fn proxy(backend: &Backend) -> Proxy {
    Setup::new(&backend.url()).set("limits.lobby.request_timeout", SILENCE).start()
}

/// Waits until a silent connection rests.
fn wait_until_resting(proxy: &Proxy) {
    assert!(proxy.anonymous().connect(proxy.address).unwrap().is_closed());
}

#[test]
fn a_resting_connection_is_served_as_before() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let mut connection = proxy.connect();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    for round in 0..3 {
        wait_until_resting(&proxy);
        let body = format!("{round}").repeat(10_000);
        assert_eq!(connection.post("/events", &body).unwrap().verdict(), "200");
        assert!(backend.received().last().is_some_and(|last| last.body == body.as_bytes()));
        // Requests that come together with the first byte are served as well.
        wait_until_resting(&proxy);
        connection.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).unwrap();
        for _ in 0..3 {
            assert_eq!(connection.answer_to("GET").unwrap().verdict(), "200");
        }
    }
    assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 1.0, "the connection kept its slot");
    // A head that comes in two parts is one head, and has its deadline from the first byte on.
    wait_until_resting(&proxy);
    connection.send("G").unwrap();
    connection.send("ET /events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(connection.answer_to("GET").unwrap().verdict(), "200");
    connection.send("G").unwrap();
    assert!(connection.is_closed());
}

#[test]
fn a_resting_connection_obeys_a_new_policy_and_the_shutdown() {
    let backend = Backend::ok();
    let mut proxy = proxy(&backend);
    let connect = |proxy: &Proxy| {
        let mut connection = proxy.connect();
        assert_eq!(connection.get("/events").unwrap().verdict(), "200");
        connection
    };
    let (mut asking, mut silent) = (connect(&proxy), connect(&proxy));
    wait_until_resting(&proxy);
    // The new policy permits nothing.
    std::fs::write(proxy.setup.path("policy.yaml"), "version: 1\n").unwrap();
    proxy.admin.reload();
    assert_eq!(asking.get("/events").unwrap().verdict(), "403 insufficient_permissions");
    proxy.process.signal("TERM");
    assert!(silent.is_closed() && asking.is_closed());
    assert!(proxy.process.exit().success());
}

#[test]
fn a_broken_request_on_a_resting_connection_is_refused() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let verdict_when_resting = |client: Client, bytes: &str| {
        let mut connection = client.connect(proxy.address).unwrap();
        connection.get("/events").unwrap();
        wait_until_resting(&proxy);
        connection.send(bytes).unwrap();
        let verdict = connection.answer_to("GET").unwrap().verdict();
        assert!(connection.is_closed());
        verdict
    };
    let long = format!("GET /events HTTP/1.1\r\nHost: a\r\nX-A: {}\nX-B: b\r\n\r\n", "a".repeat(100));
    for bytes in ["no HTTP\r\n\r\n", "GET /events HTTP/1.1\nHost: a\r\n\r\n", &long] {
        assert_eq!(verdict_when_resting(proxy.producer(), bytes), "400 ambiguous_request", "{bytes}");
    }
    assert_eq!(verdict_when_resting(proxy.anonymous(), "no HTTP\r\n\r\n"), "401 not_authenticated");
    assert_eq!(backend.received().len(), 3, "the requests before the connections rested");
}

/// If an answer came before the body, the bytes after a pause are that body. They must not be parsed as a request (request
/// smuggling).
#[test]
fn a_connection_does_not_rest_in_the_middle_of_a_body() {
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
            wait_until_resting(&proxy);
            let _ = connection.send(body);
            let further = connection.read_to_end().unwrap_or_default();
            assert!(further.is_empty(), "{framing}: {}", String::from_utf8_lossy(&further));
        }
    }
    let heads = backend.start_lines();
    assert!(heads.iter().all(|head| !head.contains("hidden")), "{heads:?}");
}
