//! `sidegate policy diff`.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{NEGATIVE_ANSWER, Output, SUCCESS, instant, load};
use crate::policy::diff::{
    ForbiddingRule, LimitsChange, PolicyDifference, RouteChange, TimeoutsChange, UndecidedRoute, diff,
};
use crate::policy::trace::file_and_line;
use crate::policy::{Limits, RouteTimeouts};

/// Show what a change of policy newly allows and newly denies, with an example of each
///
/// The answer is exact: the meanings of both policies are compared, not their lines, and not by sample requests. Exits
/// with 0 if both policies allow the same requests and with 1 if they differ.
#[derive(Debug, Args)]
pub struct Diff {
    /// Policy before the change: a file, or a folder of files
    old: PathBuf,
    /// Policy after the change: a file, or a folder of files
    new: PathBuf,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Time of the examples, unless a condition needs another [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Human,
    /// JSON for programs
    Json,
    /// Markdown for a comment on a pull request
    Markdown,
}

/// The words for one direction of a change.
struct Direction {
    title: &'static str,
    /// The verb of an example, and the contrast to the other policy.
    can: &'static str,
    contrast: &'static str,
    denied: &'static str,
    heading: &'static str,
}

const ALLOWED: Direction = Direction {
    title: "newly allowed",
    can: "may",
    contrast: "now, and could not before",
    denied: "was denied",
    heading: "Newly allowed",
};
const DENIED: Direction = Direction {
    title: "newly denied",
    can: "could",
    contrast: "before, and cannot now",
    denied: "denied",
    heading: "Newly denied",
};

const SAME: &str = "no change in what is allowed";

impl Diff {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        let now = self.at.unwrap_or_else(Timestamp::now);
        let (old, new) = match (load(&[self.old]), load(&[self.new])) {
            (Ok(old), Ok(new)) => (old, new),
            (old, new) => {
                let problems = [old.err(), new.err()].into_iter().flatten().flatten();
                return output.bad_input(&problems.collect::<Vec<_>>());
            }
        };
        let difference = diff(&old, &new, now);
        let text = match self.format {
            Format::Human => human(&difference),
            Format::Json => format!("{:#}\n", as_json(&difference)),
            Format::Markdown => markdown(&difference),
        };
        output.out.write_all(text.as_bytes())?;
        Ok(if difference.is_none() { SUCCESS } else { NEGATIVE_ANSWER })
    }
}

fn human(difference: &PolicyDifference<'_>) -> String {
    let mut text = String::new();
    if difference.is_none() {
        text += &format!("{SAME}\n");
    }
    for (direction, changes) in [(&ALLOWED, &difference.allowed), (&DENIED, &difference.denied)] {
        if !changes.is_empty() {
            text += &format!("{}\n", direction.title);
        }
        for change in changes {
            let RouteChange { entry, permission, .. } = change;
            let (name, place) = (&entry.text, file_and_line(&entry.place));
            text += &format!("  {name} ({place})  {}{}\n", requests(change), when(change));
            let route = file_and_line(&change.route.place);
            text += &format!(
                "    who: {}; through {} ({route})\n",
                change.match_words.join(", or "),
                permission.text
            );
            if let Some(rule) = &change.denied_by {
                text += &format!("    {} by the deny rule {}\n", direction.denied, deny(rule));
            }
            text += &format!("    example: {}\n", example(change, direction));
        }
    }
    for open in &difference.undecided {
        text += &format!("{}\n", undecided(open));
    }
    for limits in &difference.limits {
        text += &format!("{}\n", limits_words(limits));
    }
    for timeouts in &difference.timeouts {
        text += &format!("{}\n", timeouts_words(timeouts));
    }
    text
}

fn markdown(difference: &PolicyDifference<'_>) -> String {
    let mut text = String::new();
    if difference.is_none() {
        text += "**No change in what is allowed.**\n";
    }
    for (direction, changes) in [(&ALLOWED, &difference.allowed), (&DENIED, &difference.denied)] {
        if changes.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text += "\n";
        }
        text +=
            &format!("### {}\n\n| client | requests | example |\n| --- | --- | --- |\n", direction.heading);
        for change in changes {
            let client = format!("`{}` ({})", change.entry.text, file_and_line(&change.entry.place));
            let denied = change.denied_by.as_ref();
            let denied = denied.map(|rule| format!(", {} by the deny rule {}", direction.denied, deny(rule)));
            let requests = format!("`{}`{}{}", requests(change), when(change), denied.unwrap_or_default());
            let cells = [client, requests, example(change, direction)];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    let notes = difference.undecided.iter().map(undecided).chain(difference.limits.iter().map(limits_words));
    let notes = notes.chain(difference.timeouts.iter().map(timeouts_words));
    for (number, note) in notes.enumerate() {
        text += if number == 0 { "\n" } else { "" };
        text += &format!("- {note}\n");
    }
    text
}

fn as_json(difference: &PolicyDifference<'_>) -> Value {
    let undecided = difference.undecided.iter().map(|open| {
        json!({
            "may_be": if open.allowed { "newly allowed" } else { "newly denied" },
            "client": open.entry.text, "at": file_and_line(&open.entry.place),
            "permission": open.permission.text, "route": open.route.text, "route_at": file_and_line(&open.route.place),
        })
    });
    let limits = difference.limits.iter().map(|limits| {
        json!({
            "client": limits.entry.text, "at": file_and_line(&limits.entry.place),
            "old": limits_json(limits.old), "new": limits_json(limits.new),
        })
    });
    let mut json = json!({
        "changed": !difference.is_none(),
        "newly_allowed": difference.allowed.iter().map(change_json).collect::<Vec<_>>(),
        "newly_denied": difference.denied.iter().map(change_json).collect::<Vec<_>>(),
        "undecided": undecided.collect::<Vec<_>>(),
        "limits": limits.collect::<Vec<_>>(),
    });
    // The field is present only if a time limit changed, so that the output for other policies stays as it was.
    if let (false, Some(fields)) = (difference.timeouts.is_empty(), json.as_object_mut()) {
        let timeouts = difference.timeouts.iter().map(|timeouts| {
            json!({
                "permission": timeouts.permission.text,
                "route": timeouts.route.text, "route_at": file_and_line(&timeouts.route.place),
                "old": timeouts.old.to_string(), "new": timeouts.new.to_string(),
            })
        });
        fields.insert("timeouts".to_owned(), timeouts.collect());
    }
    json
}

fn change_json(change: &RouteChange<'_>) -> Value {
    let request = &change.example;
    let client: Vec<Value> =
        request.attributes.iter().map(|(attribute, value)| json!({ attribute.name(): value })).collect();
    let headers: Vec<Value> =
        request.headers().iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    json!({
        "client": change.entry.text, "at": file_and_line(&change.entry.place), "who": change.match_words,
        "permission": change.permission.text,
        "route": change.route.text, "route_at": file_and_line(&change.route.place),
        "methods": change.methods, "websocket_only": change.websocket_only, "conditions": change.conditions,
        "denied_by": change.denied_by.as_ref().map(|rule| {
            json!({ "name": rule.entry.text, "at": file_and_line(&rule.entry.place), "conditions": rule.conditions })
        }),
        "example": {
            "client": client, "method": request.method.as_str(), "target": request.target(),
            "host": request.host.as_ref().filter(|_| request.host_matters), "headers": headers,
            "source": request.source.to_string(), "time": request.now.to_string(), "websocket": request.upgrade.is_some(),
        },
    })
}

fn limits_json(limits: Limits) -> Value {
    let mut json = json!({
        "requests_per_second": limits.requests_per_second, "burst": limits.burst,
        "connections": limits.connections, "priority": limits.priority.name(),
    });
    // The field is present only if the limit is set, so that the output for other policies stays as it was.
    if let (Some(in_flight), Some(fields)) = (limits.in_flight, json.as_object_mut()) {
        fields.insert("in_flight".to_owned(), in_flight.into());
    }
    json
}

/// Returns the methods that changed and the path, such as `POST /events`.
fn requests(change: &RouteChange<'_>) -> String {
    let path = change.route.text.split_once(' ').map(|(_, path)| path.trim()).unwrap_or_default();
    let switch = if change.websocket_only { ", switching to WebSocket" } else { "" };
    format!("{} {path}{switch}", change.methods)
}

fn when(change: &RouteChange<'_>) -> String {
    match change.conditions.as_slice() {
        [] => String::new(),
        conditions => format!(" when {}", conditions.join(" and ")),
    }
}

fn deny(rule: &ForbiddingRule<'_>) -> String {
    let conditions = rule.conditions.join(" and ");
    let conditions = if conditions.is_empty() { conditions } else { format!(", while {conditions}") };
    format!("`{}` ({}){conditions}", rule.entry.text, file_and_line(&rule.entry.place))
}

fn example(change: &RouteChange<'_>, direction: &Direction) -> String {
    let request = &change.example;
    let has: Vec<String> =
        request.attributes.iter().map(|(attribute, value)| format!("{attribute} `{value}`")).collect();
    let client =
        if has.is_empty() { "any client".to_owned() } else { format!("a client with {}", has.join(" and ")) };
    let mut words = format!("{client} {} {} {}", direction.can, request.method, request.target());
    if request.host_matters {
        words += &match &request.host {
            Some(host) => format!(" at the host `{host}`"),
            None => " without a host".to_owned(),
        };
    }
    for (name, value) in request.headers() {
        words += &format!(" with the header `{name}: {value}`");
    }
    if request.source_matters {
        words += &format!(" from {}", request.source);
    }
    if request.time_matters {
        words += &format!(" at {}", request.now);
    }
    if request.upgrade.is_some() {
        words += " and switch to WebSocket";
    }
    format!("{words} {}", direction.contrast)
}

fn undecided(open: &UndecidedRoute<'_>) -> String {
    let what = if open.allowed { "allows" } else { "denies" };
    format!(
        "not decided within the budget: `{}` ({}) may have changed in what it newly {what} by `{}` ({})",
        open.entry.text,
        file_and_line(&open.entry.place),
        open.route.text,
        file_and_line(&open.route.place)
    )
}

fn timeouts_words(timeouts: &TimeoutsChange<'_>) -> String {
    let TimeoutsChange { permission, route, old, new } = timeouts;
    let said = |timeouts: &RouteTimeouts| match timeouts.is_empty() {
        true => "those of the configuration".to_owned(),
        false => timeouts.to_string(),
    };
    let place = file_and_line(&route.place);
    format!("time limits of {} in {} ({place}): {} → {}", route.text, permission.text, said(old), said(new))
}

fn limits_words(limits: &LimitsChange<'_>) -> String {
    let LimitsChange { entry, old, new } = limits;
    let parts = [
        ("requests_per_second", old.requests_per_second, new.requests_per_second),
        ("burst", old.burst, new.burst),
        ("connections", old.connections, new.connections),
        ("in_flight", old.in_flight, new.in_flight),
    ];
    let said = |number: Option<u32>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let parts = parts.iter().filter(|(_, old, new)| old != new);
    let mut parts: Vec<String> =
        parts.map(|(name, old, new)| format!("{name} {} → {}", said(*old), said(*new))).collect();
    if old.priority != new.priority {
        parts.push(format!("priority {} → {}", old.priority.name(), new.priority.name()));
    }
    format!("limits of {} ({}): {}", entry.text, file_and_line(&entry.place), parts.join(", "))
}
