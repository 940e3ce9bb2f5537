//! Framing: every parser must find the same end of a forwarded request, and bytes after a refused request are never parsed as
//! another request.

use super::outcomes::{Case, NARROW, ambiguous, assert_outcomes, denied, forwarded, get, malformed, post};
use crate::support::backend::RefusingPort;
use crate::support::{Backend, Setup};

const EVENTS: &str = "POST /events HTTP/1.1";
/// A request hidden in a body or after a request.
const HIDDEN: &str = "GET /exact HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

#[test]
fn every_transfer_encoding_except_chunked_is_refused() {
    let coded = |coding: &str| post(format!("Transfer-Encoding: {coding}"), "1\r\na\r\n0\r\n\r\n");
    let two = |first: &str, second: &str| {
        post(format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}"), "1\r\na\r\n0\r\n\r\n")
    };
    assert_outcomes(&[
        malformed("case 65: chunked before another coding", coded("chunked, gzip")),
        malformed("case 65: another coding", coded("gzip")),
        malformed("case 65: another coding before chunked", coded("gzip, chunked")),
        malformed("case 65: chunked twice", coded("chunked, chunked")),
        malformed("case 65: chunked twice, in two lines", two("chunked", "chunked")),
        malformed("case 65: another coding before chunked, in two lines", two("gzip", "chunked")),
        malformed("case 65: identity before chunked", coded("identity, chunked")),
        malformed("case 65: identity", coded("identity")),
        malformed("case 65: identity after chunked", coded("chunked, identity")),
        malformed("case 65: a coding like chunked", coded("xchunked")),
        malformed("case 65: a quoted coding", coded("\"chunked\"")),
        malformed("case 65: a parameter", coded("chunked;x=1")),
        malformed("case 65: a vertical tab before the coding", coded("\x0bchunked")),
        malformed("case 65: an empty coding", coded("")),
        malformed("case 65: two lines, identity last", two("chunked", "identity")),
        malformed("case 65: two lines, an unknown coding last", two("chunked", "x")),
        malformed(
            "case 65: chunked in HTTP/1.0",
            b"POST /events HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        forwarded("case 65: chunked in capitals", EVENTS, coded("CHUNKED")),
    ]);
}

#[test]
fn malformed_and_conflicting_lengths_are_refused() {
    let length = |value: &str| post(format!("Content-Length: {value}"), "12345");
    let two = |first: &str, second: &str| {
        post(format!("Content-Length: {first}\r\nContent-Length: {second}"), "12345")
    };
    assert_outcomes(&[
        malformed("case 66: a sign", length("+5")),
        malformed("case 66: negative", length("-5")),
        malformed("case 66: an empty length", length("")),
        malformed("case 66: a list of equal lengths", length("5,5")),
        malformed("case 66: a list of equal lengths with a space", length("5, 5")),
        malformed("case 66: a list of two lengths", length("5,6")),
        malformed("case 66: a space inside", length("5 5")),
        malformed("case 66: hexadecimal", length("0x5")),
        malformed("case 66: a fraction", length("5.0")),
        malformed("case 66: a letter", length("5b")),
        malformed("case 66: two different lengths", two("5", "6")),
        malformed("case 66: two different lengths, the larger first", two("6", "5")),
        malformed("case 66: two lengths, one empty", two("5", "")),
        malformed("case 66: beyond 64 bits", length("18446744073709551616")),
        malformed("case 66: beyond 64 bits, equal to 5 after an overflow", length("18446744073709551621")),
        forwarded("case 66: a correct length", EVENTS, length("5")),
    ]);
}

/// Cases 64 and 66: a request with both framings, or with a length twice, is refused or forwarded with one framing and the
/// right body.
#[test]
fn two_framings_are_refused_or_become_one() {
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
        let received = backend.received();
        match answer.status {
            400 => assert!(received.is_empty(), "{received:?}"),
            status => {
                assert_eq!((status, received[0].body.as_slice()), (200, b"a".as_slice()), "{fields:?}");
                let framings =
                    ["content-length", "transfer-encoding"].map(|name| received[0].header(name).len());
                assert_eq!(framings.iter().sum::<usize>(), 1, "{}", received[0].head);
            }
        }
        if fields.contains("chunked") {
            assert!(connection.is_closed(), "{fields:?}: the bytes after it must not be parsed as a request");
            assert!(backend.received().len() <= 1, "{fields:?}: {:?}", backend.received());
        }
        let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
        stranger.send(post(fields, body)).unwrap();
        assert_eq!(stranger.answer_to("POST").unwrap().verdict(), "401 not_authenticated", "{fields:?}");
    }
}

/// Case 67: a body with malformed chunks never ends at the backend, and the bytes after it are never parsed as a request.
#[test]
fn malformed_chunks_are_refused() {
    let flood = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(100_000));
    let many = format!("{}0\r\n\r\n", "1;xxxxxxxxxxxxxxxxxxxxxxxx\r\na\r\n".repeat(4000));
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (name, body) in [
        ("a size that is not a number", "zz\r\na\r\n0\r\n\r\n"),
        ("an empty size", "\r\na\r\n0\r\n\r\n"),
        ("a negative size", "-1\r\na\r\n0\r\n\r\n"),
        ("a size with a sign", "+1\r\na\r\n0\r\n\r\n"),
        ("a size with 0x", "0x1\r\na\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000001\r\na\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "1\r\nab\r\n0\r\n\r\n"),
        ("a bare line feed after the size", "1\na\r\n0\r\n\r\n"),
        ("a bare line feed after the chunk", "1\r\na\n0\r\n\r\n"),
        ("a bare line feed in an extension", "1;x\ny\r\na\r\n0\r\n\r\n"),
        ("a bare CR after the size", "1\ra\r\n0\r\n\r\n"),
        ("an endless extension", flood.as_str()),
        ("many extensions", many.as_str()),
    ] {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        let _ = connection.send(chunked(format!("{body}{HIDDEN}")));
        let status = connection.answer_to("POST").map_or(0, |answer| answer.status);
        assert_ne!(status, 200, "{name}");
        assert!(connection.is_closed(), "{name}: the connection stays open");
        let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
        let _ = stranger.send(chunked(body));
        assert_eq!(stranger.answer_to("POST").unwrap().verdict(), "401 not_authenticated", "{name}");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

/// Case 68: the body of a refused request is never parsed as a request, for every refusal and both framings.
#[test]
fn the_body_of_a_refused_request_is_never_parsed_as_a_request() {
    let (backend, refusing) = (Backend::ok(), RefusingPort::new());
    let working = Setup::new(&backend.url()).policy(NARROW).start();
    let broken = Setup::new(&refusing.url()).policy(NARROW).start();
    let padded = format!("{}{HIDDEN}", "x".repeat(200_000));
    for body in [HIDDEN, padded.as_str()] {
        for (proxy, client, path, verdict) in [
            (&working, working.anonymous(), "/events", "401 not_authenticated"),
            (&working, working.consumer(), "/events", "403 insufficient_permissions"),
            (&working, working.producer(), "/admin", "403 insufficient_permissions"),
            (&working, working.producer(), "/a//b", "400 ambiguous_request"),
            (&broken, broken.producer(), "/events", "504 backend_unavailable"),
        ] {
            let length = body.len();
            for framed in [
                format!("Content-Length: {length}\r\n\r\n{body}"),
                format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            ] {
                let mut connection = client.connect(proxy.address).unwrap();
                let _ = connection.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{framed}"));
                match connection.answer_to("POST") {
                    Ok(answer) => assert_eq!(answer.verdict(), verdict),
                    // The proxy reads only a part of a long body; closing the connection then may lose the answer.
                    Err(error) => assert!(length > 64 * 1024, "{verdict}: {error}"),
                }
                let _ = connection.send("GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                let rest =
                    String::from_utf8_lossy(&connection.read_to_end().unwrap_or_default()).into_owned();
                assert!(rest.matches("HTTP/1.1 ").count() <= 1, "an answer to the hidden request: {rest}");
            }
        }
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

/// Case 69: bytes after an `Upgrade` that is not permitted are requests like all others.
#[test]
fn a_request_after_a_refused_upgrade_is_judged() {
    let with_upgrade = |upgrade: &str| {
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
        connection.send(with_upgrade(upgrade)).unwrap();
        assert_eq!(connection.answer_to("GET").unwrap().status, 200, "{upgrade}");
        assert_eq!(
            connection.answer_to("GET").unwrap().verdict(),
            "403 insufficient_permissions",
            "{upgrade}"
        );
        let [forwarded] = <[_; 1]>::try_from(backend.received()).unwrap();
        for header in ["upgrade", "http2-settings", "connection"] {
            assert!(forwarded.header(header).is_empty(), "{upgrade}: {}", forwarded.head);
        }
    }
}

/// Case 71: a refused request with `Expect: 100-continue` gets the refusal and no 100, and the bytes after it are never
/// parsed as a request.
#[test]
fn a_refused_request_with_expect_gets_no_100() {
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
        assert!(connection.is_closed(), "{verdict}: these bytes may be the body or a request");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());

    // A client that gets 100 and then sends no body: the backend gets no complete request, and the next request is served.
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

#[test]
fn each_pipelined_request_is_judged() {
    let after_post =
        |case: Case| Case { bytes: [post("Content-Length: 0", ""), case.bytes].concat(), ..case };
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for case in [after_post(ambiguous("a path", get("/a//b"))), after_post(denied("denied", get("/admin")))] {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send(&case.bytes).unwrap();
        assert_eq!(connection.answer_to("POST").unwrap().status, 200);
        assert_eq!(connection.answer_to("GET").unwrap().verdict(), case.verdict);
    }
    assert_eq!(backend.received().len(), 2);
}
