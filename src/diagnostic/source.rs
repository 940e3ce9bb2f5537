//! The texts that diagnostics point into, and places in them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use super::printable;
use crate::redact::redact_secrets;

/// A text that a person wrote, with the name by which the author knows it. Shared, because every diagnostic points into one.
pub struct Source {
    name: Box<str>,
    text: Box<str>,
    /// The byte offsets at which lines start; computed when the first place is shown.
    lines: OnceLock<Box<[usize]>>,
    /// The number of characters before each [`STRIDE`]th byte, so that a column costs the same in a line of a megabyte.
    characters: OnceLock<Box<[usize]>>,
}

/// See [`Source::characters`].
const STRIDE: usize = 256;

impl Source {
    /// A source under a name that its author recognises: the path as it is written on the command line, the environment
    /// variable, the flag.
    pub fn new(name: impl Into<Box<str>>, text: impl Into<Box<str>>) -> Arc<Self> {
        let (name, text): (Box<str>, _) = (name.into(), text.into());
        // A key may have been given in place of a path.
        let name = redact_secrets(&name).into();
        Arc::new(Self { name, text, lines: OnceLock::new(), characters: OnceLock::new() })
    }

    /// The name that diagnostics print.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span; empty if the span lies outside of this source.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start()..span.end()).unwrap_or_default()
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let line = self.lines().partition_point(|start| *start <= offset).max(1);
        let before = self.characters_before(offset) - self.characters_before(self.line_start(line));
        Position { line, column: before + 1 }
    }

    /// The byte offset at which the line of that number (from 1) starts; the end of the text for a line beyond it.
    #[must_use]
    pub fn line_start(&self, number: usize) -> usize {
        number.checked_sub(1).and_then(|index| self.lines().get(index).copied()).unwrap_or(self.text.len())
    }

    /// The line of that number (from 1), without its end.
    #[must_use]
    pub fn line(&self, number: usize) -> &str {
        let line = self.text.get(self.line_start(number)..self.line_start(number + 1)).unwrap_or_default();
        line.trim_end_matches(['\n', '\r'])
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        })
    }

    fn characters_before(&self, offset: usize) -> usize {
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| (**byte & 0xC0) != 0x80).count();
        let marks = self.characters.get_or_init(|| {
            let counts = self.text.as_bytes().chunks(STRIDE).scan(0, |before, chunk| {
                let mark = *before;
                *before += count(chunk);
                Some(mark)
            });
            counts.collect()
        });
        let mark = (offset.min(self.text.len()) / STRIDE).min(marks.len().saturating_sub(1));
        let rest = self.text.as_bytes().get(mark * STRIDE..offset.min(self.text.len())).unwrap_or_default();
        marks.get(mark).copied().unwrap_or(0) + count(rest)
    }
}

/// The text is left out: a file that is named by mistake may hold a secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.text).hash(state);
    }
}

/// A range of bytes in one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes from `start` up to `end`; sources beyond 4 GiB are not read, so 32 bits hold every offset.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        Self { start, end: u32::try_from(end).unwrap_or(u32::MAX).max(start) }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// One after the last byte.
    #[must_use]
    pub const fn end(self) -> usize {
        self.end as usize
    }
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A span with its source.
#[derive(Clone, Debug)]
pub struct Place {
    /// The source.
    pub source: Arc<Source>,
    /// The bytes of the source.
    pub span: Span,
}

impl Place {
    /// The bytes `span` of `source`.
    #[must_use]
    pub fn new(source: &Arc<Source>, span: Span) -> Self {
        Self { source: Arc::clone(source), span }
    }

    /// `true` if both are the same bytes of the same source.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.span == other.span
    }

    /// The line and column of the first byte.
    #[must_use]
    pub fn position(&self) -> Position {
        self.source.position(self.span.start())
    }
}

impl fmt::Display for Place {
    /// Writes `file:line:column`, or the file alone for a source without text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.source.name()))?;
        if self.source.text().is_empty() {
            return Ok(());
        }
        let Position { line, column } = self.position();
        write!(f, ":{line}:{column}")
    }
}
