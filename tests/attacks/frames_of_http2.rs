//! Frames of HTTP/2 that a server must refuse from every client (RFC 9113 §4 to §6), and floods of frames.

use std::time::{Duration, Instant};

use super::outcomes::{NARROW, get};
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, Reaction, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, block, frame, headers,
    preface, setting,
};
use crate::support::{Backend, Client, Proxy, Setup};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;

type Fields = &'static [(&'static str, &'static str)];
const GET: Fields =
    &[(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];
const POST: Fields =
    &[(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];

/// A name, the bytes after the preface, and the reactions that are right: RFC 9113 lets a server treat a stream error as a
/// connection error.
type Case = (&'static str, Vec<u8>, &'static [Reaction]);

#[track_caller]
fn assert_reactions(cases: &[Case]) {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let before = backend.received().len();
        for (who, client) in [("producer", proxy.producer()), ("stranger", proxy.anonymous())] {
            let mut frames = Frames::connect(&client, proxy.address).unwrap();
            let _ = frames.send(bytes);
            let got = frames.reaction(1);
            if !expected.contains(&got) {
                wrong.push(format!("{name}, {who}: {got:?}, not one of {expected:?}"));
            }
        }
        for seen in &backend.received()[before..] {
            wrong.push(format!("{name}: the backend saw {}", seen.head));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const BROKEN: &[Reaction] = &[Reaction::GoAway(PROTOCOL)];
const TOO_LONG: &[Reaction] = &[Reaction::GoAway(FRAME_SIZE)];
/// Libraries differ in the error code for a frame of a wrong size.
const WRONG_SIZE: &[Reaction] = &[Reaction::GoAway(FRAME_SIZE), Reaction::GoAway(PROTOCOL)];
const NO_WINDOW: &[Reaction] = &[Reaction::GoAway(FLOW_CONTROL)];
const UNREADABLE: &[Reaction] = &[Reaction::GoAway(COMPRESSION), Reaction::GoAway(PROTOCOL)];

fn head(stream: u32, flags: u8) -> Vec<u8> {
    headers(stream, flags, GET)
}

#[test]
fn frames_of_a_wrong_size_are_refused() {
    let long = vec![0; 16_385];
    assert_reactions(&[
        ("DATA beyond the most", [headers(1, 0, POST), frame(DATA, 0, 1, &long)].concat(), TOO_LONG),
        ("HEADERS beyond the most", frame(HEADERS, END_HEADERS | END_STREAM, 1, &long), TOO_LONG),
        ("SETTINGS beyond the most", frame(SETTINGS, 0, 0, &long), TOO_LONG),
        ("an unknown frame beyond the most", frame(0xbb, 0, 0, &long), TOO_LONG),
        ("SETTINGS cut short", frame(SETTINGS, 0, 0, [0; 5]), WRONG_SIZE),
        ("SETTINGS that are acknowledged, and some", frame(SETTINGS, ACK, 0, setting(3, 1)), WRONG_SIZE),
        ("PING cut short", frame(PING, 0, 0, [0; 7]), WRONG_SIZE),
        ("PING too long", frame(PING, 0, 0, [0; 9]), WRONG_SIZE),
        ("RST_STREAM cut short", [head(1, 0), frame(RST_STREAM, 0, 1, [0; 3])].concat(), WRONG_SIZE),
        ("WINDOW_UPDATE cut short", frame(WINDOW_UPDATE, 0, 0, [0; 3]), WRONG_SIZE),
        ("WINDOW_UPDATE too long", frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1, 0]), WRONG_SIZE),
        ("GOAWAY cut short", frame(GOAWAY, 0, 0, [0; 7]), WRONG_SIZE),
        ("PRIORITY cut short", frame(PRIORITY, 0, 1, [0; 4]), WRONG_SIZE),
        (
            "HEADERS without room for their priority",
            frame(HEADERS, WITH_PRIORITY | END_HEADERS, 1, [0; 4]),
            WRONG_SIZE,
        ),
    ]);
}

#[test]
fn wrong_stream_identifiers_are_refused() {
    assert_reactions(&[
        ("an even one", head(2, END_STREAM), BROKEN),
        ("HEADERS on none", head(0, END_STREAM), BROKEN),
        ("DATA on none", frame(DATA, 0, 0, "a"), BROKEN),
        ("PRIORITY on none", frame(PRIORITY, 0, 0, [0; 5]), BROKEN),
        ("RST_STREAM on none", frame(RST_STREAM, 0, 0, [0; 4]), BROKEN),
        ("CONTINUATION on none", frame(CONTINUATION, END_HEADERS, 0, ""), BROKEN),
        ("SETTINGS on one", frame(SETTINGS, 0, 1, ""), BROKEN),
        ("PING on one", frame(PING, 0, 1, [0; 8]), BROKEN),
        ("GOAWAY on one", frame(GOAWAY, 0, 1, [0; 8]), BROKEN),
    ]);
}

#[test]
fn frames_in_a_wrong_stream_state_are_refused() {
    let ended = |after: Vec<u8>| [headers(1, END_STREAM, &[]), after].concat();
    assert_reactions(&[
        ("DATA before HEADERS", frame(DATA, END_STREAM, 1, "a"), BROKEN),
        ("RST_STREAM before HEADERS", frame(RST_STREAM, 0, 1, [0; 4]), BROKEN),
        ("WINDOW_UPDATE before HEADERS", frame(WINDOW_UPDATE, 0, 1, 1u32.to_be_bytes()), BROKEN),
        (
            "DATA after the end of a malformed one",
            ended(frame(DATA, 0, 1, "a")),
            &[Reaction::Reset(PROTOCOL), Reaction::Reset(STREAM_CLOSED), Reaction::GoAway(STREAM_CLOSED)],
        ),
        ("a promise", frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2]), BROKEN),
        (
            "a promise on an open stream",
            [headers(1, 0, POST), frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])].concat(),
            BROKEN,
        ),
        (
            "padding beyond the frame",
            [headers(1, 0, POST), frame(DATA, PADDED, 1, [5, 0, 0])].concat(),
            BROKEN,
        ),
        ("padding beyond the head", frame(HEADERS, PADDED | END_HEADERS, 1, [200, 0]), BROKEN),
        (
            "a stream that depends on itself",
            frame(
                HEADERS,
                WITH_PRIORITY | END_HEADERS | END_STREAM,
                1,
                [[0, 0, 0, 1, 0].as_slice(), &block(GET)].concat(),
            ),
            &[Reaction::Reset(PROTOCOL), Reaction::GoAway(PROTOCOL)],
        ),
    ]);
}

#[test]
fn broken_header_blocks_are_refused() {
    let (first, second) = (block(&GET[..2]), block(&GET[2..]));
    let begun = frame(HEADERS, END_STREAM, 1, &first);
    let then = |next: Vec<u8>| [begun.clone(), next].concat();
    assert_reactions(&[
        ("a part of nothing", frame(CONTINUATION, END_HEADERS, 1, &second), BROKEN),
        (
            "a part after the last",
            [head(1, 0), frame(CONTINUATION, END_HEADERS, 1, &second)].concat(),
            BROKEN,
        ),
        ("a part of another stream's", then(frame(CONTINUATION, END_HEADERS, 3, &second)), BROKEN),
        ("DATA in between", then(frame(DATA, 0, 1, "a")), BROKEN),
        ("HEADERS in between", then(head(3, END_STREAM)), BROKEN),
        ("PING in between", then(frame(PING, 0, 0, [0; 8])), BROKEN),
        ("SETTINGS in between", then(frame(SETTINGS, 0, 0, "")), BROKEN),
        ("PRIORITY in between", then(frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])), BROKEN),
        ("WINDOW_UPDATE in between", then(frame(WINDOW_UPDATE, 0, 0, 1u32.to_be_bytes())), BROKEN),
        ("RST_STREAM in between", then(frame(RST_STREAM, 0, 1, [0; 4])), BROKEN),
        ("an unknown frame in between", then(frame(0xbb, 0, 0, "")), BROKEN),
        (
            "an index beyond the table",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff, 0x80, 0x7f]),
            UNREADABLE,
        ),
        ("index 0", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0x80]), UNREADABLE),
        ("a number without an end", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 32]), UNREADABLE),
        (
            "a text longer than the block",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0, 0x7e, b'a']),
            UNREADABLE,
        ),
        (
            "Huffman's code padded with zeros",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0, 0x81, 0x00, 0]),
            UNREADABLE,
        ),
        (
            "a table larger than allowed",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0x3f, 0xff, 0xff, 0x7f]),
            UNREADABLE,
        ),
        ("a table resized inside", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0x82, 0x20]), UNREADABLE),
    ]);
}

#[test]
fn wrong_settings_and_windows_are_refused() {
    let most = (1u32 << 31) - 1;
    let open = |next: Vec<u8>| [headers(1, 0, POST), next].concat();
    let stream_error: &[Reaction] = &[Reaction::Reset(PROTOCOL), Reaction::GoAway(PROTOCOL)];
    let stream_window: &[Reaction] = &[Reaction::Reset(FLOW_CONTROL), Reaction::GoAway(FLOW_CONTROL)];
    assert_reactions(&[
        ("a push that is neither on nor off", frame(SETTINGS, 0, 0, setting(2, 2)), BROKEN),
        (
            "a first window too large",
            frame(SETTINGS, 0, 0, setting(4, most + 1)),
            &[Reaction::GoAway(FLOW_CONTROL), Reaction::GoAway(PROTOCOL)],
        ),
        ("frames too small", frame(SETTINGS, 0, 0, setting(5, 16_383)), BROKEN),
        ("frames too large", frame(SETTINGS, 0, 0, setting(5, 1 << 24)), BROKEN),
        ("no more window", frame(WINDOW_UPDATE, 0, 0, 0u32.to_be_bytes()), BROKEN),
        ("no more window of a stream", open(frame(WINDOW_UPDATE, 0, 1, 0u32.to_be_bytes())), stream_error),
        ("a window beyond the most", frame(WINDOW_UPDATE, 0, 0, most.to_be_bytes()), NO_WINDOW),
        (
            "a window of a stream beyond the most",
            open(frame(WINDOW_UPDATE, 0, 1, most.to_be_bytes())),
            stream_window,
        ),
        (
            "a window beyond the most by settings",
            open(
                [
                    frame(WINDOW_UPDATE, 0, 1, (most - 70_000).to_be_bytes()),
                    frame(SETTINGS, 0, 0, setting(4, most)),
                ]
                .concat(),
            ),
            NO_WINDOW,
        ),
    ]);
}

/// Unknown frames, flags and settings are ignored (RFC 9113 §4.1, §5.5, §6.5.2).
#[test]
fn unknown_frames_and_settings_are_ignored() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let ignored = [
        frame(0xbb, 0xff, 0, "?"),
        frame(SETTINGS, 0, 0, setting(0xbb, 7)),
        frame(PRIORITY, 0, 5, [0, 0, 0, 0, 1]),
        // This frame sets the reserved bit of the stream identifier.
        head(0x8000_0001, END_STREAM),
        frame(PING, 0xfe, 0, [1; 8]),
    ];
    connection.send(ignored.concat()).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    assert!(connection.answers_ping());
    assert_eq!(backend.received().len(), 1);
}

/// A connection that does not begin with the preface is refused (RFC 9113 §3.4).
#[test]
fn a_connection_without_the_preface_is_refused() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (name, bytes) in [
        ("HTTP/1.1", get("/events")),
        ("half a preface", [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".as_slice(), &head(1, END_STREAM)].concat()),
    ] {
        let mut connection = Frames::connect_without_preface(&proxy.producer(), proxy.address).unwrap();
        connection.send(&bytes).unwrap();
        let reaction = connection.reaction(1);
        assert!([Reaction::GoAway(PROTOCOL), Reaction::Closed].contains(&reaction), "{name}: {reaction:?}");
    }
    // HTTP/2 is not spoken if the handshake did not negotiate it.
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send([preface(&[]), head(1, END_STREAM)].concat()).unwrap();
    let answered = connection.read_to_end().unwrap_or_default();
    assert!(!answered.windows(3).any(|window| window == b"200"), "{answered:?}");
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

/// A stream identifier is used once, and identifiers only grow.
#[test]
fn streams_are_opened_once_and_in_order() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (name, second) in [("lower", 1), ("the same", 3)] {
        let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
        connection.send(head(3, END_STREAM)).unwrap();
        assert_eq!(connection.reaction(3), Reaction::Answer(200), "{name}");
        let before = backend.received().len();
        connection.send(head(second, END_STREAM)).unwrap();
        let reaction = connection.reaction(second);
        let is_error =
            matches!(reaction, Reaction::GoAway(PROTOCOL | STREAM_CLOSED) | Reaction::Reset(STREAM_CLOSED));
        assert!(is_error, "{name}: {reaction:?}");
        assert_eq!(backend.received().len(), before, "{name}");
    }
}

/// A body that is larger than the flow-control window ends the stream or the connection.
#[test]
fn data_beyond_the_window_ends_the_stream() {
    let backend = Backend::never_answering();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.anonymous(), proxy.address).unwrap();
    connection.send(headers(1, 0, POST)).unwrap();
    let chunk = frame(DATA, 0, 1, vec![0; 16_384]);
    // This is more than any window, even if the proxy enlarges the window meanwhile.
    let sent = (0..1000).take_while(|_| connection.send(&chunk).is_ok()).count();
    while let Ok(frame) = connection.next() {
        if frame.kind == GOAWAY || frame.kind == RST_STREAM {
            assert!([0, FLOW_CONTROL, STREAM_CLOSED, 8].contains(&frame.error()), "{frame:?} after {sent}");
            break;
        }
    }
    assert!(backend.received().is_empty());
}

/// Asserts that other clients are served during the flood, and that the memory of the proxy grows by a bounded amount only.
fn assert_survived(name: &str, flood: impl Fn(&mut Frames) -> std::io::Result<()>) {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut other = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(other.get("/events").unwrap().status, 200);
    let before = memory(&proxy);
    for client in [proxy.producer(), proxy.anonymous()] {
        let mut connection = Frames::connect(&client, proxy.address).unwrap();
        // The flood usually ends because the proxy ends the connection.
        let _ = flood(&mut connection);
        let start = Instant::now();
        assert_eq!(other.get("/events").unwrap().status, 200, "{name}: another client, meanwhile");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
        let grown = memory(&proxy).saturating_sub(before);
        assert!(grown < 32 * 1024, "{name}: {grown} KiB more");
    }
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

fn memory(proxy: &Proxy) -> u64 {
    proxy.process.resident_memory() >> 10
}

/// Returns how the connection ended within `count` frames of a kind; `None` if the connection is still open.
fn end_of(client: &Client, proxy: &Proxy, count: u32, each: impl Fn(u32) -> Vec<u8>) -> Option<Reaction> {
    let mut connection = Frames::connect(client, proxy.address).unwrap();
    for number in 0..count {
        if connection.send(each(number)).is_err() {
            return Some(Reaction::Closed);
        }
    }
    (!connection.answers_ping()).then_some(Reaction::Closed)
}

/// Case 77: a connection whose streams are reset over and over is ended, no matter which side sends the resets.
#[test]
fn resets_without_end_end_the_connection() {
    let backend = Backend::never_answering();
    let proxy = Setup::new(&backend.url()).policy(NARROW).set("limits.max_connections", 2).start();
    let cancel = 8u32.to_be_bytes();
    let nothing = 0u32.to_be_bytes();
    let number = |count: u32| count * 2 + 1;
    type Each = Box<dyn Fn(u32) -> Vec<u8>>;
    let provoked: [(&str, Each); 4] = [
        (
            "rapid reset",
            Box::new(move |n| {
                [head(number(n), END_STREAM), frame(RST_STREAM, 0, number(n), cancel)].concat()
            }),
        ),
        (
            "reset by a window of nothing",
            Box::new(move |n| {
                [headers(number(n), 0, POST), frame(WINDOW_UPDATE, 0, number(n), nothing)].concat()
            }),
        ),
        (
            "reset by data after the end",
            Box::new(move |n| [head(number(n), END_STREAM), frame(DATA, 0, number(n), "a")].concat()),
        ),
        (
            "reset by malformed requests",
            Box::new(move |n| headers(number(n), END_STREAM, &[(":method", "GET")])),
        ),
    ];
    for (name, each) in &provoked {
        for client in [proxy.producer(), proxy.anonymous()] {
            let end = end_of(&client, &proxy, 3000, each);
            assert!(end.is_some(), "{name}: endured");
        }
        proxy.admin.wait_for("sidegate_slots_used", 0.0);
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
}

/// Case 78: a header block that never ends is cut off.
#[test]
fn a_continuation_flood_is_cut() {
    assert_survived("CONTINUATION", |connection| {
        connection.send(frame(HEADERS, END_STREAM, 1, block(GET)))?;
        let part = frame(CONTINUATION, 0, 1, block(&[("x-a", "a".repeat(8000))]));
        for _ in 0..10_000 {
            connection.send(&part)?;
        }
        panic!("80 MB of headers were taken");
    });
    assert_survived("empty CONTINUATION", |connection| {
        connection.send(frame(HEADERS, END_STREAM, 1, block(GET)))?;
        let parts = frame(CONTINUATION, 0, 1, "").repeat(1000);
        for _ in 0..1000 {
            connection.send(&parts)?;
        }
        panic!("a million empty parts were taken");
    });
}

/// Case 78: a few bytes of HPACK that expand to many are refused.
#[test]
fn an_hpack_bomb_is_cut() {
    assert_survived("HPACK", |connection| {
        // The attack puts one long field into the table and then refers to it thousands of times, with one byte each.
        let mut first = block(GET);
        first.extend([0x40, 3, b'x', b'-', b'a', 0x7f, 0xa1, 0x1e]);
        first.extend([b'a'; 4000]);
        connection.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, first))?;
        for stream in 1..200 {
            let bomb = [block(GET), vec![0xbe; 16_000]].concat();
            connection.send(frame(HEADERS, END_HEADERS | END_STREAM, stream * 2 + 1, bomb))?;
        }
        Ok(())
    });
}

/// Case 78: frames that are cheap to send, and whose answers the client never reads, cost a bounded amount of memory.
#[test]
fn frames_without_end_are_bounded() {
    for (name, each) in [
        ("PING", frame(PING, 0, 0, [0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, setting(3, 100))),
        ("empty SETTINGS", frame(SETTINGS, 0, 0, "")),
        ("PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])),
        ("unknown frames", frame(0xbb, 0, 0, "")),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, 1u32.to_be_bytes())),
    ] {
        let many = each.repeat(1000);
        assert_survived(name, |connection| {
            let limit = Some(Duration::from_secs(2));
            connection.wire.stream.sock.set_write_timeout(limit)?;
            // The client reads nothing, so the answers of the proxy fill the socket.
            for _ in 0..300 {
                connection.send(&many)?;
            }
            Ok(())
        });
    }
    assert_survived("empty DATA", |connection| {
        connection.send(headers(1, 0, POST))?;
        let many = frame(DATA, 0, 1, "").repeat(1000);
        for _ in 0..300 {
            connection.send(&many)?;
        }
        Ok(())
    });
}

/// Case 78: a client opens no window for its answers. A bounded number of answers wait, and each backend connection is free
/// once the backend has answered.
#[test]
fn a_client_without_a_window_holds_up_no_other_client() {
    let body = "x".repeat(100_000);
    let backend =
        Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let before = memory(&proxy);
    let mut greedy = Frames::connect_without_preface(&proxy.producer(), proxy.address).unwrap();
    greedy.send(preface(&setting(4, 0))).unwrap();
    for stream in 0..1000 {
        if greedy.send(head(stream * 2 + 1, END_STREAM)).is_err() {
            break;
        }
    }
    let mut other = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(other.get("/events").unwrap().body.len(), body.len());
    let grown = memory(&proxy).saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB more");
    drop(greedy);
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}
