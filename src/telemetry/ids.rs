//! Request ids: 128 bits, unique, in the form of a W3C trace id.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::trace_context::SpanId;

/// The id of one request: 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ever made of hexadecimal digits.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its two halves, each as good as an id of its own.
    #[must_use]
    pub fn halves(&self) -> [SpanId; 2] {
        let (first, second) = (self.0.first_chunk(), self.0.last_chunk());
        [first, second].map(|half| half.copied().unwrap_or_default())
    }

    /// The first half of its digits, as a number: what shares of all requests are told by.
    #[must_use]
    pub fn number(&self) -> u64 {
        u64::from_str_radix(self.as_str().get(..16).unwrap_or_default(), 16).unwrap_or_default()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A source of ids for one worker: a random start, then a sequence that never repeats (SplitMix64, Steele, Lea and
/// Flood 2014). Ids are names, not secrets.
#[derive(Debug)]
pub struct RequestIds {
    high: u64,
    counter: AtomicU64,
}

impl RequestIds {
    /// A source that starts at random.
    #[must_use]
    pub fn new() -> Self {
        let mut seed = [0; 16];
        // Without randomness the ids are still unique within the process; a clock tells processes apart.
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            seed = u128::to_ne_bytes(std::time::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_nanos()));
        }
        let seed = u128::from_ne_bytes(seed);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let (high, low) = ((seed >> 64) as u64, seed as u64);
        Self { high, counter: AtomicU64::new(low) }
    }

    /// The next id.
    pub fn next(&self) -> RequestId {
        let count = self.counter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let (high, low) = (mix(self.high ^ count), mix(count));
        let mut digits = [0; 32];
        let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        RequestId(digits)
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

const fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_hexadecimal() {
        let ids = RequestIds::new();
        let made: std::collections::HashSet<String> =
            (0..10_000).map(|_| ids.next().as_str().to_owned()).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
