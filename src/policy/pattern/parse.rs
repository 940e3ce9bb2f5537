//! The reading of one piece of a pattern.

use super::{Piece, SyntaxError, ValueSyntax, is_capture_name};
use crate::identity::Attribute;

/// Reads the piece at the start of `rest`, which stands at byte `at` of the pattern. Returns the piece and its length.
pub(super) fn next_piece(rest: &str, at: usize, style: ValueSyntax) -> Result<(Piece, usize), SyntaxError> {
    if rest.starts_with('*') {
        let stars = rest.bytes().take_while(|byte| *byte == b'*').count();
        return match stars {
            1 => Ok((Piece::Star, 1)),
            2 => Ok((Piece::DoubleStar, 2)),
            _ => Err(SyntaxError::new(at, at + stars, "more than two `*` in a row")
                .help("`*` matches within a component, `**` across components")),
        };
    }
    if rest.starts_with('{') {
        return capture(rest, at);
    }
    let length = rest.find(['*', '{', '}']).unwrap_or(rest.len());
    if length == 0 {
        return Err(SyntaxError::new(at, at + 1, "a `}` that closes nothing"));
    }
    let text = rest.get(..length).unwrap_or_default();
    let text = if style.ignores_case { text.to_ascii_lowercase() } else { text.to_owned() };
    Ok((Piece::Literal(text.into()), length))
}

fn capture(rest: &str, at: usize) -> Result<(Piece, usize), SyntaxError> {
    let Some(close) = rest.find('}') else {
        return Err(SyntaxError::new(at, at + rest.len(), "a `{` that is never closed"));
    };
    let name = rest.get(1..close).unwrap_or_default();
    let wrong = |message: String| SyntaxError::new(at, at + close + 1, message);
    if let Some(variable) = name.strip_prefix("client.") {
        return Err(wrong(format!("`{{{name}}}` belongs in a route, not in `match`")).help(format!(
            "write `{{{variable}}}` here to capture, and `{{{name}}}` in the route to use it"
        )));
    }
    if !is_capture_name(name) {
        return Err(wrong(format!("`{{{name}}}` is not the name of a capture"))
            .help("a name is made of small letters, digits, `_` and `-`, as in `{tenant}`"));
    }
    if Attribute::from_name(name).is_some() {
        return Err(wrong(format!("`{name}` is a name that `{{client.{name}}}` has already"))
            .help("give the capture another name"));
    }
    Ok((Piece::Capture(name.into()), close + 1))
}
