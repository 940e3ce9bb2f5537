//! A crowd on the admin port, which needs no token to connect: probes are answered at once, or an orchestrator would restart a process
//! that is well (DESIGN §8). All come from one address, as on loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::http1::Wire;
use crate::support::{Backend, DEADLINE, Proxy};

/// The kubelet's default is one second. A debug build on a busy machine needs more for a thousand connections.
const AT_ONCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 1 });

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// Connections that have said this, which may be nothing.
fn crowd(address: SocketAddr, count: usize, said: &str) -> Vec<TcpStream> {
    let one = |_| {
        let mut socket = connect(address);
        // The socket may have lost its place already.
        let _ = socket.write_all(said.as_bytes());
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
        let is_late = matches!(path, "/livez" | "/readyz") && start.elapsed() >= AT_ONCE;
        assert!(!is_late, "{what}, {path}: {:?}", start.elapsed());
    }
}

#[test]
fn silent_connections_and_half_questions_keep_no_probe_out() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let address = proxy.admin.address;
    let slow = "POST /api/explain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{";
    for count in [64, 200, 1_000] {
        for (said, what) in [
            ("", "silent"),
            ("GET /livez HTTP/1.1\r\nHo", "half a head"),
            (slow, "half a body"),
            ("GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "idle"),
            ("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "listening"),
        ] {
            let crowd = crowd(address, count, said);
            assert_answers(&proxy, &format!("{count} {what}"));
            drop(crowd);
        }
    }
    assert_eq!(proxy.admin.get("/status").status, 200, "nothing is left of them");
}

/// Each asks for much more than its socket takes.
#[test]
fn readers_that_read_nothing_keep_no_probe_out_and_are_cut_off() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for path in ["/metrics", "/status", "/api/policy"] {
        let question = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let crowd = crowd(proxy.admin.address, 100, &question.repeat(400));
        assert_answers(&proxy, path);
        let status = proxy.admin.get("/status");
        assert!(matches!(status.status, 200 | 503), "{status:?}");
        drop(crowd);
    }
    let mut reader = connect(proxy.admin.address);
    let _ = reader.write_all("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(2_000).as_bytes());
    // Nothing is read for longer than an answer may take; then the end comes before what was asked for.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(23) {
        assert_answers(&proxy, "while one reads nothing");
        thread::park_timeout(Duration::from_millis(500));
    }
    let mut read = Vec::new();
    let ended = reader.read_to_end(&mut read);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn connections_that_come_again_and_again_keep_no_probe_out() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (address, is_over) = (proxy.admin.address, AtomicBool::new(false));
    thread::scope(|scope| {
        // A failed assertion must end the crowd too, or the scope would wait for it for ever.
        let _end = Ends(&is_over);
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
            assert_answers(&proxy, "while others come again and again");
        }
    });
}

/// A whole question has its time, however often another byte comes; so has its body.
#[test]
fn a_question_that_comes_byte_by_byte_is_cut_off() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let body = "POST /api/explain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n";
    let after_an_answer = "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /";
    let mut slow: Vec<_> = ["GET /livez", body, after_an_answer]
        .iter()
        .map(|said| crowd(proxy.admin.address, 1, said).remove(0))
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

/// A scraper keeps its connection between scrapes.
#[test]
fn a_connection_lasts_from_one_scrape_to_the_next() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    assert_eq!(wire.get("/metrics").unwrap().status, 200);
    thread::park_timeout(Duration::from_secs(11));
    assert_eq!(wire.get("/metrics").unwrap().status, 200);
}
