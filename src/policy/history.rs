//! What was asked and how it was decided, read back from audit records: to try another policy on it, and to learn a
//! first policy from it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::host::Host;
use super::matching::spelled;
use super::trial::NOWHERE;
use super::{Policy, Question, Rights};
use crate::identity::{Attribute, Identity};
use crate::target::{Target, TargetRules};

/// One decision of the past.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) time: Timestamp,
    pub(crate) source: IpAddr,
    /// How the record names the client.
    pub(crate) client: Box<str>,
    pub(crate) attributes: Vec<(Attribute, String)>,
    pub(crate) target: Target,
    pub(crate) allowed: bool,
    /// Whether it was let pass although no grant allows it: by `mode: audit`, and not against a deny rule.
    pub(crate) let_pass: bool,
    /// Whether it became a WebSocket.
    pub(crate) switched: bool,
}

/// An audit record, as far as it is needed here. Everything else of a line is left alone.
#[derive(Deserialize)]
struct Record {
    time: Timestamp,
    source: Option<String>,
    client: Option<String>,
    /// What the certificate says, where the record holds it: lists of values by the keys of `match`.
    identity: Option<BTreeMap<String, Vec<String>>>,
    method: String,
    path: String,
    decision: String,
    /// What was done.
    done: Option<String>,
    rule: Option<IgnoredAny>,
    status: Option<u16>,
}

/// Reads a line. `None` for what is no decision about an authenticated client: other log lines, refused handshakes.
pub(crate) fn event(line: &str) -> Option<Event> {
    let record: Record = serde_json::from_str(line).ok()?;
    let allowed = match record.decision.as_str() {
        // What the backend then made of it is not the policy's matter.
        "allowed" | "unavailable" => true,
        "denied" => false,
        _ => return None,
    };
    let is_let_pass = |done: &str| !allowed && done != "insufficient_permissions" && record.rule.is_none();
    let let_pass = record.done.as_deref().is_some_and(is_let_pass);
    let client = record.client?;
    let attributes = match record.identity {
        Some(identity) => named(identity),
        None => of_name(&client),
    };
    let source = record.source.and_then(|source| {
        source.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| source.parse()).ok()
    });
    // It was judged when it was asked, by the rules that held then. A path that the record holds only the start of is no target,
    // because of the mark at its end.
    let target =
        Target::from_text(&format!("{} {}", record.method, record.path), TargetRules::LENIENT).ok()?;
    Some(Event {
        time: record.time,
        source: source.unwrap_or(NOWHERE),
        client: client.into(),
        attributes,
        target,
        allowed,
        let_pass,
        switched: record.status == Some(101),
    })
}

fn named(identity: BTreeMap<String, Vec<String>>) -> Vec<(Attribute, String)> {
    let attributes =
        identity.into_iter().filter_map(|(name, values)| Some((Attribute::from_name(&name)?, values)));
    attributes
        .flat_map(|(attribute, values)| values.into_iter().map(move |value| (attribute, value)))
        .collect()
}

/// What a client's name in a record says of it: its subject, or the first of its other names.
fn of_name(client: &str) -> Vec<(Attribute, String)> {
    let is_digest = client.len() == 64 && client.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest {
        return vec![(Attribute::Fingerprint, client.to_owned())];
    }
    let parts = relative_names(client);
    if !parts.is_empty() {
        let whole = (Attribute::Subject, client.to_owned());
        return std::iter::once(whole).chain(parts).collect();
    }
    let attribute = if client.contains(':') { Attribute::Uri } else { Attribute::Dns };
    vec![(attribute, spelled(attribute, client))]
}

/// The parts of a distinguished name (RFC 4514) that have an attribute of their own; none if it is no such name.
fn relative_names(name: &str) -> Vec<(Attribute, String)> {
    let mut parts = vec![String::new()];
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        match (character, parts.last_mut()) {
            (',' | '+', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(characters.next()),
            (character, Some(part)) => part.push(character),
            _ => {}
        }
    }
    let part = |part: &String| {
        let (key, value) = part.split_once('=')?;
        let attribute = match key.trim() {
            "CN" => Attribute::CommonName,
            "O" => Attribute::Organization,
            "OU" => Attribute::OrganizationalUnit,
            "C" => Attribute::Country,
            "L" => Attribute::Locality,
            "ST" => Attribute::State,
            _ => return None,
        };
        Some((attribute, value.to_owned()))
    };
    parts.iter().filter_map(part).collect()
}

/// Decisions that another policy makes otherwise: of one client, one method and path, one way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) client: Box<str>,
    pub(crate) request: String,
    /// Whether it is allowed now.
    pub(crate) allowed: bool,
    /// The entry that decides now.
    pub(crate) rule: Option<String>,
    pub(crate) times: usize,
    pub(crate) last: Timestamp,
}

/// How many decisions stay as they were, and those that change, most frequent first.
pub(crate) fn replay(events: impl Iterator<Item = Event>, policy: &Policy) -> (usize, Vec<Change>) {
    let headers = HeaderMap::new();
    let mut known: BTreeMap<Vec<(Attribute, String)>, Rights> = BTreeMap::new();
    let mut changes: BTreeMap<(Box<str>, String, bool), Change> = BTreeMap::new();
    let mut same = 0;
    for event in events {
        let Event { time, source, client, attributes, target, allowed, .. } = event;
        let rights = known.entry(attributes).or_insert_with_key(|attributes| {
            policy.rights(&Identity::from_attributes(attributes.iter().cloned()))
        });
        let question = Question {
            target: &target,
            host: Host::Unrecorded,
            headers: Some(&headers),
            source,
            now: time,
            upgrade: None,
        };
        let verdict = policy.authorize(rights, &question);
        if verdict.is_ok() == allowed {
            same += 1;
            continue;
        }
        let rule = match &verdict {
            Ok(permit) => Some(permit.rule()),
            Err(denied) => denied.rule(),
        };
        let rule = rule.map(|rule| format!("{} ({}:{})", rule.name, rule.file, rule.line));
        let request = format!("{} {}", target.method(), target.path());
        let key = (client.clone(), request.clone(), !allowed);
        let fresh = Change { client, request, allowed: !allowed, rule, times: 0, last: time };
        let change = changes.entry(key).or_insert(fresh);
        change.times += 1;
        change.last = change.last.max(time);
    }
    let mut changes: Vec<Change> = changes.into_values().collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.times));
    (same, changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    fn line(client: &str, request: (&str, &str), decision: &str) -> String {
        serde_json::json!({
            "time": "2026-11-24T12:00:00Z", "source": "10.0.0.1:4711", "client": client,
            "method": request.0, "path": request.1, "decision": decision, "status": 200,
        })
        .to_string()
    }

    #[test]
    fn only_decisions_about_clients_are_read() {
        assert!(event("listening on 0.0.0.0:8443").is_none());
        assert!(event("{}").is_none());
        assert!(event(&line("CN=a", ("GET", "/x"), "unauthenticated")).is_none());
        assert!(event(&line("CN=a", ("GET", "/cut…"), "denied")).is_none(), "nobody knows what was asked");
        let read = event(&line("CN=a\\,b,O=Shop", ("GET", "/x"), "unavailable")).unwrap();
        assert!(read.allowed);
        assert_eq!(
            read.attributes,
            [
                (Attribute::Subject, "CN=a\\,b,O=Shop".to_owned()),
                (Attribute::CommonName, "a,b".to_owned()),
                (Attribute::Organization, "Shop".to_owned()),
            ]
        );
        let spiffe = event(&line("spiffe://x/y", ("GET", "/x"), "denied")).unwrap();
        assert_eq!(spiffe.attributes, [(Attribute::Uri, "spiffe://x/y".to_owned())]);
    }

    #[test]
    fn what_changes_is_counted_and_the_rest_is_not_told() {
        let text = "version: 1
permissions: { read: [\"GET /events/**\"] }
clients: [{ name: a, match: { common_name: a }, permissions: [read] }]
";
        let (policy, _) = Policy::compile(&[Source::new("p.yaml", text)]).unwrap();
        let lines = [
            line("CN=a", ("GET", "/events"), "allowed"),
            line("CN=a", ("POST", "/events"), "allowed"),
            line("CN=a", ("POST", "/events"), "allowed"),
            line("CN=a", ("GET", "/events/1"), "denied"),
            line("CN=b", ("GET", "/events"), "denied"),
        ];
        let (same, changes) = replay(lines.iter().filter_map(|line| event(line)), &policy);
        assert_eq!(same, 2);
        let told: Vec<_> =
            changes.iter().map(|c| (&*c.client, c.request.as_str(), c.allowed, c.times)).collect();
        assert_eq!(told, [("CN=a", "POST /events", false, 2), ("CN=a", "GET /events/1", true, 1)]);
        assert_eq!(changes[1].rule.as_deref(), Some("a (p.yaml:3)"));
    }
}
