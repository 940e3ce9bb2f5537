//! The instant of an example request: one instant for each combination of conditions on time.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::condition::Week;

/// Weekly windows of different time zones overlap differently in summer and in winter. 400 days include every overlap.
const DAYS: i32 = 400;
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 400);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The conditions on the time of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct TimeConstraints<'m> {
    /// The instants before which no request may be.
    pub(super) from: Vec<Timestamp>,
    /// The instants before which every request must be.
    pub(super) until: Vec<Timestamp>,
    /// The weekly windows, each with the outcome that is wanted.
    pub(super) weeks: Vec<(&'m Week, bool)>,
}

impl TimeConstraints<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty() && self.until.is_empty() && self.weeks.is_empty()
    }

    /// Returns an instant at which all conditions hold, `now` if possible.
    pub(super) fn instant(&self, now: Timestamp) -> Option<Timestamp> {
        let earliest = self.from.iter().max().copied();
        let latest = self.until.iter().min().copied();
        if earliest.zip(latest).is_some_and(|(earliest, latest)| latest <= earliest)
            || self.is_contradictory()
        {
            return None;
        }
        let before = latest.and_then(|latest| latest.checked_sub(SECOND).ok());
        let plain = [Some(now), earliest, before].into_iter().flatten();
        let begin = earliest.or_else(|| latest.and_then(|latest| latest.checked_sub(HORIZON).ok()));
        let scans = [Some(now), Some(begin.unwrap_or(now))].into_iter().flatten();
        plain.chain(scans.flat_map(|start| self.borders(start))).find(|instant| self.holds(*instant))
    }

    fn holds(&self, instant: Timestamp) -> bool {
        self.from.iter().all(|from| *from <= instant)
            && self.until.iter().all(|until| instant < *until)
            && self.weeks.iter().all(|(week, wanted)| week.holds(instant) == *wanted)
    }

    /// Returns true if the same window is wanted open and closed.
    fn is_contradictory(&self) -> bool {
        let (open, closed): (Vec<_>, Vec<_>) = self.weeks.iter().partition(|(_, wanted)| *wanted);
        open.iter().any(|(open, _)| closed.iter().any(|(closed, _)| open.is_same(closed)))
    }

    /// Returns every instant after `start` at which a window may open or close.
    fn borders(&self, start: Timestamp) -> impl Iterator<Item = Timestamp> {
        let days = if self.weeks.is_empty() { 0 } else { DAYS };
        let mut shifts: Vec<Timestamp> = Vec::new();
        for (week, _) in &self.weeks {
            let end = start.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
            let following = week.zone.following(start).map(|shift| shift.timestamp());
            shifts.extend(following.take_while(|shift| *shift <= end).take(50));
        }
        (0..days).flat_map(move |day| self.borders_of_day(start, day)).chain(shifts)
    }

    fn borders_of_day(&self, start: Timestamp, day: i32) -> Vec<Timestamp> {
        let Ok(about) = start.checked_add(DAY * day) else { return Vec::new() };
        let of_week = |(week, _): &(&Week, bool)| {
            let date = week.zone.to_datetime(about).date();
            let hours = week.hours.iter().flat_map(|hours| [Some(hours.from), hours.until]).flatten();
            let times = std::iter::once(Time::midnight()).chain(hours);
            times.flat_map(|time| instants(&week.zone, date.to_datetime(time))).collect::<Vec<_>>()
        };
        self.weeks.iter().flat_map(of_week).collect()
    }
}

/// Returns the instants with that local time. There are two in the night in which summer time ends.
fn instants(zone: &TimeZone, local: jiff::civil::DateTime) -> Vec<Timestamp> {
    let both = [zone.to_ambiguous_timestamp(local).earlier(), zone.to_ambiguous_timestamp(local).later()];
    both.into_iter().flatten().collect()
}

impl Week {
    fn is_same(&self, other: &Self) -> bool {
        self.days == other.days && self.hours == other.hours && self.zone == other.zone
    }
}
