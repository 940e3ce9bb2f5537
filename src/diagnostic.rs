//! What is wrong with something that a person wrote: the place, the cause and the remedy, in one shape for
//! policies and configurations.
//!
//! Wording: lower case, no final period, the author's own text in backticks, help apart from the message.

mod code;
mod source;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use serde_json::{Value, json};

pub use code::Code;
pub use source::{Place, Position, Source, Span};

use crate::redact::{is_secret_line, redact_secrets};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What was written cannot take effect.
    Error,
    /// What was written takes effect, but probably not as its author hopes.
    Warning,
}

impl Severity {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A second place that belongs to the story, with what is to be seen there ("first declared here").
#[derive(Clone, Debug)]
pub struct Related {
    /// Where.
    pub place: Place,
    /// What is to be seen there.
    pub label: String,
}

/// One problem, with everything that its author needs to mend it.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Whether it stops the policy or configuration from taking effect.
    pub severity: Severity,
    /// The kind of problem.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// Where, if it is anywhere in particular.
    pub place: Option<Place>,
    /// What the underlined text is, if the message does not say it already.
    pub label: Option<Box<str>>,
    /// Other places that explain it.
    pub related: Vec<Related>,
    /// What to do.
    pub help: Option<Box<str>>,
}

/// By what it says; the same said of another place is the same news.
impl Hash for Diagnostic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.code, &self.message).hash(state);
    }
}

impl Diagnostic {
    /// A problem that stops what was written from taking effect.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// Something that takes effect but is probably not meant.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    fn new(severity: Severity, code: Code, message: String) -> Self {
        let message = redact_secrets(&message).into_owned();
        Self { severity, code, message, place: None, label: None, related: Vec::new(), help: None }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same, with words under the underlined text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(redact_secrets(&label.into()).into());
        self
    }

    /// The same, with a second place.
    #[must_use]
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push(Related { place, label: redact_secrets(&label.into()).into_owned() });
        self
    }

    /// The same, with what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(redact_secrets(&help.into()).into());
        self
    }

    /// The same, with what to do if there is something.
    #[must_use]
    pub fn maybe_help(self, help: Option<String>) -> Self {
        help.into_iter().fold(self, Self::help)
    }

    /// Whether it stops what was written from taking effect.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// For people: message, `file:line:column`, the source line underlined, related places, help. Several lines, each
    /// ended. Colour only where the reader's terminal asked for it.
    #[must_use]
    pub fn human(&self, colour: bool) -> String {
        Human::of(self, colour).render()
    }

    /// For programs: an object with `severity`, `code`, `message`, `file`, `line`, `column`, `end_line`, `end_column`,
    /// `label`, `help` and `related`. Stable.
    #[must_use]
    pub fn json(&self) -> Value {
        let related: Vec<Value> = self
            .related
            .iter()
            .map(|Related { place, label }| {
                let mut value = place_json(Some(place));
                set(&mut value, "label", json!(label));
                value
            })
            .collect();
        let mut value = place_json(self.place.as_ref());
        set(&mut value, "severity", json!(self.severity.name()));
        set(&mut value, "code", json!(self.code.name()));
        set(&mut value, "message", json!(self.message));
        set(&mut value, "label", json!(self.label));
        set(&mut value, "help", json!(self.help));
        set(&mut value, "related", Value::Array(related));
        value
    }

    /// A workflow command of GitHub Actions, which shows the problem beside the line in a pull request. One line.
    #[must_use]
    pub fn github(&self) -> String {
        let mut command = format!("::{} ", self.severity.name());
        if let Some(place) = &self.place {
            let start = place.position();
            let _ = write!(command, "file={},", property(place.source.name()));
            let _ = write!(command, "line={},col={},", start.line, start.column);
        }
        let mut text = self.message.clone();
        for part in [&self.label, &self.help].into_iter().flatten() {
            let _ = write!(text, "\n{part}");
        }
        for Related { place, label } in &self.related {
            let _ = write!(text, "\n{place}: {label}");
        }
        let _ = write!(command, "title={}::{}", property(self.code.name()), data(&text));
        command
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.human(false).trim_end())
    }
}

impl std::error::Error for Diagnostic {}

/// So many problems are shown at once; a file with more has one cause that repeats, or is no file of this kind.
const MOST_SHOWN: usize = 1_000;

/// The first [`MOST_SHOWN`] problems, and how many more there are.
#[must_use]
pub fn first_ones(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let rest = problems.split_off(problems.len().min(MOST_SHOWN));
    if let Some(severity) = rest.iter().map(|problem| problem.severity).min() {
        let message = format!("{} more problems are not shown", rest.len());
        problems.push(
            Diagnostic::new(severity, Code::TooMany, message)
                .help("mend the first ones, and ask for the others"),
        );
    }
    problems
}

/// The candidate that was probably meant: alike but for case, or within a third of the word's length in edits.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let bound = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= bound.saturating_mul(4))
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The help text of a suggestion.
pub fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

fn distance(word: &str, candidate: &str) -> usize {
    if word.eq_ignore_ascii_case(candidate) {
        return 0;
    }
    strsim::osa_distance(word, candidate)
}

/// A stranger's text made safe to print: what could steer a terminal or start a new line is escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match steers(character) {
            true => safe.extend(character.escape_default()),
            false => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

/// Control characters, and the marks that reorder text so that it reads otherwise than it is.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Beyond this many characters a message, which holds a text of the author's own, is cut.
const LONGEST_MESSAGE: usize = 1_000;

/// Beyond this many characters a source line is cut around the place.
const WIDEST_LINE: usize = 140;

/// One diagnostic on its way to a person.
struct Human<'d> {
    diagnostic: &'d Diagnostic,
    colour: bool,
    /// How wide line numbers are.
    gutter: usize,
    out: String,
}

impl<'d> Human<'d> {
    fn of(diagnostic: &'d Diagnostic, colour: bool) -> Self {
        let places = diagnostic.place.iter().chain(diagnostic.related.iter().map(|related| &related.place));
        let widest = places.map(|place| place.position().line).max().unwrap_or(1);
        Self { diagnostic, colour, gutter: widest.to_string().len(), out: String::new() }
    }

    fn render(mut self) -> String {
        self.title();
        if let Some(place) = &self.diagnostic.place {
            self.arrow("-->", place);
            self.excerpt(place, '^', self.diagnostic.label.as_deref().unwrap_or_default());
        }
        for Related { place, label } in &self.diagnostic.related {
            self.arrow(":::", place);
            self.excerpt(place, '-', label);
        }
        if let Some(help) = &self.diagnostic.help {
            let gutter = " ".repeat(self.gutter);
            let text = help.lines().map(printable).collect::<Vec<_>>().join(&format!("\n{gutter}         "));
            let equals = self.paint(BLUE, "=");
            let word = self.paint(BOLD, "help");
            let _ = writeln!(self.out, "{gutter} {equals} {word}: {text}");
        }
        self.out
    }

    fn title(&mut self) {
        let Diagnostic { severity, code, message, .. } = self.diagnostic;
        let colour = if *severity == Severity::Error { RED } else { YELLOW };
        let word = self.paint(colour, &format!("{}[{code}]", severity.name()));
        let message = match message.char_indices().nth(LONGEST_MESSAGE) {
            Some((end, _)) => format!("{}…", printable(message.get(..end).unwrap_or_default())),
            None => printable(message).into_owned(),
        };
        let message = self.paint(BOLD, &message);
        let _ = writeln!(self.out, "{word}: {message}");
    }

    fn arrow(&mut self, arrow: &str, place: &Place) {
        let arrow = self.paint(BLUE, arrow);
        let _ = writeln!(self.out, "{}{arrow} {place}", " ".repeat(self.gutter));
    }

    fn excerpt(&mut self, place: &Place, mark: char, label: &str) {
        if place.source.text().is_empty() {
            return;
        }
        let line = place.position().line;
        let (text, before, marked) = match may_show(&place.source, place.span, line) {
            true => window(&place.source, place.span, line),
            false => (NOT_SHOWN.to_owned(), 0, 1),
        };
        let bar = self.paint(BLUE, "|");
        let gutter = self.gutter;
        let number = self.paint(BLUE, &format!("{line:>gutter$}"));
        let colour = if mark == '^' { RED } else { BLUE };
        let underline = format!("{} {label}", mark.to_string().repeat(marked));
        let underline = self.paint(colour, underline.trim_end());
        let _ = writeln!(self.out, "{:gutter$} {bar}", "");
        let _ = writeln!(self.out, "{number} {bar} {text}");
        let _ = writeln!(self.out, "{:gutter$} {bar} {:before$}{underline}", "", "");
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const BOLD: &str = "1";

/// The words in place of a source line with what may be key material.
const NOT_SHOWN: &str = "(this line is not shown: it may hold a secret)";

/// Characters on both sides of a place that are searched for key material: more than are shown, and no more of a line of a megabyte.
const REACH: usize = 1_000;

/// Whether nothing near a place is like a part of a key.
fn may_show(source: &Source, span: Span, line: usize) -> bool {
    let near = |line| near(source.line(line), span.start().saturating_sub(source.line_start(line)));
    let beside = [line.saturating_sub(1), line + 1].map(near);
    !is_secret_line(near(line), beside)
}

fn near(line: &str, at: usize) -> &str {
    let (before, after) = line.split_at_checked(at).unwrap_or((line, ""));
    let start = before.char_indices().rev().take(REACH).last().map_or(before.len(), |(at, _)| at);
    let end = after.char_indices().nth(REACH).map_or(line.len(), |(at, _)| before.len() + at);
    line.get(start..end).unwrap_or_default()
}

/// The part of a line to show, how many columns stand before the mark, and how many the mark covers.
fn window(source: &Source, span: Span, line: usize) -> (String, usize, usize) {
    let whole = source.line(line);
    let at = span.start().saturating_sub(source.line_start(line)).min(whole.len());
    let (before, after) = whole.split_at_checked(at).unwrap_or((whole, ""));
    let is_long = whole.chars().nth(WIDEST_LINE).is_some();
    let kept = if is_long { WIDEST_LINE / 3 } else { WIDEST_LINE };
    let from = before.char_indices().rev().take(kept).last().map_or(before.len(), |(at, _)| at);
    let (left_out, before) = before.split_at_checked(from).unwrap_or(("", before));
    let room = WIDEST_LINE - before.chars().count();
    let until = after.char_indices().nth(room).map_or(after.len(), |(at, _)| at);
    let (after, beyond) = after.split_at_checked(until).unwrap_or((after, ""));
    let marked = source.slice(span).lines().next().unwrap_or_default();
    let marked = marked.chars().take(room).count();
    let cut = if left_out.is_empty() { "" } else { "…" };
    let more = if beyond.is_empty() { "" } else { "…" };
    let (before, marked) = (shown(before), shown(&after.chars().take(marked).collect::<String>()));
    let ahead = cut.chars().count() + before.chars().count();
    let text = format!("{cut}{before}{}{more}", shown(after));
    (text.trim_end().to_owned(), ahead, marked.chars().count().max(1))
}

/// As it is printed: a tab has a width, and nothing steers the terminal.
fn shown(text: &str) -> String {
    text.split('\t').map(printable).collect::<Vec<_>>().join("    ")
}

fn place_json(place: Option<&Place>) -> Value {
    let Some(place) = place else {
        return json!({ "file": null, "line": null, "column": null, "end_line": null, "end_column": null });
    };
    let (start, end) = (place.position(), place.source.position(place.span.end()));
    json!({
        "file": place.source.name(),
        "line": start.line, "column": start.column,
        "end_line": end.line, "end_column": end.column,
    })
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// Escapes the text of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diagnostic {
        let source = Source::new("p.yaml", "roles:\n  writer: []\n  all: [writter]\n");
        Diagnostic::error(Code::UnknownRole, "unknown role `writter`")
            .at(Place::new(&source, Span::new(28, 35)))
            .label("not declared in any file")
            .related(Place::new(&source, Span::new(9, 15)), "a role of a similar name")
            .help("did you mean `writer`?")
    }

    #[test]
    fn people_see_the_line_underlined() {
        let expected = "\
error[unknown-role]: unknown role `writter`
 --> p.yaml:3:9
  |
3 |   all: [writter]
  |         ^^^^^^^ not declared in any file
 ::: p.yaml:2:3
  |
2 |   writer: []
  |   ------ a role of a similar name
  = help: did you mean `writer`?
";
        assert_eq!(sample().human(false), expected);
        assert!(sample().human(true).contains("\u{1b}[1;31merror[unknown-role]\u{1b}[0m"));
    }

    #[test]
    fn programs_and_pull_requests_get_the_same_facts() {
        let json = sample().json();
        assert_eq!(
            (json["line"].as_u64(), json["column"].as_u64(), json["end_column"].as_u64()),
            (Some(3), Some(9), Some(16))
        );
        assert_eq!(json["related"][0]["line"], 2);
        assert_eq!(
            sample().github(),
            "::error file=p.yaml,line=3,col=9,title=unknown-role::unknown role `writter`%0Anot declared in any \
             file%0Adid you mean `writer`?%0Ap.yaml:2:3: a role of a similar name"
        );
    }

    #[test]
    fn a_strangers_text_cannot_steer_the_terminal() {
        let source = Source::new("p.yaml", "a: \u{1b}[2J\u{202E}x");
        let shown = Diagnostic::error(Code::BadName, "bad `\u{1b}[2J\n`")
            .at(Place::new(&source, Span::new(3, 6)))
            .human(false);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202E}'), "{shown}");
    }

    #[test]
    fn very_long_lines_are_cut_around_the_place() {
        let source = Source::new("p.yaml", format!("{}HERE{}", "a".repeat(500), "b".repeat(500)));
        let shown =
            Diagnostic::error(Code::BadName, "x").at(Place::new(&source, Span::new(500, 504))).human(false);
        assert!(shown.contains("HERE") && shown.lines().all(|line| line.chars().count() < 160), "{shown}");
        let marks = shown.lines().last().unwrap();
        let line = shown.lines().nth(3).unwrap();
        assert_eq!(marks.chars().position(|c| c == '^'), line.chars().position(|c| c == 'H'));
    }

    #[test]
    fn suggestions_stay_within_a_small_distance() {
        assert_eq!(nearest("writter", ["reader", "writer"]), Some("writer"));
        assert_eq!(nearest("Writer", ["writer"]), Some("writer"));
        assert_eq!(nearest("ab", ["xy", "abc"]), Some("abc"));
        assert_eq!(nearest("publish", ["consume"]), None);
    }
}
