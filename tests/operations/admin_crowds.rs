//! The admin port needs no token to connect. Probes are answered at once although many connections are open, or an
//! orchestrator would restart a healthy process (DESIGN §8). All connections come from one address, as on loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::http1::Wire;
use crate::support::{Backend, DEADLINE, Proxy};

/// Time limit of a probe. The default of the kubelet is one second; a debug build on a busy machine needs more.
const PROBE_TIMEOUT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 1 });

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// Opens connections, and sends these bytes on each.
fn connect_many(address: SocketAddr, count: usize, bytes: &str) -> Vec<TcpStream> {
    let one = |_| {
        let mut socket = connect(address);
        // The proxy may have closed the connection already.
        let _ = socket.write_all(bytes.as_bytes());
        socket
    };
    (0..count).map(one).collect()
}

#[track_caller]
fn assert_answers(proxy: &Proxy, what: &str) {
    for path in ["/livez", "/readyz", "/metrics", "/", "/livez", "/readyz"] {
        let start = Instant::now();
        let answer = proxy.admin.get(path);
        assert_eq!(answer.status, 200, "{what}, {path}: {answer:?}");
        let is_late = matches!(path, "/livez" | "/readyz") && start.elapsed() >= PROBE_TIMEOUT;
        assert!(!is_late, "{what}, {path}: {:?}", start.elapsed());
    }
}

#[test]
fn probes_are_answered_beside_silent_connections_and_incomplete_requests() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let address = proxy.admin.address;
    let slow = "POST /api/explain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{";
    for count in [64, 200, 1_000] {
        for (bytes, what) in [
            ("", "silent"),
            ("GET /livez HTTP/1.1\r\nHo", "half a head"),
            (slow, "half a body"),
            ("GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "idle"),
            ("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "listening"),
        ] {
            let connections = connect_many(address, count, bytes);
            assert_answers(&proxy, &format!("{count} {what}"));
            drop(connections);
        }
    }
    assert_eq!(proxy.admin.get("/status").status, 200, "the connections are gone");
}

/// Each client asks for more than its socket can hold.
#[test]
fn probes_are_answered_beside_clients_that_read_nothing_and_are_cut_off() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for path in ["/metrics", "/status", "/api/policy"] {
        let question = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let connections = connect_many(proxy.admin.address, 100, &question.repeat(400));
        assert_answers(&proxy, path);
        let status = proxy.admin.get("/status");
        assert!(matches!(status.status, 200 | 503), "{status:?}");
        drop(connections);
    }
    let mut reader = connect(proxy.admin.address);
    let _ = reader.write_all("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(2_000).as_bytes());
    // The client reads nothing for longer than an answer may take, so the connection ends before all answers.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(23) {
        assert_answers(&proxy, "beside a client that reads nothing");
        thread::park_timeout(Duration::from_millis(500));
    }
    let mut read = Vec::new();
    let ended = reader.read_to_end(&mut read);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

/// Sets a flag when it is dropped.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn probes_are_answered_beside_clients_that_connect_again_and_again() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (address, is_over) = (proxy.admin.address, AtomicBool::new(false));
    thread::scope(|scope| {
        // A failed assertion must end the threads too, or the scope would wait for them for ever.
        let _end = SetOnDrop(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    held.extend(TcpStream::connect_timeout(&address, DEADLINE));
                    if held.len() > 500 {
                        held.clear();
                    }
                }
            });
        }
        for _ in 0..5 {
            assert_answers(&proxy, "beside clients that connect again and again");
        }
    });
}

/// A request and its body have deadlines, even if bytes keep coming.
#[test]
fn a_request_that_comes_byte_by_byte_is_cut_off() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let body = "POST /api/explain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n";
    let after_an_answer = "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /";
    let mut slow: Vec<_> = ["GET /livez", body, after_an_answer]
        .iter()
        .map(|bytes| connect_many(proxy.admin.address, 1, bytes).remove(0))
        .collect();
    let start = Instant::now();
    let mut open = vec![true; slow.len()];
    while open.contains(&true) && start.elapsed() < DEADLINE {
        for (socket, open) in slow.iter_mut().zip(&mut open).filter(|(_, open)| **open) {
            *open = socket.write_all(b"x").is_ok();
        }
        thread::park_timeout(Duration::from_millis(200));
    }
    assert!(!open.contains(&true), "{open:?}");
}

/// Prometheus keeps its connection between scrapes.
#[test]
fn a_connection_lasts_from_one_scrape_to_the_next() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    assert_eq!(wire.get("/metrics").unwrap().status, 200);
    thread::park_timeout(Duration::from_secs(11));
    assert_eq!(wire.get("/metrics").unwrap().status, 200);
}
