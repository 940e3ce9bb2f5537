//! More requests than the backend may work on wait a little, in order, and are told so when it was too long; who has
//! priority does not stand behind the others (DESIGN §2, step 5).

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::support::backend::OK;
use crate::support::http2::{Http2, request};
use crate::support::proxy::policy_of_two;
use crate::support::tls::Tls;
use crate::support::{Backend, Client, DEADLINE, Proxy, Setup};

const QUEUED: &str = "sidegate_requests_queued";

/// A backend that answers one request each time that the test says so.
fn on_command() -> (Backend, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::scripted(move |connection| {
        while connection.request()?.is_some() {
            // Without a word from the test within the deadline, the test has failed elsewhere.
            let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
            connection.wire.send(OK)?;
        }
        Ok(())
    });
    (backend, go)
}

/// In front of a backend that works on one request at a time.
fn setup(backend: &Backend) -> Setup {
    Setup::new(&backend.url()).set("backend.max_in_flight", 1).set("backend.queue_timeout", "60s")
}

fn send(client: &Client, proxy: &Proxy, path: &str) -> Tls {
    let mut connection = client.connect(proxy.address).unwrap();
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
    connection
}

/// Requests that wait one behind the other.
fn line_up(client: &Client, proxy: &Proxy, paths: &[&str]) -> Vec<Tls> {
    let waiting = proxy.admin.metrics().value(QUEUED);
    let send = |(path, number): (&&str, u32)| {
        let connection = send(client, proxy, path);
        proxy.admin.wait_for(QUEUED, waiting + f64::from(number));
        connection
    };
    paths.iter().zip(1..).map(send).collect()
}

fn order(backend: &Backend) -> Vec<String> {
    let received = backend.received();
    received.iter().filter_map(|request| Some(request.start_line().split(' ').nth(1)?.to_owned())).collect()
}

#[test]
fn who_waits_is_served_in_order_and_who_goes_away_has_left_the_queue() {
    let (backend, go) = on_command();
    let proxy = setup(&backend).set("workers", 2).start();
    let client = proxy.producer();
    let mut served = vec![send(&client, &proxy, "/0")];
    backend.wait_for(1);
    let mut waiting = line_up(&client, &proxy, &["/1", "/2", "/3", "/4"]);
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
    assert_eq!(order(&backend), ["/0", "/1", "/3", "/4"]);
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    assert_eq!(proxy.admin.metrics().value(QUEUED), 0.0);
}

/// Whoever waits is judged again, as whoever is served is.
#[test]
fn a_grant_that_ends_ends_the_wait() {
    let (backend, _go) = on_command();
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(6);
    let proxy = setup(&backend).policy(&policy_of_two(&format!("when: {{ until: {ends} }}"), "")).start();
    let _first = send(&proxy.consumer(), &proxy, "/first");
    backend.wait_for(1);
    let mut waiting = line_up(&proxy.producer(), &proxy, &["/second"]).remove(0);
    assert_eq!(waiting.answer_to("GET").unwrap().verdict(), "403 insufficient_permissions");
    assert_eq!(proxy.admin.metrics().value(QUEUED), 0.0);
    assert_eq!(order(&backend), ["/first"]);
}

#[test]
fn too_many_are_told_so_at_once_and_too_long_a_wait_ends() {
    let (backend, go) = on_command();
    let proxy = setup(&backend).set("backend.queue", 1).set("backend.queue_timeout", "1500ms").start();
    let client = proxy.producer();
    let mut first = send(&client, &proxy, "/first");
    backend.wait_for(1);
    let since = Instant::now();
    let mut second = line_up(&client, &proxy, &["/second"]).remove(0);
    let mut third = send(&client, &proxy, "/third");
    let answer = third.answer_to("GET").unwrap();
    assert_eq!(answer.verdict(), "504 overloaded");
    assert_eq!(answer.header("retry-after"), Some("2"), "by then all who wait have gone");
    let answer = second.answer_to("GET").unwrap();
    assert_eq!(answer.verdict(), "504 overloaded");
    assert!(since.elapsed() >= Duration::from_millis(1500), "{:?}", since.elapsed());
    assert_eq!(proxy.consumer().connect(proxy.address).unwrap().get("/x").unwrap().status, 403);
    go.send(()).unwrap();
    assert_eq!(first.answer_to("GET").unwrap().status, 200);
    go.send(()).unwrap();
    assert_eq!(second.get("/again").unwrap().status, 200, "its connection is as good as before");
    assert_eq!(order(&backend), ["/first", "/again"], "nothing of what was refused reached the backend");
}

#[test]
fn without_a_queue_nobody_waits() {
    for (key, value) in [("backend.queue", serde_json::json!(0)), ("backend.queue_timeout", "0s".into())] {
        let (backend, go) = on_command();
        let proxy = setup(&backend).set(key, value).start();
        let mut first = send(&proxy.producer(), &proxy, "/first");
        backend.wait_for(1);
        let answer = proxy.producer().connect(proxy.address).unwrap().get("/second").unwrap();
        assert_eq!(answer.verdict(), "504 overloaded", "{key}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        go.send(()).unwrap();
        assert_eq!(first.answer_to("GET").unwrap().status, 200);
    }
}

#[test]
fn who_has_priority_is_called_first_and_has_a_part_for_itself() {
    let (backend, go) = on_command();
    let proxy = setup(&backend)
        .policy(&policy_of_two("", "priority: high"))
        .set("backend.max_in_flight", 2)
        .set("limits.reserved_for_high_priority", 50)
        .start();
    let (normal, high) = (proxy.producer(), proxy.consumer());
    let mut served = vec![send(&normal, &proxy, "/normal/1")];
    backend.wait_for(1);
    let mut waiting = line_up(&normal, &proxy, &["/normal/2"]);
    served.push(send(&high, &proxy, "/high/1"));
    backend.wait_for(2);
    served.append(&mut line_up(&high, &proxy, &["/high/2"]));
    served.append(&mut waiting);
    go.send(()).unwrap();
    backend.wait_for(3);
    // The other place is kept: the second of the others waits for both to be free.
    go.send(()).unwrap();
    proxy.admin.wait_for("sidegate_requests_in_flight", 1.0);
    assert_eq!(proxy.admin.metrics().value(QUEUED), 1.0);
    go.send(()).unwrap();
    backend.wait_for(4);
    go.send(()).unwrap();
    for connection in &mut served {
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
    }
    assert_eq!(order(&backend), ["/normal/1", "/high/1", "/high/2", "/normal/2"]);
}

#[test]
fn a_part_of_the_slots_is_kept_where_the_policy_gives_priority_and_only_there() {
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
        proxy.admin.wait_for("sidegate_slots_used", 1.0);
        let (_third, verdict) = ask(&proxy.consumer());
        assert_eq!(verdict, "200", "{reports}");
    }
}
