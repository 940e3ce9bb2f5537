//! A small space of identities and requests, for brute force.

use std::collections::BTreeSet;

use super::super::generated::{GeneratedPolicy, GeneratedRequest, HOSTS, MODES, QUERIES};
use crate::identity::Attribute;

/// The identities and requests that two policies can distinguish.
pub(super) struct RequestSpace {
    pub(super) identities: Vec<Vec<(Attribute, String)>>,
    pub(super) calls: Vec<GeneratedRequest>,
}

impl RequestSpace {
    pub(super) fn of(both: [&GeneratedPolicy; 2]) -> Self {
        let texts = both.map(|generated| generated.yaml().concat()).concat();
        Self { identities: identities(both, &texts), calls: calls(&texts) }
    }
}

/// Returns the requests that policies with these texts can distinguish.
fn calls(texts: &str) -> Vec<GeneratedRequest> {
    // If one kind of condition occurs, the space has everything that it distinguishes. If several kinds occur, the
    // space has a part of it, because it would be too large otherwise.
    let kinds = ["headers:", "hosts:", "query:"].into_iter().filter(|kind| texts.contains(kind)).count();
    let (modes, hosts, queries) = match kinds {
        0 | 1 => (&MODES[1..7], &HOSTS[..7], &QUERIES[..8]),
        _ => (&MODES[1..4], &HOSTS[..2], &QUERIES[..3]),
    };
    let modes = if texts.contains("headers:") { modes } else { &MODES[..1] };
    let hosts = if texts.contains("hosts:") { hosts } else { &HOSTS[1..2] };
    let queries = if texts.contains("query:") { queries } else { &QUERIES[..1] };
    let insides = if texts.contains("source") { &[true, false][..] } else { &[true] };
    let methods = METHODS.iter().filter(|method| **method == "DELETE" || texts.contains(*method));
    let mut calls = Vec::new();
    for method in methods {
        for segments in paths() {
            for (query, hour, inside) in combinations(queries, hours(texts), insides) {
                let pairs = modes.iter().flat_map(|modes| hosts.iter().map(move |host| (*modes, *host)));
                calls.extend(pairs.map(|(modes, host)| GeneratedRequest {
                    method,
                    segments: segments.clone(),
                    query,
                    modes,
                    host,
                    hour,
                    inside,
                    upgrade: false,
                }));
            }
        }
    }
    calls
}

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "BREW", "DELETE"];

fn combinations(queries: &[&'static str], hours: &[i64], insides: &[bool]) -> Vec<(&'static str, i64, bool)> {
    let mut all = Vec::new();
    for query in queries {
        for hour in hours {
            all.extend(insides.iter().map(|inside| (*query, *hour, *inside)));
        }
    }
    all
}

/// Returns the hours that policies with these texts can distinguish.
fn hours(texts: &str) -> &'static [i64] {
    let is_weekly = texts.contains("days:") || texts.contains("hours:");
    match (is_weekly, texts.contains("when:")) {
        (true, _) => &HOURS,
        (false, true) => &[0, 72, 143, 144],
        (false, false) => &[0],
    }
}

/// Returns the identities that the policies can distinguish.
fn identities(both: [&GeneratedPolicy; 2], texts: &str) -> Vec<Vec<(Attribute, String)>> {
    let common = value_sets(
        texts,
        Attribute::CommonName,
        &[&[], &["a"], &["b"], &["a-r"], &["b-r"], &["ab"], &["zz"], &["..-r"], &["a", "b"]],
    );
    let organizations =
        value_sets(texts, Attribute::Organization, &[&[], &["x"], &["y"], &["x", "y"], &["z"]]);
    let names = value_sets(
        texts,
        Attribute::Dns,
        &[&[], &["a.x"], &["b.x"], &["a.b.x"], &["*.x"], &["a.x", "b.x"], &["a.z"]],
    );
    let mut identities = Vec::new();
    for common in &common {
        for organization in &organizations {
            identities.extend(names.iter().map(|host| [&**common, organization, host].concat()));
        }
    }
    // One identity is enough of those that no entry and no capture distinguishes.
    let mut known = BTreeSet::new();
    identities.retain(|identity| known.insert(both.map(|generated| generated.observed_attributes(identity))));
    identities
}

/// Returns sets of values of an attribute; only the empty set if the texts do not use the attribute.
fn value_sets(texts: &str, attribute: Attribute, sets: &[&[&str]]) -> Vec<Vec<(Attribute, String)>> {
    let is_used = texts.contains(&format!("{}:", attribute.name()))
        || (attribute == Attribute::CommonName && texts.contains("client.c"));
    let sets: &[&[&str]] = if is_used { sets } else { &[&[]] };
    sets.iter().map(|set| set.iter().map(|value| (attribute, (*value).to_owned())).collect()).collect()
}

/// One hour for each combination of weekly windows and bounds of time.
const HOURS: [i64; 12] = [0, 10, 30, 50, 71, 73, 76, 80, 100, 120, 150, 168];

fn paths() -> Vec<Vec<&'static str>> {
    let segments = ["a", "b", "A", "ab", "a-r", "zz"];
    let mut paths: Vec<Vec<&'static str>> = vec![vec![], vec!["a", "a", "a"], vec!["b", "a", "zz"]];
    for first in segments {
        paths.push(vec![first]);
        paths.extend(segments.iter().chain(&[""]).map(|second| vec![first, *second]));
    }
    paths
}
