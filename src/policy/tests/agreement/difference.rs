//! `policy diff` compared with brute force: a reported difference is confirmed by an evaluator that shares no code with
//! the comparison, and if none is reported, no request of a small space differs.

use std::collections::BTreeSet;

use proptest::test_runner::TestCaseError;

use super::super::super::diff::{ExampleRequest, PolicyDifference, RouteChange, diff};
use super::generated::{
    GeneratedClient, GeneratedDeny, GeneratedRoute, HOSTS, MODES, QUERIES, Window, client, deny, route,
    window,
};
use super::*;

/// One edit of a policy. Numbers are taken modulo the number of items.
#[derive(Clone, Debug)]
enum Edit {
    /// Edits that change only the spelling.
    ReverseRoutes(usize),
    ReverseClients,
    DuplicateClient(usize),
    RepeatRoute(usize),
    /// Edits that may change the meaning.
    AddRoute(usize, GeneratedRoute),
    ReplaceRoute(usize, GeneratedRoute),
    RemoveRoute(usize),
    Give(usize, usize),
    Withdraw(usize),
    ReplaceMatch(usize, GeneratedClient),
    When(usize, Window),
    AddDeny(GeneratedDeny),
    RemoveDeny(usize),
    DenyWhen(usize, Window),
}

fn edit() -> impl Strategy<Value = Edit> {
    let n = || 0usize..12;
    prop_oneof![
        n().prop_map(Edit::ReverseRoutes),
        Just(Edit::ReverseClients),
        n().prop_map(Edit::DuplicateClient),
        n().prop_map(Edit::RepeatRoute),
        (n(), route()).prop_map(|(at, route)| Edit::AddRoute(at, route)),
        (n(), route()).prop_map(|(at, route)| Edit::ReplaceRoute(at, route)),
        n().prop_map(Edit::RemoveRoute),
        (n(), n()).prop_map(|(client, permission)| Edit::Give(client, permission)),
        n().prop_map(Edit::Withdraw),
        (n(), client(1, 1)).prop_map(|(at, client)| Edit::ReplaceMatch(at, client)),
        (n(), window()).prop_map(|(at, when)| Edit::When(at, when)),
        deny(1, 1).prop_map(Edit::AddDeny),
        n().prop_map(Edit::RemoveDeny),
        (n(), window()).prop_map(|(at, when)| Edit::DenyWhen(at, when)),
    ]
}

fn one<T>(all: &mut [T], at: usize) -> Option<&mut T> {
    let length = all.len();
    if length == 0 { None } else { all.get_mut(at % length) }
}

impl Edit {
    fn apply(self, generated: &mut GeneratedPolicy) {
        match self {
            Self::ReverseRoutes(at) => {
                if let Some(routes) = one(&mut generated.permissions, at) {
                    routes.reverse();
                }
            }
            Self::ReverseClients if generated.denies.iter().all(|deny| deny.clients.is_none()) => {
                generated.clients.reverse();
            }
            Self::ReverseClients => {}
            Self::DuplicateClient(at) => {
                if let Some(client) = one(&mut generated.clients, at).cloned() {
                    generated.clients.push(client);
                }
            }
            Self::RepeatRoute(at) => {
                if let Some(routes) = one(&mut generated.permissions, at) {
                    routes.extend(routes.first().cloned());
                }
            }
            Self::AddRoute(at, route) => {
                if let Some(routes) = one(&mut generated.permissions, at) {
                    routes.push(route);
                }
            }
            Self::ReplaceRoute(at, new) => {
                if let Some(route) =
                    one(&mut generated.permissions, at).and_then(|routes| one(routes, at / 3))
                {
                    *route = new;
                }
            }
            Self::RemoveRoute(at) => {
                if let Some(routes) = one(&mut generated.permissions, at).filter(|routes| routes.len() > 1) {
                    routes.pop();
                }
            }
            Self::Give(at, permission) => {
                let permission = permission % generated.permissions.len();
                if let Some(client) = one(&mut generated.clients, at) {
                    client.permissions.push(permission);
                }
            }
            Self::Withdraw(at) => {
                if let Some(client) = one(&mut generated.clients, at) {
                    client.permissions.pop();
                    client.roles.pop();
                }
            }
            Self::ReplaceMatch(at, other) => {
                if let Some(client) = one(&mut generated.clients, at) {
                    client.alternatives = other.alternatives;
                }
            }
            Self::When(at, when) => {
                if let Some(client) = one(&mut generated.clients, at) {
                    client.when = when;
                }
            }
            Self::AddDeny(deny) => generated.denies.push(deny),
            Self::RemoveDeny(at) => {
                if !generated.denies.is_empty() {
                    generated.denies.remove(at % generated.denies.len());
                }
            }
            Self::DenyWhen(at, when) => {
                if let Some(deny) = one(&mut generated.denies, at) {
                    deny.when = when;
                }
            }
        }
    }
}

/// Returns policies that are small enough for brute force.
fn small() -> impl Strategy<Value = GeneratedPolicy> {
    generated_policy().prop_map(|mut generated| {
        let own = generated.permissions.iter_mut().flatten();
        for route in own.chain(generated.denies.iter_mut().flat_map(|deny| &mut deny.routes)) {
            route.segments.truncate(2);
        }
        generated
    })
}

/// The identities and requests that two policies can distinguish.
struct RequestSpace {
    identities: Vec<Vec<(Attribute, String)>>,
    calls: Vec<GeneratedRequest>,
}

impl RequestSpace {
    fn of(both: [&GeneratedPolicy; 2]) -> Self {
        let texts = both.map(|generated| generated.yaml().concat()).concat();
        let names = |key: &str| texts.contains(&format!("{key}:"));
        let weekly = texts.contains("days:") || texts.contains("hours:");
        let hours: &[i64] = match (weekly, texts.contains("when:")) {
            (true, _) => &HOURS,
            (false, true) => &[0, 72, 143, 144],
            (false, false) => &[0],
        };
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
        let mut calls = Vec::new();
        let methods: &[&'static str] = &["GET", "HEAD", "POST", "PUT", "BREW", "DELETE"];
        let methods = methods.iter().filter(|method| **method == "DELETE" || texts.contains(*method));
        let methods: Vec<&&str> = methods.collect();
        let said = || modes.iter().flat_map(|modes| hosts.iter().map(move |host| (*modes, *host)));
        for method in methods {
            for segments in paths() {
                for query in queries {
                    for hour in hours {
                        for inside in if texts.contains("source") { &[true, false][..] } else { &[true] } {
                            calls.extend(said().map(|(modes, host)| GeneratedRequest {
                                method,
                                segments: segments.clone(),
                                query,
                                modes,
                                host,
                                hour: *hour,
                                inside: *inside,
                                upgrade: false,
                            }));
                        }
                    }
                }
            }
        }
        let of = |attribute: Attribute, sets: &[&[&str]]| -> Vec<Vec<(Attribute, String)>> {
            let sets: &[&[&str]] = if names(attribute.name())
                || (attribute == Attribute::CommonName && texts.contains("client.c"))
            {
                sets
            } else {
                &[&[]]
            };
            sets.iter()
                .map(|set| set.iter().map(|value| (attribute, (*value).to_owned())).collect())
                .collect()
        };
        let common = of(
            Attribute::CommonName,
            &[&[], &["a"], &["b"], &["a-r"], &["b-r"], &["ab"], &["zz"], &["..-r"], &["a", "b"]],
        );
        let organizations = of(Attribute::Organization, &[&[], &["x"], &["y"], &["x", "y"], &["z"]]);
        let names =
            of(Attribute::Dns, &[&[], &["a.x"], &["b.x"], &["a.b.x"], &["*.x"], &["a.x", "b.x"], &["a.z"]]);
        let mut identities = Vec::new();
        for common in &common {
            for organization in &organizations {
                identities.extend(names.iter().map(|host| [&**common, organization, host].concat()));
            }
        }
        // One identity is enough of those that no entry and no capture distinguishes.
        let mut known = BTreeSet::new();
        identities
            .retain(|identity| known.insert(both.map(|generated| generated.observed_attributes(identity))));
        Self { identities, calls }
    }
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

fn models(both: [&GeneratedPolicy; 2]) -> Option<[Model; 2]> {
    let [old, new] = both.map(|generated| {
        let sources = generated.yaml().map(|text| Source::new("p.yaml", text));
        super::super::super::model(&sources).ok().map(|(model, _)| model)
    });
    Some([old?, new?])
}

/// The result of the comparison of all requests of a space.
struct Compared {
    /// True if a request is allowed in the second policy only.
    allowed: bool,
    /// True if a request is allowed in the first policy only.
    denied: bool,
    requests: usize,
}

fn brute_force(both: [&GeneratedPolicy; 2], models: &[Model; 2]) -> Compared {
    let world = RequestSpace::of(both);
    let policies = models.each_ref().map(|model| Policy::of(model.clone()));
    let calls: Vec<EngineRequest> = world.calls.iter().map(EngineRequest::of).collect();
    let (mut allowed, mut denied) = (false, false);
    for attributes in &world.identities {
        let identity = Identity::from_attributes(attributes.iter().cloned());
        let rights = policies.each_ref().map(|policy| policy.rights(&identity));
        for call in &calls {
            let question = call.question();
            let [old, new] = [0, 1].map(|at| policies[at].authorize(&rights[at], &question).is_ok());
            allowed |= new && !old;
            denied |= old && !new;
        }
    }
    Compared { allowed, denied, requests: world.identities.len() * calls.len() }
}

/// Returns an example in the form that the third evaluator reads.
fn call(request: &ExampleRequest) -> GeneratedRequest {
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let target = request.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let segments = path[1..].split('/').map(leak).collect();
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let modes: Vec<_> =
        request.headers().into_iter().map(|(name, value)| (leak(name), leak(value))).collect();
    GeneratedRequest {
        method: leak(request.method.as_str()),
        segments: if path == "/" { Vec::new() } else { segments },
        query: leak(query),
        modes: Box::leak(modes.into_boxed_slice()),
        host: request.host.as_deref().map(leak),
        hour: (request.now.as_second() - start.as_second()).div_euclid(3_600),
        inside: matches!(request.source, std::net::IpAddr::V4(address) if address.octets()[0] == 10),
        upgrade: request.upgrade,
    }
}

/// Checks that the two policies decide every example differently, in the reported direction.
fn examples_differ(
    both: [&GeneratedPolicy; 2],
    difference: &PolicyDifference<'_>,
) -> Result<(), TestCaseError> {
    for (changes, expected) in [(&difference.allowed, (false, true)), (&difference.denied, (true, false))] {
        for change in changes.iter().filter(|change| !change.websocket_only) {
            let call = call(&change.example);
            let [old, new] = both.map(|generated| generated.allows(&change.example.attributes, &call));
            prop_assert_eq!((old, new), expected, "{:?}", change);
            prop_assert!(change.route.methods.contains(&change.example.method));
        }
    }
    Ok(())
}

#[test]
fn a_difference_is_found_exactly_where_there_is_one() {
    let (requests, pairs, undecided) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let strategy = (small(), prop::collection::vec(edit(), 0..3));
    let run = TestRunner::new(cases(PAIRS)).run(&strategy, |(old, edits)| {
        let mut new = old.clone();
        edits.into_iter().for_each(|edit| edit.apply(&mut new));
        let routes = new.permissions.iter_mut().flatten();
        for route in routes.chain(new.denies.iter_mut().flat_map(|deny| &mut deny.routes)) {
            route.segments.truncate(2);
        }
        let both = [&old, &new];
        let Some(models) = models(both) else { return Ok(()) };
        let difference = diff(&models[0], &models[1], "2026-01-01T00:00:00Z".parse().unwrap());
        examples_differ(both, &difference)?;
        let compared = brute_force(both, &models);
        requests.set(requests.get() + compared.requests);
        pairs.set(pairs.get() + 1);
        undecided.set(undecided.get() + usize::from(!difference.undecided.is_empty()));
        let may = |is: bool| difference.undecided.iter().any(|open| open.allowed == is);
        let yaml = || format!("{}\n=====\n{}", old.yaml().concat(), new.yaml().concat());
        let seen = |list: &[RouteChange<'_>], is: bool| may(is) || !list.is_empty();
        prop_assert!(!compared.allowed || seen(&difference.allowed, true), "not seen as allowed\n{}", yaml());
        prop_assert!(!compared.denied || seen(&difference.denied, false), "not seen as denied\n{}", yaml());
        Ok(())
    });
    let (requests, pairs, undecided) = (requests.get(), pairs.get(), undecided.get());
    println!("{requests} requests to {pairs} pairs, {undecided} of them undecided");
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(requests >= QUESTIONS, "only {requests} requests were compared");
    assert!(undecided * 10 <= pairs, "{undecided} of {pairs} were not decided: that proves too little");
}

/// The number of pairs. Brute force takes most of the time; this many pairs take some seconds.
const PAIRS: u32 = 40;
