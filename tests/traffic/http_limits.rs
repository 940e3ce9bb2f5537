//! Every limit of HTTP is a setting (`limits.http`), and a request beyond it gets a documented answer.

use crate::support::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, Frames, GET_EVENTS, HEADERS, RST_STREAM, Reaction, SETTINGS,
    block, frame, headers, preface, setting,
};
use crate::support::http2::{Http2, request};
use crate::support::{Backend, BlockingBackend, Proxy, Setup, eventually};

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
            // The first PING may be read together with the flood.
            let answers = (0..2).all(|_| connection.answers_ping());
            assert_eq!(answers, survives, "{key}: {most}");
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
        send_in_parts(&mut connection, 1, &[("x-a", "a".repeat(length).as_str())]);
        assert_eq!(connection.reaction(1), Reaction::Answer(expected), "{length}");
        assert!(connection.answers_ping());
    }
    assert!(backend.received().is_empty());
}

/// Sends a request with these headers, in a HEADERS frame and CONTINUATION frames of 10,000 bytes.
fn send_in_parts(connection: &mut Frames, stream: u32, fields: &[(&str, &str)]) {
    let block = block(&[GET_EVENTS, fields].concat());
    let (first, rest) = block.split_at(block.len().min(10_000));
    let head = frame(HEADERS, END_STREAM, stream, first);
    let parts = rest.chunks(10_000).flat_map(|part| frame(CONTINUATION, 0, stream, part));
    let end = frame(CONTINUATION, END_HEADERS, stream, "");
    // The server may have ended the connection before it has read everything.
    let _ = connection.send([head, parts.collect(), end].concat());
}

/// Header lists of about this size, of one long header and of many short ones.
fn lists_of(bytes: usize) -> [Vec<(String, String)>; 2] {
    let short = (0..bytes / 40).map(|number| (format!("x-{number}"), "abc".to_owned()));
    [vec![("cookie".to_owned(), "c".repeat(bytes))], short.collect()]
}

/// HTTP/2 does not hand over a list of more than twice the limit, so another part of the program makes the answer.
#[test]
fn a_header_list_of_any_size_gets_the_documented_answer_a_record_and_a_count() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("limits.http.max_header_bytes", 10_000);
    let mut proxy = setup.set("limits.http.max_headers", 1_000).start();
    let reasons = ["not_authenticated", "invalid_certificate", "headers_too_large"];
    let clients = [proxy.anonymous(), proxy.client(&proxy.pki().expired()), proxy.consumer()];
    let mut count = 0.0;
    for (client, reason) in clients.iter().zip(reasons) {
        let (before, expected) = match reason {
            "headers_too_large" => ("200".to_owned(), TOO_LARGE.to_owned()),
            _ => (format!("401 {reason}"), format!("401 {reason}")),
        };
        for (size, method) in [(12_000, "GET"), (21_000, "GET"), (30_000, "POST"), (60_000, "GET")] {
            for fields in lists_of(size) {
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let connection = Http2::connect(client, proxy.address).unwrap();
                assert_eq!(connection.get("/readable").unwrap().verdict(), before);
                let what = format!("{method}, {size} bytes in {} headers", fields.len());
                let body: &[u8] = if method == "POST" { b"body" } else { b"" };
                let answer = connection.ask(request(method, "/readable", &fields), body);
                let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(answer.verdict(), expected, "{what}");
                assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
                let id = &answer.json()["request_id"];
                let record = proxy.process.audit_where(&what, |record| record["request_id"] == *id);
                assert_eq!((&record["reason"], &record["done"]), (&reason.into(), &reason.into()), "{what}");
                assert_eq!(record["bytes"], answer.body.len(), "{what}");
                count += 1.0;
            }
        }
    }
    let decided = proxy.admin.metrics().value("sidegate_decisions_total");
    assert_eq!(decided, 2.0 * count, "one for each small request and one for each large one");
    assert_eq!(f64::from(u32::try_from(backend.received().len()).unwrap()), count / 3.0);
}

/// Such a list ends the connection at once, because nothing of it can be skipped. The decision is recorded all the same.
#[test]
fn a_header_list_of_many_times_the_limit_ends_the_connection_and_is_recorded_once() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("limits.http.max_header_bytes", 8_192).start();
    for (client, reason) in
        [(proxy.anonymous(), "not_authenticated"), (proxy.producer(), "headers_too_large")]
    {
        for fields in lists_of(300_000) {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut connection = Frames::connect(&client, proxy.address).unwrap();
            send_in_parts(&mut connection, 1, &fields);
            let reaction = connection.reaction(1);
            assert!(matches!(reaction, Reaction::GoAway(_) | Reaction::Closed), "{reaction:?}");
            let record = proxy.process.audit_where(reason, |_| true);
            assert_eq!((&record["reason"], &record["path"]), (&reason.into(), &"-".into()));
        }
    }
    let decided = || proxy.admin.metrics().value("sidegate_decisions_total");
    eventually("four decisions", decided, |decided| *decided == 4.0);
    assert!(backend.received().is_empty());
}

/// An answer that is on its way is not lost, and the client's tables stay as the server knows them.
#[test]
fn a_too_large_header_list_disturbs_no_other_request_of_its_connection() {
    let gate = BlockingBackend::start();
    let proxy = Setup::new(&gate.backend.url()).set("limits.http.max_header_bytes", 10_000).start();
    let connection = proxy.http2();
    let open = connection.open(request("GET", "/waits", &[]), true).unwrap();
    gate.wait_for(1);
    let fields = lists_of(30_000);
    for fields in fields.iter().cycle().take(6) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = connection.ask(request("GET", "/quick", &fields), b"").unwrap();
        assert_eq!((answer.status, answer.body.len()), (431, 0), "no body while others are in progress");
        assert_eq!(connection.get("/quick").unwrap().status, 200);
    }
    gate.gate.open();
    assert_eq!(open.finish(b"").unwrap().status, 200);
    assert_eq!(connection.get("/quick").unwrap().status, 200);
    // Once nothing else is in progress, the answer has its body, and the connection ends with it.
    let fields: Vec<_> = fields[0].iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(connection.ask(request("GET", "/quick", &fields), b"").unwrap().verdict(), TOO_LARGE);
    connection.assert_ends_in_order();
}
