//! Patterns of the values in a certificate: `*` matches within one component, `**` across components, and `{name}` matches as
//! `*` does and captures.

mod parse;
mod table;

use std::fmt;

use crate::identity::Attribute;
use parse::next_piece;
use table::MatchTable;

/// A pattern of the values of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pieces: Box<[Piece]>,
    style: ValueSyntax,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Box<str>),
    /// `*`: any run of characters within a component.
    Star,
    /// `**`: any run of characters.
    DoubleStar,
    /// `{name}`: any run of characters within a component, captured under this name.
    Capture(Box<str>),
}

/// The rules by which the values of an attribute are divided into components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueSyntax {
    /// Separator of components, which `*` does not match.
    pub(super) separator: Option<u8>,
    /// Character that no wildcard matches. For DNS names this is `*`: the name `*.corp` in a certificate is not treated as one
    /// of the names below `corp`.
    pub(super) forbidden: Option<u8>,
    /// True if a backslash takes the meaning of a separator from the next character (RFC 4514).
    pub(super) escapes: bool,
    ignores_case: bool,
}

impl ValueSyntax {
    pub(crate) const fn of(attribute: Attribute) -> Self {
        let plain = Self { separator: None, forbidden: None, escapes: false, ignores_case: false };
        match attribute {
            Attribute::Dns => {
                Self { separator: Some(b'.'), forbidden: Some(b'*'), ignores_case: true, ..plain }
            }
            Attribute::Uri => Self { separator: Some(b'/'), ..plain },
            Attribute::Email => Self { separator: Some(b'@'), ..plain },
            Attribute::Subject | Attribute::Issuer => Self { separator: Some(b','), escapes: true, ..plain },
            _ => plain,
        }
    }
}

/// A mistake in a text with its own syntax: the range of bytes, the message and the help.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl SyntaxError {
    pub(crate) fn new(start: usize, end: usize, message: impl Into<String>) -> Self {
        Self { start, end, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Pattern {
    /// Reads a pattern for the values of an attribute.
    pub(crate) fn parse(attribute: Attribute, text: &str) -> Result<Self, SyntaxError> {
        let style = ValueSyntax::of(attribute);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = text.get(at..).unwrap_or_default();
            let (piece, length) = next_piece(rest, at, style)?;
            if is_wild(&piece) && pieces.last().is_some_and(is_wild) {
                return Err(SyntaxError::new(at, at + length, "two wildcards without a text between them")
                    .help("put text between the two wildcards, or keep one of them"));
            }
            pieces.push(piece);
            at += length;
        }
        Ok(Self { pieces: pieces.into(), style })
    }

    /// Returns the literal texts and wildcards of the pattern, in order.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns the pattern with the capture `name` replaced by a literal text.
    pub(super) fn with_capture(&self, name: &str, text: &str) -> Self {
        let fill = |piece: &Piece| match piece {
            Piece::Capture(capture) if **capture == *name => Piece::Literal(text.into()),
            piece => piece.clone(),
        };
        Self { pieces: self.pieces.iter().map(fill).collect(), style: self.style }
    }

    /// Returns the only value that the pattern matches, if the pattern has no wildcard.
    pub(crate) fn exact(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the names of the captures.
    pub(crate) fn captures(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Capture(name) => Some(&**name),
            _ => None,
        })
    }

    /// Returns the text that every matching value starts with.
    pub(crate) fn prefix(&self) -> &str {
        literal(self.pieces.first())
    }

    /// Returns the text that every matching value ends with.
    pub(crate) fn suffix(&self) -> &str {
        literal(self.pieces.last())
    }

    /// Returns true if the whole value matches the pattern.
    pub(crate) fn matches(&self, value: &str) -> bool {
        if let Some(exact) = self.exact() {
            return exact == value;
        }
        self.could_match(value) && MatchTable::of(self, value).is_match()
    }

    /// Returns the text of each capture in a value that matches. The text is `None` if the capture could stand for several
    /// texts: an ambiguous capture must not decide which paths a client may use.
    pub(crate) fn bind<'p, 'v>(&'p self, value: &'v str) -> Vec<(&'p str, Option<&'v str>)> {
        let table = MatchTable::of(self, value);
        let captures = self.pieces.iter().enumerate().filter_map(|(index, piece)| match piece {
            Piece::Capture(name) => Some((index, &**name)),
            _ => None,
        });
        captures
            .map(|(index, name)| (name, table.only_range(index).and_then(|(from, to)| value.get(from..to))))
            .collect()
    }

    fn could_match(&self, value: &str) -> bool {
        value.len() >= self.prefix().len() + self.suffix().len()
            && value.starts_with(self.prefix())
            && value.ends_with(self.suffix())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => f.write_str(text)?,
                Piece::Star => f.write_str("*")?,
                Piece::DoubleStar => f.write_str("**")?,
                Piece::Capture(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// Returns true if a text can name a capture or variable: lower-case letters, digits, `_` and `-`.
pub(crate) fn is_capture_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

fn literal(piece: Option<&Piece>) -> &str {
    match piece {
        Some(Piece::Literal(text)) => text,
        _ => "",
    }
}

fn is_wild(piece: &Piece) -> bool {
    !matches!(piece, Piece::Literal(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(attribute: Attribute, text: &str) -> Pattern {
        Pattern::parse(attribute, text).unwrap()
    }

    fn matches(attribute: Attribute, text: &str, value: &str) -> bool {
        pattern(attribute, text).matches(value)
    }

    /// Case 50.
    #[test]
    fn a_star_stays_within_its_component() {
        use Attribute::{CommonName, Dns, Email, Uri};
        assert!(matches(Uri, "spiffe://shop.example/ns/*/sa/x", "spiffe://shop.example/ns/orders/sa/x"));
        assert!(!matches(Uri, "spiffe://shop.example/ns/*", "spiffe://shop.example/ns/orders/sa/x"));
        assert!(matches(Uri, "spiffe://shop.example/ns/**", "spiffe://shop.example/ns/orders/sa/x"));
        assert!(matches(Dns, "*.Shop.example", "a.shop.example"));
        assert!(!matches(Dns, "*.shop.example", "a.b.shop.example"));
        assert!(matches(Dns, "**.shop.example", "a.b.shop.example"));
        assert!(matches(CommonName, "svc-*", "svc-a/b.c"));
        assert!(!matches(CommonName, "svc.a", "svcxa"));
        assert!(matches(Email, "*@shop.example", "ann@shop.example"));
        assert!(!matches(Email, "*shop.example", "ann@shop.example"));
        assert!(matches(CommonName, "a*b*c", "abbc") && !matches(CommonName, "a*b*c", "acb"));
        assert!(!matches(CommonName, "ab*ba", "aba"));
    }

    /// Case 18.
    #[test]
    fn a_wildcard_certificate_is_no_client_that_it_would_expand_to() {
        assert!(!matches(Attribute::Dns, "*.corp", "*.corp"));
        assert!(!matches(Attribute::Dns, "**", "*.corp"));
        assert!(!matches(Attribute::Dns, "a.corp", "*.corp"));
    }

    #[test]
    fn an_escaped_comma_is_no_end_of_a_component() {
        let shop = "CN=*,O=Shop";
        assert!(matches(Attribute::Subject, shop, "CN=x,O=Shop"));
        assert!(!matches(Attribute::Subject, shop, "CN=x\\,O=Shop"));
        assert!(matches(Attribute::Subject, shop, "CN=x\\,y,O=Shop"));
        assert!(!matches(Attribute::Subject, "**,O=Shop", "CN=x\\,O=Shop"));
        assert!(!matches(Attribute::Subject, shop, "CN=x,O=y,O=Shop"));
    }

    #[test]
    fn only_a_capture_with_one_reading_is_bound() {
        let bind = |text: &str, value: &str| -> Vec<Option<String>> {
            let pattern = pattern(Attribute::CommonName, text);
            assert!(pattern.matches(value), "{text} {value}");
            pattern.bind(value).into_iter().map(|(_, bound)| bound.map(str::to_owned)).collect()
        };
        assert_eq!(bind("{tenant}-reader", "acme-reader"), [Some("acme".to_owned())]);
        assert_eq!(bind("{tenant}-reader", "a-reader-reader"), [Some("a-reader".to_owned())]);
        assert_eq!(bind("{tenant}-reader", "-reader"), [Some(String::new())]);
        assert_eq!(bind("{a}-{b}", "x-y"), [Some("x".to_owned()), Some("y".to_owned())]);
        assert_eq!(bind("{a}-{b}", "x-y-z"), [None, None]);
        assert_eq!(bind("{a}-*", "x-y-z"), [None]);
        assert_eq!(bind("ü{a}ü", "üöü"), [Some("ö".to_owned())]);
        let uri = pattern(Attribute::Uri, "spiffe://**/sa/{name}");
        assert_eq!(uri.bind("spiffe://x/ns/sa/sa/sa/y"), [("name", Some("y"))]);
    }

    /// Case 50.
    #[test]
    fn malformed_patterns_say_where_and_why() {
        let wrong = |text: &str| {
            let error = Pattern::parse(Attribute::CommonName, text).unwrap_err();
            (error.start, error.end, error.message)
        };
        assert_eq!(wrong("a***"), (1, 4, "more than two `*` in a row".to_owned()));
        assert_eq!(wrong("x{a}{b}").0, 4);
        assert_eq!(wrong("x{a").2, "a `{` that is never closed");
        assert_eq!(wrong("x}").2, "a `}` that closes nothing");
        assert_eq!(wrong("{Tenant}").2, "`{Tenant}` is not the name of a capture");
        assert_eq!(wrong("{client.x}").2, "`{client.x}` belongs in a route, not in `match`");
        assert_eq!(wrong("{dns}").2, "`dns` is a name that `{client.dns}` has already");
    }
}
