//! Headers: no header of a client about its identity, its request or its path to the proxy is forwarded.

use super::outcomes::{NARROW, ambiguous, assert_outcomes, denied, forwarded, get, malformed, post, with};
use crate::support::backend::ReceivedRequest;
use crate::support::frames::{END_STREAM, Frames, Reaction, headers, request_with_trailers};
use crate::support::{Backend, Proxy, Setup};

/// Headers that a backend trusts behind a proxy, or that change the request in its eyes.
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

/// Sends a request and returns the request of the backend, without the ids that differ for each request.
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

/// Cases 47, 48, 55, 56, 57, 58 and 60: forged headers change no byte of the request to the backend.
#[test]
fn forged_headers_change_nothing_at_the_backend() {
    let backend = Backend::ok();
    let names = serde_json::json!({ "X-User": "common_name", "X-User-Mail": "email" });
    for setup in [
        Setup::new(&backend.url()),
        Setup::new(&backend.url()).set("identity_headers.client_cert", false),
        Setup::new(&backend.url()).set("identity_headers.xfcc", true).set("identity_headers.custom", names),
    ] {
        let has_custom = setup.config["identity_headers"]["custom"].is_object();
        let proxy = setup.policy(NARROW).start();
        let honest = head_of(&backend, &proxy, with("X-Kept: yes"));
        let has_mail = honest.to_lowercase().contains("x-user-mail");
        assert!(!has_mail, "case 58: the certificate has no e-mail address: {honest}");
        let custom: &[&str] = if has_custom { &["X-User", "X-User-Mail"] } else { &[] };
        for name in FORGED.iter().chain(custom) {
            for fields in forgeries(name) {
                assert_eq!(head_of(&backend, &proxy, with(&fields)), honest, "{fields}");
            }
        }
        let head = head_of(&backend, &proxy, with("Connection: X-Kept, Host, X-Request-Id\r\nX-Kept: no"));
        assert_eq!(
            head,
            honest.replace("x-kept: yes\n", ""),
            "`Connection` removes only headers of the client"
        );
    }
}

/// Returns header lines with `X-Kept` and a forged header, in every spelling, and also named by `Connection`.
fn forgeries(name: &str) -> Vec<String> {
    let spelled = spellings(name).into_iter().map(|spelling| format!("{spelling}: forged\r\nX-Kept: yes"));
    let (lower, upper) = (name.to_lowercase(), name.to_uppercase());
    let named = [
        format!("Connection: {name}"),
        format!("Connection: close, {lower}"),
        format!("Connection: keep-alive\r\nConnection: \"x\", {upper},"),
    ];
    spelled.chain(named.map(|lines| format!("X-Kept: yes\r\n{lines}\r\n{name}: forged"))).collect()
}

/// Cases 47, 48, 55, 56, 58 and 60 in HTTP/2, whose frames can contain every spelling of a name.
#[test]
fn forged_http2_headers_change_nothing_at_the_backend() {
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

/// Headers that other servers, frameworks and access proxies trust, one of each family.
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

fn stripping_proxy(backend: &Backend) -> Proxy {
    let strip = serde_json::json!(["X-Corp-*", "x_own.user"]);
    Setup::new(&backend.url()).set("identity_headers.strip", strip).policy(NARROW).start()
}

/// Cases 47 and 48: headers that other servers trust, and headers that the operator adds to the list, are removed.
#[test]
fn headers_that_other_servers_trust_are_removed() {
    let backend = Backend::ok();
    let proxy = stripping_proxy(&backend);
    let kept =
        "X-Requested-With: a\r\nX-Csrf-Token: b\r\nAuthorization: Basic c\r\nCookie: d=e\r\nX-MS-Version: 1";
    // The order of header lines changes when lines are removed, and has no meaning.
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
}

/// Cases 47, 48 and 59: the same headers are removed from trailers, in both versions of HTTP.
#[test]
fn trailers_that_other_servers_trust_are_removed() {
    let backend = Backend::ok();
    let proxy = stripping_proxy(&backend);
    let names: Vec<String> = FOREIGN.iter().map(|name| name.to_lowercase()).collect();
    let mut trailers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "forged")).collect();
    trailers.push(("x-kept", "yes"));
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(request_with_trailers(1, &POST_WITH_TRAILERS, "a", &trailers)).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    let body = format!("1\r\na\r\n0\r\n{lines}\r\n");
    connection.send(post("TE: trailers\r\nTrailer: X-Kept\r\nTransfer-Encoding: chunked", body)).unwrap();
    assert_eq!(connection.answer_to("POST").unwrap().status, 200);
    for received in backend.wait_for(2) {
        assert_only_kept_trailer(received);
    }
}

/// Checks that the body is `a` and that the only trailer is `x-kept`; returns the head in lower case.
#[track_caller]
fn assert_only_kept_trailer(request: ReceivedRequest) -> String {
    let raw = String::from_utf8(request.raw).unwrap().to_lowercase();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "1\r\na\r\n0\r\nx-kept: yes\r\n\r\n");
    head.to_owned()
}

/// Case 48: a header that rewrites the path neither allows nor denies a request.
#[test]
fn a_path_in_a_header_is_not_judged() {
    for name in
        ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Envoy-Original-Path"]
    {
        let request = |path: &str, value: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n\r\n").into_bytes()
        };
        assert_outcomes(&[
            denied("case 48: a denied path with an allowed path in the header", request("/admin", "/events")),
            forwarded(
                "case 48: an allowed path with a denied path in the header",
                "GET /events HTTP/1.1",
                request("/events", "/admin"),
            ),
        ]);
    }
}

/// Returns spellings of a name that are one variable for a server: CGI replaces `-` and `.`, and in some servers all other
/// punctuation, by `_`.
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

/// The head of an HTTP/2 request with trailers.
const POST_WITH_TRAILERS: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/events"),
    ("te", "trailers"),
    ("trailer", "x-kept, client-cert, x-client-id"),
];

/// Case 59: forged trailers are removed in HTTP/1.1.
#[test]
fn forged_trailers_are_removed() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let trailers = "Client-Cert: forged\r\nX_Remote_User: forged\r\nX-HTTP-Method-Override: forged\r\nForwarded: forged\r\n\
                    Content-Length: 99\r\nTransfer-Encoding: forged\r\nHost: forged\r\nConnection: forged\r\n";
    let body = format!("1\r\na\r\n0\r\n{trailers}X-Kept: yes\r\n\r\n");
    let fields = "TE: trailers\r\nTrailer: X-Kept, Client-Cert\r\nTransfer-Encoding: chunked";
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send(post(fields, body)).unwrap();
    assert_eq!(connection.answer_to("POST").unwrap().status, 200);
    let head = assert_only_kept_trailer(backend.wait_for(1).remove(0));
    assert!(!head.contains("forged"), "{head}");
}

/// Case 59: forged trailers are removed in HTTP/2.
#[test]
fn forged_trailers_are_removed_in_http2() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
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
    connection.send(request_with_trailers(1, &POST_WITH_TRAILERS, "a", &trailers)).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    let head = assert_only_kept_trailer(backend.wait_for(1).remove(0));
    assert!(!head.contains("forged"), "{head}");
}

#[test]
fn ambiguous_hosts_are_refused() {
    let host = |host: &str| format!("GET /events HTTP/1.1\r\n{host}\r\n\r\n").into_bytes();
    let events = "GET /events HTTP/1.1";
    assert_outcomes(&[
        ambiguous("case 61: no host", host("Accept: a")),
        ambiguous("case 61: an empty host", host("Host:")),
        ambiguous("case 61: two hosts", host("Host: localhost\r\nHost: elsewhere")),
        ambiguous("case 61: the same host twice", host("Host: localhost\r\nHost: localhost")),
        ambiguous("case 61: a list", host("Host: localhost, elsewhere")),
        ambiguous("case 61: a user", host("Host: user@localhost")),
        ambiguous("case 61: a path", host("Host: localhost/x")),
        ambiguous("case 61: a query", host("Host: localhost?x")),
        ambiguous("case 61: a fragment", host("Host: localhost#x")),
        ambiguous("case 61: a URL", host("Host: https://localhost")),
        ambiguous("case 61: a space", host("Host: local host")),
        ambiguous("case 61: an escape", host("Host: local%68ost")),
        ambiguous("case 61: a letter outside of ASCII", host("Host: l\u{f6}calhost")),
        ambiguous("case 61: a colon without a port", host("Host: localhost:")),
        ambiguous("case 61: port 0", host("Host: localhost:0")),
        ambiguous("case 61: a name for a port", host("Host: localhost:https")),
        ambiguous("case 61: a sign before the port", host("Host: localhost:+443")),
        ambiguous("case 61: a port too large", host("Host: localhost:65536")),
        ambiguous("case 61: two ports", host("Host: localhost:443:80")),
        ambiguous("case 61: an address with a zone", host("Host: [fe80::1%25eth0]")),
        ambiguous("case 61: an incomplete address", host("Host: [::1")),
        ambiguous("case 61: text after an address", host("Host: [::1]x")),
        ambiguous("case 61: brackets without an address", host("Host: [localhost]")),
        forwarded("case 61: an address", events, host("Host: [::1]:8443")),
        forwarded("case 61: capitals", events, host("Host: LocalHost")),
        forwarded("case 61: a dot at the end", events, host("Host: localhost.")),
        forwarded("case 61: HTTP/1.0 without a host", events, b"GET /events HTTP/1.0\r\n\r\n"),
    ]);
}

/// Case 61: the host that is judged is the only one that the backend gets.
#[test]
fn the_judged_host_is_forwarded_unchanged() {
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
fn malformed_header_lines_are_refused() {
    assert_outcomes(&[
        malformed("case 62: a line without a name", with(": 1")),
        malformed("case 62: a space before the colon", with("X-A : 1")),
        malformed("case 62: a tab before the colon", with("X-A\t: 1")),
        malformed("case 62: a space before a framing", with("Transfer-Encoding : chunked")),
        malformed("case 62: a line without a colon", with("X-A")),
        malformed("case 62: a folded line", with("X-A: 1\r\n 2")),
        malformed("case 62: a folded line, by a tab", with("X-A: 1\r\n\tTransfer-Encoding: chunked")),
        malformed("case 62: a folded first header line", b"GET /events HTTP/1.1\r\n Host: localhost\r\n\r\n"),
        malformed("case 62: a bare CR in a value", with("X-A: a\rTransfer-Encoding: chunked")),
        malformed("case 62: a bare CR before the end", with("X-A: a\r")),
        malformed("case 62: a bare CR in a name", with("X\r-A: a")),
        malformed("case 62: a bare LF after a field", with("X-A: a\nX-B: b")),
        malformed("case 62: a bare LF before a framing", with("X-A: a\nTransfer-Encoding: chunked")),
        malformed(
            "case 62: a bare LF after the first line",
            b"GET /events HTTP/1.1\nHost: localhost\r\n\r\n",
        ),
        malformed("case 62: a bare LF at the end", b"GET /events HTTP/1.1\r\nHost: localhost\r\n\n"),
        malformed("case 62: bare LFs everywhere", b"GET /events HTTP/1.1\nHost: localhost\n\n"),
        malformed(
            "case 62: a bare LF before the request",
            b"\nGET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        malformed("case 62: NUL in a value", with("X-A: a\0b")),
        malformed("case 62: NUL in a name", with("X-\0A: b")),
        malformed("case 62: a control in a value", with("X-A: a\x01b")),
        malformed("case 62: DEL in a value", with("X-A: a\x7fb")),
        malformed("case 62: a bracket in a name", with("X(A): b")),
        malformed("case 62: a letter outside of ASCII in a name", with("X-\u{e9}: b")),
        denied(
            "case 63: a probe's name",
            b"GET /admin HTTP/1.1\r\nHost: localhost\r\nUser-Agent: kube-probe/1.30\r\n\r\n",
        ),
        denied("case 63: a probe's path", get("/healthz")),
        denied("case 63: a ping", get("/ping")),
    ]);
}
