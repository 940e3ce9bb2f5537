//! Every limit of HTTP is a setting (`limits.http`), and a request beyond it gets a documented answer.

use crate::support::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, Frames, GET_EVENTS, HEADERS, RST_STREAM, Reaction, SETTINGS,
    block, frame, headers, preface, setting,
};
use crate::support::http2::request;
use crate::support::{Backend, Proxy, Setup};

const TOO_LARGE: &str = "431 headers_too_large";

#[track_caller]
fn assert_verdicts(proxy: &Proxy, fields: &[(String, String)], http1: &str, http2: &str) {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut connection = proxy.connect();
    let answer = connection.ask(&format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")).unwrap();
    assert_eq!(answer.verdict(), http1, "HTTP/1.1");
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let connection = proxy.http2();
    let answer = connection.ask(request("GET", "/events", &fields), b"").unwrap();
    assert_eq!(answer.verdict(), http2, "HTTP/2");
    assert_eq!(connection.get("/events").unwrap().status, 200, "the connection goes on");
}

#[test]
fn the_bytes_of_a_head_are_limited() {
    let backend = Backend::ok();
    let most = 10_000;
    let proxy = Setup::new(&backend.url()).set("limits.http.max_header_bytes", most).start();
    let header = |length: usize| vec![("x-a".to_owned(), "a".repeat(length))];
    // In HTTP/1.1 the size is that of the whole head. In HTTP/2 it is that of the list, with 32 bytes more for each field
    // (RFC 9113 §6.5.2).
    let head = "GET /events HTTP/1.1\r\nHost: localhost\r\nx-a: \r\n\r\n".len();
    let list = "x-a".len() + 32;
    assert_verdicts(&proxy, &header(most - head), "200", "200");
    assert_verdicts(&proxy, &header(most - head + 1), TOO_LARGE, "200");
    assert_verdicts(&proxy, &header(most - list), TOO_LARGE, "200");
    assert_verdicts(&proxy, &header(most - list + 1), TOO_LARGE, TOO_LARGE);
}

#[test]
fn the_number_of_headers_is_limited() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.http.max_headers", 10).start();
    let headers =
        |count: usize| -> Vec<_> { (0..count).map(|n| (format!("x-{n}"), "1".to_owned())).collect() };
    // In HTTP/1.1 `Host` counts as a header.
    assert_verdicts(&proxy, &headers(9), "200", "200");
    assert_verdicts(&proxy, &headers(10), TOO_LARGE, "200");
    assert_verdicts(&proxy, &headers(11), TOO_LARGE, TOO_LARGE);
}

/// Returns the first SETTINGS of the server.
fn settings_of(connection: &mut Frames) -> Vec<(u16, u32)> {
    let frame = std::iter::repeat_with(|| connection.next().unwrap())
        .find(|frame| frame.kind == SETTINGS && frame.flags == 0)
        .unwrap();
    let settings = frame.payload.chunks(6).map(|setting| {
        let (id, value) = setting.split_at(2);
        (u16::from_be_bytes(id.try_into().unwrap()), u32::from_be_bytes(value.try_into().unwrap()))
    });
    settings.collect()
}

#[test]
fn the_number_of_streams_of_a_connection_is_limited() {
    let backend = Backend::never_answering();
    let setup = Setup::new(&backend.url()).set("limits.http.max_streams", 3);
    let proxy = setup.set("limits.http.max_header_bytes", 20_000).start();
    let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
    let settings = settings_of(&mut connection);
    assert!(settings.contains(&(3, 3)), "SETTINGS_MAX_CONCURRENT_STREAMS: {settings:?}");
    assert!(
        settings.contains(&(6, 40_000)),
        "SETTINGS_MAX_HEADER_LIST_SIZE, with room for an answer: {settings:?}"
    );
    for stream in [1, 3, 5, 7] {
        connection.send(headers(stream, END_STREAM, GET_EVENTS)).unwrap();
    }
    assert_eq!(
        connection.reaction(7),
        Reaction::Reset(7),
        "REFUSED_STREAM: the client may repeat the request"
    );
    backend.wait_for(3);
    assert!(connection.answers_ping());
    assert_eq!(backend.received().len(), 3);
}

#[test]
fn the_number_of_resets_of_a_connection_is_limited() {
    let number = |n: u32| n * 2 + 1;
    let cancelled = |n: u32| {
        [headers(number(n), END_STREAM, GET_EVENTS), frame(RST_STREAM, 0, number(n), 8u32.to_be_bytes())]
            .concat()
    };
    let provoking =
        |n: u32| headers(number(n), END_STREAM, &[GET_EVENTS, &[("connection", "close")]].concat());
    let backend = Backend::never_answering();
    for (key, each) in [
        ("limits.http.max_pending_resets", &cancelled as &dyn Fn(u32) -> Vec<u8>),
        ("limits.http.max_provoked_resets", &provoking),
    ] {
        let setup = |most: u32| Setup::new(&backend.url()).set(key, most).start();
        for (most, survives) in [(3, false), (30, true)] {
            let proxy = setup(most);
            let mut connection = Frames::connect_without_preface(&proxy.producer(), proxy.address).unwrap();
            let flood: Vec<u8> = (0..20).flat_map(each).collect();
            connection.send([preface(&setting(1, 0)), flood].concat()).unwrap();
            assert_eq!(connection.answers_ping(), survives, "{key}: {most}");
        }
    }
}

/// The limit holds for the whole header list, in however many CONTINUATION frames the list comes.
#[test]
fn a_header_list_far_beyond_the_limit_never_becomes_a_request() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.http.max_header_bytes", 10_000).start();
    for (length, expected) in [(15_000, 431), (30_000, 431)] {
        let mut connection = Frames::connect(&proxy.producer(), proxy.address).unwrap();
        let long = "a".repeat(length);
        let block = block(&[GET_EVENTS, &[("x-a", long.as_str())]].concat());
        let (first, rest) = block.split_at(block.len().min(10_000));
        connection.send(frame(HEADERS, END_STREAM, 1, first)).unwrap();
        for part in rest.chunks(10_000) {
            connection.send(frame(CONTINUATION, 0, 1, part)).unwrap();
        }
        connection.send(frame(CONTINUATION, END_HEADERS, 1, "")).unwrap();
        assert_eq!(connection.reaction(1), Reaction::Answer(expected), "{length}");
        assert!(connection.answers_ping());
    }
    assert!(backend.received().is_empty());
}
