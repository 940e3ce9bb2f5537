//! The machine: descriptors for the bounds that are configured, and a clock that can be believed.

use std::fs;

use jiff::{SignedDuration, Timestamp};

use super::Finding;
use crate::config::Config;
use crate::identity::ExpiryKind;
use crate::live::Live;

/// What the process needs beside its connections.
const SPARE_DESCRIPTORS: usize = 64;

pub(super) fn look(config: &Config, live: &Live, now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![clock(live, now)];
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    findings.extend(open_files(&limits).map(|limit| descriptors(config, limit)));
    findings
}

/// Each client connection is one, and each request in flight one more at most.
fn descriptors(config: &Config, limit: usize) -> Finding {
    let connections = config.limits.max_connections.saturating_add(config.limits.lobby.max_connections);
    let needed = connections.saturating_add(config.max_in_flight).saturating_add(SPARE_DESCRIPTORS);
    if needed <= limit {
        return Finding::fine(
            "descriptors",
            format!("{limit} may be open, {needed} are enough for all bounds"),
        );
    }
    Finding::wrong(
        "descriptors",
        format!("{limit} may be open, and {needed} are needed when all bounds are reached"),
        format!(
            "raise the limit (`ulimit -n {needed}`, systemd's `LimitNOFILE`), or lower `limits` and `backend.max_in_flight`"
        ),
    )
}

/// The soft limit, from `Max open files  1024  1048576  files`.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Nothing here asks another machine; but what was just issued is not from the future.
fn clock(live: &Live, now: Timestamp) -> Finding {
    let mut issued = live.expiries().filter(|expiry| expiry.kind != ExpiryKind::Ca);
    let ahead =
        issued.find(|expiry| expiry.from > now.saturating_add(SignedDuration::from_mins(5)).unwrap_or(now));
    match ahead {
        Some(expiry) => Finding::wrong(
            "clock",
            format!("it is {now} here, and `{}` was issued at {}", expiry.file, expiry.from),
            "let this machine's clock be set by NTP: certificates expire too late by a clock that is behind",
        ),
        None => Finding::fine("clock", format!("it is {now}; nothing was issued after that")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_read() {
        let limits = "Limit   Soft Limit   Hard Limit   Units\nMax open files            20000                30000                files     \n";
        assert_eq!(open_files(limits), Some(20_000));
        assert_eq!(open_files("Max open files   unlimited  unlimited  files"), None);
    }
}
