//! Many random requests: the backend gets exactly those that a simple model of the policy permits, each once, with the judged
//! bytes.
//!
//! `SIDEGATE_MIXED_REQUESTS` sets the number of requests, `SIDEGATE_MIXED_SEED` the seed.

use std::collections::HashMap;
use std::env;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use sidegate::demo::pki::Leaf;

use crate::support::backend::OK;
use crate::support::frames::{
    DATA, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, WINDOW_UPDATE, frame, headers,
};
use crate::support::random::Random;
use crate::support::{Backend, Client, Proxy, Setup};

const POLICY: &str = r#"version: 1
permissions:
  events:read: [GET /events, "GET /events/{id}"]
  events:write: [POST /events, "POST|PUT /events/{id}"]
  public: ["* /public/**"]
  tenant: ["* /tenants/{client.tenant}/**"]
  reports:
    - { route: "GET /reports/{name}", query: { format: [csv, json] } }
  batches:
    - { route: POST /batches, headers: { X-Mode: batch } }
  shop:
    - { route: "GET /shop/{name}", hosts: [shop.example, "*.shop.example:8443"] }
  guarded: ["GET /guarded/**"]
roles:
  producer: ["events:*", reports, public, batches, shop, guarded]
clients:
  - { name: producer, match: { uri: "spiffe://shop.example/ns/orders/sa/*" }, roles: [producer] }
  - { name: consumer, match: { uri: "spiffe://shop.example/ns/reports/sa/*" }, permissions: ["events:read", public] }
  - { name: tenants, match: { organization: Tenants, common_name: "{tenant}-reader" }, permissions: [tenant] }
deny:
  - { name: thirteen, clients: [producer], routes: ["POST|PUT /events/13"] }
  - { name: secret, routes: ["* /public/secret/**"] }
  - { name: live, routes: [{ route: "* /guarded/**", headers: { X-Mode: live } }] }
  - { name: pdf, routes: [{ route: "* /guarded/**", query: { format: [pdf] } }] }
  - { name: internal, routes: [{ route: "* /guarded/**", hosts: [internal.example] }] }
"#;

/// The value of a request for a condition, as the model of the policy reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConditionInput {
    Absent,
    Value(&'static str),
    /// A value that two backends may read differently.
    Doubtful,
    /// A value for which the request is refused.
    Refused,
}
use ConditionInput::{Absent, Doubtful, Refused, Value};

impl ConditionInput {
    fn is(self, values: &[&str]) -> bool {
        matches!(self, Value(value) if values.contains(&value))
    }

    /// Returns true if a deny of this value is met.
    fn may_be(self, value: &str) -> bool {
        self == Doubtful || self.is(&[value])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientKind {
    Producer,
    Consumer,
    Tenant,
    Stranger,
    Expired,
}

const ALL_CLIENTS: [ClientKind; 5] = [
    ClientKind::Producer,
    ClientKind::Consumer,
    ClientKind::Tenant,
    ClientKind::Stranger,
    ClientKind::Expired,
];

/// A request that can be sent in both versions of HTTP.
#[derive(Clone, Debug)]
struct RandomRequest {
    number: usize,
    method: &'static str,
    path: String,
    query: Option<(&'static str, ConditionInput)>,
    has_fragment: bool,
    fields: (&'static [(&'static str, &'static str)], ConditionInput),
    host: (&'static str, ConditionInput),
    body: Option<String>,
    is_chunked: bool,
}

const METHODS: [&str; 14] = [
    "GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE", "OPTIONS", "BREW", "TRACE",
    "get",
];
const FIRST: [&str; 14] = [
    "events", "events", "events", "public", "public", "tenants", "reports", "reports", "batches", "batches",
    "shop", "guarded", "guarded", "admin",
];
const THEN: [&str; 22] = [
    "1",
    "42",
    "13",
    "%31%33",
    "acme",
    "acm%65",
    "globex",
    "secret",
    "Secret",
    "%73ecret",
    "a%20b",
    "caf%C3%A9",
    "~x",
    "a.b",
    "...",
    "a:b@c",
    "a,b",
    "x=y",
    "*",
    "%2A",
    "1!",
    "events",
];
const ODD: [&str; 24] = [
    "..", ".", "%2e%2e", ".%2E", "%2e", "", "a;b", "%3b", "a%2Fb", "a\\b", "%5c", "%zz", "%", "%4", "%252e",
    "%2541", "%ff", "%c0%af", "%00", "%0d%0a", "%7f", "\u{e9}", "a\"b", "{x}",
];
/// Queries, each with its value of `format`.
const QUERIES: [(&str, ConditionInput); 31] = [
    ("", Absent),
    ("x=1", Absent),
    ("format=csv", Value("csv")),
    ("format=csv", Value("csv")),
    ("format=json", Value("json")),
    ("format=pdf", Value("pdf")),
    ("format=%63sv", Value("csv")),
    ("f%6frmat=csv", Value("csv")),
    ("f%6Frmat=p%64f", Value("pdf")),
    ("format=csv&x=2", Value("csv")),
    ("x[format]=pdf&format=csv", Value("csv")),
    ("Format=csv", Doubtful),
    ("format=csv&format=csv", Doubtful),
    ("format=csv&format=pdf", Doubtful),
    ("format=csv,json", Doubtful),
    ("format=csv;x", Doubtful),
    ("format=csv&x=1;f%6Frmat=pdf", Doubtful),
    ("format=csv&x=1%3bformat=pdf", Doubtful),
    ("x=1;format=pdf", Doubtful),
    ("format=csv&FORMAT=pdf", Doubtful),
    ("format=csv&format[]=pdf", Doubtful),
    ("format=csv&%5Bformat%5D=pdf", Doubtful),
    ("format=csv&+format%20=pdf", Doubtful),
    ("a[]=1&b=?", Absent),
    ("x=/../admin", Absent),
    ("x=%2F%25", Absent),
    ("x=format&y=pdf", Absent),
    ("x=%0a", Refused),
    ("x=%zz", Refused),
    ("x=\\", Refused),
    (QUOTE, Refused),
];

/// Header lines, each with the forwarded value of `X-Mode`.
const FIELDS: [(&[(&str, &str)], ConditionInput); 14] = [
    (&[], Absent),
    (&[("X-Mode", "batch")], Value("batch")),
    (&[("X-Mode", "batch")], Value("batch")),
    (&[("x-mode", "batch"), ("X-Modes", "live")], Value("batch")),
    (&[("X-Mode", "live")], Value("live")),
    (&[("X-Mode", "batch"), ("X-Mode", "batch")], Doubtful),
    (&[("X-Mode", "batch, live")], Doubtful),
    (&[("X_Mode", "batch")], Doubtful),
    (&[("X_Mode", "live")], Doubtful),
    (&[("X-Mode", "batch"), ("X_Mode", "live")], Doubtful),
    (&[("X.MODE", "live"), ("X-Mode", "batch")], Doubtful),
    (&[("X-Mode", "batch"), ("Connection", "X-Mode")], Absent),
    (&[("Connection", "close, x-mode"), ("X-Mode", "live")], Absent),
    (&[("Connection", "X-Mode"), ("X-Mode", "batch"), ("x_mode", "live")], Doubtful),
];

/// Hosts, each with the host of the policy that it matches.
const HOSTS: [(&str, ConditionInput); 13] = [
    ("localhost", Absent),
    ("localhost", Absent),
    ("shop.example", Value("shop")),
    ("SHOP.example.", Value("shop")),
    ("shop.example:1", Value("shop")),
    ("a.shop.example:8443", Value("shop")),
    ("a.shop.example", Absent),
    ("a.b.shop.example:8443", Absent),
    ("internal.example", Value("internal")),
    ("Internal.Example.:8443", Value("internal")),
    ("internal..example", Doubtful),
    (".shop.example", Doubtful),
    ("[::1]:8443", Absent),
];

/// A query that no `:path` of HTTP/2 can contain.
const QUOTE: &str = "x=\"";

const WHOLE_PATHS: [&str; 7] =
    ["/", "/EVENTS", "/Events/1", "/eventss", "/publicity/x", "//events", "/%65vents"];

fn random_path(random: &mut Random) -> String {
    if random.one_in(40) {
        return random.one_of(&WHOLE_PATHS).to_owned();
    }
    let odd_at = random.one_in(5).then(|| random.below(3));
    let mut path =
        format!("/{}", if odd_at == Some(0) { random.one_of(&ODD) } else { random.one_of(&FIRST) });
    for at in 1..1 + random.below(3) {
        path.push('/');
        path.push_str(if odd_at == Some(at) { random.one_of(&ODD) } else { random.one_of(&THEN) });
    }
    if random.one_in(15) {
        path.push('/');
    }
    path
}

impl RandomRequest {
    fn new(random: &mut Random, number: usize) -> Self {
        let path = random_path(random);
        let body = random.one_in(3).then(|| {
            // A parser that misses the end of the request would read this body as another request.
            let hidden = format!("GET /public/hidden-{number} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            if random.one_in(2) { hidden } else { format!("{number} ").repeat(1 + random.below(20)) }
        });
        Self {
            number,
            method: random.one_of(&METHODS),
            path,
            query: (!random.one_in(2)).then(|| random.one_of(&QUERIES)),
            has_fragment: random.one_in(50),
            fields: random.one_of(&FIELDS),
            host: random.one_of(&HOSTS),
            body,
            is_chunked: random.one_in(2),
        }
    }

    /// Returns path and query as the backend must get them.
    fn target(&self) -> String {
        let query = self.query.map(|(query, _)| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.path)
    }

    /// Returns the request without a quote in `:path` and without `Connection`. The proxy resets streams with either of them,
    /// and ends a connection with too many resets.
    fn for_http2(self) -> Self {
        let query = self.query.filter(|(query, _)| *query != QUOTE);
        let has_connection = self.fields.0.iter().any(|(name, _)| *name == "Connection");
        let fields = if has_connection { FIELDS[0] } else { self.fields };
        Self { query, fields, path: self.path.replace('"', "'"), ..self }
    }

    fn sent_target(&self) -> String {
        self.target() + if self.has_fragment { "#/public" } else { "" }
    }

    fn http1_text(&self) -> String {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nX-Number: {}\r\n",
            self.method,
            self.sent_target(),
            self.host.0,
            self.number
        );
        for (name, value) in self.fields.0 {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        match &self.body {
            None => text + "\r\n",
            Some(body) if self.is_chunked => {
                let (first, second) = body.split_at(body.len() / 2);
                let chunk = |part: &str| match part.len() {
                    0 => String::new(),
                    length => format!("{length:X};x\r\n{part}\r\n"),
                };
                format!("{text}Transfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(first), chunk(second))
            }
            Some(body) => format!("{text}Content-Length: {}\r\n\r\n{body}", body.len()),
        }
    }

    fn http2_frames(&self, stream: u32) -> Vec<u8> {
        let (number, target) = (self.number.to_string(), self.sent_target());
        let length = self.body.as_ref().map(|body| body.len().to_string());
        let mut fields = vec![
            (":method", self.method),
            (":scheme", "https"),
            (":authority", self.host.0),
            (":path", target.as_str()),
            ("x-number", number.as_str()),
        ];
        let names: Vec<String> = self.fields.0.iter().map(|(name, _)| name.to_lowercase()).collect();
        fields.extend(names.iter().zip(self.fields.0).map(|(name, (_, value))| (name.as_str(), *value)));
        if let Some(length) = length.as_deref().filter(|_| !self.is_chunked) {
            fields.push(("content-length", length));
        }
        match &self.body {
            None => headers(stream, END_STREAM, &fields),
            Some(body) => [headers(stream, 0, &fields), frame(DATA, END_STREAM, stream, body)].concat(),
        }
    }

    /// Returns the right status: first the client is checked, then ambiguity, then the policy.
    fn status(&self, client: ClientKind) -> u16 {
        if matches!(client, ClientKind::Stranger | ClientKind::Expired) {
            return 401;
        }
        let Some(segments) = segments(&self.path) else { return 400 };
        if self.method == "get" || self.format() == Refused {
            return 400;
        }
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if self.is_allowed(client, &segments) { 200 } else { 403 }
    }

    fn is_allowed(&self, client: ClientKind, segments: &[&str]) -> bool {
        if matches!(segments, ["public", "secret", ..]) {
            return false;
        }
        let is_public = matches!(segments, ["public", ..]);
        match client {
            ClientKind::Producer => {
                is_public
                    || self.reads_events(segments)
                    || self.writes_events(segments)
                    || self.meets_condition(segments)
            }
            ClientKind::Consumer => is_public || self.reads_events(segments),
            ClientKind::Tenant => matches!(segments, ["tenants", "acme", ..]),
            ClientKind::Stranger | ClientKind::Expired => false,
        }
    }

    fn is_get(&self) -> bool {
        ["GET", "HEAD"].contains(&self.method)
    }

    fn reads_events(&self, segments: &[&str]) -> bool {
        let is_events = match segments {
            ["events"] => true,
            ["events", id] => !id.is_empty(),
            _ => false,
        };
        self.is_get() && is_events
    }

    fn writes_events(&self, segments: &[&str]) -> bool {
        match segments {
            ["events"] => self.method == "POST",
            ["events", id] => ["POST", "PUT"].contains(&self.method) && !id.is_empty() && *id != "13",
            _ => false,
        }
    }

    /// Returns true if a grant with a condition allows the request and no deny with a condition is met.
    fn meets_condition(&self, segments: &[&str]) -> bool {
        let (mode, host) = (self.fields.1, self.host.1);
        match segments {
            ["reports", name] => self.is_get() && !name.is_empty() && self.format().is(&["csv", "json"]),
            ["batches"] => self.method == "POST" && mode.is(&["batch"]),
            ["shop", name] => self.is_get() && !name.is_empty() && host.is(&["shop"]),
            ["guarded", ..] => {
                let is_denied = mode.may_be("live") || self.format().may_be("pdf") || host.may_be("internal");
                self.is_get() && !is_denied
            }
            _ => false,
        }
    }

    fn format(&self) -> ConditionInput {
        self.query.map_or(Absent, |(_, input)| input)
    }
}

/// Returns the segments of a path, decoded once; `None` if two parsers could read them differently.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&str> = path.split('/').collect();
    let (last, inner) = parts.split_last()?;
    if inner.contains(&"") {
        return None;
    }
    let mut segments = Vec::new();
    for part in inner.iter().chain([last]) {
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@%".contains(&byte)) {
            return None;
        }
        let (decoded, has_escape) = decoded(part)?;
        if decoded.contains(['/', '\\', ';'])
            || decoded.chars().any(char::is_control)
            || [".", ".."].contains(&decoded.as_str())
            || has_escape
        {
            return None;
        }
        segments.push(decoded);
    }
    Some(segments)
}

/// Decodes the escapes once; returns also true if the result contains an escape.
fn decoded(text: &str) -> Option<(String, bool)> {
    let mut bytes = Vec::new();
    let mut twice = false;
    let mut parts = text.split('%');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        twice |= byte == b'%' && part.len() >= 4 && part[2..4].bytes().all(|byte| byte.is_ascii_hexdigit());
        bytes.push(byte);
        bytes.extend(part[2..].bytes());
    }
    Some((String::from_utf8(bytes).ok()?, twice))
}

/// Start lines and bodies of the requests at the backend, by the number of the request.
type RequestsByNumber = Arc<Mutex<HashMap<usize, Vec<(String, Vec<u8>)>>>>;

/// Heads of all requests at the backend.
type Heads = Arc<Mutex<Vec<String>>>;

/// Returns every value that a backend may read for a header. CGI, WSGI, PHP and Rack turn names into variables, and use the
/// first line, the last line or all lines together.
fn variable(head: &str, name: &str) -> Vec<String> {
    let upper = |name: &str| -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    };
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let values: Vec<&str> =
        fields.filter(|(field, _)| upper(field) == name).map(|(_, value)| value.trim()).collect();
    all_readings(&values)
}

fn all_readings(values: &[&str]) -> Vec<String> {
    match values {
        [] => Vec::new(),
        [first, .., last] => vec![(*first).to_owned(), (*last).to_owned(), values.join(",")],
        [only] => vec![(*only).to_owned()],
    }
}

/// Returns every value that a backend may read for a parameter. Backends change names: the Java Servlet API not at all, ASP.NET
/// ignores case, PHP removes brackets and leading spaces and turns a dot into `_`, Rack removes brackets. Old backends also
/// split at `;`.
fn parameter(query: &str, name: &str) -> Vec<String> {
    let readers: [fn(&str) -> String; 4] = [
        str::to_owned,
        |name| name.trim().to_lowercase(),
        |name| name.trim_start().split('[').next().unwrap_or_default().replace([' ', '.'], "_"),
        |name| name.trim_start_matches(['[', ']']).split(['[', ']']).next().unwrap_or_default().to_owned(),
    ];
    let decoded = |text: &str| decoded(&text.replace('+', " ")).map(|(text, _)| text).unwrap_or_default();
    let mut found = Vec::new();
    for separators in [&['&'][..], &['&', ';']] {
        let pairs = query.split(separators).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let pairs: Vec<_> = pairs.map(|(name, value)| (decoded(name), decoded(value))).collect();
        for reader in readers {
            let values: Vec<&str> = pairs
                .iter()
                .filter(|(other, _)| reader(other) == name)
                .map(|(_, value)| value.as_str())
                .collect();
            found.extend(all_readings(&values));
        }
    }
    found
}

/// Checks that every possible reading of a forwarded request meets the condition of its grant.
fn assert_read_as_judged(head: &str) {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments = segments(path).unwrap_or_default();
    let (mode, format) = (variable(head, "X_MODE"), parameter(query, "format"));
    let host = variable(head, "HOST").join(" ").to_lowercase();
    let host = host.split(':').next().unwrap_or_default().trim_end_matches('.');
    match segments.first().map(String::as_str) {
        Some("batches") => assert!(!mode.is_empty() && mode.iter().all(|mode| mode == "batch"), "{head}"),
        Some("reports") => {
            let is_meant = |format: &String| ["csv", "json"].contains(&format.as_str());
            assert!(!format.is_empty() && format.iter().all(is_meant), "{head}");
        }
        Some("shop") => assert!(host == "shop.example" || host == "a.shop.example", "{head}"),
        Some("guarded") => {
            assert!(!mode.contains(&"live".to_owned()) && !format.contains(&"pdf".to_owned()), "{head}");
            assert_ne!(host, "internal.example", "{head}");
        }
        _ => {}
    }
}

fn recording_backend() -> (Backend, RequestsByNumber, Heads) {
    let (requests, all_heads) = (RequestsByNumber::default(), Heads::default());
    let (record, heads) = (Arc::clone(&requests), Arc::clone(&all_heads));
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.unrecorded_request()? {
            let head = String::from_utf8_lossy(&request.raw).into_owned();
            let head = head.split("\r\n\r\n").next().unwrap_or_default();
            heads.lock().unwrap().push(head.to_owned());
            // A request without a number was not sent by a client of this test.
            let number = request.header("x-number").first().and_then(|number| number.parse().ok());
            let received = (request.start_line().to_owned(), request.body.clone());
            record.lock().unwrap().entry(number.unwrap_or(usize::MAX)).or_default().push(received);
            connection.wire.send(if request.start_line().starts_with("HEAD ") {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
            } else {
                OK
            })?;
        }
        Ok(())
    });
    (backend, requests, all_heads)
}

/// Number of requests that each client has in flight at once.
const BATCH: usize = 40;

#[test]
fn the_backend_gets_exactly_the_permitted_requests() {
    let variable = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let count = usize::try_from(variable("SIDEGATE_MIXED_REQUESTS").unwrap_or(100_000)).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed =
        variable("SIDEGATE_MIXED_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()) ^ now.as_secs());
    eprintln!("SIDEGATE_MIXED_SEED={seed}");

    let (backend, requests, heads) = recording_backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let sent = send_all(&proxy, count, seed);
    heads.lock().unwrap().iter().for_each(|head| assert_read_as_judged(head));
    let mut received = std::mem::take(&mut *requests.lock().unwrap());
    let mut permitted = 0;
    for (client, request) in sent.iter().flat_map(|(client, sent)| sent.iter().map(move |one| (*client, one)))
    {
        let got = received.remove(&request.number).unwrap_or_default();
        let expected = if request.status(client) == 200 {
            permitted += 1;
            let body = request.body.clone().unwrap_or_default().into_bytes();
            vec![(format!("{} {} HTTP/1.1", request.method, request.target()), body)]
        } else {
            Vec::new()
        };
        assert_eq!(got, expected, "{client:?}, seed {seed}: {request:?}");
    }
    assert!(received.is_empty(), "seed {seed}: no client sent {received:?}");
    assert!(permitted > count / 20, "seed {seed}: only {permitted} of {count} were permitted");
    eprintln!("{permitted} of {count} were permitted");
}

/// Sends about `count` requests by every client in both versions of HTTP, checks the statuses, and returns the requests.
fn send_all(proxy: &Proxy, count: usize, seed: u64) -> Vec<(ClientKind, Vec<RandomRequest>)> {
    let tenant = proxy.pki().issue(&Leaf::client("Tenants", "acme-reader"));
    let client_of = |kind| match kind {
        ClientKind::Producer => proxy.producer(),
        ClientKind::Consumer => proxy.consumer(),
        ClientKind::Tenant => proxy.client(&tenant),
        ClientKind::Stranger => proxy.anonymous(),
        ClientKind::Expired => proxy.client(&proxy.pki().expired()),
    };
    let runs: Vec<_> = ALL_CLIENTS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]).collect();
    let share = count.div_ceil(runs.len());
    thread::scope(|scope| {
        let start = |(at, (kind, http2)): (usize, &(ClientKind, bool))| {
            let (client, address, kind, http2) = (client_of(*kind), proxy.address, *kind, *http2);
            scope.spawn(move || {
                let mut random = Random::from_seed(seed.wrapping_add(u64::try_from(at).unwrap() << 32));
                let requests: Vec<_> = (0..share)
                    .map(|number| RandomRequest::new(&mut random, at * share + number))
                    .map(|request| if http2 { request.for_http2() } else { request })
                    .collect();
                let send = if http2 { send_by_http2 } else { send_by_http1 };
                for (request, status) in requests.iter().zip(send(&client, address, &requests)) {
                    assert_eq!(status, request.status(kind), "{kind:?}, seed {seed}: {request:?}");
                }
                (kind, requests)
            })
        };
        let threads: Vec<_> = runs.iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Sends requests in batches. If an answer closes the connection, the remaining requests are sent again on a new one.
fn send_by_http1(client: &Client, address: std::net::SocketAddr, requests: &[RandomRequest]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut connection = client.connect(address).unwrap();
    while statuses.len() < requests.len() {
        let batch = &requests[statuses.len()..requests.len().min(statuses.len() + BATCH)];
        let text: String = batch.iter().map(RandomRequest::http1_text).collect();
        let _ = connection.send(text);
        let mut closes = false;
        for request in batch {
            let answer = connection.answer_to(request.method);
            let answer = answer.unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"));
            statuses.push(answer.status);
            closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if closes {
                break;
            }
        }
        if closes {
            connection = client.connect(address).unwrap();
        }
    }
    statuses
}

fn send_by_http2(client: &Client, address: std::net::SocketAddr, requests: &[RandomRequest]) -> Vec<u16> {
    let mut connection = Frames::connect(client, address).unwrap();
    // The maximum window, so that the client needs no further window updates for these small answers.
    connection.send(frame(WINDOW_UPDATE, 0, 0, 0x7fff_0000_u32.to_be_bytes())).unwrap();
    let mut statuses = vec![0; requests.len()];
    for (at, batch) in requests.chunks(BATCH).enumerate() {
        let stream = |index: usize| u32::try_from((at * BATCH + index) * 2 + 1).unwrap();
        let bytes: Vec<u8> = batch
            .iter()
            .enumerate()
            .flat_map(|(index, request)| request.http2_frames(stream(index)))
            .collect();
        connection.send(bytes).unwrap();
        let mut open = batch.len();
        while open > 0 {
            let frame = connection.next().unwrap();
            let index = usize::try_from(frame.stream / 2).unwrap();
            let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            match frame.kind {
                HEADERS => statuses[index] = frame.status(),
                RST_STREAM if frame.error() != 0 => panic!("{:?}: error {}", requests[index], frame.error()),
                GOAWAY => panic!("gone away: error {}", frame.error()),
                _ => {}
            }
            open -= usize::from(ends);
        }
    }
    statuses
}
