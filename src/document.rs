//! A YAML text as a tree in which everything knows its place: the shape that policies and configurations are read
//! from, and the only module that knows the YAML crate.
//!
//! Scalars keep the author's own spelling (`NO` is a text of two letters here, `0123` keeps its zero), and keys that
//! are written twice are both kept, so that both places can be shown. Pure; bounded by a [`Budget`].

mod read;
mod syntax;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Location, Spanned};

use crate::diagnostic::{Diagnostic, Place, Source, Span};

pub use read::{Fields, Reader};

/// How much a document may ask of the machine before it is refused.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of text.
    pub bytes: usize,
    /// Texts, lists and maps, those that aliases repeat included.
    pub nodes: usize,
    /// Lists and maps inside each other.
    pub depth: usize,
}

impl Budget {
    /// For `sidegate.yaml`: 1 MiB, 100,000 nodes, 32 levels.
    pub const CONFIGURATION: Self = Self { bytes: 1 << 20, nodes: 100_000, depth: 32 };
    /// For a policy file: 64 MiB, 4 million nodes, 32 levels; 100,000 rules need about a tenth of it.
    pub const POLICY: Self = Self { bytes: 64 << 20, nodes: 4_000_000, depth: 32 };

    fn options(self) -> serde_yaml::Options {
        serde_yaml::options! {
            budget: serde_yaml::budget! {
                max_events: self.nodes.saturating_mul(3),
                max_nodes: self.nodes,
                max_depth: self.depth,
                flow_nesting_limit: self.depth,
                max_aliases: 10_000,
                max_anchors: 1_000,
                max_recorded_anchor_events: 100_000,
                max_recorded_anchor_bytes: 8 << 20,
                max_total_scalar_bytes: self.bytes,
                max_documents: 1,
                max_merge_keys: 1_000,
                // The replay limit below bounds what aliases cost; a ratio would refuse honest reuse of one anchor.
                enforce_alias_anchor_ratio: false,
            },
            alias_limits: serde_yaml::alias_limits! {
                max_total_replayed_events: 200_000,
                max_replay_stack_depth: 16,
            },
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            merge_keys: MergeKeyPolicy::Merge,
            strict_booleans: true,
            leading_zero_numbers_as_strings: true,
            underscored_numbers_as_strings: true,
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            reject_unsupported_tags: true,
            with_snippet: false,
        }
    }
}

/// Reads a document. An empty one (nothing but blanks and comments) is `None`.
///
/// # Errors
/// What stands in the way of reading any of it: the size, the nesting, or YAML syntax, in an author's words.
pub fn parse(source: &Arc<Source>, budget: Budget) -> Result<Option<Node<'_>>, Diagnostic> {
    let text = source.text();
    if text.len() > budget.bytes {
        return Err(Diagnostic::error(
            "too-large",
            format!("the file is larger than {} MiB", budget.bytes >> 20),
        )
        .at(Place::new(&Source::new(source.name(), ""), Span::default()))
        .help("split it into several files"));
    }
    if let Some(at) = text.find('\0') {
        return Err(Diagnostic::error("yaml-syntax", "a NUL character is not text")
            .at(Place::new(source, Span::new(at, at + 1))));
    }
    let raw: RawNode<'_> = serde_yaml::from_str_with_options(text, budget.options())
        .map_err(|error| syntax::explain(source, &error))?;
    let node = Node::of(text, raw);
    Ok((!matches!(node.kind, Kind::Null)).then_some(node))
}

/// A value of a document, and where it stands.
#[derive(Clone, Debug)]
pub struct Node<'s> {
    span: Span,
    kind: Kind<'s>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind<'s> {
    /// Nothing was written, or `~` or `null`.
    Null,
    /// A text, as the author wrote it (escapes and folding of quoted texts undone).
    Scalar {
        /// The text.
        text: Cow<'s, str>,
        /// Whether it was written without quotes, so that it may be read as a number or a boolean.
        plain: bool,
    },
    /// A list.
    List(Vec<Node<'s>>),
    /// A map, with every key that was written, in the order of writing.
    Map(Vec<(Node<'s>, Node<'s>)>),
}

impl<'s> Node<'s> {
    /// A value given by a flag or an environment variable: the whole text of its source, unquoted.
    #[must_use]
    pub fn of_text(source: &'s Source) -> Self {
        let text = Cow::Borrowed(source.text());
        Self { span: Span::new(0, text.len()), kind: Kind::Scalar { text, plain: true } }
    }

    /// Where it stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> &Kind<'s> {
        &self.kind
    }

    /// Its text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What it is, in an author's words.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Scalar { .. } => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    fn of(text: &'s str, raw: RawNode<'s>) -> Self {
        let span = span_of(text, raw.defined);
        let kind = match raw.value {
            Raw::Null => Kind::Null,
            Raw::Text(value) => Kind::Scalar { plain: is_plain(text, span), text: value },
            Raw::Typed => Kind::Scalar { text: Cow::Borrowed(spelling(text, span)), plain: true },
            Raw::List(items) => Kind::List(items.into_iter().map(|item| Self::of(text, item)).collect()),
            Raw::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (Self::of(text, key), Self::of(text, value)))
                    .collect(),
            ),
        };
        Self { span: covering(span, &kind), kind }
    }
}

/// The parser gives a list or map the span of its first character; its last value shows how far it goes.
fn covering(span: Span, kind: &Kind<'_>) -> Span {
    let last = match kind {
        Kind::List(items) => items.last().map(Node::span),
        Kind::Map(entries) => entries.last().map(|(_, value)| value.span()),
        _ => None,
    };
    Span::new(span.start(), last.map_or(0, Span::end).max(span.end()))
}

fn span_of(text: &str, location: Location) -> Span {
    let span = location.span();
    let start = span.byte_offset().and_then(|start| usize::try_from(start).ok()).unwrap_or(0).min(text.len());
    let length = span.byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let covered = text.get(start..start.saturating_add(length).min(text.len())).unwrap_or_default();
    Span::new(start, start + covered.trim_end().len())
}

/// The author's spelling of a number or boolean.
fn spelling(text: &str, span: Span) -> &str {
    text.get(span.start()..span.end()).unwrap_or_default()
}

fn is_plain(text: &str, span: Span) -> bool {
    !matches!(spelling(text, span).as_bytes().first(), Some(b'"' | b'\'' | b'|' | b'>'))
}

type RawNode<'s> = Spanned<Raw<'s>>;

/// A node as the YAML crate hands it over.
enum Raw<'s> {
    Null,
    Text(Cow<'s, str>),
    /// A number or boolean: its spelling is in the source.
    Typed,
    List(Vec<RawNode<'s>>),
    Map(Vec<(RawNode<'s>, RawNode<'s>)>),
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw<'de>, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw<'de>, E> {
        Ok(Raw::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw<'de>, E> {
        Ok(Raw::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw<'de>, E> {
        Ok(Raw::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw<'de>, E> {
        Ok(Raw::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw<'de>, E> {
        Ok(Raw::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw<'de>, E> {
        Ok(Raw::Typed)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Raw<'de>, E> {
        Ok(Raw::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw<'de>, E> {
        Ok(Raw::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw<'de>, E> {
        Ok(Raw::Text(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw<'de>, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line, with the text that each scalar's span covers.
    fn shape(source: &Source, node: &Node<'_>) -> String {
        match node.kind() {
            Kind::Null => "~".into(),
            Kind::Scalar { text, plain } => {
                format!("{}{text}@{}", if *plain { "" } else { "'" }, source.slice(node.span()))
            }
            Kind::List(items) => {
                format!("[{}]", items.iter().map(|item| shape(source, item)).collect::<Vec<_>>().join(" "))
            }
            Kind::Map(entries) => {
                let entries =
                    entries.iter().map(|(k, v)| format!("{}={}", shape(source, k), shape(source, v)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn shown(text: &str) -> String {
        let source = Source::new("t.yaml", text);
        match parse(&source, Budget::CONFIGURATION) {
            Ok(Some(node)) => shape(&source, &node),
            Ok(None) => "empty".into(),
            Err(diagnostic) => diagnostic.to_string(),
        }
    }

    #[test]
    fn spelling_and_places_are_kept() {
        assert_eq!(
            shown(
                "a: NO\nb: 0123\nc: 1_000\nd: 'x y'\ne: 2027-01-01T00:00:00Z # c\nf: 1e400\ng: ~\nh:\ni: true\n"
            ),
            "{a@a=NO@NO b@b=0123@0123 c@c=1_000@1_000 d@d='x y@'x y' \
             e@e=2027-01-01T00:00:00Z@2027-01-01T00:00:00Z f@f=1e400@1e400 g@g=~ h@h=~ i@i=true@true}"
        );
        assert_eq!(shown("ä: [ü, \"ö\\n\", {k: v}]"), "{ä@ä=[ü@ü 'ö\n@\"ö\\n\" {k@k=v@v}]}");
    }

    #[test]
    fn keys_written_twice_are_both_there() {
        assert_eq!(shown("a: 1\na: 2\n1: x\ntrue: y\n"), "{a@a=1@1 a@a=2@2 1@1=x@x true@true=y@y}");
    }

    #[test]
    fn aliases_point_at_what_they_repeat() {
        assert_eq!(shown("a: &x [1, two]\nb: *x\n"), "{a@a=[1@1 two@two] b@b=[1@1 two@two]}");
    }

    #[test]
    fn nothing_is_an_empty_document() {
        for text in ["", "\n\n", "# only words\n", "\u{feff}", "---\n", "~"] {
            assert_eq!(shown(text), "empty", "{text:?}");
        }
        assert_eq!(shown("\u{feff}a: b\n"), "{a@a=b@b}");
        assert_eq!(shown("a: b\r\nc: d\r\n"), "{a@a=b@b c@c=d@d}");
    }

    /// Line and column, message, of a text that cannot be read.
    fn refused(text: &str) -> String {
        let source = Source::new("t.yaml", text);
        let diagnostic = parse(&source, Budget::CONFIGURATION).unwrap_err();
        let at = diagnostic.place.unwrap().position();
        format!("{}:{} {}", at.line, at.column, diagnostic.message)
    }

    #[test]
    fn syntax_is_explained_at_its_place() {
        let star = "an unquoted `*` is an alias in YAML";
        let neighbours = "this line is not indented like its neighbours";
        let colon = "a second `: ` in one value, or a key that is indented too far";
        for (text, expected) in [
            ("a:\n\tb: c\n", "2:2 a tab cannot indent".to_owned()),
            ("a: 'x\nb: c\n", "1:4 the quote that opens here is never closed".to_owned()),
            ("r:\n  - * /**\n", format!("2:5 {star}")),
            ("r: [* /**]\n", format!("1:5 {star}")),
            ("r: *x\n", format!("1:4 {star}, and no anchor of that name comes before it")),
            ("r: [GET /e/{id}]\n", "1:12 inside `[…]` an unquoted `{` starts a mapping".to_owned()),
            ("r: { route: GET /e/{id} }\n", "1:20 inside `{…}` an unquoted `{` starts a mapping".to_owned()),
            ("c: {tenant}-x\n", "1:12 text after a closing `}`".to_owned()),
            ("a: b\n c: d\n", format!("2:3 {colon}")),
            ("a: b: c\n", format!("1:5 {colon}")),
            ("a:\n  b: c\n d: e\n", format!("3:2 {neighbours}")),
            ("- a\nb: c\n", format!("2:1 {neighbours}")),
            ("a: @x\n", "1:4 a value cannot start with `@`".to_owned()),
            ("a: [1, 2\n", "1:4 the `[` that opens here is never closed".to_owned()),
            ("a: 1\nkey\n", "2:1 a key without its `:`".to_owned()),
            ("--- 1\n--- 2\n", "2:1 a second document in one file".to_owned()),
            ("a: !foo x\n", "1:9 the YAML tag `!foo` has no meaning here".to_owned()),
            ("a: 'x'y\n", "1:7 text after a closing quote".to_owned()),
            ("a: \"\\q\"\n", "1:4 an escape that YAML does not know".to_owned()),
            ("a\0", "1:2 a NUL character is not text".to_owned()),
        ] {
            assert_eq!(refused(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_asks_too_much_is_refused_and_never_a_crash() {
        let nested = "lists and mappings are nested too deeply";
        assert!(refused(&"[".repeat(100_000)).ends_with(nested));
        assert!(refused(&"- ".repeat(100_000)).ends_with(nested));
        assert!(
            refused(&(0..500).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>())
                .ends_with(nested)
        );
        assert!(refused(&"{a: ".repeat(100_000)).ends_with(nested));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        assert!(refused(&bomb).ends_with("aliases repeat more than can be read"));
        assert!(refused(&"a: b\n".repeat(300_000)).ends_with("the file is larger than 1 MiB"));
        assert!(refused(&"- b\n".repeat(200_000)).ends_with("the file holds more values than can be read"));
    }
}
