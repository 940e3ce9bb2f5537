//! Patterns of the values in a certificate: `*` matches within one component, `**` across components, and `{name}` matches as
//! `*` does and captures.

use std::fmt;

use crate::identity::Attribute;

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
                    .help("nobody could say where the one ends and the other begins; keep one of them"));
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
            .map(|(index, name)| (name, table.only_reading(index).and_then(|(from, to)| value.get(from..to))))
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

fn next_piece(rest: &str, at: usize, style: ValueSyntax) -> Result<(Piece, usize), SyntaxError> {
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

/// The positions of a value at which each piece can start and end. The table is filled in time proportional to the length
/// of the value times the number of pieces, so that no pattern needs exponential time.
struct MatchTable {
    /// For each piece, the positions at which the pieces before can end.
    starts: Vec<Vec<bool>>,
    /// For each piece, the positions from which the rest of the pattern matches the rest of the value.
    ends: Vec<Vec<bool>>,
    /// For each position, the bytes that wildcards may take there.
    steps: Vec<Step>,
    captures: Vec<bool>,
}

#[derive(Clone, Copy)]
struct Step {
    /// True if a character, or an escaped pair of characters, starts here.
    boundary: bool,
    /// True if `*` may take the byte here.
    star: bool,
    /// True if `**` may take the byte here.
    double_star: bool,
}

impl MatchTable {
    fn of(pattern: &Pattern, value: &str) -> Self {
        let steps = steps(value.as_bytes(), pattern.style);
        let length = steps.len();
        let mut starts = vec![start_at(length, 0)];
        for piece in &pattern.pieces {
            let last = starts.last().map(Vec::as_slice).unwrap_or_default();
            let next = advance(piece, last, value.as_bytes(), &steps);
            starts.push(next);
        }
        let mut ends = vec![start_at(length, length - 1)];
        for piece in pattern.pieces.iter().rev() {
            let last = ends.last().map(Vec::as_slice).unwrap_or_default();
            let before = retreat(piece, last, value.as_bytes(), &steps);
            ends.push(before);
        }
        ends.reverse();
        let captures = pattern.pieces.iter().map(|piece| matches!(piece, Piece::DoubleStar)).collect();
        Self { starts, ends, steps, captures }
    }

    fn is_match(&self) -> bool {
        self.starts.last().and_then(|ends| ends.last()).copied().unwrap_or(false)
    }

    /// Returns the range that a wildcard piece takes, if only one range lets the whole value match.
    fn only_reading(&self, piece: usize) -> Option<(usize, usize)> {
        let across = self.captures.get(piece).copied().unwrap_or(false);
        let (starts, after) = (self.starts.get(piece)?, self.ends.get(piece + 1)?);
        let mut found = None;
        for from in (0..starts.len()).filter(|from| at(starts, *from)) {
            for to in from..after.len() {
                if at(after, to) && self.steps.get(to).is_some_and(|step| step.boundary) {
                    if found.is_some() {
                        return None;
                    }
                    found = Some((from, to));
                }
                let takes = |step: &Step| if across { step.double_star } else { step.star };
                if !self.steps.get(to).is_some_and(takes) {
                    break;
                }
            }
        }
        found
    }
}

fn start_at(length: usize, position: usize) -> Vec<bool> {
    (0..length).map(|index| index == position).collect()
}

fn at(positions: &[bool], position: usize) -> bool {
    positions.get(position).copied().unwrap_or(false)
}

/// Returns one step for each byte, and a last step at which no wildcard takes anything.
fn steps(value: &[u8], style: ValueSyntax) -> Vec<Step> {
    let mut escaped = false;
    let mut steps = Vec::with_capacity(value.len() + 1);
    for byte in value {
        let inside = escaped || (*byte & 0xC0) == 0x80;
        let allowed = escaped || Some(*byte) != style.forbidden;
        let star = allowed && (escaped || Some(*byte) != style.separator);
        steps.push(Step { boundary: !inside, star, double_star: allowed });
        escaped = style.escapes && !escaped && *byte == b'\\';
    }
    steps.push(Step { boundary: true, star: false, double_star: false });
    steps
}

fn advance(piece: &Piece, from: &[bool], value: &[u8], steps: &[Step]) -> Vec<bool> {
    let mut to = vec![false; from.len()];
    if let Piece::Literal(text) = piece {
        for start in (0..from.len()).filter(|start| at(from, *start)) {
            if value.get(start..).is_some_and(|rest| rest.starts_with(text.as_bytes()))
                && let Some(end) = to.get_mut(start + text.len())
            {
                *end = true;
            }
        }
        return to;
    }
    let mut open = false;
    for (position, (slot, step)) in to.iter_mut().zip(steps).enumerate() {
        open |= at(from, position) && step.boundary;
        *slot = open && step.boundary;
        open &= takes(piece, *step);
    }
    to
}

fn retreat(piece: &Piece, from: &[bool], value: &[u8], steps: &[Step]) -> Vec<bool> {
    let mut to = vec![false; from.len()];
    if let Piece::Literal(text) = piece {
        for (start, slot) in to.iter_mut().enumerate() {
            *slot = at(from, start + text.len())
                && value.get(start..).is_some_and(|rest| rest.starts_with(text.as_bytes()));
        }
        return to;
    }
    let mut open = false;
    for (position, (slot, step)) in to.iter_mut().zip(steps).enumerate().rev() {
        open &= takes(piece, *step);
        open |= at(from, position) && step.boundary;
        *slot = open && step.boundary;
    }
    to
}

const fn takes(piece: &Piece, step: Step) -> bool {
    match piece {
        Piece::DoubleStar => step.double_star,
        _ => step.star,
    }
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
