//! Generated policies, identities and requests, and the YAML of a policy in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use crate::identity::Attribute;

/// A generated policy. It is written as YAML for the engine, and the third evaluator reads it as it is.
#[derive(Clone, Debug)]
pub(super) struct GeneratedPolicy {
    pub(super) permissions: Vec<Vec<GeneratedRoute>>,
    pub(super) roles: Vec<Vec<Member>>,
    pub(super) clients: Vec<GeneratedClient>,
    pub(super) denies: Vec<GeneratedDeny>,
}

#[derive(Clone, Debug)]
pub(super) struct GeneratedRoute {
    pub(super) methods: &'static str,
    pub(super) segments: Vec<&'static str>,
    pub(super) rest: bool,
    pub(super) hosts: Option<Vec<&'static str>>,
    /// A parameter and its permitted values.
    pub(super) query: Option<(&'static str, Vec<&'static str>)>,
    /// A header and its permitted values.
    pub(super) header: Option<(&'static str, Vec<&'static str>)>,
    pub(super) upgrade: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Member {
    Permission(usize),
    Role(usize),
    AllPermissions,
}

#[derive(Clone, Debug)]
pub(super) struct GeneratedClient {
    pub(super) alternatives: Vec<Vec<(Attribute, Vec<&'static str>)>>,
    pub(super) roles: Vec<usize>,
    pub(super) permissions: Vec<usize>,
    pub(super) when: Window,
}

#[derive(Clone, Debug)]
pub(super) struct GeneratedDeny {
    pub(super) clients: Option<Vec<usize>>,
    pub(super) permissions: Vec<usize>,
    pub(super) routes: Vec<GeneratedRoute>,
    pub(super) when: Window,
}

/// The conditions on time, in days, the weekly windows, and true if only one network is permitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) week: Week,
    pub(super) inside: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Week {
    Always,
    /// `days: [fri-sun]`
    LongWeekend,
    /// `days: [sat], hours: ["22:00-06:00"]`
    SaturdayNight,
    /// `hours: ["08:00-12:00"], zone: Asia/Tokyo`, which is nine hours ahead all year.
    TokyoMorning,
}

#[derive(Clone, Debug)]
pub(super) struct GeneratedRequest {
    pub(super) method: &'static str,
    pub(super) segments: Vec<&'static str>,
    pub(super) query: &'static str,
    /// The headers, by name and value.
    pub(super) modes: &'static [(&'static str, &'static str)],
    pub(super) host: Option<&'static str>,
    /// The hour since the beginning of 2026 in UTC. The year begins on a Thursday.
    pub(super) hour: i64,
    pub(super) inside: bool,
    pub(super) upgrade: bool,
}

pub(super) fn route() -> impl Strategy<Value = GeneratedRoute> {
    let segment = select(vec!["a", "b", "A", "{x}", "*", "a*", "*b", "{client.t}", "{client.common_name}"]);
    let query = prop_oneof![
        6 => Just(None),
        2 => Just(Some(("q", vec!["1"]))),
        2 => Just(Some(("q", vec!["*"]))),
        1 => Just(Some(("q", vec!["1", "2"]))),
        1 => Just(Some(("Q", vec!["1", "2"]))),
    ];
    let hosts = prop_oneof![
        12 => Just(None),
        1 => Just(Some(vec!["a.x"])),
        1 => Just(Some(vec!["*.X", "[::1]"])),
        1 => Just(Some(vec!["**.x."])),
        1 => Just(Some(vec!["A.x:8443", "*"])),
    ];
    let methods = select(vec!["GET", "POST", "*", "GET|PUT", "BREW", "HEAD"]);
    let header = prop_oneof![
        12 => Just(None),
        2 => Just(Some(("X-Mode", vec!["batch"]))),
        1 => Just(Some(("X-Mode", vec!["*"]))),
        1 => Just(Some(("X_Mode", vec!["batch", "live"]))),
    ];
    let path = (prop::collection::vec(segment, 0..4), any::<bool>());
    (methods, path, hosts, query, header, prop::bool::weighted(0.2)).prop_map(
        |(methods, (segments, rest), hosts, query, header, upgrade)| GeneratedRoute {
            methods,
            segments,
            rest,
            hosts,
            query,
            header,
            upgrade,
        },
    )
}

pub(super) fn window() -> impl Strategy<Value = Window> {
    let bounds = prop_oneof![4 => Just((None, None)), 1 => Just((Some(3), None)), 1 => Just((None, Some(6))), 1 => Just((Some(3), Some(6)))];
    let week = prop_oneof![
        6 => Just(Week::Always),
        1 => Just(Week::LongWeekend),
        1 => Just(Week::SaturdayNight),
        1 => Just(Week::TokyoMorning),
    ];
    (bounds, week, prop::bool::weighted(0.2)).prop_map(|((from, until), week, inside)| Window {
        from,
        until,
        week,
        inside,
    })
}

pub(super) fn client(roles: usize, permissions: usize) -> impl Strategy<Value = GeneratedClient> {
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
        |(alternatives, roles, permissions, when)| GeneratedClient { alternatives, roles, permissions, when },
    )
}

pub(super) fn deny(clients: usize, permissions: usize) -> impl Strategy<Value = GeneratedDeny> {
    let clients = prop::option::of(prop::collection::vec(0..clients, 1..3));
    (clients, prop::collection::vec(0..permissions, 0..2), prop::collection::vec(route(), 0..2), window())
        .prop_map(|(clients, mut permissions, routes, when)| {
            if permissions.is_empty() && routes.is_empty() {
                permissions.push(0);
            }
            GeneratedDeny { clients, permissions, routes, when }
        })
}

pub(super) fn generated_policy() -> impl Strategy<Value = GeneratedPolicy> {
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
            .prop_map(|(permissions, roles, clients, denies)| GeneratedPolicy { permissions, roles, clients, denies })
    })
}

pub(super) fn identity() -> impl Strategy<Value = Vec<(Attribute, String)>> {
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

/// Headers for the condition on `x-mode`, in every spelling.
pub(super) const MODES: [&[(&str, &str)]; 10] = [
    &[],
    &[],
    &[("x-mode", "batch")],
    &[("x-mode", "live")],
    &[("x-mode", "batch"), ("x-mode", "batch")],
    &[("x_mode", "batch")],
    &[("x_mode", "live")],
    &[("x-mode", "batch,live")],
    &[("x-mode", "batch"), ("x.mode", "live")],
    &[("x.mode", "batch"), ("x-other", "live")],
];

/// Hosts of requests, in every spelling. The first ones have one of each kind that routes distinguish.
pub(super) const HOSTS: [Option<&str>; 13] = [
    None,
    Some("a.x"),
    Some("a.x:8443"),
    Some("b.x"),
    Some("a.b.x"),
    Some("[::1]"),
    Some("z"),
    Some("A.X"),
    Some("a.x."),
    Some("a.x.:08443"),
    Some("[0:0::1]:443"),
    Some(".x"),
    Some("a..x"),
];

/// Queries in every spelling. The first ones have one of each kind that routes distinguish.
pub(super) const QUERIES: [&str; 20] = [
    "",
    "q=1",
    "q=2",
    "q=3",
    "q=1&q=1",
    "Q=1",
    "Q=2",
    "Q=3",
    "q=1,2",
    "%71=1",
    "r=1",
    "q=1&Q=2",
    "q[]=1",
    "q=1&q[a]=2",
    "q=1&%5Bq%5D=2",
    "q=1&+q%20=2",
    "q=1&r=1;q=2",
    "q=1&r=1%3bq=2",
    "q=1&r[q]=2",
    "qq=1&q=2",
];

pub(super) fn call() -> impl Strategy<Value = GeneratedRequest> {
    let segment = select(vec!["a", "b", "A", "ab", "a-a", "a-r", "x"]);
    let query = select(QUERIES.to_vec());
    (
        select(vec!["GET", "HEAD", "POST", "PUT", "BREW", "DELETE"]),
        prop::collection::vec(segment, 0..4),
        prop::bool::weighted(0.1),
        query,
        (select(MODES.to_vec()), select(HOSTS.to_vec())),
        0i64..216,
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(method, mut segments, slash, query, (modes, host), hour, inside, upgrade)| {
            if slash && !segments.is_empty() {
                segments.push("");
            }
            GeneratedRequest { method, segments, query, modes, host, hour, inside, upgrade }
        })
}

/// A random order, and a random file for each entry. The seed 0 leaves everything in its order.
struct Order(u64);

impl Order {
    fn next(&mut self, below: usize) -> usize {
        // Xorshift: the state 0 stays 0.
        for shift in [13i32, -7, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap()).unwrap()
    }

    fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        if self.0 != 0 {
            for last in (1..items.len()).rev() {
                items.swap(last, self.next(last + 1));
            }
        }
        items
    }

    fn list<T: ToString>(&mut self, items: impl IntoIterator<Item = T>) -> String {
        let items = items.into_iter().map(|item| item.to_string()).collect();
        format!("[{}]", self.shuffled(items).join(", "))
    }

    /// Returns a mapping of the keys that have a value.
    fn map<const N: usize>(&mut self, pairs: [(&str, Option<String>); N]) -> String {
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?))).collect();
        format!("{{ {} }}", self.shuffled(pairs).join(", "))
    }
}

impl GeneratedPolicy {
    /// Returns the policy as three files, in the generated order.
    pub(super) fn yaml(&self) -> [String; 3] {
        self.ordered(Order(0))
    }

    /// Returns the policy as three files, in another order of files, sections, entries, keys and values.
    pub(super) fn yaml_in_order(&self, order: u64) -> [String; 3] {
        self.ordered(Order(order))
    }

    fn ordered(&self, mut order: Order) -> [String; 3] {
        let order = &mut order;
        let sections = [
            (0, "permissions", self.permissions(order)),
            (1, "roles", self.roles(order)),
            (1, "clients", self.clients(order)),
            (2, "deny", self.denies(order)),
        ];
        let mut files: [Vec<String>; 3] = Default::default();
        for (file, title, entries) in order.shuffled(sections.to_vec()) {
            let mut parts: [Vec<String>; 3] = Default::default();
            for entry in order.shuffled(entries) {
                parts[(file + order.next(3)) % 3].push(entry);
            }
            for (file, part) in files.iter_mut().zip(parts).filter(|(_, part)| !part.is_empty()) {
                file.push(format!("{title}:\n{}", part.concat()));
            }
        }
        files.map(|sections| format!("version: 1\n{}", sections.concat()))
    }

    fn permissions(&self, order: &mut Order) -> Vec<String> {
        let permission = |(number, routes): (usize, &Vec<GeneratedRoute>)| {
            let routes: Vec<String> = routes.iter().map(|route| route.yaml(order)).collect();
            format!("  p{number}: {}\n", order.list(routes))
        };
        self.permissions.iter().enumerate().map(permission).collect()
    }

    fn roles(&self, order: &mut Order) -> Vec<String> {
        let role = |(number, members): (usize, &Vec<Member>)| {
            let names = members.iter().map(|member| match member {
                Member::Permission(permission) => format!("p{permission}"),
                Member::Role(role) => format!("r{role}"),
                Member::AllPermissions => "\"p*\"".to_owned(),
            });
            format!("  r{number}: {}\n", order.list(names))
        };
        self.roles.iter().enumerate().map(role).collect()
    }

    fn clients(&self, order: &mut Order) -> Vec<String> {
        let client = |(number, client): (usize, &GeneratedClient)| {
            let alternatives: Vec<String> =
                client.alternatives.iter().map(|tests| alternative(tests, order)).collect();
            let map = [
                ("name", Some(format!("c{number}"))),
                ("match", Some(order.list(alternatives))),
                ("roles", Some(order.list(named('r', &client.roles)))),
                ("permissions", Some(order.list(named('p', &client.permissions)))),
                ("when", client.when.yaml(order)),
            ];
            format!("  - {}\n", order.map(map))
        };
        self.clients.iter().enumerate().map(client).collect()
    }

    fn denies(&self, order: &mut Order) -> Vec<String> {
        let deny = |(number, deny): (usize, &GeneratedDeny)| {
            let routes: Vec<String> = deny.routes.iter().map(|route| route.yaml(order)).collect();
            let map = [
                ("name", Some(format!("d{number}"))),
                ("clients", deny.clients.as_ref().map(|clients| order.list(named('c', clients)))),
                ("permissions", Some(order.list(named('p', &deny.permissions)))),
                ("routes", (!routes.is_empty()).then(|| order.list(routes))),
                ("when", deny.when.yaml(order)),
            ];
            format!("  - {}\n", order.map(map))
        };
        self.denies.iter().enumerate().map(deny).collect()
    }
}

fn named(letter: char, numbers: &[usize]) -> Vec<String> {
    let numbers: BTreeSet<usize> = numbers.iter().copied().collect();
    numbers.iter().map(|number| format!("{letter}{number}")).collect()
}

fn alternative(tests: &[(Attribute, Vec<&str>)], order: &mut Order) -> String {
    if tests.is_empty() {
        return "{ any: true }".to_owned();
    }
    let tests = tests.iter().map(|(key, values)| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("{key}: {}", order.list(values))
    });
    let tests: Vec<String> = tests.collect();
    format!("{{ {} }}", order.shuffled(tests).join(", "))
}

impl GeneratedRoute {
    fn yaml(&self, order: &mut Order) -> String {
        let rest = if self.rest { "/**" } else { "" };
        let slash = if self.segments.is_empty() && !self.rest { "/" } else { "" };
        let path: String = self.segments.iter().map(|segment| format!("/{segment}")).collect();
        let condition = |condition: &Option<(&str, Vec<&str>)>| {
            condition.as_ref().map(|(name, values)| format!("{{ {name}: {values:?} }}"))
        };
        order.map([
            ("route", Some(format!("\"{} {path}{rest}{slash}\"", self.methods))),
            ("hosts", self.hosts.as_ref().map(|hosts| format!("{hosts:?}"))),
            ("query", condition(&self.query)),
            ("headers", condition(&self.header)),
            ("upgrade", self.upgrade.then(|| "websocket".to_owned())),
        ])
    }
}

impl Window {
    fn yaml(self, order: &mut Order) -> Option<String> {
        let day = |day: i64| format!("2026-01-0{}T00:00:00Z", day + 1);
        let (days, hours, zone) = match self.week {
            Week::Always => (None, None, None),
            Week::LongWeekend => (Some("[fri-sun]"), None, None),
            Week::SaturdayNight => (Some("[sat]"), Some("[\"22:00-06:00\"]"), None),
            Week::TokyoMorning => (None, Some("[\"08:00-12:00\"]"), Some("Asia/Tokyo")),
        };
        let map = order.map([
            ("from", self.from.map(day)),
            ("until", self.until.map(day)),
            ("source", self.inside.then(|| "[10.0.0.0/8]".to_owned())),
            ("days", days.map(str::to_owned)),
            ("hours", hours.map(str::to_owned)),
            ("zone", zone.map(str::to_owned)),
        ]);
        (map.len() > 4).then_some(map)
    }
}
