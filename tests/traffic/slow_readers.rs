//! An answer that its client reads slowly is not cut: the client gets all of it (DESIGN §2.4).

use std::time::{Duration, Instant};

use super::unread_answers::{
    INITIAL_WINDOW, WRITE_TIMEOUT, assert_nothing_is_held, end_of, get_or_post, setup, window_update,
};

use crate::support::frames::{DATA, END_STREAM, Frames, GOAWAY, Reaction, SETTINGS, frame, setting};
use crate::support::{Backend, eventually};

/// The answer goes on as long as the client reads, and is cut once the client stops.
#[test]
fn a_client_that_reads_byte_by_byte_is_not_cut() {
    let body = "x".repeat(100_000);
    let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{body}"));
    let proxy = setup(&backend.url()).start();
    let mut frames = Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap();
    let start = Instant::now();
    frames.send(get_or_post(1, "GET", "/events")).unwrap();
    while start.elapsed() < 4 * WRITE_TIMEOUT {
        frames.send(window_update(1, 1)).unwrap();
        assert!(frames.answers_ping(), "after {:?}", start.elapsed());
        // Each byte waits for an exchange with another process, which makes the client slow without a fixed time.
        proxy.admin.status();
    }
    end_of(&mut frames);
    assert_nothing_is_held(&proxy);
}

/// An answer without a body needs no window, and neither does a stream without data.
#[test]
fn an_answer_without_waiting_data_is_not_cut() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            match request.start_line() {
                line if line.starts_with("HEAD") => {
                    connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?
                }
                line if line.contains("/silent") => {
                    connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?
                }
                _ => connection.wire.send("HTTP/1.1 204 No Content\r\n\r\n")?,
            }
        }
        Ok(())
    });
    let proxy = setup(&backend.url()).start();
    let mut frames = Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap();
    for (stream, method, path, status) in
        [(1, "HEAD", "/events", 200), (3, "GET", "/events", 204), (5, "GET", "/silent", 200)]
    {
        frames.send(get_or_post(stream, method, path)).unwrap();
        assert_eq!(frames.reaction(stream), Reaction::Answer(status));
    }
    let mut stranger = Frames::with_windows_of(0, &proxy.anonymous(), proxy.address).unwrap();
    stranger.send(get_or_post(1, "HEAD", "/events")).unwrap();
    assert_eq!(stranger.reaction(1), Reaction::Answer(401));
    let start = Instant::now();
    while start.elapsed() < 4 * WRITE_TIMEOUT {
        assert!(frames.answers_ping() && stranger.answers_ping(), "after {:?}", start.elapsed());
        proxy.admin.status();
    }
}

/// The number of refusals at once is not limited if the client reads them.
#[test]
fn a_burst_of_refusals_that_the_client_reads_does_not_end_its_connection() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).start();
    for (client, status) in [(proxy.anonymous(), 401), (proxy.consumer(), 403)] {
        let mut frames = Frames::with_windows_of(1 << 20, &client, proxy.address).unwrap();
        let burst: Vec<_> =
            (0..100).flat_map(|number| get_or_post(number * 2 + 1, "GET", "/events")).collect();
        frames.send([window_update(0, 1 << 24), burst].concat()).unwrap();
        for number in 0..100 {
            assert_eq!(frames.reaction(number * 2 + 1), Reaction::Answer(status), "{number}");
        }
        assert!(frames.answers_ping());
    }
}

/// A permitted client may have an answer waiting on each of its streams.
#[test]
fn answers_wait_until_a_permitted_client_reads_them() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).set("limits.http.write_timeout", "60s").start();
    let mut frames = Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap();
    for number in 0..100 {
        frames.send(get_or_post(number * 2 + 1, "GET", "/events")).unwrap();
    }
    assert!(frames.answers_ping());
    backend.wait_for(100);
    // The windows of all streams open at once.
    frames.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW, 1000))).unwrap();
    let mut ended = 0;
    while ended < 100 {
        let next = frames.next().unwrap();
        assert_ne!(next.kind, GOAWAY);
        ended += usize::from(next.kind == DATA && next.flags & END_STREAM != 0);
    }
}

/// The proxy holds the end of the last answer of a connection, after the backend has sent all of it and while the socket is
/// full. Every byte reaches a slow client before the connection closes.
#[test]
fn the_end_of_a_last_answer_waits_for_a_slow_client() {
    let length = 16_000_000;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    let backend = Backend::scripted(move |connection| {
        // The backend answers an upload before it reads the body.
        while connection.head()?.is_some() {
            connection.wire.send(&answer)?;
        }
        Ok(())
    });
    let proxy = setup(&backend.url()).set("limits.http.write_timeout", "20s").start();
    for request in
        ["GET /events HTTP/1.1\r\nConnection: close", "POST /events HTTP/1.1\r\nContent-Length: 100000"]
    {
        let mut connection = proxy.connect();
        connection.send(format!("{request}\r\nHost: localhost\r\n\r\nbegun")).unwrap();
        assert_eq!(connection.head().unwrap().status, 200);
        let mut left = length;
        while left > 100_000 && proxy.admin.metrics().value("sidegate_requests_in_flight") > 0.0 {
            connection.read_exactly(50_000).unwrap();
            left -= 50_000;
        }
        let start = Instant::now();
        eventually(
            "more than the time to close a connection",
            || start.elapsed(),
            |time| *time > Duration::from_millis(2500),
        );
        let rest = connection.read_exactly(left);
        assert!(rest.is_ok(), "{request}: of {left} bytes some are missing: {:?}", rest.err());
        assert!(connection.is_closed());
    }
}

/// The client opens the window of its connection while it reads, so that no refusal is lost.
#[test]
fn a_client_that_reads_gets_two_hundred_refusals_at_once() {
    let backend = Backend::ok();
    for workers in [1, 2] {
        let proxy = setup(&backend.url()).set("workers", workers).start();
        for (client, path) in [(proxy.anonymous(), "/events"), (proxy.consumer(), "/forbidden")] {
            let mut frames = Frames::connect(&client, proxy.address).unwrap();
            let path = format!("{path}?{}", "x".repeat(500));
            let requests: Vec<u8> =
                (0..200).flat_map(|number| get_or_post(2 * number + 1, "GET", &path)).collect();
            frames.send(requests).unwrap();
            let mut ended = 0;
            while ended < 200 {
                let next = frames.next().unwrap();
                assert_ne!(next.kind, GOAWAY, "after {ended} refusals");
                if next.kind == DATA {
                    frames.send(window_update(0, u32::try_from(next.payload.len()).unwrap())).unwrap();
                    ended += u32::from(next.flags & END_STREAM != 0);
                }
            }
        }
    }
}

/// Answers may wait for the window of the connection for longer than the write timeout. While the client reads any of them,
/// none is cut.
#[test]
fn answers_that_wait_for_the_window_of_the_connection_are_not_cut_while_any_is_read() {
    let backend =
        Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n{}", "x".repeat(30_000)));
    let proxy = setup(&backend.url()).set("workers", 1).start();
    let mut frames = Frames::with_windows_of(1 << 20, &proxy.producer(), proxy.address).unwrap();
    let requests: Vec<u8> =
        (0..10).flat_map(|number| get_or_post(2 * number + 1, "GET", "/events")).collect();
    frames.send(requests).unwrap();
    backend.wait_for(10);
    let (mut read, mut moved) = (0, Instant::now());
    let start = moved;
    while read < 300_000 {
        if read >= 65_535 - 16_384 {
            // Each step takes less than the timeout, and all steps together take many times as long.
            eventually("a slow client", || moved.elapsed(), |elapsed| *elapsed > WRITE_TIMEOUT / 4);
            moved = Instant::now();
            frames.send(window_update(0, 20_000)).unwrap();
        }
        let mut step = 0;
        while step < 16_384 && read < 300_000 {
            let next = frames.next().unwrap();
            assert_ne!(next.kind, GOAWAY, "after {read} bytes");
            if next.kind == DATA {
                step += next.payload.len();
                read += next.payload.len();
            }
        }
    }
    assert!(start.elapsed() > 2 * WRITE_TIMEOUT, "{:?}", start.elapsed());
}
