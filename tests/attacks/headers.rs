//! Headers: the proxy does not believe what a client says about its identity, its request or its route.

use super::outcomes::{NARROW, ambiguous, assert_outcomes, denied, forwarded, get, no_http, post, with};
use crate::support::frames::{DATA, END_STREAM, Frames, Reaction, frame, headers};
use crate::support::{Backend, Proxy, Setup};

/// Headers that a backend behind a proxy believes, or takes for another request.
const FORGED: [&str; 24] = [
    "Client-Cert",
    "Client-Cert-Chain",
    "X-Forwarded-Client-Cert",
    "X-Client-Name",
    "X-Client-DN",
    "X-SSL-Client-Verify",
    "X-Remote-User",
    "X-Remote-Groups",
    "Remote-User",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded-Uri",
    "X-Forwarded-Prefix",
    "X-Forwarded-Path",
    "X-Envoy-Original-Path",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "Forwarded",
    "X-Real-IP",
];

/// Returns the head that the backend gets, without the ids that differ from request to request.
fn head_of(backend: &Backend, proxy: &Proxy, request: impl AsRef<[u8]>) -> String {
    let before = backend.received().len();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send(request).unwrap();
    assert_eq!(connection.answer_to("GET").unwrap().status, 200);
    let received = backend.received().split_off(before);
    let [received] = received.as_slice() else { panic!("{received:?}") };
    without_ids(&received.raw)
}

fn without_ids(raw: &[u8]) -> String {
    let is_id = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        ["x-request-id", "traceparent"].iter().any(|id| id.eq_ignore_ascii_case(name))
    };
    let text = String::from_utf8_lossy(raw).into_owned();
    text.split("\r\n").filter(|line| !is_id(line)).collect::<Vec<_>>().join("\n")
}

/// Cases 47, 48, 55, 56, 57, 58 and 60: the backend gets the same bytes whether the client sends these headers or not.
#[test]
fn forged_headers_leave_no_trace() {
    let backend = Backend::ok();
    let names = serde_json::json!({ "X-User": "common_name", "X-User-Mail": "email" });
    for setup in [
        Setup::new(&backend.url()),
        Setup::new(&backend.url()).set("identity_headers.client_cert", false),
        Setup::new(&backend.url()).set("identity_headers.xfcc", true).set("identity_headers.custom", names),
    ] {
        let custom = setup.config["identity_headers"]["custom"].is_object();
        let proxy = setup.policy(NARROW).start();
        let honest = head_of(&backend, &proxy, with("X-Kept: yes"));
        assert!(
            !honest.to_lowercase().contains("x-user-mail"),
            "case 58: no mail in the certificate: {honest}"
        );
        let mut forged = FORGED.to_vec();
        if custom {
            forged.extend(["X-User", "X-User-Mail"]);
        }
        for name in forged {
            for spelling in spellings(name) {
                let head = head_of(&backend, &proxy, with(format!("{spelling}: forged\r\nX-Kept: yes")));
                assert_eq!(head, honest, "{spelling}");
            }
            for connection in [
                format!("Connection: {name}\r\n{name}: forged"),
                format!("Connection: close, {}\r\n{name}: forged", name.to_lowercase()),
                format!(
                    "Connection: keep-alive\r\nConnection: \"x\", {},\r\n{name}: forged",
                    name.to_uppercase()
                ),
            ] {
                let head = head_of(&backend, &proxy, with(format!("X-Kept: yes\r\n{connection}")));
                assert_eq!(head, honest, "{connection}");
            }
        }
        let head = head_of(&backend, &proxy, with("Connection: X-Kept, Host, X-Request-Id\r\nX-Kept: no"));
        assert_eq!(head, honest.replace("x-kept: yes\n", ""), "only what is the client's own is taken away");
    }
}

/// Cases 47, 48, 55, 56, 58 and 60, in frames of HTTP/2: the names are spelt in every way that a header list can hold.
#[test]
fn forged_headers_of_http2_leave_no_trace() {
    let backend = Backend::ok();
    let names = serde_json::json!({ "X-User": "common_name", "X-User-Mail": "email" });
    let proxy = Setup::new(&backend.url()).set("identity_headers.custom", names).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let mut stream = 1;
    let mut head_with = |name: &str| {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/events"),
            ("x-kept", "yes"),
            (name, "forged"),
        ];
        connection.send(headers(stream, END_STREAM, &fields)).unwrap();
        assert_eq!(connection.reaction(stream), Reaction::Answer(200), "{name}");
        stream += 2;
        let received = backend.received().pop().unwrap();
        without_ids(&received.raw)
    };
    let honest = head_with("accept").replace("accept: forged\n", "");
    assert!(honest.contains("\nx-user: order-producer\n"), "{honest}");
    for name in FORGED.iter().chain(&["X-User", "X-User-Mail"]) {
        for spelling in spellings(&name.to_lowercase()) {
            let spelling = spelling.to_lowercase();
            assert_eq!(head_with(&spelling), honest, "{spelling}");
        }
    }
    for framing in ["content_length", "transfer_encoding", "transfer.encoding"] {
        assert_eq!(head_with(framing), honest, "{framing}");
    }
}

/// Headers that other servers, frameworks and access proxies believe: one of each family.
const FOREIGN: [&str; 56] = [
    "X-ARR-ClientCert",
    "WL-Proxy-Client-Cert",
    "WL-Proxy-Client-IP",
    "iv-user",
    "iv-groups",
    "SM_USER",
    "SMUSER",
    "X-MS-CLIENT-PRINCIPAL",
    "X-MS-CLIENT-PRINCIPAL-NAME",
    "X-MS-TOKEN-AAD-ID-TOKEN",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-IAP-JWT-Assertion",
    "X-Amzn-Oidc-Identity",
    "X-Amzn-Mtls-Clientcert",
    "X-Auth-Request-User",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Access-Token",
    "Remote-Groups",
    "Remote_Addr",
    "X-WEBAUTH-USER",
    "X-Authenticated-Userid",
    "SSL-Client-Cert",
    "SSLClientCertSubject",
    "X-ClientCert-DN",
    "X-ProxyUser-Ip",
    "OAM_REMOTE_USER",
    "Osso-User-Dn",
    "OIDC_CLAIM_sub",
    "Shib-Identity-Provider",
    "Cf-Access-Jwt-Assertion",
    "Cf-Client-Cert-Der-Base64",
    "Cf-Cert-Verified",
    "CloudFront-Viewer-Cert-Subject",
    "X-CloudTasks-QueueName",
    "X-CloudScheduler-JobName",
    "Proxy-Client-IP",
    "Tailscale-User-Login",
    "X-Tailscale-User",
    "X-authentik-username",
    "X-Vouch-User",
    "X-Pomerium-Jwt-Assertion",
    "X-Consumer-Username",
    "X-AppEngine-User-Email",
    "X-Endpoint-API-UserInfo",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Client-IP",
    "X-HTTP-Path-Override",
    "X-HTTP-Host-Override",
    "X-Original-Uri",
    "X-Rewrite-Uri",
    "X-Host",
    "X-Accel-Mapping",
    "X-Sendfile-Type",
    "X-Corp-User",
];

/// Cases 47 and 48: the proxy removes headers in which other servers carry the identity and the target, and headers that the
/// operator adds to the list.
#[test]
fn headers_that_other_servers_believe_leave_no_trace() {
    let backend = Backend::ok();
    let strip = serde_json::json!(["X-Corp-*", "x_own.user"]);
    let proxy = Setup::new(&backend.url()).set("identity_headers.strip", strip).policy(NARROW).start();
    let kept =
        "X-Requested-With: a\r\nX-Csrf-Token: b\r\nAuthorization: Basic c\r\nCookie: d=e\r\nX-MS-Version: 1";
    // The removal of headers changes the order of the lines, which has no meaning.
    let sorted = |head: String| {
        let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let honest = sorted(head_of(&backend, &proxy, with(kept)));
    for line in ["authorization: Basic c", "x-csrf-token: b", "x-requested-with: a"] {
        assert!(honest.contains(&line.to_owned()), "{line}: {honest:?}");
    }
    for at in 0..spellings("X-Own-User").len() {
        let forged: String = FOREIGN
            .iter()
            .chain(&["X-Own-User"])
            .map(|name| format!("{}: forged\r\n", spellings(&name.replace('_', "-"))[at]))
            .collect();
        assert_eq!(sorted(head_of(&backend, &proxy, with(format!("{forged}{kept}")))), honest);
    }
    let names: Vec<String> = FOREIGN.iter().map(|name| name.to_lowercase()).collect();
    let mut trailers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "forged")).collect();
    trailers.push(("x-kept", "yes"));
    let before = backend.received().len();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let request =
        [headers(1, 0, &POST_WITH_TRAILERS), frame(DATA, 0, 1, "a"), headers(1, END_STREAM, &trailers)]
            .concat();
    connection.send(request).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    let body = format!("1\r\na\r\n0\r\n{lines}\r\n");
    connection.send(post("TE: trailers\r\nTrailer: X-Kept\r\nTransfer-Encoding: chunked", body)).unwrap();
    assert_eq!(connection.answer_to("POST").unwrap().status, 200);
    for received in backend.wait_for(before + 2).drain(before..) {
        let raw = String::from_utf8(received.raw).unwrap().to_lowercase();
        assert!(raw.ends_with("1\r\na\r\n0\r\nx-kept: yes\r\n\r\n"), "{raw}");
    }
}

/// Case 48: a path in a rewriting header changes no decision of the policy, in either direction.
#[test]
fn a_path_in_a_header_is_not_judged() {
    for name in
        ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Envoy-Original-Path"]
    {
        let asked = |path: &str, said: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {said}\r\n\r\n").into_bytes()
        };
        assert_outcomes(&[
            denied("case 48: what is denied, as what is allowed", asked("/admin", "/events")),
            forwarded(
                "case 48: what is allowed, as what is denied",
                "GET /events HTTP/1.1",
                asked("/events", "/admin"),
            ),
        ]);
    }
}

/// Returns the spellings of a name that backends read alike: CGI turns `-` and `.` into `_`; some servers turn every other
/// character into `_`.
fn spellings(name: &str) -> Vec<String> {
    vec![
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "."),
        name.replacen('-', "_", 1).to_lowercase(),
        name.replace('-', "~"),
        name.replacen('-', "!", 1),
    ]
}

/// The head of a request of HTTP/2 that has trailers.
const POST_WITH_TRAILERS: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/events"),
    ("te", "trailers"),
    ("trailer", "x-kept, client-cert, x-client-id"),
];

/// Case 59: forged headers are removed from trailers too.
#[test]
fn forged_trailers_leave_no_trace() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let trailers = "Client-Cert: forged\r\nX_Remote_User: forged\r\nX-HTTP-Method-Override: forged\r\nForwarded: forged\r\n\
                    Content-Length: 99\r\nTransfer-Encoding: forged\r\nHost: forged\r\nConnection: forged\r\n";
    let body = format!("1\r\na\r\n0\r\n{trailers}X-Kept: yes\r\n\r\n");
    let fields = "TE: trailers\r\nTrailer: X-Kept, Client-Cert\r\nTransfer-Encoding: chunked";
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send(post(fields, body)).unwrap();
    assert_eq!(connection.answer_to("POST").unwrap().status, 200);
    let raw = String::from_utf8(backend.wait_for(1).remove(0).raw).unwrap().to_lowercase();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "1\r\na\r\n0\r\nx-kept: yes\r\n\r\n");
    assert!(!head.contains("forged"), "{head}");

    let trailers = [
        ("client-cert", "forged"),
        ("x_remote_user", "forged"),
        ("x.client.id", "forged"),
        ("x-http-method-override", "forged"),
        ("forwarded", "forged"),
        ("content-length", "99"),
        ("content_length", "99"),
        ("host", "forged"),
        ("authorization", "forged"),
        ("x-kept", "yes"),
    ];
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let request =
        [headers(1, 0, &POST_WITH_TRAILERS), frame(DATA, 0, 1, "a"), headers(1, END_STREAM, &trailers)]
            .concat();
    connection.send(request).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    let raw = String::from_utf8(backend.wait_for(2).remove(1).raw).unwrap().to_lowercase();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "1\r\na\r\n0\r\nx-kept: yes\r\n\r\n");
    assert!(!head.contains("forged"), "{head}");
}

#[test]
fn only_a_plain_host_is_accepted() {
    let host = |host: &str| format!("GET /events HTTP/1.1\r\n{host}\r\n\r\n").into_bytes();
    let events = "GET /events HTTP/1.1";
    assert_outcomes(&[
        ambiguous("case 61: none", host("Accept: a")),
        ambiguous("case 61: empty", host("Host:")),
        ambiguous("case 61: two", host("Host: localhost\r\nHost: elsewhere")),
        ambiguous("case 61: one, twice", host("Host: localhost\r\nHost: localhost")),
        ambiguous("case 61: a list", host("Host: localhost, elsewhere")),
        ambiguous("case 61: a user", host("Host: user@localhost")),
        ambiguous("case 61: a path", host("Host: localhost/x")),
        ambiguous("case 61: a query", host("Host: localhost?x")),
        ambiguous("case 61: a fragment", host("Host: localhost#x")),
        ambiguous("case 61: a URL", host("Host: https://localhost")),
        ambiguous("case 61: a space", host("Host: local host")),
        ambiguous("case 61: an escape", host("Host: local%68ost")),
        ambiguous("case 61: no ASCII", host("Host: l\u{f6}calhost")),
        ambiguous("case 61: no port after the colon", host("Host: localhost:")),
        ambiguous("case 61: port 0", host("Host: localhost:0")),
        ambiguous("case 61: a name for a port", host("Host: localhost:https")),
        ambiguous("case 61: a sign before the port", host("Host: localhost:+443")),
        ambiguous("case 61: a port too large", host("Host: localhost:65536")),
        ambiguous("case 61: two ports", host("Host: localhost:443:80")),
        ambiguous("case 61: an address with a zone", host("Host: [fe80::1%25eth0]")),
        ambiguous("case 61: an address cut short", host("Host: [::1")),
        ambiguous("case 61: an address and more", host("Host: [::1]x")),
        ambiguous("case 61: brackets without an address", host("Host: [localhost]")),
        forwarded("case 61: an address", events, host("Host: [::1]:8443")),
        forwarded("case 61: capitals", events, host("Host: LocalHost")),
        forwarded("case 61: a dot at the end", events, host("Host: localhost.")),
        forwarded("case 61: HTTP/1.0 may do without", events, b"GET /events HTTP/1.0\r\n\r\n"),
    ]);
}

/// The backend gets the one host that was judged.
#[test]
fn the_host_is_forwarded_as_it_was_judged() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (request, expected) in [
        ("GET /events HTTP/1.1\r\nHost: LocalHost.:8443\r\n\r\n", "LocalHost.:8443"),
        ("GET https://localhost/events HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n", "LOCALHOST"),
    ] {
        let before = backend.received().len();
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(connection.ask(request).unwrap().status, 200);
        assert_eq!(backend.received()[before].header("host"), [expected], "case 61");
        assert_eq!(backend.received()[before].header("x-forwarded-host"), [expected], "case 61");
    }
}

#[test]
fn broken_header_lines_are_refused() {
    assert_outcomes(&[
        no_http("case 62: no name", with(": 1")),
        no_http("case 62: a space before the colon", with("X-A : 1")),
        no_http("case 62: a tab before the colon", with("X-A\t: 1")),
        no_http("case 62: a space before a framing", with("Transfer-Encoding : chunked")),
        no_http("case 62: no colon", with("X-A")),
        no_http("case 62: a folded line", with("X-A: 1\r\n 2")),
        no_http("case 62: a folded line, by a tab", with("X-A: 1\r\n\tTransfer-Encoding: chunked")),
        no_http("case 62: a first line that is folded", b"GET /events HTTP/1.1\r\n Host: localhost\r\n\r\n"),
        no_http("case 62: a bare CR in a value", with("X-A: a\rTransfer-Encoding: chunked")),
        no_http("case 62: a bare CR before the end", with("X-A: a\r")),
        no_http("case 62: a bare CR in a name", with("X\r-A: a")),
        no_http("case 62: a bare LF after a field", with("X-A: a\nX-B: b")),
        no_http("case 62: a bare LF before a framing", with("X-A: a\nTransfer-Encoding: chunked")),
        no_http("case 62: a bare LF after the first line", b"GET /events HTTP/1.1\nHost: localhost\r\n\r\n"),
        no_http("case 62: a bare LF at the end", b"GET /events HTTP/1.1\r\nHost: localhost\r\n\n"),
        no_http("case 62: bare LFs everywhere", b"GET /events HTTP/1.1\nHost: localhost\n\n"),
        no_http("case 62: a bare LF before it all", b"\nGET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        no_http("case 62: NUL in a value", with("X-A: a\0b")),
        no_http("case 62: NUL in a name", with("X-\0A: b")),
        no_http("case 62: a control in a value", with("X-A: a\x01b")),
        no_http("case 62: DEL in a value", with("X-A: a\x7fb")),
        no_http("case 62: a bracket in a name", with("X(A): b")),
        no_http("case 62: no ASCII in a name", with("X-\u{e9}: b")),
        denied(
            "case 63: a probe's name",
            b"GET /admin HTTP/1.1\r\nHost: localhost\r\nUser-Agent: kube-probe/1.30\r\n\r\n",
        ),
        denied("case 63: a probe's path", get("/healthz")),
        denied("case 63: a ping", get("/ping")),
    ]);
}
