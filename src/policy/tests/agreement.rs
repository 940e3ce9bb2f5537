//! The compiled policy, the plain reading of it, and a third evaluator that shares no code with either, held against
//! each other on generated policies, identities and requests. And: order never matters.

mod difference;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::select;

use super::super::trace::Reading;
use super::*;

/// A policy as the generator thinks of it; written out as YAML, and judged as it is.
#[derive(Clone, Debug)]
struct Written {
    permissions: Vec<Vec<WrittenRoute>>,
    roles: Vec<Vec<Member>>,
    clients: Vec<WrittenClient>,
    denies: Vec<WrittenDeny>,
}

#[derive(Clone, Debug)]
struct WrittenRoute {
    methods: &'static str,
    segments: Vec<&'static str>,
    rest: bool,
    /// The values that `q` may have.
    query: Option<Vec<&'static str>>,
    upgrade: bool,
}

#[derive(Clone, Copy, Debug)]
enum Member {
    Permission(usize),
    Role(usize),
    AllPermissions,
}

#[derive(Clone, Debug)]
struct WrittenClient {
    alternatives: Vec<Vec<(Attribute, Vec<&'static str>)>>,
    roles: Vec<usize>,
    permissions: Vec<usize>,
    when: Window,
}

#[derive(Clone, Debug)]
struct WrittenDeny {
    clients: Option<Vec<usize>>,
    permissions: Vec<usize>,
    routes: Vec<WrittenRoute>,
    when: Window,
}

/// Bounds of time, in days, and whether only one network is meant.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Option<u8>,
    until: Option<u8>,
    inside: bool,
}

#[derive(Clone, Debug)]
struct Call {
    method: &'static str,
    segments: Vec<&'static str>,
    query: &'static str,
    day: u8,
    inside: bool,
    upgrade: bool,
}

fn route() -> impl Strategy<Value = WrittenRoute> {
    let segment = select(vec!["a", "b", "A", "{x}", "*", "a*", "*b", "{client.t}", "{client.common_name}"]);
    let query = prop_oneof![3 => Just(None), 1 => Just(Some(vec!["1"])), 1 => Just(Some(vec!["*"])), 1 => Just(Some(vec!["1", "2"]))];
    let methods = select(vec!["GET", "POST", "*", "GET|PUT", "BREW", "HEAD"]);
    (methods, prop::collection::vec(segment, 0..4), any::<bool>(), query, prop::bool::weighted(0.2)).prop_map(
        |(methods, segments, rest, query, upgrade)| WrittenRoute { methods, segments, rest, query, upgrade },
    )
}

fn window() -> impl Strategy<Value = Window> {
    let bounds = prop_oneof![4 => Just((None, None)), 1 => Just((Some(3), None)), 1 => Just((None, Some(6))), 1 => Just((Some(3), Some(6)))];
    (bounds, prop::bool::weighted(0.2)).prop_map(|((from, until), inside)| Window { from, until, inside })
}

fn client(roles: usize, permissions: usize) -> impl Strategy<Value = WrittenClient> {
    let names = select(vec!["a", "b", "{t}-r", "{t}", "*", "{t}-{u}", "a*", "b-r"]);
    let hosts = select(vec!["*.x", "{t}.x", "a.x", "**.x", "{t}.*", "A.X"]);
    let test = prop_oneof![
        prop::collection::vec(names, 1..3).prop_map(|values| (Attribute::CommonName, values)),
        prop::collection::vec(select(vec!["x", "y", "*"]), 1..3)
            .prop_map(|values| (Attribute::Organization, values)),
        prop::collection::vec(hosts, 1..3).prop_map(|values| (Attribute::Dns, values)),
    ];
    let alternative = prop::collection::vec(test, 0..3).prop_map(|mut tests| {
        tests.sort_by_key(|(attribute, _)| *attribute);
        tests.dedup_by_key(|(attribute, _)| *attribute);
        tests
    });
    let held = |count: usize| prop::collection::vec(0..count, 0..3);
    (prop::collection::vec(alternative, 1..3), held(roles), held(permissions), window()).prop_map(
        |(alternatives, roles, permissions, when)| WrittenClient { alternatives, roles, permissions, when },
    )
}

fn deny(clients: usize, permissions: usize) -> impl Strategy<Value = WrittenDeny> {
    let clients = prop::option::of(prop::collection::vec(0..clients, 1..3));
    (clients, prop::collection::vec(0..permissions, 0..2), prop::collection::vec(route(), 0..2), window())
        .prop_map(|(clients, permissions, routes, when)| WrittenDeny { clients, permissions, routes, when })
}

fn written() -> impl Strategy<Value = Written> {
    (1usize..4, 1usize..4, 1usize..4).prop_flat_map(|(permissions, roles, clients)| {
        let member = move |role: usize| {
            let own = prop_oneof![
                4 => (0..permissions).prop_map(Member::Permission),
                2 => (0..roles).prop_map(move |other| if other > role { Member::Role(other) } else { Member::Permission(0) }),
                1 => Just(Member::AllPermissions),
            ];
            prop::collection::vec(own, 1..3)
        };
        let all_roles: Vec<_> = (0..roles).map(member).collect();
        let all_clients: Vec<_> = (0..clients).map(|_| client(roles, permissions)).collect();
        let all_permissions = prop::collection::vec(prop::collection::vec(route(), 1..3), permissions);
        let denies = prop::collection::vec(deny(clients, permissions), 0..3);
        (all_permissions, all_roles, all_clients, denies)
            .prop_map(|(permissions, roles, clients, denies)| Written { permissions, roles, clients, denies })
    })
}

fn identity() -> impl Strategy<Value = Vec<(Attribute, String)>> {
    let of = |attribute, values: Vec<&'static str>, most| {
        prop::collection::vec(select(values).prop_map(move |value| (attribute, value.to_owned())), 0..most)
    };
    (
        of(Attribute::CommonName, vec!["a", "b", "a-r", "b-r", "a-a-r", "-r", "..-r", "a/b-r"], 2),
        prop::option::weighted(0.1, Just((Attribute::CommonName, "zz".to_owned()))),
        of(Attribute::Organization, vec!["x", "y"], 3),
        of(Attribute::Dns, vec!["a.x", "b.x", "a.b.x", "*.x"], 3),
    )
        .prop_map(|(names, second, organizations, hosts)| {
            names.into_iter().chain(second).chain(organizations).chain(hosts).collect()
        })
}

fn call() -> impl Strategy<Value = Call> {
    let segment = select(vec!["a", "b", "A", "ab", "a-a", "a-r", "x"]);
    let query = select(vec!["", "q=1", "q=2", "q=3", "q=1&q=1", "q=1,2", "%71=1", "r=1"]);
    (
        select(vec!["GET", "HEAD", "POST", "PUT", "BREW", "DELETE"]),
        prop::collection::vec(segment, 0..4),
        prop::bool::weighted(0.1),
        query,
        0u8..9,
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(method, mut segments, slash, query, day, inside, upgrade)| {
            if slash && !segments.is_empty() {
                segments.push("");
            }
            Call { method, segments, query, day, inside, upgrade }
        })
}

impl Written {
    fn yaml(&self) -> [String; 3] {
        let mut what = "version: 1\npermissions:\n".to_owned();
        for (number, routes) in self.permissions.iter().enumerate() {
            let _ = writeln!(
                what,
                "  p{number}: [{}]",
                routes.iter().map(WrittenRoute::yaml).collect::<Vec<_>>().join(", ")
            );
        }
        let mut who = "version: 1\nroles:\n".to_owned();
        for (number, members) in self.roles.iter().enumerate() {
            let names = members.iter().map(|member| match member {
                Member::Permission(permission) => format!("p{permission}"),
                Member::Role(role) => format!("r{role}"),
                Member::AllPermissions => "\"p*\"".to_owned(),
            });
            let _ = writeln!(who, "  r{number}: [{}]", names.collect::<Vec<_>>().join(", "));
        }
        who += "clients:\n";
        for (number, client) in self.clients.iter().enumerate() {
            let alternatives = client.alternatives.iter().map(|tests| match tests.as_slice() {
                [] => "{ any: true }".to_owned(),
                tests => format!(
                    "{{ {} }}",
                    tests
                        .iter()
                        .map(|(key, values)| format!("{key}: {values:?}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            });
            let list = |letter: char, numbers: &[usize]| {
                numbers.iter().map(|n| format!("{letter}{n}")).collect::<Vec<_>>().join(", ")
            };
            let _ = writeln!(
                who,
                "  - {{ name: c{number}, match: [{}], roles: [{}], permissions: [{}]{} }}",
                alternatives.collect::<Vec<_>>().join(", "),
                list('r', &client.roles),
                list('p', &client.permissions),
                client.when.yaml(),
            );
        }
        let mut not = "version: 1\ndeny:\n".to_owned();
        let denies =
            self.denies.iter().filter(|deny| !deny.permissions.is_empty() || !deny.routes.is_empty());
        for (number, deny) in denies.enumerate() {
            let clients = deny.clients.iter().map(|clients| {
                format!(
                    ", clients: [{}]",
                    clients.iter().map(|client| format!("c{client}")).collect::<Vec<_>>().join(", ")
                )
            });
            let permissions = deny
                .permissions
                .iter()
                .map(|permission| format!("p{permission}"))
                .collect::<Vec<_>>()
                .join(", ");
            let routes = deny.routes.iter().map(WrittenRoute::yaml).collect::<Vec<_>>().join(", ");
            let routes = if routes.is_empty() { routes } else { format!(", routes: [{routes}]") };
            let clients: String = clients.collect();
            let _ = writeln!(
                not,
                "  - {{ name: d{number}, permissions: [{permissions}]{routes}{clients}{} }}",
                deny.when.yaml()
            );
        }
        if not.ends_with("deny:\n") {
            not = "version: 1\n".to_owned();
        }
        [what, who, not]
    }

    fn permissions_of(&self, client: &WrittenClient) -> BTreeSet<usize> {
        let mut found: BTreeSet<usize> = client.permissions.iter().copied().collect();
        let mut open = client.roles.clone();
        while let Some(role) = open.pop() {
            for member in &self.roles[role] {
                match member {
                    Member::Permission(permission) => drop(found.insert(*permission)),
                    Member::Role(role) => open.push(*role),
                    Member::AllPermissions => found.extend(0..self.permissions.len()),
                }
            }
        }
        found
    }

    /// The third opinion.
    fn allows(&self, identity: &[(Attribute, String)], call: &Call) -> bool {
        let denied = self.denies.iter().filter(|deny| deny.when.holds(call)).any(|deny| {
            let own = deny
                .permissions
                .iter()
                .flat_map(|permission| &self.permissions[*permission])
                .chain(&deny.routes);
            let routes: Vec<&WrittenRoute> = own.collect();
            match &deny.clients {
                None => {
                    routes.iter().any(|route| route.means(call, true, &|name| bound(&[], identity, name)))
                }
                Some(clients) => clients
                    .iter()
                    .map(|client| &self.clients[*client])
                    .filter(|client| client.is(identity))
                    .any(|client| {
                        routes.iter().any(|route| {
                            route.means(call, true, &|name| bound(&client.alternatives, identity, name))
                        })
                    }),
            }
        });
        !denied
            && self.clients.iter().filter(|client| client.is(identity) && client.when.holds(call)).any(
                |client| {
                    let permissions = self.permissions_of(client);
                    let mut routes = permissions.iter().flat_map(|permission| &self.permissions[*permission]);
                    routes.any(|route| {
                        route.means(call, false, &|name| bound(&client.alternatives, identity, name))
                    })
                },
            )
    }
}

impl WrittenRoute {
    fn yaml(&self) -> String {
        let rest = if self.rest { "/**" } else { "" };
        let slash = if self.segments.is_empty() && !self.rest { "/" } else { "" };
        let path: String = self.segments.iter().map(|segment| format!("/{segment}")).collect();
        let query =
            self.query.as_ref().map(|values| format!(", query: {{ q: {values:?} }}")).unwrap_or_default();
        let upgrade = if self.upgrade { ", upgrade: websocket" } else { "" };
        format!("{{ route: \"{} {path}{rest}{slash}\"{query}{upgrade} }}", self.methods)
    }

    fn means(&self, call: &Call, deny: bool, bound: &dyn Fn(&str) -> Option<String>) -> bool {
        let methods: Vec<&str> = self.methods.split('|').collect();
        let method = methods.contains(&"*")
            || methods.contains(&call.method)
            || (call.method == "HEAD" && methods.contains(&"GET"));
        let long_enough = if self.rest {
            call.segments.len() >= self.segments.len()
        } else {
            call.segments.len() == self.segments.len()
        };
        let fits = |(pattern, segment): (&&str, &&str)| match *pattern {
            "{x}" | "*" => !segment.is_empty(),
            "{client.t}" | "{client.common_name}" => {
                match bound(pattern.trim_start_matches("{client.").trim_end_matches('}')) {
                    Some(text) => text == **segment,
                    None => deny && !segment.is_empty(),
                }
            }
            glob if glob.contains('*') => !readings(glob, segment, None).is_empty(),
            literal => literal == *segment,
        };
        let query = self.query.as_ref().is_none_or(|values| match call.query {
            "q=1" | "%71=1" => values.contains(&"1") || values.contains(&"*"),
            "q=2" => values.contains(&"2") || values.contains(&"*"),
            "q=3" => values.contains(&"*"),
            "q=1&q=1" | "q=1,2" => deny,
            _ => false,
        });
        method && long_enough && query && self.segments.iter().zip(&call.segments).all(fits)
    }
}

impl WrittenClient {
    fn is(&self, identity: &[(Attribute, String)]) -> bool {
        self.alternatives.iter().any(|alternative| holds(alternative, identity))
    }
}

fn holds(alternative: &[(Attribute, Vec<&str>)], identity: &[(Attribute, String)]) -> bool {
    alternative.iter().all(|(attribute, patterns)| {
        values_of(*attribute, identity)
            .iter()
            .any(|value| patterns.iter().any(|pattern| !fits(*attribute, pattern, value).is_empty()))
    })
}

fn values_of(attribute: Attribute, identity: &[(Attribute, String)]) -> BTreeSet<&str> {
    let values: BTreeSet<&str> =
        identity.iter().filter(|(key, _)| *key == attribute).map(|(_, value)| value.as_str()).collect();
    if attribute == Attribute::CommonName && values.len() > 1 { BTreeSet::new() } else { values }
}

/// All readings of a value by a pattern, each with what `{t}` stands for.
fn fits(attribute: Attribute, pattern: &str, value: &str) -> Vec<Option<String>> {
    let (pattern, separator) = match attribute {
        Attribute::Dns => (pattern.to_lowercase(), Some('.')),
        _ => (pattern.to_owned(), None),
    };
    if attribute == Attribute::Dns && value.contains('*') {
        return Vec::new();
    }
    readings(&pattern, value, separator)
}

fn readings(pattern: &str, value: &str, separator: Option<char>) -> Vec<Option<String>> {
    if pattern.is_empty() {
        return if value.is_empty() { vec![None] } else { Vec::new() };
    }
    let wild = [("**", false, true), ("*", false, false), ("{t}", true, false), ("{u}", false, false)];
    for (sign, captures, across) in wild {
        let Some(rest) = pattern.strip_prefix(sign) else { continue };
        let mut found = Vec::new();
        for end in 0..=value.len() {
            let (taken, left) = value.split_at(end);
            if !across && separator.is_some_and(|separator| taken.contains(separator)) {
                break;
            }
            for reading in readings(rest, left, separator) {
                found.push(if captures { Some(taken.to_owned()) } else { reading });
            }
        }
        return found;
    }
    let (first, rest) = pattern.split_at(1);
    value.strip_prefix(first).map(|left| readings(rest, left, separator)).unwrap_or_default()
}

fn bound(
    alternatives: &[Vec<(Attribute, Vec<&str>)>],
    identity: &[(Attribute, String)],
    name: &str,
) -> Option<String> {
    let mut texts: BTreeSet<String> = BTreeSet::new();
    if name == "common_name" {
        texts.extend(values_of(Attribute::CommonName, identity).into_iter().map(str::to_owned));
    } else {
        for alternative in alternatives.iter().filter(|alternative| holds(alternative, identity)) {
            for (attribute, patterns) in alternative {
                for pattern in patterns.iter().filter(|pattern| pattern.contains("{t}")) {
                    let values = values_of(*attribute, identity);
                    texts.extend(values.iter().flat_map(|value| fits(*attribute, pattern, value)).flatten());
                }
            }
        }
    }
    let only = if texts.len() == 1 { texts.pop_first() } else { None };
    only.filter(|text| !text.is_empty() && !text.contains('/') && !text.contains(".."))
}

impl Window {
    fn holds(self, call: &Call) -> bool {
        self.from.is_none_or(|from| from <= call.day)
            && self.until.is_none_or(|until| call.day < until)
            && (!self.inside || call.inside)
    }

    fn yaml(self) -> String {
        let day =
            |key: &str, day: Option<u8>| day.map(|day| format!("{key}: 2026-01-0{}T00:00:00Z", day + 1));
        let source = self.inside.then(|| "source: [10.0.0.0/8]".to_owned());
        let parts: Vec<String> =
            [day("from", self.from), day("until", self.until), source].into_iter().flatten().collect();
        if parts.is_empty() { String::new() } else { format!(", when: {{ {} }}", parts.join(", ")) }
    }
}

fn verdicts(policy: &Policy, model: &Model, attributes: &[(Attribute, String)], call: &Call) -> (bool, bool) {
    let path: String = call.segments.iter().map(|segment| format!("/{segment}")).collect();
    let path = if path.is_empty() { "/" } else { &path };
    let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
    let target: Target = format!("{} {path}{query}", call.method).parse().unwrap();
    let headers = HeaderMap::new();
    let question = Question {
        target: &target,
        headers: &headers,
        source: if call.inside { [10, 1, 1, 1] } else { [192, 0, 2, 1] }.into(),
        now: format!("2026-01-0{}T00:00:00Z", call.day + 1).parse().unwrap(),
        upgrade: call.upgrade.then_some("websocket"),
    };
    let identity = Identity::of_attributes(attributes.iter().cloned());
    let reading = Reading { model, identity: &identity, question: &question };
    let plain = reading.denies().is_empty() && !reading.grants().is_empty();
    (policy.authorize(&policy.rights(&identity), &question).is_ok(), plain)
}

proptest! {
    // Each policy is asked fifty times: more than 100,000 questions in all.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_500) })]
    #[test]
    fn three_evaluators_agree(
        written in written(),
        identities in prop::collection::vec(identity(), 5),
        calls in prop::collection::vec(call(), 10),
    ) {
        let sources = written.yaml().map(|text| Source::new("p.yaml", text));
        let Ok((model, _)) = super::super::model(&sources) else {
            // A capture that is used and not captured; tests of diagnostics see to those.
            return Ok(());
        };
        let policy = Policy::compile(&sources).unwrap().0;
        let mut turned = sources.clone();
        turned.reverse();
        let turned = Policy::compile(&turned).unwrap().0;
        for identity in &identities {
            for call in &calls {
                let (compiled, plain) = verdicts(&policy, &model, identity, call);
                let (other_order, _) = verdicts(&turned, &model, identity, call);
                let third = written.allows(identity, call);
                prop_assert_eq!((compiled, plain, other_order), (third, third, third), "{:?} {:?}\n{}", identity, call, written.yaml().concat());
            }
        }
    }
}
