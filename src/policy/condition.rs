//! Conditions on a request beyond its method and path: the address of the peer, the time, the query and the headers.
//!
//! A condition is doubtful if two backends could read the request in two ways. A doubtful condition is not met for a grant,
//! and met for a deny rule, so that doubt always denies.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use crate::client_headers::folds_to;

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
    pub(super) fn holds(&self, now: Timestamp) -> bool {
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

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Reads a network such as `10.0.0.0/8`, or a single address.
    ///
    /// # Errors
    /// A message and a help, if the text is no network, or has bits set after the prefix.
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
        if network.first_bits() != bits(address) {
            let meant = Self { address: address_of(network.first_bits(), address.is_ipv4()), ..network };
            return Err((
                format!("`{text}` has bits set beyond its first {}", network.length),
                Some(format!("write `{meant}` for that network, or `{address}` for the one address")),
            ));
        }
        Ok(network.canonical())
    }

    /// Returns true if the network contains the address. An IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, length: self.length }.first_bits() == bits(self.address)
    }

    /// Returns the first address of the network, and the first address after the network.
    pub(crate) fn borders(&self) -> impl Iterator<Item = IpAddr> {
        let longest = if self.address.is_ipv4() { 32u32 } else { 128 };
        let size = 1u128.checked_shl(longest.saturating_sub(u32::from(self.length)));
        let after = size.and_then(|size| bits(self.address).checked_add(size));
        let after = after.filter(|after| !self.address.is_ipv4() || u32::try_from(*after).is_ok());
        let after = after.map(|after| address_of(after, self.address.is_ipv4()));
        std::iter::once(self.address).chain(after)
    }

    /// Turns an IPv4-mapped IPv6 network into the IPv4 network.
    fn canonical(self) -> Self {
        match (self.address, self.address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(address)) if self.length >= 96 => {
                Self { address: IpAddr::V4(address), length: self.length - 96 }
            }
            _ => self,
        }
    }

    fn first_bits(&self) -> u128 {
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

/// The result of a condition that is doubtful, because two backends could read the request in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfDoubtful {
    /// For a grant: the condition is not met.
    Unmet,
    /// For a deny rule: the condition is met.
    Met,
}

/// The condition that a parameter of the query is present exactly once, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryCondition {
    pub(crate) name: Box<str>,
    /// `*` for any value.
    pub(crate) values: Box<[Box<str>]>,
}

/// The value of a parameter or header in a request.
enum FieldValue<'r> {
    Absent,
    /// Present once, and every backend reads this value.
    Single(Cow<'r, [u8]>),
    /// Two backends may read different values.
    Doubtful,
}

impl FieldValue<'_> {
    fn meets(self, values: &[Box<str>], if_doubtful: IfDoubtful) -> bool {
        match self {
            Self::Absent => false,
            Self::Single(value) => matches_any(values, &value),
            Self::Doubtful => if_doubtful == IfDoubtful::Met,
        }
    }
}

impl QueryCondition {
    pub(crate) fn holds(&self, query: Option<&str>, if_doubtful: IfDoubtful) -> bool {
        self.read(query.unwrap_or_default()).meets(&self.values, if_doubtful)
    }

    fn read<'q>(&self, query: &'q str) -> FieldValue<'q> {
        // Some backends end a parameter at `;`, so that another parameter may begin there.
        if has_semicolon(query) {
            return FieldValue::Doubtful;
        }
        let mut found = FieldValue::Absent;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decode(name) else { return FieldValue::Doubtful };
            if !is_same_parameter(&name, self.name.as_bytes()) {
                continue;
            }
            let value = decode(value).filter(|value| !value.contains(&b','));
            found = match (found, value) {
                (FieldValue::Absent, Some(value)) if *name == *self.name.as_bytes() => {
                    FieldValue::Single(value)
                }
                _ => return FieldValue::Doubtful,
            };
        }
        found
    }
}

impl QueryCondition {
    /// Describes why the condition is doubtful for this query; `None` if it is not.
    pub(crate) fn doubt_reason(&self, query: &str) -> Option<String> {
        if has_semicolon(query) {
            return Some(format!(
                "some backends begin another parameter at the `;` of the query, so no grant goes by `{}`",
                self.name
            ));
        }
        let names = query.split('&').filter_map(|pair| decode(pair.split('=').next().unwrap_or_default()));
        let own = self.name.as_bytes();
        let mut others = names.filter(|name| **name != *own && is_same_parameter(name, own));
        if let Some(other) = others.next() {
            let other = String::from_utf8_lossy(&other);
            return Some(format!(
                "some backends take the parameter `{other}` for `{}`, so no grant goes by it",
                self.name
            ));
        }
        self.has_comma(query).then(|| {
            format!(
                "some backends take the comma in the parameter `{}` for the end of a value, so no grant goes by it",
                self.name
            )
        })
    }

    /// Returns true if the parameter is present once, with a comma in its value.
    fn has_comma(&self, query: &str) -> bool {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut own =
            pairs.filter(|(name, _)| decode(name).is_some_and(|name| *name == *self.name.as_bytes()));
        let (Some((_, value)), None) = (own.next(), own.next()) else { return false };
        decode(value).is_some_and(|value| value.contains(&b','))
    }
}

fn has_semicolon(query: &str) -> bool {
    query.contains(';') || query.as_bytes().windows(3).any(|escape| escape.eq_ignore_ascii_case(b"%3b"))
}

/// Returns true if some backend reads two decoded names as the same parameter. Some backends ignore case. PHP trims a name,
/// and replaces a space, a dot and an unclosed `[` by `_`. PHP, Rack and Express make a list or a map of a name with
/// brackets.
pub(crate) fn is_same_parameter(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let (one, other) = (without_case(without_margin(one)), without_case(without_margin(other)));
    base_name(&one) == base_name(&other) || php_name(&one).eq(php_name(&other))
}

/// Removes the space around a name, and each `?` before it: some backends read a second `?` as the start of the query.
fn without_margin(name: &[u8]) -> &[u8] {
    let start = name.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b'?').count();
    name.get(start..).unwrap_or_default().trim_ascii_end()
}

fn without_case(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.is_ascii() {
        // Both conversions are needed: some letters change only in one of them.
        let text = String::from_utf8_lossy(name).to_uppercase().to_lowercase();
        return Cow::Owned(text.into_bytes());
    }
    match name.iter().any(u8::is_ascii_uppercase) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

fn base_name(name: &[u8]) -> &[u8] {
    let is_bracket = |byte: &u8| matches!(byte, b'[' | b']');
    let start = name.iter().take_while(|byte| is_bracket(byte)).count();
    let name = name.get(start..).unwrap_or_default();
    let end = name.iter().position(is_bracket).unwrap_or(name.len());
    name.get(..end).unwrap_or_default()
}

fn php_name(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(|byte| if matches!(byte, b' ' | b'.' | b'[') { b'_' } else { *byte })
}

/// The condition that a header is present exactly once, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderCondition {
    pub(crate) name: HeaderName,
    /// `*` for any value.
    pub(crate) values: Box<[Box<str>]>,
}

impl HeaderCondition {
    /// Returns true if the condition is met. Headers that are not known (`None`) make the condition doubtful.
    pub(crate) fn holds(&self, headers: Option<&HeaderMap>, if_doubtful: IfDoubtful) -> bool {
        let value = headers.map_or(FieldValue::Doubtful, |headers| self.read(headers));
        value.meets(&self.values, if_doubtful)
    }

    /// Describes why the condition is doubtful for these headers; `None` if it is not.
    pub(crate) fn doubt_reason(&self, headers: &HeaderMap) -> Option<String> {
        let name = &self.name;
        let mut others = headers.keys().filter(|other| *other != name);
        if let Some(other) = others.find(|other| folds_to(other.as_str(), name.as_str())) {
            return Some(format!(
                "some backends take the header `{other}` for `{name}`, so no grant goes by it"
            ));
        }
        let mut lines = headers.get_all(name).iter();
        let (Some(value), None) = (lines.next(), lines.next()) else { return None };
        if value.as_bytes().contains(&b',') {
            return Some(format!(
                "some backends take the comma in the header `{name}` for the end of a value, so no grant goes by it"
            ));
        }
        (value.as_bytes().trim_ascii() != value.as_bytes()).then(|| {
            format!(
                "the header `{name}` has a blank at an end, which some backends keep, so no grant goes by it"
            )
        })
    }

    fn read<'h>(&self, headers: &'h HeaderMap) -> FieldValue<'h> {
        let mut found = FieldValue::Absent;
        for (name, value) in headers {
            // CGI, WSGI, PHP and Rack read `X_Mode` and `X-Mode` as one variable.
            if !folds_to(name.as_str(), self.name.as_str()) {
                continue;
            }
            let value = value.as_bytes();
            // HTTP/2 can carry spaces around a value. Parsers of HTTP/1.1 remove them.
            let is_one = !value.contains(&b',') && value.trim_ascii() == value;
            found = match found {
                FieldValue::Absent if is_one && *name == self.name => {
                    FieldValue::Single(Cow::Borrowed(value))
                }
                _ => return FieldValue::Doubtful,
            };
        }
        found
    }
}

fn matches_any(values: &[Box<str>], value: &[u8]) -> bool {
    values.iter().any(|allowed| &**allowed == "*" || allowed.as_bytes() == value)
}

/// Decodes a name or value of a query (`application/x-www-form-urlencoded`). Returns `None` for a `%` that starts no escape.
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
            (condition.holds(query, IfDoubtful::Unmet), condition.holds(query, IfDoubtful::Met))
        };
        for query in [
            "format=csv",
            "x=1&format=csv",
            "f%6Frmat=c%73v",
            "format=a+b",
            "format=a%20b",
            "x=%zz&format=csv",
            "x[format]=xml&format=csv",
            "reformat=xml&format=csv",
            "x=format&format=csv",
        ] {
            assert_eq!(holds(query), (true, true), "{query}");
        }
        for query in ["", "format=xml", "format", "for_mat=csv", "x[format]=csv", "format=csv%00"] {
            assert_eq!(holds(query), (false, false), "{query}");
        }
        for query in [
            "format=csv&format=csv",
            "format=csv&f%6Frmat=xml",
            "format=csv,xml",
            "format=%zz",
            "x=1;format=xml&format=csv",
            "%zz=1&format=csv",
            "format=csv&x=1;f%6Frmat=xml",
            "format=csv&x=%3bformat=xml",
            "format=csv&a=%3B",
            "Format=csv",
            "format=csv&FORMAT=xml",
            "format=csv&format%20=xml",
            "format=csv&+format=xml",
            "format=csv&%09format=xml",
            "format=csv&format[]=xml",
            "format=csv&format%5B0%5D=xml",
            "format=csv&[format]=xml",
            "format=csv&]format=xml",
            "format=csv&?format=xml",
            "format[]=csv",
        ] {
            assert_eq!(holds(query), (false, true), "{query}");
        }
        let named = QueryCondition { name: "a_b".into(), values: Box::new(["1".into()]) };
        for other in ["a.b=2", "a+b=2", "a%20b=2", "a[b=2", "A_B=2", "a_b[]=2", " a_b=2"] {
            let query = format!("a_b=1&{other}");
            assert!(!named.holds(Some(&query), IfDoubtful::Unmet), "{query}");
            assert!(named.holds(Some(other), IfDoubtful::Met), "{other}");
        }
        // These names differ only in letters that have the same capital.
        let named = QueryCondition { name: "gr\u{f6}\u{df}e".into(), values: Box::new(["1".into()]) };
        assert!(named.holds(Some("GR%C3%96SSE=2"), IfDoubtful::Met));
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
            (
                condition.holds(Some(&headers), IfDoubtful::Unmet),
                condition.holds(Some(&headers), IfDoubtful::Met),
            )
        };
        assert_eq!(holds(&["batch"]), (true, true));
        assert_eq!(holds(&[]), (false, false));
        assert_eq!(holds(&["live"]), (false, false));
        assert_eq!(holds(&["batch", "batch"]), (false, true));
        assert_eq!(holds(&["batch, live"]), (false, true));
        assert_eq!(holds(&[" batch"]), (false, true));
        assert_eq!(holds(&["live\t"]), (false, true));
        for name in ["x_mode", "x.mode", "x~mode"] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("live"))]);
            assert!(condition.holds(Some(&headers), IfDoubtful::Met), "{name} alone");
            headers.insert("x-mode", HeaderValue::from_static("batch"));
            assert!(!condition.holds(Some(&headers), IfDoubtful::Unmet), "{name} beside it");
        }
        assert!(condition.holds(None, IfDoubtful::Met) && !condition.holds(None, IfDoubtful::Unmet));
    }
}
