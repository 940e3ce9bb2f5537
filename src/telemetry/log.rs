//! The log of the process: lines on standard error, for which nothing waits.

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt;

use super::lines::{self, Dropped, Next};

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

    /// The counter of lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}
