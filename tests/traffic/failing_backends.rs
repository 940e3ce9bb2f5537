//! A backend that fails is found out soon, left alone, and found again as soon as it is back; only who may ask it learns of
//! any of that (DESIGN §3).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::backend::{BackendConnection, OK, RefusingPort};
use crate::support::backend_listeners::Http2Backend;
use crate::support::tls::Tls;
use crate::support::{Answer, Backend, Proxy, Setup, eventually};

const OPENINGS: &str = "sidegate_backend_breaker_openings_total";

/// How soon a backend that is back must be asked, while requests come (`backend.breaker.max_pause`, and some room).
const SOON: Duration = Duration::from_secs(1);

fn usual(connection: &mut BackendConnection) -> io::Result<()> {
    while connection.request()?.is_some() {
        connection.wire.send(OK)?;
    }
    Ok(())
}

fn state(proxy: &Proxy) -> String {
    let state = proxy.admin.status()["backend"].as_str().unwrap().to_owned();
    assert_eq!(proxy.admin.metrics().labelled("sidegate_backend_state", &[("state", &state)]), 1.0);
    assert_eq!(proxy.admin.metrics().value("sidegate_backend_state"), 1.0, "one state at a time");
    state
}

/// Asks until the circuit is open; the verdicts up to then.
fn until_open(connection: &mut Tls) -> (Vec<String>, Answer) {
    let mut before = Vec::new();
    loop {
        let answer = connection.get("/events").unwrap();
        if answer.verdict() == "504 overloaded" {
            return (before, answer);
        }
        before.push(answer.verdict());
        assert!(before.len() < 100, "{before:?}");
    }
}

/// Posts until one is answered by the backend; how long after `since` that one was sent.
fn until_served(connection: &mut Tls, since: Instant) -> Duration {
    let post = || (since.elapsed(), connection.post("/events", "x").unwrap().status);
    eventually("an answer of the backend", post, |(_, status)| *status == 200).0
}

/// Case 80: refused.
#[test]
fn a_backend_that_refuses_is_left_alone_and_found_again() {
    let refusing = RefusingPort::new();
    let mut proxy = Setup::new(&refusing.url()).set("workers", 2).start();
    assert_eq!(state(&proxy), "untried");
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable");
    assert_eq!(state(&proxy), "failing");
    let (before, answer) = until_open(&mut connection);
    assert_eq!(before, ["504 backend_unavailable"; 4]);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("proxy-status"), Some("sidegate; error=destination_unavailable"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("several times in a row"), "{answer:?}");
    assert_eq!((state(&proxy).as_str(), proxy.admin.metrics().value(OPENINGS)), ("down", 1.0));
    proxy.process.log_where("that requests are kept back", |line| line.to_string().contains("are kept back"));
    assert_eq!(proxy.admin.get("/readyz").text(), "ok\nbackend: down\n");

    // Others are told what they are always told; an upload is refused like anything else.
    assert_eq!(proxy.anonymous().connect(proxy.address).unwrap().get("/").unwrap().status, 401);
    assert_eq!(proxy.consumer().connect(proxy.address).unwrap().get("/").unwrap().status, 403);
    // One request after each pause tries, and the others do not wait.
    let tried =
        || proxy.admin.metrics().labelled("sidegate_backend_requests_total", &[("result", "unreachable")]);
    let mut other = proxy.producer().connect(proxy.address).unwrap();
    eventually("three tries", || (other.get("/x").unwrap(), tried()).1, |tried| *tried >= 8.0);

    let backend = Backend::scripted_on(refusing.listen(), usual);
    let found = until_served(&mut connection, Instant::now());
    assert!(found < SOON, "{found:?}");
    assert_eq!(state(&proxy), "up");
    proxy.process.log_where("that it is back", |line| line["message"] == "the backend can be reached again");
    assert_eq!(backend.received().len(), 1, "nothing is sent twice");
    assert!((0..20).all(|_| other.get("/y").unwrap().status == 200));
    assert_eq!(proxy.admin.metrics().value(OPENINGS), 1.0);
}

/// A port that takes no connections, and does not say so: its backlog is full.
struct BlackHole {
    listener: TcpListener,
    full_of: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let full_of: Vec<TcpStream> = (0..16).map_while(connect).collect();
        assert!(full_of.len() < 16, "the backlog has no end");
        Self { listener, full_of }
    }
}

/// Case 80: black-holed.
#[test]
fn a_backend_that_takes_no_connections_costs_few_clients_their_time() {
    let hole = BlackHole::new();
    let url = format!("http://{}", hole.listener.local_addr().unwrap());
    let proxy = Setup::new(&url)
        .set("backend.connect_timeout", "300ms")
        .set("backend.breaker.failures", 2)
        .set("backend.breaker.pause", "800ms")
        .start();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    let (before, _) = until_open(&mut connection);
    assert_eq!(before, ["504 backend_timeout"; 2]);
    let start = Instant::now();
    let answers: Vec<String> = (0..20).map(|_| connection.get("/events").unwrap().verdict()).collect();
    let waited = answers.iter().filter(|verdict| *verdict == "504 backend_timeout").count();
    let tries = usize::try_from(start.elapsed().as_millis() / 400).unwrap() + 1;
    assert!(waited <= tries, "{waited} of them waited in {:?}", start.elapsed());

    let BlackHole { listener, full_of } = hole;
    drop(full_of);
    let backend = Backend::scripted_on(listener, usual);
    let found = until_served(&mut connection, Instant::now());
    // Somebody may just have been trying when it came back.
    assert!(found < SOON + Duration::from_millis(300), "{found:?}");
    assert_eq!(backend.received().len(), 1, "nothing is sent twice");
}

#[test]
fn failures_that_are_not_in_a_row_keep_nobody_back() {
    let refusing = RefusingPort::new();
    let proxy = Setup::new(&refusing.url()).set("backend.breaker.failures", 0).start();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    let all = (0..20).all(|_| connection.get("/events").unwrap().verdict() == "504 backend_unavailable");
    assert!(all, "without a number it never opens");

    // It can be reached, and answers nothing: that is no reason to keep the others back.
    let backend = Backend::scripted(|connection| connection.request().map(|_| ()));
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    for _ in 0..20 {
        assert_eq!(connection.post("/events", "x").unwrap().verdict(), "504 backend_unavailable");
    }
    assert_eq!((state(&proxy).as_str(), backend.received().len()), ("up", 20));
}

/// A backend whose health the test decides.
fn patient() -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&well);
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            let asked = request.start_line() == "GET /healthz?full HTTP/1.1";
            match asked && !says.load(Ordering::SeqCst) {
                true => {
                    connection.wire.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?
                }
                false => connection.wire.send(OK)?,
            }
        }
        Ok(())
    });
    (backend, well)
}

#[test]
fn a_health_check_is_shown_and_counts_for_readiness_where_it_is_told_to() {
    let (backend, well) = patient();
    let setup = |needs: bool| {
        Setup::new(&backend.url())
            .set("backend.health.path", "/healthz?full")
            .set("backend.health.interval", "50ms")
            .set("admin.readiness_needs_backend", needs)
            .start()
    };
    let (alone, both) = (setup(false), setup(true));
    let ready = |proxy: &Proxy| {
        let answer = proxy.admin.get("/readyz");
        (answer.status, answer.text())
    };
    let wait_for = |proxy: &Proxy, status: u16, text: &str| {
        eventually("readiness", || ready(proxy), |now| *now == (status, text.to_owned()));
    };
    wait_for(&alone, 200, "ok\nbackend: unwell\n");
    wait_for(&both, 503, "the backend does not serve\nbackend: unwell\n");
    assert_eq!(both.admin.metrics().value("sidegate_ready"), 0.0);
    // Whoever is asked can speak for itself.
    let mut connection = both.producer().connect(both.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().status, 200);
    well.store(true, Ordering::SeqCst);
    wait_for(&alone, 200, "ok\nbackend: up\n");
    wait_for(&both, 200, "ok\nbackend: up\n");
    let asked = backend.received().into_iter().find(|request| request.head.contains("/healthz")).unwrap();
    assert_eq!(asked.header("host"), [backend.address.to_string()]);
}

#[test]
fn a_health_check_is_in_the_http_that_the_backend_speaks() {
    let head = http::Response::builder().status(204).body(()).unwrap();
    let backend = Http2Backend::answering(head, "", None);
    let proxy = Setup::new(&backend.url())
        .set("backend.health.path", "/healthz")
        .set("backend.health.interval", "5s")
        .start();
    eventually("the state", || state_now(&proxy), |state| state == "up");
    let seen = backend.received();
    assert_eq!(seen[0].head.uri().to_string(), format!("http://{}/healthz", backend.address));
}

/// Nobody has to be refused before a backend that is back is found.
#[test]
fn a_health_check_closes_the_circuit() {
    let refusing = RefusingPort::new();
    let proxy = Setup::new(&refusing.url())
        .set("backend.health.path", "/healthz")
        .set("backend.health.interval", "50ms")
        .set("backend.breaker.pause", "1h")
        .set("backend.breaker.max_pause", "1h")
        .set("admin.readiness_needs_backend", true)
        .start();
    eventually("the state", || state_now(&proxy), |state| state == "down");
    assert_eq!(proxy.admin.get("/readyz").status, 503);
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "504 overloaded");
    let _backend = Backend::scripted_on(refusing.listen(), usual);
    eventually("the state", || state_now(&proxy), |state| state == "up");
    assert_eq!(connection.get("/events").unwrap().status, 200);
    assert_eq!(proxy.admin.get("/readyz").status, 200);
}

/// Where it may just be changing.
fn state_now(proxy: &Proxy) -> String {
    proxy.admin.status()["backend"].as_str().unwrap().to_owned()
}
