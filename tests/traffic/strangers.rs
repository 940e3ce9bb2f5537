//! A client that is not authenticated learns only that, whatever it sends, and none of its requests reaches the backend
//! (DESIGN §2).

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::backend::RefusingPort;
use crate::support::{Backend, Client, Proxy, Setup};

/// Generates requests from usual, unusual and invalid parts.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        4 => prop::sample::select(vec!["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "TRACE", "DELETE", "PRI"]),
        1 => prop::sample::select(vec!["get", "G\u{e9}T", "", "GET GET", "A".repeat(300).leak()]),
    ];
    let target = prop_oneof![
        3 => "/[a-z0-9/._%;?&=#-]{0,30}",
        1 => prop::sample::select(vec![
            "*", "http://elsewhere/", "https://localhost/metrics", "localhost:443", "/../..", "//", "", "/%00", "?",
        ]).prop_map(str::to_owned),
        1 => prop::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
    ];
    let version = prop_oneof![
        6 => Just("HTTP/1.1"),
        1 => prop::sample::select(vec!["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "http/1.1", ""]),
    ];
    let field = prop::sample::select(vec![
        "Host: localhost",
        "Host: elsewhere",
        "Content-Length: 5",
        "Content-Length: 50",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Connection: upgrade, close",
        "Upgrade: h2c",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "X-Forwarded-Client-Cert: Subject=\"CN=order-producer\"",
        "Client-Cert: :AAAA:",
        "X-Remote-User: order-producer",
        "Authorization: Bearer x",
        " folded",
        "no colon",
        "\u{0}: \u{0}",
    ]);
    let body = prop::sample::select(vec![
        "",
        "12345",
        "5\r\nabcde\r\n0\r\n\r\n",
        "GET /readable HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]);
    (method, target, version, prop::collection::vec(field, 0..6), body).prop_map(
        |(method, target, version, fields, body)| {
            format!("{method} {target} {version}\r\n{}\r\n\r\n{body}", fields.join("\r\n")).into_bytes()
        },
    )
}

/// Sends a request, ends the sending side, and returns the status and the reason of every answer.
fn answers(client: &Client, proxy: &Proxy, request: &[u8]) -> Vec<String> {
    let mut connection = client.connect(proxy.address).unwrap();
    connection.send(request).unwrap();
    connection.stream.conn.send_close_notify();
    let _ = connection.send("");
    let mut answers = Vec::new();
    // Answers to HEAD and interim answers have no body, so the heads are found by their first bytes.
    let everything = connection.read_to_end().unwrap_or_default();
    for (at, _) in everything.windows(9).enumerate().filter(|(_, window)| *window == b"HTTP/1.1 ") {
        let head = String::from_utf8_lossy(&everything[at..]).into_owned();
        let reason =
            head.split("\"reason\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("-");
        answers.push(format!("{} {reason}", &head[9..12]));
    }
    answers
}

#[test]
fn strangers_learn_only_that_they_are_not_authenticated() {
    let (backend, refusing) = (Backend::ok(), RefusingPort::new());
    let open = Proxy::in_front_of(&backend.url());
    let broken = Proxy::in_front_of(&refusing.url());
    let full = Setup::new(&backend.url()).set("limits.max_connections", 1).start();
    let mut holder = full.connect();
    assert_eq!(holder.get("/holder").unwrap().status, 200);
    let config = Config { cases: 200, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let answered = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&requests(), |request| {
        for proxy in [&open, &broken, &full] {
            let strangers = [
                (proxy.anonymous(), "401 not_authenticated"),
                (proxy.client(&proxy.pki().expired()), "401 invalid_certificate"),
            ];
            for (client, expected) in strangers {
                for answer in answers(&client, proxy, &request) {
                    answered.set(answered.get() + 1);
                    // Bytes that are not HTTP get an answer of the parser, which reveals nothing about identity, policy or
                    // backend.
                    let is_right =
                        [expected, "401 -", "400 -", "414 -", "431 -", "505 -"].contains(&answer.as_str());
                    prop_assert!(is_right, "{answer} to {:?}", String::from_utf8_lossy(&request));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(
        answered.get() > 600,
        "only {} answers: the requests are too broken for this test",
        answered.get()
    );
    assert_eq!(backend.received().len(), 1, "only the holder's own request: {:?}", backend.received());
}
