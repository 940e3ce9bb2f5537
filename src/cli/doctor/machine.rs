//! The machine: the limit of descriptors, and the clock.

use jiff::{SignedDuration, Timestamp};

use super::Finding;
use crate::app::descriptors;
use crate::config::Config;
use crate::identity::ExpiryKind;
use crate::live::Live;

pub(super) fn check_machine(config: &Config, live: &Live, now: Timestamp) -> Vec<Finding> {
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

/// Checks the clock without another machine: a certificate that was issued in the future shows that the clock is
/// behind.
fn clock(live: &Live, now: Timestamp) -> Finding {
    let mut issued = live.expiries().filter(|expiry| expiry.kind != ExpiryKind::Ca);
    let ahead =
        issued.find(|expiry| expiry.from > now.saturating_add(SignedDuration::from_mins(5)).unwrap_or(now));
    match ahead {
        Some(expiry) => Finding::wrong(
            "clock",
            format!("the clock says {now}, but `{}` was issued at {}", expiry.file, expiry.from),
            "set the clock of this machine by NTP: with a clock that is behind, certificates expire too late",
        ),
        None => Finding::fine(
            "clock",
            format!("the clock says {now}; no certificate or CRL was issued after that"),
        ),
    }
}
