//! Places in flight are the backend's: held until its work has ended, also where the client takes the request back, and not for
//! as long as a client takes to read; and no client holds them all (DESIGN §2.3).

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use proptest::prelude::*;
use sidegate::demo::pki::{Authority, Leaf, pem};

use super::slots::interleave;

use crate::support::backend::OK;
use crate::support::certificates::{CA_NAME, producer};
use crate::support::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, headers, setting,
};
use crate::support::http2::{Exchange, Http2, request};
use crate::support::proxy::policy_of_two;
use crate::support::tls::Tls;
use crate::support::{Backend, Client, Proxy, Setup, eventually};

const IN_FLIGHT: &str = "sidegate_requests_in_flight";
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];

/// A door that lets as many pass as the test says.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<usize>, Condvar)>);

impl Door {
    fn open(&self) {
        self.lets_pass(usize::MAX);
    }

    fn shut(&self) {
        self.lets_pass(0);
    }

    fn lets_pass(&self, count: usize) {
        *self.0.0.lock().unwrap() = count;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.0.lock().unwrap();
        let mut open = self.0.1.wait_while(shut, |left| *left == 0).unwrap();
        *open -= 1;
    }
}

/// A backend with a thread for each request, that looks at its connection again only once it is done.
struct Deaf {
    backend: Backend,
    working: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    door: Door,
}

impl Deaf {
    fn start() -> Self {
        let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let door = Door::default();
        let backend = {
            let (working, most, door) = (Arc::clone(&working), Arc::clone(&most), door.clone());
            Backend::scripted(move |connection| {
                while let Some(head) = connection.head()? {
                    most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    if !head.contains("/quick ") {
                        door.pass();
                    }
                    working.fetch_sub(1, Ordering::SeqCst);
                    connection.wire.send(OK)?;
                }
                Ok(())
            })
        };
        Self { backend, working, most, door }
    }

    fn wait_for(&self, working: u32) {
        let count = || u32::try_from(self.working.load(Ordering::SeqCst)).unwrap();
        eventually("requests at the backend", count, |count| *count == working);
    }

    /// All that was begun ends, and nothing is left of it.
    #[track_caller]
    fn assert_ends(&self, proxy: &Proxy, most: usize) {
        self.door.open();
        proxy.admin.wait_for(IN_FLIGHT, 0.0);
        proxy.admin.wait_for("sidegate_requests_queued", 0.0);
        assert_eq!(self.most.load(Ordering::SeqCst), most);
        let mut next = proxy.producer().connect(proxy.address).unwrap();
        assert_eq!(next.get("/events").unwrap().verdict(), "200");
    }
}

fn in_front_of_five(url: &str) -> Setup {
    Setup::new(url).set("backend.max_in_flight", 5).set("backend.queue_timeout", "60s")
}

/// A connection whose streams get no byte of a body.
fn without_windows(client: &Client, proxy: &Proxy) -> Frames {
    let mut connection = Frames::connect_without_preface(client, proxy.address).unwrap();
    let settings = [setting(1, 0), setting(4, 0)].concat();
    connection.send(frames::preface(&settings)).unwrap();
    connection
}

/// Takes back each request right after it has arrived, with every code that an error can have; the first of them once they are
/// at the backend.
fn take_back_by_resets(
    client: &Client,
    proxy: &Proxy,
    (count, body): (u32, bool),
    is_at_backend: impl Fn(u32),
) -> Frames {
    let mut connection = Frames::connect(client, proxy.address).unwrap();
    let mut fields = GET;
    fields[0].1 = if body { "POST" } else { "GET" };
    for number in 0..count {
        let stream = 2 * number + 1;
        connection.send(headers(stream, if body { 0 } else { END_STREAM }, &fields)).unwrap();
        if body {
            connection.send(frame(DATA, 0, stream, "half")).unwrap();
        }
        assert!(connection.answers_ping(), "after {number} requests");
        if number < 5 {
            is_at_backend(number + 1);
        }
        connection.send(frame(RST_STREAM, 0, stream, (number % 14).to_be_bytes())).unwrap();
    }
    assert!(connection.answers_ping());
    connection
}

#[test]
fn requests_that_are_reset_hold_their_places_until_the_backend_has_done_its_work() {
    for body in [false, true] {
        for workers in [1, 2] {
            let deaf = Deaf::start();
            let proxy = in_front_of_five(&deaf.backend.url()).set("workers", workers).start();
            let connection =
                take_back_by_resets(&proxy.producer(), &proxy, (60, body), |number| deaf.wait_for(number));
            deaf.wait_for(5);
            assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
            // Whoever waited has left.
            proxy.admin.wait_for("sidegate_requests_queued", 0.0);
            drop(connection);
            // The slot, too, is given back once the work for it has ended.
            assert_eq!(proxy.admin.metrics().value("sidegate_slots_used"), 1.0);
            deaf.assert_ends(&proxy, 5);
            proxy.admin.wait_for("sidegate_slots_used", 0.0);
        }
    }
}

#[test]
fn requests_whose_connections_are_closed_hold_their_places_as_well() {
    let deaf = Deaf::start();
    // An upload whose client leaves while it waits is not looked at before its turn, or the end of the wait.
    let setup = in_front_of_five(&deaf.backend.url()).set("backend.queue_timeout", "2s");
    let proxy = setup.set("workers", 2).start();
    let client = proxy.producer();
    for number in 0..40 {
        let mut connection = client.connect(proxy.address).unwrap();
        let (head, rest) = match number % 2 {
            0 => ("GET /events HTTP/1.1\r\nHost: localhost\r\n", "\r\n"),
            _ => ("POST /events HTTP/1.1\r\nHost: localhost\r\n", "Content-Length: 10\r\n\r\nhalf"),
        };
        connection.send([head, rest].concat()).unwrap();
        if number < 5 {
            deaf.wait_for(number + 1);
        }
    }
    proxy.admin.wait_for("sidegate_requests_queued", 0.0);
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
    deaf.assert_ends(&proxy, 5);
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
}

/// A backend that says nothing for ever does not keep its places for ever.
#[test]
fn a_request_taken_back_holds_its_place_for_no_longer_than_its_answer_may_take() {
    let deaf = Deaf::start();
    let proxy = in_front_of_five(&deaf.backend.url()).set("backend.response_timeout", "1s").start();
    let _connection =
        take_back_by_resets(&proxy.producer(), &proxy, (5, false), |number| deaf.wait_for(number));
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert_eq!(deaf.working.load(Ordering::SeqCst), 5, "whatever it does there");
    deaf.door.open();
}

/// The end of a server does not wait for work that nobody waits for.
#[test]
fn a_server_that_stops_does_not_wait_for_requests_that_were_taken_back() {
    let deaf = Deaf::start();
    let mut proxy = in_front_of_five(&deaf.backend.url()).set("drain_timeout", "60s").start();
    drop(take_back_by_resets(&proxy.producer(), &proxy, (5, false), |number| deaf.wait_for(number)));
    deaf.wait_for(5);
    proxy.process.signal("INT");
    assert!(proxy.process.exit().success());
    deaf.door.open();
}

/// A backend that closes a connection as soon as its client ends its side, and works on, as aiohttp, Node.js and Tornado do.
fn hasty() -> Deaf {
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let door = Door::default();
    let backend = {
        let (working, most, door) = (Arc::clone(&working), Arc::clone(&most), door.clone());
        Backend::scripted(move |connection| {
            while connection.head()?.is_some() {
                most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let mut socket = connection.wire.stream.stream.try_clone()?;
                let (working, door) = (Arc::clone(&working), door.clone());
                std::thread::spawn(move || {
                    door.pass();
                    working.fetch_sub(1, Ordering::SeqCst);
                    let _ = socket.write_all(OK.as_ref());
                });
            }
            connection.wire.stream.stream.shutdown(Shutdown::Both)
        })
    };
    Deaf { backend, working, most, door }
}

/// In front of such a backend the end of a connection says nothing about the work for it, and the configuration can say so.
#[test]
fn a_server_that_closes_at_once_and_works_on_is_told_nothing_where_the_configuration_says_so() {
    for workers in [1, 2] {
        let hasty = hasty();
        let setup = in_front_of_five(&hasty.backend.url()).set("backend.ignore_client_abort", true);
        let proxy = setup.set("workers", workers).start();
        let client = proxy.producer();
        let connection = take_back_by_resets(&client, &proxy, (30, false), |number| hasty.wait_for(number));
        for _ in 0..30 {
            let mut connection = client.connect(proxy.address).unwrap();
            connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        }
        proxy.admin.wait_for("sidegate_requests_queued", 0.0);
        assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
        drop(connection);
        hasty.assert_ends(&proxy, 5);
        proxy.admin.wait_for("sidegate_slots_used", 0.0);
    }
}

/// An upload that is cut never becomes a whole request: its place is free once an answer to it may take no longer.
#[test]
fn a_cut_upload_to_a_server_that_closes_at_once_holds_its_place_for_as_long_as_an_answer_may_take() {
    let hasty = hasty();
    let setup = in_front_of_five(&hasty.backend.url()).set("backend.ignore_client_abort", true);
    let proxy = setup.set("backend.response_timeout", "2s").start();
    let connection =
        take_back_by_resets(&proxy.producer(), &proxy, (5, true), |number| hasty.wait_for(number));
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert_eq!(hasty.working.load(Ordering::SeqCst), 5, "whatever the backend does");
    drop(connection);
    hasty.door.open();
}

/// In the middle of an answer a backend learns by the end of its connection that nobody reads it.
#[test]
fn an_answer_that_its_client_leaves_ends_the_work_for_it() {
    let backend = Backend::scripted(|connection| {
        connection.head()?;
        connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        // Never looks at its connection; what it writes fails in the end.
        loop {
            connection.wire.send("9\r\ndata: 1\n\n\r\n")?;
            std::thread::yield_now();
        }
    });
    let proxy = in_front_of_five(&backend.url()).start();
    for _ in 0..10 {
        let mut http1 = proxy.producer().connect(proxy.address).unwrap();
        http1.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        http1.read_until(b"data: 1").unwrap();
        let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
        let (_, body, _) = http2.open(request("GET", "/events", &[]), true).unwrap().head().unwrap();
        drop((http1, body, http2));
    }
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// A backend that speaks HTTP/2 and answers nothing until it is told to; then everything that it was ever asked.
fn silent_http2(answers: &Arc<Mutex<Vec<(TcpStream, u32)>>>) -> Backend {
    let answers = Arc::clone(answers);
    Backend::scripted(move |connection| {
        frames::serve(connection, |connection, stream| {
            connection.record_event("HEADERS".to_owned());
            let socket = connection.wire.stream.stream.try_clone()?;
            answers.lock().unwrap().push((socket, stream));
            Ok(())
        })
    })
}

#[test]
fn a_backend_of_http2_works_on_no_more_requests_than_it_may() {
    let answers = Arc::default();
    let backend = silent_http2(&answers);
    let noted = |what: &str| backend.start_lines().iter().filter(|noted| noted.starts_with(what)).count();
    let proxy = in_front_of_five(&backend.url().replace("http:", "h2c:")).set("workers", 1).start();
    let connection = take_back_by_resets(&proxy.producer(), &proxy, (60, false), |number| {
        eventually("the request", || noted("HEADERS"), |count| *count == usize::try_from(number).unwrap());
    });
    drop(connection);
    proxy.admin.wait_for("sidegate_requests_queued", 0.0);
    assert_eq!((noted("HEADERS"), noted("RST_STREAM")), (5, 0));
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 5.0);
    for (socket, stream) in answers.lock().unwrap().drain(..) {
        (&socket).write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, [0x88])).unwrap();
    }
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// An eighth of the places, each for as long as the answer may take: the others are not reset before their answers begin.
#[test]
fn of_many_cancelled_calls_a_part_reaches_a_backend_of_http2_at_once() {
    let answers = Arc::default();
    let backend = silent_http2(&answers);
    let noted = |what: &str| backend.start_lines().iter().filter(|noted| noted.starts_with(what)).count();
    let setup = in_front_of_five(&backend.url().replace("http:", "h2c:"));
    let proxy = setup
        .set("backend.max_in_flight", 16)
        .set("backend.reserved_for_others", 0)
        .set("workers", 1)
        .start();
    let client = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    for number in 1..=20 {
        let exchange = client.open(request("GET", "/events", &[]), true).unwrap();
        eventually("the request", || noted("HEADERS"), |count| *count >= number.min(16));
        exchange.reset();
    }
    eventually("the resets", || noted("RST_STREAM"), |resets| *resets == 2);
    proxy.admin.wait_for("sidegate_requests_queued", 0.0);
    assert_eq!(noted("HEADERS"), 16, "a place of a request that was given up stays taken");
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 14.0);
}

#[test]
fn answers_that_nobody_reads_hold_no_place_once_the_backend_has_given_them() {
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
        let mut hog = without_windows(&proxy.producer(), &proxy);
        for number in 0..150 {
            hog.send(headers(2 * number + 1, END_STREAM, &GET)).unwrap();
        }
        backend.wait_for(150);
        proxy.admin.wait_for(IN_FLIGHT, 0.0);
        assert!(hog.answers_ping());
        // What was read for it is there when it wants it.
        hog.send(frame(frames::WINDOW_UPDATE, 0, 1, 100_000_u32.to_be_bytes())).unwrap();
        let mut read = 0;
        loop {
            let next = hog.next().unwrap();
            if next.stream == 1 && next.kind == DATA {
                read += next.payload.len();
                if next.flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        assert!([2, 20_000].contains(&read), "{read}");
        drop(hog);
        proxy.admin.wait_for("sidegate_slots_used", 0.0);
    }
}

/// A client may let many answers wait and read one: that one goes on to its end.
#[test]
fn an_answer_that_is_read_goes_on_beside_many_that_wait() {
    const LENGTH: usize = 300_000;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n{}", "x".repeat(LENGTH));
    let backend = Backend::answering(answer);
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = without_windows(&proxy.producer(), &proxy);
    for number in 0..100 {
        connection.send(headers(2 * number + 1, END_STREAM, &GET)).unwrap();
    }
    backend.wait_for(100);
    let last = 199;
    for stream in [0, last] {
        connection.send(frame(frames::WINDOW_UPDATE, 0, stream, 400_000_u32.to_be_bytes())).unwrap();
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

/// The rest of an answer may come at any time after its head: it is read whether or not the client takes anything.
#[test]
fn the_rest_of_an_answer_that_nobody_reads_is_waited_for() {
    let door = Door::default();
    let waiting = door.clone();
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
    let mut hog = without_windows(&proxy.producer(), &proxy);
    for number in 0..20 {
        hog.send(headers(2 * number + 1, END_STREAM, &GET)).unwrap();
    }
    backend.wait_for(20);
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 20.0, "the backend has not ended its answers");
    door.open();
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert!(hog.answers_ping());
}

/// Of a large answer a bounded part is read ahead; the rest waits at the backend, and so does the place.
#[test]
fn a_large_answer_holds_its_place_until_its_client_has_read_it() {
    let length = 8 * 1024 * 1024;
    let backend = Backend::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}",
        "x".repeat(length)
    ));
    let proxy = Setup::new(&backend.url()).start();
    let before = proxy.process.resident_memory();
    let mut slow = without_windows(&proxy.producer(), &proxy);
    for number in 0..20 {
        slow.send(headers(2 * number + 1, END_STREAM, &GET)).unwrap();
    }
    backend.wait_for(20);
    assert!(slow.answers_ping());
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 20.0);
    let grown = proxy.process.resident_memory().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes more for {} that nobody reads", 20 * length);
    // By the reset, the work ends.
    for number in 0..20_u32 {
        slow.send(frame(RST_STREAM, 0, 2 * number + 1, 8_u32.to_be_bytes())).unwrap();
    }
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

#[track_caller]
fn assert_served(proxy: &Proxy, client: &Client) {
    let mut http1 = client.connect(proxy.address).unwrap();
    assert_eq!(http1.get("/events").unwrap().verdict(), "200");
    let http2 = Http2::connect(client, proxy.address).unwrap();
    assert_eq!(http2.get("/events").unwrap().verdict(), "200");
}

#[test]
fn three_connections_that_read_nothing_keep_nobody_else_out() {
    let backend = Backend::ok();
    for (connections, most) in [(3, 512), (1, 40)] {
        backend.clear_records();
        let proxy = Setup::new(&backend.url())
            .policy(&policy_of_two("", ""))
            .set("backend.max_in_flight", most)
            .set("backend.queue", 1000)
            .set("backend.queue_timeout", "60s")
            // So many new connections at once are much for the backend of a test.
            .set("backend.connect_timeout", "20s")
            .start();
        let mut hogs: Vec<Frames> =
            (0..connections).map(|_| without_windows(&proxy.producer(), &proxy)).collect();
        for hog in &mut hogs {
            for number in 0..250 {
                hog.send(headers(2 * number + 1, END_STREAM, &GET)).unwrap();
            }
        }
        assert_served(&proxy, &proxy.consumer());
        backend.wait_for(250 * connections + 2);
        assert_served(&proxy, &proxy.consumer());
    }
}

/// Uploads that go on a byte at a time, each in time.
fn uploads(connection: &Http2, count: usize) -> Vec<Exchange> {
    (0..count).map(|_| connection.open(request("POST", "/slow", &[]), false).unwrap()).collect()
}

/// Answers what is no upload.
fn patient() -> Backend {
    Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            if head.starts_with("GET ") {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    })
}

#[test]
fn slow_uploads_of_one_client_leave_places_for_others() {
    let backend = patient();
    let proxy = Setup::new(&backend.url())
        .policy(&policy_of_two("limits: { connections: 1 }", ""))
        .set("backend.max_in_flight", 40)
        .set("backend.queue_timeout", "60s")
        .set("workers", 2)
        .start();
    let hog = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let uploads = uploads(&hog, 100);
    proxy.admin.wait_for(IN_FLIGHT, 36.0);
    proxy.admin.wait_for("sidegate_requests_queued", 58.0);
    assert_served(&proxy, &proxy.consumer());
    assert_eq!(proxy.admin.metrics().value(IN_FLIGHT), 36.0);
    drop((uploads, hog));
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
    assert_eq!(proxy.admin.metrics().value("sidegate_requests_queued"), 0.0);
}

#[test]
fn what_is_reserved_changes_with_the_configuration() {
    let backend = patient();
    let mut proxy = Setup::new(&backend.url())
        .set("backend.max_in_flight", 40)
        .set("backend.reserved_for_others", 50)
        .set("backend.queue_timeout", "60s")
        .start();
    let hog = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let _uploads = uploads(&hog, 40);
    proxy.admin.wait_for(IN_FLIGHT, 20.0);
    for (percent, in_flight) in [(25, 30.0), (0, 40.0)] {
        proxy.setup.config["backend"]["reserved_for_others"] = percent.into();
        proxy.setup.write();
        proxy.admin.reload();
        proxy.admin.wait_for(IN_FLIGHT, in_flight);
    }
}

#[test]
fn a_client_has_no_more_requests_in_flight_than_its_policy_says() {
    let backend = patient();
    let proxy = Setup::new(&backend.url())
        .policy(&policy_of_two("limits: { in_flight: 3 }", ""))
        .set("workers", 2)
        .start();
    let client = proxy.producer();
    let first = Http2::connect(&client, proxy.address).unwrap();
    let mut open = uploads(&first, 2);
    let mut second = client.connect(proxy.address).unwrap();
    second.send("POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    proxy.admin.wait_for(IN_FLIGHT, 3.0);
    // Of a renewed certificate, and over both protocols.
    let renewed = proxy.client(&proxy.pki().issue(&producer()));
    let mut third = renewed.connect(proxy.address).unwrap();
    let answer = third.get("/events").unwrap();
    assert_eq!(answer.verdict(), "504 overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("proxy-status"), Some("sidegate; error=http_request_denied"));
    assert!(
        answer.json()["detail"].as_str().unwrap().starts_with("this client has as many requests"),
        "{answer:?}"
    );
    assert_ne!(answer.header("connection"), Some("close"));
    assert_eq!(first.get("/events").unwrap().verdict(), "504 overloaded");
    assert_served(&proxy, &proxy.consumer());
    open.pop().unwrap().reset();
    proxy.admin.wait_for(IN_FLIGHT, 2.0);
    assert_eq!(third.get("/events").unwrap().verdict(), "200", "its connection is as good as before");
    drop((open, first, second));
    proxy.admin.wait_for(IN_FLIGHT, 0.0);
}

/// In front of clients of one name and two authorities, with two entries that are told apart by these.
fn with_two_authorities(backend: &Backend, limit: &str) -> (Proxy, Client, Client) {
    let setup = Setup::new(&backend.url());
    let other = Authority::root("Others of the test").unwrap();
    let of_both = [setup.pki.ca.certificate(), other.certificate()].map(|ca| pem("CERTIFICATE", ca));
    std::fs::write(setup.path("client-ca.crt"), of_both.concat()).unwrap();
    let entry = |name: &str, issuer: &str| {
        let only = format!("match: {{ common_name: app, issuer: {issuer} }}");
        format!("  - {{ name: {name}, {only}, permissions: [all], limits: {{ {limit} }} }}\n")
    };
    let entries = [entry("one", CA_NAME), entry("two", "Others of the test")].concat();
    let policy = format!("version: 1\npermissions: {{ all: [\"* /**\"] }}\nclients:\n{entries}");
    let proxy = setup.policy(&policy).set("workers", 2).start();
    let leaf = || Leaf::client("Shop", "app");
    let (one, two) = (proxy.pki().issue(&leaf()), other.issue(&leaf()).unwrap());
    let clients = (proxy.client(&one), proxy.client(&two));
    (proxy, clients.0, clients.1)
}

#[test]
fn clients_of_one_name_and_two_authorities_have_budgets_of_their_own() {
    let backend = patient();
    let (proxy, one, two) = with_two_authorities(&backend, "connections: 1");
    let mut held = [&one, &two].map(|client| client.connect(proxy.address).unwrap());
    for connection in &mut held {
        assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    }
    for client in [&one, &two] {
        let mut another = client.connect(proxy.address).unwrap();
        assert_eq!(another.get("/events").unwrap().verdict(), "504 server_full");
    }

    let (proxy, one, two) = with_two_authorities(&backend, "in_flight: 1");
    let held = Http2::connect(&one, proxy.address).unwrap();
    let _upload = uploads(&held, 1);
    proxy.admin.wait_for(IN_FLIGHT, 1.0);
    assert_eq!(held.get("/events").unwrap().verdict(), "504 overloaded");
    assert_served(&proxy, &two);

    let (proxy, one, two) = with_two_authorities(&backend, "requests_per_second: 1, burst: 2");
    let mut connection = one.connect(proxy.address).unwrap();
    let ask = || connection.get("/events").unwrap().verdict();
    eventually("the end of its rate", ask, |verdict| verdict == "504 overloaded");
    assert_served(&proxy, &two);
}

/// Steps of clients, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// HTTP/1.1, HTTP/2, or HTTP/2 without a window for any answer.
    Open(usize),
    /// A request that the backend answers at once.
    Quick(usize),
    /// A request, or half an upload, on which the backend works until it is let go on.
    Long {
        number: usize,
        upload: bool,
    },
    GiveUp(usize),
    Close(usize),
    /// The backend ends the work for one request.
    Done,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let connection = 0..6_usize;
    let long = (connection.clone(), any::<bool>()).prop_map(|(number, upload)| Step::Long { number, upload });
    let step = prop_oneof![
        3 => (0..3_usize).prop_map(Step::Open),
        2 => connection.clone().prop_map(Step::Quick),
        6 => long,
        2 => connection.clone().prop_map(Step::GiveUp),
        1 => connection.prop_map(Step::Close),
        2 => Just(Step::Done),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The open connections, in front of a backend that does not notice who leaves.
struct World<'a> {
    proxy: &'a Proxy,
    deaf: &'a Deaf,
    client: Client,
    connections: Vec<Open>,
}

enum Open {
    Http1 { wire: Box<Tls>, is_asking: bool },
    Http2 { connection: Http2, asked: Vec<Exchange> },
    Windowless { frames: Box<Frames>, streams: u32 },
}

const SLOTS: usize = 3;
const PLACES: usize = 4;

impl World<'_> {
    fn run(mut self, steps: &[Step]) {
        for step in steps {
            self.take(*step);
            let metrics = self.proxy.admin.metrics();
            assert!(metrics.value(IN_FLIGHT) <= PLACES as f64, "{step:?}");
            assert!(metrics.value("sidegate_slots_used") <= SLOTS as f64, "{step:?}");
            assert!(self.deaf.most.load(Ordering::SeqCst) <= PLACES, "{step:?}");
        }
        self.connections.clear();
        self.deaf.door.open();
        for gauge in [IN_FLIGHT, "sidegate_requests_queued", "sidegate_slots_used"] {
            self.proxy.admin.wait_for(gauge, 0.0);
        }
        self.deaf.wait_for(0);
        self.deaf.door.shut();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open(kind) => self.connections.push(Open::of(kind, &self.client, self.proxy)),
            Step::Quick(number) => self.with(number, Open::quick),
            Step::Long { number, upload } => self.with(number, |open| open.long(upload)),
            Step::GiveUp(number) => self.with(number, Open::give_up),
            Step::Close(number) => self.with(number, |_| None),
            Step::Done => self.deaf.door.lets_pass(1),
        }
    }

    /// Does something with a connection, and keeps it where it goes on.
    fn with(&mut self, number: usize, does: impl FnOnce(Open) -> Option<Open>) {
        if !self.connections.is_empty() {
            let open = self.connections.swap_remove(number % self.connections.len());
            self.connections.extend(does(open));
        }
    }
}

impl Open {
    fn of(kind: usize, client: &Client, proxy: &Proxy) -> Self {
        match kind {
            0 => Self::Http1 { wire: Box::new(client.connect(proxy.address).unwrap()), is_asking: false },
            1 => {
                let connection = Http2::connect(client, proxy.address).unwrap();
                Self::Http2 { connection, asked: Vec::new() }
            }
            _ => Self::Windowless { frames: Box::new(without_windows(client, proxy)), streams: 0 },
        }
    }

    fn quick(mut self) -> Option<Self> {
        let verdict = match &mut self {
            Self::Http1 { is_asking: true, .. } => return Some(self),
            Self::Http1 { wire, .. } => wire.get("/quick").unwrap().verdict(),
            // Whoever is refused a slot is sent away, and reads of it what its library lets it.
            Self::Http2 { connection, .. } => connection
                .get("/quick")
                .map_or_else(|_| "504 server_full".to_owned(), |answer| answer.verdict()),
            Self::Windowless { .. } => return self.ask("GET", "/quick", true),
        };
        assert!(["200", "504 overloaded", "504 server_full"].contains(&verdict.as_str()), "{verdict}");
        (verdict != "504 server_full").then_some(self)
    }

    fn long(mut self, upload: bool) -> Option<Self> {
        let method = if upload { "POST" } else { "GET" };
        match &mut self {
            Self::Http1 { is_asking: true, .. } => return Some(self),
            Self::Http1 { wire, is_asking } => {
                let body = if upload { "Content-Length: 10\r\n\r\nhalf" } else { "\r\n" };
                *is_asking = true;
                wire.send(format!("{method} /long HTTP/1.1\r\nHost: localhost\r\n{body}")).ok()?;
            }
            Self::Http2 { connection, asked } => {
                asked.push(connection.open(request(method, "/long", &[]), !upload).ok()?);
            }
            Self::Windowless { .. } => return self.ask(method, "/long", !upload),
        }
        Some(self)
    }

    /// Without a look at what comes of it.
    fn ask(mut self, method: &str, path: &str, is_whole: bool) -> Option<Self> {
        if let Self::Windowless { frames, streams } = &mut self {
            let fields = [(":method", method), GET[1], GET[2], (":path", path)];
            let flags = if is_whole { END_STREAM } else { 0 };
            frames.send(headers(2 * *streams + 1, flags, &fields)).ok()?;
            *streams += 1;
        }
        Some(self)
    }

    fn give_up(mut self) -> Option<Self> {
        match &mut self {
            Self::Http1 { is_asking: true, .. } => return None,
            Self::Http1 { .. } => {}
            Self::Http2 { asked, .. } => asked.drain(..).for_each(Exchange::reset),
            Self::Windowless { frames, streams } => {
                for number in 0..*streams {
                    frames.send(frame(RST_STREAM, 0, 2 * number + 1, 8_u32.to_be_bytes())).ok()?;
                }
            }
        }
        Some(self)
    }
}

#[test]
fn any_interleaving_keeps_the_backend_s_work_within_its_limit_and_gives_all_places_back() {
    let deaf = Deaf::start();
    let setup = Setup::new(&deaf.backend.url())
        .set("limits.max_connections", SLOTS)
        .set("backend.max_in_flight", PLACES)
        .set("backend.queue", 3)
        .set("backend.queue_timeout", "50ms");
    let proxy = setup.set("workers", 2).start();
    interleave(60, &steps(), |steps| {
        let world = World { proxy: &proxy, deaf: &deaf, client: proxy.producer(), connections: Vec::new() };
        world.run(&steps);
    });
    deaf.assert_ends(&proxy, deaf.most.load(Ordering::SeqCst));
}
