//! The keys below `log`: the log of the program and audit records.

use ::tracing::level_filters::LevelFilter;

use super::draft::Input;
use super::readers::path_text;
use crate::document::Node;
use crate::telemetry::{Destination, Format};

/// The words of `log.level`.
pub(super) const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The words of `log.format`.
pub(super) const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("text", Format::Text)];

/// Reads `log.audit`: a word, or the path of a file.
pub(super) fn destination(input: &mut Input<'_>, node: &Node<'_>) -> Option<Destination> {
    Some(match input.reader.name(node)? {
        "stdout" => Destination::Stdout,
        "none" => Destination::None,
        _ => Destination::File(input.folder.join(path_text(&mut input.reader, node)?)),
    })
}
