//! Where a request comes from, and when: one address and one instant of each cell that conditions cut out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::condition::{Network, Week};

/// Weekly windows of different zones meet differently in summer and in winter; a year and a bit sees all of it.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 400);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The address that is taken where none is asked for: one of those that are for documentation.
pub(super) const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// An address that is in the networks with `true` and in none with `false`. Networks begin and end at borders, so one of
/// the borders is in every cell.
pub(super) fn address(asked: &[(&[Network], bool)]) -> Option<IpAddr> {
    let within = |networks: &[Network], address| networks.iter().any(|network| network.contains(address));
    let fits = |address: &IpAddr| asked.iter().all(|(networks, is)| within(networks, *address) == *is);
    let lowest = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    // The first address beyond those of IPv4 that are written as IPv6.
    let beyond = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 1, 0, 0, 0));
    let borders = || asked.iter().flat_map(|(networks, _)| networks.iter()).flat_map(Network::borders);
    let inside = borders().filter_map(next);
    let mut all = std::iter::once(SOMEWHERE).chain(inside).chain(borders()).chain(lowest).chain([beyond]);
    all.find(fits)
}

/// The address of a host reads better than that of its network.
fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(Ipv4Addr::from_bits)?.into(),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(Ipv6Addr::from_bits)?.into(),
    })
}

/// What is asked of the time.
#[derive(Clone, Debug, Default)]
pub(super) struct Times<'m> {
    /// Not before any of these.
    pub(super) from: Vec<Timestamp>,
    /// Before all of these.
    pub(super) until: Vec<Timestamp>,
    pub(super) weeks: Vec<(&'m Week, bool)>,
}

impl Times<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty() && self.until.is_empty() && self.weeks.is_empty()
    }

    /// An instant at which all of it holds, now if possible.
    pub(super) fn instant(&self, now: Timestamp) -> Option<Timestamp> {
        let earliest = self.from.iter().max().copied();
        let latest = self.until.iter().min().copied();
        if earliest.zip(latest).is_some_and(|(earliest, latest)| latest <= earliest) || self.contradicts() {
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
            && self.weeks.iter().all(|(week, is)| week.holds(instant) == *is)
    }

    fn contradicts(&self) -> bool {
        let (yes, no): (Vec<_>, Vec<_>) = self.weeks.iter().partition(|(_, is)| *is);
        yes.iter().any(|(yes, _)| no.iter().any(|(no, _)| yes.is_same(no)))
    }

    /// Every instant, from `start` on, at which a window may open or close.
    fn borders(&self, start: Timestamp) -> impl Iterator<Item = Timestamp> {
        let days = if self.weeks.is_empty() { 0 } else { 400 };
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

/// The instants that a clock calls so: two in the night when it is put back.
fn instants(zone: &TimeZone, local: jiff::civil::DateTime) -> Vec<Timestamp> {
    let both = [zone.to_ambiguous_timestamp(local).earlier(), zone.to_ambiguous_timestamp(local).later()];
    both.into_iter().flatten().collect()
}

impl Week {
    fn is_same(&self, other: &Self) -> bool {
        self.days == other.days && self.hours == other.hours && self.zone == other.zone
    }
}
