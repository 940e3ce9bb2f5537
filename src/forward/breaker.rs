//! The circuit breaker: when one connection after the other cannot be made, requests do not wait for the next failure. After
//! a pause one request tries again; the pauses grow until a connection is made.
//!
//! All workers share one breaker. While the backend can be reached, a request reads one number that no thread writes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The rules by which the breaker opens and tries again (`backend.breaker`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// Failed connections in a row that open the breaker; 0: it never opens.
    pub failures: u32,
    /// Longest first pause.
    pub pause: Duration,
    /// Longest pause of all.
    pub max_pause: Duration,
}

/// The circuit breaker of the backend.
#[derive(Debug)]
pub(super) struct Breaker {
    rules: BreakerRules,
    /// Number of failed connections since the last success.
    failures: AtomicU32,
    openings: AtomicU64,
    /// The present pause; read only while the breaker is open.
    pause: Mutex<Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    /// Longest duration of the next pause.
    next: Duration,
}

/// The change by a success or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// No change.
    None,
    /// The first failure after a success.
    Fails,
    /// The breaker has opened.
    Opens,
    /// The first success after a failure.
    Recovers,
}

impl Breaker {
    pub(super) fn new(rules: BreakerRules, now: Instant) -> Self {
        Self {
            rules,
            failures: AtomicU32::new(0),
            openings: AtomicU64::new(0),
            pause: Mutex::new(Pause { until: now, next: rules.pause }),
        }
    }

    /// `true` while requests are kept back.
    pub(super) fn is_open(&self) -> bool {
        self.rules.failures > 0 && self.failures() >= self.rules.failures
    }

    /// `true` if the last connection could not be made.
    pub(super) fn is_failing(&self) -> bool {
        self.failures() > 0
    }

    /// Number of times that the breaker has opened.
    pub(super) fn openings(&self) -> u64 {
        self.openings.load(Ordering::Relaxed)
    }

    /// Lets a request through: every request while the breaker is closed, one after each pause while it is open. The result
    /// of that one is not waited for, so that a request that is taken back delays no other.
    ///
    /// # Errors
    /// The rest of the pause.
    pub(super) fn pass(&self, now: Instant) -> Result<(), Duration> {
        if !self.is_open() {
            return Ok(());
        }
        let mut pause = self.pause.lock();
        if now < pause.until {
            return Err(pause.until - now);
        }
        pause.begin(now, self.rules.max_pause);
        Ok(())
    }

    /// Notes that a connection was made, or a request answered.
    pub(super) fn succeeded(&self) -> Turn {
        if self.failures() == 0 || self.failures.swap(0, Ordering::Relaxed) == 0 {
            return Turn::None;
        }
        Turn::Recovers
    }

    /// Notes that a connection could not be made.
    pub(super) fn failed(&self, now: Instant) -> Turn {
        let more = |failures: u32| Some(failures.saturating_add(1));
        let before = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).unwrap_or(0);
        if before.saturating_add(1) == self.rules.failures {
            let mut pause = self.pause.lock();
            pause.next = self.rules.pause;
            pause.begin(now, self.rules.max_pause);
            self.openings.fetch_add(1, Ordering::Relaxed);
            return Turn::Opens;
        }
        if before == 0 { Turn::Fails } else { Turn::None }
    }

    fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Pause {
    /// Begins a pause, which ends at random in the second half of its length, so that sidecars that failed together do not
    /// try again together.
    fn begin(&mut self, now: Instant, longest: Duration) {
        let length = self.next.min(longest);
        let mut random = [0];
        // Without randomness it lasts its whole length.
        let part = aws_lc_rs::rand::fill(&mut random).map_or(255, |()| random[0]);
        self.until = now + length / 2 + length * u32::from(part) / (2 * 255);
        self.next = length.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BreakerRules = BreakerRules {
        failures: 3,
        pause: Duration::from_millis(100),
        max_pause: Duration::from_millis(800),
    };

    #[test]
    fn the_breaker_opens_after_failures_in_a_row() {
        let now = Instant::now();
        let breaker = Breaker::new(RULES, now);
        assert_eq!(breaker.succeeded(), Turn::None);
        assert_eq!([breaker.failed(now), breaker.failed(now)], [Turn::Fails, Turn::None]);
        assert_eq!(breaker.succeeded(), Turn::Recovers, "they were not in a row");
        assert_eq!([breaker.failed(now), breaker.failed(now)], [Turn::Fails, Turn::None]);
        assert!(breaker.pass(now).is_ok() && breaker.is_failing());
        assert_eq!(breaker.failed(now), Turn::Opens);
        assert!(breaker.pass(now).is_err());
        // Failures of requests that had begun before the breaker opened change nothing.
        assert_eq!(breaker.failed(now), Turn::None);
        assert_eq!((breaker.succeeded(), breaker.openings()), (Turn::Recovers, 1));
        assert!(breaker.pass(now).is_ok());
    }

    #[test]
    fn one_request_tries_after_each_pause_and_the_pauses_grow_to_their_bound() {
        let mut now = Instant::now();
        let breaker = Breaker::new(RULES, now);
        for _round in 0..2 {
            for _ in 0..3 {
                breaker.failed(now);
            }
            for longest in [100, 200, 400, 800, 800, 800] {
                let longest = Duration::from_millis(longest);
                let wait = breaker.pass(now).unwrap_err();
                assert!((longest / 2..=longest).contains(&wait), "{wait:?} of {longest:?}");
                assert!(breaker.pass(now + wait - Duration::from_nanos(1)).is_err());
                now += wait;
                assert!(breaker.pass(now).is_ok(), "one");
                assert!(breaker.pass(now).is_err(), "and no other");
                breaker.failed(now);
            }
            // The next time begins with a short pause again.
            breaker.succeeded();
        }
        assert_eq!(breaker.openings(), 2);
    }

    #[test]
    fn the_breaker_never_opens_without_a_number_of_failures() {
        let now = Instant::now();
        let breaker = Breaker::new(BreakerRules { failures: 0, ..RULES }, now);
        for _ in 0..100 {
            breaker.failed(now);
        }
        assert!(breaker.pass(now).is_ok() && !breaker.is_open() && breaker.is_failing());
    }
}
