//! The `tests` of a policy: single requests, or matrices of clients and requests.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::super::Upgrade;
use super::super::matching::canonical_value;
use super::matches::unknown_attribute;
use super::{LocatedText, values};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::document::{Fields, Kind, Node, Reader};
use crate::identity::Attribute;
use crate::target::is_host;

/// One request with its expected decision.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: LocatedText,
    pub(crate) client: TestClient,
    /// `METHOD /path?query`.
    pub(crate) request: LocatedText,
    /// Host that the request names, if any.
    pub(crate) host: Option<Box<str>>,
    pub(crate) headers: HeaderMap,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) expect: Expectation,
    /// Entry that must have decided, if the test says so.
    pub(crate) because: Option<LocatedText>,
}

/// The client of a test.
#[derive(Clone, Debug)]
pub(crate) enum TestClient {
    Attributes(Vec<(Attribute, String)>),
    /// The path of a certificate, relative to the file of the policy.
    Certificate(LocatedText),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    Allow,
    Deny,
}

/// Reads one entry of `tests`, and adds its cases.
pub(super) fn read(node: &Node<'_>, reader: &mut Reader<'_>, cases: &mut Vec<Case>) {
    let is_matrix = matches!(node.kind(), Kind::Map(entries) if entries.iter().any(|(key, _)| key.text() == Some("clients")));
    match is_matrix {
        true => matrix(node, reader, cases),
        false => single(node, reader, cases),
    }
}

/// The keys that a single test and a matrix have in common.
struct CommonKeys {
    name: LocatedText,
    host: Option<Box<str>>,
    headers: HeaderMap,
    upgrade: Option<Upgrade>,
    at: Option<Timestamp>,
    source: Option<IpAddr>,
}

fn common_keys(fields: &Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<CommonKeys> {
    let name = fields.required("name", reader);
    let name = name.and_then(|node| {
        reader.name(node).map(|text| LocatedText { text: text.into(), place: reader.place(node) })
    });
    let host = fields.optional("host").and_then(|node| host(node, reader));
    let headers = fields.optional("headers").map(|node| headers(node, reader)).unwrap_or_default();
    let upgrade =
        fields.optional("upgrade").and_then(|node| reader.choice(node, &[("websocket", Upgrade::WebSocket)]));
    let at = fields.optional("at").and_then(|node| reader.instant(node));
    let source = fields.optional("source").and_then(|node| address(node, reader));
    Some(CommonKeys { name: name?, host, headers, upgrade, at, source })
}

fn single(node: &Node<'_>, reader: &mut Reader<'_>, cases: &mut Vec<Case>) {
    let keys = [
        "name",
        "client",
        "certificate",
        "request",
        "host",
        "headers",
        "upgrade",
        "at",
        "source",
        "expect",
        "because",
    ];
    let Some(fields) = reader.fields(node, "a test", &keys) else { return };
    let common_keys = common_keys(&fields, reader);
    let client = test_client(&fields, node, reader);
    let requests: Vec<LocatedText> =
        fields.required("request", reader).map(|node| requests(node, reader)).unwrap_or_default();
    let choices = [("allow", Expectation::Allow), ("deny", Expectation::Deny)];
    let expect = fields.required("expect", reader).and_then(|node| reader.choice(node, &choices));
    let because = fields.optional("because").and_then(|node| {
        reader.name(node).map(|text| LocatedText { text: text.into(), place: reader.place(node) })
    });
    let (Some(common), Some(client), Some(expect)) = (common_keys, client, expect) else { return };
    if !check_case_count(cases, requests.len(), node, reader) {
        return;
    }
    cases.extend(
        requests.into_iter().map(|request| common.case(client.clone(), request, expect, because.clone())),
    );
}

fn matrix(node: &Node<'_>, reader: &mut Reader<'_>, cases: &mut Vec<Case>) {
    let keys = ["name", "clients", "requests", "host", "headers", "upgrade", "at", "source", "allow"];
    let Some(fields) = reader.fields(node, "a test matrix", &keys) else { return };
    let common = common_keys(&fields, reader);
    let mut clients = Vec::new();
    let named = fields
        .optional("clients")
        .and_then(|node| reader.entries(node, "`clients` of a test"))
        .unwrap_or_default();
    for (name, _, value) in named {
        clients.extend(attributes(value, reader).map(|client| (name, client)));
    }
    let requests = fields.required("requests", reader).map(|node| requests(node, reader)).unwrap_or_default();
    let names: HashSet<&str> = clients.iter().map(|(name, _)| *name).collect();
    let mut allowed: HashMap<&str, HashSet<Box<str>>> = HashMap::new();
    let entries =
        fields.required("allow", reader).and_then(|node| reader.entries(node, "`allow`")).unwrap_or_default();
    for (name, key, value) in entries {
        if !names.contains(name) {
            let help = reader.did_you_mean(name, clients.iter().map(|(client, _)| *client));
            reader.error(Code::UnknownName, key, format!("this test has no client `{name}`"), help);
        }
        allowed.insert(name, allowed_requests(value, &requests, reader));
    }
    let Some(common) = common else { return };
    if !check_case_count(cases, clients.len().saturating_mul(requests.len()), node, reader) {
        return;
    }
    for (name, client) in &clients {
        for request in &requests {
            let is_listed = allowed
                .get(name)
                .is_some_and(|listed| listed.contains(&request.text) || listed.contains("*"));
            let expect = if is_listed { Expectation::Allow } else { Expectation::Deny };
            let mut case = common.case(client.clone(), request.clone(), expect, None);
            case.name.text = format!("{}: {name}", case.name.text).into();
            cases.push(case);
        }
    }
}

/// The most cases of all tests together. A matrix of two long lists would otherwise need unbounded memory.
const MAX_CASES: usize = 100_000;

/// Returns true if the cases and `more` stay within the limit. Reports an error otherwise.
fn check_case_count(cases: &[Case], more: usize, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
    let fits = cases.len().saturating_add(more) <= MAX_CASES;
    if !fits {
        let message = format!("there are more than {MAX_CASES} test requests");
        reader.error(Code::TooLarge, node, message, Some("list fewer clients or requests".to_owned()));
    }
    fits
}

fn allowed_requests(node: &Node<'_>, requests: &[LocatedText], reader: &mut Reader<'_>) -> HashSet<Box<str>> {
    let known: HashSet<&str> = requests.iter().map(|request| &*request.text).collect();
    let listed = references(node, reader);
    for word in listed.iter().filter(|word| &*word.text != "*" && !known.contains(&*word.text)) {
        let help = reader
            .did_you_mean(&word.text, requests.iter().map(|request| &*request.text))
            .unwrap_or_else(|| "list the request under `requests` too".to_owned());
        let message = format!("`{}` is not one of the `requests`", word.text);
        reader.report(Diagnostic::error(Code::UnknownName, message).at(word.place.clone()).help(help));
    }
    listed.into_iter().map(|word| word.text).collect()
}

impl CommonKeys {
    fn case(
        &self,
        client: TestClient,
        request: LocatedText,
        expect: Expectation,
        because: Option<LocatedText>,
    ) -> Case {
        let Self { name, host, headers, upgrade, at, source } = self;
        let (name, host, headers) = (name.clone(), host.clone(), headers.clone());
        Case {
            name,
            client,
            request,
            host,
            headers,
            upgrade: *upgrade,
            at: *at,
            source: *source,
            expect,
            because,
        }
    }
}

fn test_client(fields: &Fields<'_, '_>, node: &Node<'_>, reader: &mut Reader<'_>) -> Option<TestClient> {
    match (fields.optional("client"), fields.optional("certificate")) {
        (Some(client), None) => attributes(client, reader),
        (None, Some(file)) => {
            let place = reader.place(file);
            reader.name(file).map(|path| TestClient::Certificate(LocatedText { text: path.into(), place }))
        }
        (Some(_), Some(file)) => {
            reader.error(Code::DuplicateKey, file, "a test has either a `client` or a `certificate`", None);
            None
        }
        (None, None) => {
            let help = "say who asks, as in `client: { common_name: order-producer }`".to_owned();
            reader.error(Code::MissingKey, node, "a test has neither `client` nor `certificate`", Some(help));
            None
        }
    }
}

fn attributes(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<TestClient> {
    let mut attributes = Vec::new();
    for (name, key, value) in reader.entries(node, "`client`")? {
        let Some(attribute) = Attribute::from_name(name) else {
            unknown_attribute(name, key, "`client`", &Attribute::ALL.map(Attribute::name), reader);
            continue;
        };
        for value in values(value, reader) {
            attributes.push((attribute, canonical_value(attribute, &value)));
        }
    }
    Some(TestClient::Attributes(attributes))
}

fn requests(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<LocatedText> {
    super::reject_empty(node, reader, "write at least one request, such as `GET /events`");
    let written = references(node, reader);
    for word in &written {
        if let Err(flaw) = word.text.parse::<crate::target::Target>() {
            let message = format!("`{}` is not a valid request: {flaw}", word.text);
            let diagnostic = Diagnostic::error(Code::BadRequest, message)
                .at(word.place.clone())
                .help("write a method, a space and a path, as in `GET /events/17?x=1`");
            reader.report(diagnostic);
        }
    }
    written
}

fn references(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<LocatedText> {
    super::references(node, reader)
}

/// Reads the host of a request, as clients send it. Patterns are refused.
fn host(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Box<str>> {
    let text = reader.name(node)?;
    if !is_host(text) {
        let help = "write it as clients send it, such as `shop.example` or `shop.example:8443`".to_owned();
        reader.error(Code::BadHost, node, format!("`{text}` is not the host of a request"), Some(help));
        return None;
    }
    Some(text.into())
}

fn headers(node: &Node<'_>, reader: &mut Reader<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, key, value) in reader.entries(node, "`headers`").unwrap_or_default() {
        if matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority") {
            let help = "write `host: shop.example` beside `request`".to_owned();
            reader.error(
                Code::BadHeader,
                key,
                "write the host of a test under `host`, not under `headers`",
                Some(help),
            );
            continue;
        }
        for value in values(value, reader) {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
                (Ok(name), Ok(value)) => drop(headers.append(name, value)),
                _ => reader.error(Code::BadHeader, key, format!("`{name}: {value}` is not a header"), None),
            }
        }
    }
    headers
}

fn address(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<IpAddr> {
    let text = reader.name(node)?;
    let address = text.parse().ok();
    if address.is_none() {
        let help = "a test asks from one address, such as `10.1.2.3`".to_owned();
        reader.error(Code::BadAddress, node, format!("`{text}` is not an IP address"), Some(help));
    }
    address
}

impl Case {
    /// Returns the place of the case's request, for reports.
    pub(crate) fn place(&self) -> &Place {
        &self.request.place
    }
}
