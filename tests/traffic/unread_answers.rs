//! An answer that its client does not read is cut after `limits.http.write_timeout`, whoever made it; until then it holds little,
//! and holds up nobody (DESIGN §2.3, §2.4).

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::support::backend::{OK, RefusingPort};
use crate::support::frames::{
    DATA, END_STREAM, Frames, GOAWAY, Reaction, SETTINGS, WINDOW_UPDATE, frame, headers, preface, setting,
};
use crate::support::http1::Wire;
use crate::support::{Backend, Client, DEADLINE, Proxy, Setup, eventually};

const WRITE_TIMEOUT: Duration = Duration::from_millis(400);
const ENHANCE_YOUR_CALM: u32 = 11;
const INITIAL_WINDOW: u16 = 4;

/// The time limits of everything but an unread answer are far away.
fn setup(backend: &str) -> Setup {
    Setup::new(backend)
        .set("limits.http.write_timeout", format!("{}ms", WRITE_TIMEOUT.as_millis()))
        .set("limits.idle_timeout", "60s")
        .set("limits.lobby.idle_timeout", "60s")
}

fn ask(stream: u32, method: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    headers(stream, if method == "POST" { 0 } else { END_STREAM }, &fields)
}

fn opens(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

/// A connection that gives every stream a window of that size.
fn with_windows_of(bytes: u32, client: &Client, proxy: &Proxy) -> Frames {
    let mut frames = Frames::connect_without_preface(client, proxy.address).unwrap();
    let settings = [setting(1, 0), setting(INITIAL_WINDOW, bytes)].concat();
    frames.send(preface(&settings)).unwrap();
    frames
}

/// Waits for the end of a connection, and returns the error of its GOAWAY if it had one.
#[track_caller]
fn end_of(frames: &mut Frames) -> Option<u32> {
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

/// The next bytes of an answer, on whatever stream.
fn next_data(frames: &mut Frames) -> io::Result<Vec<u8>> {
    loop {
        let next = frames.next()?;
        if next.kind == DATA {
            return Ok(next.payload);
        }
    }
}

#[track_caller]
fn assert_nothing_is_held(proxy: &Proxy) {
    for gauge in ["sidegate_slots_used", "sidegate_connections", "sidegate_requests_in_flight"] {
        proxy.admin.wait_for(gauge, 0.0);
    }
}

/// Answers that are ours and the backend's, each with its status.
fn answers(proxy: &Proxy) -> Vec<(&'static str, Client, Vec<u8>, u16)> {
    vec![
        ("of a stranger", proxy.anonymous(), ask(1, "GET", "/events"), 401),
        ("denied", proxy.consumer(), ask(1, "GET", "/events"), 403),
        ("ambiguous", proxy.producer(), ask(1, "GET", "/a//b"), 400),
        (
            "of CONNECT",
            proxy.producer(),
            headers(1, END_STREAM, &[(":method", "CONNECT"), (":authority", "a:1")]),
            403,
        ),
        ("with too many headers", proxy.producer(), with_headers(300), 431),
        ("of the backend", proxy.producer(), ask(1, "GET", "/events"), 200),
        ("an upload of a stranger", proxy.anonymous(), ask(1, "POST", "/events"), 401),
        ("an upload that is denied", proxy.consumer(), ask(1, "POST", "/events"), 403),
    ]
}

fn with_headers(count: usize) -> Vec<u8> {
    let names: Vec<_> = (0..count).map(|number| format!("x-{number}")).collect();
    let usual = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];
    let more = names.iter().map(|name| (name.as_str(), "a"));
    headers(1, END_STREAM, &usual.into_iter().chain(more).collect::<Vec<_>>())
}

#[test]
fn every_answer_without_a_window_is_cut() {
    let backend = Backend::ok();
    for workers in [1, 2] {
        let proxy = setup(&backend.url()).set("workers", workers).start();
        for (what, client, request, status) in answers(&proxy) {
            let mut frames = with_windows_of(0, &client, &proxy);
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
    let mut unreachable = with_windows_of(0, &proxy.producer(), &proxy);
    unreachable.send(ask(1, "GET", "/events")).unwrap();
    assert_eq!(unreachable.reaction(1), Reaction::Answer(504));
    end_of(&mut unreachable);
    drop(proxy);
    let hanging = Backend::never_answering();
    let proxy = setup(&hanging.url()).set("limits.http.body_timeout", "200ms").start();
    let mut stalled = with_windows_of(0, &proxy.producer(), &proxy);
    stalled.send(ask(1, "POST", "/events")).unwrap();
    assert_eq!(stalled.reaction(1), Reaction::Answer(408));
    end_of(&mut stalled);
    assert_nothing_is_held(&proxy);
}

fn chunked(rest: &'static str) -> Backend {
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

/// An event of a stream that goes on, and trailers behind a body: both wait for the same window.
#[test]
fn events_and_trailers_without_a_window_are_cut() {
    for rest in ["", "0\r\nX-End: yes\r\n\r\n"] {
        let backend = chunked(rest);
        let proxy = setup(&backend.url()).start();
        let mut frames = with_windows_of(0, &proxy.producer(), &proxy);
        frames.send(ask(1, "GET", "/events")).unwrap();
        assert_eq!(frames.reaction(1), Reaction::Answer(200));
        end_of(&mut frames);
        assert_nothing_is_held(&proxy);
    }
}

/// HTTP/2 takes an answer whole as soon as there is room for one byte of it. The rest waits all the same.
#[test]
fn an_answer_of_which_one_byte_was_read_is_cut() {
    let body = "x".repeat(1000);
    let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{body}"));
    let proxy = setup(&backend.url()).start();
    for client in [proxy.producer(), proxy.anonymous()] {
        let mut frames = with_windows_of(1, &client, &proxy);
        let start = Instant::now();
        frames.send(ask(1, "GET", "/events")).unwrap();
        end_of(&mut frames);
        assert!(start.elapsed() >= WRITE_TIMEOUT, "{:?}", start.elapsed());
    }
    assert_nothing_is_held(&proxy);
}

/// The window of a connection is used up by one large answer, behind which others wait.
#[test]
fn answers_behind_a_connection_without_a_window_are_cut() {
    let length = 1_000_000;
    let body = "x".repeat(length);
    let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    let proxy = setup(&backend.url()).start();
    let mut frames = with_windows_of(1 << 24, &proxy.producer(), &proxy);
    for stream in [1, 3, 5] {
        frames.send(ask(stream, "GET", "/events")).unwrap();
    }
    end_of(&mut frames);
    assert_nothing_is_held(&proxy);
}

/// Requests on other streams, each answered and read.
#[test]
fn other_streams_do_not_save_one_that_nobody_reads() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).start();
    let mut frames = with_windows_of(0, &proxy.producer(), &proxy);
    frames.send(ask(1, "GET", "/events")).unwrap();
    assert_eq!(frames.reaction(1), Reaction::Answer(200));
    let start = Instant::now();
    let served = (1..).map(|number| number * 2 + 1).take_while(|stream| {
        let asked = frames.send([ask(*stream, "GET", "/events"), opens(*stream, 100)].concat());
        asked.is_ok() && frames.reaction(*stream) == Reaction::Answer(200) && start.elapsed() < DEADLINE
    });
    let served = served.count();
    assert!(served > 0 && start.elapsed() < DEADLINE, "{served} in {:?}", start.elapsed());
    assert_nothing_is_held(&proxy);
}

/// A slow reader goes on for as long as it takes something, and is cut once it takes nothing more.
#[test]
fn a_reader_that_takes_a_byte_now_and_then_is_not_cut() {
    let body = "x".repeat(100_000);
    let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{body}"));
    let proxy = setup(&backend.url()).start();
    let mut frames = with_windows_of(0, &proxy.producer(), &proxy);
    let start = Instant::now();
    frames.send(ask(1, "GET", "/events")).unwrap();
    while start.elapsed() < 4 * WRITE_TIMEOUT {
        frames.send(opens(1, 1)).unwrap();
        assert!(frames.answers_ping(), "after {:?}", start.elapsed());
        // As slow as the machine is by itself: each byte waits for an exchange with another process.
        proxy.admin.status();
    }
    end_of(&mut frames);
    assert_nothing_is_held(&proxy);
}

/// Answers without a body are not waited for, and neither is a stream without news.
#[test]
fn an_answer_of_which_nothing_waits_is_not_cut() {
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
    let mut frames = with_windows_of(0, &proxy.producer(), &proxy);
    for (stream, method, path, status) in
        [(1, "HEAD", "/events", 200), (3, "GET", "/events", 204), (5, "GET", "/silent", 200)]
    {
        frames.send(ask(stream, method, path)).unwrap();
        assert_eq!(frames.reaction(stream), Reaction::Answer(status));
    }
    let mut stranger = with_windows_of(0, &proxy.anonymous(), &proxy);
    stranger.send(ask(1, "HEAD", "/events")).unwrap();
    assert_eq!(stranger.reaction(1), Reaction::Answer(401));
    let start = Instant::now();
    while start.elapsed() < 4 * WRITE_TIMEOUT {
        assert!(frames.answers_ping() && stranger.answers_ping(), "after {:?}", start.elapsed());
        proxy.admin.status();
    }
}

/// Connections without a slot may have a handful of refusals waiting.
#[test]
fn refusals_that_nobody_reads_end_a_connection_without_a_slot() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).set("limits.http.write_timeout", "60s").start();
    let path = format!("/{}", "p".repeat(15_000));
    let before = proxy.process.resident_memory();
    for client in [proxy.anonymous(), proxy.consumer()] {
        let mut connections = Vec::new();
        for _ in 0..20 {
            let mut frames = with_windows_of(0, &client, &proxy);
            for stream in 0..250 {
                if frames.send(ask(stream * 2 + 1, "GET", &path)).is_err() {
                    break;
                }
            }
            connections.push(frames);
        }
        for frames in &mut connections {
            let error = end_of(frames);
            assert!(error.is_none_or(|error| error == ENHANCE_YOUR_CALM), "{error:?}");
        }
        let mut few = with_windows_of(0, &client, &proxy);
        for stream in 0..8 {
            few.send(ask(stream * 2 + 1, "GET", &path)).unwrap();
        }
        assert!(few.answers_ping(), "a handful may wait");
    }
    let grown = proxy.process.resident_memory().saturating_sub(before) >> 20;
    assert!(grown < 32, "{grown} MiB more");
    assert_nothing_is_held(&proxy);
}

/// A burst whose answers are read is served, however many they are.
#[test]
fn a_burst_of_refusals_that_are_read_ends_nothing() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).start();
    for (client, status) in [(proxy.anonymous(), 401), (proxy.consumer(), 403)] {
        let mut frames = with_windows_of(1 << 20, &client, &proxy);
        let burst: Vec<_> = (0..100).flat_map(|number| ask(number * 2 + 1, "GET", "/events")).collect();
        frames.send([opens(0, 1 << 24), burst].concat()).unwrap();
        for number in 0..100 {
            assert_eq!(frames.reaction(number * 2 + 1), Reaction::Answer(status), "{number}");
        }
        assert!(frames.answers_ping());
    }
}

/// A permitted client may have as many answers waiting as it has streams, for as long as that lasts.
#[test]
fn answers_that_wait_for_a_permitted_client_are_kept_until_it_reads() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).set("limits.http.write_timeout", "60s").start();
    let mut frames = with_windows_of(0, &proxy.producer(), &proxy);
    for number in 0..100 {
        frames.send(ask(number * 2 + 1, "GET", "/events")).unwrap();
    }
    assert!(frames.answers_ping());
    backend.wait_for(100);
    // Every window opens, whatever was answered meanwhile.
    frames.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW, 1000))).unwrap();
    let mut ended = 0;
    while ended < 100 {
        let next = frames.next().unwrap();
        assert_ne!(next.kind, GOAWAY);
        ended += usize::from(next.kind == DATA && next.flags & END_STREAM != 0);
    }
}

/// Requests without end on an HTTP/1.1 connection whose answers nobody reads: the socket is full.
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
                assert!(start.elapsed() < DEADLINE, "nothing was ever full");
            }
            assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        }
        assert_nothing_is_held(&proxy);
    }
}

/// TLS takes a little more even when the socket does not. A request now and then, whose answer nobody reads, is no reading.
#[test]
fn more_requests_do_not_save_a_connection_whose_socket_is_full() {
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
    let mut frames = with_windows_of(1 << 30, &proxy.producer(), &proxy);
    frames.send([opens(0, 1 << 30), ask(1, "GET", "/large")].concat()).unwrap();
    backend.wait_for(1);
    let start = Instant::now();
    let asked = (1..).take_while(|number| {
        proxy.admin.status();
        frames.send(ask(number * 2 + 1, "GET", "/events")).is_ok() && start.elapsed() < DEADLINE
    });
    let asked = asked.count();
    assert!(start.elapsed() < DEADLINE / 2, "{asked} requests in {:?}", start.elapsed());
    assert_nothing_is_held(&proxy);
}

/// Interim answers (103) are written beside hyper; they fill a socket as well.
#[test]
fn interim_answers_that_nobody_reads_are_cut() {
    let backend = Backend::scripted(|connection| {
        let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: </{}>\r\n\r\n", "a".repeat(8000));
        connection.request()?;
        // Ends with the connection, once its client is cut.
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

/// The last answer of a connection reaches a client that takes its time, to the last byte: also what the proxy alone has, when
/// the backend has long ended it and the socket is full.
#[test]
fn the_end_of_a_last_answer_waits_for_a_slow_reader() {
    let length = 16_000_000;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    let backend = Backend::scripted(move |connection| {
        // An upload is answered before it is read.
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
            "more than a farewell's time",
            || start.elapsed(),
            |time| *time > Duration::from_millis(2500),
        );
        let rest = connection.read_exactly(left);
        assert!(rest.is_ok(), "{request}: of {left} bytes some are missing: {:?}", rest.err());
        assert!(connection.is_closed());
    }
}

/// After a switch of protocols nobody can tell an unread answer from a quiet peer: `upgrade_idle_timeout` is its limit.
#[test]
fn a_switched_connection_has_no_such_limit() {
    const AGREED: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let length = 32 * 1024 * 1024;
    let backend = Backend::scripted(move |connection| {
        if connection.request()?.is_some() {
            connection.wire.send(AGREED)?;
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

/// Stopping waits for no stranger's answer, nor for one of a client that was given nothing.
#[test]
fn a_stop_does_not_wait_for_strangers_that_read_nothing() {
    let backend = Backend::ok();
    let setup = setup(&backend.url()).set("limits.http.write_timeout", "60s");
    let mut proxy = setup.set("drain_timeout", "15s").start();
    let mut waiting = Vec::new();
    for client in [proxy.anonymous(), proxy.consumer()] {
        let mut frames = with_windows_of(0, &client, &proxy);
        frames.send(ask(1, "GET", "/events")).unwrap();
        assert!(matches!(frames.reaction(1), Reaction::Answer(401 | 403)));
        waiting.push(frames);
    }
    let start = Instant::now();
    proxy.process.signal("TERM");
    assert_eq!(proxy.process.exit().code(), Some(0));
    // A fifth of the drain is the grace for newcomers, and a second the farewell.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

/// For a permitted client it waits as long as for any reader.
#[test]
fn a_stop_waits_for_a_permitted_reader_no_longer_than_the_limit() {
    let backend = Backend::ok();
    let mut proxy =
        setup(&backend.url()).set("limits.http.write_timeout", "4500ms").set("drain_timeout", "15s").start();
    let mut reads = with_windows_of(1, &proxy.producer(), &proxy);
    let mut stuck = with_windows_of(1, &proxy.producer(), &proxy);
    for frames in [&mut reads, &mut stuck] {
        frames.send(ask(1, "GET", "/events")).unwrap();
        assert_eq!(frames.reaction(1), Reaction::Answer(200));
        assert_eq!(next_data(frames).unwrap(), b"o");
    }
    let start = Instant::now();
    proxy.process.signal("TERM");
    eventually("the end of the grace", || start.elapsed(), |elapsed| *elapsed > Duration::from_millis(4200));
    reads.send(opens(1, 1)).unwrap();
    assert_eq!(next_data(&mut reads).unwrap(), b"k", "what is read in time arrives");
    assert_eq!(proxy.process.exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
}

/// Plain HTTP is answered and closed within a second, whether or not that is read.
#[test]
fn plain_http_that_reads_nothing_holds_nothing() {
    let backend = Backend::ok();
    let proxy = setup(&backend.url()).start();
    let mut plain = Wire::plain(proxy.address).unwrap();
    plain.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_nothing_is_held(&proxy);
}

/// A client that asks many things at once opens the window of its connection while it reads: no refusal is lost.
#[test]
fn two_hundred_refusals_at_once_are_all_read_by_a_client_that_reads() {
    let backend = Backend::ok();
    for workers in [1, 2] {
        let proxy = setup(&backend.url()).set("workers", workers).start();
        for (client, path) in [(proxy.anonymous(), "/events"), (proxy.consumer(), "/forbidden")] {
            let mut frames = Frames::connect(&client, proxy.address).unwrap();
            let path = format!("{path}?{}", "x".repeat(500));
            let requests: Vec<u8> = (0..200).flat_map(|number| ask(2 * number + 1, "GET", &path)).collect();
            frames.send(requests).unwrap();
            let mut ended = 0;
            while ended < 200 {
                let next = frames.next().unwrap();
                assert_ne!(next.kind, GOAWAY, "after {ended} refusals");
                if next.kind == DATA {
                    frames.send(opens(0, u32::try_from(next.payload.len()).unwrap())).unwrap();
                    ended += u32::from(next.flags & END_STREAM != 0);
                }
            }
        }
    }
}

/// Answers that stand in line for the window of the connection wait for longer than an answer may that nobody reads; while the
/// client takes something of any of them, none of them is cut.
#[test]
fn answers_that_stand_in_line_are_not_cut_while_the_line_moves() {
    let backend =
        Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n{}", "x".repeat(30_000)));
    let proxy = setup(&backend.url()).set("workers", 1).start();
    let mut frames = with_windows_of(1 << 20, &proxy.producer(), &proxy);
    let requests: Vec<u8> = (0..10).flat_map(|number| ask(2 * number + 1, "GET", "/events")).collect();
    frames.send(requests).unwrap();
    backend.wait_for(10);
    let (mut read, mut moved) = (0, Instant::now());
    let start = moved;
    while read < 300_000 {
        if read >= 65_535 - 16_384 {
            // Less than the time limit between two steps, and in all many times as much.
            eventually("a slow reader", || moved.elapsed(), |elapsed| *elapsed > WRITE_TIMEOUT / 4);
            moved = Instant::now();
            frames.send(opens(0, 20_000)).unwrap();
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
