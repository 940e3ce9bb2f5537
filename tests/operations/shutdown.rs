//! The shutdown: open requests are finished, no new ones begin, and the exit code is 0 (DESIGN §8).

use std::time::{Duration, Instant};

use crate::support::backend::OK;
use crate::support::http1::Wire;
use crate::support::http2::request;
use crate::support::{Backend, Client, DEADLINE, Proxy, Setup, eventually};

/// A backend that answers `/slow` after a message of the test.
fn backend_with_a_slow_answer() -> (Backend, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            if request.start_line().contains("/slow") {
                // If no message comes within the deadline, the test has failed elsewhere.
                let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
            }
            connection.wire.send(OK)?;
        }
        Ok(())
    });
    (backend, go)
}

#[track_caller]
fn wait_until_draining(proxy: &Proxy) {
    eventually("readiness", || proxy.admin.get("/readyz").status, |status| *status == 503);
}

#[test]
fn an_idle_server_ends_at_once_with_exit_code_0() {
    for signal in ["TERM", "INT"] {
        let backend = Backend::ok();
        let mut proxy = Proxy::in_front_of(&backend.url());
        let mut idle = proxy.connect();
        assert_eq!(idle.get("/events").unwrap().status, 200);
        let start = Instant::now();
        proxy.process.signal(signal);
        assert_eq!(proxy.process.exit().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(idle.is_closed());
    }
}

#[test]
fn an_open_request_is_finished_and_its_connection_is_closed() {
    let (backend, go) = backend_with_a_slow_answer();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let mut busy = proxy.connect();
    busy.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    proxy.process.signal("TERM");
    wait_until_draining(&proxy);
    go.send(()).unwrap();
    assert_eq!(busy.answer_to("GET").unwrap().text(), "ok");
    assert!(busy.is_closed());
    assert_eq!(proxy.process.exit().code(), Some(0));
}

#[test]
fn an_http2_connection_gets_goaway_and_its_streams_are_finished() {
    let (backend, go) = backend_with_a_slow_answer();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let connection = proxy.http2();
    let exchange = connection.open(request("GET", "/slow", &[]), true).unwrap();
    backend.wait_for(1);
    proxy.process.signal("TERM");
    wait_until_draining(&proxy);
    go.send(()).unwrap();
    assert_eq!(exchange.finish(b"").unwrap().text(), "ok");
    connection.assert_ends_in_order();
    assert_eq!(proxy.process.exit().code(), Some(0));
}

#[test]
fn new_connections_are_refused_after_the_grace() {
    let (backend, go) = backend_with_a_slow_answer();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let mut busy = proxy.connect();
    busy.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    proxy.process.signal("TERM");
    let client = proxy.producer();
    let knock = || client.connect(proxy.address).is_err();
    eventually("a refused connection", knock, |is_refused| *is_refused);
    go.send(()).unwrap();
    assert_eq!(busy.answer_to("GET").unwrap().text(), "ok");
    assert_eq!(proxy.process.exit().code(), Some(0));
}

#[test]
fn a_request_that_never_ends_is_cut_after_the_drain_timeout() {
    let backend = Backend::streaming();
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "300ms").start();
    let mut stream = proxy.connect();
    stream.send("GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_until(b"data: 1\n\n").unwrap();
    let start = Instant::now();
    proxy.process.signal("TERM");
    assert_eq!(proxy.process.exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(stream.read_to_end().is_ok() || stream.is_closed());
}

#[test]
fn a_second_signal_ends_at_once() {
    let backend = Backend::never_answering();
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "60s").start();
    let mut busy = proxy.connect();
    busy.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    proxy.process.signal("TERM");
    wait_until_draining(&proxy);
    proxy.process.signal("INT");
    let start = Instant::now();
    proxy.process.exit();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn connections_without_a_slot_do_not_delay_the_end() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "60s").start();
    let _silent = Wire::plain(proxy.address).unwrap();
    let mut half = Wire::plain(proxy.address).unwrap();
    half.send([0x16, 0x03, 0x01]).unwrap();
    let mut stranger = Client::anonymous(proxy.pki()).connect(proxy.address).unwrap();
    assert_eq!(stranger.get("/").unwrap().status, 401);
    let start = Instant::now();
    // SIGINT comes from a person and has no grace, which only orchestrators need.
    proxy.process.signal("INT");
    assert_eq!(proxy.process.exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
