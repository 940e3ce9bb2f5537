//! A place in flight is given back once the backend has given its answer, whether or not the client reads the answer
//! (DESIGN §2.3). A large answer holds its place, because only a part of it is read ahead.

use crate::support::admin::{IN_FLIGHT, SLOTS_USED};
use crate::support::backend::OK;
use crate::support::blocking::Gate;
use crate::support::frames::{
    DATA, END_STREAM, Frames, GET_EVENTS, RST_STREAM, WINDOW_UPDATE, frame, headers,
};
use crate::support::proxy::{assert_served, policy_of_two};
use crate::support::{Backend, Proxy, Setup};

/// A connection of the producer that reads no byte of a body.
fn connect_without_window(proxy: &Proxy) -> Frames {
    Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap()
}

/// Sends requests on the first streams of a connection.
fn send_requests(connection: &mut Frames, count: u32) {
    for number in 0..count {
        connection.send(headers(2 * number + 1, END_STREAM, GET_EVENTS)).unwrap();
    }
}

#[test]
fn answers_that_the_client_does_not_read_hold_no_place_once_the_backend_has_given_them() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{}", "x".repeat(20_000));
    for answer in [OK, CHUNKED, &large] {
        let backend = Backend::answering(answer);
        let proxy = Setup::new(&backend.url())
            .set("backend.max_in_flight", 40)
            .set("backend.queue", 1000)
            .set("backend.queue_timeout", "60s")
            .set("workers", 2)
            .start();
        let mut connection = connect_without_window(&proxy);
        send_requests(&mut connection, 150);
        backend.wait_for(150);
        proxy.admin.wait_for(IN_FLIGHT, 0.0);
        assert!(connection.answers_ping());
        // The answer was read ahead, and is there once the client opens its window.
        connection.send(frame(WINDOW_UPDATE, 0, 1, 100_000_u32.to_be_bytes())).unwrap();
        let mut read = 0;
        loop {
            let next = connection.next().unwrap();
            if next.stream == 1 && next.kind == DATA {
                read += next.payload.len();
                if next.flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        assert!([2, 20_000].contains(&read), "{read}");
        drop(connection);
        proxy.admin.wait_for(SLOTS_USED, 0.0);
    }
}

#[test]
fn an_answer_that_is_read_goes_on_beside_many_that_wait() {
    const LENGTH: usize = 300_000;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n{}", "x".repeat(LENGTH));
    let backend = Backend::answering(answer);
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = connect_without_window(&proxy);
    send_requests(&mut connection, 100);
    backend.wait_for(100);
    let last = 199;
    for stream in [0, last] {
        connection.send(frame(WINDOW_UPDATE, 0, stream, 400_000_u32.to_be_bytes())).unwrap();
    }
    let mut read = 0;
    while read < LENGTH {
        let next = connection.next().unwrap();
        if next.stream == last && next.kind == DATA {
            read += next.payload.len();
        }
    }
    assert!(connection.answers_ping());
    drop(connection);
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// The rest of an answer may come at any time after its head. The proxy reads it whether or not the client reads anything.
#[test]
fn the_rest_of_an_answer_that_the_client_does_not_read_is_waited_for() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let backend = Backend::scripted(move |connection| {
        while connection.request()?.is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")?;
            waiting.pass();
            connection.wire.send("3\r\nyes\r\n")?;
            connection.wire.send("0\r\n\r\n")?;
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).start();
    let mut connection = connect_without_window(&proxy);
    send_requests(&mut connection, 20);
    backend.wait_for(20);
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 20.0, "the backend has not ended its answers");
    gate.open();
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert!(connection.answers_ping());
}

/// A bounded part of a large answer is read ahead. The rest waits at the backend, so the backend still works on it.
#[test]
fn a_large_answer_holds_its_place_until_its_client_has_read_it() {
    let length = 8 * 1024 * 1024;
    let backend = Backend::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}",
        "x".repeat(length)
    ));
    let proxy = Setup::new(&backend.url()).start();
    let before = proxy.process.resident_memory();
    let mut slow = connect_without_window(&proxy);
    send_requests(&mut slow, 20);
    backend.wait_for(20);
    assert!(slow.answers_ping());
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 20.0);
    let grown = proxy.process.resident_memory().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes more for {} that no client reads", 20 * length);
    // A reset ends the work of the backend.
    for number in 0..20_u32 {
        slow.send(frame(RST_STREAM, 0, 2 * number + 1, 8_u32.to_be_bytes())).unwrap();
    }
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

#[test]
fn connections_that_read_nothing_do_not_keep_other_clients_from_being_served() {
    let backend = Backend::ok();
    for (connections, most) in [(3, 512), (1, 40)] {
        backend.clear_records();
        let proxy = Setup::new(&backend.url())
            .policy(&policy_of_two("", ""))
            .set("backend.max_in_flight", most)
            .set("backend.queue", 1000)
            .set("backend.queue_timeout", "60s")
            // Hundreds of new connections at once take a test's backend long to accept.
            .set("backend.connect_timeout", "20s")
            .start();
        let mut greedy: Vec<Frames> = (0..connections).map(|_| connect_without_window(&proxy)).collect();
        for connection in &mut greedy {
            send_requests(connection, 250);
        }
        assert_served(&proxy, &proxy.consumer());
        backend.wait_for(250 * connections + 2);
        assert_served(&proxy, &proxy.consumer());
    }
}
