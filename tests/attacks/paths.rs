//! Paths, methods and targets: the backend gets what was judged, and a request with two readings is refused.

use std::time::{Duration, Instant};

use super::outcomes::{NARROW, ambiguous, assert_outcomes, denied, forwarded, get, no_http};
use crate::support::frames::{END_STREAM, Frames, Reaction, headers};
use crate::support::{Backend, Proxy, Setup};

#[test]
fn paths_with_dots_or_empty_segments_are_refused() {
    assert_outcomes(&[
        ambiguous("case 32: up to what is denied", get("/events/../admin")),
        ambiguous("case 32: up to what is allowed", get("/admin/../events")),
        ambiguous("case 32: out of a prefix", get("/public/../admin")),
        ambiguous("case 32: encoded", get("/public/%2e%2e/admin")),
        ambiguous("case 32: half encoded", get("/public/.%2E/admin")),
        ambiguous("case 32: here", get("/./events")),
        ambiguous("case 32: at the end", get("/events/.")),
        ambiguous("case 32: above the root", get("/../../events")),
        ambiguous("case 33: at the start", get("//events")),
        ambiguous("case 33: as an authority", get("//localhost/events")),
        ambiguous("case 33: inside", get("/public//x")),
        ambiguous("case 33: at the end", get("/public//")),
        ambiguous("case 33: nothing but", get("///")),
        forwarded("dots that are no segment", "GET /public/..x/y.. HTTP/1.1", get("/public/..x/y..")),
    ]);
}

#[test]
fn paths_with_odd_slashes_escapes_or_bytes_are_refused() {
    assert_outcomes(&[
        ambiguous("case 34: a slash", get("/public%2Fadmin")),
        ambiguous("case 34: a slash, small", get("/events%2f1")),
        ambiguous("case 34: an encoded backslash", get("/public/..%5Cadmin")),
        ambiguous("case 34: a backslash", get("/public/..\\admin")),
        ambiguous("case 35: dots", get("/public/%252e%252e%252fadmin")),
        ambiguous("case 35: a letter", get("/%2565vents")),
        ambiguous("case 36: NUL", get("/events%00")),
        ambiguous("case 36: a line break", get("/events%0d%0aX-A:%201")),
        ambiguous("case 36: no hexadecimal", get("/public/%zz")),
        ambiguous("case 36: cut short", get("/public/%2")),
        ambiguous("case 36: overlong", get("/public/%c0%ae%c0%ae/admin")),
        ambiguous("case 36: an encoded C1 control", get("/public/%c2%85")),
        ambiguous("case 36: raw UTF-8", get("/public/caf\u{e9}")),
        ambiguous("case 36: in the query", get("/events?x=%0a")),
        ambiguous("case 36: raw UTF-8 in the query", get("/events?x=\u{e9}")),
        no_http("case 36: a raw NUL", get("/events\0")),
        no_http("case 36: a raw control", get("/events\x01")),
        no_http("case 36: a raw DEL", get("/events\x7f")),
        no_http("case 36: a tab", get("/events\t/x")),
        ambiguous("case 37: a session", get("/events;jsessionid=1")),
        ambiguous("case 37: before dots", get("/public;/../admin")),
        ambiguous("case 37: encoded", get("/events%3bx")),
    ]);
}

#[test]
fn fragments_and_queries_are_no_part_of_the_path() {
    assert_outcomes(&[
        denied("case 38: denied before it", get("/admin#/events")),
        forwarded("case 38: cut", "GET /events HTTP/1.1", get("/events#/../admin")),
        forwarded("case 38: cut after a query", "GET /events?x=1 HTTP/1.1", get("/events?x=1#y?z")),
        denied("case 38: nothing but", get("/#events")),
        ambiguous("case 38: no path before it", get("#/events")),
        denied("case 39: the path is in the query", get("/admin?x=/events")),
        denied("case 39: an encoded question mark", get("/events%3Fx")),
        denied("case 39: and a path behind it", get("/admin%3F/events")),
        forwarded("case 39: dots in it", "GET /events?x=/../admin HTTP/1.1", get("/events?x=/../admin")),
        denied(
            "case 47: a method in the query",
            b"DELETE /events?_method=GET HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
    ]);
}

#[test]
fn paths_are_compared_letter_by_letter() {
    assert_outcomes(&[
        denied("case 40: capitals", get("/EVENTS")),
        denied("case 40: one capital", get("/Events")),
        forwarded("case 40: an escaped letter", "GET /%65vents HTTP/1.1", get("/%65vents")),
        denied("case 40: an escaped capital", get("/%45vents")),
        denied("case 44: a slash", get("/exact/")),
        denied("case 44: a dot", get("/exact.")),
        denied("case 44: a space", get("/exact%20")),
        denied("case 44: a star", get("/exac*")),
        forwarded("case 44: exact", "GET /exact HTTP/1.1", get("/exact")),
        denied("case 50: a prefix ends at a slash", get("/publicity")),
        forwarded("case 50: the prefix itself", "GET /public HTTP/1.1", get("/public")),
    ]);
}

#[test]
fn whole_urls_are_accepted_for_the_named_host_only() {
    let absolute = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let asked = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    assert_outcomes(&[
        ambiguous("case 42: another host", absolute("https://elsewhere/events")),
        ambiguous("case 42: another port", absolute("https://localhost:444/events")),
        ambiguous("case 42: a user", absolute("https://user@localhost/events")),
        ambiguous("case 42: another scheme", absolute("ftp://localhost/events")),
        denied("case 42: a path that is denied", absolute("https://localhost/admin")),
        denied("case 42: no path", absolute("https://localhost")),
        ambiguous("case 42: a query and no path", absolute("https://localhost?/events")),
        forwarded("case 42: the same host", "GET /events HTTP/1.1", absolute("https://localhost/events")),
        forwarded("case 42: in capitals", "GET /events HTTP/1.1", absolute("HTTPS://LOCALHOST/events")),
        denied("case 43: all of it", asked("OPTIONS *")),
        ambiguous("case 43: a star for what is no OPTIONS", asked("GET *")),
        denied("case 43: a tunnel", asked("CONNECT localhost:443")),
        denied("case 43: a tunnel elsewhere", asked("CONNECT 10.0.0.1:22")),
        denied("case 43: an echo", asked("TRACE /events")),
        denied("case 43: a method of its own", asked("DELETE /events")),
        ambiguous("no slash", asked("GET events")),
        ambiguous("a query only", asked("GET ?/events")),
    ]);
}

#[test]
fn only_plain_methods_and_request_lines_are_accepted() {
    let line = |line: &str| format!("{line}\r\nHost: localhost\r\n\r\n").into_bytes();
    assert_outcomes(&[
        ambiguous("case 46: small letters", line("get /events HTTP/1.1")),
        ambiguous("case 46: one small letter", line("GEt /events HTTP/1.1")),
        ambiguous("case 46: a mark", line("G'T /events HTTP/1.1")),
        no_http("case 46: a bracket", line("G(T /events HTTP/1.1")),
        no_http("case 46: bytes after the version", line("GET /events HTTP/1.1 x")),
        no_http("case 46: a space after the version", line("GET /events HTTP/1.1 ")),
        no_http("case 46: a tab", line("GET\t/events HTTP/1.1")),
        no_http("case 46: nothing", line(" /events HTTP/1.1")),
        no_http("case 46: two spaces", line("GET  /events HTTP/1.1")),
        no_http("case 46: no version", line("GET /events")),
        no_http("case 46: another version", line("GET /events HTTP/1.2")),
        no_http("case 46: the version of another protocol", line("GET /events HTTP/2.0")),
        no_http("case 46: a small version", line("GET /events http/1.1")),
    ]);
}

/// Case 43: a rule may permit every method except CONNECT, which would build a tunnel.
#[test]
fn a_rule_for_every_method_does_not_permit_connect() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let ask = |line: &str| {
        let before = backend.received().len();
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        let answer = connection.ask(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
        let seen: Vec<_> =
            backend.received()[before..].iter().map(|seen| seen.start_line().to_owned()).collect();
        (answer.verdict(), seen)
    };
    for line in ["OPTIONS *", "OPTIONS /events", "TRACE /events"] {
        assert_eq!(ask(line), ("200".to_owned(), vec![format!("{line} HTTP/1.1")]));
    }
    assert_eq!(ask("CONNECT localhost:443"), ("403 insufficient_permissions".to_owned(), vec![]));
    // A CONNECT target that is no authority makes the bytes no request at all.
    for line in ["CONNECT /events", "CONNECT *"] {
        let (verdict, seen) = ask(line);
        assert!(
            ["400 ambiguous_request", "403 insufficient_permissions"].contains(&verdict.as_str()),
            "{verdict}"
        );
        assert!(seen.is_empty(), "{line}: {seen:?}");
    }
    // The same holds for HTTP/2, where `*` also names the server as a whole.
    let before = backend.received().len();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let options = [(":method", "OPTIONS"), (":scheme", "https"), (":authority", "localhost"), (":path", "*")];
    let tunnel = [(":method", "CONNECT"), (":authority", "localhost:443")];
    connection.send(headers(1, END_STREAM, &options)).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    connection.send(headers(3, 0, &tunnel)).unwrap();
    assert_eq!(connection.reaction(3), Reaction::Answer(403));
    let seen: Vec<_> = backend.received()[before..].iter().map(|seen| seen.start_line().to_owned()).collect();
    assert_eq!(seen, ["OPTIONS * HTTP/1.1"]);
}

/// Case 47: a backend may take the method from the query. The proxy does not know such forms, but a deny rule can refuse
/// them.
#[test]
fn a_method_in_the_query_can_be_refused() {
    let backend = Backend::ok();
    let refusing =
        "deny:\n  - name: override\n    routes: [{ route: \"* /**\", query: { _method: \"*\" } }]\n";
    let proxy = Setup::new(&backend.url()).policy(&format!("{NARROW}{refusing}")).start();
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

/// A judgement costs one walk down the path, however long the path is.
#[test]
fn long_targets_cost_little() {
    let segments = "/a".repeat(8000);
    let query = format!("/events?{}", "a&".repeat(8000));
    let start = Instant::now();
    assert_outcomes(&[
        ambiguous("case 45: 64 KiB", get(format!("/{}", "a".repeat(60_000)))),
        ambiguous("case 45: segments without number", get("/a".repeat(10_000))),
        denied("case 45: as many as fit", get(&segments)),
        ambiguous("case 45: as many as fit, and one that is not plain", get(format!("{segments}/../x"))),
        forwarded("case 45: a long query", &format!("GET {query} HTTP/1.1"), get(&query)),
        no_http("case 45: keys without number", get(format!("/events?{}", "a=&".repeat(100_000)))),
    ]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
