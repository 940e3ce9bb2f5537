//! Malformed requests of HTTP/2 (RFC 9113 §8.1 to §8.3), sent as single frames.

use super::outcomes::{NARROW, start_lines_after};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fields, Frames, HEADERS, PROTOCOL_ERROR, Reaction, block,
    frame, headers, request_with_trailers,
};
use crate::support::{Backend, Client, Proxy, Setup};

/// The reaction to a malformed request.
const MALFORMED: Reaction = Reaction::Reset(PROTOCOL_ERROR);
/// The reaction to a header block that cannot be decoded; it ends the connection (RFC 9113 §5.4.1).
const BROKEN: Reaction = Reaction::GoAway(PROTOCOL_ERROR);
/// The refusal `400 ambiguous_request`.
const AMBIGUOUS: Reaction = Reaction::Answer(400);
const DENIED: Reaction = Reaction::Answer(403);

const METHOD: (&str, &str) = (":method", "GET");
const METHOD_POST: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "localhost");
const PATH: (&str, &str) = (":path", "/events");

/// Checks the reaction to stream 1 for the frames of each case. A stranger gets 401 instead of any other answer.
#[track_caller]
fn assert_reactions(cases: &[(&str, Vec<u8>, Reaction)]) {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let before = backend.received().len();
        for client in [proxy.producer(), proxy.anonymous()] {
            let is_stranger = !client.config.client_auth_cert_resolver.has_certs();
            let expected = match expected {
                Reaction::Answer(_) if is_stranger => Reaction::Answer(401),
                expected => *expected,
            };
            let got = reaction(&proxy, &client, bytes);
            if got != expected {
                wrong.push(format!("{name}: {got:?}, not {expected:?}"));
            }
        }
        for request in &backend.received()[before..] {
            wrong.push(format!("{name}: the backend got {}", request.head));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn reaction(proxy: &Proxy, client: &Client, bytes: &[u8]) -> Reaction {
    let mut frames = Frames::connect(client, proxy.address).unwrap();
    let _ = frames.send(bytes);
    frames.reaction(1)
}

fn request(fields: Fields<'_>) -> Vec<u8> {
    headers(1, END_STREAM, fields)
}

/// Returns a correct request with one more field.
fn with(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let good = block(&[METHOD, SCHEME, AUTHORITY, PATH]);
    let block = [good, block(&[(name, value)])].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, block)
}

/// Returns a request that is correct except for its path, in as many frames as needed.
fn at(path: impl AsRef<[u8]>) -> Vec<u8> {
    let block = [block(&[METHOD, SCHEME, AUTHORITY]), block(&[(":path", path)])].concat();
    let (first, rest) = block.split_at(block.len().min(16_000));
    if rest.is_empty() {
        return frame(HEADERS, END_STREAM | END_HEADERS, 1, block);
    }
    [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
}

#[test]
fn wrong_pseudo_header_fields_are_refused() {
    assert_reactions(&[
        ("no method", request(&[SCHEME, AUTHORITY, PATH]), MALFORMED),
        ("no scheme", request(&[METHOD, AUTHORITY, PATH]), MALFORMED),
        ("case 41: no path", request(&[METHOD, SCHEME, AUTHORITY]), MALFORMED),
        ("case 61: no authority and no host", request(&[METHOD, SCHEME, PATH]), AMBIGUOUS),
        ("two methods", request(&[METHOD, (":method", "POST"), SCHEME, AUTHORITY, PATH]), MALFORMED),
        ("two schemes", request(&[METHOD, SCHEME, SCHEME, AUTHORITY, PATH]), MALFORMED),
        (
            "case 61: two authorities",
            request(&[METHOD, SCHEME, AUTHORITY, (":authority", "b"), PATH]),
            MALFORMED,
        ),
        ("case 41: two paths", request(&[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/admin")]), MALFORMED),
        (
            "a pseudo-header field after a field",
            request(&[METHOD, SCHEME, AUTHORITY, ("accept", "a"), PATH]),
            MALFORMED,
        ),
        (
            "an unknown pseudo-header field",
            request(&[METHOD, SCHEME, AUTHORITY, PATH, (":user", "root")]),
            BROKEN,
        ),
        (
            "a pseudo-header field of answers",
            request(&[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")]),
            MALFORMED,
        ),
        (
            "a pseudo-header field of extended CONNECT",
            request(&[METHOD, SCHEME, AUTHORITY, PATH, (":protocol", "websocket")]),
            MALFORMED,
        ),
        (
            "extended CONNECT, which is not enabled",
            request(&[(":method", "CONNECT"), SCHEME, AUTHORITY, PATH, (":protocol", "websocket")]),
            MALFORMED,
        ),
        ("no pseudo-header field", request(&[("accept", "a")]), MALFORMED),
        ("an empty name", request(&[METHOD, SCHEME, AUTHORITY, PATH, ("", "a")]), BROKEN),
        ("case 43: a tunnel", request(&[(":method", "CONNECT"), (":authority", "localhost:443")]), DENIED),
        (
            "case 43: a tunnel with a path",
            request(&[(":method", "CONNECT"), SCHEME, (":authority", "localhost:443"), PATH]),
            MALFORMED,
        ),
        ("case 70: an unknown scheme", request(&[METHOD, (":scheme", "ftp"), AUTHORITY, PATH]), AMBIGUOUS),
        (
            "case 70: a line break in the scheme",
            request(&[METHOD, (":scheme", "https\r\nx: y"), AUTHORITY, PATH]),
            MALFORMED,
        ),
        ("case 70: an empty scheme", request(&[METHOD, (":scheme", ""), AUTHORITY, PATH]), AMBIGUOUS),
        (
            "case 46: a space in the method",
            request(&[(":method", "GET /x"), SCHEME, AUTHORITY, PATH]),
            BROKEN,
        ),
        (
            "case 70: a line break in the method",
            request(&[(":method", "GET\r\nx: y"), SCHEME, AUTHORITY, PATH]),
            BROKEN,
        ),
        ("case 46: an empty method", request(&[(":method", ""), SCHEME, AUTHORITY, PATH]), BROKEN),
        (
            "case 46: a method in lower case",
            request(&[(":method", "get"), SCHEME, AUTHORITY, PATH]),
            AMBIGUOUS,
        ),
        (
            "case 61: a user in the authority",
            request(&[METHOD, SCHEME, (":authority", "user@localhost"), PATH]),
            AMBIGUOUS,
        ),
        (
            "case 70: a line break in the authority",
            request(&[METHOD, SCHEME, (":authority", "a\r\nx: y"), PATH]),
            MALFORMED,
        ),
        (
            "case 61: a path in the authority",
            request(&[METHOD, SCHEME, (":authority", "a/b"), PATH]),
            MALFORMED,
        ),
        ("case 61: an empty authority", request(&[METHOD, SCHEME, (":authority", ""), PATH]), MALFORMED),
        ("case 61: a host that differs from the authority", with("host", "elsewhere"), AMBIGUOUS),
        (
            "case 61: two hosts",
            request(&[METHOD, SCHEME, PATH, ("host", "localhost"), ("host", "b")]),
            AMBIGUOUS,
        ),
    ]);
}

#[test]
fn ambiguous_and_malformed_paths_are_refused() {
    assert_reactions(&[
        ("case 41: an empty path", at(""), MALFORMED),
        ("case 41: a path without a slash", at("events"), MALFORMED),
        ("case 41: a query only", at("?/events"), AMBIGUOUS),
        ("case 41: a URL", at("https://localhost/events"), MALFORMED),
        ("case 41: a star", at("*"), AMBIGUOUS),
        ("case 70: a line break in the path", at("/events HTTP/1.1\r\nx: y"), MALFORMED),
        ("case 70: a space in the path", at("/events x"), MALFORMED),
        ("case 70: NUL in the path", at("/events\0"), MALFORMED),
        ("case 70: a tab in the path", at("/events\t"), MALFORMED),
        ("case 36: NUL", at("/events%00"), AMBIGUOUS),
        ("case 36: a line break", at("/events%0d%0ax:%20y"), AMBIGUOUS),
        ("case 36: DEL", at("/events%7f"), AMBIGUOUS),
        ("case 36: an escape without hexadecimal digits", at("/public/%zz"), AMBIGUOUS),
        ("case 36: an incomplete escape", at("/public/%2"), AMBIGUOUS),
        ("case 36: overlong UTF-8", at("/public/%c0%ae%c0%ae/admin"), AMBIGUOUS),
        ("case 36: a raw control", at("/events\x01"), MALFORMED),
        ("case 36: a raw DEL", at("/events\x7f"), MALFORMED),
        ("case 36: a line break in the query", at("/events?x=%0a"), AMBIGUOUS),
        ("case 36: raw UTF-8", at("/\u{e9}"), AMBIGUOUS),
        ("case 36: a byte that is not UTF-8", at(b"/\xff"), BROKEN),
        ("case 32: dots", at("/public/../admin"), AMBIGUOUS),
        ("case 32: encoded dots", at("/public/%2e%2e/admin"), AMBIGUOUS),
        ("case 32: half encoded dots", at("/public/.%2E/admin"), AMBIGUOUS),
        ("case 32: one dot", at("/./events"), AMBIGUOUS),
        ("case 33: an empty segment at the start", at("//events"), AMBIGUOUS),
        ("case 33: an empty segment inside", at("/public//x"), AMBIGUOUS),
        ("case 33: only empty segments", at("///"), AMBIGUOUS),
        ("case 34: an encoded slash", at("/public%2fadmin"), AMBIGUOUS),
        ("case 34: an encoded backslash", at("/public/..%5Cadmin"), AMBIGUOUS),
        ("case 34: a backslash", at("/public/..\\admin"), AMBIGUOUS),
        ("case 35: dots, encoded twice", at("/%252e%252e/admin"), AMBIGUOUS),
        ("case 37: a parameter", at("/events;x"), AMBIGUOUS),
        ("case 37: a semicolon before dots", at("/public;/../admin"), AMBIGUOUS),
        ("case 37: an encoded semicolon", at("/events%3bx"), AMBIGUOUS),
        ("case 38: a denied path before the fragment", at("/admin#/events"), DENIED),
        ("case 39: an allowed path in the query", at("/admin?/events"), DENIED),
        ("case 39: an encoded question mark", at("/events%3Fx"), DENIED),
        ("case 40: capitals", at("/EVENTS"), DENIED),
        ("case 40: an escaped capital", at("/%45vents"), DENIED),
        ("case 44: a slash at the end", at("/exact/"), DENIED),
        ("case 44: a dot at the end", at("/exact."), DENIED),
        ("case 44: a space at the end", at("/exact%20"), DENIED),
        ("case 45: a path longer than allowed", at(format!("/{}", "a".repeat(20_000))), AMBIGUOUS),
        ("case 45: too many segments", at("/a".repeat(10_000)), AMBIGUOUS),
        ("case 45: as many segments as fit", at("/a".repeat(8_000)), DENIED),
        ("case 50: a prefix ends at a slash", at("/publicity"), DENIED),
        ("case 63: a probe's path", at("/healthz"), DENIED),
    ]);
}

#[test]
fn malformed_and_connection_specific_fields_are_refused() {
    assert_reactions(&[
        ("a capital letter in a name", with("X-A", "1"), BROKEN),
        ("a space in a name", with("x a", "1"), BROKEN),
        ("a colon in a name", with("x:a", "1"), BROKEN),
        ("a line break in a name", with("x\r\na", "1"), BROKEN),
        ("a byte outside of ASCII in a name", with("x\u{e9}", "1"), BROKEN),
        ("case 70: CRLF in a value", with("x-a", "1\r\nx-b: 2"), BROKEN),
        ("case 70: LF in a value", with("x-a", "1\n2"), BROKEN),
        ("case 70: CR in a value", with("x-a", "1\r2"), BROKEN),
        ("case 70: NUL in a value", with("x-a", "1\x002"), BROKEN),
        ("the field connection", with("connection", "close"), MALFORMED),
        ("the field keep-alive", with("keep-alive", "timeout=5"), MALFORMED),
        ("the field proxy-connection", with("proxy-connection", "close"), MALFORMED),
        ("case 65: the field transfer-encoding", with("transfer-encoding", "chunked"), MALFORMED),
        ("the field upgrade", with("upgrade", "websocket"), MALFORMED),
        ("te without trailers", with("te", "gzip"), MALFORMED),
        ("te with more than trailers", with("te", "trailers, gzip"), MALFORMED),
        ("case 66: a length that is not a number", with("content-length", "x"), MALFORMED),
        ("case 66: a length with a sign", with("content-length", "+0"), MALFORMED),
        ("case 66: a list of lengths", with("content-length", "0, 0"), MALFORMED),
        ("case 70: a length without data", with("content-length", "5"), MALFORMED),
    ]);
}

/// Case 70: a request whose `content-length` differs from the length of its data is malformed (RFC 9113 §8.1.1).
#[test]
fn content_length_must_equal_the_length_of_the_data() {
    let post = |fields: Fields<'_>| {
        headers(1, 0, &[&[(":method", "POST"), SCHEME, AUTHORITY, PATH], fields].concat())
    };
    let five = &[("content-length", "5")];
    let last = |text: &str| frame(DATA, END_STREAM, 1, text);
    assert_reactions(&[
        ("too short", [post(five), last("1234")].concat(), MALFORMED),
        ("too long", [post(five), last("123456")].concat(), MALFORMED),
        (
            "too long by the last frame",
            [post(five), frame(DATA, 0, 1, "12345"), last("6")].concat(),
            MALFORMED,
        ),
        ("no data", [post(five), last("")].concat(), MALFORMED),
        (
            "two lengths",
            [post(&[("content-length", "5"), ("content-length", "6")]), last("12345")].concat(),
            MALFORMED,
        ),
        (
            "too short before trailers",
            request_with_trailers(
                1,
                &[METHOD_POST, SCHEME, AUTHORITY, PATH, five[0]],
                "1234",
                &[("x-sum", "1")],
            ),
            MALFORMED,
        ),
        (
            "trailers that do not end the stream",
            [post(&[]), frame(DATA, 0, 1, "1"), headers(1, 0, &[("x-sum", "1")])].concat(),
            MALFORMED,
        ),
    ]);
}

/// The path that is judged is forwarded byte by byte, without its fragment.
#[test]
fn the_judged_path_is_forwarded_unchanged() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (path, expected) in [
        ("/events#/../admin", "/events"),
        ("/events?x=1#y?z", "/events?x=1"),
        ("/%65vents", "/%65vents"),
        ("/events?x=/../admin", "/events?x=/../admin"),
        ("/public/..x/y..", "/public/..x/y.."),
        ("/public", "/public"),
    ] {
        let before = backend.received().len();
        assert_eq!(reaction(&proxy, &proxy.producer(), &at(path)), Reaction::Answer(200), "{path}");
        let start_lines = start_lines_after(&backend, before);
        assert_eq!(start_lines, [format!("GET {expected} HTTP/1.1")], "cases 32, 38, 39 and 40: {path}");
        assert_eq!(reaction(&proxy, &proxy.anonymous(), &at(path)), Reaction::Answer(401), "{path}");
    }
}

/// Pseudo-header fields are forbidden in trailers (RFC 9113 §8.1); they must not change the request.
#[test]
fn pseudo_header_fields_in_trailers_are_never_forwarded() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let head = [(":method", "POST"), SCHEME, AUTHORITY, PATH, ("te", "trailers")];
    let trailers = [(":path", "/admin"), (":method", "DELETE"), ("x-sum", "1")];
    connection.send(request_with_trailers(1, &head, "1", &trailers)).unwrap();
    let reaction = connection.reaction(1);
    if reaction == Reaction::Answer(200) {
        let raw = String::from_utf8(backend.wait_for(1).remove(0).raw).unwrap();
        assert!(raw.starts_with("POST /events HTTP/1.1\r\n"), "{raw}");
        assert!(!raw.contains("/admin") && !raw.contains("DELETE"), "{raw}");
    } else {
        assert_eq!(reaction, MALFORMED);
    }
}

#[test]
fn a_malformed_request_ends_only_its_own_stream() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(request(&[METHOD, SCHEME, AUTHORITY, PATH, ("connection", "close")])).unwrap();
    assert_eq!(connection.reaction(1), MALFORMED);
    let next = [METHOD, SCHEME, AUTHORITY, PATH, ("te", "trailers")];
    connection.send(headers(3, END_STREAM, &next)).unwrap();
    assert_eq!(connection.reaction(3), Reaction::Answer(200));
    assert_eq!(backend.received().len(), 1);
}
