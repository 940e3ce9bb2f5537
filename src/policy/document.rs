//! The shape of a policy file: the step from a YAML document to entries whose parts are parsed, and whose names are not yet
//! looked up. Reading continues after a mistake, so that all mistakes are reported at once.

mod cases;
mod conditions;
mod matches;
mod routes;
mod when;

use std::sync::Arc;

pub(crate) use cases::{Case, Expectation, TestClient};
use matches::alternatives;
use routes::routes;

use super::Priority;
use super::matching::Alternative;
use super::pattern::SyntaxError;
use super::route::Route;
use crate::diagnostic::{Code, Diagnostic, Place, Source, Span};
use crate::document::{self, Budget, Kind, Node, Reader};

/// A text with its place in a file: a name, or a reference to a name.
#[derive(Clone, Debug)]
pub(crate) struct LocatedText {
    pub(crate) text: Box<str>,
    pub(crate) place: Place,
}

/// The entries of all files of a policy.
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
    pub(crate) name: LocatedText,
    pub(crate) routes: Vec<Route>,
}

#[derive(Clone, Debug)]
pub(crate) struct RoleEntry {
    pub(crate) name: LocatedText,
    pub(crate) members: Vec<LocatedText>,
}

#[derive(Clone, Debug)]
pub(crate) struct ClientEntry {
    pub(crate) name: LocatedText,
    pub(crate) alternatives: Vec<Alternative>,
    pub(crate) roles: Vec<LocatedText>,
    pub(crate) permissions: Vec<LocatedText>,
    pub(crate) when: Option<super::condition::When>,
    pub(crate) when_place: Option<Place>,
    pub(crate) limits: super::Limits,
}

#[derive(Clone, Debug)]
pub(crate) struct DenyEntry {
    pub(crate) name: LocatedText,
    /// Client entries that the rule applies to; `None` for every client.
    pub(crate) clients: Option<Vec<LocatedText>>,
    pub(crate) permissions: Vec<LocatedText>,
    pub(crate) routes: Vec<Route>,
    pub(crate) when: Option<super::condition::When>,
    pub(crate) when_place: Option<Place>,
}

impl Document {
    /// Reads a file and adds its entries.
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
                Code::UnknownVersion,
                version,
                format!("version `{number}` is not supported"),
                Some("write `version: 1`".into()),
            );
        }
        if is_test_file(reader.source()) {
            for key in keys.iter().filter(|key| !matches!(**key, "version" | "tests")) {
                if let Some(key) = fields.key(key) {
                    let help = "move it to a file whose name does not end in `_test`".to_owned();
                    reader.error(
                        Code::BadTestFile,
                        key,
                        "a file named `…_test.yaml` may contain only `version` and `tests`; the proxy ignores it",
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
            let Some(name) = declared_name(key, reader) else { continue };
            let routes = routes(value, reader);
            self.permissions.push(PermissionEntry { name, routes });
        }
    }

    fn roles(&mut self, node: &Node<'_>, reader: &mut Reader<'_>) {
        for (_, key, value) in reader.entries(node, "`roles`").unwrap_or_default() {
            let Some(name) = declared_name(key, reader) else { continue };
            let members = references(value, reader);
            self.roles.push(RoleEntry { name, members });
        }
    }
}

/// Returns true if the name of a file says that the file holds only the tests of a policy.
fn is_test_file(source: &Source) -> bool {
    let name = source.name();
    name.ends_with("_test.yaml") || name.ends_with("_test.yml")
}

fn client(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<ClientEntry> {
    let keys = ["name", "match", "roles", "permissions", "when", "limits", "priority"];
    let fields = reader.fields(node, "a client entry", &keys)?;
    let name = fields.required("name", reader).and_then(|node| declared_name(node, reader));
    let alternatives = fields.required("match", reader).map(|node| alternatives(node, reader));
    let roles = fields.optional("roles").map(|node| references(node, reader)).unwrap_or_default();
    let permissions = fields.optional("permissions").map(|node| references(node, reader)).unwrap_or_default();
    let when = fields.optional("when").and_then(|node| when::read(node, reader));
    let when_place = fields.optional("when").map(|node| reader.place(node));
    let mut limits = fields.optional("limits").map(|node| limits(node, reader)).unwrap_or_default();
    let priority = fields.optional("priority").and_then(|node| reader.choice(node, &Priority::ALL));
    limits.priority = priority.unwrap_or_default();
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
    let name = fields.required("name", reader).and_then(|node| declared_name(node, reader));
    let clients = fields.optional("clients").map(|node| {
        let named = references(node, reader);
        reject_empty(node, reader, "leave `clients` out to mean every client");
        named
    });
    let permissions = fields.optional("permissions").map(|node| references(node, reader));
    let routes = fields.optional("routes").map(|node| routes(node, reader));
    if permissions.is_none() && routes.is_none() {
        let place = reader.place(node);
        reader.report(
            Diagnostic::error(Code::MissingKey, "a deny rule has neither `permissions` nor `routes`")
                .at(place)
                .help("write what it forbids; `routes: [\"* /**\"]` forbids everything"),
        );
    }
    let when = fields.optional("when").and_then(|node| when::read(node, reader));
    let when_place = fields.optional("when").map(|node| reader.place(node));
    let (permissions, routes) = (permissions.unwrap_or_default(), routes.unwrap_or_default());
    Some(DenyEntry { name: name?, clients, permissions, routes, when, when_place })
}

/// Reads the name of a new entry. A name cannot have `*`, because a reference with `*` is a pattern of names.
fn declared_name(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<LocatedText> {
    let text = reader.name(node)?;
    let odd = text.chars().find(|c| !c.is_alphanumeric() && !matches!(c, ':' | '-' | '_' | '.' | '/'));
    if let Some(odd) = odd {
        let help = "a name is made of letters, digits, `:`, `-`, `_`, `.` and `/`".to_owned();
        reader.error(Code::BadName, node, format!("`{odd}` cannot be part of a name"), Some(help));
        return None;
    }
    Some(LocatedText { text: text.into(), place: reader.place(node) })
}

/// Reads references to names.
fn references(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<LocatedText> {
    let items = reader.one_or_more(node);
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        if let Some(text) = reader.name(item) {
            words.push(LocatedText { text: text.into(), place: reader.place(item) });
        }
    }
    words
}

fn reject_empty(node: &Node<'_>, reader: &mut Reader<'_>, help: &str) {
    if matches!(node.kind(), Kind::List(items) if items.is_empty()) {
        reader.error(
            Code::EmptyList,
            node,
            "this list is empty, so it matches nothing",
            Some(help.to_owned()),
        );
    }
}

fn values(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[Box<str>]> {
    reject_empty(node, reader, "write at least one value, or `\"*\"` for any");
    let mut values = Vec::new();
    for item in reader.one_or_more(node) {
        values.extend(reader.text(item).map(Box::from));
    }
    values.into()
}

fn limits(node: &Node<'_>, reader: &mut Reader<'_>) -> super::Limits {
    let keys = ["requests_per_second", "burst", "connections", "in_flight"];
    let Some(fields) = reader.fields(node, "`limits`", &keys) else { return super::Limits::default() };
    let mut number = |key: &str| {
        let node = fields.optional(key)?;
        reader.integer(node, 1..=u64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok())
    };
    let limits = super::Limits {
        requests_per_second: number("requests_per_second"),
        burst: number("burst"),
        connections: number("connections"),
        in_flight: number("in_flight"),
        ..super::Limits::default()
    };
    if let Some(key) = fields.key("burst")
        && fields.optional("requests_per_second").is_none()
    {
        let help = "add `requests_per_second`: `burst` only allows short peaks above it".to_owned();
        reader.error(
            Code::MissingKey,
            key,
            "`burst` has no effect without `requests_per_second`",
            Some(help),
        );
    }
    limits
}

/// Reports a syntax error in a text, at the characters that are wrong if their place in the file is known.
fn report(error: SyntaxError, code: Code, node: &Node<'_>, reader: &mut Reader<'_>) {
    let whole = reader.place(node);
    let written = whole.source.slice(whole.span);
    let quote = usize::from(written.starts_with(['"', '\'']));
    let inner = written.get(quote..written.len().saturating_sub(quote)).unwrap_or_default();
    // Escapes in a quoted text shift offsets, so that the whole text is underlined then.
    let span = match Some(inner) == node.text() {
        true => {
            let start = whole.span.start() + quote;
            Span::new(start + error.start.min(inner.len()), start + error.end.min(inner.len()))
        }
        false => whole.span,
    };
    let place = reader.place_of(span);
    reader.report(Diagnostic::error(code, error.message).at(place).maybe_help(error.help));
}
