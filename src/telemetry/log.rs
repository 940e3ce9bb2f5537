//! The process's own log: lines on standard error, never waited for.

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt;

use super::lines::{self, Dropped, Next};

/// The form of log lines (`log.format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For a person's eyes.
    Text,
}

/// Lines that may be on their way.
const ROOM: usize = 16_384;

/// The running log. What is still on its way is written when this is dropped.
#[derive(Debug)]
pub struct Log {
    dropped: Dropped,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts the log of this process. A second one in the same process changes nothing.
    #[must_use]
    pub fn start(level: LevelFilter, format: Format) -> Self {
        let (writer, dropped, guard) = lines::writer(std::io::stderr(), Next::none_yet(), ROOM, "log");
        let lines = fmt().with_max_level(level).with_target(false).with_writer(writer).with_ansi(false);
        let _ = match format {
            Format::Json => {
                tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish())
            }
            Format::Text => tracing::subscriber::set_global_default(lines.finish()),
        };
        Self { dropped, _writer: guard }
    }

    /// Lines that nobody will read.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}
