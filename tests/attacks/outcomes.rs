//! Cases of attacks over HTTP/1.1: each has the bytes of a request and the right outcome.
//!
//! A test checks both ends: the answer to the client, and the requests that reach the backend, usually none.

use crate::support::{Backend, Client, Proxy, Setup};

/// The bytes of a client, and the right outcome at both ends.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// Answer to an authenticated client. A stranger always gets 401.
    pub verdict: &'static str,
    /// Start lines of the requests that reach the backend.
    pub received: Vec<String>,
    /// True if the connection must be closed after the answer.
    pub closes: bool,
}

pub fn refused(name: &'static str, verdict: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, bytes: bytes.into(), verdict, received: Vec::new(), closes: false }
}

/// A request that two parsers could read differently.
pub fn ambiguous(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    refused(name, "400 ambiguous_request", bytes)
}

/// Bytes that are not a request of HTTP. The connection is closed, because the start of a next request is not known.
pub fn malformed(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { closes: true, ..ambiguous(name, bytes) }
}

/// A request that no grant allows.
pub fn denied(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    refused(name, "403 insufficient_permissions", bytes)
}

/// A request that is allowed and reaches the backend with this start line.
pub fn forwarded(name: &'static str, start_line: &str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { received: vec![start_line.to_owned()], ..refused(name, "200", bytes) }
}

pub fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()
}

/// A GET with these header lines.
pub fn with(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /events HTTP/1.1\r\nHost: localhost\r\n", fields.as_ref(), b"\r\n\r\n"].concat()
}

pub fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST /events HTTP/1.1\r\nHost: localhost\r\n", fields.as_ref(), b"\r\n\r\n", body.as_ref()].concat()
}

/// A policy that allows the producer only some requests, so that a bypass of the policy is visible.
pub const NARROW: &str = r#"version: 1
permissions:
  some:
    - GET|POST /events
    - GET /events/{id}
    - GET /public/**
    - GET /exact
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [some]
"#;

/// Returns the start lines of the requests that the backend got after the first `count`.
pub fn start_lines_after(backend: &Backend, count: usize) -> Vec<String> {
    backend.received()[count..].iter().map(|request| request.start_line().to_owned()).collect()
}

/// Sends every case as the producer and as a stranger, each on a new connection, and reports all wrong outcomes at once.
#[track_caller]
pub fn assert_outcomes(cases: &[Case]) {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut wrong = Vec::new();
    for case in cases {
        let before = backend.received().len();
        let got = outcome(&proxy, &proxy.producer(), case);
        let received = start_lines_after(&backend, before);
        if got != case.verdict || received != case.received {
            wrong.push(format!("{}: {got}, and the backend got {received:?}", case.name));
        }
        let before = backend.received().len();
        let got = outcome(&proxy, &proxy.anonymous(), case);
        if got != "401 not_authenticated" || backend.received().len() != before {
            wrong.push(format!("{}, a stranger: {got}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn outcome(proxy: &Proxy, client: &Client, case: &Case) -> String {
    let mut connection = client.connect(proxy.address).unwrap();
    // The proxy may refuse a long request and close the connection before the client has sent all of it.
    let _ = connection.send(&case.bytes);
    let method = String::from_utf8_lossy(case.bytes.split(|byte| *byte == b' ').next().unwrap()).into_owned();
    match connection.answer_to(&method) {
        Ok(answer) if case.closes && answer.status != 401 && !connection.is_closed() => {
            "the connection stays open".to_owned()
        }
        Ok(answer) => answer.verdict(),
        Err(error) => error.to_string(),
    }
}
