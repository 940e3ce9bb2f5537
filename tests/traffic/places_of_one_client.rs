//! No client holds all places in flight: some are reserved for other clients, and a policy can give each client a limit
//! (DESIGN §2.3).

use sidegate::demo::pki::{Authority, Leaf, pem};

use crate::support::admin::{IN_FLIGHT, QUEUED};
use crate::support::backend::OK;
use crate::support::certificates::{CA_NAME, producer};
use crate::support::http2::{Exchange, Http2, request};
use crate::support::proxy::{assert_served, policy_of_two};
use crate::support::{Backend, Client, Proxy, Setup, eventually};

/// Begins uploads that do not end.
fn begin_uploads(connection: &Http2, count: usize) -> Vec<Exchange> {
    (0..count).map(|_| connection.open(request("POST", "/slow", &[]), false).unwrap()).collect()
}

/// A backend that answers every GET and waits for the end of every upload.
fn backend() -> Backend {
    Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            if head.starts_with("GET ") {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    })
}

#[test]
fn slow_uploads_of_one_client_leave_places_for_others() {
    let backend = backend();
    let proxy = Setup::new(&backend.url())
        .policy(&policy_of_two("limits: { connections: 1 }", ""))
        .set("backend.max_in_flight", 40)
        .set("backend.queue_timeout", "60s")
        .set("workers", 2)
        .start();
    let greedy = proxy.http2();
    let uploads = begin_uploads(&greedy, 100);
    proxy.admin.wait_for(IN_FLIGHT, 36.0);
    proxy.admin.wait_for(QUEUED, 58.0);
    assert_served(&proxy, &proxy.consumer());
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 36.0);
    drop((uploads, greedy));
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert_eq!(proxy.admin.metrics().value(QUEUED), 0.0);
}

#[test]
fn the_number_of_reserved_places_changes_with_the_configuration() {
    let backend = backend();
    let mut proxy = Setup::new(&backend.url())
        .set("backend.max_in_flight", 40)
        .set("backend.reserved_for_others", 50)
        .set("backend.queue_timeout", "60s")
        .start();
    let greedy = proxy.http2();
    let _uploads = begin_uploads(&greedy, 40);
    proxy.admin.wait_for(IN_FLIGHT, 20.0);
    for (percent, in_flight) in [(25, 30.0), (0, 40.0)] {
        proxy.setup.config["backend"]["reserved_for_others"] = percent.into();
        proxy.setup.write();
        proxy.admin.reload();
        proxy.admin.wait_for(IN_FLIGHT, in_flight);
    }
}

#[test]
fn a_client_has_no_more_requests_in_flight_than_its_policy_says() {
    let backend = backend();
    let proxy = Setup::new(&backend.url())
        .policy(&policy_of_two("limits: { in_flight: 3 }", ""))
        .set("workers", 2)
        .start();
    let client = proxy.producer();
    let first = Http2::connect(&client, proxy.address).unwrap();
    let mut open = begin_uploads(&first, 2);
    let mut second = client.connect(proxy.address).unwrap();
    second.send("POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    proxy.admin.wait_for(IN_FLIGHT, 3.0);
    // A renewed certificate is the same client, and so is a connection of another version of HTTP.
    let renewed = proxy.client(&proxy.pki().issue(&producer()));
    let mut third = renewed.connect(proxy.address).unwrap();
    let answer = third.get("/events").unwrap();
    assert_eq!(answer.verdict(), "504 overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("proxy-status"), Some("sidegate; error=http_request_denied"));
    assert!(
        answer.json()["detail"].as_str().unwrap().starts_with("this client has as many requests"),
        "{answer:?}"
    );
    assert_ne!(answer.header("connection"), Some("close"));
    assert_eq!(first.get("/events").unwrap().verdict(), "504 overloaded");
    assert_served(&proxy, &proxy.consumer());
    open.pop().unwrap().reset();
    proxy.admin.wait_for(IN_FLIGHT, 2.0);
    assert_eq!(third.get("/events").unwrap().verdict(), "200", "the refused connection can be used again");
    drop((open, first, second));
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// Starts a proxy whose policy knows two clients of the same common name by their authorities. Both have this limit.
fn with_two_authorities(backend: &Backend, limit: &str) -> (Proxy, Client, Client) {
    let setup = Setup::new(&backend.url());
    let other = Authority::root("Others of the test").unwrap();
    let authorities = [setup.pki.ca.certificate(), other.certificate()].map(|ca| pem("CERTIFICATE", ca));
    std::fs::write(setup.path("client-ca.crt"), authorities.concat()).unwrap();
    let entry = |name: &str, issuer: &str| {
        let only = format!("match: {{ common_name: app, issuer: {issuer} }}");
        format!("  - {{ name: {name}, {only}, permissions: [all], limits: {{ {limit} }} }}\n")
    };
    let entries = [entry("one", CA_NAME), entry("two", "Others of the test")].concat();
    let policy = format!("version: 1\npermissions: {{ all: [\"* /**\"] }}\nclients:\n{entries}");
    let proxy = setup.policy(&policy).set("workers", 2).start();
    let leaf = || Leaf::client("Shop", "app");
    let (one, two) = (proxy.pki().issue(&leaf()), other.issue(&leaf()).unwrap());
    let clients = (proxy.client(&one), proxy.client(&two));
    (proxy, clients.0, clients.1)
}

#[test]
fn clients_of_one_name_and_two_authorities_have_limits_of_their_own() {
    let backend = backend();
    let (proxy, one, two) = with_two_authorities(&backend, "connections: 1");
    let mut held = [&one, &two].map(|client| client.connect(proxy.address).unwrap());
    for connection in &mut held {
        assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    }
    for client in [&one, &two] {
        let mut another = client.connect(proxy.address).unwrap();
        assert_eq!(another.get("/events").unwrap().verdict(), "504 server_full");
    }

    let (proxy, one, two) = with_two_authorities(&backend, "in_flight: 1");
    let held = Http2::connect(&one, proxy.address).unwrap();
    let _upload = begin_uploads(&held, 1);
    proxy.admin.wait_for(IN_FLIGHT, 1.0);
    assert_eq!(held.get("/events").unwrap().verdict(), "504 overloaded");
    assert_served(&proxy, &two);

    let (proxy, one, two) = with_two_authorities(&backend, "requests_per_second: 1, burst: 2");
    let mut connection = one.connect(proxy.address).unwrap();
    let ask = || connection.get("/events").unwrap().verdict();
    eventually("the end of the rate", ask, |verdict| verdict == "504 overloaded");
    assert_served(&proxy, &two);
}
