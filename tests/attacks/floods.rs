//! Floods do not stop the service: admitted clients are served during a flood, and all resources are free again after it
//! (DESIGN §2.4).

use std::process::Command;

use crate::support::http1::Wire;
use crate::support::http2::{Exchange, Http2, request};
use crate::support::proxy::{Process, program};
use crate::support::{Backend, Setup, eventually};

/// Case 79: without a free descriptor, the accept loop waits between attempts and logs the error. It never spins and never
/// exits.
#[test]
fn the_proxy_recovers_after_it_ran_out_of_descriptors() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url());
    let mut proxy = setup.start_in_shell("ulimit -n 48");
    let mut admitted = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let crowd: Vec<_> = (0..100).map(|_| Wire::plain(proxy.address).unwrap()).collect();
    proxy.process.log_where("that it cannot accept", |line| {
        let text = line.to_string().to_lowercase();
        text.contains("accept") && (line["level"] == "WARN" || line["level"] == "ERROR")
    });
    assert_eq!(admitted.get("/events").unwrap().status, 200, "who was admitted is served");
    drop(crowd);
    let client = proxy.producer();
    let ask = || client.connect(proxy.address).and_then(|mut connection| connection.get("/events"));
    let status = || ask().map_or(0, |answer| answer.status);
    eventually("a new connection's answer", status, |status| *status == 200);
    let errors = proxy.admin.metrics().value("sidegate_accept_errors_total");
    assert!((1.0..1000.0).contains(&errors), "{errors} attempts: it spins");
}

#[test]
fn a_warning_at_the_start_tells_of_too_few_descriptors() {
    let backend = Backend::ok();
    let start = |limit: usize| {
        let setup = Setup::new(&backend.url())
            .set("limits.max_connections", 100)
            .set("limits.lobby.max_connections", 50)
            .set("backend.max_in_flight", 22);
        let (program, config) = (program(), setup.write());
        let script =
            format!("ulimit -n {limit}; exec {} run --config {}", program.display(), config.display());
        let mut process = Process::start(Command::new("sh").args(["-c", &script]));
        let first = process.log_where("the first line", |_| true);
        (first, setup)
    };
    let (line, _setup) = start(299);
    assert_eq!((&line["level"], &line["code"]), (&"WARN".into(), &"descriptors".into()), "{line}");
    let message = "299 descriptors may be open, and 300 are needed when all bounds are reached";
    assert_eq!(line["message"], message);
    assert!(line["help"].as_str().unwrap().contains("`ulimit -n 300`"), "{line}");
    let (line, _setup) = start(300);
    assert_eq!(line["message"], "ready", "enough");
}

/// Case 77: a client opens streams and resets them at once, over and over. The proxy judges and forwards each of them.
#[test]
fn streams_that_are_reset_at_once_hold_no_resources() {
    let backend = Backend::never_answering();
    let proxy =
        Setup::new(&backend.url()).set("limits.max_connections", 2).set("backend.max_in_flight", 8).start();
    let flood = || -> std::io::Result<()> {
        let connection = Http2::connect(&proxy.producer(), proxy.address)?;
        for _ in 0..2000 {
            connection.open(request("GET", "/events", &[]), true).map(Exchange::reset)?;
        }
        Ok(())
    };
    // The slot and the places in flight are free again, whether the proxy ends the connection or not.
    let _ = flood();
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
    assert_eq!(stranger.get("/events").unwrap().status, 401);
}

/// Case 73: ten thousand connections send nothing. Admitted clients are served all the time, and a client without a
/// certificate still gets its 401.
#[test]
fn ten_thousand_silent_connections_hold_up_no_client() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.max_connections", 200).start();
    let mut admitted = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let mut crowd = std::collections::VecDeque::new();
    for number in 0..10_000 {
        crowd.push_back(Wire::plain(proxy.address).unwrap());
        // The number of open silent connections is always greater than the room in the lobby.
        if crowd.len() > 400 {
            crowd.pop_front();
        }
        if number % 1000 == 999 {
            assert_eq!(admitted.get("/events").unwrap().status, 200, "{number}");
            let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
            assert_eq!(stranger.get("/events").unwrap().verdict(), "401 not_authenticated", "{number}");
        }
    }
    let lobby = proxy.admin.metrics().labelled("sidegate_connections", &[("state", "lobby")]);
    assert!(lobby <= 201.0, "{lobby} in a lobby for 200");
    assert_eq!(admitted.get("/events").unwrap().status, 200);
}
