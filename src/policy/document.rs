//! The shape of a policy file: from a YAML document to entries whose parts are understood one by one, and whose names
//! are not yet looked up. Every mistake is noted, and reading goes on.

mod cases;
mod when;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

pub(crate) use cases::{Case, ClientOf, Expectation};

use super::condition::{HeaderCondition, Network, QueryCondition};
use super::matching::{Alternative, Matcher, Test};
use super::pattern::{Malformed, Pattern};
use super::route::{self, Route};
use crate::diagnostic::{Diagnostic, Place, Source, Span, did_you_mean};
use crate::document::{self, Budget, Kind, Node, Reader};
use crate::identity::Attribute;

/// A text with its place: a name, or a reference to one.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) text: Box<str>,
    pub(crate) place: Place,
}

/// What the files say together.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) permissions: Vec<PermissionEntry>,
    pub(crate) roles: Vec<RoleEntry>,
    pub(crate) clients: Vec<ClientEntry>,
    pub(crate) denies: Vec<DenyEntry>,
    pub(crate) cases: Vec<Case>,
}

#[derive(Clone, Debug)]
pub(crate) struct PermissionEntry {
    pub(crate) name: Word,
    pub(crate) routes: Vec<Route>,
}

#[derive(Clone, Debug)]
pub(crate) struct RoleEntry {
    pub(crate) name: Word,
    pub(crate) members: Vec<Word>,
}

#[derive(Clone, Debug)]
pub(crate) struct ClientEntry {
    pub(crate) name: Word,
    pub(crate) alternatives: Vec<Alternative>,
    pub(crate) roles: Vec<Word>,
    pub(crate) permissions: Vec<Word>,
    pub(crate) when: Option<super::condition::When>,
    pub(crate) when_place: Option<Place>,
    pub(crate) limits: super::Limits,
}

#[derive(Clone, Debug)]
pub(crate) struct DenyEntry {
    pub(crate) name: Word,
    /// `None` for every client.
    pub(crate) clients: Option<Vec<Word>>,
    pub(crate) permissions: Vec<Word>,
    pub(crate) routes: Vec<Route>,
    pub(crate) when: Option<super::condition::When>,
    pub(crate) when_place: Option<Place>,
}

impl Document {
    /// Adds what a file says.
    pub(crate) fn read(&mut self, source: &Arc<Source>, diagnostics: &mut Vec<Diagnostic>) {
        let node = match document::parse(source, Budget::POLICY) {
            Ok(Some(node)) => node,
            Ok(None) => return,
            Err(diagnostic) => return diagnostics.push(diagnostic),
        };
        self.file(&node, &mut Reader::new(source, diagnostics));
    }

    fn file(&mut self, node: &Node<'_>, reader: &mut Reader<'_>) {
        let keys = ["version", "permissions", "roles", "clients", "deny", "tests"];
        let Some(fields) = reader.fields(node, "a policy", &keys) else { return };
        if let Some(version) = fields.required("version", reader)
            && let Some(number) = reader.integer(version, 0..=u64::MAX)
            && number != 1
        {
            reader.error(
                "unknown-version",
                version,
                format!("`{number}` is no version of policies"),
                Some("write `version: 1`".into()),
            );
        }
        if is_test_file(reader.source()) {
            for key in keys.iter().filter(|key| !matches!(**key, "version" | "tests")) {
                if let Some(key) = fields.key(key) {
                    let help = "move it to a file whose name does not end in `_test`".to_owned();
                    reader.error(
                        "bad-test-file",
                        key,
                        "a test file holds `tests` only; the proxy does not read it",
                        Some(help),
                    );
                }
            }
        }
        if let Some(node) = fields.optional("permissions") {
            self.permissions(node, reader);
        }
        if let Some(node) = fields.optional("roles") {
            self.roles(node, reader);
        }
        for node in fields.optional("clients").and_then(|node| reader.list(node)).unwrap_or_default() {
            self.clients.extend(client(node, reader));
        }
        for node in fields.optional("deny").and_then(|node| reader.list(node)).unwrap_or_default() {
            self.denies.extend(deny(node, reader));
        }
        for node in fields.optional("tests").and_then(|node| reader.list(node)).unwrap_or_default() {
            cases::read(node, reader, &mut self.cases);
        }
    }

    fn permissions(&mut self, node: &Node<'_>, reader: &mut Reader<'_>) {
        for (_, key, value) in reader.entries(node, "`permissions`").unwrap_or_default() {
            let Some(name) = declared(key, reader) else { continue };
            let routes = routes(value, reader);
            self.permissions.push(PermissionEntry { name, routes });
        }
    }

    fn roles(&mut self, node: &Node<'_>, reader: &mut Reader<'_>) {
        for (_, key, value) in reader.entries(node, "`roles`").unwrap_or_default() {
            let Some(name) = declared(key, reader) else { continue };
            let members = words(value, reader);
            self.roles.push(RoleEntry { name, members });
        }
    }
}

/// Whether a source is one of the files beside a policy that hold its tests.
fn is_test_file(source: &Source) -> bool {
    let name = source.name();
    name.ends_with("_test.yaml") || name.ends_with("_test.yml")
}

fn client(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<ClientEntry> {
    let keys = ["name", "match", "roles", "permissions", "when", "limits"];
    let fields = reader.fields(node, "a client entry", &keys)?;
    let name = fields.required("name", reader).and_then(|node| declared(node, reader));
    let alternatives = fields.required("match", reader).map(|node| alternatives(node, reader));
    let roles = fields.optional("roles").map(|node| words(node, reader)).unwrap_or_default();
    let permissions = fields.optional("permissions").map(|node| words(node, reader)).unwrap_or_default();
    let when = fields.optional("when").and_then(|node| when::read(node, reader));
    let when_place = fields.optional("when").map(|node| reader.place(node));
    let limits = fields.optional("limits").map(|node| limits(node, reader)).unwrap_or_default();
    Some(ClientEntry {
        name: name?,
        alternatives: alternatives?,
        roles,
        permissions,
        when,
        when_place,
        limits,
    })
}

fn deny(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<DenyEntry> {
    let keys = ["name", "clients", "permissions", "routes", "when"];
    let fields = reader.fields(node, "a deny rule", &keys)?;
    let name = fields.required("name", reader).and_then(|node| declared(node, reader));
    let clients = fields.optional("clients").map(|node| {
        let named = words(node, reader);
        not_empty(node, reader, "leave `clients` out to mean every client");
        named
    });
    let permissions = fields.optional("permissions").map(|node| words(node, reader));
    let routes = fields.optional("routes").map(|node| routes(node, reader));
    if permissions.is_none() && routes.is_none() {
        let place = reader.place(node);
        reader.report(
            Diagnostic::error("missing-key", "a deny rule has neither `permissions` nor `routes`")
                .at(place)
                .help("say what it forbids; `routes: [\"* /**\"]` forbids everything"),
        );
    }
    let when = fields.optional("when").and_then(|node| when::read(node, reader));
    let when_place = fields.optional("when").map(|node| reader.place(node));
    let (permissions, routes) = (permissions.unwrap_or_default(), routes.unwrap_or_default());
    Some(DenyEntry { name: name?, clients, permissions, routes, when, when_place })
}

/// The name of a new entry. A `*` in it would be taken for a pattern where it is used.
fn declared(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Word> {
    let text = reader.name(node)?;
    let odd = text.chars().find(|c| !c.is_alphanumeric() && !matches!(c, ':' | '-' | '_' | '.' | '/'));
    if let Some(odd) = odd {
        let help = "a name is made of letters, digits, `:`, `-`, `_`, `.` and `/`".to_owned();
        reader.error("bad-name", node, format!("`{odd}` cannot be part of a name"), Some(help));
        return None;
    }
    Some(Word { text: text.into(), place: reader.place(node) })
}

/// References to names.
fn words(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<Word> {
    let items = reader.one_or_more(node);
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        if let Some(text) = reader.name(item) {
            words.push(Word { text: text.into(), place: reader.place(item) });
        }
    }
    words
}

fn not_empty(node: &Node<'_>, reader: &mut Reader<'_>, help: &str) {
    if matches!(node.kind(), Kind::List(items) if items.is_empty()) {
        reader.error(
            "empty-list",
            node,
            "an empty list matches nothing, and never means everything",
            Some(help.to_owned()),
        );
    }
}

fn routes(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<Route> {
    not_empty(node, reader, "write at least one route, such as `GET /events`");
    let items = reader.one_or_more(node);
    let mut routes = Vec::with_capacity(items.len());
    for item in items {
        routes.extend(match item.kind() {
            Kind::Map(_) => long_route(item, reader),
            _ => short_route(item, reader),
        });
    }
    routes
}

fn short_route(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Route> {
    let text = reader.name(node)?;
    match route::parse(text) {
        Ok((methods, path)) => Some(Route {
            text: text.into(),
            place: reader.place(node),
            methods,
            path,
            query: Box::default(),
            headers: Box::default(),
            upgrade: false,
        }),
        Err(malformed) => {
            report(malformed, "bad-route", node, reader);
            None
        }
    }
}

fn long_route(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Route> {
    let fields = reader.fields(node, "a route", &["route", "query", "headers", "upgrade"])?;
    let route = fields.required("route", reader).and_then(|node| short_route(node, reader));
    let query = fields.optional("query").map(|node| query(node, reader)).unwrap_or_default();
    let headers = fields.optional("headers").map(|node| headers(node, reader)).unwrap_or_default();
    let upgrade = fields.optional("upgrade").and_then(|node| reader.choice(node, &[("websocket", true)]));
    Some(Route { query, headers, upgrade: upgrade.unwrap_or(false), ..route? })
}

fn query(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[QueryCondition]> {
    let entries = reader.entries(node, "`query`").unwrap_or_default();
    entries
        .into_iter()
        .map(|(name, _, value)| QueryCondition { name: name.into(), values: values(value, reader) })
        .collect()
}

fn headers(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[HeaderCondition]> {
    let mut conditions = Vec::new();
    for (name, key, value) in reader.entries(node, "`headers`").unwrap_or_default() {
        let values = values(value, reader);
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if NEVER_BELIEVED.contains(&name.as_str()) => {
                let help =
                    "the proxy removes it; use `match` for who the client is, and the path of the route"
                        .to_owned();
                reader.error("bad-header", key, format!("no decision is ever made by `{name}`"), Some(help));
            }
            Ok(name) => conditions.push(HeaderCondition { name, values }),
            Err(_) => reader.error("bad-header", key, format!("`{name}` is not the name of a header"), None),
        }
    }
    conditions.into()
}

/// Headers by which a client would say of itself what only its certificate says, or rewrite what was judged.
const NEVER_BELIEVED: [&str; 14] = [
    "client-cert",
    "client-cert-chain",
    "connection",
    "forwarded",
    "x-envoy-original-path",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

fn values(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[Box<str>]> {
    not_empty(node, reader, "write at least one value, or `\"*\"` for any");
    let mut values = Vec::new();
    for item in reader.one_or_more(node) {
        values.extend(reader.text(item).map(Box::from));
    }
    values.into()
}

fn alternatives(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<Alternative> {
    not_empty(node, reader, "write what a certificate must say, or `any: true` for every client");
    let items = reader.one_or_more(node);
    let mut alternatives = Vec::with_capacity(items.len());
    for item in items {
        alternatives.extend(alternative(item, reader));
    }
    alternatives
}

fn alternative(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Alternative> {
    let mut keys = vec!["any"];
    keys.extend(Attribute::ALL.map(Attribute::name));
    let entries = reader.entries(node, "`match`")?;
    let place = reader.place(node);
    let mut tests = Vec::new();
    let mut any = None;
    for (name, key, value) in &entries {
        match (*name, Attribute::named(name)) {
            ("any", _) => any = Some((*key, *value)),
            (_, Some(attribute)) => tests.push(test(attribute, value, reader)),
            (_, None) => unknown_attribute(name, key, "`match`", &keys, reader),
        }
    }
    match any {
        Some((_, value)) if reader.boolean(value) == Some(false) => {
            reader.error(
                "bad-match",
                value,
                "`any: false` matches no client",
                Some("remove the entry, or write `any: true`".into()),
            );
        }
        Some((key, _)) if entries.len() > 1 => {
            let help = "remove `any`, or the other keys".to_owned();
            reader.error("bad-match", key, "`any: true` beside other keys contradicts them", Some(help));
        }
        None if entries.is_empty() => {
            let help = "write `any: true` if every client is meant".to_owned();
            reader.error(
                "empty-list",
                node,
                "an empty `match` matches nothing, and never means everyone",
                Some(help),
            );
        }
        _ => {}
    }
    Some(Alternative { tests: tests.into(), place })
}

/// Notes a key that is no attribute; the abbreviations of certificate tools are known.
fn unknown_attribute(name: &str, key: &Node<'_>, what: &str, keys: &[&str], reader: &mut Reader<'_>) {
    let usual = match name.to_ascii_lowercase().as_str() {
        "cn" => Some("common_name"),
        "o" | "org" => Some("organization"),
        "ou" => Some("organizational_unit"),
        "c" => Some("country"),
        "l" => Some("locality"),
        "st" => Some("state"),
        "san" | "spiffe" | "spiffe_id" => Some("uri"),
        _ => None,
    };
    let help = match usual {
        Some(usual) => Some(format!("did you mean `{usual}`?")),
        None => did_you_mean(name, keys.iter().copied()),
    };
    let help = help.unwrap_or_else(|| format!("the keys here are {}", keys.join(", ")));
    reader.error("unknown-key", key, format!("unknown key `{name}` in {what}"), Some(help));
}

fn test(attribute: Attribute, node: &Node<'_>, reader: &mut Reader<'_>) -> Test {
    not_empty(node, reader, "write at least one value, or leave the key out");
    let mut matchers = Vec::new();
    for item in reader.one_or_more(node) {
        let Some(text) = reader.name(item) else { continue };
        match matcher(attribute, text) {
            Ok(matcher) => matchers.push(matcher),
            Err(malformed) => report(malformed, "bad-pattern", item, reader),
        }
    }
    Test::new(attribute, matchers)
}

fn matcher(attribute: Attribute, text: &str) -> Result<Matcher, Malformed> {
    match attribute {
        Attribute::Ip => match Network::parse(text) {
            Ok(network) => Ok(Matcher::Network(network)),
            Err((message, help)) => Err(Malformed { start: 0, end: text.len(), message, help }),
        },
        Attribute::Serial | Attribute::Fingerprint | Attribute::PublicKey => {
            hexadecimal(attribute, text).map(Matcher::Exact)
        }
        Attribute::Dns => pattern(attribute, text.strip_suffix('.').unwrap_or(text)),
        Attribute::Uri => {
            spiffe(text)?;
            pattern(attribute, text)
        }
        _ => pattern(attribute, text),
    }
}

fn pattern(attribute: Attribute, text: &str) -> Result<Matcher, Malformed> {
    let pattern = Pattern::parse(attribute, text)?;
    Ok(match pattern.exact() {
        Some(exact) => Matcher::Exact(exact.into()),
        None => Matcher::Pattern(pattern),
    })
}

/// Small letters, no colons, and no leading zeros in a serial number: as identities spell them.
fn hexadecimal(attribute: Attribute, text: &str) -> Result<Box<str>, Malformed> {
    let digits: String =
        text.chars().filter(|c| !matches!(c, ':' | ' ')).collect::<String>().to_ascii_lowercase();
    let wrong = |message: String| Malformed::new(0, text.len(), message);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(format!("`{attribute}` is a number in hexadecimal, not `{text}`")).help(
            "patterns are not possible here; `openssl x509 -noout -serial -fingerprint -sha256` prints it",
        ));
    }
    if attribute == Attribute::Serial {
        let trimmed = digits.trim_start_matches('0');
        return Ok(if trimmed.is_empty() { "0" } else { trimmed }.into());
    }
    if digits.len() != 64 {
        return Err(wrong(format!("a SHA-256 has 64 hexadecimal digits, this has {}", digits.len())));
    }
    Ok(digits.into())
}

/// A pattern that no SPIFFE id can match is a mistake of writing.
fn spiffe(text: &str) -> Result<(), Malformed> {
    let Some(id) = text.strip_prefix("spiffe://") else { return Ok(()) };
    let domain = id.split('/').next().unwrap_or_default();
    let wrong = |message: &str, help: &str| Err(Malformed::new(0, text.len(), message).help(help));
    if domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong(
            "the trust domain of a SPIFFE id is written in small letters",
            "no certificate can match this",
        );
    }
    if id.contains(['?', '#', '%', ' ']) {
        return wrong("a SPIFFE id has no query, fragment, escape or space", "no certificate can match this");
    }
    if id.ends_with('/') || id.contains("//") {
        return wrong(
            "a SPIFFE id has no empty segment",
            "no certificate can match this; `/**` stands for everything below",
        );
    }
    if id.split('/').skip(1).any(|segment| matches!(segment, "." | "..")) {
        return wrong("a SPIFFE id has no `.` or `..` segment", "no certificate can match this");
    }
    Ok(())
}

fn limits(node: &Node<'_>, reader: &mut Reader<'_>) -> super::Limits {
    let keys = ["requests_per_second", "burst", "connections"];
    let Some(fields) = reader.fields(node, "`limits`", &keys) else { return super::Limits::default() };
    let mut number = |key: &str| {
        let node = fields.optional(key)?;
        reader.integer(node, 1..=u64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok())
    };
    let limits = super::Limits {
        requests_per_second: number("requests_per_second"),
        burst: number("burst"),
        connections: number("connections"),
    };
    if let Some(key) = fields.key("burst")
        && fields.optional("requests_per_second").is_none()
    {
        let help = "add `requests_per_second`, which the burst goes beyond".to_owned();
        reader.error(
            "missing-key",
            key,
            "a `burst` without `requests_per_second` limits nothing",
            Some(help),
        );
    }
    limits
}

/// Notes what is wrong with a text that has its own syntax, under the very characters where it can be said.
fn report(malformed: Malformed, code: &'static str, node: &Node<'_>, reader: &mut Reader<'_>) {
    let whole = reader.place(node);
    let written = whole.source.slice(whole.span);
    let quote = usize::from(written.starts_with(['"', '\'']));
    let inner = written.get(quote..written.len().saturating_sub(quote)).unwrap_or_default();
    // Where quoting changed the text, its offsets are not those of the file.
    let span = match Some(inner) == node.text() {
        true => {
            let start = whole.span.start() + quote;
            Span::new(start + malformed.start.min(inner.len()), start + malformed.end.min(inner.len()))
        }
        false => whole.span,
    };
    let place = reader.place_of(span);
    reader.report(Diagnostic::error(code, malformed.message).at(place).maybe_help(malformed.help));
}

/// Finds names that were declared twice, and gives the rest their index.
pub(super) fn index<'w>(
    kind: &str,
    names: impl Iterator<Item = &'w Word>,
    diagnostics: &mut Vec<Diagnostic>,
) -> HashMap<Box<str>, usize> {
    let mut found: HashMap<Box<str>, (usize, &Word)> = HashMap::new();
    for (number, word) in names.enumerate() {
        match found.get(&word.text) {
            Some((_, first)) => diagnostics.push(
                Diagnostic::error("duplicate-name", format!("the {kind} `{}` is declared twice", word.text))
                    .at(word.place.clone())
                    .related(first.place.clone(), "first declared here")
                    .help("give one of them another name, or make them one"),
            ),
            None => drop(found.insert(word.text.clone(), (number, word))),
        }
    }
    found.into_iter().map(|(name, (number, _))| (name, number)).collect()
}
