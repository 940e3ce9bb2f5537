//! Errors of YAML syntax, in words for an author who has not read the YAML specification.

use std::sync::Arc;

use serde_yaml::granit_parser::{ErrorKind, ScanError};

use crate::diagnostic::{Code, Diagnostic, Place, Source, Span};

/// A message and a help.
pub(super) type Words = (String, Option<String>);

/// The parser's error as a diagnostic.
pub(super) fn explain(source: &Arc<Source>, error: &ScanError) -> Diagnostic {
    let start = error.marker().byte_offset().unwrap_or_default().min(source.text().len());
    let width = source.text().get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    let span = Span::new(start, start + width);
    let (message, help) = of_parser(source, span, error.kind());
    Diagnostic::error(Code::YamlSyntax, message).at(Place::new(source, span)).maybe_help(help)
}

fn words(message: &str, help: &str) -> Words {
    (message.to_owned(), Some(help.to_owned()))
}

fn of_parser(source: &Source, span: Span, kind: &ErrorKind) -> Words {
    let line = source.line(source.position(span.start()).line);
    let here = source.slice(span);
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            words("this line is indented with a tab", "indent with spaces, two for each level")
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            words("the quote that opens here is never closed", "close the quote on the same line")
        }
        ErrorKind::MissingAnchorOrAliasName => star(here),
        ErrorKind::UnknownAnchor => unknown_anchor(),
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::ExpectedFlowMappingSeparator => {
            separator(source, span, kind)
        }
        ErrorKind::InvalidColonPlacement => words(
            "a `:` is not allowed here",
            "look for an unclosed `[` or `{` above; if `:` is part of the value, put the value in quotes",
        ),
        ErrorKind::UnclosedFlowCollection { open } => {
            let close = if *open == '[' { ']' } else { '}' };
            (
                format!("the `{open}` that opens here is never closed"),
                Some(format!("add the missing `{close}`")),
            )
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => (
            format!("`{open}` is closed by `{close}`"),
            Some("close `[` with `]`, and `{` with `}`".to_owned()),
        ),
        ErrorKind::ExpectedBlockMappingKey if line.contains('{') => words(
            "text after a closing `}`",
            "a value that starts with `{` is a mapping in YAML; quote it, as in `\"{tenant}-reader\"`",
        ),
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed => words(
            "this line's indentation does not match the lines around it",
            "keys of one mapping start in the same column, and so do the `-` of one list",
        ),
        ErrorKind::MappingValueNotAllowed => second_colon(source, span),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            words("a key without its `:`", "write `key: value`; a space belongs after the colon")
        }
        ErrorKind::UnexpectedCharacter { character } => (
            format!("a value cannot start with `{character}`"),
            Some("quote the value, as in `\"…\"`".to_owned()),
        ),
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            words("text after a closing quote", "quote the whole value, or none of it")
        }
        ErrorKind::UnknownQuotedScalarEscape => words(
            "an escape that YAML does not know",
            "inside double quotes a backslash is written `\\\\`; inside single quotes it is written as it is",
        ),
        ErrorKind::CommentInterceptedScalar => {
            words("a comment in the middle of a value", "write the value on one line, the comment after it")
        }
        ErrorKind::RecursionLimitExceeded => nested(),
        other => (other.to_string(), Some("check quotes, indentation and colons near here".to_owned())),
    }
}

fn star(here: &str) -> Words {
    let message = if here == "&" {
        "an unquoted `&` is an anchor in YAML"
    } else {
        "an unquoted `*` is an alias in YAML"
    };
    words(message, "quote the value, as in `\"* /**\"`")
}

fn unknown_anchor() -> Words {
    words(
        "an unquoted `*` is an alias in YAML, and no anchor of that name comes before it",
        "quote the value if the `*` is meant as a pattern, as in `\"*\"` or `\"*.example.com\"`",
    )
}

fn separator(source: &Source, span: Span, kind: &ErrorKind) -> Words {
    let bracket = if *kind == ErrorKind::ExpectedFlowSequenceSeparator { "[…]" } else { "{…}" };
    let (here, line) = (source.slice(span), source.line(source.position(span.start()).line));
    let before = source.text().get(..span.start()).unwrap_or_default();
    let starts = format!("inside `{bracket}` an unquoted `{{` starts a mapping");
    if before.ends_with('}') {
        return (starts, Some("quote the whole value, as in `\"{tenant}-reader\"`".to_owned()));
    }
    if here == "{" || line.contains("/{") {
        return (starts, Some("quote the route, as in `[\"GET /events/{id}\"]`, or write the list with a `-` before each item".to_owned()));
    }
    let message = format!("a comma or the closing bracket of `{bracket}` is missing");
    (message, Some("write `,` between the items, and close each bracket that a line opens".to_owned()))
}

/// A line that was meant to be `key: value` makes the next line's key one too many.
fn second_colon(source: &Source, span: Span) -> Words {
    let number = source.position(span.start()).line;
    let above = source.line(number.saturating_sub(1)).trim();
    let is_key = number > 1 && !above.is_empty() && !above.contains([':', '#']) && !above.starts_with('-');
    match is_key {
        true => (
            format!("the line above, `{above}`, is a key without its `:`"),
            Some("write `key: value`; a space belongs after the colon".to_owned()),
        ),
        false => words(
            "a second `: ` in one value, or a key that is indented too far",
            "quote a value that contains `: `; start the keys of one mapping in the same column",
        ),
    }
}

pub(super) fn nested() -> Words {
    words("lists and mappings are nested too deeply", "reduce the nesting")
}

pub(super) fn too_many() -> Words {
    words("the file contains more values than can be read", "split it into several files")
}

pub(super) fn one_document() -> Words {
    words("a second document in one file", "remove the `---`, or put what follows it into a file of its own")
}

pub(super) fn expansion() -> Words {
    words(
        "the YAML aliases (`*name`) expand to too many values",
        "write the values out, or split them into several files",
    )
}

pub(super) fn alias_of_itself() -> Words {
    words("the alias `*name` refers to itself", "write the value out")
}

pub(super) fn merge_of_no_map() -> Words {
    words("`<<` must be followed by a mapping", "write an alias of a mapping after it, as in `<<: *defaults`")
}

pub(super) fn no_tags(tag: &str) -> Words {
    (format!("the YAML tag `{tag}` has no meaning here"), Some("remove it, or quote the value".to_owned()))
}
