//! The traffic that trains the profile of a release, so that the compiler optimizes the functions and branches of usual
//! requests. `tests/bench/train` runs this driver against an instrumented program, whose path is in `SIDEGATE_PROGRAM`.
//!
//! Requests have more weight than the bytes of bodies, and permitted requests more than refused ones. Errors are left out,
//! because they may be slow.
//!
//! With two arguments the driver sends one kind of request many times, one after another; `.ci/counts.py` runs that under
//! callgrind.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a driver reports an error by ending, and no other crate uses its items"
)]

#[path = "../growth/backend.rs"]
mod backend;
#[expect(dead_code, reason = "the load scenarios use more items of this module")]
#[path = "../../load/client.rs"]
mod client;
mod http2;
#[expect(dead_code, reason = "the benchmark of growth uses more items of this module")]
#[path = "../growth/measured_proxy.rs"]
mod measured_proxy;
#[expect(dead_code, unused_imports, reason = "the promises use more items of this module")]
#[path = "../../support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use client::LoadConnection;
use measured_proxy::{AuditRecords, get, post};
use support::{Client, Proxy};

/// Number of small requests.
const REQUESTS: usize = 60_000;
const CONNECTIONS: usize = 32;
const HANDSHAKES: usize = 3_000;
const BODIES: usize = 10;
/// Size of a body in bytes.
const BODY: usize = 10 << 20;

/// A part of the training: its name, and the function that sends its requests.
type Lesson = (&'static str, fn(&Proxy));

const LESSONS: [Lesson; 5] = [
    ("requests over HTTP/1.1", requests),
    ("requests over HTTP/2", http2::requests),
    ("new connections", handshakes),
    ("bodies over HTTP/1.1", bodies),
    ("bodies over HTTP/2", http2::bodies),
];

/// Requests that are sent one after another: their name, and the function that sends this number of them.
type Sequence = (&'static str, fn(&Proxy, usize));

const SEQUENCES: [Sequence; 3] = [
    ("request-http1", |proxy, times| {
        client::run(send(&proxy.producer(), proxy.address, 1, &get("/any/1024", ""), 200, times));
    }),
    ("request-http2", http2::send_sequence),
    ("request-refused", |proxy, times| {
        client::run(send(&proxy.consumer(), proxy.address, 1, &get("/denied", ""), 403, times));
    }),
];

fn main() -> ExitCode {
    // Cargo passes `--bench` as the first argument.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => train(),
        [name, times] if let Some((_, send)) = SEQUENCES.iter().find(|(known, _)| *known == name) => {
            let proxy = start(AuditRecords::None);
            send(&proxy, times.parse().expect("a number of requests"));
            stop(proxy);
        }
        _ => {
            SEQUENCES.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn train() {
    for records in [AuditRecords::None, AuditRecords::File] {
        let proxy = start(records);
        for (name, lesson) in LESSONS {
            println!("{name}, audit records: {records:?}");
            lesson(&proxy);
        }
        stop(proxy);
    }
}

fn start(records: AuditRecords) -> Proxy {
    measured_proxy::start_proxy(measured_proxy::setup_with_audit(records).set("drain_timeout", "5s"))
}

/// Stops the program by SIGTERM; an instrumented program writes its counts only when it exits by itself.
fn stop(mut proxy: Proxy) {
    proxy.process.signal("TERM");
    assert!(proxy.process.exit().success());
}

fn requests(proxy: &Proxy) {
    let fields = "User-Agent: shop/1.0\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n";
    let requests = [
        (proxy.producer(), get("/any/1024", ""), 200, REQUESTS),
        (proxy.producer(), get("/any/1024", fields), 200, REQUESTS / 2),
        (proxy.producer(), post("/any/0", 512), 200, REQUESTS / 4),
        (proxy.consumer(), get("/denied", ""), 403, REQUESTS / 2),
    ];
    for (client, request, status, times) in requests {
        client::run(send(&client, proxy.address, CONNECTIONS, &request, status, times));
    }
}

/// Sends a request this number of times, on several connections at once.
async fn send(client: &Client, to: SocketAddr, connections: usize, request: &str, status: u16, times: usize) {
    let tasks = tokio::task::LocalSet::new();
    for _ in 0..connections {
        let (client, request) = (client.clone(), request.to_owned());
        tasks.spawn_local(async move {
            let mut connection = LoadConnection::open(&client, to, Ipv4Addr::LOCALHOST).await.unwrap();
            for _ in 0..times / connections {
                assert_eq!(connection.ask(&request).await.unwrap().status, status, "{request}");
            }
        });
    }
    tasks.await;
}

/// Makes full handshakes and resumptions in turn.
fn handshakes(proxy: &Proxy) {
    let resuming = proxy.producer();
    client::run(async {
        for number in 0..HANDSHAKES {
            let client = if number % 2 == 0 { &resuming } else { &proxy.producer() };
            let mut connection =
                LoadConnection::open(client, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
            assert_eq!(connection.get("/any/1024").await.unwrap().status, 200);
        }
    });
}

fn bodies(proxy: &Proxy) {
    for request in [get(&format!("/any/{BODY}"), ""), post("/any/0", BODY)] {
        client::run(send(&proxy.producer(), proxy.address, 1, &request, 200, BODIES));
    }
}
