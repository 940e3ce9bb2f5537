//! Diagnostics: what is wrong with a text that a person wrote, with the place, the cause and the remedy, in one form for
//! policies, configurations, certificates and manifests.
//!
//! Wording: lower case, no final period, the author's own text in backticks, help apart from the message.

mod code;
mod human;
mod source;
mod suggestion;

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use serde_json::{Value, json};

pub use code::Code;
pub use human::printable;
pub use source::{Place, Position, Source, Span};
pub use suggestion::{did_you_mean, nearest};

use human::Human;

use crate::redact::redact_secrets;

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The text cannot take effect.
    Error,
    /// The text takes effect, but probably not as its author hopes.
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

/// The use of colours in a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Escape sequences of terminals (ANSI).
    Ansi,
    /// No colours: the reader is not a terminal, or asked for none.
    Never,
}

/// A second place that explains the problem, with a label such as "first declared here".
#[derive(Clone, Debug)]
pub struct Related {
    /// The place.
    pub place: Place,
    /// The words under the underlined text.
    pub label: String,
}

/// One problem, with everything that the author needs to solve it.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// The kind of problem.
    pub code: Code,
    /// The cause.
    pub message: String,
    /// The place; `None` for a problem of no one text.
    pub place: Option<Place>,
    /// The words under the underlined text, if the message does not say enough.
    pub label: Option<Box<str>>,
    /// Further places that explain the problem.
    pub related: Vec<Related>,
    /// The remedy.
    pub help: Option<Box<str>>,
}

/// By code and message: a problem that moves to another place in the same file is reported once.
impl Hash for Diagnostic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.code, &self.message).hash(state);
    }
}

impl Diagnostic {
    /// A problem because of which the text cannot take effect.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// A problem of a text that takes effect, but is probably not meant.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    fn new(severity: Severity, code: Code, message: String) -> Self {
        let message = redact_secrets(&message).into_owned();
        Self { severity, code, message, place: None, label: None, related: Vec::new(), help: None }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Sets the words under the underlined text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(redact_secrets(&label.into()).into());
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push(Related { place, label: redact_secrets(&label.into()).into_owned() });
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(redact_secrets(&help.into()).into());
        self
    }

    /// Sets the remedy, if there is one.
    #[must_use]
    pub fn maybe_help(self, help: Option<String>) -> Self {
        help.into_iter().fold(self, Self::help)
    }

    /// `true` if the text cannot take effect.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The text for people: message, `file:line:column`, the source line underlined, related places, help. Each line ends
    /// with a newline.
    #[must_use]
    pub fn human(&self, colour: Colour) -> String {
        Human::of(self, colour).render()
    }

    /// The value for programs: an object with `severity`, `code`, `message`, `file`, `line`, `column`, `end_line`,
    /// `end_column`, `label`, `help` and `related`. Later releases add members at most.
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

    /// A workflow command of GitHub Actions, which shows the problem beside the line in a pull request, in one line.
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
        f.write_str(self.human(Colour::Never).trim_end())
    }
}

impl std::error::Error for Diagnostic {}

/// The number of problems that are shown at once. A file with more has one cause that repeats, or is a file of another
/// kind.
const MOST_SHOWN: usize = 1_000;

/// The first [`MOST_SHOWN`] problems, and one that counts the others.
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
        assert_eq!(sample().human(Colour::Never), expected);
        assert!(sample().human(Colour::Ansi).contains("\u{1b}[1;31merror[unknown-role]\u{1b}[0m"));
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
            .human(Colour::Never);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202E}'), "{shown}");
    }

    #[test]
    fn very_long_lines_are_cut_around_the_place() {
        let source = Source::new("p.yaml", format!("{}HERE{}", "a".repeat(500), "b".repeat(500)));
        let shown = Diagnostic::error(Code::BadName, "x")
            .at(Place::new(&source, Span::new(500, 504)))
            .human(Colour::Never);
        assert!(shown.contains("HERE") && shown.lines().all(|line| line.chars().count() < 160), "{shown}");
        let marks = shown.lines().last().unwrap();
        let line = shown.lines().nth(3).unwrap();
        assert_eq!(marks.chars().position(|c| c == '^'), line.chars().position(|c| c == 'H'));
    }
}
