//! File descriptors: the number that the configured limits need, and the number that this process may open.

use std::fs;

use crate::config::Config;
use crate::diagnostic::{Code, Diagnostic};

/// Descriptors beside those of connections: files, listeners, event loops, the admin listener's connections.
const SPARE: usize = 128;

/// Number of descriptors when all limits are reached: one for each client connection, and one for each request in flight.
#[must_use]
pub(crate) fn needed(config: &Config) -> usize {
    let connections = config.limits.max_connections.saturating_add(config.limits.lobby.max_connections);
    connections.saturating_add(config.max_in_flight).saturating_add(SPARE)
}

/// Number of descriptors that this process may open; `None` without a limit, or if it cannot be read.
#[must_use]
pub(crate) fn limit() -> Option<usize> {
    soft_limit(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// Returns a warning if so many descriptors are too few.
#[must_use]
pub(crate) fn shortage(config: &Config, limit: usize) -> Option<Diagnostic> {
    let needed = needed(config);
    let message =
        format!("{limit} descriptors may be open, and {needed} are needed when all bounds are reached");
    let help = format!(
        "raise the limit (`ulimit -n {needed}`, systemd's `LimitNOFILE`), or lower `limits` and `backend.max_in_flight`"
    );
    (needed > limit).then(|| Diagnostic::warning(Code::Descriptors, message).help(help))
}

/// Parses `Max open files  1024  1048576  files`.
fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_read() {
        let limits = "Limit   Soft Limit   Hard Limit   Units\nMax open files            20000                30000                files     \n";
        assert_eq!(soft_limit(limits), Some(20_000));
        assert_eq!(soft_limit("Max open files   unlimited  unlimited  files"), None);
    }
}
