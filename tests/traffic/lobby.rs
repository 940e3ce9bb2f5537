//! The lobby: connections that were given nothing are few, short-lived, and in nobody's way (DESIGN §2.4).

use std::time::{Duration, Instant};

use crate::support::http1::Wire;
use crate::support::tls::Tls;
use crate::support::{Backend, DEADLINE, Proxy, Setup, eventually};

fn stranger(proxy: &Proxy) -> Tls {
    proxy.anonymous().connect(proxy.address).unwrap()
}

/// A full server under a crowd of strangers: each still gets its 401, and who was admitted is still served.
/// Case 73.
#[test]
fn a_full_lobby_lets_the_newcomer_in_and_the_oldest_out() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .set("limits.max_connections", 1)
        .set("limits.lobby.max_connections", 5)
        .start();
    let mut admitted = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let mut crowd: Vec<Tls> = Vec::new();
    for _ in 0..20 {
        let mut newcomer = stranger(&proxy);
        assert_eq!(newcomer.get("/events").unwrap().verdict(), "401 not_authenticated");
        crowd.push(newcomer);
    }
    assert!(proxy.admin.metrics().labelled("sidegate_connections", &[("state", "lobby")]) <= 5.0);
    assert!(crowd[0].is_closed(), "the oldest had to go");
    assert_eq!(crowd[19].get("/events").unwrap().status, 401, "the newest is still here");
    assert_eq!(admitted.get("/events").unwrap().status, 200, "who was admitted is no part of it");
}

#[test]
fn one_source_fills_its_own_part_and_no_more() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.max_per_source", 3).start();
    let mut crowd: Vec<Tls> = (0..10).map(|_| stranger(&proxy)).collect();
    let lobby = || proxy.admin.metrics().labelled("sidegate_connections", &[("state", "lobby")]);
    eventually("the lobby", lobby, |count| *count <= 3.0);
    assert!(crowd[0].is_closed());
    assert_eq!(crowd[9].get("/events").unwrap().status, 401);
}

/// Case 73: whoever begins a handshake and does not go on makes room for who comes later.
#[test]
fn the_oldest_handshake_gives_way_and_clients_get_through() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.handshakes", 4).start();
    let mut admitted = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let mut waiting = stranger(&proxy);
    assert_eq!(waiting.get("/").unwrap().status, 401);
    let mut silent: Vec<_> = (0..12).map(|_| Wire::plain(proxy.address).unwrap()).collect();
    let in_progress = || proxy.admin.metrics().value("sidegate_handshakes_in_progress");
    let gone =
        || proxy.admin.metrics().labelled("sidegate_lobby_evictions_total", &[("bound", "handshakes")]);
    eventually("the evictions", gone, |gone| *gone == 8.0);
    assert_eq!(in_progress(), 4.0);
    assert!(silent[..8].iter_mut().all(Wire::is_closed), "the oldest had to go");
    let counted = || proxy.admin.metrics().labelled("sidegate_handshakes_total", &[("result", "gave_way")]);
    eventually("how they ended", counted, |count| *count == 8.0);

    let mut newcomer = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(newcomer.get("/events").unwrap().status, 200);
    assert_eq!(waiting.get("/").unwrap().status, 401, "who is through its handshake is no part of it");
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    drop(silent);
    proxy.admin.wait_for("sidegate_handshakes_in_progress", 0.0);
}

#[test]
fn a_source_that_comes_too_often_is_turned_away_and_may_come_again() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.lobby.connections_per_second", 5).start();
    let attempts: Vec<bool> = (0..50).map(|_| proxy.anonymous().connect(proxy.address).is_ok()).collect();
    assert!(attempts[..5].iter().all(|is_in| *is_in), "{attempts:?}");
    assert!(attempts.contains(&false), "{attempts:?}");
    eventually("a later try", || proxy.anonymous().connect(proxy.address).is_ok(), |is_in| *is_in);
}

/// Cases 73 and 74.
#[test]
fn who_says_nothing_is_sent_away() {
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
    let mut secured = stranger(&proxy);
    let mut slow = proxy.producer().connect(proxy.address).unwrap();
    slow.send("GET /events HTTP/1.1\r\nHost: loc").unwrap();
    let mut answered = stranger(&proxy);
    assert_eq!(answered.get("/").unwrap().status, 401);
    assert!(silent.is_closed() && half.is_closed(), "in the middle of a handshake");
    assert!(secured.is_closed() && slow.read_to_end().is_ok(), "in the middle of a request");
    assert!(answered.is_closed(), "between requests");
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    assert!(backend.received().is_empty());
}

/// Who was admitted has the longer patience of `limits.idle_timeout`.
#[test]
fn who_holds_a_slot_may_be_idle_for_longer() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .set("limits.lobby.idle_timeout", "100ms")
        .set("limits.lobby.request_timeout", "10s")
        .set("limits.idle_timeout", "1500ms")
        .start();
    let mut admitted = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(admitted.get("/events").unwrap().status, 200);
    let since = Instant::now();
    let mut stranger = stranger(&proxy);
    assert_eq!(stranger.get("/").unwrap().status, 401);
    assert!(stranger.is_closed());
    assert!(since.elapsed() < Duration::from_millis(1400), "the lobby is impatient: {:?}", since.elapsed());
    assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 1.0);
    assert!(admitted.is_closed());
    assert!(since.elapsed() >= Duration::from_millis(1400), "{:?}", since.elapsed());
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
}
