//! The last quarter of an hour, one sample per second, for the page. The memory is fixed.

use std::collections::VecDeque;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::{Counters, DECISIONS, Decision, Distribution, Done, UNFINISHED};

/// Number of samples: one per second, for fifteen minutes.
const MOST_SAMPLES: usize = 15 * 60;

/// Totals since the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    decisions: [u64; DECISIONS],
    unfinished: [u64; UNFINISHED],
    added: Distribution,
    waited: Distribution,
}

impl Totals {
    /// The totals of all workers together.
    #[must_use]
    pub fn of<'c>(all: impl Iterator<Item = &'c Counters> + Clone) -> Self {
        let mut totals = Self {
            decisions: [0; DECISIONS],
            unfinished: [0; UNFINISHED],
            added: Distribution::of(all.clone().map(|counters| &counters.added)),
            waited: Distribution::of(all.clone().map(|counters| &counters.waited)),
        };
        for counters in all {
            for (total, decision) in totals.decisions.iter_mut().zip(Decision::all()) {
                *total += counters.decisions(decision);
            }
            for (total, count) in totals.unfinished.iter_mut().zip(counters.unfinished()) {
                *total += count;
            }
        }
        totals
    }
}

/// The sample of one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The end of the second.
    pub at: Timestamp,
    /// Connections with a slot.
    pub slots_used: u32,
    /// Connections without a slot.
    pub lobby: u32,
    /// Requests that the backend is working on.
    pub in_flight: u32,
    /// Requests that wait for a place in flight.
    pub queued: u32,
    /// Number of decisions in this second, in the order of [`Decision::all`].
    pub decisions: [u32; DECISIONS],
    /// Number of answers that did not come to their end in this second, in the order of [`Done::UNFINISHED`].
    pub unfinished: [u32; UNFINISHED],
    /// Time that Sidegate added to requests that the backend answered in this second.
    pub added: Times,
    /// Time that the backend took for these requests.
    pub backend: Times,
}

/// Quantiles of a time, in microseconds; `None` if there was no request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The median.
    pub p50: Option<u32>,
    /// The 99th percentile.
    pub p99: Option<u32>,
}

impl Times {
    fn of(all: &Distribution) -> Self {
        let quantile = |part| {
            let time = all.quantile(part)?;
            Some(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
        };
        Self { p50: quantile(0.5), p99: quantile(0.99) }
    }
}

impl Sample {
    /// Number of these decisions in this second.
    #[must_use]
    pub fn decided(&self, which: Decision) -> u32 {
        let mut all = Decision::all().zip(self.decisions);
        all.find(|(decision, _)| *decision == which).map_or(0, |(_, count)| count)
    }

    /// Number of answers in this second that ended in this way before their end.
    #[must_use]
    pub fn unfinished(&self, which: Done) -> u32 {
        let mut all = Done::UNFINISHED.iter().zip(self.unfinished);
        all.find(|(done, _)| **done == which).map_or(0, |(_, count)| count)
    }
}

/// The growth of counts since the sample before.
fn growth<const N: usize>(now: &[u64; N], before: &[u64; N]) -> [u32; N] {
    let mut grown = now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before));
    std::array::from_fn(|_| u32::try_from(grown.next().unwrap_or_default()).unwrap_or(u32::MAX))
}

/// The last samples.
#[derive(Debug)]
pub struct History {
    past: Mutex<Samples>,
    /// The number of samples so far, for tasks that wait for the next one.
    ticks: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Samples {
    samples: VecDeque<Sample>,
    before: Totals,
}

impl Default for History {
    fn default() -> Self {
        let samples = VecDeque::with_capacity(MOST_SAMPLES);
        let past = Samples { samples, before: Totals::default() };
        Self { past: Mutex::new(past), ticks: watch::Sender::new(0) }
    }
}

impl History {
    /// Adds a sample. Its counts are the growth of the totals since the sample before.
    pub fn add(&self, mut sample: Sample, totals: Totals) {
        {
            let mut past = self.past();
            sample.decisions = growth(&totals.decisions, &past.before.decisions);
            sample.unfinished = growth(&totals.unfinished, &past.before.unfinished);
            sample.added = Times::of(&totals.added.since(&past.before.added));
            sample.backend = Times::of(&totals.waited.since(&past.before.waited));
            past.before = totals;
            if past.samples.len() >= MOST_SAMPLES {
                past.samples.pop_front();
            }
            past.samples.push_back(sample);
        }
        self.ticks.send_modify(|count| *count += 1);
    }

    /// All samples, the oldest first.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.past().samples.iter().copied().collect()
    }

    /// The last `count` samples, the oldest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Sample> {
        let past = self.past();
        past.samples.iter().skip(past.samples.len().saturating_sub(count)).copied().collect()
    }

    /// Subscribes to the number of samples.
    #[must_use]
    pub fn ticks(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    fn past(&self) -> MutexGuard<'_, Samples> {
        self.past.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_a_quarter_of_an_hour_and_no_more() {
        let history = History::default();
        let capacity = history.past().samples.capacity();
        let counters = Counters::default();
        for second in 0..5_000 {
            counters.decided(Decision::Forwarded);
            let sample = Sample { slots_used: second, ..Sample::default() };
            history.add(sample, Totals::of(std::iter::once(&counters)));
        }
        let samples = history.samples();
        assert_eq!(samples.len(), MOST_SAMPLES);
        assert_eq!(samples.last().map(|sample| sample.slots_used), Some(4_999));
        assert!(samples.iter().all(|sample| sample.decided(Decision::Forwarded) == 1));
        assert_eq!(history.past().samples.capacity(), capacity);
        assert!(capacity * size_of::<Sample>() < 256 * 1024, "{}", capacity * size_of::<Sample>());
        assert_eq!(history.last(2).len(), 2);
    }
}
