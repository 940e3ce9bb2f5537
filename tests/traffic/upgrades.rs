//! WebSocket: a connection switches to another protocol only if a route permits the switch (DESIGN §4, §5).

use std::io::{self, Write};

use crate::support::backend::BackendConnection;
use crate::support::tls::Tls;
use crate::support::{Answer, Backend, Proxy, Setup, eventually};

const POLICY: &str = r#"version: 1
permissions:
  live:
    - { route: GET /live, upgrade: websocket }
    - GET /events
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [live]
"#;

const ASK: &str = "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Switches the protocol and echoes every byte. After the end of the client it sends a farewell and ends too.
fn echo(connection: &mut BackendConnection) -> io::Result<()> {
    if connection.request()?.is_none() {
        return Ok(());
    }
    connection.wire.send(AGREED)?;
    loop {
        match connection.wire.read_available()? {
            bytes if bytes.is_empty() => return connection.wire.send("goodbye"),
            bytes => connection.wire.send(&bytes)?,
        }
    }
}

fn setup(backend: &Backend) -> Setup {
    Setup::new(&backend.url()).policy(POLICY)
}

fn connect_and_switch(proxy: &Proxy) -> Tls {
    let mut connection = proxy.connect();
    connection.send(ASK).unwrap();
    let head = connection.read_until(b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in
        ["upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="]
    {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    connection
}

/// A client that used a WebSocket before there was a policy can use it while a policy is tried.
#[test]
fn in_audit_mode_a_switch_passes_without_a_route_and_a_rule_for_it_is_suggested() {
    let backend = Backend::scripted(echo);
    let mut proxy = Setup::new(&backend.url()).policy("version: 1\n").set("mode", "audit").start();
    let mut connection = connect_and_switch(&proxy);
    connection.send("hello").unwrap();
    assert_eq!(connection.read_exactly(5).unwrap(), b"hello");
    drop(connection);
    let record = proxy.process.audit_where("the switch", |record| record["path"] == "/live");
    assert_eq!((&record["status"], &record["decision"]), (&101.into(), &"denied".into()), "{record}");
    let records = proxy.setup.path("audit.log");
    std::fs::write(&records, record.to_string()).unwrap();
    let suggested = crate::support::proxy::run(&["policy", "suggest", records.to_str().unwrap()]);
    assert!(suggested.stdout.contains("{ route: \"GET /live\", upgrade: websocket }"), "{suggested:?}");
}

#[test]
fn bytes_pass_both_ways_and_each_side_can_close_first() {
    let backend = Backend::scripted(echo);
    let mut proxy = setup(&backend).start();
    let mut connection = connect_and_switch(&proxy);
    let seen = backend.wait_for(1).remove(0);
    assert_eq!(seen.start_line(), "GET /live HTTP/1.1");
    assert_eq!(seen.header("upgrade"), ["websocket"]);
    assert_eq!(seen.header("connection"), ["upgrade"]);
    assert_eq!(seen.header("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert!(!seen.header("client-cert").is_empty());
    let large = vec![b'x'; 300_000];
    for message in [b"hello".as_slice(), b"\x81\x00", &large] {
        connection.send(message).unwrap();
        assert_eq!(connection.read_exactly(message.len()).unwrap(), message);
    }
    assert_eq!(proxy.admin.status()["in_flight"], 1, "a switched connection holds a place in flight");
    connection.stream.conn.send_close_notify();
    connection.stream.flush().unwrap();
    assert_eq!(connection.read_exactly(7).unwrap(), b"goodbye", "the other direction goes on");
    eventually("the end", || proxy.admin.status()["in_flight"].clone(), |used| *used == 0);
    eventually("the slot", || proxy.admin.status()["slots_used"].clone(), |used| *used == 0);
    let record = proxy.process.audit_where("the switch", |record| record["path"] == "/live");
    assert_eq!((&record["status"], &record["decision"]), (&101.into(), &"allowed".into()));
    assert!(record["bytes"].as_u64().unwrap() > 600_000, "{record}");
}

/// The end of one direction is passed on as such, and the other direction goes on.
#[test]
fn a_backend_that_closes_first_still_gets_the_bytes_of_the_client() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let backend = Backend::scripted(move |connection| {
        if connection.request()?.is_none() {
            return Ok(());
        }
        connection.wire.send(format!("{AGREED}goodbye"))?;
        connection.wire.stream.stream.shutdown(std::net::Shutdown::Write)?;
        let rest = connection.wire.read_to_end()?;
        let _ = sender.lock().unwrap().send(rest);
        Ok(())
    });
    let proxy = setup(&backend).start();
    let mut connection = connect_and_switch(&proxy);
    assert_eq!(connection.read_to_end().unwrap(), b"goodbye");
    let last_bytes = vec![b'x'; 100_000];
    connection.send(&last_bytes).unwrap();
    connection.stream.conn.send_close_notify();
    connection.stream.flush().unwrap();
    assert_eq!(receiver.recv_timeout(crate::support::DEADLINE).unwrap(), last_bytes);
    eventually("the slot", || proxy.admin.status()["slots_used"].clone(), |used| *used == 0);
}

/// Case 69.
#[test]
fn bytes_that_a_client_sends_before_the_switch_arrive_after_it() {
    let backend = Backend::scripted(|connection| {
        connection.head()?;
        connection.wire.send(AGREED)?;
        connection.wire.send("first")?;
        let early = connection.wire.read_exactly(5)?;
        connection.wire.send(&early)
    });
    let proxy = setup(&backend).start();
    let mut connection = proxy.connect();
    connection.send(format!("{ASK}early")).unwrap();
    connection.read_until(b"\r\n\r\n").unwrap();
    assert_eq!(connection.read_exactly(10).unwrap(), b"firstearly");
}

#[test]
fn bytes_after_a_declined_switch_are_judged_as_a_request() {
    let backend = Backend::ok();
    let proxy = setup(&backend).start();
    let mut connection = proxy.connect();
    connection.send(format!("{ASK}GET /forbidden HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
    assert_eq!(connection.answer_to("GET").unwrap().status, 200);
    assert_eq!(connection.answer_to("GET").unwrap().verdict(), "403 insufficient_permissions");
    assert_eq!(backend.received().len(), 1);
}

/// Case 69. A request for a switch that its route does not permit is forwarded without `Upgrade`, or is refused.
#[test]
fn a_switch_that_the_route_does_not_permit_never_happens() {
    let host = "HTTP/1.1\r\nHost: localhost\r\n";
    for (request, status) in [
        // A route that does not permit the switch.
        (format!("GET /events {host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), 200),
        // Another protocol.
        (
            format!(
                "GET /live {host}Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n\r\n"
            ),
            200,
        ),
        // `Upgrade` is not named by `Connection`.
        (format!("GET /live {host}Upgrade: websocket\r\n\r\n"), 200),
        // A request with a body, which one side would read as the new protocol.
        (
            format!(
                "GET /live {host}Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx"
            ),
            200,
        ),
        // Another method.
        (format!("POST /live {host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), 403),
        // HTTP/1.0 has no switch of protocols.
        (
            "GET /live HTTP/1.0\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                .into(),
            200,
        ),
    ] {
        let backend = Backend::ok();
        let proxy = setup(&backend).start();
        let answer = proxy.connect().ask(&request).unwrap();
        assert_eq!(answer.status, status, "{request}");
        for seen in backend.received() {
            assert!(seen.header("upgrade").is_empty(), "{}", seen.head);
            assert!(!seen.head.to_lowercase().contains("\r\nconnection: upgrade"), "{}", seen.head);
        }
    }
}

/// Case 72.
#[test]
fn a_switch_without_a_request_or_to_another_protocol_is_an_error_of_the_backend() {
    for (request, agreed) in [
        ("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", AGREED.to_owned()),
        (ASK, AGREED.replace("websocket", "h2c")),
        (ASK, "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned()),
    ] {
        let backend = Backend::answering(agreed);
        let proxy = setup(&backend).start();
        let answer = proxy.connect().ask(request).unwrap();
        assert_eq!(answer.verdict(), "504 backend_unavailable", "{request}");
    }
}

#[test]
fn strangers_and_clients_without_permission_switch_nothing() {
    let backend = Backend::scripted(echo);
    let proxy = setup(&backend).start();
    let verdict = |client: crate::support::Client| -> Answer {
        client.connect(proxy.address).unwrap().ask(ASK).unwrap()
    };
    assert_eq!(verdict(proxy.anonymous()).verdict(), "401 not_authenticated");
    assert_eq!(verdict(proxy.consumer()).verdict(), "403 insufficient_permissions");
    assert!(backend.received().is_empty());
}

#[test]
fn a_silent_switched_connection_ends_after_its_timeout() {
    let backend = Backend::scripted(echo);
    let proxy = setup(&backend).set("limits.upgrade_idle_timeout", "300ms").start();
    let mut connection = connect_and_switch(&proxy);
    connection.send("x").unwrap();
    assert_eq!(connection.read_exactly(1).unwrap(), b"x");
    assert!(connection.is_closed());
    eventually("the slot", || proxy.admin.status()["slots_used"].clone(), |used| *used == 0);
}

#[test]
fn a_switched_connection_ends_with_the_drain_timeout() {
    let backend = Backend::scripted(echo);
    let mut proxy = setup(&backend).set("drain_timeout", "500ms").start();
    let mut connection = connect_and_switch(&proxy);
    proxy.process.signal("TERM");
    assert!(connection.is_closed());
    assert_eq!(proxy.process.exit().code(), Some(0));
}

/// After a switch that did not happen, the connection still has HTTP/1.1, so every line of a head must end in CRLF.
#[test]
fn lines_that_end_in_lf_alone_are_refused_behind_a_switch_that_did_not_happen() {
    let backend = Backend::ok();
    let proxy = setup(&backend).start();
    let with = |start: &str, fields: &str| format!("{start} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let chunked = "Upgrade: foo\r\nTransfer-Encoding: chunked\r\n";
    let first = [
        ("another protocol", with("GET /events", "Connection: Upgrade\r\nUpgrade: foo\r\n"), 200),
        ("without Connection", with("GET /events", "Upgrade: foo\r\n"), 200),
        (
            "HTTP/2",
            with(
                "GET /events",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n",
            ),
            200,
        ),
        ("a route without it", with("GET /events", upgrade), 200),
        ("a backend that declines", ASK.to_owned(), 200),
        ("a denied route", with("GET /denied", upgrade), 403),
        ("an ambiguous path", with("GET /a//b", upgrade), 400),
        ("HEAD", with("HEAD /events", "Upgrade: foo\r\n"), 200),
        ("an empty body", with("GET /events", "Upgrade: foo\r\nContent-Length: 0\r\n"), 200),
        ("a body", with("GET /events", "Upgrade: foo\r\nContent-Length: 3\r\n") + "\na\n", 200),
        ("chunks", with("GET /events", chunked) + "3\r\n\na\n\r\n0\r\n\r\n", 200),
        ("trailers", with("GET /events", chunked) + "0\r\nX-A: b\r\n\r\n", 200),
        ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(), 403),
        ("OPTIONS, denied", with("OPTIONS /events", "Upgrade: TLS/1.0\r\n"), 403),
    ];
    for (what, first, status) in first {
        let method = first.split(' ').next().unwrap().to_owned();
        for second in [
            "GET /events HTTP/1.1\nHost: localhost\n\n",
            "GET /events HTTP/1.1\r\nHost: localhost\r\nX-A: b\n\r\n",
        ] {
            for pipelined in [false, true] {
                backend.clear_records();
                let mut connection = proxy.connect();
                connection.send(if pipelined { format!("{first}{second}") } else { first.clone() }).unwrap();
                assert_eq!(connection.answer_to(&method).unwrap().status, status, "{what}");
                if !pipelined {
                    connection.send(second).unwrap();
                }
                let answer = connection.answer_to("GET").unwrap();
                assert_eq!(answer.verdict(), "400 ambiguous_request", "{what}, pipelined: {pipelined}");
                assert!(connection.is_closed(), "{what}");
                let expected = usize::from(status == 200);
                assert_eq!(backend.received().len(), expected, "{what}: the backend got the second request");
            }
        }
        let mut connection = proxy.connect();
        let good = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        connection.send(format!("{first}{good}{first}{good}")).unwrap();
        for (method, status) in [(method.as_str(), status), ("GET", 200)].repeat(2) {
            assert_eq!(connection.answer_to(method).unwrap().status, status, "{what}");
        }
    }
}

/// The client may send bytes of the new protocol before the answer. They need not look like HTTP.
#[test]
fn bytes_that_a_client_sends_ahead_of_the_switch_arrive_unchanged() {
    let backend = Backend::scripted(echo);
    let proxy = setup(&backend).start();
    let ahead = "a\nb\n\n\0".repeat(5000);
    for parts in [1, 2] {
        let mut connection = proxy.connect();
        if parts == 1 {
            connection.send(format!("{ASK}{ahead}")).unwrap();
        } else {
            connection.send(ASK).unwrap();
            connection.send(&ahead).unwrap();
        }
        connection.read_until(b"\r\n\r\n").unwrap();
        let echoed = connection.read_exactly(ahead.len());
        assert_eq!(echoed.unwrap_or_else(|error| panic!("in {parts} parts: {error}")), ahead.as_bytes());
    }
}
