//! Clients of HTTP/2 that open no window, so that no answer can leave: strangers, clients that are denied, and clients that are
//! permitted, all at the same time and whenever they were ended anew. The others are served as ever; what waits holds little, is
//! cut in time, and holds up no stop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Mood};
use crate::client;
use crate::flood::known;
use crate::frames::{idles, tell};
use crate::memory::bound;
use crate::report::Report;
use crate::support::frames::{END_STREAM, Frames, headers, preface, setting};
use crate::support::{Client, Proxy, Setup};

const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections of each kind of client at a time.
const CONNECTIONS: usize = 5;
/// Requests on each of them. Those of the permitted are fewer than may be in flight.
const STREAMS: u32 = 50;
/// Windows that streams begin with: none, or one in which a single byte of an answer has room.
const WINDOWS: [u32; 2] = [0, 1];

pub fn run(report: &mut Report, length: Duration) {
    let backend = Backend::start(Mood::Well);
    let mut setup = Setup::new(&backend.url()).set("limits.http.write_timeout", "2s");
    setup.config["limits"]["max_connections"] = 200.into();
    setup.config["backend"]["max_in_flight"] = 1000.into();
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let mut proxy = setup.set("drain_timeout", "25s").start();
    let (over, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut came, used) = thread::scope(|scope| {
        crowd(scope, &proxy, &over, &ended);
        let came = client::run(known(&proxy.producer(), proxy.address, length.max(3 * WRITE_TIMEOUT), || ()));
        let used = proxy.process.resident();
        over.store(true, Ordering::SeqCst);
        (came, used)
    });
    tell(report, "windows of nothing", &mut came, ended.load(Ordering::SeqCst));
    let most = bound(&proxy.setup.config);
    report.holds(
        "memory",
        format!("{} MiB", used >> 20),
        &format!("at most {} MiB", most >> 20),
        used <= most,
    );
    idles(report, &proxy);
    stops(report, &mut proxy);
}

/// All kinds of clients, each several times and with each window.
fn crowd<'scope>(
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
                    if let Ok(mut frames) = asks(&client, address, window) {
                        while !over.load(Ordering::SeqCst) && is_open(&mut frames) {}
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    }
}

fn asks(client: &Client, to: std::net::SocketAddr, window: u32) -> std::io::Result<Frames> {
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];
    let mut frames = Frames::silent(client, to)?;
    frames.wire.stream.sock.set_read_timeout(Some(Duration::from_millis(200)))?;
    frames.send(preface(&setting(4, window)))?;
    for number in 0..STREAMS {
        frames.send(headers(number * 2 + 1, END_STREAM, &fields))?;
    }
    Ok(frames)
}

/// Reads what comes, and waits a moment for it.
fn is_open(frames: &mut Frames) -> bool {
    match frames.wire.some() {
        Ok(bytes) => !bytes.is_empty(),
        Err(error) => {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        }
    }
}

/// The end, while answers wait for clients of every kind.
fn stops(report: &mut Report, proxy: &mut Proxy) {
    let clients = [proxy.anonymous(), proxy.consumer(), proxy.producer()];
    let waiting: Vec<_> = clients.iter().flat_map(|client| asks(client, proxy.address, 0)).collect();
    let start = Instant::now();
    proxy.process.signal("TERM");
    let code = proxy.process.exit().code();
    report.holds("exit code", code.unwrap_or(-1), "0", code == Some(0));
    // The grace in which newcomers are served is 5 s, and the farewell 1 s.
    report.at_most("a stop while answers wait", start.elapsed(), WRITE_TIMEOUT + Duration::from_secs(8));
    drop(waiting);
}
