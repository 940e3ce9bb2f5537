//! The machine: descriptors for the bounds that are configured, and a clock that can be believed.

use jiff::{SignedDuration, Timestamp};

use super::Finding;
use crate::app::descriptors;
use crate::config::Config;
use crate::identity::ExpiryKind;
use crate::live::Live;

pub(super) fn look(config: &Config, live: &Live, now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![clock(live, now)];
    findings.extend(descriptors::limit().map(|limit| open_files(config, limit)));
    findings
}

fn open_files(config: &Config, limit: usize) -> Finding {
    match descriptors::shortage(config, limit) {
        None => Finding::fine(
            "descriptors",
            format!(
                "{limit} descriptors may be open, {} are enough for all bounds",
                descriptors::needed(config)
            ),
        ),
        Some(shortage) => Finding::wrong("descriptors", shortage.message, shortage.help.unwrap_or_default()),
    }
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
