//! HTTP/2 misused, frame by frame, by several at once and without end: known clients and strangers that reset, that make the
//! server reset, that never finish a header block, that send empty frames or questions, that read nothing. The others are
//! served as ever, and memory and CPU are bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Mood};
use crate::client;
use crate::flood::{Known, known};
use crate::memory::bound;
use crate::report::{Report, p99};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    block, frame, headers, preface, setting,
};
use crate::support::{Client, Proxy, Setup};

type Fields = &'static [(&'static str, &'static str)];
const GET: Fields =
    &[(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];
const POST: Fields =
    &[(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
/// Streams, or rounds of frames, after which a flooder comes anew if nothing has ended it.
const ROUNDS: u32 = 20_000;

/// What is sent in a round, given its number; a stream's number is odd.
type Round = fn(u32) -> Vec<u8>;

const FLOODS: [(&str, Round); 9] = [
    ("rapid reset", |n| [head(n), frame(RST_STREAM, 0, stream(n), CANCEL)].concat()),
    ("made you reset, by a window of nothing", |n| {
        [headers(stream(n), 0, POST), frame(WINDOW_UPDATE, 0, stream(n), [0; 4])].concat()
    }),
    ("made you reset, by malformed requests", |n| headers(stream(n), END_STREAM, &[(":method", "GET")])),
    ("CONTINUATION", |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, block(GET)),
        _ => frame(CONTINUATION, 0, 1, block(&[("x-a", "a".repeat(8000))])),
    }),
    ("empty CONTINUATION", |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, block(GET)),
        _ => frame(CONTINUATION, 0, 1, "").repeat(100),
    }),
    ("empty DATA", |n| match n {
        0 => headers(1, 0, POST),
        _ => frame(DATA, 0, 1, "").repeat(100),
    }),
    ("PING", |_| frame(PING, 0, 0, [0; 8]).repeat(100)),
    ("SETTINGS", |_| frame(SETTINGS, 0, 0, setting(3, 100)).repeat(100)),
    ("windows of nothing", |n| match n {
        0 => frame(SETTINGS, 0, 0, setting(4, 0)),
        _ => head(n),
    }),
];

const fn stream(number: u32) -> u32 {
    number * 2 + 1
}

fn head(number: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream(number), block(GET))
}

pub fn run(report: &mut Report, length: Duration) {
    let backend = Backend::start(Mood::Well);
    let mut setup = Setup::new(&backend.url()).set("limits.max_connections", 200);
    setup.config["limits"]["lobby"] = serde_json::json!({ "connections_per_second": 100_000 });
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let proxy = setup.start();
    let (producer, address) = (proxy.producer(), proxy.address);
    let before = p99(client::run(known(&producer, address, length / 2, || ())).times.get_mut());
    report.tells("the known, the slowest in a hundred, without floods", format!("{before:.1?}"));
    // Each has its time, and then all of them at once.
    let each = (length / 5).max(Duration::from_secs(1));
    for flood in FLOODS {
        under(report, &proxy, each, &[flood]);
    }
    under(report, &proxy, length, &FLOODS);
    idles(report, &proxy);
}

/// The known go on while these floods run, of each a known client and a stranger.
fn under(report: &mut Report, proxy: &Proxy, length: Duration, floods: &[(&str, Round)]) {
    let name = if let [(name, _)] = floods { name } else { "all at once" };
    let (over, connections, most) = (AtomicBool::new(false), AtomicUsize::new(0), bound(&proxy.setup.config));
    let (mut came, used) = thread::scope(|scope| {
        for (_, round) in floods {
            for client in [proxy.producer(), proxy.anonymous()] {
                let (over, connections, address, round) = (&over, &connections, proxy.address, *round);
                scope.spawn(move || flood(&client, address, round, over, connections));
            }
        }
        let came = client::run(known(&proxy.producer(), proxy.address, length, || ()));
        let used = proxy.process.resident();
        over.store(true, Ordering::SeqCst);
        (came, used)
    });
    tell(report, name, &mut came, connections.into_inner());
    let (used_mib, most_mib) = (used >> 20, most >> 20);
    let must = format!("at most {most_mib} MiB");
    report.holds(&format!("{name}: memory"), format!("{used_mib} MiB"), &must, used <= most);
}

pub fn tell(report: &mut Report, name: &str, came: &mut Known, connections: usize) {
    let slowest = p99(came.times.get_mut());
    let served = came.served.get();
    report.tells(name, format!("{connections} connections; {served} served meanwhile, p99 {slowest:.1?}"));
    let failed = came.failed.get_mut();
    failed.iter().take(3).for_each(|failure| report.tells("a failure", failure));
    report.none(&format!("{name}: known clients that got anything else than 200"), failed.len());
    report.holds(&format!("{name}: served, and the flood took place"), served, "some", {
        served > 0 && connections > 0
    });
}

/// Comes back whenever it was ended.
fn flood(client: &Client, to: SocketAddr, round: Round, over: &AtomicBool, connections: &AtomicUsize) {
    while !over.load(Ordering::SeqCst) {
        if let Ok(mut frames) = Frames::silent(client, to) {
            connections.fetch_add(1, Ordering::SeqCst);
            // That it is ended is what is hoped for.
            let _ = rounds(&mut frames, round, over);
        }
    }
}

fn rounds(frames: &mut Frames, round: Round, over: &AtomicBool) -> io::Result<()> {
    // Nothing is read, so what is answered fills the way back, and writing may have to wait.
    frames.wire.stream.sock.set_write_timeout(Some(Duration::from_secs(1)))?;
    frames.send(preface(&[]))?;
    (0..ROUNDS).take_while(|_| !over.load(Ordering::SeqCst)).try_for_each(|number| frames.send(round(number)))
}

/// Nothing of it is left: no request, no slot, no work.
pub fn idles(report: &mut Report, proxy: &Proxy) {
    for gauge in ["sidegate_requests_in_flight", "sidegate_slots_used", "sidegate_connections"] {
        proxy.admin.wait_for(gauge, 0.0);
        report.holds(gauge, 0, "0, as at the start", true);
    }
    let (start, before) = (Instant::now(), proxy.process.cpu());
    thread::sleep(Duration::from_secs(1));
    let used = (proxy.process.cpu() - before).mul_f64(1.0 / start.elapsed().as_secs_f64());
    report.at_most("CPU in a second, once all have gone", used, Duration::from_millis(50));
}
