//! Latencies in buckets. Each worker writes its own; they are added up when they are read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets in nanoseconds: 50 µs to 10 s. Longer times have a bucket of their own.
pub const BOUNDS: [u64; 17] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// A histogram of times.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

/// Histograms added up, as they were at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Number of times in each bucket, without those in smaller buckets.
    pub buckets: [u64; BUCKETS],
    /// Sum of all times, in nanoseconds.
    pub nanoseconds: u64,
}

impl Histogram {
    /// Counts a time.
    pub fn took(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let index = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Distribution {
    /// Adds up the histograms of several workers.
    pub fn of<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Self {
        let mut sum = Self::default();
        for histogram in histograms {
            for (total, bucket) in sum.buckets.iter_mut().zip(&histogram.buckets) {
                *total += bucket.load(Ordering::Relaxed);
            }
            sum.nanoseconds += histogram.nanoseconds.load(Ordering::Relaxed);
        }
        sum
    }

    /// The growth since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut grown = *self;
        for (count, earlier) in grown.buckets.iter_mut().zip(before.buckets) {
            *count = count.saturating_sub(earlier);
        }
        grown.nanoseconds = self.nanoseconds.saturating_sub(before.nanoseconds);
        grown
    }

    /// The quantile (0.99: the time within which all but one of a hundred were done), as closely as the buckets tell; `None`
    /// if there is no time.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = part * as_float(count);
        let (mut lower, mut before) = (0, 0.0);
        let uppers = BOUNDS.iter().copied().chain(std::iter::once(10 * 10_000_000_000));
        for (upper, inside) in uppers.zip(self.buckets) {
            let inside = as_float(inside);
            if before + inside >= wanted && inside > 0.0 {
                let share = ((wanted - before) / inside).clamp(0.0, 1.0);
                return Some(
                    Duration::from_nanos(lower) + Duration::from_nanos(upper - lower).mul_f64(share),
                );
            }
            before += inside;
            lower = upper;
        }
        Some(Duration::from_nanos(lower))
    }

    /// Number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate, of counts that are far from 2^53")]
const fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_longer_times_are_counted() {
        let (one, other) = (Histogram::default(), Histogram::default());
        for nanoseconds in [0, 50_000, 50_001, 10_000_000_000] {
            one.took(Duration::from_nanos(nanoseconds));
        }
        other.took(Duration::from_secs(11));
        let sum = Distribution::of([&one, &other].into_iter());
        assert_eq!((sum.buckets[0], sum.buckets[1], sum.buckets[16], sum.buckets[17]), (2, 1, 1, 1));
        assert_eq!((sum.count(), sum.nanoseconds), (5, 21_000_100_001));
    }

    #[test]
    fn quantiles_are_within_the_bucket_that_holds_them() {
        let histogram = Histogram::default();
        assert_eq!(Distribution::of(std::iter::once(&histogram)).quantile(0.5), None);
        for _ in 0..98 {
            histogram.took(Duration::from_micros(80));
        }
        let before = Distribution::of(std::iter::once(&histogram));
        for _ in 0..2 {
            histogram.took(Duration::from_millis(40));
        }
        let all = Distribution::of(std::iter::once(&histogram));
        let within = |part, from, to| {
            let found = all.quantile(part).unwrap();
            assert!(found >= Duration::from_micros(from) && found <= Duration::from_micros(to), "{found:?}");
        };
        within(0.5, 50, 100);
        within(0.99, 25_000, 50_000);
        let since = all.since(&before);
        assert_eq!((since.count(), since.nanoseconds), (2, 80_000_000));
    }
}
