//! The rendering of a diagnostic for people: message, place, the source line underlined, help.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Colour, Diagnostic, Place, Related, Severity, Source, Span};
use crate::redact::is_secret_line;

/// The characters of a message that are shown. A message repeats the author's text, which may be long.
const LONGEST_MESSAGE: usize = 1_000;

/// The characters of a source line that are shown, around the place.
const WIDEST_LINE: usize = 140;

/// The rendering of one diagnostic for people.
pub(super) struct Human<'d> {
    diagnostic: &'d Diagnostic,
    colour: Colour,
    /// The width of line numbers.
    gutter: usize,
    out: String,
}

impl<'d> Human<'d> {
    pub(super) fn of(diagnostic: &'d Diagnostic, colour: Colour) -> Self {
        let places = diagnostic.place.iter().chain(diagnostic.related.iter().map(|related| &related.place));
        let widest = places.map(|place| place.position().line).max().unwrap_or(1);
        Self { diagnostic, colour, gutter: widest.to_string().len(), out: String::new() }
    }

    pub(super) fn render(mut self) -> String {
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
        if self.colour == Colour::Ansi { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const BOLD: &str = "1";

/// The text that is shown in place of a source line that may hold key material.
const NOT_SHOWN: &str = "(this line is not shown: it may hold a secret)";

/// The characters on both sides of a place that are searched for key material: more than are shown, and a bounded part of a
/// line of a megabyte.
const REACH: usize = 1_000;

/// `true` if no text near a place looks like a part of a key.
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

/// The part of a line to show, the number of columns before the mark, and the number of columns that the mark covers.
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

/// The text as it is printed: a tab has a width, and no character controls the terminal.
fn shown(text: &str) -> String {
    text.split('\t').map(printable).collect::<Vec<_>>().join("    ")
}

/// Untrusted text made safe to print: characters that could control a terminal or start a new line are escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(controls_terminal) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match controls_terminal(character) {
            true => safe.extend(character.escape_default()),
            false => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

/// Control characters, and the marks that reorder text, by which a reader sees another text than the program.
fn controls_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}
