//! Framing: every parser finds the same end of each request, and bytes after a refused request are never parsed as a request.

use super::outcomes::{Case, NARROW, ambiguous, assert_outcomes, denied, forwarded, get, no_http, post};
use crate::support::backend::RefusingPort;
use crate::support::{Backend, Setup};

const EVENTS: &str = "POST /events HTTP/1.1";
/// The request that an attacker hides inside of a body.
const HIDDEN: &str = "GET /exact HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

#[test]
fn only_a_plain_transfer_encoding_is_accepted() {
    let coded = |coding: &str| post(format!("Transfer-Encoding: {coding}"), "1\r\na\r\n0\r\n\r\n");
    let two = |first: &str, second: &str| {
        post(format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}"), "1\r\na\r\n0\r\n\r\n")
    };
    assert_outcomes(&[
        no_http("case 65: not at the end", coded("chunked, gzip")),
        no_http("case 65: another one", coded("gzip")),
        no_http("case 65: more than one", coded("gzip, chunked")),
        no_http("case 65: twice", coded("chunked, chunked")),
        no_http("case 65: twice, in two lines", two("chunked", "chunked")),
        no_http("case 65: after another, in two lines", two("gzip", "chunked")),
        no_http("case 65: none, before it", coded("identity, chunked")),
        no_http("case 65: none", coded("identity")),
        no_http("case 65: none, after it", coded("chunked, identity")),
        no_http("case 65: almost", coded("xchunked")),
        no_http("case 65: quoted", coded("\"chunked\"")),
        no_http("case 65: with a parameter", coded("chunked;x=1")),
        no_http("case 65: behind a vertical tab", coded("\x0bchunked")),
        no_http("case 65: empty", coded("")),
        no_http("case 65: two lines, the last another", two("chunked", "identity")),
        no_http("case 65: two lines, the last unknown", two("chunked", "x")),
        no_http(
            "case 65: in HTTP/1.0",
            b"POST /events HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        forwarded("case 65: in capitals", EVENTS, coded("CHUNKED")),
    ]);
}

#[test]
fn only_a_plain_length_is_accepted() {
    let length = |value: &str| post(format!("Content-Length: {value}"), "12345");
    let two = |first: &str, second: &str| {
        post(format!("Content-Length: {first}\r\nContent-Length: {second}"), "12345")
    };
    assert_outcomes(&[
        no_http("case 66: a sign", length("+5")),
        no_http("case 66: negative", length("-5")),
        no_http("case 66: empty", length("")),
        no_http("case 66: a list of one length", length("5,5")),
        no_http("case 66: a list of one length, spaced", length("5, 5")),
        no_http("case 66: a list of two lengths", length("5,6")),
        no_http("case 66: a space inside", length("5 5")),
        no_http("case 66: hexadecimal", length("0x5")),
        no_http("case 66: a fraction", length("5.0")),
        no_http("case 66: a letter", length("5b")),
        no_http("case 66: two that differ", two("5", "6")),
        no_http("case 66: two that differ, the other way", two("6", "5")),
        no_http("case 66: two, one of them none", two("5", "")),
        no_http("case 66: beyond 64 bits", length("18446744073709551616")),
        no_http("case 66: beyond 64 bits and around", length("18446744073709551621")),
        forwarded("case 66: plain", EVENTS, length("5")),
    ]);
}

/// Cases 64 and 66: a request with both framings, or with one length twice, is refused, or arrives with one framing and with
/// exactly the bytes of the body.
#[test]
fn two_framings_become_one() {
    for (fields, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "1\r\na\r\n0\r\n\r\n"),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n"),
        ("Content-Length: 1\r\nContent-Length: 1", "a"),
        ("Content-Length: 1\r\nContent-Length: 01", "a"),
        ("Content-Length: 00000000000000000000001", "a"),
    ] {
        let backend = Backend::ok();
        let proxy = Setup::new(&backend.url()).policy(NARROW).start();
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send(post(fields, format!("{body}{HIDDEN}"))).unwrap();
        let answer = connection.answer_to("POST").unwrap();
        let seen = backend.received();
        match answer.status {
            400 => assert!(seen.is_empty(), "{seen:?}"),
            status => {
                assert_eq!((status, seen[0].body.as_slice()), (200, b"a".as_slice()), "{fields:?}");
                let framings = ["content-length", "transfer-encoding"].map(|name| seen[0].header(name).len());
                assert_eq!(framings.iter().sum::<usize>(), 1, "{}", seen[0].head);
            }
        }
        if fields.contains("chunked") {
            assert!(connection.is_closed(), "{fields:?}: and nothing after it is a request");
            assert!(backend.received().len() <= 1, "{fields:?}: {:?}", backend.received());
        }
        let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
        stranger.send(post(fields, body)).unwrap();
        assert_eq!(stranger.answer_to("POST").unwrap().verdict(), "401 not_authenticated", "{fields:?}");
    }
}

/// Case 67: a body with a broken chunk is never complete at the backend, and nothing after the body is parsed as a request.
#[test]
fn a_body_with_a_broken_chunk_is_never_complete() {
    let flood = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(100_000));
    let many = format!("{}0\r\n\r\n", "1;xxxxxxxxxxxxxxxxxxxxxxxx\r\na\r\n".repeat(4000));
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (name, body) in [
        ("no number", "zz\r\na\r\n0\r\n\r\n"),
        ("no size", "\r\na\r\n0\r\n\r\n"),
        ("negative", "-1\r\na\r\n0\r\n\r\n"),
        ("a sign", "+1\r\na\r\n0\r\n\r\n"),
        ("with 0x", "0x1\r\na\r\n0\r\n\r\n"),
        ("beyond 64 bits", "10000000000000001\r\na\r\n0\r\n\r\n"),
        ("a chunk longer than it says", "1\r\nab\r\n0\r\n\r\n"),
        ("a bare line feed after the size", "1\na\r\n0\r\n\r\n"),
        ("a bare line feed after the chunk", "1\r\na\n0\r\n\r\n"),
        ("a bare line feed in an extension", "1;x\ny\r\na\r\n0\r\n\r\n"),
        ("a bare CR after the size", "1\ra\r\n0\r\n\r\n"),
        ("an extension without an end", flood.as_str()),
        ("extensions everywhere", many.as_str()),
    ] {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        let _ = connection.send(chunked(format!("{body}{HIDDEN}")));
        let status = connection.answer_to("POST").map_or(0, |answer| answer.status);
        assert_ne!(status, 200, "{name}");
        assert!(connection.is_closed(), "{name}: the connection goes on");
        let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
        let _ = stranger.send(chunked(body));
        assert_eq!(stranger.answer_to("POST").unwrap().verdict(), "401 not_authenticated", "{name}");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

/// Case 68: a refused request is answered at once, for every reason of refusal. Its body is never parsed as a request,
/// however the body is framed.
#[test]
fn a_refused_body_is_never_a_request() {
    let (backend, refusing) = (Backend::ok(), RefusingPort::new());
    let open = Setup::new(&backend.url()).policy(NARROW).start();
    let broken = Setup::new(&refusing.url()).policy(NARROW).start();
    let padded = format!("{}{HIDDEN}", "x".repeat(200_000));
    for body in [HIDDEN, padded.as_str()] {
        let length = body.len();
        let counted = |path: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let in_chunks = |path: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
            )
        };
        for (proxy, client, path, verdict) in [
            (&open, open.anonymous(), "/events", "401 not_authenticated"),
            (&open, open.consumer(), "/events", "403 insufficient_permissions"),
            (&open, open.producer(), "/admin", "403 insufficient_permissions"),
            (&open, open.producer(), "/a//b", "400 ambiguous_request"),
            (&broken, broken.producer(), "/events", "504 backend_unavailable"),
        ] {
            for request in [counted(path), in_chunks(path)] {
                let mut connection = client.connect(proxy.address).unwrap();
                let _ = connection.send(&request);
                match connection.answer_to("POST") {
                    Ok(answer) => assert_eq!(answer.verdict(), verdict),
                    // The answer may be lost if the body is longer than what the proxy drains before it closes the
                    // connection.
                    Err(error) => assert!(length > 64 * 1024, "{verdict}: {error}"),
                }
                let _ = connection.send("GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                let rest =
                    String::from_utf8_lossy(&connection.read_to_end().unwrap_or_default()).into_owned();
                assert!(rest.matches("HTTP/1.1 ").count() <= 1, "an answer to what was hidden: {rest}");
            }
        }
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

/// Case 69: bytes after an `Upgrade` that is not permitted are judged as an ordinary request.
#[test]
fn bytes_after_a_refused_upgrade_are_judged() {
    let asked = |upgrade: &str| {
        format!(
            "GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n{upgrade}\r\n\r\n\
             GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
    };
    for upgrade in
        ["Upgrade: websocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Upgrade: TLS/1.3"]
    {
        let backend = Backend::ok();
        let proxy = Setup::new(&backend.url()).policy(NARROW).start();
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send(asked(upgrade)).unwrap();
        assert_eq!(connection.answer_to("GET").unwrap().status, 200, "{upgrade}");
        assert_eq!(
            connection.answer_to("GET").unwrap().verdict(),
            "403 insufficient_permissions",
            "{upgrade}"
        );
        let [seen] = <[_; 1]>::try_from(backend.received()).unwrap();
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert!(seen.header(gone).is_empty(), "{upgrade}: {}", seen.head);
        }
    }
}

/// Case 71: a client that sends `Expect: 100-continue` with a refused request gets the refusal and no 100. The bytes that
/// follow are not read as a body.
#[test]
fn a_refused_request_gets_no_100_continue() {
    let expecting = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (client, path, verdict) in [
        (proxy.anonymous(), "/events", "401 not_authenticated"),
        (proxy.consumer(), "/events", "403 insufficient_permissions"),
        (proxy.producer(), "/admin", "403 insufficient_permissions"),
        (proxy.producer(), "/events;x", "400 ambiguous_request"),
    ] {
        let mut connection = client.connect(proxy.address).unwrap();
        let answer = connection.ask(&expecting(path)).unwrap();
        assert_eq!((answer.verdict().as_str(), answer.informational.len()), (verdict, 0));
        let _ = connection.send(HIDDEN);
        assert!(connection.is_closed(), "{verdict}: this could be the body or a request");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());

    // A client gets its 100 and then closes without a body. The backend never gets a complete request, and the next request
    // is served.
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send(expecting("/events")).unwrap();
    assert_eq!(connection.read_line().unwrap(), "HTTP/1.1 100 Continue");
    drop(connection);
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().status, 200);
    assert_eq!(connection.post("/events", "whole").unwrap().status, 200);
    let bodies: Vec<_> = backend.received().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"".to_vec(), b"whole".to_vec()]);
}

/// Requests that arrive together are judged one by one.
#[test]
fn pipelined_requests_are_each_judged() {
    let follow = |case: Case| Case { bytes: [post("Content-Length: 0", ""), case.bytes].concat(), ..case };
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for case in [follow(ambiguous("a path", get("/a//b"))), follow(denied("denied", get("/admin")))] {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send(&case.bytes).unwrap();
        assert_eq!(connection.answer_to("POST").unwrap().status, 200);
        assert_eq!(connection.answer_to("GET").unwrap().verdict(), case.verdict);
    }
    assert_eq!(backend.received().len(), 2);
}
