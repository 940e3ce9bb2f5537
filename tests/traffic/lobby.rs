//! The lobby holds connections without a slot. Their number and their time are limited, and they do not slow down clients
//! with a slot (DESIGN §2.4).

use std::time::{Duration, Instant};

use crate::support::http1::Wire;
use crate::support::tls::Tls;
use crate::support::{Backend, DEADLINE, Proxy, Setup, eventually};

fn connect_stranger(proxy: &Proxy) -> Tls {
    proxy.anonymous().connect(proxy.address).unwrap()
}

/// Case 73. A server without a free slot answers every stranger with 401 and still serves the client with the slot.
#[test]
fn a_full_lobby_closes_its_oldest_connection_for_a_new_one() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .set("limits.max_connections", 1)
        .set("limits.lobby.max_connections", 5)
        .start();
    let mut admitted = proxy.connect();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let mut strangers: Vec<Tls> = Vec::new();
    for _ in 0..20 {
        let mut newcomer = connect_stranger(&proxy);
        assert_eq!(newcomer.get("/events").unwrap().verdict(), "401 not_authenticated");
        strangers.push(newcomer);
    }
    assert!(proxy.admin.metrics().labelled("sidegate_connections", &[("state", "lobby")]) <= 5.0);
    assert!(strangers[0].is_closed(), "the oldest was closed");
    assert_eq!(strangers[19].get("/events").unwrap().status, 401, "the newest is still open");
    assert_eq!(admitted.get("/events").unwrap().status, 200, "a connection with a slot is not in the lobby");
}

#[test]
fn one_source_address_fills_only_its_own_part_of_the_lobby() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.max_per_source", 3).start();
    let mut strangers: Vec<Tls> = (0..10).map(|_| connect_stranger(&proxy)).collect();
    let lobby = || proxy.admin.metrics().labelled("sidegate_connections", &[("state", "lobby")]);
    eventually("the lobby", lobby, |count| *count <= 3.0);
    assert!(strangers[0].is_closed());
    assert_eq!(strangers[9].get("/events").unwrap().status, 401);
}

/// Case 73: connections that begin a handshake and do not go on are closed for new ones.
#[test]
fn the_oldest_handshake_is_closed_for_a_new_one_and_clients_are_served() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.handshakes", 4).start();
    let mut admitted = proxy.connect();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let mut waiting = connect_stranger(&proxy);
    assert_eq!(waiting.get("/").unwrap().status, 401);
    let mut silent: Vec<_> = (0..12).map(|_| Wire::plain(proxy.address).unwrap()).collect();
    let in_progress = || proxy.admin.metrics().value("sidegate_handshakes_in_progress");
    let gone =
        || proxy.admin.metrics().labelled("sidegate_lobby_evictions_total", &[("bound", "handshakes")]);
    eventually("the evictions", gone, |gone| *gone == 8.0);
    assert_eq!(in_progress(), 4.0);
    assert!(silent[..8].iter_mut().all(Wire::is_closed), "the oldest was closed");
    let counted = || proxy.admin.metrics().labelled("sidegate_handshakes_total", &[("result", "gave_way")]);
    eventually("the results of the handshakes", counted, |count| *count == 8.0);

    let mut newcomer = proxy.connect();
    assert_eq!(newcomer.get("/events").unwrap().status, 200);
    assert_eq!(waiting.get("/").unwrap().status, 401, "a connection after its handshake is not affected");
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    drop(silent);
    proxy.admin.wait_for("sidegate_handshakes_in_progress", 0.0);
}

#[test]
fn a_source_that_connects_too_often_is_refused_and_may_connect_later() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.connections_per_second", 5).start();
    let attempts: Vec<bool> = (0..50).map(|_| proxy.anonymous().connect(proxy.address).is_ok()).collect();
    assert!(attempts[..5].iter().all(|is_open| *is_open), "{attempts:?}");
    assert!(attempts.contains(&false), "{attempts:?}");
    eventually("a later attempt", || proxy.anonymous().connect(proxy.address).is_ok(), |is_open| *is_open);
}

/// Cases 73 and 74.
#[test]
fn a_client_that_sends_nothing_is_closed() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .set("limits.lobby.handshake_timeout", "200ms")
        .set("limits.lobby.request_timeout", "200ms")
        .set("limits.lobby.idle_timeout", "200ms")
        .start();
    let start = Instant::now();
    let mut silent = Wire::plain(proxy.address).unwrap();
    let mut half = Wire::plain(proxy.address).unwrap();
    half.send([0x16, 0x03, 0x01, 0x02, 0x00]).unwrap();
    let mut secured = connect_stranger(&proxy);
    let mut slow = proxy.connect();
    slow.send("GET /events HTTP/1.1\r\nHost: loc").unwrap();
    let mut answered = connect_stranger(&proxy);
    assert_eq!(answered.get("/").unwrap().status, 401);
    assert!(silent.is_closed() && half.is_closed(), "in the middle of a handshake");
    assert!(secured.is_closed() && slow.read_to_end().is_ok(), "in the middle of a request");
    assert!(answered.is_closed(), "between requests");
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    assert!(backend.received().is_empty());
}

/// `limits.idle_timeout` is the timeout for connections with a slot.
#[test]
fn a_connection_with_a_slot_may_be_idle_for_longer() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .set("limits.lobby.idle_timeout", "100ms")
        .set("limits.lobby.request_timeout", "10s")
        .set("limits.idle_timeout", "1500ms")
        .start();
    let mut admitted = proxy.connect();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let since = Instant::now();
    let mut stranger = connect_stranger(&proxy);
    assert_eq!(stranger.get("/").unwrap().status, 401);
    assert!(stranger.is_closed());
    assert!(
        since.elapsed() < Duration::from_millis(1400),
        "the lobby has the shorter timeout: {:?}",
        since.elapsed()
    );
    assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 1.0);
    assert!(admitted.is_closed());
    assert!(since.elapsed() >= Duration::from_millis(1400), "{:?}", since.elapsed());
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
}
