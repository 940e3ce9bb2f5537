//! The `when` of an entry: networks of the peer, instants and weekly windows.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use super::Network;

/// The `when` of an entry. All parts must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    /// Networks, of which one must contain the address of the peer; empty for any address.
    pub(crate) source: Box<[Network]>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) week: Option<Week>,
}

/// Windows of time that repeat every week, in a time zone.
#[derive(Clone, Debug)]
pub(crate) struct Week {
    /// The days of the windows, Monday first.
    pub(crate) days: [bool; 7],
    /// Hours of each of these days; empty for the whole day.
    pub(crate) hours: Box<[Hours]>,
    pub(crate) zone: TimeZone,
}

/// Hours of a day. A window that ends before it starts continues into the next day, and belongs to the day on which the
/// window starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    pub(crate) from: Time,
    /// End of the window, exclusive; `None` for midnight at the end of the day.
    pub(crate) until: Option<Time>,
}

impl When {
    /// Returns true if the result can change with time.
    pub(crate) fn depends_on_time(&self) -> bool {
        self.from.is_some() || self.until.is_some() || self.week.is_some()
    }

    pub(crate) fn holds(&self, source: IpAddr, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until)
            && (self.source.is_empty() || self.source.iter().any(|network| network.contains(source)))
            && self.week.as_ref().is_none_or(|week| week.holds(now))
    }
}

impl Week {
    pub(in crate::policy) fn holds(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let (day, time) = (local.weekday(), local.time());
        if self.hours.is_empty() {
            return self.includes(day);
        }
        self.hours.iter().any(|hours| match hours.until {
            Some(until) if until <= hours.from => {
                (time >= hours.from && self.includes(day)) || (time < until && self.includes(day.previous()))
            }
            until => time >= hours.from && until.is_none_or(|until| time < until) && self.includes(day),
        })
    }

    /// Describes the days, the hours and the zone in words.
    pub(crate) fn describe(&self) -> String {
        let names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
        let days = names.iter().zip(self.days).filter(|(_, open)| *open).map(|(name, _)| *name);
        let days = if self.days == [true; 7] { None } else { Some(days.collect::<Vec<_>>().join(", ")) };
        let hours = self.hours.iter().map(|hours| {
            let until =
                hours.until.map_or_else(|| "24:00".to_owned(), |until| until.strftime("%H:%M").to_string());
            format!("{}-{until}", hours.from.strftime("%H:%M"))
        });
        let hours: Vec<String> = hours.collect();
        let zone = self.zone.iana_name().unwrap_or("UTC");
        match (days, hours.join(" or ")) {
            (Some(days), hours) if hours.is_empty() => format!("the day is {days} in {zone}"),
            (Some(days), hours) => format!("the time is {hours} on {days} in {zone}"),
            (None, hours) if hours.is_empty() => "the time is any time".to_owned(),
            (None, hours) => format!("the time is {hours} on any day in {zone}"),
        }
    }

    fn includes(&self, day: Weekday) -> bool {
        usize::try_from(day.to_monday_zero_offset())
            .is_ok_and(|day| self.days.get(day).is_some_and(|day| *day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_the_week_follow_their_zone() {
        let mut days = [true; 7];
        days[5] = false;
        days[6] = false;
        let time = |hour| Time::constant(hour, 0, 0, 0);
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let office = Week {
            days,
            hours: Box::new([Hours { from: time(8), until: Some(time(18)) }]),
            zone: zone.clone(),
        };
        let night = Week {
            days,
            hours: Box::new([Hours { from: time(22), until: Some(time(6)) }]),
            zone: zone.clone(),
        };
        let friday = Week { days, hours: Box::new([Hours { from: time(20), until: None }]), zone };
        let at = |text: &str| text.parse().unwrap();
        assert!(office.holds(at("2026-07-03T06:00:00Z")), "08:00 in summer");
        assert!(!office.holds(at("2026-01-05T06:30:00Z")), "07:30 in winter");
        assert!(!office.holds(at("2026-07-04T10:00:00Z")), "Saturday");
        assert!(night.holds(at("2026-07-04T01:00:00Z")), "03:00 on Saturday belongs to Friday night");
        assert!(!night.holds(at("2026-07-06T01:00:00Z")), "03:00 on Monday belongs to Sunday night");
        assert!(friday.holds(at("2026-07-03T21:59:59Z")) && !friday.holds(at("2026-07-03T22:00:00Z")));
    }
}
