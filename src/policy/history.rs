//! Past decisions, read back from audit records, to try another policy on them or to learn a first policy from them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::host::Host;
use super::matching::canonical_value;
use super::test_run::DEFAULT_SOURCE;
use super::{Policy, Question, Rights};
use crate::identity::{Attribute, Identity};
use crate::printable;
use crate::target::{Target, TargetRules};

/// A decision that an audit record holds.
#[derive(Clone, Debug)]
pub(crate) struct PastDecision {
    pub(crate) time: Timestamp,
    pub(crate) source: IpAddr,
    /// The client's name in the record.
    pub(crate) client: Box<str>,
    pub(crate) attributes: Vec<(Attribute, String)>,
    pub(crate) target: Target,
    pub(crate) allowed: bool,
    /// True if `mode: audit` forwarded the request although no grant allows it and no deny rule forbids it.
    pub(crate) passed_by_audit: bool,
    /// True if the connection became a WebSocket.
    pub(crate) switched: bool,
}

/// The fields of an audit record that are read here. All other fields are ignored.
#[derive(Deserialize)]
struct Record {
    time: Timestamp,
    source: Option<String>,
    client: Option<String>,
    /// The values of the certificate, by the keys of `match`, if the record holds them.
    identity: Option<BTreeMap<String, Vec<String>>>,
    method: String,
    path: String,
    decision: String,
    /// The action of the proxy.
    done: Option<String>,
    rule: Option<IgnoredAny>,
    status: Option<u16>,
}

/// Reads a line. Returns `None` if the line is not a decision about an authenticated client, such as another log line
/// or a failed handshake.
pub(crate) fn parse_record(line: &str) -> Option<PastDecision> {
    let record: Record = serde_json::from_str(line).ok()?;
    let allowed = match record.decision.as_str() {
        // The policy allowed the request. A failure of the backend, or an upload without its end, changes nothing in that.
        "allowed" | "unavailable" | "incomplete" => true,
        "denied" => false,
        _ => return None,
    };
    let is_passed_by_audit =
        |done: &str| !allowed && done != "insufficient_permissions" && record.rule.is_none();
    let passed_by_audit = record.done.as_deref().is_some_and(is_passed_by_audit);
    let client = record.client?;
    // A record that was cut short does not hold the client's names whole, so no policy can judge them.
    let identity = record.identity.as_ref();
    let values = identity.into_iter().flat_map(BTreeMap::values).flatten().map(String::as_str);
    if values.chain([&*client]).any(printable::is_cut) {
        return None;
    }
    let attributes = match record.identity {
        Some(identity) => attributes_of_identity(identity),
        None => attributes_of_name(&client),
    };
    let source = record.source.and_then(|source| {
        source.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| source.parse()).ok()
    });
    // The proxy judged the target by its own rules, so the lenient rules suffice here. A path that the record cut short
    // ends with a mark and is not a valid target.
    let target =
        Target::from_text(&format!("{} {}", record.method, record.path), TargetRules::LENIENT).ok()?;
    Some(PastDecision {
        time: record.time,
        source: source.unwrap_or(DEFAULT_SOURCE),
        client: client.into(),
        attributes,
        target,
        allowed,
        passed_by_audit,
        switched: record.status == Some(101),
    })
}

fn attributes_of_identity(identity: BTreeMap<String, Vec<String>>) -> Vec<(Attribute, String)> {
    let attributes =
        identity.into_iter().filter_map(|(name, values)| Some((Attribute::from_name(&name)?, values)));
    attributes
        .flat_map(|(attribute, values)| values.into_iter().map(move |value| (attribute, value)))
        .collect()
}

/// Returns the attributes that a client's name in a record implies: the subject and its parts, or one other attribute.
fn attributes_of_name(client: &str) -> Vec<(Attribute, String)> {
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
    vec![(attribute, canonical_value(attribute, client))]
}

/// Returns the parts of a distinguished name (RFC 4514) that have their own attribute. The result is empty for other
/// names.
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

/// Decisions about one client, one method and one path that the tried policy makes otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChangedDecision {
    pub(crate) client: Box<str>,
    pub(crate) request: String,
    /// True if the tried policy allows the request.
    pub(crate) allowed: bool,
    /// The entry of the tried policy that decides.
    pub(crate) rule: Option<String>,
    pub(crate) times: usize,
    pub(crate) last: Timestamp,
}

/// Returns the number of decisions that stay the same, and the decisions that change, the most frequent first.
pub(crate) fn replay(
    events: impl Iterator<Item = PastDecision>,
    policy: &Policy,
) -> (usize, Vec<ChangedDecision>) {
    let headers = HeaderMap::new();
    let mut known: BTreeMap<Vec<(Attribute, String)>, Rights> = BTreeMap::new();
    let mut changes: BTreeMap<(Box<str>, String, bool), ChangedDecision> = BTreeMap::new();
    let mut same = 0;
    for event in events {
        let PastDecision { time, source, client, attributes, target, allowed, .. } = event;
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
        let fresh = ChangedDecision { client, request, allowed: !allowed, rule, times: 0, last: time };
        let change = changes.entry(key).or_insert(fresh);
        change.times += 1;
        change.last = change.last.max(time);
    }
    let mut changes: Vec<ChangedDecision> = changes.into_values().collect();
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
        assert!(parse_record("listening on 0.0.0.0:8443").is_none());
        assert!(parse_record("{}").is_none());
        assert!(parse_record(&line("CN=a", ("GET", "/x"), "unauthenticated")).is_none());
        assert!(
            parse_record(&line("CN=a", ("GET", "/cut…"), "denied")).is_none(),
            "the path of a record that was cut short is not known"
        );
        let read = parse_record(&line("CN=a\\,b,O=Shop", ("GET", "/x"), "unavailable")).unwrap();
        assert!(read.allowed);
        assert_eq!(
            read.attributes,
            [
                (Attribute::Subject, "CN=a\\,b,O=Shop".to_owned()),
                (Attribute::CommonName, "a,b".to_owned()),
                (Attribute::Organization, "Shop".to_owned()),
            ]
        );
        let spiffe = parse_record(&line("spiffe://x/y", ("GET", "/x"), "denied")).unwrap();
        assert_eq!(spiffe.attributes, [(Attribute::Uri, "spiffe://x/y".to_owned())]);
    }

    #[test]
    fn only_changed_decisions_are_listed() {
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
        let (same, changes) = replay(lines.iter().filter_map(|line| parse_record(line)), &policy);
        assert_eq!(same, 2);
        let listed: Vec<_> =
            changes.iter().map(|c| (&*c.client, c.request.as_str(), c.allowed, c.times)).collect();
        assert_eq!(listed, [("CN=a", "POST /events", false, 2), ("CN=a", "GET /events/1", true, 1)]);
        assert_eq!(changes[1].rule.as_deref(), Some("a (p.yaml:3)"));
    }
}
