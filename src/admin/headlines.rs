//! The headlines of the page: what an operator should read first.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Running, Status};
use crate::forward::Condition;
use crate::identity::{Expiry, ExpiryKind};
use crate::policy::Mode;
use crate::refusal::Reason;
use crate::reload::{Outcome, Part, PartStatus};
use crate::telemetry::{Decision, Done, Refused, Sample};

/// The severity of a headline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Requests fail, or are about to fail.
    Critical,
    /// An operator should look.
    Warning,
    /// Good to know.
    Notice,
    /// Everything works.
    Fine,
}

/// One headline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Headline {
    pub(super) level: Level,
    pub(super) text: String,
    /// The time since which it holds, if known.
    pub(super) since: Option<Timestamp>,
    /// The view of the page with more about it.
    pub(super) view: &'static str,
}

impl Headline {
    fn new(level: Level, view: &'static str, text: impl Into<String>) -> Self {
        Self { level, text: text.into(), since: None, view }
    }
}

/// The facts that headlines are made of.
#[derive(Debug)]
pub(super) struct Facts<'s> {
    pub(super) status: &'s Status,
    /// The samples of the last minute.
    pub(super) samples: &'s [Sample],
    /// The refusals, the newest first.
    pub(super) refusals: &'s [Arc<Refused>],
    pub(super) now: Timestamp,
}

const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// Age of the last look at the files, in seconds, from which on the look counts as hanging.
const LONGEST_LOOK: u64 = 60;

/// The headlines of a running server, the worst first.
pub(super) fn of(running: &Running, facts: &Facts<'_>) -> Vec<Headline> {
    let mut all = Vec::new();
    all.extend(backend(facts.status));
    all.extend(slots(facts.status));
    all.extend(broken(facts.samples));
    all.extend(refused(facts));
    let expiring = running.expiring();
    let warnings = expiring.iter().filter_map(|expiry| {
        let level = if expiry.until < facts.now { Level::Critical } else { Level::Warning };
        Some(Headline::new(level, "trust", expiry.warning(facts.now)?.message))
    });
    all.extend(warnings);
    all.extend(reload(facts.status, &expiring, facts.now));
    all.extend(look(facts.status));
    all.extend(dropped(facts.status));
    all.extend(trial(facts.status));
    if !running.is_serving() {
        all.push(Headline::new(
            Level::Warning,
            "now",
            "the process is stopping and accepts no new connection",
        ));
    }
    all.sort_by_key(|headline| headline.level);
    if all.is_empty() {
        all.push(fine(facts.samples));
    }
    all
}

fn backend(status: &Status) -> Option<Headline> {
    let text = match status.backend {
        Condition::Down => "the backend is down: permitted requests get 504",
        Condition::Unwell => "the health check of the backend fails",
        Condition::Failing => "the last connections to the backend could not be made",
        Condition::Untried | Condition::Up => return None,
    };
    Some(Headline::new(Level::Critical, "now", text))
}

fn slots(status: &Status) -> Option<Headline> {
    let Status { slots_used, slots_limit, .. } = *status;
    if slots_used >= slots_limit {
        let text = format!("all {slots_limit} connection slots are taken: new clients get 504");
        return Some(Headline::new(Level::Critical, "connections", text));
    }
    (slots_used * 10 >= slots_limit * 9).then(|| {
        let text = format!("{slots_used} of {slots_limit} connection slots are taken");
        Headline::new(Level::Warning, "connections", text)
    })
}

/// The refusals of the last minute: their number, and the client that most of them concern.
fn refused(facts: &Facts<'_>) -> Option<Headline> {
    let total: u64 = facts.samples.iter().map(refused_in).sum();
    if total == 0 {
        return None;
    }
    let from = facts.now.saturating_sub(MINUTE).unwrap_or(facts.now);
    let mut groups: HashMap<(Option<&str>, Reason), Vec<&Refused>> = HashMap::new();
    for refused in facts.refusals.iter().filter(|refused| refused.time >= from) {
        groups.entry((refused.client.as_deref(), refused.reason)).or_default().push(refused);
    }
    let count = if total == 1 { "1 refusal".to_owned() } else { format!("{total} refusals") };
    // An authenticated client weighs more than others, of which there are always some.
    let weight = |((client, reason), group): &(&(Option<&str>, Reason), &Vec<&Refused>)| {
        (client.is_some() && *reason != Reason::NotAuthenticated, group.len())
    };
    let Some((key, group)) = groups.iter().max_by_key(weight) else {
        return Some(Headline::new(Level::Notice, "refusals", format!("{count} in the last minute")));
    };
    let level = if key.0.is_some() { Level::Warning } else { Level::Notice };
    let text = format!("{count} in the last minute: {}", describe(key.0, group));
    let since = beginning(facts.refusals, *key);
    Some(Headline { since, ..Headline::new(level, "refusals", text) })
}

/// The answers of the last minute that broke off by the backend's fault.
fn broken(samples: &[Sample]) -> Option<Headline> {
    let text = match ended(samples, Done::BrokenOff) {
        0 => return None,
        1 => "1 answer of the backend broke off in the last minute".to_owned(),
        count => format!("{count} answers of the backend broke off in the last minute"),
    };
    Some(Headline::new(Level::Warning, "now", text))
}

fn ended(samples: &[Sample], done: Done) -> u64 {
    samples.iter().map(|sample| u64::from(sample.unfinished(done))).sum()
}

fn refused_in(sample: &Sample) -> u64 {
    let refused =
        Decision::all().zip(sample.decisions).filter(|(decision, _)| *decision != Decision::Forwarded);
    refused.map(|(_, count)| u64::from(count)).sum()
}

/// The headline about one client, by its newest refusal.
fn describe(client: Option<&str>, group: &[&Refused]) -> String {
    let Some(newest) = group.first() else { return String::new() };
    let times = match group.len() {
        1 => String::new(),
        times => format!(" ({times} times)"),
    };
    let who = client.map_or_else(|| "a client without a name".to_owned(), |client| format!("`{client}`"));
    match newest.reason {
        Reason::NotAuthenticated => format!("clients without a certificate{times}"),
        Reason::InvalidCertificate => format!("{who} has no valid certificate{times}: {}", newest.detail),
        Reason::InsufficientPermissions => match &newest.rule {
            Some(rule) => format!("`{}` denies {who}{times}", rule.name),
            None => format!("{who}{times}: {}", newest.detail),
        },
        reason => format!("{who} got {} {times}: {}", reason.row().status.as_u16(), newest.detail)
            .replace("  ", " "),
    }
}

/// The time of the first such refusal, as far back as refusals are kept.
fn beginning(refusals: &[Arc<Refused>], (client, reason): (Option<&str>, Reason)) -> Option<Timestamp> {
    let same = |it: &&Arc<Refused>| it.client.as_deref() == client && it.reason == reason;
    refusals.iter().rev().find(same).map(|first| first.time)
}

/// Parts on disk that are not in force. If something of such a part is about to expire, the headline is as severe as that.
fn reload(status: &Status, expiring: &[Expiry], now: Timestamp) -> Vec<Headline> {
    let failing = status.reload.parts.iter().filter(|(_, part)| !part.success);
    let headline = |(part, status): (Part, &PartStatus)| {
        let ends = expiring.iter().any(|expiry| part_of(expiry.kind) == part && now >= expiry.warn_from());
        let level = if ends { Level::Critical } else { Level::Warning };
        let (name, since) = (part.name(), status.decided_at);
        match status.state {
            Outcome::Hanging => {
                let age = status.look_age_seconds;
                let text = format!(
                    "the files of `{name}` could not be read for {age} s: the previous state stays in force"
                );
                Headline::new(level, "trust", text)
            }
            _ => {
                let problems = match status.diagnostics.len() {
                    1 => "1 problem".to_owned(),
                    problems => format!("{problems} problems"),
                };
                let text = format!("`{name}` was refused for {problems}: its previous state stays in force");
                Headline { since, ..Headline::new(level, "trust", text) }
            }
        }
    };
    failing.map(headline).collect()
}

/// The part to which an expiring file belongs.
const fn part_of(kind: ExpiryKind) -> Part {
    match kind {
        ExpiryKind::Server => Part::ServerCertificates,
        ExpiryKind::Ca | ExpiryKind::Crl => Part::ClientTrust,
    }
}

/// The watchdog of the reading thread: its own look must end, also if no part is known to hang.
fn look(status: &Status) -> Option<Headline> {
    let age = status.reload.look_age_seconds;
    let is_explained = status.reload.parts.iter().any(|(_, part)| part.state == Outcome::Hanging);
    (age > LONGEST_LOOK && !is_explained).then(|| {
        let text = format!("the files were last read {age} s ago: changes on disk are not seen");
        Headline::new(Level::Warning, "trust", text)
    })
}

/// Trials on live traffic.
fn trial(status: &Status) -> Vec<Headline> {
    let mut all = Vec::new();
    if status.mode == Mode::Audit {
        let text = "`mode: audit`: requests that the policy denies are forwarded and recorded";
        all.push(Headline::new(Level::Notice, "refusals", text));
    }
    let Some(shadow) = &status.shadow else { return all };
    let differences: u64 = shadow.differences.iter().map(|counted| counted.count).sum();
    if differences > 0 {
        let count = if differences == 1 { "1 request".to_owned() } else { format!("{differences} requests") };
        let text = format!("`shadow_policies` would have decided {count} differently");
        all.push(Headline { since: shadow.since, ..Headline::new(Level::Notice, "policy?tab=shadow", text) });
    }
    all
}

fn dropped(status: &Status) -> Option<Headline> {
    let dropped = status.audit_dropped;
    let text = match dropped {
        0 => return None,
        1 => "1 audit record was lost since the start".to_owned(),
        dropped => format!("{dropped} audit records were lost since the start"),
    };
    Some(Headline::new(Level::Warning, "now", text))
}

fn fine(samples: &[Sample]) -> Headline {
    let forwarded: u64 = samples.iter().map(|sample| u64::from(sample.decided(Decision::Forwarded))).sum();
    let text = match forwarded {
        0 => "all is well: no requests in the last minute".to_owned(),
        1 => "all is well: 1 request in the last minute, forwarded".to_owned(),
        forwarded => format!("all is well: {forwarded} requests in the last minute, all forwarded"),
    };
    let text = match ended(samples, Done::ClientLeft) {
        0 => text,
        1 => format!("{text}; 1 client left before the end of its answer"),
        left => format!("{text}; {left} clients left before the end of their answers"),
    };
    Headline::new(Level::Fine, "now", text)
}
