//! Malformed requests of HTTP/2 (RFC 9113 §8.1 to §8.3), in frames made by hand.

use super::outcomes::NARROW;
use crate::support::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Reaction, block, frame, headers,
};
use crate::support::{Backend, Client, Proxy, Setup};

type Fields = &'static [(&'static str, &'static str)];

/// A stream error PROTOCOL_ERROR.
const MALFORMED: Reaction = Reaction::Reset(1);
/// A connection error PROTOCOL_ERROR: a broken header block belongs to no stream that could be reset (RFC 9113 §5.4.1).
const BROKEN: Reaction = Reaction::GoAway(1);
/// The proxy's own `400 ambiguous_request`.
const AMBIGUOUS: Reaction = Reaction::Answer(400);
const DENIED: Reaction = Reaction::Answer(403);

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "localhost");
const PATH: (&str, &str) = (":path", "/events");

/// Sends the frames of each case and asserts the reaction on stream 1. A client without a certificate gets 401 in every case
/// that has an answer.
#[track_caller]
pub fn assert_reactions(cases: &[(&str, Vec<u8>, Reaction)]) {
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
        for seen in &backend.received()[before..] {
            wrong.push(format!("{name}: the backend saw {}", seen.head));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn reaction(proxy: &Proxy, client: &Client, bytes: &[u8]) -> Reaction {
    let mut frames = Frames::connect(client, proxy.address).unwrap();
    let _ = frames.send(bytes);
    frames.reaction(1)
}

fn asked(fields: Fields) -> Vec<u8> {
    headers(1, END_STREAM, fields)
}

/// Returns a good request with one more field.
fn with(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let good = block(&[METHOD, SCHEME, AUTHORITY, PATH]);
    let block = [good, block(&[(name, value)])].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, block)
}

/// Returns a good request with this path, in as many frames as necessary.
fn at(path: impl AsRef<[u8]>) -> Vec<u8> {
    let block = [block(&[METHOD, SCHEME, AUTHORITY]), block(&[(":path", path)])].concat();
    let (first, rest) = block.split_at(block.len().min(16_000));
    if rest.is_empty() {
        return frame(HEADERS, END_STREAM | END_HEADERS, 1, block);
    }
    [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
}

#[test]
fn malformed_pseudo_headers_are_refused() {
    assert_reactions(&[
        ("no method", asked(&[SCHEME, AUTHORITY, PATH]), MALFORMED),
        ("no scheme", asked(&[METHOD, AUTHORITY, PATH]), MALFORMED),
        ("case 41: no path", asked(&[METHOD, SCHEME, AUTHORITY]), MALFORMED),
        ("case 61: no authority and no host", asked(&[METHOD, SCHEME, PATH]), AMBIGUOUS),
        ("two methods", asked(&[METHOD, (":method", "POST"), SCHEME, AUTHORITY, PATH]), MALFORMED),
        ("two schemes", asked(&[METHOD, SCHEME, SCHEME, AUTHORITY, PATH]), MALFORMED),
        (
            "case 61: two authorities",
            asked(&[METHOD, SCHEME, AUTHORITY, (":authority", "b"), PATH]),
            MALFORMED,
        ),
        ("case 41: two paths", asked(&[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/admin")]), MALFORMED),
        ("after a field", asked(&[METHOD, SCHEME, AUTHORITY, ("accept", "a"), PATH]), MALFORMED),
        ("unknown", asked(&[METHOD, SCHEME, AUTHORITY, PATH, (":user", "root")]), BROKEN),
        ("of an answer", asked(&[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")]), MALFORMED),
        ("of an extension", asked(&[METHOD, SCHEME, AUTHORITY, PATH, (":protocol", "websocket")]), MALFORMED),
        (
            "of an extension, to a tunnel",
            asked(&[(":method", "CONNECT"), SCHEME, AUTHORITY, PATH, (":protocol", "websocket")]),
            MALFORMED,
        ),
        ("none", asked(&[("accept", "a")]), MALFORMED),
        ("no name", asked(&[METHOD, SCHEME, AUTHORITY, PATH, ("", "a")]), BROKEN),
        ("case 43: a tunnel", asked(&[(":method", "CONNECT"), (":authority", "localhost:443")]), DENIED),
        (
            "case 43: a tunnel with a path",
            asked(&[(":method", "CONNECT"), SCHEME, (":authority", "localhost:443"), PATH]),
            MALFORMED,
        ),
        ("case 70: an odd scheme", asked(&[METHOD, (":scheme", "ftp"), AUTHORITY, PATH]), AMBIGUOUS),
        (
            "case 70: a scheme with a line",
            asked(&[METHOD, (":scheme", "https\r\nx: y"), AUTHORITY, PATH]),
            MALFORMED,
        ),
        ("case 70: an empty scheme", asked(&[METHOD, (":scheme", ""), AUTHORITY, PATH]), AMBIGUOUS),
        ("case 46: a space in the method", asked(&[(":method", "GET /x"), SCHEME, AUTHORITY, PATH]), BROKEN),
        (
            "case 70: a line in the method",
            asked(&[(":method", "GET\r\nx: y"), SCHEME, AUTHORITY, PATH]),
            BROKEN,
        ),
        ("case 46: no method in it", asked(&[(":method", ""), SCHEME, AUTHORITY, PATH]), BROKEN),
        ("case 46: small letters", asked(&[(":method", "get"), SCHEME, AUTHORITY, PATH]), AMBIGUOUS),
        ("case 61: a user", asked(&[METHOD, SCHEME, (":authority", "user@localhost"), PATH]), AMBIGUOUS),
        (
            "case 70: a line in the authority",
            asked(&[METHOD, SCHEME, (":authority", "a\r\nx: y"), PATH]),
            MALFORMED,
        ),
        (
            "case 61: a path in the authority",
            asked(&[METHOD, SCHEME, (":authority", "a/b"), PATH]),
            MALFORMED,
        ),
        ("case 61: an empty authority", asked(&[METHOD, SCHEME, (":authority", ""), PATH]), MALFORMED),
        ("case 61: another host", with("host", "elsewhere"), AMBIGUOUS),
        (
            "case 61: two hosts",
            asked(&[METHOD, SCHEME, PATH, ("host", "localhost"), ("host", "b")]),
            AMBIGUOUS,
        ),
    ]);
}

#[test]
fn paths_with_two_readings_are_refused() {
    assert_reactions(&[
        ("case 41: empty", at(""), MALFORMED),
        ("case 41: no slash", at("events"), MALFORMED),
        ("case 41: a query only", at("?/events"), AMBIGUOUS),
        ("case 41: a URL", at("https://localhost/events"), MALFORMED),
        ("case 41: a star", at("*"), AMBIGUOUS),
        ("case 70: a line", at("/events HTTP/1.1\r\nx: y"), MALFORMED),
        ("case 70: a space", at("/events x"), MALFORMED),
        ("case 70: NUL", at("/events\0"), MALFORMED),
        ("case 70: a tab", at("/events\t"), MALFORMED),
        ("case 36: NUL", at("/events%00"), AMBIGUOUS),
        ("case 36: a line break", at("/events%0d%0ax:%20y"), AMBIGUOUS),
        ("case 36: DEL", at("/events%7f"), AMBIGUOUS),
        ("case 36: no hexadecimal", at("/public/%zz"), AMBIGUOUS),
        ("case 36: cut short", at("/public/%2"), AMBIGUOUS),
        ("case 36: overlong", at("/public/%c0%ae%c0%ae/admin"), AMBIGUOUS),
        ("case 36: a raw control", at("/events\x01"), MALFORMED),
        ("case 36: a raw DEL", at("/events\x7f"), MALFORMED),
        ("case 36: in the query", at("/events?x=%0a"), AMBIGUOUS),
        ("case 36: raw UTF-8", at("/\u{e9}"), AMBIGUOUS),
        ("case 36: no UTF-8", at(b"/\xff"), BROKEN),
        ("case 32: dots", at("/public/../admin"), AMBIGUOUS),
        ("case 32: encoded", at("/public/%2e%2e/admin"), AMBIGUOUS),
        ("case 32: half encoded", at("/public/.%2E/admin"), AMBIGUOUS),
        ("case 32: here", at("/./events"), AMBIGUOUS),
        ("case 33: an empty segment", at("//events"), AMBIGUOUS),
        ("case 33: inside", at("/public//x"), AMBIGUOUS),
        ("case 33: nothing but", at("///"), AMBIGUOUS),
        ("case 34: an encoded slash", at("/public%2fadmin"), AMBIGUOUS),
        ("case 34: an encoded backslash", at("/public/..%5Cadmin"), AMBIGUOUS),
        ("case 34: a backslash", at("/public/..\\admin"), AMBIGUOUS),
        ("case 35: encoded twice", at("/%252e%252e/admin"), AMBIGUOUS),
        ("case 37: a parameter", at("/events;x"), AMBIGUOUS),
        ("case 37: before dots", at("/public;/../admin"), AMBIGUOUS),
        ("case 37: encoded", at("/events%3bx"), AMBIGUOUS),
        ("case 38: a fragment of what is denied", at("/admin#/events"), DENIED),
        ("case 39: in the query", at("/admin?/events"), DENIED),
        ("case 39: an encoded question mark", at("/events%3Fx"), DENIED),
        ("case 40: capitals", at("/EVENTS"), DENIED),
        ("case 40: an escaped capital", at("/%45vents"), DENIED),
        ("case 44: a slash", at("/exact/"), DENIED),
        ("case 44: a dot", at("/exact."), DENIED),
        ("case 44: a space", at("/exact%20"), DENIED),
        ("case 45: longer than allowed", at(format!("/{}", "a".repeat(20_000))), AMBIGUOUS),
        ("case 45: segments without number", at("/a".repeat(10_000)), AMBIGUOUS),
        ("case 45: as many as fit", at("/a".repeat(8_000)), DENIED),
        ("case 50: a prefix ends at a slash", at("/publicity"), DENIED),
        ("case 63: a probe's path", at("/healthz"), DENIED),
    ]);
}

#[test]
fn malformed_fields_are_refused() {
    assert_reactions(&[
        ("a capital", with("X-A", "1"), BROKEN),
        ("a space in a name", with("x a", "1"), BROKEN),
        ("a colon in a name", with("x:a", "1"), BROKEN),
        ("a line in a name", with("x\r\na", "1"), BROKEN),
        ("no ASCII in a name", with("x\u{e9}", "1"), BROKEN),
        ("case 70: CRLF in a value", with("x-a", "1\r\nx-b: 2"), BROKEN),
        ("case 70: LF in a value", with("x-a", "1\n2"), BROKEN),
        ("case 70: CR in a value", with("x-a", "1\r2"), BROKEN),
        ("case 70: NUL in a value", with("x-a", "1\x002"), BROKEN),
        ("a connection", with("connection", "close"), MALFORMED),
        ("a connection that is kept", with("keep-alive", "timeout=5"), MALFORMED),
        ("a proxy's connection", with("proxy-connection", "close"), MALFORMED),
        ("case 65: a coding", with("transfer-encoding", "chunked"), MALFORMED),
        ("an upgrade", with("upgrade", "websocket"), MALFORMED),
        ("te that is no trailers", with("te", "gzip"), MALFORMED),
        ("te that is more than trailers", with("te", "trailers, gzip"), MALFORMED),
        ("case 66: no number", with("content-length", "x"), MALFORMED),
        ("case 66: a sign", with("content-length", "+0"), MALFORMED),
        ("case 66: a list", with("content-length", "0, 0"), MALFORMED),
        ("case 70: a length and no data", with("content-length", "5"), MALFORMED),
    ]);
}

/// Case 70: the declared length and the length of the data are equal, or the request is refused.
#[test]
fn a_wrong_length_of_data_is_refused() {
    let post =
        |fields: Fields| headers(1, 0, &[&[(":method", "POST"), SCHEME, AUTHORITY, PATH], fields].concat());
    let five: Fields = &[("content-length", "5")];
    let last = |text: &str| frame(DATA, END_STREAM, 1, text);
    assert_reactions(&[
        ("too short", [post(five), last("1234")].concat(), MALFORMED),
        ("too long", [post(five), last("123456")].concat(), MALFORMED),
        ("too long in the end", [post(five), frame(DATA, 0, 1, "12345"), last("6")].concat(), MALFORMED),
        ("none", [post(five), last("")].concat(), MALFORMED),
        (
            "two lengths",
            [post(&[("content-length", "5"), ("content-length", "6")]), last("12345")].concat(),
            MALFORMED,
        ),
        (
            "too short before trailers",
            [post(five), frame(DATA, 0, 1, "1234"), headers(1, END_STREAM, &[("x-sum", "1")])].concat(),
            MALFORMED,
        ),
        (
            "trailers that do not end the stream",
            [post(&[]), frame(DATA, 0, 1, "1"), headers(1, 0, &[("x-sum", "1")])].concat(),
            MALFORMED,
        ),
    ]);
}

/// The backend gets the bytes that were judged, from both versions of HTTP.
#[test]
fn the_backend_gets_what_was_judged() {
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
        let [seen] = &backend.received()[before..] else { panic!("{path}: {:?}", backend.received()) };
        assert_eq!(seen.start_line(), format!("GET {expected} HTTP/1.1"), "cases 32, 38, 39 and 40: {path}");
        assert_eq!(reaction(&proxy, &proxy.anonymous(), &at(path)), Reaction::Answer(401), "{path}");
    }
}

/// Pseudo-headers have no meaning in trailers and cannot change the request.
#[test]
fn pseudo_headers_in_trailers_never_arrive() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let post: Fields = &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("te", "trailers")];
    let trailers: Fields = &[(":path", "/admin"), (":method", "DELETE"), ("x-sum", "1")];
    let request = [headers(1, 0, post), frame(DATA, 0, 1, "1"), headers(1, END_STREAM, trailers)].concat();
    connection.send(request).unwrap();
    let reaction = connection.reaction(1);
    if reaction == Reaction::Answer(200) {
        let raw = String::from_utf8(backend.wait_for(1).remove(0).raw).unwrap();
        assert!(raw.starts_with("POST /events HTTP/1.1\r\n"), "{raw}");
        assert!(!raw.contains("/admin") && !raw.contains("DELETE"), "{raw}");
    } else {
        assert_eq!(reaction, MALFORMED);
    }
}

/// A malformed request resets its own stream and no other.
#[test]
fn a_malformed_request_leaves_other_streams_alone() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let good: Fields = &[METHOD, SCHEME, AUTHORITY, PATH, ("te", "trailers")];
    connection.send(asked(&[METHOD, SCHEME, AUTHORITY, PATH, ("connection", "close")])).unwrap();
    assert_eq!(connection.reaction(1), MALFORMED);
    connection.send(frames::headers(3, END_STREAM, good)).unwrap();
    assert_eq!(connection.reaction(3), Reaction::Answer(200));
    assert_eq!(backend.received().len(), 1);
}
