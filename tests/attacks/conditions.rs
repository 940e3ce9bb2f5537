//! Conditions on headers, parameters and hosts, in HTTP/1.1 and in HTTP/2: the judged values are the forwarded values, and a
//! value that two backends could read differently meets no grant and every deny.

use std::fs;

use serde_json::json;

use crate::support::frames::{
    DATA, END_STREAM, Fields, Frames, HEADERS, RST_STREAM, Reaction, headers, request_with_trailers,
};
use crate::support::{Backend, Proxy, Setup};

const POLICY: &str = r#"version: 1
permissions:
  conditional:
    - { route: GET /preview, headers: { X-Mode: preview } }
    - { route: GET /reports, query: { format: [csv] } }
    - { route: GET /shop, hosts: [shop.example, "*.shop.example:8443", "[::1]"] }
  open: ["GET|POST /open/**"]
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [conditional, open]
deny:
  - { name: live, routes: [{ route: "* /open/mode", headers: { X-Mode: live } }] }
  - { name: any-mode, routes: [{ route: "* /open/no-mode", headers: { X-Mode: "*" } }] }
  - { name: pdf, routes: [{ route: "* /open/format", query: { format: [pdf] } }] }
  - { name: internal, routes: [{ route: "* /open/host", hosts: [internal.example] }] }
"#;

fn by_http1(proxy: &Proxy, target: &str, host: &str, fields: Fields<'_>) -> u16 {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
    connection.ask(&request).unwrap().status
}

fn by_http2(proxy: &Proxy, target: &str, host: &str, fields: Fields<'_>) -> u16 {
    let names: Vec<String> = fields.iter().map(|(name, _)| name.to_lowercase()).collect();
    let mut all = vec![(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", target)];
    all.extend(names.iter().zip(fields).map(|(name, (_, value))| (name.as_str(), *value)));
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(headers(1, END_STREAM, &all)).unwrap();
    match connection.reaction(1) {
        Reaction::Answer(status) => status,
        reaction => panic!("{target} {host} {fields:?}: {reaction:?}"),
    }
}

#[track_caller]
fn assert_both(proxy: &Proxy, status: u16, target: &str, host: &str, fields: Fields<'_>) {
    for (protocol, got) in [
        ("HTTP/1.1", by_http1(proxy, target, host, fields)),
        ("HTTP/2", by_http2(proxy, target, host, fields)),
    ] {
        assert_eq!(got, status, "{protocol}: {target} at {host} with {fields:?}");
    }
}

fn proxy(backend: &Backend) -> Proxy {
    Setup::new(&backend.url()).policy(POLICY).start()
}

/// Case 57: a header that the client names in `Connection` is removed before the policy is evaluated.
#[test]
fn a_header_that_connection_names_is_not_judged() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let preview = ("X-Mode", "preview");
    assert_both(&proxy, 200, "/preview", "localhost", &[preview]);
    for named in ["X-Mode", "close, x-mode", "\"a\", ,X-MODE"] {
        assert_eq!(
            by_http1(&proxy, "/preview", "localhost", &[preview, ("Connection", named)]),
            403,
            "{named}"
        );
        let live = [("X-Mode", "live"), ("Connection", named)];
        assert_eq!(by_http1(&proxy, "/open/mode", "localhost", &live), 200, "{named}");
        let forwarded = backend.received().pop().unwrap();
        assert!(forwarded.header("x-mode").is_empty(), "{named}: {forwarded:?}");
    }
    // A name that `Connection` contains in another spelling is forwarded and doubtful, so the request is denied.
    let other = [("X_Mode", "live"), ("Connection", "X-Mode")];
    assert_eq!(by_http1(&proxy, "/open/mode", "localhost", &other), 403);
}

/// Under `mode: audit` the backend also gets exactly the judged headers.
#[test]
fn audit_mode_judges_the_forwarded_headers() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("mode", "audit").policy(POLICY).start();
    let fields = [("X-Mode", "preview"), ("Connection", "X-Mode")];
    assert_eq!(by_http1(&proxy, "/preview", "localhost", &fields), 200);
    let record = proxy.process.audit_where("the request", |record| record["path"] == "/preview");
    assert_eq!(record["rule"], serde_json::Value::Null, "no grant was met: {record}");
}

/// Case 49: CGI, WSGI, PHP and Rack read all these spellings as one variable.
#[test]
fn a_header_in_another_spelling_is_doubtful() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    for other in ["X_Mode", "x_MODE", "X.Mode", "X~Mode", "X-Mode"] {
        assert_both(&proxy, 403, "/preview", "localhost", &[("X-Mode", "preview"), (other, "full")]);
        assert_both(&proxy, 403, "/preview", "localhost", &[(other, "full"), ("X-Mode", "preview")]);
        assert_both(&proxy, 403, "/open/mode", "localhost", &[("X-Mode", "off"), (other, "live")]);
        assert_both(&proxy, 403, "/open/no-mode", "localhost", &[(other, "x")]);
    }
    for other in ["X_Mode", "X.Mode"] {
        assert_both(&proxy, 403, "/preview", "localhost", &[(other, "preview")]);
        assert_both(&proxy, 403, "/open/mode", "localhost", &[(other, "live")]);
    }
    for fields in [&[("X-Modes", "live")][..], &[("XMode", "live")], &[("X-Mode", "off")], &[]] {
        assert_both(&proxy, 200, "/open/mode", "localhost", fields);
    }
    assert!(backend.received().iter().all(|request| request.header("x_mode").is_empty()));
}

#[test]
fn a_parameter_that_two_backends_read_differently_is_doubtful() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    assert_both(&proxy, 200, "/reports?format=csv&x=1", "localhost", &[]);
    assert_both(&proxy, 200, "/open/format?format=csv&x=1", "localhost", &[]);
    for other in [
        "x=1;f%6Frmat=pdf",
        "x=1%3Bformat=pdf",
        "x=1%3bformat=pdf",
        "x;y",
        "Format=pdf",
        "format%20=pdf",
        "+format=pdf",
        "format[]=pdf",
        "format%5B0%5D=pdf",
        "[format]=pdf",
        "format=pdf",
    ] {
        assert_both(&proxy, 403, &format!("/reports?format=csv&{other}"), "localhost", &[]);
        assert_both(&proxy, 403, &format!("/reports?{other}&format=csv"), "localhost", &[]);
        assert_both(&proxy, 403, &format!("/open/format?{other}"), "localhost", &[]);
    }
    // A query without conditions is never doubtful.
    assert_both(&proxy, 200, "/open/x?a=1;b=2&format=csv&Format=pdf", "localhost", &[]);
}

#[test]
fn hosts_are_judged_alike_in_both_versions_of_http() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    for host in [
        "shop.example",
        "SHOP.Example",
        "shop.example.",
        "shop.example:1",
        "a.shop.example:8443",
        "[0::1]:80",
    ] {
        assert_both(&proxy, 200, "/shop", host, &[]);
    }
    for host in [
        "localhost",
        "a.shop.example",
        "a.shop.example:443",
        "a.b.shop.example:8443",
        "shop.example.org",
        "[::2]",
    ] {
        assert_both(&proxy, 403, "/shop", host, &[]);
        assert_both(&proxy, 200, "/open/host", host, &[]);
    }
    for host in ["internal.example", "Internal.EXAMPLE.", "internal.example:8443", "internal..example"] {
        assert_both(&proxy, 403, "/open/host", host, &[]);
        assert_both(&proxy, 403, "/shop", host, &[]);
    }
    // An absolute target also contains the host, and HTTP/1.0 needs no host.
    for (request, status) in [
        ("GET https://shop.example/shop HTTP/1.1\r\nHost: shop.example\r\n\r\n", 200),
        ("GET https://internal.example/open/host HTTP/1.1\r\nHost: internal.example\r\n\r\n", 403),
        ("GET /shop HTTP/1.0\r\n\r\n", 403),
        ("GET /open/host HTTP/1.0\r\n\r\n", 403),
        ("GET /open/x HTTP/1.0\r\n\r\n", 200),
        ("GET /shop HTTP/1.0\r\nHost: shop.example\r\n\r\n", 200),
    ] {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(connection.ask(request).unwrap().status, status, "{request}");
    }
}

/// A backend that merges trailers into the headers would otherwise read a value that was not judged.
#[test]
fn a_header_of_a_condition_is_removed_from_trailers() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let body = "1\r\na\r\n0\r\nX-Mode: live\r\nX_Mode: live\r\nX-Kept: yes\r\n\r\n";
    let post = "POST /open/mode HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: X-Kept\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send(format!("{post}{body}")).unwrap();
    assert_eq!(connection.answer_to("POST").unwrap().status, 200);
    let post = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/open/mode"),
        ("te", "trailers"),
        ("trailer", "x-kept"),
    ];
    let trailers = [("x-mode", "live"), ("x_mode", "live"), ("x-kept", "yes")];
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(request_with_trailers(1, &post, "a", &trailers)).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    for received in backend.wait_for(2) {
        let raw = String::from_utf8(received.raw).unwrap().to_lowercase();
        assert!(raw.ends_with("0\r\nx-kept: yes\r\n\r\n"), "{raw}");
    }
}

/// Reads frames until one of these kinds comes on `stream`; panics if the stream `alive` ends before.
fn wait_for(connection: &mut Frames, stream: u32, kinds: &[u8], alive: u32) {
    loop {
        let frame = connection.next().unwrap();
        if frame.stream == stream && kinds.contains(&frame.kind) {
            return;
        }
        let ends = frame.kind == RST_STREAM || frame.flags & END_STREAM != 0 && frame.kind == DATA;
        assert!(frame.stream != alive || !ends, "stream {alive} ended: {frame:?}");
    }
}

/// An exchange in progress is judged again by the host and the headers of its request.
#[test]
fn an_exchange_in_progress_is_judged_again_by_its_own_host() {
    let backend = Backend::streaming();
    let grant = "version: 1
permissions: { open: [GET /open/**] }
clients: [{ name: c, match: { any: true }, permissions: [open] }]
";
    let proxy = Setup::new(&backend.url()).policy(grant).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let open = |connection: &mut Frames, stream: u32, host: &str| {
        let fields =
            [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/open/stream")];
        connection.send(headers(stream, END_STREAM, &fields)).unwrap();
        wait_for(connection, stream, &[HEADERS], 0);
    };
    open(&mut connection, 1, "Internal.example:1");
    open(&mut connection, 3, "shop.example");
    let deny = "deny: [{ name: d, routes: [{ route: \"* /**\", hosts: [internal.example] }] }]\n";
    fs::write(proxy.setup.path("policy.yaml"), format!("{grant}{deny}")).unwrap();
    wait_for(&mut connection, 1, &[RST_STREAM], 3);
    // Both streams were judged again in one pass, so the end of one proves that the other stays open.
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", "shop.example"), (":path", "/open/x")];
    connection.send(headers(5, END_STREAM, &fields)).unwrap();
    wait_for(&mut connection, 5, &[HEADERS], 3);
}

/// A deny on a header that the configuration removes could never be met, so policy and configuration are refused
/// together.
#[test]
fn a_condition_on_a_header_that_the_configuration_removes_is_refused() {
    for (key, value) in [
        ("identity_headers.strip", json!(["x_mode"])),
        ("identity_headers.strip", json!(["X-Mo*"])),
        ("identity_headers.custom", json!({ "X-Mode": "common_name" })),
    ] {
        let setup = Setup::new("http://127.0.0.1:9").policy(POLICY).set(key, value.clone());
        let finished = setup.run();
        assert_eq!(finished.code, Some(2), "{value}: {finished:?}");
        assert!(
            finished.stderr.contains("a condition on `x-mode` can never be met")
                && finished.stderr.contains("policy.yaml:4:"),
            "{value}: {finished:?}"
        );
    }
}

#[test]
fn wrong_names_in_strip_are_reported_with_a_remedy() {
    for (value, message) in [
        (json!([""]), "`` is not the name of a header"),
        (json!(["a b"]), "`a b` is not the name of a header"),
        (json!(["*"]), "`*` is not the name of a header"),
        (json!(["X-*-User"]), "`X-*-User` has a `*` that is not its end"),
        (json!(["Content_Length"]), "would take away `content-length`"),
        (json!(["Ho*"]), "would take away `host`"),
        (json!(["X-Forwarded-For"]), "would take away `x-forwarded-for`"),
        (json!("X-Acme-User"), "write `[X-Acme-User]`"),
    ] {
        let finished = Setup::new("http://127.0.0.1:9").set("identity_headers.strip", value.clone()).run();
        assert_eq!(finished.code, Some(2), "{value}: {finished:?}");
        let stderr = &finished.stderr;
        assert!(
            stderr.contains(message) && stderr.contains("sidegate.yaml") && stderr.contains("help: "),
            "{value}: {stderr}"
        );
    }
}
