//! What one client may take: its connections and its rate, whoever it is by its certificate, and no more (DESIGN §2.3).

use std::fs;
use std::time::{Duration, Instant};

use sidegate::demo::pki::Leaf;

use crate::support::certificates::producer;
use crate::support::http2::Http2;
use crate::support::proxy::policy_of_two;
use crate::support::tls::Tls;
use crate::support::{Answer, Backend, Client, Proxy, Setup, eventually};

/// The producer is held to these limits, and the consumer to none.
fn policy(limits: &str) -> String {
    policy_of_two(&format!("limits: {{ {limits} }}"), "")
}

fn proxy(backend: &Backend, limits: &str) -> Proxy {
    Setup::new(&backend.url()).policy(&policy(limits)).set("workers", 2).start()
}

fn get(proxy: &Proxy, client: &Client) -> (Tls, Answer) {
    let mut connection = client.connect(proxy.address).unwrap();
    let answer = connection.get("/events").unwrap();
    (connection, answer)
}

/// The producer after its certificate was renewed: the names are the same, everything else is another.
fn renewed(proxy: &Proxy) -> Client {
    proxy.client(&proxy.pki().issue(&producer()))
}

#[track_caller]
fn assert_share_is_taken(connection: &mut Tls, answer: &Answer) {
    assert_eq!(answer.verdict(), "504 server_full");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("proxy-status"), Some("sidegate; error=connection_limit_reached"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("this client has as many"), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.is_closed());
}

/// Case 76: by the configuration's bound for everyone, and by a policy's for some.
#[test]
fn one_client_cannot_take_every_slot() {
    let backend = Backend::ok();
    let everyone = Setup::new(&backend.url())
        .policy(&policy(""))
        .set("limits.max_connections", 3)
        .set("limits.max_connections_per_client", 2)
        .start();
    let some = Setup::new(&backend.url())
        .policy(&policy("connections: 2"))
        .set("limits.max_connections", 3)
        .set("limits.max_connections_per_client", 9)
        .start();
    for proxy in [everyone, some] {
        backend.clear_records();
        let client = proxy.producer();
        let (mut first, answer) = get(&proxy, &client);
        assert_eq!(answer.status, 200);
        // A renewed certificate is no new client.
        let (_second, answer) = get(&proxy, &renewed(&proxy));
        assert_eq!(answer.status, 200);
        let (mut third, answer) = get(&proxy, &client);
        assert_share_is_taken(&mut third, &answer);
        let http2 = Http2::connect(&client, proxy.address).unwrap();
        assert_eq!(http2.get("/events").unwrap().verdict(), "504 server_full");
        http2.assert_ends_in_order();
        assert_eq!(first.get("/events").unwrap().status, 200, "what it has it keeps");
        assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 2.0);
        assert_eq!(backend.received().len(), 3, "nothing of what was refused reached the backend");

        // The slot that is left is for somebody else.
        let (_other, answer) = get(&proxy, &proxy.consumer());
        assert_eq!(answer.status, 200);
        drop(first);
        proxy.admin.wait_for("sidegate_slots_used", 2.0);
        let (_fourth, answer) = get(&proxy, &client);
        assert_eq!(answer.status, 200, "a place that was given back is taken again");
        assert_eq!(backend.wait_for(5).len(), 5);
    }
}

#[test]
fn a_share_comes_back_however_a_connection_ends() {
    let backend = Backend::never_answering();
    let proxy = proxy(&backend, "connections: 1");
    let client = proxy.producer();
    for round in 1..=5 {
        let mut connection = client.connect(proxy.address).unwrap();
        connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        backend.wait_for(round);
        let (_, answer) = get(&proxy, &client);
        assert_eq!(answer.verdict(), "504 server_full");
        drop(connection);
        proxy.admin.wait_for("sidegate_slots_used", 0.0);
    }
}

#[test]
fn who_asks_too_often_is_told_when_to_ask_again_and_may_then() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "requests_per_second: 1, burst: 3");
    let client = proxy.producer();
    // Its connections are those of several workers, and of several certificates.
    let mut connections: Vec<Tls> = [client.clone(), renewed(&proxy), client]
        .iter()
        .map(|client| client.connect(proxy.address).unwrap())
        .collect();
    let start = Instant::now();
    let mut allowed = 0;
    let refused = loop {
        let answer = connections[allowed % 3].get("/events").unwrap();
        if answer.status != 200 {
            break answer;
        }
        allowed += 1;
    };
    // Three at once, and one more for each second that it took.
    let more = usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!((3..=3 + more + 1).contains(&allowed), "{allowed}");
    assert_eq!(refused.verdict(), "504 overloaded");
    assert_eq!(refused.header("proxy-status"), Some("sidegate; error=http_request_denied"));
    assert_ne!(refused.header("connection"), Some("close"), "it may go on with the same connection");
    let told = Duration::from_secs(refused.header("retry-after").unwrap().parse().unwrap());
    assert_eq!(told, Duration::from_secs(1));
    let since = Instant::now();
    let ask = || (since.elapsed(), connections[0].get("/events").unwrap().status);
    let (asked, _) = eventually("the next", ask, |(asked, status)| *status == 200 || *asked >= told);
    assert_eq!(backend.received().len(), allowed + 1, "asked after {asked:?}");
}

#[test]
fn only_its_own_permitted_requests_count_against_a_rate() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "requests_per_second: 1, burst: 1");
    let other =
        proxy.pki().issue(&Leaf::client("Shop", "x").uri("spiffe://shop.example/ns/orders/sa/x").unwrap());
    let other = proxy.client(&other);
    let (mut connection, first) = get(&proxy, &proxy.producer());
    assert_eq!(first.status, 200);
    let ask = || connection.get("/events").unwrap().verdict();
    eventually("the refusal", ask, |verdict| verdict == "504 overloaded");
    assert_eq!(connection.get("/a%2Fb").unwrap().verdict(), "400 ambiguous_request", "that comes first");
    assert_eq!(get(&proxy, &other).1.status, 200, "of the same entry, and another client");
    let (mut unlimited, _) = get(&proxy, &proxy.consumer());
    assert!((0..50).all(|_| unlimited.get("/events").unwrap().status == 200));
    assert_eq!(get(&proxy, &proxy.anonymous()).1.verdict(), "401 not_authenticated");
}

fn change_policy(proxy: &Proxy, text: &str) {
    fs::write(proxy.setup.path("policy.yaml"), text).unwrap();
    proxy.admin.reload();
}

/// How many of so many requests are allowed.
fn allowed(connection: &mut Tls, requests: usize) -> usize {
    (0..requests).filter(|_| connection.get("/events").unwrap().status == 200).count()
}

#[test]
fn a_rate_is_gone_on_with_under_another_policy_unless_that_changes_it() {
    let backend = Backend::ok();
    let limits = "limits: { requests_per_second: 1, burst: 200 }";
    let proxy = Setup::new(&backend.url()).policy(&policy_of_two(limits, "")).start();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    let start = Instant::now();
    let used = allowed(&mut connection, 250);
    assert!(used >= 200, "{used}");
    change_policy(
        &proxy,
        &policy_of_two(limits, "limits: { connections: 7 }").replace("producer", "renamed"),
    );
    let more = allowed(&mut connection, 100);
    // What came back meanwhile, and nothing else.
    let time = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    assert!(used + more <= 200 + time, "{used} and {more} in {time} s");
    change_policy(&proxy, &policy_of_two("limits: { requests_per_second: 1, burst: 201 }", ""));
    assert_eq!(allowed(&mut connection, 100), 100, "another rate starts anew");
}

#[test]
fn a_share_counts_the_connections_that_are_there_whatever_its_bound_was() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "");
    let client = proxy.producer();
    let (mut first, _) = get(&proxy, &client);
    let (mut second, _) = get(&proxy, &client);
    change_policy(&proxy, &policy("connections: 2"));
    // Older than the bound: each is counted with its next request.
    assert_eq!(first.get("/events").unwrap().status, 200);
    assert_eq!(second.get("/events").unwrap().status, 200);
    assert_eq!(get(&proxy, &client).1.verdict(), "504 server_full");
    change_policy(&proxy, &policy("connections: 3"));
    let (third, answer) = get(&proxy, &client);
    assert_eq!(answer.status, 200);
    assert_eq!(get(&proxy, &client).1.verdict(), "504 server_full");
    change_policy(&proxy, &policy("connections: 1"));
    assert_eq!(second.get("/events").unwrap().status, 200, "what it has it keeps");
    drop((second, third));
    proxy.admin.wait_for("sidegate_slots_used", 1.0);
    assert_eq!(get(&proxy, &client).1.verdict(), "504 server_full");
    drop(first);
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    assert_eq!(get(&proxy, &client).1.status, 200);
}

#[test]
fn a_connection_older_than_its_bound_that_finds_no_place_ends() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "");
    let client = proxy.producer();
    let (mut first, _) = get(&proxy, &client);
    let (mut second, _) = get(&proxy, &client);
    change_policy(&proxy, &policy("connections: 1"));
    assert_eq!(first.get("/events").unwrap().status, 200);
    let answer = second.get("/events").unwrap();
    assert_share_is_taken(&mut second, &answer);
    proxy.admin.wait_for("sidegate_slots_used", 1.0);
}
