//! A limit on lines of the log that others can cause: a few at once, then one now and then, with the number of those left out.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines that may be written at once.
const BURST: u32 = 5;
/// Time after which one more line may be written.
const PERIOD: Duration = Duration::from_secs(10);

/// The limit on one kind of line.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Option<Allowance>>);

#[derive(Debug)]
struct Allowance {
    lines: u32,
    /// The instant since which the allowance grows.
    since: Instant,
    /// Lines that were left out since the last one that was written.
    left_out: u64,
}

impl Throttle {
    /// Returns the number of lines that were left out since the last one, if a line may be written now.
    pub(super) fn pass(&self, now: Instant) -> Option<u64> {
        let mut allowance = self.0.lock();
        let allowance = allowance.get_or_insert(Allowance { lines: BURST, since: now, left_out: 0 });
        while allowance.lines < BURST && now.saturating_duration_since(allowance.since) >= PERIOD {
            allowance.lines += 1;
            allowance.since += PERIOD;
        }
        if allowance.lines == BURST {
            allowance.since = now;
        }
        match allowance.lines.checked_sub(1) {
            Some(lines) => {
                allowance.lines = lines;
                Some(std::mem::take(&mut allowance.left_out))
            }
            None => {
                allowance.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_pass_at_once_and_one_in_each_period_with_the_number_of_those_between() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let passed: Vec<_> = (0..8).map(|_| throttle.pass(start)).collect();
        assert_eq!(passed, [Some(0), Some(0), Some(0), Some(0), Some(0), None, None, None]);
        assert_eq!(throttle.pass(start + PERIOD - Duration::from_millis(1)), None);
        assert_eq!(throttle.pass(start + PERIOD), Some(4));
        assert_eq!(throttle.pass(start + PERIOD), None);
        let late = start + 100 * PERIOD;
        assert_eq!((0..6).filter_map(|_| throttle.pass(late)).collect::<Vec<_>>(), [1, 0, 0, 0, 0]);
    }
}
