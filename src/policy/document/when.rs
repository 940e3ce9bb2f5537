//! The `when` of an entry: networks, instants and windows of the week.

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::super::condition::{Hours, Network, Week, When};
use super::reject_empty;
use crate::diagnostic::Code;
use crate::document::{Fields, Node, Reader};

pub(super) fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<When> {
    let keys = ["source", "from", "until", "days", "hours", "zone"];
    let fields = reader.fields(node, "`when`", &keys)?;
    if fields.is_empty() {
        let help = "remove `when` if the entry always applies".to_owned();
        reader.error(Code::EmptyList, node, "an empty `when` has no effect", Some(help));
    }
    let source = fields.optional("source").map(|node| networks(node, reader)).unwrap_or_default();
    let from = fields.optional("from").and_then(|node| reader.instant(node));
    let until = fields.optional("until").and_then(|node| reader.instant(node));
    if let (Some(from), Some(until), Some(node)) = (from, until, fields.optional("until"))
        && until <= from
    {
        let help = Some("write an `until` that is later than `from`".to_owned());
        reader.error(Code::BadInstant, node, "`until` is not after `from`, so the entry never applies", help);
    }
    Some(When { source, from, until, week: week(&fields, reader) })
}

fn networks(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[Network]> {
    reject_empty(node, reader, "leave `source` out to mean every address");
    let mut networks = Vec::new();
    for item in reader.one_or_more(node) {
        let Some(text) = reader.name(item) else { continue };
        match Network::parse(text) {
            Ok(network) => networks.push(network),
            Err((message, help)) => reader.error(Code::BadNetwork, item, message, help),
        }
    }
    networks.into()
}

fn week(fields: &Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<Week> {
    let (days, hours, zone) = (fields.optional("days"), fields.optional("hours"), fields.optional("zone"));
    if let (None, None, Some(zone)) = (days, hours, zone) {
        let help = "add `days` or `hours`, or remove `zone`".to_owned();
        reader.error(Code::MissingKey, zone, "`zone` has no effect without `days` or `hours`", Some(help));
    }
    let zone = zone.map_or(Some(TimeZone::UTC), |node| time_zone(node, reader));
    let days = days.map(|node| read_days(node, reader));
    let hours = hours.map(|node| read_hours(node, reader));
    if days.is_none() && hours.is_none() {
        return None;
    }
    Some(Week { days: days.unwrap_or([true; 7]), hours: hours.unwrap_or_default(), zone: zone? })
}

fn time_zone(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<TimeZone> {
    let name = reader.name(node)?;
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        let help = reader
            .did_you_mean(name, known.iter().map(String::as_str))
            .unwrap_or_else(|| "zones are named as in `Europe/Berlin` or `UTC`".to_owned());
        reader.error(Code::UnknownZone, node, format!("unknown time zone `{name}`"), Some(help));
    }
    zone
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn read_days(node: &Node<'_>, reader: &mut Reader<'_>) -> [bool; 7] {
    reject_empty(node, reader, "leave `days` out to mean every day");
    let mut days = [false; 7];
    for item in reader.one_or_more(node) {
        let Some(text) = reader.name(item) else { continue };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) = (day(first), day(last)) else {
            let help = reader
                .did_you_mean(text, DAYS)
                .unwrap_or_else(|| "write `mon`, `tue`, … or a range such as `mon-fri`".to_owned());
            reader.error(Code::BadDay, item, format!("`{text}` is not a day"), Some(help));
            continue;
        };
        let run = (last + 7 - first) % 7;
        for offset in 0..=run {
            if let Some(day) = days.get_mut((first + offset) % 7) {
                *day = true;
            }
        }
    }
    days
}

fn day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| *day == text.trim())
}

fn read_hours(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[Hours]> {
    reject_empty(node, reader, "leave `hours` out to mean the whole day");
    let mut windows = Vec::new();
    for item in reader.one_or_more(node) {
        let Some(text) = reader.name(item) else { continue };
        match window(text) {
            Some(window) => windows.push(window),
            None => {
                let help = padded(text).map_or_else(
                    || {
                        "write a range such as `08:00-18:00`; `22:00-06:00` continues into the next day"
                            .to_owned()
                    },
                    |padded| format!("write `{padded}`"),
                );
                reader.error(Code::BadHours, item, format!("`{text}` is not a range of hours"), Some(help));
            }
        }
    }
    windows.into()
}

fn window(text: &str) -> Option<Hours> {
    let (from, until) = text.split_once('-')?;
    let from = time(from.trim())?;
    let until = match until.trim() {
        "24:00" => None,
        until => Some(time(until)?),
    };
    (until != Some(from)).then_some(Hours { from, until })
}

/// Returns the correct form of a window whose hours lack a digit or the minutes.
fn padded(text: &str) -> Option<String> {
    let side = |side: &str| {
        let (hour, minute) = side.trim().split_once(':').unwrap_or((side.trim(), "00"));
        Some(format!("{:02}:{minute:0>2}", hour.parse::<u8>().ok()?))
    };
    let (from, until) = text.split_once('-')?;
    let padded = format!("{}-{}", side(from)?, side(until)?);
    window(&padded).map(|_| padded)
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    if hour.len() != 2 || minute.len() != 2 {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}
