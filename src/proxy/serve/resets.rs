//! Resets of streams that a client provokes. Each costs little, but a client that provokes them without an end makes a server
//! work without ever reading an answer (CVE-2025-8671).
//!
//! The HTTP implementation counts them over the whole life of a connection, and counts streams among them that were refused
//! because too many were open. An honest client of a long-lived connection reaches any such bound in the end, and a client that
//! sends a thousand requests before it has read how many it may send reaches it at once. Resets are therefore counted here, by
//! the minute, and refused streams apart from errors.

use std::time::Duration;

use tokio::time::Instant;

use super::oversized::{Frame, RST_STREAM};

/// The time over which resets are counted.
const PERIOD: Duration = Duration::from_secs(60);
/// Number of refused streams that count like one error.
const REFUSED_PER_ERROR: usize = 40;

/// Error codes of resets (RFC 9113 §7).
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// The resets that a connection has sent within a period.
#[derive(Debug)]
pub(super) struct ProvokedResets {
    since: Instant,
    errors: usize,
    refused: usize,
    /// Most errors within a period (`limits.http.max_provoked_resets`).
    most: usize,
}

impl ProvokedResets {
    pub(super) fn new(most: usize) -> Self {
        Self { since: Instant::now(), errors: 0, refused: 0, most }
    }

    /// Looks at whole frames that are sent.
    pub(super) fn look(&mut self, mut frames: &[u8]) {
        let (mut errors, mut refused) = (0, 0);
        while let Some((frame, rest)) = Frame::split(frames) {
            frames = rest;
            let (RST_STREAM, Ok(code)) = (frame.kind, <[u8; 4]>::try_from(frame.payload)) else { continue };
            match u32::from_be_bytes(code) {
                // Sidegate ends these streams for reasons of its own: an early answer, or one that broke off.
                NO_ERROR | INTERNAL_ERROR | CANCEL => {}
                REFUSED_STREAM => refused += 1,
                _ => errors += 1,
            }
        }
        if errors + refused > 0 {
            self.add(errors, refused, Instant::now());
        }
    }

    fn add(&mut self, errors: usize, refused: usize, now: Instant) {
        if now.duration_since(self.since) >= PERIOD {
            (self.since, self.errors, self.refused) = (now, 0, 0);
        }
        self.errors += errors;
        self.refused += refused;
    }

    /// `true` if the client has provoked more resets than it may.
    pub(super) const fn are_too_many(&self) -> bool {
        self.errors + self.refused / REFUSED_PER_ERROR > self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_by_the_minute_and_refused_streams_count_little() {
        let mut resets = ProvokedResets::new(10);
        let start = resets.since;
        resets.add(10, 0, start);
        assert!(!resets.are_too_many());
        resets.add(1, 0, start + Duration::from_secs(59));
        assert!(resets.are_too_many());
        resets.add(5, 200, start + PERIOD);
        assert!(!resets.are_too_many(), "a new minute");
        resets.add(0, 39, start + PERIOD);
        assert!(!resets.are_too_many());
        resets.add(0, 1, start + PERIOD);
        assert!(resets.are_too_many());
    }

    #[test]
    fn resets_of_sidegates_own_do_not_count() {
        let mut resets = ProvokedResets::new(1);
        let reset = |code: u32| [&[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1][..], &code.to_be_bytes()].concat();
        let data = [&[0, 0, 13, 0, 0, 0, 0, 0, 1][..], &reset(1)].concat();
        let frames = [NO_ERROR, INTERNAL_ERROR, CANCEL, REFUSED_STREAM, 1].map(reset).concat();
        resets.look(&[data, frames].concat());
        assert_eq!((resets.errors, resets.refused), (1, 1));
    }
}
