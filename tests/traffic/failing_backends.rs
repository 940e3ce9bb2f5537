//! A backend that fails is noticed soon, is not asked for a while, and is used again as soon as it works. Only a permitted
//! client learns about this (DESIGN §3).

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

/// Time within which a backend that works again must be asked, while requests come (`backend.breaker.max_pause` and some more).
const SOON: Duration = Duration::from_secs(1);

fn answer_ok(connection: &mut BackendConnection) -> io::Result<()> {
    while connection.request()?.is_some() {
        connection.wire.send(OK)?;
    }
    Ok(())
}

fn state(proxy: &Proxy) -> String {
    let state = proxy.admin.status()["backend"].as_str().unwrap().to_owned();
    assert_eq!(proxy.admin.metrics().labelled("sidegate_backend_state", &[("state", &state)]), 1.0);
    assert_eq!(proxy.admin.metrics().value("sidegate_backend_state"), 1.0, "exactly one state at a time");
    state
}

/// Asks until the circuit is open, and returns the verdicts before that with the first answer of the open circuit.
fn ask_until_open(connection: &mut Tls) -> (Vec<String>, Answer) {
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

/// Posts until the backend answers, and returns the time from `since` until that request was sent.
fn post_until_served(connection: &mut Tls, since: Instant) -> Duration {
    let post = || (since.elapsed(), connection.post("/events", "x").unwrap().status);
    eventually("an answer of the backend", post, |(_, status)| *status == 200).0
}

/// Case 80: a backend that refuses connections.
#[test]
fn a_backend_that_refuses_is_not_asked_for_a_while_and_then_used_again() {
    let refusing = RefusingPort::new();
    let mut proxy = Setup::new(&refusing.url()).set("workers", 2).start();
    assert_eq!(state(&proxy), "untried");
    let mut connection = proxy.connect();
    assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable");
    assert_eq!(state(&proxy), "failing");
    let (before, answer) = ask_until_open(&mut connection);
    assert_eq!(before, ["504 backend_unavailable"; 4]);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("proxy-status"), Some("sidegate; error=destination_unavailable"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("several times in a row"), "{answer:?}");
    assert_eq!((state(&proxy).as_str(), proxy.admin.metrics().value(OPENINGS)), ("down", 1.0));
    proxy.process.log_where("the open circuit", |line| line.to_string().contains("are answered 504"));
    assert_eq!(proxy.admin.get("/readyz").text(), "ok\nbackend: down\n");

    // Clients without the permission get their usual answers.
    assert_eq!(proxy.anonymous().connect(proxy.address).unwrap().get("/").unwrap().status, 401);
    assert_eq!(proxy.consumer().connect(proxy.address).unwrap().get("/").unwrap().status, 403);
    // One request after each pause tries the backend, and the other requests do not wait.
    let tried =
        || proxy.admin.metrics().labelled("sidegate_backend_requests_total", &[("result", "unreachable")]);
    let mut other = proxy.connect();
    eventually("three tries", || (other.get("/x").unwrap(), tried()).1, |tried| *tried >= 8.0);

    let backend = Backend::scripted_on(refusing.listen(), answer_ok);
    let found = post_until_served(&mut connection, Instant::now());
    assert!(found < SOON, "{found:?}");
    assert_eq!(state(&proxy), "up");
    proxy.process.log_where("the recovery", |line| line["message"] == "the backend can be reached again");
    assert_eq!(backend.received().len(), 1, "nothing is sent twice");
    assert!((0..20).all(|_| other.get("/y").unwrap().status == 200));
    assert_eq!(proxy.admin.metrics().value(OPENINGS), 1.0);
}

/// A port whose backlog is full, so that connecting neither succeeds nor fails.
struct BlackHole {
    listener: TcpListener,
    backlog: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let backlog: Vec<TcpStream> = (0..16).map_while(connect).collect();
        assert!(backlog.len() < 16, "the backlog has no end");
        Self { listener, backlog }
    }
}

/// Case 80: a backend that drops connection attempts.
#[test]
fn a_backend_that_accepts_no_connection_makes_few_clients_wait() {
    let hole = BlackHole::new();
    let url = format!("http://{}", hole.listener.local_addr().unwrap());
    let proxy = Setup::new(&url)
        .set("backend.connect_timeout", "300ms")
        .set("backend.breaker.failures", 2)
        .set("backend.breaker.pause", "800ms")
        .start();
    let mut connection = proxy.connect();
    let (before, _) = ask_until_open(&mut connection);
    assert_eq!(before, ["504 backend_timeout"; 2]);
    let start = Instant::now();
    let answers: Vec<String> = (0..20).map(|_| connection.get("/events").unwrap().verdict()).collect();
    let waited = answers.iter().filter(|verdict| *verdict == "504 backend_timeout").count();
    let tries = usize::try_from(start.elapsed().as_millis() / 400).unwrap() + 1;
    assert!(waited <= tries, "{waited} requests waited in {:?}", start.elapsed());

    let BlackHole { listener, backlog } = hole;
    drop(backlog);
    let backend = Backend::scripted_on(listener, answer_ok);
    let found = post_until_served(&mut connection, Instant::now());
    // A request may have begun to try just before the backend came back.
    assert!(found < SOON + Duration::from_millis(300), "{found:?}");
    assert_eq!(backend.received().len(), 1, "nothing is sent twice");
}

#[test]
fn the_circuit_never_opens_without_a_limit_or_for_a_backend_that_can_be_reached() {
    let refusing = RefusingPort::new();
    let proxy = Setup::new(&refusing.url()).set("backend.breaker.failures", 0).start();
    let mut connection = proxy.connect();
    let all = (0..20).all(|_| connection.get("/events").unwrap().verdict() == "504 backend_unavailable");
    assert!(all, "without a limit the circuit never opens");

    // This backend can be reached but answers nothing, which does not open the circuit.
    let backend = Backend::scripted(|connection| connection.request().map(|_| ()));
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    for _ in 0..20 {
        assert_eq!(connection.post("/events", "x").unwrap().verdict(), "504 backend_unavailable");
    }
    assert_eq!((state(&proxy).as_str(), backend.received().len()), ("up", 20));
}

/// A backend that is healthy when the test says so.
fn backend_with_health() -> (Backend, Arc<AtomicBool>) {
    let healthy = Arc::new(AtomicBool::new(false));
    let is_healthy = Arc::clone(&healthy);
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            let is_check = request.start_line() == "GET /healthz?full HTTP/1.1";
            match is_check && !is_healthy.load(Ordering::SeqCst) {
                true => {
                    connection.wire.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?
                }
                false => connection.wire.send(OK)?,
            }
        }
        Ok(())
    });
    (backend, healthy)
}

#[test]
fn a_health_check_is_shown_and_counts_for_readiness_if_configured() {
    let (backend, healthy) = backend_with_health();
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
    // Requests are forwarded, because the backend can answer them itself.
    let mut connection = both.producer().connect(both.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().status, 200);
    healthy.store(true, Ordering::SeqCst);
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

/// With a health check, the proxy finds a backend that works again without a request that is refused first.
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
    let mut connection = proxy.connect();
    assert_eq!(connection.get("/events").unwrap().verdict(), "504 overloaded");
    let _backend = Backend::scripted_on(refusing.listen(), answer_ok);
    eventually("the state", || state_now(&proxy), |state| state == "up");
    assert_eq!(connection.get("/events").unwrap().status, 200);
    assert_eq!(proxy.admin.get("/readyz").status, 200);
}

/// Returns the state without comparing it with the metrics, which may be read a moment later.
fn state_now(proxy: &Proxy) -> String {
    proxy.admin.status()["backend"].as_str().unwrap().to_owned()
}
