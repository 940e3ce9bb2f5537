//! A configuration while it is read: the file, the overrides and the mistakes found so far.

use std::path::Path;
use std::sync::Arc;

use super::keys::KEYS;
use super::{Located, Override};
use crate::diagnostic::{Code, Diagnostic, Place, Source};
use crate::document::{self, Budget, Fields, Node, Reader};

/// A configuration while it is read: every mistake is noted, and reading goes on.
pub(super) struct Draft<'a> {
    pub(super) source: &'a Arc<Source>,
    /// The folder to which relative paths are relative.
    pub(super) folder: &'a Path,
    pub(super) root: Option<&'a Node<'a>>,
    pub(super) overrides: &'a [ParsedOverride<'a>],
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// A section of the file: its path with a final dot, and its fields if it is written.
pub(super) struct Section<'a> {
    path: &'static str,
    fields: Option<Fields<'a, 'a>>,
}

/// The context of a value, for its reader.
pub(super) struct Input<'r> {
    pub(super) reader: Reader<'r>,
    /// The folder to which relative paths are relative.
    pub(super) folder: &'r Path,
}

/// An override as a document of its own.
pub(super) struct ParsedOverride<'o> {
    key: &'static str,
    source: &'o Arc<Source>,
    node: Node<'o>,
}

/// Parses overrides. An override may be a whole mapping (`{X-Client-Name: common_name}`); a text is a document too.
pub(super) fn parse_overrides<'o>(
    overrides: &'o [Override],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<ParsedOverride<'o>> {
    let mut parsed = Vec::new();
    for Override { key, source } in overrides {
        match parse_value(source) {
            Ok(node) => parsed.push(ParsedOverride { key, source, node }),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    parsed
}

fn parse_value(source: &Arc<Source>) -> Result<Node<'_>, Diagnostic> {
    Ok(document::parse(source, Budget::CONFIGURATION)?.unwrap_or_else(|| Node::of_text(source)))
}

impl<'a> Draft<'a> {
    /// A section, whose unknown keys are noted. `name` names the section to its author.
    pub(super) fn section(&mut self, path: &'static str, name: &'static str) -> Section<'a> {
        let node = self.node(path);
        let known = names_below(path);
        let fields = node.and_then(|node| self.reader().fields(node, name, &known));
        Section { path, fields }
    }

    /// The value of a key that has a default.
    pub(super) fn value_or<T>(
        &mut self,
        default: &'static str,
        section: &Section<'_>,
        path: &'static str,
        read: impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T>,
    ) -> Option<T> {
        if let Some(located) = self.optional(section, path, &read) {
            return Some(located.value);
        }
        let source = Source::new(format!("the default of {path}"), default);
        match parse_value(&source) {
            Ok(node) => self.read(&source, &node, read),
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// The value of a key that must be written; its absence is noted.
    pub(super) fn required<T>(
        &mut self,
        section: &Section<'_>,
        path: &'static str,
        read: impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T>,
    ) -> Option<Located<T>> {
        let before = self.diagnostics.len();
        let located = self.optional(section, path, read);
        if located.is_none() && self.diagnostics.len() == before {
            self.report_missing(path);
        }
        located
    }

    /// The value of a key from the override or else from the file; `None` if neither gives it, or if it is mistaken.
    pub(super) fn optional<T>(
        &mut self,
        section: &Section<'_>,
        path: &'static str,
        read: impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T>,
    ) -> Option<Located<T>> {
        let (source, node) = match self.override_of(path) {
            Some(given) => (given.source, &given.node),
            None => {
                let name = path.strip_prefix(section.path)?;
                (self.source, section.fields.as_ref()?.optional(name)?)
            }
        };
        let value = self.read(source, node, read)?;
        Some(Located { value, place: Place::new(source, node.span()) })
    }

    /// The place at which a key is written; `None` for a key that is not.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        match self.override_of(path) {
            Some(given) => Some(Place::new(given.source, given.node.span())),
            None => Some(Place::new(self.source, self.node(path)?.span())),
        }
    }

    /// Notes that a key is missing.
    pub(super) fn report_missing(&mut self, path: &str) {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let span = self.node(section).map(Node::span).unwrap_or_default();
        let help = match section {
            "" => format!("add `{name}: …`"),
            section => format!("add `{name}: …` below `{section}:`"),
        };
        let missing = Diagnostic::error(Code::MissingKey, format!("`{path}` is missing"));
        self.diagnostics.push(missing.at(Place::new(self.source, span)).help(help));
    }

    /// Notes that what is written at a place has no effect.
    pub(super) fn report_no_effect(&mut self, place: Place, message: &str, help: &str) {
        self.diagnostics.push(Diagnostic::error(Code::NoEffect, message).at(place).help(help));
    }

    fn read<T>(
        &mut self,
        source: &Arc<Source>,
        node: &Node<'_>,
        read: impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T>,
    ) -> Option<T> {
        let reader = Reader::new(source, &mut self.diagnostics);
        read(&mut Input { reader, folder: self.folder }, node)
    }

    fn reader(&mut self) -> Reader<'_> {
        Reader::new(self.source, &mut self.diagnostics)
    }

    /// The node at a path of names, which may end in a dot; the root for an empty path.
    fn node(&self, path: &str) -> Option<&'a Node<'a>> {
        self.root?.find(&path.split_terminator('.').collect::<Vec<_>>())
    }

    /// The override that counts: the last one.
    fn override_of(&self, path: &str) -> Option<&'a ParsedOverride<'a>> {
        self.overrides.iter().rev().find(|given| given.key == path)
    }
}

/// The names of keys and sections directly below a path that ends in a dot or is empty.
fn names_below(path: &str) -> Vec<&'static str> {
    let below = KEYS.iter().filter_map(|key| key.path.strip_prefix(path));
    let mut names: Vec<_> = below.filter_map(|rest| rest.split('.').next()).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_a_section_are_its_keys_and_sections() {
        let expected = [
            "max_connections",
            "max_connections_per_client",
            "reserved_for_high_priority",
            "idle_timeout",
            "connection_age",
            "upgrade_idle_timeout",
            "lobby",
            "http",
        ];
        assert_eq!(names_below("limits."), expected);
        assert!(names_below("").contains(&"workers") && names_below("").contains(&"tls"));
    }
}
