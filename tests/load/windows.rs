//! HTTP/2 clients whose windows are 0, so that no answer can be sent to them: strangers, denied clients and permitted clients
//! at once. Each reconnects when the server ends its connection. Other clients are served as before. Waiting answers use
//! little memory, are canceled after `write_timeout`, and do not delay a shutdown.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client;
use crate::flood::send_authenticated;
use crate::frames::{check_idle, check_outcomes};
use crate::memory::bound;
use crate::report::Report;
use crate::support::frames::{END_STREAM, Frames, GET_EVENTS, headers, preface, setting};
use crate::support::{Client, Proxy, Setup};

const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of connections of each kind of client at a time.
const CONNECTIONS: usize = 5;
/// Number of requests on each connection. All requests of permitted clients together stay below `max_in_flight`.
const STREAMS: u32 = 50;
/// Initial windows of the streams, in bytes.
const WINDOWS: [u32; 2] = [0, 1];

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let mut proxy = Setup::new(&backend.url())
        .set("limits.http.write_timeout", "2s")
        .set("limits.max_connections", 200)
        .set("backend.max_in_flight", 1000)
        .set("log.audit", "none")
        .set("drain_timeout", "25s")
        .start();
    let (over, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut outcomes, used) = thread::scope(|scope| {
        start_clients(scope, &proxy, &over, &ended);
        let length = length.max(3 * WRITE_TIMEOUT);
        let outcomes = client::run(send_authenticated(&proxy.producer(), proxy.address, length, || ()));
        let used = proxy.process.resident_memory();
        over.store(true, Ordering::SeqCst);
        (outcomes, used)
    });
    check_outcomes(report, "windows of 0 bytes", &mut outcomes, ended.load(Ordering::SeqCst));
    report.check_memory("memory", used, bound(&proxy.setup.config));
    check_idle(report, &proxy);
    check_stop(report, &mut proxy);
}

/// Starts several clients of each kind, with each window.
fn start_clients<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    proxy: &Proxy,
    over: &'scope AtomicBool,
    ended: &'scope AtomicUsize,
) {
    for client in [proxy.anonymous(), proxy.consumer(), proxy.producer()] {
        for number in 0..CONNECTIONS {
            let (client, address, window) = (client.clone(), proxy.address, WINDOWS[number % WINDOWS.len()]);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    if let Ok(mut frames) = send_requests(&client, address, window) {
                        while !over.load(Ordering::SeqCst) && is_open(&mut frames) {}
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    }
}

/// Sends requests on a new connection whose streams have this window.
fn send_requests(client: &Client, to: std::net::SocketAddr, window: u32) -> std::io::Result<Frames> {
    let mut frames = Frames::connect_without_preface(client, to)?;
    frames.wire.stream.sock.set_read_timeout(Some(Duration::from_millis(200)))?;
    frames.send(preface(&setting(4, window)))?;
    for number in 0..STREAMS {
        frames.send(headers(number * 2 + 1, END_STREAM, GET_EVENTS))?;
    }
    Ok(frames)
}

/// Reads for at most 200 ms; returns false at the end of the connection.
fn is_open(frames: &mut Frames) -> bool {
    match frames.wire.read_available() {
        Ok(bytes) => !bytes.is_empty(),
        Err(error) => {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        }
    }
}

/// Checks a shutdown while answers wait for clients of every kind.
fn check_stop(report: &mut Report, proxy: &mut Proxy) {
    let clients = [proxy.anonymous(), proxy.consumer(), proxy.producer()];
    let waiting: Vec<_> = clients.iter().flat_map(|client| send_requests(client, proxy.address, 0)).collect();
    let start = Instant::now();
    proxy.process.signal("TERM");
    let code = proxy.process.exit().code();
    report.check("exit code", code.unwrap_or(-1), "0", code == Some(0));
    // New connections are served for 5 s more, and GOAWAY may take 1 s.
    report.check_at_most(
        "a shutdown while answers wait",
        start.elapsed(),
        WRITE_TIMEOUT + Duration::from_secs(8),
    );
    drop(waiting);
}
