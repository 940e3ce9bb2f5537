//! HTTP/2 frames that a server must refuse (RFC 9113 §4 to §6), from authenticated clients and strangers; and floods of frames.

use std::time::{Duration, Instant};

use super::outcomes::{NARROW, get};
use crate::support::frames::{
    ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, Frames, GET_EVENTS, GOAWAY, HEADERS, PADDED, PING, POST_EVENTS, PRIORITY,
    PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, Reaction, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE,
    WITH_PRIORITY, block, frame, headers, preface, setting,
};
use crate::support::{Backend, Client, Proxy, Setup};

/// A name, the bytes after the preface, and the right reactions: RFC 9113 lets a server treat a stream error as a connection
/// error.
type FrameCase = (&'static str, Vec<u8>, &'static [Reaction]);

#[track_caller]
fn assert_reactions(cases: &[FrameCase]) {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let before = backend.received().len();
        for (sender, client) in [("producer", proxy.producer()), ("stranger", proxy.anonymous())] {
            let mut frames = Frames::connect(&client, proxy.address).unwrap();
            let _ = frames.send(bytes);
            let got = frames.reaction(1);
            if !expected.contains(&got) {
                wrong.push(format!("{name}, {sender}: {got:?}, not one of {expected:?}"));
            }
        }
        for request in &backend.received()[before..] {
            wrong.push(format!("{name}: the backend got {}", request.head));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const BROKEN: &[Reaction] = &[Reaction::GoAway(PROTOCOL_ERROR)];
const TOO_LONG: &[Reaction] = &[Reaction::GoAway(FRAME_SIZE_ERROR)];
/// Libraries use one of two errors for a frame of a wrong size.
const WRONG_SIZE: &[Reaction] = &[Reaction::GoAway(FRAME_SIZE_ERROR), Reaction::GoAway(PROTOCOL_ERROR)];
const NO_WINDOW: &[Reaction] = &[Reaction::GoAway(FLOW_CONTROL_ERROR)];
const UNREADABLE: &[Reaction] = &[Reaction::GoAway(COMPRESSION_ERROR), Reaction::GoAway(PROTOCOL_ERROR)];

fn head(stream: u32, flags: u8) -> Vec<u8> {
    headers(stream, flags, GET_EVENTS)
}

#[test]
fn frames_of_wrong_size_end_the_connection() {
    let long = vec![0; 16_385];
    assert_reactions(&[
        (
            "DATA beyond the maximum size",
            [headers(1, 0, POST_EVENTS), frame(DATA, 0, 1, &long)].concat(),
            TOO_LONG,
        ),
        ("HEADERS beyond the maximum size", frame(HEADERS, END_HEADERS | END_STREAM, 1, &long), TOO_LONG),
        ("SETTINGS beyond the maximum size", frame(SETTINGS, 0, 0, &long), TOO_LONG),
        ("an unknown frame beyond the maximum size", frame(0xbb, 0, 0, &long), TOO_LONG),
        ("SETTINGS cut short", frame(SETTINGS, 0, 0, [0; 5]), WRONG_SIZE),
        ("an acknowledgement of SETTINGS with a setting", frame(SETTINGS, ACK, 0, setting(3, 1)), WRONG_SIZE),
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
fn frames_on_a_wrong_stream_number_end_the_connection() {
    assert_reactions(&[
        ("an even stream number", head(2, END_STREAM), BROKEN),
        ("HEADERS on stream 0", head(0, END_STREAM), BROKEN),
        ("DATA on stream 0", frame(DATA, 0, 0, "a"), BROKEN),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, [0; 5]), BROKEN),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, [0; 4]), BROKEN),
        ("CONTINUATION on stream 0", frame(CONTINUATION, END_HEADERS, 0, ""), BROKEN),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, ""), BROKEN),
        ("PING on a stream", frame(PING, 0, 1, [0; 8]), BROKEN),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8]), BROKEN),
    ]);
}

#[test]
fn frames_in_a_wrong_state_of_the_stream_are_errors() {
    let ended = |after: Vec<u8>| [headers(1, END_STREAM, &[]), after].concat();
    assert_reactions(&[
        ("DATA before HEADERS", frame(DATA, END_STREAM, 1, "a"), BROKEN),
        ("RST_STREAM before HEADERS", frame(RST_STREAM, 0, 1, [0; 4]), BROKEN),
        ("WINDOW_UPDATE before HEADERS", frame(WINDOW_UPDATE, 0, 1, 1u32.to_be_bytes()), BROKEN),
        (
            "DATA after the end of a malformed request",
            ended(frame(DATA, 0, 1, "a")),
            &[
                Reaction::Reset(PROTOCOL_ERROR),
                Reaction::Reset(STREAM_CLOSED),
                Reaction::GoAway(STREAM_CLOSED),
            ],
        ),
        ("a PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2]), BROKEN),
        (
            "a PUSH_PROMISE on an open stream",
            [headers(1, 0, POST_EVENTS), frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])].concat(),
            BROKEN,
        ),
        (
            "padding beyond the frame",
            [headers(1, 0, POST_EVENTS), frame(DATA, PADDED, 1, [5, 0, 0])].concat(),
            BROKEN,
        ),
        ("padding beyond the header block", frame(HEADERS, PADDED | END_HEADERS, 1, [200, 0]), BROKEN),
        (
            "a stream that depends on itself",
            frame(
                HEADERS,
                WITH_PRIORITY | END_HEADERS | END_STREAM,
                1,
                [[0, 0, 0, 1, 0].as_slice(), &block(GET_EVENTS)].concat(),
            ),
            &[Reaction::Reset(PROTOCOL_ERROR), Reaction::GoAway(PROTOCOL_ERROR)],
        ),
    ]);
}

#[test]
fn malformed_and_interrupted_header_blocks_end_the_connection() {
    let (first, second) = (block(&GET_EVENTS[..2]), block(&GET_EVENTS[2..]));
    let begun = frame(HEADERS, END_STREAM, 1, &first);
    let then = |next: Vec<u8>| [begun.clone(), next].concat();
    assert_reactions(&[
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &second), BROKEN),
        (
            "CONTINUATION after the end of the block",
            [head(1, 0), frame(CONTINUATION, END_HEADERS, 1, &second)].concat(),
            BROKEN,
        ),
        ("CONTINUATION of another stream", then(frame(CONTINUATION, END_HEADERS, 3, &second)), BROKEN),
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
        ("an endless integer", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 32]), UNREADABLE),
        (
            "a string longer than the block",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0, 0x7e, b'a']),
            UNREADABLE,
        ),
        (
            "a Huffman code padded with zeros",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0, 0x81, 0x00, 0]),
            UNREADABLE,
        ),
        (
            "a table larger than allowed",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0x3f, 0xff, 0xff, 0x7f]),
            UNREADABLE,
        ),
        (
            "a change of the table size inside of a block",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0x82, 0x20]),
            UNREADABLE,
        ),
    ]);
}

#[test]
fn wrong_settings_and_window_updates_are_errors() {
    let most = (1u32 << 31) - 1;
    let open = |next: Vec<u8>| [headers(1, 0, POST_EVENTS), next].concat();
    let stream_error: &[Reaction] = &[Reaction::Reset(PROTOCOL_ERROR), Reaction::GoAway(PROTOCOL_ERROR)];
    let stream_window: &[Reaction] =
        &[Reaction::Reset(FLOW_CONTROL_ERROR), Reaction::GoAway(FLOW_CONTROL_ERROR)];
    assert_reactions(&[
        ("ENABLE_PUSH that is not 0 or 1", frame(SETTINGS, 0, 0, setting(2, 2)), BROKEN),
        (
            "an initial window too large",
            frame(SETTINGS, 0, 0, setting(4, most + 1)),
            &[Reaction::GoAway(FLOW_CONTROL_ERROR), Reaction::GoAway(PROTOCOL_ERROR)],
        ),
        ("a maximum frame size too small", frame(SETTINGS, 0, 0, setting(5, 16_383)), BROKEN),
        ("a maximum frame size too large", frame(SETTINGS, 0, 0, setting(5, 1 << 24)), BROKEN),
        ("a zero window update of the connection", frame(WINDOW_UPDATE, 0, 0, 0u32.to_be_bytes()), BROKEN),
        (
            "a zero window update of a stream",
            open(frame(WINDOW_UPDATE, 0, 1, 0u32.to_be_bytes())),
            stream_error,
        ),
        (
            "a window of the connection beyond the maximum",
            frame(WINDOW_UPDATE, 0, 0, most.to_be_bytes()),
            NO_WINDOW,
        ),
        (
            "a window of a stream beyond the maximum",
            open(frame(WINDOW_UPDATE, 0, 1, most.to_be_bytes())),
            stream_window,
        ),
        (
            "a window beyond the maximum by SETTINGS",
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

/// RFC 9113 §4.1, §5.5 and §6.5.2 require that.
#[test]
fn unknown_frames_and_settings_are_ignored() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let ignored = [
        frame(0xbb, 0xff, 0, "?"),
        frame(SETTINGS, 0, 0, setting(0xbb, 7)),
        frame(PRIORITY, 0, 5, [0, 0, 0, 0, 1]),
        // The reserved bit of a stream's number.
        head(0x8000_0001, END_STREAM),
        frame(PING, 0xfe, 0, [1; 8]),
    ];
    connection.send(ignored.concat()).unwrap();
    assert_eq!(connection.reaction(1), Reaction::Answer(200));
    assert!(connection.answers_ping());
    assert_eq!(backend.received().len(), 1);
}

/// The preface comes before anything else (RFC 9113 §3.4).
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
        assert!(
            [Reaction::GoAway(PROTOCOL_ERROR), Reaction::Closed].contains(&reaction),
            "{name}: {reaction:?}"
        );
    }
    // A connection whose handshake did not choose HTTP/2 does not accept it.
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    connection.send([preface(&[]), head(1, END_STREAM)].concat()).unwrap();
    let answered = connection.read_to_end().unwrap_or_default();
    assert!(!answered.windows(3).any(|window| window == b"200"), "{answered:?}");
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

#[test]
fn a_stream_is_opened_once_and_in_ascending_order() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    for (name, second) in [("lower", 1), ("the same", 3)] {
        let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
        connection.send(head(3, END_STREAM)).unwrap();
        assert_eq!(connection.reaction(3), Reaction::Answer(200), "{name}");
        let before = backend.received().len();
        connection.send(head(second, END_STREAM)).unwrap();
        let reaction = connection.reaction(second);
        let is_error = matches!(
            reaction,
            Reaction::GoAway(PROTOCOL_ERROR | STREAM_CLOSED) | Reaction::Reset(STREAM_CLOSED)
        );
        assert!(is_error, "{name}: {reaction:?}");
        assert_eq!(backend.received().len(), before, "{name}");
    }
}

#[test]
fn data_beyond_the_window_ends_the_stream_or_the_connection() {
    let backend = Backend::never_answering();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut connection = Frames::connect(&proxy.anonymous(), proxy.address).unwrap();
    connection.send(headers(1, 0, POST_EVENTS)).unwrap();
    let chunk = frame(DATA, 0, 1, vec![0; 16_384]);
    // The data exceeds any window, also if the server opens it again meanwhile.
    let sent = (0..1000).take_while(|_| connection.send(&chunk).is_ok()).count();
    while let Ok(frame) = connection.next() {
        if frame.kind == GOAWAY || frame.kind == RST_STREAM {
            let expected = [0, FLOW_CONTROL_ERROR, STREAM_CLOSED, CANCEL];
            assert!(expected.contains(&frame.error()), "{frame:?} after {sent}");
            break;
        }
    }
    assert!(backend.received().is_empty());
}

/// Checks that another client is served during a flood, and that the memory of the proxy grows by less than 32 MiB.
fn assert_survived(name: &str, flood: impl Fn(&mut Frames) -> std::io::Result<()>) {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(NARROW).start();
    let mut other = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(other.get("/events").unwrap().status, 200);
    let before = memory(&proxy);
    for client in [proxy.producer(), proxy.anonymous()] {
        let mut connection = Frames::connect(&client, proxy.address).unwrap();
        // The server may end the connection of a flood, so an error is right.
        let _ = flood(&mut connection);
        let start = Instant::now();
        assert_eq!(other.get("/events").unwrap().status, 200, "{name}: another client, meanwhile");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
        let grown = memory(&proxy).saturating_sub(before);
        assert!(grown < 32 * 1024, "{name}: {grown} KiB more");
    }
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// Returns the resident memory in KiB.
fn memory(proxy: &Proxy) -> u64 {
    proxy.process.resident_memory() >> 10
}

/// Returns the frames of a round, given the number of the round.
type RoundFrames = fn(u32) -> Vec<u8>;

/// Sends many rounds of frames on one connection; returns true if the server ends it.
fn ends_connection(client: &Client, proxy: &Proxy, round: RoundFrames) -> bool {
    let mut connection = Frames::connect(client, proxy.address).unwrap();
    (0..3000).any(|number| connection.send(round(number)).is_err()) || !connection.answers_ping()
}

/// Frames of which each round makes the client or the server reset one stream.
const RESETS: [(&str, RoundFrames); 4] = [
    ("resets by the client", |n| {
        [head(stream(n), END_STREAM), frame(RST_STREAM, 0, stream(n), CANCEL.to_be_bytes())].concat()
    }),
    ("resets by the server, for zero window updates", |n| {
        [headers(stream(n), 0, POST_EVENTS), frame(WINDOW_UPDATE, 0, stream(n), [0; 4])].concat()
    }),
    ("resets by the server, for data after the end", |n| {
        [head(stream(n), END_STREAM), frame(DATA, 0, stream(n), "a")].concat()
    }),
    ("resets by the server, for malformed requests", |n| {
        headers(stream(n), END_STREAM, &[(":method", "GET")])
    }),
];

/// Streams of clients have odd numbers.
fn stream(round: u32) -> u32 {
    round * 2 + 1
}

/// Case 77: a connection on which streams are reset again and again is ended, also if the client makes the server reset
/// them.
#[test]
fn a_flood_of_resets_ends_the_connection() {
    let backend = Backend::never_answering();
    let proxy = Setup::new(&backend.url()).policy(NARROW).set("limits.max_connections", 2).start();
    for (name, round) in RESETS {
        for client in [proxy.producer(), proxy.anonymous()] {
            assert!(ends_connection(&client, &proxy, round), "{name}: the connection stays open");
        }
        proxy.admin.wait_for("sidegate_slots_used", 0.0);
        proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
    }
}

/// Case 78: a header block that never ends.
#[test]
fn a_continuation_flood_is_ended() {
    assert_survived("CONTINUATION", |connection| {
        connection.send(frame(HEADERS, END_STREAM, 1, block(GET_EVENTS)))?;
        let part = frame(CONTINUATION, 0, 1, block(&[("x-a", "a".repeat(8000))]));
        for _ in 0..10_000 {
            connection.send(&part)?;
        }
        panic!("80 MB of headers were taken");
    });
    assert_survived("empty CONTINUATION", |connection| {
        connection.send(frame(HEADERS, END_STREAM, 1, block(GET_EVENTS)))?;
        let parts = frame(CONTINUATION, 0, 1, "").repeat(1000);
        for _ in 0..1000 {
            connection.send(&parts)?;
        }
        panic!("a million empty parts were taken");
    });
}

/// Case 78: few bytes that decode to many.
#[test]
fn an_hpack_bomb_is_ended() {
    assert_survived("HPACK", |connection| {
        // The first block adds one long field to the table; later blocks refer to it thousands of times, by one byte each.
        let mut first = block(GET_EVENTS);
        first.extend([0x40, 3, b'x', b'-', b'a', 0x7f, 0xa1, 0x1e]);
        first.extend([b'a'; 4000]);
        connection.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, first))?;
        for stream in 1..200 {
            let bomb = [block(GET_EVENTS), vec![0xbe; 16_000]].concat();
            connection.send(frame(HEADERS, END_HEADERS | END_STREAM, stream * 2 + 1, bomb))?;
        }
        Ok(())
    });
}

/// Case 78: frames that cost the client little and may need an answer, which the client does not read.
#[test]
fn floods_of_cheap_frames_use_bounded_memory() {
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
            // The client reads nothing, so the answers of the server cannot be sent.
            for _ in 0..300 {
                connection.send(&many)?;
            }
            Ok(())
        });
    }
    assert_survived("empty DATA", |connection| {
        connection.send(headers(1, 0, POST_EVENTS))?;
        let many = frame(DATA, 0, 1, "").repeat(1000);
        for _ in 0..300 {
            connection.send(&many)?;
        }
        Ok(())
    });
}

/// Case 78: answers that wait for a window are few, and the exchange with the backend ends when the backend has answered.
#[test]
fn a_client_without_a_window_delays_no_other_client() {
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
