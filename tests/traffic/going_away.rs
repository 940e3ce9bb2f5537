//! The end of connections cuts nothing: HTTP/2 sends GOAWAY with or after the last answer, because common clients drop what is
//! in progress when GOAWAY comes; connections that are old end in the same way; and a burst of requests beyond the limit of
//! streams ends no connection (DESIGN §2.3, §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::backend::OK;
use crate::support::frames::{
    END_STREAM, Frames, GET_EVENTS, GOAWAY, HEADERS, REFUSED_STREAM, RST_STREAM, headers, preface,
    pseudo_headers, setting,
};
use crate::support::{Backend, Setup, eventually};

/// Returns a backend that answers `/slow` only after the gate is open, and everything else at once.
fn gated_backend() -> (Backend, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            while request.start_line().contains("/slow") && !open.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            connection.wire.send(OK)?;
        }
        Ok(())
    });
    (backend, gate)
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_STREAM, &pseudo_headers("GET", path))
}

/// Reads frames until the answer of this stream begins. No GOAWAY may come before.
#[track_caller]
fn assert_answered_before_goaway(connection: &mut Frames, stream: u32) {
    loop {
        let frame = connection.next().unwrap();
        assert_ne!(frame.kind, GOAWAY, "GOAWAY comes before the answer of stream {stream}");
        if (frame.kind, frame.stream) == (HEADERS, stream) {
            assert_eq!(frame.status(), 200);
            return;
        }
    }
}

#[test]
fn a_stop_serves_http2_until_no_request_is_open_and_says_goaway_then() {
    let (backend, gate) = gated_backend();
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "30s").start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(get(1, "/slow")).unwrap();
    backend.wait_for(1);
    proxy.process.signal("INT");
    eventually(
        "the port is closed",
        || std::net::TcpStream::connect(proxy.address).is_err(),
        |closed| *closed,
    );
    connection.send(get(3, "/new")).unwrap();
    assert_answered_before_goaway(&mut connection, 3);
    gate.store(true, Ordering::SeqCst);
    assert_answered_before_goaway(&mut connection, 1);
    while connection.next().unwrap().kind != GOAWAY {}
    assert_eq!(proxy.process.exit().code(), Some(0));
}

#[test]
fn a_stop_says_goaway_before_its_time_is_over_although_requests_are_open() {
    let (backend, gate) = gated_backend();
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "2s").start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(get(1, "/slow")).unwrap();
    backend.wait_for(1);
    proxy.process.signal("INT");
    while connection.next().unwrap().kind != GOAWAY {}
    gate.store(true, Ordering::SeqCst);
    loop {
        let frame = connection.next().unwrap();
        if (frame.kind, frame.stream) == (HEADERS, 1) {
            assert_eq!(frame.status(), 200);
            break;
        }
    }
    assert_eq!(proxy.process.exit().code(), Some(0));
}

#[test]
fn a_connection_of_http1_ends_at_its_age_with_an_answer() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.connection_age", "500ms").start();
    let mut connection = proxy.connect();
    let mut answers = 0;
    loop {
        let answer = connection.get("/events").unwrap();
        assert_eq!(answer.status, 200);
        answers += 1;
        if answer.header("connection") == Some("close") {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(answers > 5 && connection.is_closed(), "{answers}");
    assert_eq!(proxy.connect().get("/events").unwrap().header("connection"), None, "a new connection");
}

#[test]
fn a_connection_of_http2_ends_at_its_age_between_two_requests_and_never_within_one() {
    let (backend, gate) = gated_backend();
    let proxy = Setup::new(&backend.url()).set("limits.connection_age", "300ms").start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    connection.send(get(1, "/slow")).unwrap();
    backend.wait_for(1);
    // The age is over long before the answer.
    thread::sleep(Duration::from_secs(1));
    connection.send(get(3, "/new")).unwrap();
    assert_answered_before_goaway(&mut connection, 3);
    gate.store(true, Ordering::SeqCst);
    assert_answered_before_goaway(&mut connection, 1);
    while connection.next().unwrap().kind != GOAWAY {}
}

#[test]
fn a_burst_of_a_thousand_requests_is_served_up_to_the_limit_of_streams_and_the_connection_goes_on() {
    let backend = Backend::ok();
    let proxy =
        Setup::new(&backend.url()).set("backend.queue", 1000).set("backend.queue_timeout", "20s").start();
    let mut connection = Frames::connect_without_preface(&proxy.producer(), proxy.address).unwrap();
    let number = |index: u32| 2 * index + 1;
    let burst: Vec<u8> = (0..1000).flat_map(|index| headers(number(index), END_STREAM, GET_EVENTS)).collect();
    connection.send([preface(&setting(4, 1 << 20)), burst].concat()).unwrap();
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 1000 {
        let frame = connection.next().unwrap();
        match frame.kind {
            GOAWAY => panic!("{frame:?} after {answered} answers and {refused} refusals"),
            HEADERS => {
                assert_eq!(frame.status(), 200);
                answered += 1;
            }
            RST_STREAM => {
                assert_eq!(frame.error(), REFUSED_STREAM);
                refused += 1;
            }
            _ => {}
        }
    }
    assert!(answered >= 250, "{answered}");
    connection.send(get(number(1000), "/next")).unwrap();
    assert_answered_before_goaway(&mut connection, number(1000));
}
