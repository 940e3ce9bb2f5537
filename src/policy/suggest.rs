//! A first policy, written from past decisions. It allows what was recorded and, where paths differ in one varying
//! segment, every value of that segment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;

use super::history::PastDecision;
use crate::identity::{Attribute, Identity};

/// The number of times that a route was used, and the time of the last use.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    times: usize,
    last: Timestamp,
    /// True if a connection became a WebSocket.
    switched: bool,
}

/// The requests of one client: the methods of each path, with `{id}` in the place of segments that vary.
type ObservedRoutes = BTreeMap<Vec<String>, BTreeMap<String, Evidence>>;

/// Writes a policy that allows the recorded requests. The policy passes `policy check`.
pub(crate) fn suggest(decisions: impl Iterator<Item = PastDecision>) -> String {
    let mut clients: BTreeMap<Box<str>, Vec<PastDecision>> = BTreeMap::new();
    for decision in decisions {
        clients.entry(decision.client.clone()).or_default().push(decision);
    }
    let mut names = BTreeSet::new();
    let (mut permissions, mut entries) = (String::new(), String::new());
    for (client, decisions) in clients {
        let attributes = decisions.first().map(|decision| decision.attributes.as_slice()).unwrap_or_default();
        let name = unique_name(&client, attributes, &mut names);
        let _ = writeln!(permissions, "  {name}:seen:");
        for (path, methods) in joined_paths(&decisions) {
            permissions += &route(&path, &methods);
        }
        let _ = writeln!(
            entries,
            "  - name: {name}\n    match: {{ {} }}",
            match_text(&identifying_attributes(attributes))
        );
        let _ = writeln!(entries, "    permissions: [\"{name}:seen\"]");
    }
    if permissions.is_empty() {
        return "# No requests were recorded, so nothing is allowed.\nversion: 1\n".to_owned();
    }
    format!(
        "# Learned from recorded requests. Read it before use: it allows everything that was recorded, also what should not be allowed.\n\
         version: 1\n\npermissions:\n{permissions}\nclients:\n{entries}"
    )
}

/// Joins paths that differ in one varying segment: `/events/17` and `/events/18` become `/events/{id}`.
fn joined_paths(decisions: &[PastDecision]) -> ObservedRoutes {
    let mut seen: ObservedRoutes = BTreeMap::new();
    for decision in decisions {
        let path: Vec<String> = decision.target.segments().map(segment).collect();
        let evidence = Evidence { times: 1, last: decision.time, switched: decision.switched };
        add(&mut seen, path, decision.target.method().as_str(), evidence);
    }
    let longest = seen.keys().map(Vec::len).max().unwrap_or(0);
    for position in 0..longest {
        let mut values: BTreeMap<(Vec<String>, Vec<String>), BTreeSet<String>> = BTreeMap::new();
        for path in seen.keys().filter(|path| path.len() > position) {
            values.entry(other_segments(path, position)).or_default().extend(path.get(position).cloned());
        }
        for (path, methods) in std::mem::take(&mut seen) {
            let is_varying = values
                .get(&other_segments(&path, position))
                .is_some_and(|values| values.len() >= LEAST_VALUES);
            let mut path = path;
            if let Some(segment) = path.get_mut(position)
                && (is_varying || is_id(segment))
                && !segment.is_empty()
                && position > 0
            {
                *segment = "{id}".to_owned();
            }
            for (method, evidence) in methods {
                add(&mut seen, path.clone(), &method, evidence);
            }
        }
    }
    seen
}

/// The number of different segments in one position from which on they are values and not names.
const LEAST_VALUES: usize = 4;

fn other_segments(path: &[String], position: usize) -> (Vec<String>, Vec<String>) {
    let before = path.get(..position).unwrap_or_default().to_vec();
    (before, path.get(position + 1..).unwrap_or_default().to_vec())
}

fn add(seen: &mut ObservedRoutes, path: Vec<String>, method: &str, evidence: Evidence) {
    let known =
        seen.entry(path).or_default().entry(method.to_owned()).or_insert(Evidence { times: 0, ..evidence });
    known.times += evidence.times;
    known.last = known.last.max(evidence.last);
    known.switched |= evidence.switched;
}

/// Returns true for numbers, UUIDs and other long runs of hexadecimal digits.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal = segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (digits > 0 && digits == segment.len()) || (hexadecimal && segment.len() >= 8 && digits > 0)
}

/// Returns a segment in the spelling of a route.
fn segment(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'@'
            | b':'
            | b'!'
            | b'$'
            | b'=' => {
                text.push(char::from(*byte));
            }
            byte => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

fn route(path: &[String], methods: &BTreeMap<String, Evidence>) -> String {
    let path: String =
        if path.is_empty() { "/".to_owned() } else { path.iter().map(|part| format!("/{part}")).collect() };
    let implied = |method: &str| method == "HEAD" && methods.contains_key("GET");
    let names: Vec<&str> = methods.keys().map(String::as_str).filter(|method| !implied(method)).collect();
    let switched = methods.values().any(|evidence| evidence.switched);
    let times: usize = methods.values().map(|evidence| evidence.times).sum();
    let last = methods.values().map(|evidence| evidence.last).max().unwrap_or_default();
    let last = last.strftime("%Y-%m-%d %H:%MZ");
    let route = format!("\"{} {path}\"", names.join("|"));
    let route = if switched { format!("{{ route: {route}, upgrade: websocket }}") } else { route };
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    format!("    - {route:<40} # {times}, last {last}\n")
}

/// Returns the keys and values of a `match` for this identity.
pub(crate) fn match_keys(identity: &Identity) -> Vec<(Attribute, String)> {
    let values = |attribute| identity.values(attribute).map(move |value| (attribute, value.to_owned()));
    identifying_attributes(&Attribute::ALL.into_iter().flat_map(values).collect::<Vec<_>>())
}

/// Returns the keys and values as they stand between the braces of `match`.
pub(crate) fn match_text(keys: &[(Attribute, String)]) -> String {
    keys.iter().map(|(key, value)| format!("{key}: {}", quoted(value))).collect::<Vec<_>>().join(", ")
}

/// Returns the attributes that distinguish one client from another.
fn identifying_attributes(attributes: &[(Attribute, String)]) -> Vec<(Attribute, String)> {
    let values = |attribute: Attribute| -> Vec<&String> {
        attributes.iter().filter(|(known, _)| *known == attribute).map(|(_, value)| value).collect()
    };
    let candidates =
        [Attribute::Uri, Attribute::CommonName, Attribute::Dns, Attribute::Email, Attribute::Fingerprint];
    let first =
        candidates.into_iter().find(|attribute| values(*attribute).len() == 1).unwrap_or(Attribute::Subject);
    let also = values(Attribute::Organization).len() == 1 && first != Attribute::Fingerprint;
    let keys = std::iter::once(first).chain(also.then_some(Attribute::Organization));
    keys.filter_map(|key| values(key).first().map(|value| (key, (*value).clone()))).collect()
}

/// Returns a YAML string in double quotes. The escapes of JSON are valid in YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns a name for the client entry that is not in `taken`, and adds it there.
fn unique_name(client: &str, attributes: &[(Attribute, String)], taken: &mut BTreeSet<String>) -> String {
    let called = attributes.iter().find(|(attribute, _)| *attribute == Attribute::CommonName);
    let called = called.map_or(client, |(_, value)| value.as_str());
    let called = called.rsplit('/').next().unwrap_or(called);
    let clean: String = called
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(40)
        .collect();
    let clean = clean.trim_matches('-');
    let base = if clean.is_empty() { "client" } else { clean };
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let name = std::iter::once(base.to_owned())
        .chain(numbered)
        .find(|name| !taken.contains(name))
        .unwrap_or_default();
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::super::history::{parse_record, replay};
    use super::super::lint::lint;
    use super::super::{Policy, model};
    use super::*;
    use crate::diagnostic::Source;

    fn lines() -> Vec<String> {
        let line = |client: &str, method: &str, path: &str| {
            serde_json::json!({
                "time": "2026-11-24T12:00:00Z", "client": client, "method": method, "path": path, "decision": "allowed",
            })
            .to_string()
        };
        let mut lines = vec![
            line("CN=reader,O=Shop", "GET", "/events"),
            line("CN=reader,O=Shop", "HEAD", "/events"),
            line("CN=reader,O=Shop", "GET", "/events/17"),
            line("CN=reader,O=Shop", "GET", "/events/18"),
            line("CN=reader,O=Shop", "GET", "/a%20b/*"),
            line("CN=reader,O=Other", "POST", "/"),
            line("spiffe://x/ns/y/sa/reader", "DELETE", "/jobs/550e8400-e29b-41d4-a716-446655440000/log"),
        ];
        lines.extend(
            ["ann", "bob", "cy", "dee"]
                .map(|user| line("CN=odd \"name\",O=Shop", "GET", &format!("/users/{user}/cart"))),
        );
        lines
    }

    #[test]
    fn the_policy_allows_recorded_requests_and_passes_check() {
        let lines = lines();
        let decisions = || lines.iter().filter_map(|line| parse_record(line));
        let text = suggest(decisions());
        let source = [Source::new("s.yaml", text.clone())];
        let (checked, _) = model(&source).unwrap_or_else(|problems| panic!("{text}\n{}", problems[0]));
        let warnings = lint(&checked, Timestamp::UNIX_EPOCH);
        assert!(warnings.is_empty(), "{text}\n{}", warnings[0]);
        let (same, changes) = replay(decisions(), &Policy::of(checked));
        assert_eq!((same, changes), (lines.len(), vec![]), "{text}");
        for part in [
            "\"GET /events/{id}\"                       # 2 times, last 2026-11-24 12:00Z",
            "\"GET /users/{id}/cart\"",
            "\"DELETE /jobs/{id}/log\"",
            "\"GET /a%20b/%2A\"",
            "match: { common_name: \"reader\", organization: \"Other\" }",
            "match: { common_name: \"odd \\\"name\\\"\", organization: \"Shop\" }",
            "- name: reader-2",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_recorded_websocket_is_suggested_as_one() {
        let line = |status: u16| {
            serde_json::json!({
                "time": "2026-11-24T12:00:00Z", "client": "CN=reader,O=Shop", "method": "GET", "path": format!("/{status}"),
                "decision": "denied", "done": "forwarded", "rule": null, "status": status,
            })
            .to_string()
        };
        let lines = [line(101), line(200)];
        let decisions = || lines.iter().filter_map(|line| parse_record(line));
        assert!(decisions().all(|decision| decision.passed_by_audit && !decision.allowed));
        let text = suggest(decisions());
        assert!(text.contains("- { route: \"GET /101\", upgrade: websocket }"), "{text}");
        assert!(text.contains("- \"GET /200\""), "{text}");
        assert!(model(&[Source::new("s.yaml", text)]).is_ok());
    }

    #[test]
    fn no_records_give_an_empty_policy() {
        let text = suggest(std::iter::empty());
        assert!(Policy::compile(&[Source::new("s.yaml", text)]).unwrap().0.allows_nothing());
    }
}
