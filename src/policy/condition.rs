//! Conditions on a request beyond its method and path: where it comes from, when, its query and its headers.
//!
//! What a condition says of a request that could be read in two ways depends on who asks: such a request meets no
//! condition of a grant, and every condition of a deny.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

/// `when:` everything in it must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    /// Networks, one of which the peer's address must be in; empty for anywhere.
    pub(crate) source: Box<[Network]>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) week: Option<Week>,
}

/// Weekly windows in a time zone.
#[derive(Clone, Debug)]
pub(crate) struct Week {
    /// Seven, Monday first.
    pub(crate) days: [bool; 7],
    /// From when until when each day; empty for the whole day.
    pub(crate) hours: Box<[Hours]>,
    pub(crate) zone: TimeZone,
}

/// A daily window. One that ends before it starts goes on into the next day, and belongs to the day it started on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    pub(crate) from: Time,
    /// Not included; `None` for midnight at the end of the day.
    pub(crate) until: Option<Time>,
}

impl When {
    /// Whether it can hold at one time and not at another.
    pub(crate) fn is_about_time(&self) -> bool {
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
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let (day, time) = (local.weekday(), local.time());
        if self.hours.is_empty() {
            return self.has(day);
        }
        self.hours.iter().any(|hours| match hours.until {
            Some(until) if until <= hours.from => {
                (time >= hours.from && self.has(day)) || (time < until && self.has(day.previous()))
            }
            until => time >= hours.from && until.is_none_or(|until| time < until) && self.has(day),
        })
    }

    /// In words: days, hours and zone.
    pub(crate) fn words(&self) -> String {
        let names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
        let days = names.iter().zip(self.days).filter(|(_, open)| *open).map(|(name, _)| *name);
        let days =
            if self.days == [true; 7] { "any day".to_owned() } else { days.collect::<Vec<_>>().join(", ") };
        let hours = self.hours.iter().map(|hours| {
            let until =
                hours.until.map_or_else(|| "24:00".to_owned(), |until| until.strftime("%H:%M").to_string());
            format!("{}-{until}", hours.from.strftime("%H:%M"))
        });
        let hours: Vec<String> = hours.collect();
        let hours = if hours.is_empty() { String::new() } else { format!(", {}", hours.join(" or ")) };
        let zone = self.zone.iana_name().unwrap_or("UTC");
        format!("it is {days}{hours} in {zone}")
    }

    fn has(&self, day: Weekday) -> bool {
        usize::try_from(day.to_monday_zero_offset())
            .is_ok_and(|day| self.days.get(day).is_some_and(|day| *day))
    }
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Reads `10.0.0.0/8` or a single address.
    ///
    /// # Errors
    /// A message and a help.
    pub fn parse(text: &str) -> Result<Self, (String, Option<String>)> {
        let wrong = || {
            (
                format!("`{text}` is not a network"),
                Some("write it as in `10.0.0.0/8`, or a single address".to_owned()),
            )
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length =
            length.map_or(Some(longest), |length| length.parse().ok()).filter(|length| *length <= longest);
        let network = Self { address, length: length.ok_or_else(wrong)? };
        if network.first() != bits(address) {
            let meant = Self { address: address_of(network.first(), address.is_ipv4()), ..network };
            return Err((
                format!("`{text}` has bits set beyond its first {}", network.length),
                Some(format!("write `{meant}` for that network, or `{address}` for the one address")),
            ));
        }
        Ok(network.canonical())
    }

    /// Whether an address is in it; an IPv4 address may be written as one of IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, length: self.length }.first() == bits(self.address)
    }

    /// The first address in it, and the first one after it.
    pub(crate) fn borders(&self) -> impl Iterator<Item = IpAddr> {
        let longest = if self.address.is_ipv4() { 32u32 } else { 128 };
        let size = 1u128.checked_shl(longest.saturating_sub(u32::from(self.length)));
        let after = size.and_then(|size| bits(self.address).checked_add(size));
        let after = after.filter(|after| !self.address.is_ipv4() || u32::try_from(*after).is_ok());
        let after = after.map(|after| address_of(after, self.address.is_ipv4()));
        std::iter::once(self.address).chain(after)
    }

    /// An IPv4 network that was written as one of IPv6 is the same network.
    fn canonical(self) -> Self {
        match (self.address, self.address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(address)) if self.length >= 96 => {
                Self { address: IpAddr::V4(address), length: self.length - 96 }
            }
            _ => self,
        }
    }

    fn first(&self) -> u128 {
        let spare = (if self.address.is_ipv4() { 32u32 } else { 128 }).saturating_sub(u32::from(self.length));
        let mask = u128::MAX.checked_shl(spare).unwrap_or(0);
        bits(self.address) & mask
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(bits: u128, v4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if v4 => IpAddr::V4(bits.into()),
        _ => IpAddr::V6(bits.into()),
    }
}

/// What a request that could be read in two ways counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// For a grant: as one that does not meet the condition.
    Unmet,
    /// For a deny: as one that does.
    Met,
}

/// One parameter of the query, present once, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryCondition {
    pub(crate) name: Box<str>,
    /// `*` for any value.
    pub(crate) values: Box<[Box<str>]>,
}

impl QueryCondition {
    pub(crate) fn holds(&self, query: Option<&str>, unclear: Unclear) -> bool {
        let query = query.unwrap_or_default();
        let mut found: Option<Cow<'_, [u8]>> = None;
        let mut doubtful = false;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), value) = (decode(name), decode(value)) else {
                doubtful = true;
                continue;
            };
            // Some backends end a parameter at `;`, so what follows one may be this parameter or end it.
            doubtful |= pair.contains(';') && pair.contains(&*self.name);
            if *name != *self.name.as_bytes() {
                continue;
            }
            doubtful |= found.is_some()
                || value.is_none()
                || value.as_ref().is_some_and(|value| value.contains(&b','));
            found = value.or(found);
        }
        if doubtful {
            return unclear == Unclear::Met;
        }
        found.is_some_and(|value| one_of(&self.values, &value))
    }
}

/// One header, present once, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderCondition {
    pub(crate) name: HeaderName,
    /// `*` for any value.
    pub(crate) values: Box<[Box<str>]>,
}

impl HeaderCondition {
    pub(crate) fn holds(&self, headers: &HeaderMap, unclear: Unclear) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        let Some(value) = values.next() else { return false };
        let value = value.as_bytes();
        // HTTP/2 carries spaces around a value, which whoever reads HTTP/1.1 takes off.
        if values.next().is_some() || value.contains(&b',') || value.trim_ascii() != value {
            return unclear == Unclear::Met;
        }
        one_of(&self.values, value)
    }
}

fn one_of(values: &[Box<str>], value: &[u8]) -> bool {
    values.iter().any(|allowed| &**allowed == "*" || allowed.as_bytes() == value)
}

/// Decodes a part of a query as forms are encoded; `None` for a `%` that starts no escape.
fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn networks_hold_their_addresses() {
        let network = |text: &str| Network::parse(text).unwrap();
        let ip = |text: &str| text.parse().unwrap();
        assert!(
            network("10.0.0.0/8").contains(ip("10.255.0.1"))
                && !network("10.0.0.0/8").contains(ip("11.0.0.1"))
        );
        assert!(network("10.0.0.0/8").contains(ip("::ffff:10.0.0.1")));
        assert!(network("::ffff:10.0.0.0/104").contains(ip("10.9.9.9")));
        assert!(network("0.0.0.0/0").contains(ip("1.2.3.4")) && !network("0.0.0.0/0").contains(ip("::1")));
        assert!(network("2001:db8::/32").contains(ip("2001:db8::1")) && network("::1").contains(ip("::1")));
        assert_eq!(
            Network::parse("10.1.0.0/8").unwrap_err(),
            (
                "`10.1.0.0/8` has bits set beyond its first 8".to_owned(),
                Some("write `10.0.0.0/8` for that network, or `10.1.0.0` for the one address".to_owned())
            )
        );
        for text in ["10.0.0.0/33", "10.0.0/8", "", "a", "10.0.0.0/", "::/129"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }

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

    #[test]
    fn a_parameter_that_could_be_read_twice_meets_no_grant_and_every_deny() {
        let condition =
            QueryCondition { name: "format".into(), values: Box::new(["csv".into(), "a b".into()]) };
        let holds = |query: &str| {
            let query = Some(query);
            (condition.holds(query, Unclear::Unmet), condition.holds(query, Unclear::Met))
        };
        for query in [
            "format=csv",
            "x=1&format=csv",
            "f%6Frmat=c%73v",
            "format=a+b",
            "format=a%20b",
            "x=%zz;&format=csv",
        ] {
            assert_eq!(holds(query), (true, true), "{query}");
        }
        for query in ["", "format=xml", "format", "Format=csv", "format=csv%00"] {
            assert_eq!(holds(query), (false, false), "{query}");
        }
        for query in [
            "format=csv&format=csv",
            "format=csv&f%6Frmat=xml",
            "format=csv,xml",
            "format=%zz",
            "x=1;format=xml&format=csv",
            "%zz=1&format=csv",
        ] {
            assert_eq!(holds(query), (false, true), "{query}");
        }
    }

    /// Case 49.
    #[test]
    fn a_header_that_could_be_read_twice_meets_no_grant_and_every_deny() {
        let condition =
            HeaderCondition { name: HeaderName::from_static("x-mode"), values: Box::new(["batch".into()]) };
        let holds = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("X-Mode", HeaderValue::from_static(value));
            }
            (condition.holds(&headers, Unclear::Unmet), condition.holds(&headers, Unclear::Met))
        };
        assert_eq!(holds(&["batch"]), (true, true));
        assert_eq!(holds(&[]), (false, false));
        assert_eq!(holds(&["live"]), (false, false));
        assert_eq!(holds(&["batch", "batch"]), (false, true));
        assert_eq!(holds(&["batch, live"]), (false, true));
        assert_eq!(holds(&[" batch"]), (false, true));
        assert_eq!(holds(&["live\t"]), (false, true));
    }
}
