//! Request ids: 128 bits, unique, in the form of a W3C trace id.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::trace_context::SpanId;

/// The id of one request: 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // An id is made of hexadecimal digits only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The two halves, each as good as an id of its own.
    #[must_use]
    pub fn halves(&self) -> [SpanId; 2] {
        let (first, second) = (self.0.first_chunk(), self.0.last_chunk());
        [first, second].map(|half| half.copied().unwrap_or_default())
    }

    /// The first half of the digits, as a number: shares of all requests are chosen by it.
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
    /// Returns a source with a random start.
    #[must_use]
    pub fn new() -> Self {
        let mut seed = [0; 16];
        // Without randomness the ids are still unique within the process, and the clock tells processes apart.
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            seed = u128::to_ne_bytes(std::time::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_nanos()));
        }
        let seed = u128::from_ne_bytes(seed);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let (high, low) = ((seed >> 64) as u64, seed as u64);
        Self { high, counter: AtomicU64::new(low) }
    }

    /// Returns the next id.
    pub fn next(&self) -> RequestId {
        let count = self.counter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let (high, low) = (mix(self.high ^ count), mix(count));
        let mut id = [0; 32];
        for (eight, part) in id.as_chunks_mut::<8>().0.iter_mut().zip([high >> 32, high, low >> 32, low]) {
            *eight = digits(part);
        }
        RequestId(id)
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

/// The eight digits of the lower half, all at once: each nibble is spread to a byte, and values above nine continue at `a`.
const fn digits(value: u64) -> [u8; 8] {
    let spread = ((value << 16) & 0x0000_ffff_0000_0000) | (value & 0xffff);
    let spread = ((spread << 8) & 0x00ff_0000_00ff_0000) | (spread & 0x0000_00ff_0000_00ff);
    let spread = ((spread << 4) & 0x0f00_0f00_0f00_0f00) | (spread & 0x000f_000f_000f_000f);
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * (b'a' - b'9' - 1) as u64).to_be_bytes()
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
    fn digits_are_those_of_the_lower_half() {
        for value in [0, 0x0123_4567, 0x89ab_cdef, 0xffff_ffff_0000_000a, 0xfedc_ba98, 0x9a9a_9a9a] {
            assert_eq!(digits(value), format!("{:08x}", value & 0xffff_ffff).as_bytes());
        }
    }

    #[test]
    fn ids_differ_and_are_hexadecimal() {
        let ids = RequestIds::new();
        let made: std::collections::HashSet<String> =
            (0..10_000).map(|_| ids.next().as_str().to_owned()).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
