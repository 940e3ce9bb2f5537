//! A request that two parsers could read differently is refused, not repaired, and nothing of it reaches the backend
//! (DESIGN §5). A number in a comment (`Case 32`) is a row of `tests/attacks/README.md`.

use crate::support::http2::{Http2, request};
use crate::support::{Backend, Proxy, Setup};

/// Sends raw bytes as the client that may do everything, and returns the status; 0 for a close without an answer.
fn status_of(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> u16 {
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    // The proxy may refuse a message that is too long, and close the connection, before all of the message was sent.
    let _ = connection.send(bytes);
    connection.answer_to("GET").map_or(0, |answer| answer.status)
}

#[track_caller]
fn assert_all_refused(requests: &[(&str, Vec<u8>)], statuses: &[u16]) {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let wrong: Vec<_> = requests
        .iter()
        .map(|(name, bytes)| (name, status_of(&proxy, bytes)))
        .filter(|(_, status)| !statuses.contains(status))
        .collect();
    assert!(wrong.is_empty(), "not {statuses:?}: {wrong:?}");
    let received: Vec<_> = backend.received().into_iter().map(|request| request.head).collect();
    assert!(received.is_empty(), "{received:?}");
}

fn get(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()
}

fn with(fields: &str) -> Vec<u8> {
    format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n").into_bytes()
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}").into_bytes()
}

#[test]
fn paths_with_two_readings_are_refused() {
    let paths: [(&str, &[u8]); 25] = [
        ("32 dots", b"/events/../admin"),
        ("32 dots at the end", b"/events/.."),
        ("32 a dot", b"/./events"),
        ("32 encoded dots", b"/events/%2e%2e/admin"),
        ("32 half encoded dots", b"/events/.%2E/admin"),
        ("33 empty segments", b"//admin"),
        ("33 an empty segment", b"/admin//x"),
        ("33 nothing but", b"///"),
        ("34 an encoded slash", b"/a%2Fb"),
        ("34 an encoded slash, small", b"/a%2fb"),
        ("34 an encoded backslash", b"/a%5Cb"),
        ("34 a backslash", b"/a\\b"),
        ("35 a double encoding", b"/%252e%252e%252f"),
        ("36 an encoded NUL", b"/a%00b"),
        ("36 an encoded line break", b"/a%0d%0ab"),
        ("36 an encoded DEL", b"/a%7fb"),
        ("36 no escape", b"/a%zzb"),
        ("36 half an escape", b"/a%4"),
        ("36 a lone percent", b"/100%"),
        ("36 no UTF-8", b"/a%ffb"),
        ("36 overlong", b"/a%c0%afb"),
        ("36 raw bytes", b"/caf\xc3\xa9"),
        ("36 quotes and braces", b"/a\"{b}"),
        ("37 a parameter", b"/events;jsessionid=1"),
        ("37 a parameter before dots", b"/admin;/..;/x"),
    ];
    let requests: Vec<_> = paths.iter().map(|(name, path)| (*name, get(path))).collect();
    assert_all_refused(&requests, &[400]);
}

/// Each setting for legacy backends permits one form of path. The backend gets the bytes that were judged, and the path
/// cannot climb to its parent.
#[test]
fn a_path_that_a_setting_permits_arrives_as_it_was_sent() {
    let allowed: [(&str, &[&str], &[&str]); 7] = [
        ("encoded_slash", &["/a%2Fb", "/a%2fb?x"], &["/a%5Cb", "/a%2F..", "/a%2F%2Fb", "/%2Fadmin/x"]),
        ("backslash", &["/a%5Cb", "/a\\b"], &["/a%2Fb", "/a\\..\\b", "/\\admin"]),
        ("double_encoding", &["/a%2541"], &["/%252e%252e/a", "/a%252Fb", "/a%2500", "/a%25252e"]),
        ("empty_segments", &["/a//b", "/a//"], &["//admin", "///", "//localhost/a", "/a//../b"]),
        ("semicolon", &["/a;v=1/b", "/a%3Bb"], &["/admin;/..;/x", "/;x/admin"]),
        ("non_utf8", &["/caf%E9"], &["/%c0%ae%c0%ae/a", "/a%ff%00", "/caf\u{e9}"]),
        (
            "raw_query",
            &["/a?q={b|c^d`e}", "/a?|=^&%7C"],
            &["/a|b", "/a?b=c\\d", "/a?b=\"c\"", "/a?<b>", "/a?b=%0A"],
        ),
    ];
    for (setting, good, bad) in allowed {
        let backend = Backend::ok();
        let proxy = Setup::new(&backend.url()).set("paths.allow", vec![setting]).start();
        for target in good {
            assert_eq!(status_of(&proxy, get(target.as_bytes())), 200, "{setting}: {target}");
            assert_eq!(proxy.http2().get(target).unwrap().status, 200, "{setting}: {target}");
        }
        let received: Vec<_> =
            backend.received().iter().map(|request| request.start_line().to_owned()).collect();
        let expected = good.iter().flat_map(|target| [(); 2].map(|()| format!("GET {target} HTTP/1.1")));
        assert_eq!(received, expected.collect::<Vec<_>>(), "{setting}");
        for target in bad {
            assert_eq!(status_of(&proxy, get(target.as_bytes())), 400, "32-37 {setting}: {target}");
        }
        assert_eq!(backend.received().len(), 2 * good.len(), "{setting}");
    }
}

/// A client that is refused learns which byte it must encode.
#[test]
fn the_byte_that_must_be_encoded_is_named() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for (target, named) in [
        ("/a?b=c|d", "a raw | that must be percent-encoded (%7C)"),
        ("/a?b=`c`", "a raw ` that must be percent-encoded (%60)"),
        ("/a^b", "a raw ^ that must be percent-encoded (%5E)"),
        ("/a?query={\\n}", "a raw { that must be percent-encoded (%7B)"),
        ("/a?query=%7B%0Aa%7D", "an encoded control character (%0A)"),
    ] {
        let detail = proxy.connect().get(target).unwrap().json()["detail"].to_string();
        assert!(detail.contains(named), "{target}: {detail}");
        let detail = proxy.http2().get(target).unwrap().json()["detail"].to_string();
        assert!(detail.contains(named), "{target}, HTTP/2: {detail}");
    }
    assert!(backend.received().is_empty());
}

#[test]
fn a_setting_bounds_the_length_of_a_target() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.http.max_target_bytes", 20).start();
    for (length, status) in [(20, 200), (21, 400)] {
        let target = format!("/{}", "a".repeat(length - 1));
        assert_eq!(status_of(&proxy, get(target.as_bytes())), status, "45: {length}");
        let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
        assert_eq!(http2.get(&target).unwrap().status, status, "45: {length}");
    }
    assert_eq!(backend.received().len(), 2);
}

#[test]
fn targets_without_a_path_are_refused() {
    assert_all_refused(
        &[
            ("42 another host", b"GET https://elsewhere/events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
            ("42 another scheme", b"GET ftp://localhost/events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
            ("43 a tunnel", b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
            ("no slash", b"GET events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
            ("a query only", b"GET ?a=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ],
        &[400, 403],
    );
}

#[test]
fn hosts_with_two_readings_are_refused() {
    let host = |field: &str| format!("GET /events HTTP/1.1\r\n{field}\r\n\r\n").into_bytes();
    assert_all_refused(
        &[
            ("61 none", host("Accept: a")),
            ("61 two", host("Host: localhost\r\nHost: elsewhere")),
            ("61 the same twice", host("Host: localhost\r\nHost: localhost")),
            ("61 a list", host("Host: localhost, elsewhere")),
            ("61 a user", host("Host: user@localhost")),
            ("61 a path", host("Host: localhost/x")),
            ("61 a port that is none", host("Host: localhost:http")),
            ("61 a port too large", host("Host: localhost:99999")),
            ("61 a space", host("Host: local host")),
            ("61 an address cut short", host("Host: [::1")),
        ],
        &[400],
    );
}

/// These bytes never become a request. The answer is a documented one all the same; a client that is not authenticated gets
/// 401.
#[test]
fn bytes_that_are_no_http_get_an_answer_and_a_close() {
    assert_answered_and_closed(
        "400 ambiguous_request",
        &[
            ("62 a space before the colon", with("X-A : 1")),
            ("62 a folded line", with("X-A: 1\r\n folded")),
            ("62 no name", with(": 1")),
            ("62 a NUL", with("X-A: a\0b")),
            ("62 a bare CR", with("X-A: a\rb")),
            ("65 an unknown coding", post("Transfer-Encoding: gzip", "a")),
            (
                "65 chunked twice",
                post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
            ),
            (
                "65 chunked in HTTP/1.0",
                b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            ),
            ("66 a sign", post("Content-Length: +5", "12345")),
            ("66 negative", post("Content-Length: -5", "12345")),
            ("66 a list", post("Content-Length: 5,6", "12345")),
            ("66 two of them", post("Content-Length: 5\r\nContent-Length: 6", "123456")),
            ("66 empty", post("Content-Length:", "")),
            ("66 too large", post("Content-Length: 99999999999999999999", "")),
            ("a version that is none", b"GET / HTTP/3.7\r\nHost: localhost\r\n\r\n".to_vec()),
            ("no HTTP at all", b"\x00\x01\x02\x03\r\n\r\n".to_vec()),
            ("45 a path beyond what the parser takes", get(format!("/{}", "a".repeat(65_600)).as_bytes())),
            ("45 a first line without an end", format!("GET /{}", "a".repeat(90_000)).into_bytes()),
        ],
    );
}

#[test]
fn headers_that_are_too_large_are_refused() {
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_answered_and_closed(
        "431 headers_too_large",
        &[
            ("a long header", with(&format!("X-A: {}", "a".repeat(70_000)))),
            ("many headers", with(many.trim_end())),
        ],
    );
}

/// Sends each input as two clients and after a good request. Asserts that the proxy answers, closes the connection, and
/// forwards nothing.
#[track_caller]
fn assert_answered_and_closed(verdict: &str, requests: &[(&str, Vec<u8>)]) {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    for (name, bytes) in requests {
        for (client, verdict) in [(proxy.producer(), verdict), (proxy.anonymous(), "401 not_authenticated")] {
            let mut connection = client.connect(proxy.address).unwrap();
            connection.send(bytes).unwrap();
            let answer = connection.answer_to("GET").unwrap();
            assert_eq!(answer.verdict(), verdict, "{name}");
            assert_eq!(answer.header("connection"), Some("close"), "{name}");
            assert!(connection.is_closed(), "{name}");
            let id = answer.json()["request_id"].as_str().unwrap().to_owned();
            let record =
                proxy.process.audit_where("the refusal", |record| record["request_id"] == id.as_str());
            assert_eq!(record["status"], answer.status, "{name}: {record}");
            assert_eq!(record["bytes"], answer.body.len(), "{name}: {record}");
        }
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send([get(b"/events"), bytes.clone()].concat()).unwrap();
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok", "{name}");
        assert_eq!(connection.answer_to("GET").unwrap().verdict(), verdict, "{name}, pipelined");
        assert!(connection.is_closed(), "{name}");
    }
    assert_eq!(backend.received().len(), requests.len());
    let reason = verdict.split(' ').next_back().unwrap();
    let counted = proxy.admin.metrics().labelled("sidegate_decisions_total", &[("reason", reason)]);
    assert_eq!(counted, 2.0 * requests.len() as f64);
}

#[test]
fn oversized_requests_are_refused() {
    let many: String = (0..5000).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_all_refused(
        &[
            ("a long header", with(&format!("X-A: {}", "a".repeat(1_000_000)))),
            ("many headers", with(many.trim_end())),
            ("a long path", get(format!("/{}", "a".repeat(1_000_000)).as_bytes())),
        ],
        // A client that still sends after the proxy has stopped reading may get a reset instead of the answer.
        &[0, 400, 431],
    );
}

#[test]
fn an_upload_that_breaks_its_framing_never_arrives_whole() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for (name, body) in [
        ("67 a size that is none", "zz\r\na\r\n0\r\n\r\n"),
        ("67 a size beyond 64 bits", "fffffffffffffffff\r\na\r\n0\r\n\r\n"),
        ("67 a chunk longer than it says", "1\r\nab\r\n0\r\n\r\n"),
        ("67 a bare line feed", "1\na\n0\n\n"),
    ] {
        let status = status_of(&proxy, post("Transfer-Encoding: chunked", body));
        assert_ne!(status, 200, "{name}");
    }
    let connection = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let answer = connection.ask(request("POST", "/events", &[("content-length", "9")]), b"short");
    assert!(answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.status != 200), "70: {answer:?}");
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

#[test]
fn http2_is_held_to_the_same_paths_and_hosts() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let connection = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    for path in ["/a%2Fb", "/events/../admin", "//admin", "/a;b", "/%252e"] {
        assert_eq!(connection.get(path).unwrap().verdict(), "400 ambiguous_request", "{path}");
    }
    let answer = connection.ask(request("GET", "/events", &[("host", "elsewhere")]), b"").unwrap();
    assert_eq!(answer.verdict(), "400 ambiguous_request", "61 Host unlike :authority");
    assert_eq!(connection.get("/events").unwrap().status, 200, "a refusal does not end the connection");
    assert_eq!(backend.received().len(), 1);
}
