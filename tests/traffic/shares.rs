//! Limits of one client: its connections and its request rate are limited, and certificates of the same client count together
//! (DESIGN §2.3).

use std::fs;
use std::time::{Duration, Instant};

use sidegate::demo::pki::Leaf;

use crate::support::certificates::producer;
use crate::support::http2::Http2;
use crate::support::proxy::policy_of_two;
use crate::support::tls::Tls;
use crate::support::{Answer, Backend, Client, Proxy, Setup, eventually};

/// A policy that gives the producer these limits, and the consumer none.
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

/// The producer with a renewed certificate: the names are the same, everything else differs.
fn renewed(proxy: &Proxy) -> Client {
    proxy.client(&proxy.pki().issue(&producer()))
}

#[track_caller]
fn assert_limit_is_reached(connection: &mut Tls, answer: &Answer) {
    assert_eq!(answer.verdict(), "504 server_full");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("proxy-status"), Some("sidegate; error=connection_limit_reached"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("this client has as many"), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.is_closed());
}

/// Case 76: the limit of the configuration holds for every client, and that of a policy for some.
#[test]
fn one_client_cannot_take_every_slot() {
    let backend = Backend::ok();
    let configured = Setup::new(&backend.url())
        .policy(&policy(""))
        .set("limits.max_connections", 3)
        .set("limits.max_connections_per_client", 2)
        .start();
    let by_policy = Setup::new(&backend.url())
        .policy(&policy("connections: 2"))
        .set("limits.max_connections", 3)
        .set("limits.max_connections_per_client", 9)
        .start();
    for proxy in [configured, by_policy] {
        backend.clear_records();
        let client = proxy.producer();
        let (mut first, answer) = get(&proxy, &client);
        assert_eq!(answer.status, 200);
        // A renewed certificate is the same client.
        let (_second, answer) = get(&proxy, &renewed(&proxy));
        assert_eq!(answer.status, 200);
        let (mut third, answer) = get(&proxy, &client);
        assert_limit_is_reached(&mut third, &answer);
        let http2 = Http2::connect(&client, proxy.address).unwrap();
        assert_eq!(http2.get("/events").unwrap().verdict(), "504 server_full");
        http2.assert_ends_in_order();
        assert_eq!(first.get("/events").unwrap().status, 200, "the client keeps its connections");
        assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 2.0);
        assert_eq!(backend.received().len(), 3, "no refused request reached the backend");

        // The last slot is free for another client.
        let (_other, answer) = get(&proxy, &proxy.consumer());
        assert_eq!(answer.status, 200);
        drop(first);
        proxy.admin.wait_for("sidegate_slots_used", 2.0);
        let (_fourth, answer) = get(&proxy, &client);
        assert_eq!(answer.status, 200, "a slot that was given back can be taken again");
        assert_eq!(backend.wait_for(5).len(), 5);
    }
}

#[test]
fn a_closed_connection_no_longer_counts_against_the_limit() {
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
fn a_client_above_its_rate_learns_when_to_retry_and_is_served_then() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "requests_per_second: 1, burst: 3");
    let client = proxy.producer();
    // The rate holds for all connections of the client: on several workers, and with several certificates.
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
    // The burst allows three requests, and the rate one more for each second.
    let more = usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!((3..=3 + more + 1).contains(&allowed), "{allowed}");
    assert_eq!(refused.verdict(), "504 overloaded");
    assert_eq!(refused.header("proxy-status"), Some("sidegate; error=http_request_denied"));
    assert_ne!(refused.header("connection"), Some("close"), "the client may go on with the same connection");
    let retry_after = Duration::from_secs(refused.header("retry-after").unwrap().parse().unwrap());
    assert_eq!(retry_after, Duration::from_secs(1));
    let since = Instant::now();
    let ask = || (since.elapsed(), connections[0].get("/events").unwrap().status);
    let (asked, _) = eventually("the next", ask, |(asked, status)| *status == 200 || *asked >= retry_after);
    assert_eq!(backend.received().len(), allowed + 1, "retried after {asked:?}");
}

#[test]
fn only_permitted_requests_of_the_client_itself_count_against_its_rate() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "requests_per_second: 1, burst: 1");
    let other =
        proxy.pki().issue(&Leaf::client("Shop", "x").uri("spiffe://shop.example/ns/orders/sa/x").unwrap());
    let other = proxy.client(&other);
    let (mut connection, first) = get(&proxy, &proxy.producer());
    assert_eq!(first.status, 200);
    let ask = || connection.get("/events").unwrap().verdict();
    eventually("the refusal", ask, |verdict| verdict == "504 overloaded");
    assert_eq!(
        connection.get("/a%2Fb").unwrap().verdict(),
        "400 ambiguous_request",
        "the path is judged before the rate"
    );
    assert_eq!(get(&proxy, &other).1.status, 200, "another client of the same entry");
    let (mut unlimited, _) = get(&proxy, &proxy.consumer());
    assert!((0..50).all(|_| unlimited.get("/events").unwrap().status == 200));
    assert_eq!(get(&proxy, &proxy.anonymous()).1.verdict(), "401 not_authenticated");
}

fn change_policy(proxy: &Proxy, text: &str) {
    fs::write(proxy.setup.path("policy.yaml"), text).unwrap();
    proxy.admin.reload();
}

/// Sends requests, and returns the number that is served.
fn count_served(connection: &mut Tls, requests: usize) -> usize {
    (0..requests).filter(|_| connection.get("/events").unwrap().status == 200).count()
}

#[test]
fn a_rate_continues_under_a_new_policy_that_does_not_change_it() {
    let backend = Backend::ok();
    let limits = "limits: { requests_per_second: 1, burst: 200 }";
    let proxy = Setup::new(&backend.url()).policy(&policy_of_two(limits, "")).start();
    let mut connection = proxy.connect();
    let start = Instant::now();
    let used = count_served(&mut connection, 250);
    assert!(used >= 200, "{used}");
    change_policy(
        &proxy,
        &policy_of_two(limits, "limits: { connections: 7 }").replace("producer", "renamed"),
    );
    let more = count_served(&mut connection, 100);
    // Only the requests that the rate allows meanwhile are added.
    let time = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    assert!(used + more <= 200 + time, "{used} and {more} in {time} s");
    change_policy(&proxy, &policy_of_two("limits: { requests_per_second: 1, burst: 201 }", ""));
    assert_eq!(count_served(&mut connection, 100), 100, "a changed rate starts anew");
}

#[test]
fn a_new_limit_counts_the_connections_that_are_open_already() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "");
    let client = proxy.producer();
    let (mut first, _) = get(&proxy, &client);
    let (mut second, _) = get(&proxy, &client);
    change_policy(&proxy, &policy("connections: 2"));
    // Connections that are older than the limit are counted with their next request.
    assert_eq!(first.get("/events").unwrap().status, 200);
    assert_eq!(second.get("/events").unwrap().status, 200);
    assert_eq!(get(&proxy, &client).1.verdict(), "504 server_full");
    change_policy(&proxy, &policy("connections: 3"));
    let (third, answer) = get(&proxy, &client);
    assert_eq!(answer.status, 200);
    assert_eq!(get(&proxy, &client).1.verdict(), "504 server_full");
    change_policy(&proxy, &policy("connections: 1"));
    assert_eq!(second.get("/events").unwrap().status, 200, "the client keeps its connections");
    drop((second, third));
    proxy.admin.wait_for("sidegate_slots_used", 1.0);
    assert_eq!(get(&proxy, &client).1.verdict(), "504 server_full");
    drop(first);
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    assert_eq!(get(&proxy, &client).1.status, 200);
}

#[test]
fn a_connection_that_is_above_a_new_limit_ends_with_its_next_request() {
    let backend = Backend::ok();
    let proxy = proxy(&backend, "");
    let client = proxy.producer();
    let (mut first, _) = get(&proxy, &client);
    let (mut second, _) = get(&proxy, &client);
    change_policy(&proxy, &policy("connections: 1"));
    assert_eq!(first.get("/events").unwrap().status, 200);
    let answer = second.get("/events").unwrap();
    assert_limit_is_reached(&mut second, &answer);
    proxy.admin.wait_for("sidegate_slots_used", 1.0);
}
