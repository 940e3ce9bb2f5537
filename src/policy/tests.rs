//! The promises of the policy language, one promise a test.

mod agreement;
mod robustness;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

use super::*;
use crate::diagnostic::Code;
use crate::identity::Attribute;

/// Returns a configuration with `number` generated cases, or `CASES` of the environment. The seed is printed; with
/// `SEED` a run repeats the same cases.
fn cases(number: u32) -> ProptestConfig {
    let given = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = given("SEED").unwrap_or_else(|| {
        u64::try_from(Timestamp::now().as_nanosecond() & i128::from(u64::MAX)).unwrap_or_default()
    });
    println!("SEED={seed}");
    let cases = given("CASES").and_then(|cases| u32::try_from(cases).ok()).unwrap_or(number);
    let rng_seed = RngSeed::Fixed(seed);
    ProptestConfig { cases, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

const NOW: &str = "2026-11-24T12:00:00Z";

/// Returns a policy of one file.
fn policy(text: &str) -> Policy {
    match Policy::compile(&[Source::new("p.yaml", text)]) {
        Ok((policy, _)) => policy,
        Err(problems) => panic!(
            "{}",
            problems.iter().map(|p| p.human(crate::diagnostic::Colour::Never)).collect::<String>()
        ),
    }
}

/// Returns the messages of a policy that does not load, each with line and column.
fn problems(text: &str) -> Vec<String> {
    let diagnostics = Policy::compile(&[Source::new("p.yaml", text)]).err().unwrap_or_default();
    let shown = diagnostics.iter().map(|d| match &d.place {
        Some(place) => format!("{}:{} {}", place.position().line, place.position().column, d.message),
        None => d.message.clone(),
    });
    shown.collect()
}

/// Returns an identity from `k=v,…`.
fn identity_of(text: &str) -> Identity {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap();
        (Attribute::from_name(key).unwrap(), value.to_owned())
    });
    Identity::from_attributes(pairs)
}

/// A request with all parts that a policy can read.
struct TestRequest {
    request: String,
    headers: HeaderMap,
    source: &'static str,
    now: String,
    upgrade: Option<&'static str>,
    host: Option<&'static str>,
}

fn test_request(request: &str) -> TestRequest {
    let request = request.to_owned();
    TestRequest {
        request,
        host: Some("shop.example"),
        headers: HeaderMap::new(),
        source: "192.0.2.1",
        now: NOW.to_owned(),
        upgrade: None,
    }
}

impl TestRequest {
    fn decide(&self, policy: &Policy, identity: &Identity) -> Result<Granted, Denied> {
        let target: Target = self.request.parse().unwrap();
        policy.authorize(
            &policy.rights(identity),
            &Question {
                target: &target,
                host: self.host.into(),
                headers: Some(&self.headers),
                source: self.source.parse().unwrap(),
                now: self.now.parse().unwrap(),
                upgrade: self.upgrade.map(Upgrade::from_name),
            },
        )
    }

    fn host(mut self, host: Option<&'static str>) -> Self {
        self.host = host;
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }
}

fn allows(policy: &Policy, client: &str, request: &str) -> bool {
    test_request(request).decide(policy, &identity_of(client)).is_ok()
}

const EVENTS: &str = r#"
version: 1
permissions:
  events:read:
    - GET /events
    - GET /events/{id}
  events:publish: [POST /events]
  tenant:read: ["GET /tenants/{client.tenant}/events/**"]
  reports:export:
    - route: GET /reports/{name}
      query: { format: [csv, json] }
    - route: GET /raw/*.txt
      headers: { X-Mode: batch }
  live: [{ route: GET /live, upgrade: websocket }]
  own: ["* /home/{client.common_name}/**"]
roles:
  consumer: [events:read]
  producer: [consumer, events:publish]
  operator: ["events:*", reports:export, live]
clients:
  - name: order-service
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    roles: [producer]
    limits: { requests_per_second: 200, burst: 400, connections: 20 }
  - name: tenants
    match: { organization: Tenants, common_name: "{tenant}-reader" }
    roles: [consumer]
    permissions: [tenant:read, own]
    when: { source: [10.0.0.0/8], until: 2027-01-01T00:00:00Z }
    limits: { requests_per_second: 10 }
  - name: operators
    match:
      - { organizational_unit: [ops, sre] }
      - { email: "*@ops.example" }
    roles: [operator]
  - name: everyone
    match: { any: true }
    permissions: [live]
deny:
  - name: freeze
    clients: [order-service]
    permissions: [events:publish]
    when: { from: 2026-12-24T00:00:00Z, until: 2026-12-27T00:00:00Z }
  - name: no-xml
    routes:
      - { route: GET /reports/*, query: { secret: "*" } }
"#;

const ORDERS: &str = "uri=spiffe://shop.example/ns/orders/sa/producer";
const ACME: &str = "organization=Tenants,common_name=acme-reader";

#[test]
fn grants_reach_through_roles_and_nothing_else_is_allowed() {
    let p = policy(EVENTS);
    for request in ["GET /events", "HEAD /events", "GET /events/42", "POST /events", "GET /live"] {
        assert!(allows(&p, ORDERS, request), "{request}");
    }
    for request in [
        "GET /",
        "GET /events/",
        "GET /events/42/x",
        "DELETE /events",
        "PUT /events/42",
        "GET /Events",
        "HEAD /eventss",
        "GET /reports/x?format=csv",
        "OPTIONS /events",
        "GET /event",
    ] {
        assert!(!allows(&p, ORDERS, request), "{request}");
    }
    assert!(!allows(&p, "uri=spiffe://shop.example/ns/orders/sa/a/b", "GET /events"));
    assert!(!allows(&p, "", "GET /events"));
    assert!(!p.allows_nothing());
}

#[test]
fn the_entry_that_grants_is_named() {
    let p = policy(EVENTS);
    let permit = test_request("POST /events").decide(&p, &identity_of(ORDERS)).unwrap();
    assert_eq!(
        (&*permit.rule().name, &*permit.rule().file, permit.rule().line),
        ("order-service", "p.yaml", 21)
    );
    assert!(test_request("PUT /events").decide(&p, &identity_of(ORDERS)).unwrap_err().rule().is_none());
    let rights = p.rights(&identity_of(ORDERS));
    assert_eq!(rights.clients(), ["order-service", "everyone"]);
    assert_eq!(rights.limits().connections, Some(20));
}

#[test]
fn a_capture_opens_only_its_own_segment() {
    let p = policy(EVENTS);
    let from = |source, request: &str, client: &str| {
        TestRequest { source, ..test_request(request) }.decide(&p, &identity_of(client)).is_ok()
    };
    assert!(from("10.1.2.3", "GET /tenants/acme/events/1/2", ACME));
    assert!(from("10.1.2.3", "GET /tenants/acme/events", ACME));
    assert!(!from("10.1.2.3", "GET /tenants/globex/events", ACME));
    assert!(!from("10.1.2.3", "GET /tenants/acm/events", ACME));
    assert!(from("10.1.2.3", "PUT /home/acme-reader/x", ACME) && !from("10.1.2.3", "PUT /home/acme/x", ACME));
    assert!(!from("192.0.2.1", "GET /events", ACME), "from elsewhere");
    for name in ["-reader", "a/b-reader", "..-reader"] {
        let client = format!("organization=Tenants,common_name={name}");
        assert!(!from("10.1.2.3", "GET /tenants/a/events", &client), "{name}");
    }
}

#[test]
fn a_grant_ends_when_it_says() {
    let p = policy(EVENTS);
    let at = |now: &str| {
        TestRequest { now: now.into(), source: "10.0.0.1", ..test_request("GET /events") }
            .decide(&p, &identity_of(ACME))
            .is_ok()
    };
    assert!(at("2026-12-31T23:59:59Z") && !at("2027-01-01T00:00:00Z"));
}

#[test]
fn a_deny_beats_every_grant_while_it_holds() {
    let p = policy(EVENTS);
    let at = |now: &str| {
        TestRequest { now: now.into(), ..test_request("POST /events") }.decide(&p, &identity_of(ORDERS))
    };
    assert!(at("2026-12-23T23:59:59Z").is_ok() && at("2026-12-27T00:00:00Z").is_ok());
    let denied = at("2026-12-25T00:00:00Z").unwrap_err();
    assert_eq!(&*denied.rule().unwrap().name, "freeze");
    let operator = TestRequest { now: "2026-12-25T00:00:00Z".into(), ..test_request("POST /events") };
    assert!(
        operator.decide(&p, &identity_of("organizational_unit=ops")).is_ok(),
        "the freeze names another client"
    );
}

#[test]
fn conditions_on_hosts_fail_closed() {
    let policy = policy(
        r#"
version: 1
permissions:
  p: [{ route: GET /a, hosts: ["*.example", "[::1]:8443"] }, GET /b]
clients: [{ name: c, match: { common_name: c }, permissions: [p] }]
deny: [{ name: d, routes: [{ route: GET /b, hosts: [x.example] }] }]
"#,
    );
    let allows = |request: &str, host: Option<&'static str>| {
        test_request(request).host(host).decide(&policy, &identity_of("common_name=c")).is_ok()
    };
    for host in ["x.example", "X.Example.:1", "y.example"] {
        assert!(allows("GET /a", Some(host)), "{host}");
    }
    for host in [None, Some("example"), Some("x.y.example"), Some("[::1]"), Some("x..example")] {
        assert!(!allows("GET /a", host), "{host:?}");
    }
    assert!(allows("GET /a", Some("[::1]:8443")) && allows("GET /b", Some("y.example")));
    for host in [None, Some("x.example"), Some("X.EXAMPLE.:8443"), Some(".x.example")] {
        assert!(!allows("GET /b", host), "{host:?}");
    }
}

#[test]
fn conditions_on_query_and_headers_fail_closed() {
    let p = policy(EVENTS);
    let ops = "organizational_unit=sre";
    assert!(allows(&p, ops, "GET /reports/x?format=csv"));
    for query in [
        "",
        "?format=xml",
        "?format=csv&format=csv",
        "?format=csv,json",
        "?format=csv&secret=1",
        "?format=csv&secret=1&secret=2",
    ] {
        assert!(!allows(&p, ops, &format!("GET /reports/x{query}")), "{query}");
    }
    let raw = || test_request("GET /raw/a.txt");
    assert!(raw().header("x-mode", "batch").decide(&p, &identity_of(ops)).is_ok());
    assert!(raw().decide(&p, &identity_of(ops)).is_err());
    assert!(raw().header("x-mode", "batch").header("x-mode", "batch").decide(&p, &identity_of(ops)).is_err());
    assert!(raw().header("x-mode", "batch,live").decide(&p, &identity_of(ops)).is_err());
}

#[test]
fn only_a_route_that_says_so_permits_the_switch() {
    let p = policy(EVENTS);
    let switch = |request: &str| {
        TestRequest { upgrade: Some("WebSocket"), ..test_request(request) }
            .decide(&p, &identity_of(ORDERS))
            .unwrap()
    };
    assert!(switch("GET /live").allows_upgrade());
    assert!(!switch("GET /events").allows_upgrade());
    assert!(!test_request("GET /live").decide(&p, &identity_of(ORDERS)).unwrap().allows_upgrade());
    let other = TestRequest { upgrade: Some("h2c"), ..test_request("GET /live") }
        .decide(&p, &identity_of(ORDERS))
        .unwrap();
    assert!(!other.allows_upgrade());
}

#[test]
fn the_longest_time_limits_of_the_routes_that_grant_a_request_count() {
    let with = |routes: &str, client: &str, request: &str| {
        let p = policy(&format!(
            "version: 1\npermissions: {{ a: [{routes}], b: [GET /only-b, {{ route: GET /b/**, timeouts: {{ idle: 7s }} }}] }}\nclients:\n  - {{ name: a, match: {{ common_name: [a, both] }}, permissions: [a] }}\n  - {{ name: b, match: {{ common_name: [b, both] }}, permissions: [b] }}\n"
        ));
        test_request(request).decide(&p, &identity_of(client)).unwrap().timeouts().to_string()
    };
    let routes = "\"* /**\", { route: GET /b/c, timeouts: { response: 5s } }, { route: GET /b/*, timeouts: { response: none } }, { route: GET /q, query: { x: \"1\" }, timeouts: { idle: 1h } }";
    assert_eq!(with(routes, "common_name=a", "GET /x"), "");
    assert_eq!(with(routes, "common_name=a", "GET /b/c"), "response none");
    assert_eq!(with(routes, "common_name=both", "GET /b/c"), "response none, idle 7s");
    assert_eq!(with(routes, "common_name=b", "GET /b/c"), "idle 7s");
    assert_eq!(with(routes, "common_name=b", "GET /only-b"), "");
    assert_eq!(with(routes, "common_name=a", "GET /q?x=1"), "idle 1h");
    assert_eq!(with(routes, "common_name=a", "GET /q?x=2"), "");
    assert_eq!(with(routes, "common_name=a", "POST /b/c"), "");
}

/// Case 51: each pattern matches on its own.
#[test]
fn alternatives_and_lists_mean_any_of_them() {
    let p = policy(EVENTS);
    for client in
        ["organizational_unit=ops", "organizational_unit=x,organizational_unit=sre", "email=ann@ops.example"]
    {
        assert!(allows(&p, client, "POST /events"), "{client}");
    }
    for client in
        ["organizational_unit=op", "email=ann@ops.example.com", "email=ops.example", "common_name=ops"]
    {
        assert!(!allows(&p, client, "POST /events"), "{client}");
    }
}

/// Cases 52 and 54: an empty policy is not a grant to every client.
#[test]
fn an_empty_policy_denies_everything() {
    for text in ["", "# nothing\n", "version: 1\n", "version: 1\npermissions: { a: [GET /] }\n"] {
        let p = policy(text);
        assert!(p.allows_nothing() && !allows(&p, ORDERS, "GET /"), "{text:?}");
    }
    assert!(Policy::compile(&[]).unwrap().0.allows_nothing());
}

#[test]
fn a_deny_for_unclear_captures_denies() {
    let p = policy(
        r#"
version: 1
permissions: { all: ["* /**"] }
clients:
  - { name: t, match: { common_name: "{tenant}-x" }, permissions: [all] }
deny:
  - { name: d, clients: [t], routes: ["GET /t/{client.tenant}/secret"] }
  - { name: self, routes: ["GET /self/{client.common_name}"] }
"#,
    );
    assert!(
        !allows(&p, "common_name=a-x", "GET /t/a/secret") && allows(&p, "common_name=a-x", "GET /t/b/secret")
    );
    assert!(!allows(&p, "common_name=a/b-x", "GET /t/c/secret"), "what cannot be bound is denied everywhere");
    assert!(
        !allows(&p, "common_name=a-x", "GET /self/a-x") && allows(&p, "common_name=a-x", "GET /self/b-x")
    );
}

#[test]
fn names_that_do_not_fit_together_are_all_reported() {
    let found = problems(
        r#"version: 1
permissions:
  a: [GET /a]
  a2: [GET /t/{client.tenant}]
roles:
  r: [a, b, "z*"]
  s: [t]
  t: [s]
  a: [a2]
clients:
  - name: c
    match: { common_name: x }
    roles: [R, a2]
    permissions: [a2, r]
  - name: c
    match: { common_name: [] }
  - name: d
    match: {}
    roles: unknown
deny:
  - { name: d, clients: [], permissions: [a] }
  - { name: e, clients: [f] }
tests:
  - { name: t, client: { cn: x }, request: GET, expect: maybe, because: unknown }
"#
        .replace("[GET /t/{client.tenant}]", "[\"GET /t/{client.tenant}\"]")
        .as_str(),
    );
    let expected = [
        "16:27 this list is empty, so it matches nothing",
        "18:12 an empty `match` matches no client",
        "21:25 this list is empty, so it matches nothing",
        "22:5 a deny rule has neither `permissions` nor `routes`",
        "24:26 unknown key `cn` in `client`",
        "24:44 `GET` is not a valid request: the request's target does not start with a slash",
        "24:57 `allow` or `deny` is expected, not `maybe`",
        "15:11 the client entry `c` is declared twice",
        "9:3 `a` is both a permission and a role",
        "6:10 unknown permission or role `b`",
        "6:13 `z*` matches no permission or role",
        "7:3 the role `s` contains itself",
        "13:13 unknown role `R`",
        "13:16 unknown role `a2`",
        "14:23 unknown permission `r`",
        "19:12 unknown role `unknown`",
        "22:26 unknown client entry `f`",
        "11:11 the `match` of `c` must contain `{tenant}`, because a route uses `{client.tenant}`",
    ];
    assert_eq!(found, expected, "{found:#?}");
}

#[test]
fn files_are_one_policy_in_any_order() {
    let roles = Source::new("roles.yaml", "version: 1\nroles: { r: [p] }\n");
    let rest = Source::new(
        "rest.yaml",
        "version: 1\npermissions: { p: [GET /] }\nclients: [{ name: c, match: { any: true }, roles: [r] }]\n",
    );
    for sources in [[roles.clone(), rest.clone()], [rest, roles.clone()]] {
        let (p, _) = Policy::compile(&sources).unwrap();
        assert!(allows(&p, "", "GET /"));
    }
    let twice = Policy::compile(&[roles.clone(), roles]).unwrap_err();
    assert!(twice.iter().any(|d| d.message == "the role `r` is declared twice" && d.related.len() == 1));
}

#[test]
fn a_test_file_cannot_hold_what_the_proxy_would_not_read() {
    let tests = Source::new("p_test.yaml", "version: 1\npermissions: { p: [GET /] }\ntests: []\n");
    let problems = Policy::compile(&[tests]).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [Code::BadTestFile]);
}
