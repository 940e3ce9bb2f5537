//! A YAML text as a tree whose nodes have places. Policies and configurations are read from it. Only this module knows the
//! YAML crate.
//!
//! Scalars keep the author's own spelling (`NO` is a text of two letters, `0123` keeps its zero). Both of two equal keys
//! are kept, so that both places can be shown. Pure; bounded by a [`Budget`].

mod read;
mod syntax;
mod tree;

use std::borrow::Cow;
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Place, Source, Span};
use crate::secret;

pub use read::{Fields, Reader, duration};

/// The bounds on a document: one that goes beyond them is refused, so that no file can exhaust the machine.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of text.
    pub bytes: usize,
    /// Texts, lists and maps, with those that aliases repeat.
    pub nodes: usize,
    /// Lists and maps inside each other.
    pub depth: usize,
}

impl Budget {
    /// For `sidegate.yaml`: 1 MiB, 100,000 nodes, 32 levels.
    pub const CONFIGURATION: Self = Self { bytes: 1 << 20, nodes: 100_000, depth: 32 };
    /// For a policy file: 64 MiB, 4 million nodes, 32 levels; 100,000 rules need about a tenth of these.
    pub const POLICY: Self = Self { bytes: 64 << 20, nodes: 4_000_000, depth: 32 };
    /// For Kubernetes manifests: 16 MiB, 2 million nodes, 128 levels; the schemas in CRDs are deep.
    pub const MANIFESTS: Self = Self { bytes: 16 << 20, nodes: 2_000_000, depth: 128 };
}

/// Reads a document. An empty one (nothing but blanks and comments) is `None`.
///
/// # Errors
/// The first obstacle to reading the document: the size, the nesting, or YAML syntax.
pub fn parse(source: &Arc<Source>, budget: Budget) -> Result<Option<Node<'_>>, Diagnostic> {
    check_readable(source, budget)?;
    secret::refuse_private_key(source)?;
    Ok(tree::build(source, budget, Documents::One)?.pop())
}

/// Reads a stream of documents, which `---` separates. Empty documents are left out.
///
/// # Errors
/// The errors of [`parse`].
pub fn parse_all(source: &Arc<Source>, budget: Budget) -> Result<Vec<Node<'_>>, Diagnostic> {
    check_readable(source, budget)?;
    tree::build(source, budget, Documents::Many)
}

/// The number of documents that a text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Documents {
    One,
    Many,
}

fn check_readable(source: &Arc<Source>, budget: Budget) -> Result<(), Diagnostic> {
    let text = source.text();
    if text.len() > budget.bytes {
        return Err(Diagnostic::error(
            Code::TooLarge,
            format!("the file is larger than {} MiB", budget.bytes >> 20),
        )
        .at(Place::new(&Source::new(source.name(), ""), Span::default()))
        .help("split it into several files"));
    }
    if let Some(at) = text.find('\0') {
        return Err(Diagnostic::error(Code::YamlSyntax, "the file contains a NUL character")
            .at(Place::new(source, Span::new(at, at + 1)))
            .help("save it as UTF-8 text"));
    }
    Ok(())
}

/// A value of a document, and its place.
#[derive(Clone, Debug)]
pub struct Node<'s> {
    span: Span,
    kind: Kind<'s>,
}

/// The kind of a node.
#[derive(Clone, Debug)]
pub enum Kind<'s> {
    /// No value: nothing is written, or `~` or `null`.
    Null,
    /// A text as the author wrote it, without the escapes and folding of quoted texts.
    Scalar {
        /// The text.
        text: Cow<'s, str>,
        /// `true` if the text is written without quotes, so that it may be read as a number or a boolean.
        plain: bool,
    },
    /// A list.
    List(Vec<Node<'s>>),
    /// A map with every key that is written, in the order of writing.
    Map(Vec<(Node<'s>, Node<'s>)>),
}

impl<'s> Node<'s> {
    /// A value given by a flag or an environment variable: the whole text of its source, unquoted.
    #[must_use]
    pub fn of_text(source: &'s Source) -> Self {
        let text = Cow::Borrowed(source.text());
        Self { span: Span::new(0, text.len()), kind: Kind::Scalar { text, plain: true } }
    }

    /// The bytes of the value.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> &Kind<'s> {
        &self.kind
    }

    /// The key and the value of a map's first entry of that name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&(Self, Self)> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(key, _)| key.text() == Some(name)),
            _ => None,
        }
    }

    /// The value at the end of a path of names through maps.
    #[must_use]
    pub fn find(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, name| node.entry(name).map(|(_, value)| value))
    }

    /// The items of a list; none for another kind.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar; `None` for another kind.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The kind as messages name it.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Scalar { .. } => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
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
    fn a_stream_is_read_document_by_document() {
        let text = "# first\n---\na: 1\n--- # nothing\n---\n- b\n...\n---\nc: &x d\n";
        let source = Source::new("t.yaml", text);
        let roots = parse_all(&source, Budget::MANIFESTS).unwrap();
        assert_eq!(
            roots.iter().map(|root| shape(&source, root)).collect::<Vec<_>>(),
            ["{a@a=1@1}", "[b@b]", "{c@c=d@d}"]
        );
        assert_eq!(roots[2].find(&["c"]).and_then(Node::text), Some("d"));
        assert!(roots[2].find(&["c", "d"]).is_none() && roots[1].items().len() == 1);
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
        let neighbours = "this line's indentation does not match the lines around it";
        let colon = "a second `: ` in one value, or a key that is indented too far";
        for (text, expected) in [
            ("a:\n\tb: c\n", "2:2 this line is indented with a tab".to_owned()),
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
            ("a: [1, 2\nb: [3]\n", "2:2 a `:` is not allowed here".to_owned()),
            ("version 1\na:\n", "2:2 the line above, `version 1`, is a key without its `:`".to_owned()),
            ("a: { b: {t}-x }\n", "1:12 inside `{…}` an unquoted `{` starts a mapping".to_owned()),
            ("a: [1, 2\n", "1:4 the `[` that opens here is never closed".to_owned()),
            ("a: 1\nkey\n", "2:1 a key without its `:`".to_owned()),
            ("--- 1\n--- 2\n", "2:1 a second document in one file".to_owned()),
            ("a: !foo x\n", "1:9 the YAML tag `!foo` has no meaning here".to_owned()),
            ("a: 'x'y\n", "1:7 text after a closing quote".to_owned()),
            ("a: \"\\q\"\n", "1:4 an escape that YAML does not know".to_owned()),
            ("a\0", "1:2 the file contains a NUL character".to_owned()),
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
        assert!(refused(&bomb).ends_with("the file contains more values than can be read"));
        let list = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 5_000].join(", "), vec!["*a"; 50].join(", "));
        let source = Source::new("t.yaml", list);
        let problem = parse(&source, Budget::POLICY).unwrap_err();
        assert_eq!(problem.message, "the YAML aliases (`*name`) expand to too many values");
        assert!(refused(&"a: b\n".repeat(300_000)).ends_with("the file is larger than 1 MiB"));
        assert!(
            refused(&"- b\n".repeat(200_000)).ends_with("the file contains more values than can be read")
        );
    }
}
