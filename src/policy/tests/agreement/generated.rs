//! Generated policies, identities and requests.

mod yaml;

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
