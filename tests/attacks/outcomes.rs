//! Attacks over HTTP/1.1: each case is some bytes and the right outcome.
//!
//! A test checks both ends: the client's answer, and what reached the backend, which is usually nothing.

use crate::support::{Backend, Client, Proxy, Setup};

/// Bytes to send, and the right outcome at the client and at the backend.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// The answer to an authenticated client. Any other client gets 401, always.
    pub verdict: &'static str,
    /// The start lines that the backend got.
    pub seen: Vec<String>,
    /// True if the proxy closes the connection after the answer.
    pub closes: bool,
}

pub fn refused(name: &'static str, verdict: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, bytes: bytes.into(), verdict, seen: Vec::new(), closes: false }
}

/// Two parsers could read the request differently.
pub fn ambiguous(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    refused(name, "400 ambiguous_request", bytes)
}

/// The bytes are no request, so nothing after them can be trusted either.
pub fn no_http(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { closes: true, ..ambiguous(name, bytes) }
}

/// No grant permits the request.
pub fn denied(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    refused(name, "403 insufficient_permissions", bytes)
}

/// The request is good, and the backend gets exactly its bytes.
pub fn forwarded(name: &'static str, start_line: &str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { seen: vec![start_line.to_owned()], ..refused(name, "200", bytes) }
}

pub fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()
}

/// Returns a request with these header lines.
pub fn with(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /events HTTP/1.1\r\nHost: localhost\r\n", fields.as_ref(), b"\r\n\r\n"].concat()
}

pub fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST /events HTTP/1.1\r\nHost: localhost\r\n", fields.as_ref(), b"\r\n\r\n", body.as_ref()].concat()
}

/// A policy that permits the producer some requests only, so that a way around the policy shows.
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

/// Tries every case as a client with some rights and as a client without a certificate, each on its own connection, and shows
/// all failures at once.
#[track_caller]
pub fn assert_outcomes(cases: &[Case]) {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut wrong = Vec::new();
    for case in cases {
        let before = backend.received().len();
        let got = outcome(&proxy, &proxy.producer(), case);
        let seen: Vec<_> =
            backend.received()[before..].iter().map(|request| request.start_line().to_owned()).collect();
        if got != case.verdict || seen != case.seen {
            wrong.push(format!("{}: {got}, and the backend saw {seen:?}", case.name));
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
    // The proxy may refuse a message that is too long, and close the connection, before all of the message was sent.
    let _ = connection.send(&case.bytes);
    let method = String::from_utf8_lossy(case.bytes.split(|byte| *byte == b' ').next().unwrap()).into_owned();
    match connection.answer_to(&method) {
        Ok(answer) if case.closes && answer.status != 401 && !connection.is_closed() => {
            "the connection goes on".to_owned()
        }
        Ok(answer) => answer.verdict(),
        Err(error) => error.to_string(),
    }
}
