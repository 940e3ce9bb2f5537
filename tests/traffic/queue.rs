//! Requests beyond `backend.max_in_flight` wait in a queue: in order, for a limited time, and clients of high priority before
//! the others (DESIGN §2, step 5).

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::support::admin::{IN_FLIGHT, QUEUED, SLOTS_USED};
use crate::support::backend::OK;
use crate::support::http2::{Http2, request};
use crate::support::proxy::policy_of_two;
use crate::support::tls::Tls;
use crate::support::{Backend, Client, DEADLINE, Proxy, Setup};

/// A backend that answers one request for each message of the test.
fn commanded_backend() -> (Backend, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::scripted(move |connection| {
        while connection.request()?.is_some() {
            // If no message comes within the deadline, the test has failed elsewhere.
            let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
            connection.wire.send(OK)?;
        }
        Ok(())
    });
    (backend, go)
}

/// A setup with one place in flight.
fn setup(backend: &Backend) -> Setup {
    Setup::new(&backend.url()).set("backend.max_in_flight", 1).set("backend.queue_timeout", "60s")
}

fn send(client: &Client, proxy: &Proxy, path: &str) -> Tls {
    let mut connection = client.connect(proxy.address).unwrap();
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
    connection
}

/// Sends requests that wait in the queue in this order.
fn send_queued(client: &Client, proxy: &Proxy, paths: &[&str]) -> Vec<Tls> {
    let waiting = proxy.admin.metrics().value(QUEUED);
    let send = |(path, number): (&&str, u32)| {
        let connection = send(client, proxy, path);
        proxy.admin.wait_for(QUEUED, waiting + f64::from(number));
        connection
    };
    paths.iter().zip(1..).map(send).collect()
}

fn received_paths(backend: &Backend) -> Vec<String> {
    let received = backend.received();
    received.iter().filter_map(|request| Some(request.start_line().split(' ').nth(1)?.to_owned())).collect()
}

#[test]
fn waiting_requests_are_served_in_order_and_leave_the_queue_with_their_clients() {
    let (backend, go) = commanded_backend();
    let proxy = setup(&backend).set("workers", 2).start();
    let client = proxy.producer();
    let mut served = vec![send(&client, &proxy, "/0")];
    backend.wait_for(1);
    let mut waiting = send_queued(&client, &proxy, &["/1", "/2", "/3", "/4"]);
    drop(waiting.remove(1));
    proxy.admin.wait_for(QUEUED, 3.0);
    let http2 = Http2::connect(&client, proxy.address).unwrap();
    http2
        .open(request("GET", "/5", &[]), true)
        .map(|exchange| {
            proxy.admin.wait_for(QUEUED, 4.0);
            exchange.reset();
        })
        .unwrap();
    proxy.admin.wait_for(QUEUED, 3.0);
    served.append(&mut waiting);
    for connection in &mut served {
        go.send(()).unwrap();
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
    }
    assert_eq!(received_paths(&backend), ["/0", "/1", "/3", "/4"]);
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert_eq!(proxy.admin.metrics().value(QUEUED), 0.0);
}

/// A waiting request is judged again when the decision on it ends.
#[test]
fn the_end_of_a_grant_ends_the_wait() {
    let (backend, _go) = commanded_backend();
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(6);
    let proxy = setup(&backend).policy(&policy_of_two(&format!("when: {{ until: {ends} }}"), "")).start();
    let _first = send(&proxy.consumer(), &proxy, "/first");
    backend.wait_for(1);
    let mut waiting = send_queued(&proxy.producer(), &proxy, &["/second"]).remove(0);
    assert_eq!(waiting.answer_to("GET").unwrap().verdict(), "403 insufficient_permissions");
    assert_eq!(proxy.admin.metrics().value(QUEUED), 0.0);
    assert_eq!(received_paths(&backend), ["/first"]);
}

#[test]
fn a_full_queue_refuses_at_once_and_a_long_wait_ends() {
    let (backend, go) = commanded_backend();
    let proxy = setup(&backend).set("backend.queue", 1).set("backend.queue_timeout", "1500ms").start();
    let client = proxy.producer();
    let mut first = send(&client, &proxy, "/first");
    backend.wait_for(1);
    let since = Instant::now();
    let mut second = send_queued(&client, &proxy, &["/second"]).remove(0);
    let mut third = send(&client, &proxy, "/third");
    let answer = third.answer_to("GET").unwrap();
    assert_eq!(answer.verdict(), "504 overloaded");
    assert_eq!(answer.header("retry-after"), Some("2"), "by then every waiting request has left");
    let answer = second.answer_to("GET").unwrap();
    assert_eq!(answer.verdict(), "504 overloaded");
    assert!(since.elapsed() >= Duration::from_millis(1500), "{:?}", since.elapsed());
    assert_eq!(proxy.consumer().connect(proxy.address).unwrap().get("/x").unwrap().status, 403);
    go.send(()).unwrap();
    assert_eq!(first.answer_to("GET").unwrap().status, 200);
    go.send(()).unwrap();
    assert_eq!(second.get("/again").unwrap().status, 200, "the connection can be used again");
    assert_eq!(received_paths(&backend), ["/first", "/again"], "no refused request reached the backend");
}

#[test]
fn without_a_queue_requests_are_refused_at_once() {
    for (key, value) in [("backend.queue", serde_json::json!(0)), ("backend.queue_timeout", "0s".into())] {
        let (backend, go) = commanded_backend();
        let proxy = setup(&backend).set(key, value).start();
        let mut first = send(&proxy.producer(), &proxy, "/first");
        backend.wait_for(1);
        let answer = proxy.connect().get("/second").unwrap();
        assert_eq!(answer.verdict(), "504 overloaded", "{key}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        go.send(()).unwrap();
        assert_eq!(first.answer_to("GET").unwrap().status, 200);
    }
}

#[test]
fn clients_of_high_priority_are_served_first_and_have_reserved_places() {
    let (backend, go) = commanded_backend();
    let proxy = setup(&backend)
        .policy(&policy_of_two("", "priority: high"))
        .set("backend.max_in_flight", 2)
        .set("limits.reserved_for_high_priority", 50)
        .start();
    let (normal, high) = (proxy.producer(), proxy.consumer());
    let mut served = vec![send(&normal, &proxy, "/normal/1")];
    backend.wait_for(1);
    let mut waiting = send_queued(&normal, &proxy, &["/normal/2"]);
    served.push(send(&high, &proxy, "/high/1"));
    backend.wait_for(2);
    served.append(&mut send_queued(&high, &proxy, &["/high/2"]));
    served.append(&mut waiting);
    go.send(()).unwrap();
    backend.wait_for(3);
    // One place is reserved, so a request of normal priority waits until both are free.
    go.send(()).unwrap();
    proxy.admin.wait_for(IN_FLIGHT, 1.0);
    assert_eq!(proxy.admin.metrics().value(QUEUED), 1.0);
    go.send(()).unwrap();
    backend.wait_for(4);
    go.send(()).unwrap();
    for connection in &mut served {
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
    }
    assert_eq!(received_paths(&backend), ["/normal/1", "/high/1", "/high/2", "/normal/2"]);
}

#[test]
fn slots_are_reserved_only_if_the_policy_gives_a_client_high_priority() {
    let backend = Backend::ok();
    for (reports, second) in [("priority: high", "504 server_full"), ("priority: normal", "200")] {
        let proxy = Setup::new(&backend.url())
            .policy(&policy_of_two("", reports))
            .set("limits.max_connections", 2)
            .start();
        let ask = |client: &Client| {
            let mut connection = client.connect(proxy.address).unwrap();
            let verdict = connection.get("/events").unwrap().verdict();
            (connection, verdict)
        };
        let (_first, verdict) = ask(&proxy.producer());
        assert_eq!(verdict, "200");
        let (held, verdict) = ask(&proxy.producer());
        assert_eq!(verdict, second, "{reports}");
        drop(held);
        proxy.admin.wait_for(SLOTS_USED, 1.0);
        let (_third, verdict) = ask(&proxy.consumer());
        assert_eq!(verdict, "200", "{reports}");
    }
}
