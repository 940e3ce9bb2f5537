//! The log of the process: lines on standard error, for which nothing waits.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt;

use super::lines::{self, Dropped, Next, Report};
use crate::printable;

/// The form of log lines (`log.format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Most lines on their way to the writing thread.
const ROOM: usize = 16_384;

/// The running log. Dropping it writes the remaining lines.
#[derive(Debug)]
pub struct Log {
    dropped: Dropped,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts the log of this process. A second call in the same process changes nothing.
    #[must_use]
    pub fn start(level: LevelFilter, format: Format) -> Self {
        let (writer, dropped, guard) =
            lines::writer(io::stderr(), Next::none_yet(), ROOM, "log", Report::None, None);
        let writer = move || Escaping { to: writer.clone(), format };
        let lines = fmt().with_max_level(level).with_target(false).with_writer(writer).with_ansi(false);
        let _ = match format {
            Format::Json => {
                tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish())
            }
            Format::Text => tracing::subscriber::set_global_default(lines.finish()),
        };
        Self { dropped, _writer: guard }
    }

    /// The counter of lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

/// A writer of log lines in which everything is escaped that is not printable. Errors of others are part of them.
struct Escaping<W> {
    to: W,
    format: Format,
}

impl<W: Write> Write for Escaping<W> {
    /// Takes one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.format {
            Format::Json => self.to.write_all(&printable::escape_json(line.to_vec()))?,
            Format::Text => self.to.write_all(printable::escape_line(line).as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_controls_the_reader_of_a_line() {
        for (format, line, expected) in [
            (Format::Json, "{\"error\":\"a\u{202e}b\u{9b}\"}\n", "{\"error\":\"a\\u202eb\\u009b\"}\n"),
            (Format::Text, "error=a\nb\u{1b}[2J é\n", "error=a\\nb\\u{1b}[2J é\n"),
        ] {
            let mut escaping = Escaping { to: Vec::new(), format };
            escaping.write_all(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(escaping.to).unwrap(), expected);
        }
    }
}
