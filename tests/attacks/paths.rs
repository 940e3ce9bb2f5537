//! Paths, methods and targets: the judged target is the forwarded target, and an ambiguous target is refused.

use std::time::{Duration, Instant};

use super::outcomes::{
    NARROW, ambiguous, assert_outcomes, denied, forwarded, get, malformed, start_lines_after,
};
use crate::support::frames::{END_STREAM, Frames, Reaction, headers};
use crate::support::{Backend, Proxy, Setup};

#[test]
fn dot_segments_and_empty_segments_are_refused() {
    assert_outcomes(&[
        ambiguous("case 32: dots to a denied path", get("/events/../admin")),
        ambiguous("case 32: dots to an allowed path", get("/admin/../events")),
        ambiguous("case 32: dots that leave a prefix", get("/public/../admin")),
        ambiguous("case 32: encoded dots", get("/public/%2e%2e/admin")),
        ambiguous("case 32: half encoded dots", get("/public/.%2E/admin")),
        ambiguous("case 32: one dot", get("/./events")),
        ambiguous("case 32: a dot at the end", get("/events/.")),
        ambiguous("case 32: dots above the root", get("/../../events")),
        ambiguous("case 33: an empty segment at the start", get("//events")),
        ambiguous("case 33: an authority", get("//localhost/events")),
        ambiguous("case 33: an empty segment inside", get("/public//x")),
        ambiguous("case 33: an empty segment at the end", get("/public//")),
        ambiguous("case 33: only empty segments", get("///")),
        forwarded("dots inside of segments", "GET /public/..x/y.. HTTP/1.1", get("/public/..x/y..")),
    ]);
}

#[test]
fn encoded_slashes_bad_escapes_and_control_bytes_are_refused() {
    assert_outcomes(&[
        ambiguous("case 34: an encoded slash", get("/public%2Fadmin")),
        ambiguous("case 34: an encoded slash in lower case", get("/events%2f1")),
        ambiguous("case 34: an encoded backslash", get("/public/..%5Cadmin")),
        ambiguous("case 34: a backslash", get("/public/..\\admin")),
        ambiguous("case 35: dots, encoded twice", get("/public/%252e%252e%252fadmin")),
        ambiguous("case 35: a letter, encoded twice", get("/%2565vents")),
        ambiguous("case 36: NUL", get("/events%00")),
        ambiguous("case 36: a line break", get("/events%0d%0aX-A:%201")),
        ambiguous("case 36: an escape without hexadecimal digits", get("/public/%zz")),
        ambiguous("case 36: an incomplete escape", get("/public/%2")),
        ambiguous("case 36: overlong UTF-8", get("/public/%c0%ae%c0%ae/admin")),
        ambiguous("case 36: an encoded C1 control", get("/public/%c2%85")),
        ambiguous("case 36: raw UTF-8", get("/public/caf\u{e9}")),
        ambiguous("case 36: a line break in the query", get("/events?x=%0a")),
        ambiguous("case 36: raw UTF-8 in the query", get("/events?x=\u{e9}")),
        malformed("case 36: a raw NUL", get("/events\0")),
        malformed("case 36: a raw control", get("/events\x01")),
        malformed("case 36: a raw DEL", get("/events\x7f")),
        malformed("case 36: a tab", get("/events\t/x")),
        ambiguous("case 37: a session parameter", get("/events;jsessionid=1")),
        ambiguous("case 37: a semicolon before dots", get("/public;/../admin")),
        ambiguous("case 37: an encoded semicolon", get("/events%3bx")),
    ]);
}

#[test]
fn the_path_ends_before_the_fragment_and_the_query() {
    assert_outcomes(&[
        denied("case 38: a denied path before the fragment", get("/admin#/events")),
        forwarded("case 38: the fragment is removed", "GET /events HTTP/1.1", get("/events#/../admin")),
        forwarded(
            "case 38: a fragment after a query is removed",
            "GET /events?x=1 HTTP/1.1",
            get("/events?x=1#y?z"),
        ),
        denied("case 38: only a fragment after the slash", get("/#events")),
        ambiguous("case 38: a fragment without a path", get("#/events")),
        denied("case 39: an allowed path in the query", get("/admin?x=/events")),
        denied("case 39: an encoded question mark", get("/events%3Fx")),
        denied("case 39: an encoded question mark before a path", get("/admin%3F/events")),
        forwarded(
            "case 39: dots in the query",
            "GET /events?x=/../admin HTTP/1.1",
            get("/events?x=/../admin"),
        ),
        denied(
            "case 47: a method in the query",
            b"DELETE /events?_method=GET HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
    ]);
}

#[test]
fn paths_are_compared_exactly() {
    assert_outcomes(&[
        denied("case 40: capitals", get("/EVENTS")),
        denied("case 40: one capital", get("/Events")),
        forwarded("case 40: an escaped letter", "GET /%65vents HTTP/1.1", get("/%65vents")),
        denied("case 40: an escaped capital", get("/%45vents")),
        denied("case 44: a slash at the end", get("/exact/")),
        denied("case 44: a dot at the end", get("/exact.")),
        denied("case 44: a space at the end", get("/exact%20")),
        denied("case 44: a star in the target", get("/exac*")),
        forwarded("case 44: the exact path", "GET /exact HTTP/1.1", get("/exact")),
        denied("case 50: a prefix ends at a slash", get("/publicity")),
        forwarded("case 50: the prefix itself", "GET /public HTTP/1.1", get("/public")),
    ]);
}

#[test]
fn absolute_and_special_targets_are_judged_by_their_path_and_host() {
    let absolute = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    assert_outcomes(&[
        ambiguous("case 42: another host", absolute("https://elsewhere/events")),
        ambiguous("case 42: another port", absolute("https://localhost:444/events")),
        ambiguous("case 42: a user", absolute("https://user@localhost/events")),
        ambiguous("case 42: another scheme", absolute("ftp://localhost/events")),
        denied("case 42: a denied path", absolute("https://localhost/admin")),
        denied("case 42: a host without a path", absolute("https://localhost")),
        ambiguous("case 42: a query without a path", absolute("https://localhost?/events")),
        forwarded("case 42: the same host", "GET /events HTTP/1.1", absolute("https://localhost/events")),
        forwarded(
            "case 42: the same host in capitals",
            "GET /events HTTP/1.1",
            absolute("HTTPS://LOCALHOST/events"),
        ),
        denied("case 43: OPTIONS of the server", request("OPTIONS *")),
        ambiguous("case 43: a star with another method than OPTIONS", request("GET *")),
        denied("case 43: a tunnel", request("CONNECT localhost:443")),
        denied("case 43: a tunnel elsewhere", request("CONNECT 10.0.0.1:22")),
        denied("case 43: TRACE", request("TRACE /events")),
        denied("case 43: a method that the grant does not name", request("DELETE /events")),
        ambiguous("a path without a slash", request("GET events")),
        ambiguous("a query only", request("GET ?/events")),
    ]);
}

#[test]
fn malformed_methods_and_request_lines_are_refused() {
    let line = |line: &str| format!("{line}\r\nHost: localhost\r\n\r\n").into_bytes();
    assert_outcomes(&[
        ambiguous("case 46: a method in lower case", line("get /events HTTP/1.1")),
        ambiguous("case 46: a method with one lower-case letter", line("GEt /events HTTP/1.1")),
        ambiguous("case 46: an apostrophe in the method", line("G'T /events HTTP/1.1")),
        malformed("case 46: a bracket in the method", line("G(T /events HTTP/1.1")),
        malformed("case 46: bytes after the version", line("GET /events HTTP/1.1 x")),
        malformed("case 46: a space after the version", line("GET /events HTTP/1.1 ")),
        malformed("case 46: a tab after the method", line("GET\t/events HTTP/1.1")),
        malformed("case 46: an empty method", line(" /events HTTP/1.1")),
        malformed("case 46: two spaces after the method", line("GET  /events HTTP/1.1")),
        malformed("case 46: no version", line("GET /events")),
        malformed("case 46: another version", line("GET /events HTTP/1.2")),
        malformed("case 46: the version of another protocol", line("GET /events HTTP/2.0")),
        malformed("case 46: a version in lower case", line("GET /events http/1.1")),
    ]);
}

/// Case 43: a grant can allow every method except CONNECT, which would open a tunnel.
#[test]
fn a_grant_of_every_method_does_not_allow_connect() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let ask = |line: &str| {
        let before = backend.received().len();
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        let answer = connection.ask(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
        (answer.verdict(), start_lines_after(&backend, before))
    };
    for line in ["OPTIONS *", "OPTIONS /events", "TRACE /events"] {
        assert_eq!(ask(line), ("200".to_owned(), vec![format!("{line} HTTP/1.1")]));
    }
    assert_eq!(ask("CONNECT localhost:443"), ("403 insufficient_permissions".to_owned(), vec![]));
    // A CONNECT without an authority is malformed.
    for line in ["CONNECT /events", "CONNECT *"] {
        let (verdict, received) = ask(line);
        assert!(
            ["400 ambiguous_request", "403 insufficient_permissions"].contains(&verdict.as_str()),
            "{verdict}"
        );
        assert!(received.is_empty(), "{line}: {received:?}");
    }
}

/// Case 43, in HTTP/2, where `*` also means the server.
#[test]
fn a_grant_of_every_method_does_not_allow_connect_in_http2() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let options = [(":method", "OPTIONS"), (":scheme", "https"), (":authority", "localhost"), (":path", "*")];
    let tunnel = [(":method", "CONNECT"), (":authority", "localhost:443")];
    connection.send(headers(1, END_STREAM, &options)).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    connection.send(headers(3, 0, &tunnel)).unwrap();
    assert_eq!(connection.reaction(3), Reaction::Answer(403));
    assert_eq!(start_lines_after(&backend, 0), ["OPTIONS * HTTP/1.1"]);
}

/// Case 47: a backend may read a method from the query. Such an override is not refused by default; a deny rule can refuse it.
#[test]
fn a_deny_rule_can_refuse_a_method_override_in_the_query() {
    let backend = Backend::ok();
    let deny = "deny:\n  - name: override\n    routes: [{ route: \"* /**\", query: { _method: \"*\" } }]\n";
    let proxy = Setup::new(&backend.url()).policy(&format!("{NARROW}{deny}")).start();
    for (query, verdict) in [
        ("", "200"),
        ("?method=DELETE", "200"),
        ("?_method=DELETE", "403 insufficient_permissions"),
        ("?a=1&_method=", "403 insufficient_permissions"),
        ("?_method=GET&_method=DELETE", "403 insufficient_permissions"),
        ("?%5Fmethod=DELETE", "403 insufficient_permissions"),
    ] {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        let answer = connection.post(&format!("/events{query}"), "").unwrap();
        assert_eq!(answer.verdict(), verdict, "{query}");
    }
    assert_eq!(backend.received().len(), 2);
}

/// The time of a decision is at most proportional to the length of the target.
#[test]
fn long_targets_are_judged_in_little_time() {
    let segments = "/a".repeat(8000);
    let query = format!("/events?{}", "a&".repeat(8000));
    let start = Instant::now();
    assert_outcomes(&[
        ambiguous("case 45: 64 KiB", get(format!("/{}", "a".repeat(60_000)))),
        ambiguous("case 45: too many segments", get("/a".repeat(10_000))),
        denied("case 45: as many segments as fit", get(&segments)),
        ambiguous("case 45: as many segments as fit, and dots", get(format!("{segments}/../x"))),
        forwarded("case 45: a long query", &format!("GET {query} HTTP/1.1"), get(&query)),
        malformed("case 45: too many parameters", get(format!("/events?{}", "a=&".repeat(100_000)))),
    ]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
