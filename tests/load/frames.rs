//! Floods of HTTP/2 frames, from authenticated clients and strangers at once. They reset streams, make the server reset
//! streams, never finish a header block, send empty frames, send frames that need an answer, or read nothing. Other clients
//! are served as before, and memory and CPU are bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client;
use crate::flood::{AuthenticatedOutcomes, send_authenticated};
use crate::memory::bound;
use crate::report::{Report, p99};
use crate::support::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET_EVENTS, HEADERS, PING, POST_EVENTS,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, headers, preface, setting,
};
use crate::support::{Client, Proxy, Setup};

/// Number of rounds after which a flooding client opens a new connection, if the server has not ended the old one.
const ROUNDS: u32 = 20_000;

/// Returns the frames of a round, given the number of the round.
type RoundFrames = fn(u32) -> Vec<u8>;

const FLOODS: [(&str, RoundFrames); 9] = [
    ("rapid reset", |n| [head(n), frame(RST_STREAM, 0, stream(n), CANCEL.to_be_bytes())].concat()),
    ("resets by the server, for zero window updates", |n| {
        [headers(stream(n), 0, POST_EVENTS), frame(WINDOW_UPDATE, 0, stream(n), [0; 4])].concat()
    }),
    ("resets by the server, for malformed requests", |n| {
        headers(stream(n), END_STREAM, &[(":method", "GET")])
    }),
    ("CONTINUATION", |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, block(GET_EVENTS)),
        _ => frame(CONTINUATION, 0, 1, block(&[("x-a", "a".repeat(8000))])),
    }),
    ("empty CONTINUATION", |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, block(GET_EVENTS)),
        _ => frame(CONTINUATION, 0, 1, "").repeat(100),
    }),
    ("empty DATA", |n| match n {
        0 => headers(1, 0, POST_EVENTS),
        _ => frame(DATA, 0, 1, "").repeat(100),
    }),
    ("PING", |_| frame(PING, 0, 0, [0; 8]).repeat(100)),
    ("SETTINGS", |_| frame(SETTINGS, 0, 0, setting(3, 100)).repeat(100)),
    ("windows of 0 bytes", |n| match n {
        0 => frame(SETTINGS, 0, 0, setting(4, 0)),
        _ => head(n),
    }),
];

/// Streams of clients have odd numbers.
const fn stream(round: u32) -> u32 {
    round * 2 + 1
}

fn head(round: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream(round), block(GET_EVENTS))
}

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let setup = Setup::new(&backend.url()).set("limits.max_connections", 200).set("log.audit", "none");
    let proxy = setup.set("limits.lobby", serde_json::json!({ "connections_per_second": 100_000 })).start();
    let (producer, address) = (proxy.producer(), proxy.address);
    let before = p99(client::run(send_authenticated(&producer, address, length / 2, || ())).times.get_mut());
    report.show("p99 of authenticated clients without floods", format!("{before:.1?}"));
    let each = (length / 5).max(Duration::from_secs(1));
    for flood in FLOODS {
        check_floods(report, &proxy, each, &[flood]);
    }
    check_floods(report, &proxy, length, &FLOODS);
    check_idle(report, &proxy);
}

/// Runs the floods, each from an authenticated client and from a stranger, and checks the service of other clients.
fn check_floods(report: &mut Report, proxy: &Proxy, length: Duration, floods: &[(&str, RoundFrames)]) {
    let name = if let [(name, _)] = floods { name } else { "all at once" };
    let (over, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut outcomes, used) = thread::scope(|scope| {
        for (_, round) in floods {
            for client in [proxy.producer(), proxy.anonymous()] {
                let (over, connections, address, round) = (&over, &connections, proxy.address, *round);
                scope.spawn(move || flood(&client, address, round, over, connections));
            }
        }
        let producer = proxy.producer();
        let outcomes = client::run(send_authenticated(&producer, proxy.address, length, || ()));
        let used = proxy.process.resident_memory();
        over.store(true, Ordering::SeqCst);
        (outcomes, used)
    });
    check_outcomes(report, name, &mut outcomes, connections.into_inner());
    report.check_memory(&format!("{name}: memory"), used, bound(&proxy.setup.config));
}

/// Checks the service of authenticated clients during a flood, which opened so many connections.
pub fn check_outcomes(
    report: &mut Report,
    name: &str,
    outcomes: &mut AuthenticatedOutcomes,
    connections: usize,
) {
    let p99 = p99(outcomes.times.get_mut());
    let served = outcomes.served.get();
    report.show(name, format!("{connections} connections; {served} served meanwhile, p99 {p99:.1?}"));
    let failed = outcomes.failed.get_mut();
    failed.iter().take(3).for_each(|failure| report.show("a failure", failure));
    report
        .check_none(&format!("{name}: authenticated clients that got anything else than 200"), failed.len());
    report.check(&format!("{name}: served, and the flood took place"), served, "some", {
        served > 0 && connections > 0
    });
}

/// Reconnects whenever the server ends the connection.
fn flood(client: &Client, to: SocketAddr, round: RoundFrames, over: &AtomicBool, connections: &AtomicUsize) {
    while !over.load(Ordering::SeqCst) {
        if let Ok(mut frames) = Frames::connect_without_preface(client, to) {
            connections.fetch_add(1, Ordering::SeqCst);
            // An error means that the server ended the connection, which is right.
            let _ = send_rounds(&mut frames, round, over);
        }
    }
}

fn send_rounds(frames: &mut Frames, round: RoundFrames, over: &AtomicBool) -> io::Result<()> {
    // The client reads nothing: the answers fill the buffers of the connection, and a write can block.
    frames.wire.stream.sock.set_write_timeout(Some(Duration::from_secs(1)))?;
    frames.send(preface(&[]))?;
    (0..ROUNDS).take_while(|_| !over.load(Ordering::SeqCst)).try_for_each(|number| frames.send(round(number)))
}

/// Checks that the proxy holds no request and no slot, and uses no CPU, after all clients have gone.
pub fn check_idle(report: &mut Report, proxy: &Proxy) {
    for gauge in ["sidegate_requests_in_flight", "sidegate_slots_used", "sidegate_connections"] {
        proxy.admin.wait_for(gauge, 0.0);
        report.check(gauge, 0, "0, as at the start", true);
    }
    let (start, before) = (Instant::now(), proxy.process.cpu());
    // No event can be awaited here: the check is that nothing happens for one second.
    thread::sleep(Duration::from_secs(1));
    let used = (proxy.process.cpu() - before).mul_f64(1.0 / start.elapsed().as_secs_f64());
    report.check_at_most("CPU in a second, after all clients have gone", used, Duration::from_millis(50));
}
