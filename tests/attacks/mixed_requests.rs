//! Many generated requests of every kind. The backend gets exactly the requests that a plain reading of the policy permits,
//! each of them once and with the bytes that were judged.
//!
//! `SIDEGATE_MIXED_REQUESTS` sets the number of requests, `SIDEGATE_MIXED_SEED` repeats a run.

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
use crate::support::{Backend, Client, Setup};

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

/// The value that a request gives to a header, parameter or host of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldValue {
    Nothing,
    Value(&'static str),
    /// Two backends may read the value differently.
    Doubt,
    /// The proxy refuses the request because of the value.
    Refused,
}
use FieldValue::{Doubt, Nothing, Refused, Value};

impl FieldValue {
    fn is(self, values: &[&str]) -> bool {
        matches!(self, Value(value) if values.contains(&value))
    }

    /// Returns true if a deny of that value applies.
    fn may_be(self, value: &str) -> bool {
        self == Doubt || self.is(&[value])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Producer,
    Consumer,
    Tenant,
    Stranger,
    Expired,
}

const SENDERS: [Sender; 5] =
    [Sender::Producer, Sender::Consumer, Sender::Tenant, Sender::Stranger, Sender::Expired];

/// One request, independent of the version of HTTP.
#[derive(Clone, Debug)]
struct MixedRequest {
    number: usize,
    method: &'static str,
    path: String,
    query: Option<(&'static str, FieldValue)>,
    fragment: bool,
    fields: (&'static [(&'static str, &'static str)], FieldValue),
    host: (&'static str, FieldValue),
    body: Option<String>,
    chunked: bool,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
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
/// Queries, each with the value that it gives to `format`.
const QUERIES: [(&str, FieldValue); 31] = [
    ("", Nothing),
    ("x=1", Nothing),
    ("format=csv", Value("csv")),
    ("format=csv", Value("csv")),
    ("format=json", Value("json")),
    ("format=pdf", Value("pdf")),
    ("format=%63sv", Value("csv")),
    ("f%6frmat=csv", Value("csv")),
    ("f%6Frmat=p%64f", Value("pdf")),
    ("format=csv&x=2", Value("csv")),
    ("x[format]=pdf&format=csv", Value("csv")),
    ("Format=csv", Doubt),
    ("format=csv&format=csv", Doubt),
    ("format=csv&format=pdf", Doubt),
    ("format=csv,json", Doubt),
    ("format=csv;x", Doubt),
    ("format=csv&x=1;f%6Frmat=pdf", Doubt),
    ("format=csv&x=1%3bformat=pdf", Doubt),
    ("x=1;format=pdf", Doubt),
    ("format=csv&FORMAT=pdf", Doubt),
    ("format=csv&format[]=pdf", Doubt),
    ("format=csv&%5Bformat%5D=pdf", Doubt),
    ("format=csv&+format%20=pdf", Doubt),
    ("a[]=1&b=?", Nothing),
    ("x=/../admin", Nothing),
    ("x=%2F%25", Nothing),
    ("x=format&y=pdf", Nothing),
    ("x=%0a", Refused),
    ("x=%zz", Refused),
    ("x=\\", Refused),
    (QUOTE, Refused),
];

/// Header lines, each with the value of `X-Mode` that is forwarded.
const FIELDS: [(&[(&str, &str)], FieldValue); 14] = [
    (&[], Nothing),
    (&[("X-Mode", "batch")], Value("batch")),
    (&[("X-Mode", "batch")], Value("batch")),
    (&[("x-mode", "batch"), ("X-Modes", "live")], Value("batch")),
    (&[("X-Mode", "live")], Value("live")),
    (&[("X-Mode", "batch"), ("X-Mode", "batch")], Doubt),
    (&[("X-Mode", "batch, live")], Doubt),
    (&[("X_Mode", "batch")], Doubt),
    (&[("X_Mode", "live")], Doubt),
    (&[("X-Mode", "batch"), ("X_Mode", "live")], Doubt),
    (&[("X.MODE", "live"), ("X-Mode", "batch")], Doubt),
    (&[("X-Mode", "batch"), ("Connection", "X-Mode")], Nothing),
    (&[("Connection", "close, x-mode"), ("X-Mode", "live")], Nothing),
    (&[("Connection", "X-Mode"), ("X-Mode", "batch"), ("x_mode", "live")], Doubt),
];

/// Hosts as a client writes them, each with the host of the policy.
const HOSTS: [(&str, FieldValue); 13] = [
    ("localhost", Nothing),
    ("localhost", Nothing),
    ("shop.example", Value("shop")),
    ("SHOP.example.", Value("shop")),
    ("shop.example:1", Value("shop")),
    ("a.shop.example:8443", Value("shop")),
    ("a.shop.example", Nothing),
    ("a.b.shop.example:8443", Nothing),
    ("internal.example", Value("internal")),
    ("Internal.Example.:8443", Value("internal")),
    ("internal..example", Doubt),
    (".shop.example", Doubt),
    ("[::1]:8443", Nothing),
];

/// A query that no `:path` can carry.
const QUOTE: &str = "x=\"";

fn generated_request(random: &mut Random, number: usize) -> MixedRequest {
    let mut path = String::new();
    if random.one_in(40) {
        path.push_str(random.one_of(&[
            "/",
            "/EVENTS",
            "/Events/1",
            "/eventss",
            "/publicity/x",
            "//events",
            "/%65vents",
        ]));
    } else {
        let odd_at = random.one_in(5).then(|| random.below(3));
        let _ =
            write!(path, "/{}", if odd_at == Some(0) { random.one_of(&ODD) } else { random.one_of(&FIRST) });
        for at in 1..1 + random.below(3) {
            let _ = write!(
                path,
                "/{}",
                if odd_at == Some(at) { random.one_of(&ODD) } else { random.one_of(&THEN) }
            );
        }
        if random.one_in(15) {
            path.push('/');
        }
    }
    let body = random.one_in(3).then(|| {
        // The body holds the text of a request, which a parser that loses the framing would run.
        let hidden = format!("GET /public/hidden-{number} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if random.one_in(2) { hidden } else { format!("{number} ").repeat(1 + random.below(20)) }
    });
    MixedRequest {
        number,
        method: random.one_of(&METHODS),
        path,
        query: (!random.one_in(2)).then(|| random.one_of(&QUERIES)),
        fragment: random.one_in(50),
        fields: random.one_of(&FIELDS),
        host: random.one_of(&HOSTS),
        body,
        chunked: random.one_in(2),
    }
}

impl MixedRequest {
    /// Path and query, as the backend must get them.
    fn target(&self) -> String {
        let query = self.query.map(|(query, _)| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.path)
    }

    /// Returns the request without a quote in `:path` and without a `Connection` header. HTTP/2 resets a stream that has one
    /// of them, and ends a connection with too many such streams.
    fn for_http2(self) -> Self {
        let query = self.query.filter(|(query, _)| *query != QUOTE);
        let names_hops = self.fields.0.iter().any(|(name, _)| *name == "Connection");
        let fields = if names_hops { FIELDS[0] } else { self.fields };
        Self { query, fields, path: self.path.replace('"', "'"), ..self }
    }

    fn sent_target(&self) -> String {
        self.target() + if self.fragment { "#/public" } else { "" }
    }

    fn of_http1(&self) -> String {
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
            Some(body) if self.chunked => {
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

    fn of_http2(&self, stream: u32) -> Vec<u8> {
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
        if let Some(length) = length.as_deref().filter(|_| !self.chunked) {
            fields.push(("content-length", length));
        }
        match &self.body {
            None => headers(stream, END_STREAM, &fields),
            Some(body) => [headers(stream, 0, &fields), frame(DATA, END_STREAM, stream, body)].concat(),
        }
    }

    /// The plain reading: the identity first, then the form of the request, then the policy from its first rule to its last.
    fn status(&self, who: Sender) -> u16 {
        if matches!(who, Sender::Stranger | Sender::Expired) {
            return 401;
        }
        let Some(segments) = segments(&self.path) else { return 400 };
        if self.method == "get" || self.format() == Refused {
            return 400;
        }
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if self.allows(who, &segments) { 200 } else { 403 }
    }

    fn allows(&self, who: Sender, segments: &[&str]) -> bool {
        let is = |methods: &[&str]| methods.contains(&self.method);
        let get = is(&["GET", "HEAD"]);
        let is_events = match segments {
            ["events"] => true,
            ["events", id] => !id.is_empty(),
            _ => false,
        };
        let reads = get && is_events;
        let public = matches!(segments, ["public", ..]);
        if matches!(segments, ["public", "secret", ..]) {
            return false;
        }
        match who {
            Sender::Producer => {
                let writes = is(&["POST"]) && matches!(segments, ["events"])
                    || is(&["POST", "PUT"])
                        && matches!(segments, ["events", id] if !id.is_empty() && *id != "13");
                let reports = get
                    && matches!(segments, ["reports", name] if !name.is_empty())
                    && self.format().is(&["csv", "json"]);
                let batches =
                    is(&["POST"]) && matches!(segments, ["batches"]) && self.fields.1.is(&["batch"]);
                let shop = get
                    && matches!(segments, ["shop", name] if !name.is_empty())
                    && self.host.1.is(&["shop"]);
                let guarded = get && matches!(segments, ["guarded", ..]);
                let denied = self.fields.1.may_be("live")
                    || self.format().may_be("pdf")
                    || self.host.1.may_be("internal");
                reads || writes || public || reports || batches || shop || (guarded && !denied)
            }
            Sender::Consumer => reads || public,
            Sender::Tenant => matches!(segments, ["tenants", "acme", ..]),
            Sender::Stranger | Sender::Expired => false,
        }
    }

    fn format(&self) -> FieldValue {
        self.query.map_or(Nothing, |(_, says)| says)
    }
}

/// Returns the segments of the path, decoded once; `None` if two parsers could read the path differently.
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
        let (decoded, rest) = decoded(part)?;
        if decoded.contains(['/', '\\', ';'])
            || decoded.chars().any(char::is_control)
            || [".", ".."].contains(&decoded.as_str())
            || rest
        {
            return None;
        }
        segments.push(decoded);
    }
    Some(segments)
}

/// Returns the text decoded once, and true if an escape is left.
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

/// Start lines and bodies that the backend got, by the number of the request.
type Seen = Arc<Mutex<HashMap<usize, Vec<(String, Vec<u8>)>>>>;

/// The heads of all requests that the backend got.
type Heads = Arc<Mutex<Vec<String>>>;

/// Returns every value of a header that a backend may read. CGI, WSGI, PHP and Rack turn names into variables; the first
/// line, the last line or all lines together may count.
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

/// Returns every value of a parameter that a backend may read. Names are compared exactly by the Java Servlet API and without
/// case by ASP.NET. PHP removes brackets and leading spaces and turns a dot into `_`; Rack removes brackets. Old backends end
/// a parameter at `;` too.
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

/// Asserts that every reading of a request meets the condition under which the request was forwarded.
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

fn recording() -> (Backend, Seen, Heads) {
    let (seen, got) = (Seen::default(), Heads::default());
    let (noting, heads) = (Arc::clone(&seen), Arc::clone(&got));
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.unrecorded_request()? {
            let head = String::from_utf8_lossy(&request.raw).into_owned();
            let head = head.split("\r\n\r\n").next().unwrap_or_default();
            heads.lock().unwrap().push(head.to_owned());
            // A request without a number was sent by none of the clients.
            let number = request.header("x-number").first().and_then(|number| number.parse().ok());
            let record = (request.start_line().to_owned(), request.body.clone());
            noting.lock().unwrap().entry(number.unwrap_or(usize::MAX)).or_default().push(record);
            connection.wire.send(if request.start_line().starts_with("HEAD ") {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
            } else {
                OK
            })?;
        }
        Ok(())
    });
    (backend, seen, got)
}

/// Number of requests in flight at once.
const IN_FLIGHT: usize = 40;

#[test]
fn the_backend_gets_the_permitted_requests_and_no_others() {
    let number_of = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let count = usize::try_from(number_of("SIDEGATE_MIXED_REQUESTS").unwrap_or(100_000)).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed =
        number_of("SIDEGATE_MIXED_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()) ^ now.as_secs());
    eprintln!("SIDEGATE_MIXED_SEED={seed}");

    let (backend, seen, heads) = recording();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let tenant = proxy.pki().issue(&Leaf::client("Tenants", "acme-reader"));
    let client = |who| match who {
        Sender::Producer => proxy.producer(),
        Sender::Consumer => proxy.consumer(),
        Sender::Tenant => proxy.client(&tenant),
        Sender::Stranger => proxy.anonymous(),
        Sender::Expired => proxy.client(&proxy.pki().expired()),
    };
    let runs: Vec<_> = SENDERS.into_iter().flat_map(|who| [(who, false), (who, true)]).collect();
    let share = count.div_ceil(runs.len());
    let sent: Vec<(Sender, Vec<MixedRequest>)> = thread::scope(|scope| {
        let runs: Vec<_> = runs
            .iter()
            .enumerate()
            .map(|(at, (who, http2))| {
                let (client, address) = (client(*who), proxy.address);
                scope.spawn(move || {
                    let mut random = Random(seed.wrapping_add(u64::try_from(at).unwrap() << 32));
                    let requests: Vec<_> = (0..share)
                        .map(|n| generated_request(&mut random, at * share + n))
                        .map(|request| if *http2 { request.for_http2() } else { request })
                        .collect();
                    let statuses = if *http2 {
                        by_http2(&client, address, &requests)
                    } else {
                        by_http1(&client, address, &requests)
                    };
                    for (request, status) in requests.iter().zip(statuses) {
                        assert_eq!(status, request.status(*who), "{who:?}, seed {seed}: {request:?}");
                    }
                    (*who, requests)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });

    heads.lock().unwrap().iter().for_each(|head| assert_read_as_judged(head));
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    let mut permitted = 0;
    for (who, requests) in &sent {
        for request in requests {
            let got = seen.remove(&request.number).unwrap_or_default();
            let expected = if request.status(*who) == 200 {
                permitted += 1;
                let body = request.body.clone().unwrap_or_default().into_bytes();
                vec![(format!("{} {} HTTP/1.1", request.method, request.target()), body)]
            } else {
                Vec::new()
            };
            assert_eq!(got, expected, "{who:?}, seed {seed}: {request:?}");
        }
    }
    assert!(seen.is_empty(), "seed {seed}: no client sent {seen:?}");
    assert!(permitted > count / 20, "seed {seed}: only {permitted} of {count} were permitted");
    eprintln!("{permitted} of {count} were permitted");
}

/// Sends the requests together and reads the answers in order. Requests that were not answered when a connection closed are
/// sent again on the next one.
fn by_http1(client: &Client, address: std::net::SocketAddr, requests: &[MixedRequest]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut connection = client.connect(address).unwrap();
    while statuses.len() < requests.len() {
        let batch = &requests[statuses.len()..requests.len().min(statuses.len() + IN_FLIGHT)];
        let text: String = batch.iter().map(MixedRequest::of_http1).collect();
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

fn by_http2(client: &Client, address: std::net::SocketAddr, requests: &[MixedRequest]) -> Vec<u16> {
    let mut connection = Frames::connect(client, address).unwrap();
    // The largest window is enough for all answers, because they are small.
    connection.send(frame(WINDOW_UPDATE, 0, 0, 0x7fff_0000_u32.to_be_bytes())).unwrap();
    let mut statuses = vec![0; requests.len()];
    for (at, batch) in requests.chunks(IN_FLIGHT).enumerate() {
        let stream = |index: usize| u32::try_from((at * IN_FLIGHT + index) * 2 + 1).unwrap();
        let bytes: Vec<u8> =
            batch.iter().enumerate().flat_map(|(index, request)| request.of_http2(stream(index))).collect();
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
