//! The reading of values from a document. Every mistake is noted, and reading goes on after it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Kind, Node};
use crate::diagnostic::{Code, Diagnostic, Place, Source, Span, did_you_mean};

/// Reads values of one source, and notes the mistakes in them.
///
/// Each method returns `None` (or an empty list) after it has noted a mistake, so that the reading of a whole document
/// collects all mistakes before it gives up.
#[derive(Debug)]
pub struct Reader<'d> {
    source: &'d Arc<Source>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// The number of problems after which suggestions end; see [`Reader::did_you_mean`].
const MOST_SUGGESTIONS: usize = 50;

/// The entries of a map whose keys are known in advance. Of a key that is written twice, the first counts.
#[derive(Debug)]
pub struct Fields<'n, 's> {
    span: Span,
    what: &'static str,
    entries: Vec<(&'n str, &'n Node<'s>, &'n Node<'s>)>,
}

impl<'n, 's> Fields<'n, 's> {
    /// The bytes of the whole map.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// `true` if no known key is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key; `None` if the key is not written.
    #[must_use]
    pub fn optional(&self, key: &str) -> Option<&'n Node<'s>> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|(.., value)| *value)
    }

    /// The node of a key, for diagnostics that point at the key.
    #[must_use]
    pub fn key(&self, key: &str) -> Option<&'n Node<'s>> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|(_, key, _)| *key)
    }

    /// The value of a key that has no default; its absence is noted.
    pub fn required(&self, key: &str, reader: &mut Reader<'_>) -> Option<&'n Node<'s>> {
        let value = self.optional(key);
        if value.is_none() {
            let message = format!("{} has no `{key}`", self.what);
            let first = Span::new(self.span.start(), self.span.start() + 1);
            let place = reader.place_of(if self.span.end() > self.span.start() { self.span } else { first });
            reader.report(Diagnostic::error(Code::MissingKey, message).at(place).help(missing_help(key)));
        }
        value
    }
}

impl<'d> Reader<'d> {
    /// A reader of the nodes of a source.
    pub fn new(source: &'d Arc<Source>, diagnostics: &'d mut Vec<Diagnostic>) -> Self {
        Self { source, diagnostics }
    }

    /// The source that is read.
    #[must_use]
    pub const fn source(&self) -> &Arc<Source> {
        self.source
    }

    /// The place of a node.
    #[must_use]
    pub fn place(&self, node: &Node<'_>) -> Place {
        self.place_of(node.span())
    }

    /// A span of the source as a place.
    #[must_use]
    pub fn place_of(&self, span: Span) -> Place {
        Place::new(self.source, span)
    }

    /// A suggestion for an unknown word; `None` after [`MOST_SUGGESTIONS`] problems. Each suggestion costs a comparison with
    /// every candidate, so a file full of mistakes must not ask for one each time.
    pub fn did_you_mean<'c>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<String> {
        if self.diagnostics.len() < MOST_SUGGESTIONS { did_you_mean(word, candidates) } else { None }
    }

    /// Notes a problem.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Notes an error at a node.
    pub fn error(&mut self, code: Code, node: &Node<'_>, message: impl Into<String>, help: Option<String>) {
        let diagnostic = Diagnostic::error(code, message).at(self.place(node)).maybe_help(help);
        self.report(diagnostic);
    }

    /// The fields of a map whose keys are all known; unknown keys and keys written twice are noted. `what` names such a
    /// map to its author, with an article ("a client entry").
    pub fn fields<'n, 's>(
        &mut self,
        node: &'n Node<'s>,
        what: &'static str,
        known: &[&str],
    ) -> Option<Fields<'n, 's>> {
        let mut entries = self.entries(node, what)?;
        entries.retain(|(name, key, _)| {
            let is_known = known.contains(name);
            if !is_known {
                self.unknown_key(name, key, what, known);
            }
            is_known
        });
        Some(Fields { span: node.span(), what, entries })
    }

    /// The entries of a map whose keys are names that its author chose; keys written twice are noted, and the first counts.
    pub fn entries<'n, 's>(
        &mut self,
        node: &'n Node<'s>,
        what: &'static str,
    ) -> Option<Vec<(&'n str, &'n Node<'s>, &'n Node<'s>)>> {
        let Kind::Map(entries) = node.kind() else {
            let help = matches!(node.kind(), Kind::List(_))
                .then(|| "write `name: …` lines, without a `-` before them and without `[…]`".to_owned());
            self.wrong_type(node, &format!("{what} is a mapping of `key: value`"), help);
            return None;
        };
        let mut taken: Vec<(&'n str, &'n Node<'s>, &'n Node<'s>)> = Vec::with_capacity(entries.len());
        let mut first = std::collections::HashMap::with_capacity(entries.len());
        for (key, value) in entries {
            let Some(name) = self.text(key) else { continue };
            if let Some(earlier) = first.insert(name, key.span()) {
                first.insert(name, earlier);
                self.written_twice(name, key, earlier);
            } else {
                taken.push((name, key, value));
            }
        }
        Some(taken)
    }

    /// The items of a list.
    pub fn list<'n, 's>(&mut self, node: &'n Node<'s>) -> Option<&'n [Node<'s>]> {
        match node.kind() {
            Kind::List(items) => Some(items),
            _ => {
                let help = match node.kind() {
                    Kind::Scalar { text, .. } => {
                        Some(format!("write `[{text}]`, or the items below each other, each after a `-`"))
                    }
                    Kind::Map(_) => Some("put a `-` before the first key of each item".to_owned()),
                    _ => None,
                };
                self.wrong_type(node, "a list is expected", help);
                None
            }
        }
    }

    /// The items of a list, or the one value that stands in its place.
    pub fn one_or_more<'n, 's>(&mut self, node: &'n Node<'s>) -> &'n [Node<'s>] {
        match node.kind() {
            Kind::List(items) => items,
            Kind::Null => {
                self.wrong_type(node, "a value or a list of values is expected", None);
                &[]
            }
            _ => std::slice::from_ref(node),
        }
    }

    /// A text. Numbers and booleans are texts too, as they were written.
    pub fn text<'n>(&mut self, node: &'n Node<'_>) -> Option<&'n str> {
        let text = node.text();
        if text.is_none() {
            let rest = self.source.text().get(node.span().start()..).unwrap_or_default();
            self.wrong_type(node, "a text is expected", braces(rest));
        }
        text
    }

    /// A text that is not blank.
    pub fn name<'n>(&mut self, node: &'n Node<'_>) -> Option<&'n str> {
        let text = self.text(node)?;
        if text.trim().is_empty() {
            self.error(Code::EmptyText, node, "this value is empty", None);
            return None;
        }
        Some(text)
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, node: &Node<'_>, bounds: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (bounds.start(), bounds.end());
        let expected = match *high {
            u64::MAX => format!("a whole number of at least {low} is expected"),
            high => format!("a whole number from {low} to {high} is expected"),
        };
        let text = self.unquoted(node, &expected)?;
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        if number.is_none() {
            self.error(Code::BadNumber, node, format!("{expected}, not `{text}`"), None);
        }
        number
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, node: &Node<'_>) -> Option<bool> {
        const EXPECTED: &str = "`true` or `false` is expected";
        let text = self.unquoted(node, EXPECTED)?;
        let meant = match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => "true",
            "false" | "no" | "off" | "0" => "false",
            _ => "",
        };
        if text != meant || meant.is_empty() {
            let help = (!meant.is_empty()).then(|| format!("write `{meant}`"));
            self.error(Code::WrongType, node, format!("{EXPECTED}, not `{text}`"), help);
            return None;
        }
        Some(meant == "true")
    }

    /// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.
    pub fn duration(&mut self, node: &Node<'_>) -> Option<Duration> {
        const EXPECTED: &str = "a length of time such as `500ms`, `5s` or `2m` is expected";
        let Some(text) = node.text() else {
            self.wrong_type(node, EXPECTED, None);
            return None;
        };
        let length = duration(text);
        if length.is_none() {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let help = is_number.then(|| format!("add the unit, as in `{text}s`"));
            self.error(Code::BadDuration, node, format!("{EXPECTED}, not `{text}`"), help);
        }
        length
    }

    /// An instant in RFC 3339.
    pub fn instant(&mut self, node: &Node<'_>) -> Option<Timestamp> {
        const EXPECTED: &str = "an instant such as `2027-01-01T00:00:00Z` is expected";
        let Some(text) = node.text() else {
            self.wrong_type(node, EXPECTED, None);
            return None;
        };
        let instant = text.parse().ok();
        if instant.is_none() {
            let help = instant_help(text);
            self.error(Code::BadInstant, node, format!("{EXPECTED}, not `{text}`"), help);
        }
        instant
    }

    /// Reads one of a few words, each with its meaning.
    pub fn choice<T: Copy>(&mut self, node: &Node<'_>, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(node)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if chosen.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            let help = self.did_you_mean(text, choices.iter().map(|(word, _)| *word));
            self.error(
                Code::UnknownWord,
                node,
                format!("{} is expected, not `{text}`", words.join(" or ")),
                help,
            );
        }
        chosen
    }

    /// Notes that a node is of another kind than expected; `expected` is a whole clause.
    pub fn wrong_type(&mut self, node: &Node<'_>, expected: &str, help: Option<String>) {
        let message = match node.kind() {
            Kind::Null => format!("a value is missing here: {expected}"),
            _ => format!("{expected}, not {}", node.what()),
        };
        self.error(Code::WrongType, node, message, help);
    }

    /// A text without quotes, which YAML does not call a string.
    fn unquoted<'n>(&mut self, node: &'n Node<'_>, expected: &str) -> Option<&'n str> {
        match node.kind() {
            Kind::Scalar { text, plain: true } => Some(text),
            Kind::Scalar { text, plain: false } => {
                let help = format!("remove the quotes around `{text}`");
                self.wrong_type(node, expected, Some(help));
                None
            }
            _ => {
                self.wrong_type(node, expected, None);
                None
            }
        }
    }

    fn unknown_key(&mut self, name: &str, key: &Node<'_>, what: &str, known: &[&str]) {
        let usual = usual(name).filter(|usual| known.contains(usual));
        let suggestion = of_routes(name, what)
            .or_else(|| usual.map(|usual| format!("did you mean `{usual}`?")))
            .or_else(|| self.did_you_mean(name, known.iter().copied()));
        let all = || format!("the keys here are {}", quoted_list(known));
        let diagnostic = Diagnostic::error(Code::UnknownKey, format!("unknown key `{name}` in {what}"))
            .at(self.place(key))
            .help(suggestion.unwrap_or_else(all));
        self.report(diagnostic);
    }

    fn written_twice(&mut self, name: &str, key: &Node<'_>, earlier: Span) {
        let diagnostic = Diagnostic::error(Code::DuplicateKey, format!("the key `{name}` is written twice"))
            .at(self.place(key))
            .related(self.place_of(earlier), "first written here")
            .help("keep one of them, or put both values under one key");
        self.report(diagnostic);
    }
}

/// The remedy for a key of a route that is written beside the routes.
fn of_routes(name: &str, what: &str) -> Option<String> {
    let is_beside = matches!(what, "a client entry" | "a deny rule" | "`when`");
    let (key, value) = match name {
        "host" | "hosts" => ("hosts", "[shop.example]"),
        "header" | "headers" => ("headers", "{ X-Mode: batch }"),
        "query" => ("query", "{ format: [csv] }"),
        "upgrade" => ("upgrade", "websocket"),
        _ => return None,
    };
    is_beside.then(|| {
        format!(
            "`{key}` can only be written inside a route, as in `{{ route: GET /events, {key}: {value} }}`"
        )
    })
}

/// The key that other systems call by another name; `None` for a name that is not known.
fn usual(name: &str) -> Option<&'static str> {
    Some(match name {
        "to" | "end" | "before" | "expires" | "not_after" => "until",
        "since" | "start" | "after" | "not_before" => "from",
        "timezone" | "time_zone" | "tz" => "zone",
        "cidr" | "ip" | "network" | "networks" | "ips" => "source",
        "weekdays" => "days",
        "path" | "paths" | "endpoint" => "route",
        "params" | "parameters" => "query",
        "rps" | "rate" | "requests" => "requests_per_second",
        "allow" | "grants" | "subjects" | "users" => "clients",
        "denies" | "forbid" => "deny",
        "result" | "decision" | "effect" => "expect",
        "when" | "time" | "now" => "at",
        _ => return None,
    })
}

fn missing_help(key: &str) -> String {
    match key {
        "version" => "add `version: 1`".to_owned(),
        key => format!("add `{key}: …`"),
    }
}

/// `a`, `b` and `c`, each in backticks.
fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The remedy for an unquoted `{name}`, which is a mapping in YAML.
fn braces(written: &str) -> Option<String> {
    let first = written.lines().next().unwrap_or_default();
    first.starts_with('{').then(|| {
        let end = first.find('}').map_or(first.len(), |end| end + 1);
        let inner = first.get(..end).unwrap_or(first);
        format!(
            "an unquoted `{{` starts a mapping in YAML; if it is meant as a text, quote it: `\"{inner}\"`"
        )
    })
}

fn instant_help(text: &str) -> Option<String> {
    if text.parse::<jiff::civil::Date>().is_ok() && !text.contains(['T', ' ']) {
        return Some(format!("add the time and the zone, as in `{text}T00:00:00Z`"));
    }
    text.parse::<jiff::civil::DateTime>()
        .is_ok()
        .then(|| format!("add the zone, as in `{}Z` for UTC", text.replace(' ', "T")))
        .or_else(|| Some("write the year first, then month, day, `T`, the time, and `Z` for UTC".to_owned()))
}

/// A length of time as people write it: `500ms`, `5s`, `2m`, `48h`, `7d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let milliseconds: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, parse};
    use super::*;

    /// Reads the whole text with `read` and gives the messages with their lines, columns and helps.
    fn problems(text: &str, read: impl Fn(&mut Reader<'_>, &Node<'_>)) -> Vec<String> {
        let source = Source::new("t.yaml", text);
        let node = parse(&source, Budget::CONFIGURATION).unwrap().unwrap();
        let mut diagnostics = Vec::new();
        read(&mut Reader::new(&source, &mut diagnostics), &node);
        diagnostics
            .iter()
            .map(|d| {
                let at = d.place.as_ref().unwrap().position();
                format!("{}:{} {} | {}", at.line, at.column, d.message, d.help.as_deref().unwrap_or("-"))
            })
            .collect()
    }

    #[test]
    fn every_mistake_of_a_map_is_noted_and_the_rest_is_read() {
        let found = problems("nmae: x\nsize: 5\nsize: 6\nzzz: 1\n", |reader, node| {
            let fields = reader.fields(node, "a thing", &["name", "size"]).unwrap();
            assert_eq!(fields.required("name", reader).and_then(Node::text), None);
            assert_eq!(reader.integer(fields.optional("size").unwrap(), 0..=u64::MAX), Some(5));
        });
        assert_eq!(
            found,
            [
                "3:1 the key `size` is written twice | keep one of them, or put both values under one key",
                "1:1 unknown key `nmae` in a thing | did you mean `name`?",
                "4:1 unknown key `zzz` in a thing | the keys here are `name` and `size`",
                "1:1 a thing has no `name` | add `name: …`",
            ]
        );
    }

    #[test]
    fn values_of_the_wrong_kind_say_what_is_expected() {
        let text = "a: x\nb: '5'\nc: yes\nd: 5\ne: 2027-01-01\nf: {id}\ng: x\nh: ~\ni: 2027-01-01T00:00:00\n";
        let found = problems(text, |reader, node| {
            let of = |key: &str| match node.kind() {
                Kind::Map(entries) => entries.iter().find(|(k, _)| k.text() == Some(key)).unwrap().1.clone(),
                _ => unreachable!(),
            };
            assert_eq!(reader.integer(&of("a"), 1..=10), None);
            assert_eq!(reader.integer(&of("b"), 0..=u64::MAX), None);
            assert_eq!(reader.boolean(&of("c")), None);
            assert_eq!(reader.duration(&of("d")), None);
            assert_eq!(reader.instant(&of("e")), None);
            assert_eq!(reader.text(&of("f")), None);
            assert!(reader.list(&of("g")).is_none());
            assert_eq!(reader.text(&of("h")), None);
            assert_eq!(reader.instant(&of("i")), None);
        });
        assert_eq!(
            found,
            [
                "1:4 a whole number from 1 to 10 is expected, not `x` | -",
                "2:4 a whole number of at least 0 is expected, not a text | remove the quotes around `5`",
                "3:4 `true` or `false` is expected, not `yes` | write `true`",
                "4:4 a length of time such as `500ms`, `5s` or `2m` is expected, not `5` | add the unit, as in `5s`",
                "5:4 an instant such as `2027-01-01T00:00:00Z` is expected, not `2027-01-01` | add the time and the \
                 zone, as in `2027-01-01T00:00:00Z`",
                "6:4 a text is expected, not a mapping | an unquoted `{` starts a mapping in YAML; if it is meant as \
                 a text, quote it: `\"{id}\"`",
                "7:4 a list is expected, not a text | write `[x]`, or the items below each other, each after a `-`",
                "8:4 a value is missing here: a text is expected | -",
                "9:4 an instant such as `2027-01-01T00:00:00Z` is expected, not `2027-01-01T00:00:00` | add the \
                 zone, as in `2027-01-01T00:00:00Z` for UTC",
            ]
        );
    }

    #[test]
    fn values_from_the_environment_are_read_alike() {
        let source = Source::new("SIDEGATE_LIMITS_MAX_CONNECTIONS", "12");
        let mut diagnostics = Vec::new();
        let mut reader = Reader::new(&source, &mut diagnostics);
        assert_eq!(reader.integer(&Node::of_text(&source), 1..=u64::MAX), Some(12));
        let source = Source::new("--set", "1500ms");
        let mut reader = Reader::new(&source, &mut diagnostics);
        assert_eq!(reader.duration(&Node::of_text(&source)), Some(Duration::from_millis(1500)));
        assert!(diagnostics.is_empty());
    }
}
