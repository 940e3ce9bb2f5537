//! An answer that its client does not read is cut after `limits.http.write_timeout`. Until then the answer holds little
//! memory, and does not delay other clients (DESIGN §2.3, §2.4).

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::support::backend::{OK, RefusingPort};
use crate::support::frames::{
    DATA, END_STREAM, Frames, GOAWAY, Reaction, WINDOW_UPDATE, frame, headers, pseudo_headers,
};
use crate::support::http1::Wire;
use crate::support::{Backend, Client, DEADLINE, Proxy, Setup, eventually};

pub const WRITE_TIMEOUT: Duration = Duration::from_millis(400);
pub const ENHANCE_YOUR_CALM: u32 = 11;
pub const INITIAL_WINDOW: u16 = 4;

/// A setup in which only the time limit of an unread answer is short.
pub fn setup(backend: &str) -> Setup {
    Setup::new(backend)
        .set("limits.http.write_timeout", format!("{}ms", WRITE_TIMEOUT.as_millis()))
        .set("limits.idle_timeout", "60s")
        .set("limits.lobby.idle_timeout", "60s")
}

/// Returns the head of a request. An upload stays open.
pub fn get_or_post(stream: u32, method: &str, path: &str) -> Vec<u8> {
    headers(stream, if method == "POST" { 0 } else { END_STREAM }, &pseudo_headers(method, path))
}

pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

/// Waits for the end of a connection, and returns the error of its GOAWAY, if one came.
#[track_caller]
pub fn end_of(frames: &mut Frames) -> Option<u32> {
    let mut error = None;
    loop {
        match frames.next() {
            Ok(next) if next.kind == GOAWAY => error = Some(next.error()),
            Ok(_) => {}
            Err(end) if matches!(end.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the connection goes on for {DEADLINE:?}")
            }
            Err(_) => return error,
        }
    }
}

/// Returns the payload of the next DATA frame, of any stream.
fn next_data(frames: &mut Frames) -> io::Result<Vec<u8>> {
    loop {
        let next = frames.next()?;
        if next.kind == DATA {
            return Ok(next.payload);
        }
    }
}

#[track_caller]
pub fn assert_nothing_is_held(proxy: &Proxy) {
    for gauge in ["sidegate_slots_used", "sidegate_connections", "sidegate_requests_in_flight"] {
        proxy.admin.wait_for(gauge, 0.0);
    }
}

/// Requests with answers of the proxy and of the backend: a name, the client, the request, and the status.
fn answers(proxy: &Proxy) -> Vec<(&'static str, Client, Vec<u8>, u16)> {
    vec![
        ("of a stranger", proxy.anonymous(), get_or_post(1, "GET", "/events"), 401),
        ("denied", proxy.consumer(), get_or_post(1, "GET", "/events"), 403),
        ("ambiguous", proxy.producer(), get_or_post(1, "GET", "/a//b"), 400),
        (
            "of CONNECT",
            proxy.producer(),
            headers(1, END_STREAM, &[(":method", "CONNECT"), (":authority", "a:1")]),
            403,
        ),
        ("with too many headers", proxy.producer(), with_headers(300), 431),
        ("of the backend", proxy.producer(), get_or_post(1, "GET", "/events"), 200),
        ("an upload of a stranger", proxy.anonymous(), get_or_post(1, "POST", "/events"), 401),
        ("an upload that is denied", proxy.consumer(), get_or_post(1, "POST", "/events"), 403),
    ]
}

fn with_headers(count: usize) -> Vec<u8> {
    let names: Vec<_> = (0..count).map(|number| format!("x-{number}")).collect();
    let usual = pseudo_headers("GET", "/events");
    let more = names.iter().map(|name| (name.as_str(), "a"));
    headers(1, END_STREAM, &usual.into_iter().chain(more).collect::<Vec<_>>())
}

#[test]
fn every_answer_without_a_window_is_cut_in_time() {
    let backend = Backend::ok();
    for workers in [1, 2] {
        let proxy = setup(&backend.url()).set("workers", workers).start();
        for (what, client, request, status) in answers(&proxy) {
            let mut frames = Frames::with_windows_of(0, &client, proxy.address).unwrap();
            let start = Instant::now();
            frames.send(request).unwrap();
            assert_eq!(frames.reaction(1), Reaction::Answer(status), "{what}");
            let error = end_of(&mut frames);
            let lasted = start.elapsed();
            assert!(lasted >= WRITE_TIMEOUT, "{what}: already after {lasted:?}");
            assert!(error.is_none_or(|error| error == ENHANCE_YOUR_CALM), "{what}: {error:?}");
        }
        assert_nothing_is_held(&proxy);
    }
}

#[test]
fn a_504_and_a_408_without_a_window_are_cut() {
    let refusing = RefusingPort::new();
    let proxy = setup(&refusing.url()).set("limits.http.body_timeout", "200ms").start();
    let mut unreachable = Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap();
    unreachable.send(get_or_post(1, "GET", "/events")).unwrap();
    assert_eq!(unreachable.reaction(1), Reaction::Answer(504));
    end_of(&mut unreachable);
    drop(proxy);
    let hanging = Backend::never_answering();
    let proxy = setup(&hanging.url()).set("limits.http.body_timeout", "200ms").start();
    let mut stalled = Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap();
    stalled.send(get_or_post(1, "POST", "/events")).unwrap();
    assert_eq!(stalled.reaction(1), Reaction::Answer(408));
    end_of(&mut stalled);
    assert_nothing_is_held(&proxy);
}

/// A backend whose chunked answers end with `rest`.
fn chunked_backend(rest: &'static str) -> Backend {
    Backend::scripted(move |connection| {
        while connection.request()?.is_some() {
            connection
                .wire
                .send("HTTP/1.1 200 OK\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            connection.wire.send(format!("8\r\ndata: 1\n\r\n{rest}"))?;
        }
        Ok(())
    })
}

/// An event of a stream that goes on waits for a window, and so do trailers after a body.
#[test]
fn events_and_trailers_without_a_window_are_cut() {
    for rest in ["", "0\r\nX-End: yes\r\n\r\n"] {
        let backend = chunked_backend(rest);
        let proxy = setup(&backend.url()).start();
        let mut frames = Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap();
        frames.send(get_or_post(1, "GET", "/events")).unwrap();
        assert_eq!(frames.reaction(1), Reaction::Answer(200));
        end_of(&mut frames);
        assert_nothing_is_held(&proxy);
    }
}

/// The HTTP/2 library accepts a whole answer as soon as the window has one byte. The rest of the answer still waits.
#[test]
fn an_answer_of_which_one_byte_was_read_is_cut() {
    let body = "x".repeat(1000);
    let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{body}"));
    let proxy = setup(&backend.url()).start();
    for client in [proxy.producer(), proxy.anonymous()] {
        let mut frames = Frames::with_windows_of(1, &client, proxy.address).unwrap();
        let start = Instant::now();
        frames.send(get_or_post(1, "GET", "/events")).unwrap();
        end_of(&mut frames);
        assert!(start.elapsed() >= WRITE_TIMEOUT, "{:?}", start.elapsed());
    }
    assert_nothing_is_held(&proxy);
}

/// One large answer uses up the window of the connection, and other answers wait behind it.
#[test]
fn answers_behind_a_connection_without_a_window_are_cut() {
    let length = 1_000_000;
    let body = "x".repeat(length);
    let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    let proxy = setup(&backend.url()).start();
    let mut frames = Frames::with_windows_of(1 << 24, &proxy.producer(), proxy.address).unwrap();
    for stream in [1, 3, 5] {
        frames.send(get_or_post(stream, "GET", "/events")).unwrap();
    }
    end_of(&mut frames);
    assert_nothing_is_held(&proxy);
}

/// The client reads the answers on other streams.
#[test]
fn an_unread_stream_is_cut_although_the_client_reads_others() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).start();
    let mut frames = Frames::with_windows_of(0, &proxy.producer(), proxy.address).unwrap();
    frames.send(get_or_post(1, "GET", "/events")).unwrap();
    assert_eq!(frames.reaction(1), Reaction::Answer(200));
    let start = Instant::now();
    let served = (1..).map(|number| number * 2 + 1).take_while(|stream| {
        let sent =
            frames.send([get_or_post(*stream, "GET", "/events"), window_update(*stream, 100)].concat());
        sent.is_ok() && frames.reaction(*stream) == Reaction::Answer(200) && start.elapsed() < DEADLINE
    });
    let served = served.count();
    assert!(served > 0 && start.elapsed() < DEADLINE, "{served} in {:?}", start.elapsed());
    assert_nothing_is_held(&proxy);
}

/// On a connection without a slot, a handful of refusals may wait.
#[test]
fn unread_refusals_end_a_connection_without_a_slot() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).set("limits.http.write_timeout", "60s").start();
    let path = format!("/{}", "p".repeat(15_000));
    let before = proxy.process.resident_memory();
    for client in [proxy.anonymous(), proxy.consumer()] {
        let mut connections = Vec::new();
        for _ in 0..20 {
            let mut frames = Frames::with_windows_of(0, &client, proxy.address).unwrap();
            for stream in 0..250 {
                if frames.send(get_or_post(stream * 2 + 1, "GET", &path)).is_err() {
                    break;
                }
            }
            connections.push(frames);
        }
        for frames in &mut connections {
            let error = end_of(frames);
            assert!(error.is_none_or(|error| error == ENHANCE_YOUR_CALM), "{error:?}");
        }
        let mut few = Frames::with_windows_of(0, &client, proxy.address).unwrap();
        for stream in 0..8 {
            few.send(get_or_post(stream * 2 + 1, "GET", &path)).unwrap();
        }
        assert!(few.answers_ping(), "a handful may wait");
    }
    let grown = proxy.process.resident_memory().saturating_sub(before) >> 20;
    assert!(grown < 32, "{grown} MiB more");
    assert_nothing_is_held(&proxy);
}

/// A client of HTTP/1.1 sends requests without an end and reads no answer, until the socket is full.
#[test]
fn answers_that_fill_the_socket_are_cut() {
    let backend = Backend::ok();
    for workers in [1, 2] {
        let proxy = setup(&backend.url()).set("workers", workers).start();
        for client in [proxy.anonymous(), proxy.consumer(), proxy.producer()] {
            let mut connection = client.connect(proxy.address).unwrap();
            let requests = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
            let start = Instant::now();
            while connection.send(&requests).is_ok() {
                assert!(start.elapsed() < DEADLINE, "the socket never was full");
            }
            assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        }
        assert_nothing_is_held(&proxy);
    }
}

/// TLS accepts a little more data even when the socket is full. New requests do not count as reading.
#[test]
fn a_connection_whose_socket_is_full_is_cut_although_requests_come() {
    let length = 64 * 1024 * 1024;
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            if request.start_line().contains("/large") {
                connection.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
                connection.wire.send(vec![b'x'; length])?;
            } else {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    });
    let proxy = setup(&backend.url()).start();
    let mut frames = Frames::with_windows_of(1 << 30, &proxy.producer(), proxy.address).unwrap();
    frames.send([window_update(0, 1 << 30), get_or_post(1, "GET", "/large")].concat()).unwrap();
    backend.wait_for(1);
    let start = Instant::now();
    let sent = (1..).take_while(|number| {
        proxy.admin.status();
        frames.send(get_or_post(number * 2 + 1, "GET", "/events")).is_ok() && start.elapsed() < DEADLINE
    });
    let sent = sent.count();
    assert!(start.elapsed() < DEADLINE / 2, "{sent} requests in {:?}", start.elapsed());
    assert_nothing_is_held(&proxy);
}

/// The proxy itself, and not hyper, writes interim answers (103). They can fill the socket as well.
#[test]
fn unread_interim_answers_are_cut() {
    let backend = Backend::scripted(|connection| {
        let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: </{}>\r\n\r\n", "a".repeat(8000));
        connection.request()?;
        // The loop ends with the connection.
        loop {
            connection.wire.send(&hint)?;
        }
    });
    let proxy = setup(&backend.url()).start();
    let mut connection = proxy.connect();
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    assert_nothing_is_held(&proxy);
}

/// After a switch of protocols an unread answer looks like a silent peer, so `limits.upgrade_idle_timeout` is the limit.
#[test]
fn a_switched_connection_is_not_cut_by_the_write_timeout() {
    const SWITCHED: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let length = 32 * 1024 * 1024;
    let backend = Backend::scripted(move |connection| {
        if connection.request()?.is_some() {
            connection.wire.send(SWITCHED)?;
            connection.wire.send(vec![b'x'; length])?;
            connection.wire.stream.stream.shutdown(Shutdown::Write)?;
            let _ = connection.wire.read_to_end();
        }
        Ok(())
    });
    let policy = "version: 1\npermissions:\n  live: [{ route: GET /live, upgrade: websocket }]\nclients:\n  \
                  - { name: producer, match: { any: true }, permissions: [live] }\n";
    let proxy = setup(&backend.url()).policy(policy).start();
    let mut connection = proxy.connect();
    connection
        .send("GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    connection.read_until(b"\r\n\r\n").unwrap();
    let start = Instant::now();
    while start.elapsed() < 4 * WRITE_TIMEOUT {
        assert_eq!(proxy.admin.status()["slots_used"], 1);
    }
    assert_eq!(connection.read_exactly(length).unwrap().len(), length);
}

/// The shutdown does not wait for unread refusals: neither those of strangers nor those of denied clients.
#[test]
fn the_shutdown_does_not_wait_for_unread_refusals() {
    let backend = Backend::ok();
    let setup = setup(&backend.url()).set("limits.http.write_timeout", "60s");
    let mut proxy = setup.set("drain_timeout", "15s").start();
    let mut waiting = Vec::new();
    for client in [proxy.anonymous(), proxy.consumer()] {
        let mut frames = Frames::with_windows_of(0, &client, proxy.address).unwrap();
        frames.send(get_or_post(1, "GET", "/events")).unwrap();
        assert!(matches!(frames.reaction(1), Reaction::Answer(401 | 403)));
        waiting.push(frames);
    }
    let start = Instant::now();
    proxy.process.signal("TERM");
    assert_eq!(proxy.process.exit().code(), Some(0));
    // A fifth of the drain timeout is the grace for new connections, and closing takes up to a second.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

/// For a permitted client the shutdown waits no longer than the write timeout.
#[test]
fn the_shutdown_waits_for_a_permitted_client_until_the_write_timeout() {
    let backend = Backend::ok();
    let mut proxy =
        setup(&backend.url()).set("limits.http.write_timeout", "4500ms").set("drain_timeout", "15s").start();
    let mut reading = Frames::with_windows_of(1, &proxy.producer(), proxy.address).unwrap();
    let mut stuck = Frames::with_windows_of(1, &proxy.producer(), proxy.address).unwrap();
    for frames in [&mut reading, &mut stuck] {
        frames.send(get_or_post(1, "GET", "/events")).unwrap();
        assert_eq!(frames.reaction(1), Reaction::Answer(200));
        assert_eq!(next_data(frames).unwrap(), b"o");
    }
    let start = Instant::now();
    proxy.process.signal("TERM");
    eventually("the end of the grace", || start.elapsed(), |elapsed| *elapsed > Duration::from_millis(4200));
    reading.send(window_update(1, 1)).unwrap();
    assert_eq!(next_data(&mut reading).unwrap(), b"k", "what is read in time arrives");
    assert_eq!(proxy.process.exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
}

/// The answer to plain HTTP is sent and the connection closed within a second, whether or not the client reads.
#[test]
fn an_unread_answer_to_plain_http_holds_nothing() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).start();
    let mut plain = Wire::plain(proxy.address).unwrap();
    plain.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_nothing_is_held(&proxy);
}
