//! The style in which a part of a manifest is written: with brackets or without, in its own place or as an alias.

use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Place, Source, Span};
use crate::document::{Kind, Node};

/// The end of a node: the position behind its last byte.
pub(super) fn end_of(node: &Node<'_>) -> usize {
    node.span().end()
}

/// The start of the first key or item of a collection.
pub(super) fn first_of(collection: &Node<'_>) -> usize {
    let first = match collection.kind() {
        Kind::List(items) => items.first(),
        Kind::Map(entries) => entries.first().map(|(key, _)| key),
        _ => None,
    };
    first.map_or(collection.span().start(), |first| first.span().start())
}

/// `true` if a collection is written with brackets.
pub(super) fn is_flow(source: &Source, collection: &Node<'_>) -> bool {
    let first = source.text().get(collection.span().start()..).unwrap_or_default();
    let is_empty = match collection.kind() {
        Kind::List(items) => items.is_empty(),
        Kind::Map(entries) => entries.is_empty(),
        _ => return false,
    };
    // A block list without an indentation starts with its first item, which may have brackets of its own.
    first.starts_with(['[', '{']) && (is_empty || first_of(collection) > collection.span().start())
}

/// `true` if everything below a node is written there: no part of it is an alias or merged in by `<<`.
pub(super) fn is_written_out(node: &Node<'_>) -> bool {
    fn follows(node: &Node<'_>, last: &mut usize) -> bool {
        match node.kind() {
            Kind::Null => true,
            Kind::Scalar { .. } => {
                let is_later = node.span().start() >= *last;
                *last = node.span().end();
                is_later
            }
            Kind::List(items) => items.iter().all(|item| follows(item, last)),
            Kind::Map(entries) => {
                entries.iter().all(|(key, value)| follows(key, last) && follows(value, last))
            }
        }
    }
    follows(node, &mut 0)
}

/// The error about a style that cannot be edited.
pub(super) fn cannot_edit(source: &Arc<Source>, span: Span) -> Diagnostic {
    Diagnostic::error(Code::CannotEdit, "this is written in a way that cannot be edited in place")
        .at(Place::new(source, span))
        .help("write keys and `-` at the start of lines of their own, or pass the manifest through `kubectl create --dry-run=client -o yaml -f FILE` first")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Budget, parse};

    #[test]
    fn aliases_and_merges_are_seen() {
        let written_out = |text: &str| {
            let source = Source::new("t.yaml", text);
            is_written_out(&parse(&source, Budget::MANIFESTS).unwrap().unwrap())
        };
        assert!(written_out("a: &x {b: 1}\nc: [d, e]\n"));
        assert!(!written_out("a: &x {b: 1}\nc: *x\n"));
        assert!(!written_out("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n"));
    }
}
