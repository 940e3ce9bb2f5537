//! What a release is trained with: the traffic that it is there for, so that the compiler learns which functions and branches to make
//! fast. `tests/bench/train` runs it against a program that counts them, whose path is in `SIDEGATE_PROGRAM`.
//!
//! Requests weigh more than the bytes of bodies, and what is permitted more than what is refused. What goes wrong in other ways is left
//! out: it may be slow.
//!
//! With two arguments it asks one thing so many times, one after the other, which `.ci/counts.py` runs below callgrind.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a driver says what is wrong by ending, and nothing of it is used elsewhere"
)]

#[path = "../growth/backend.rs"]
mod backend;
#[expect(dead_code, reason = "the scenarios of load use more of it")]
#[path = "../../load/client.rs"]
mod client;
mod http2;
#[expect(dead_code, reason = "how cost grows is measured with more of it")]
#[path = "../growth/stage.rs"]
mod stage;
#[expect(dead_code, unused_imports, reason = "the promises use more of it")]
#[path = "../../support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use client::LoadConnection;
use stage::{get, post};
use support::{Client, Proxy};

/// So many requests are made of what is small.
const REQUESTS: usize = 60_000;
const CONNECTIONS: usize = 32;
const HANDSHAKES: usize = 3_000;
const BODIES: usize = 10;
/// In bytes.
const BODY: usize = 10 << 20;

/// A lesson: its name, and what is asked of a proxy.
type Lesson = (&'static str, fn(&Proxy));

const LESSONS: [Lesson; 5] = [
    ("requests over HTTP/1.1", requests),
    ("requests over HTTP/2", http2::requests),
    ("new connections", handshakes),
    ("bodies over HTTP/1.1", bodies),
    ("bodies over HTTP/2", http2::bodies),
];

/// What is asked one after the other: its name, and how it is asked so many times.
type Row = (&'static str, fn(&Proxy, usize));

const ROWS: [Row; 3] = [
    ("request-http1", |proxy, times| {
        client::run(ask(&proxy.producer(), proxy.address, 1, &get("/any/1024", ""), 200, times));
    }),
    ("request-http2", http2::row),
    ("request-refused", |proxy, times| {
        client::run(ask(&proxy.consumer(), proxy.address, 1, &get("/denied", ""), 403, times));
    }),
];

fn main() -> ExitCode {
    // Cargo says `--bench` before everything else.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => train(),
        [row, times] if let Some((_, ask)) = ROWS.iter().find(|(name, _)| *name == row) => {
            let proxy = begin(false);
            ask(&proxy, times.parse().expect("how often it is asked"));
            end(proxy);
        }
        _ => {
            ROWS.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn train() {
    for records in [false, true] {
        let proxy = begin(records);
        for (name, lesson) in LESSONS {
            println!("{name}{}", if records { ", with records of each" } else { "" });
            lesson(&proxy);
        }
        end(proxy);
    }
}

fn begin(records: bool) -> Proxy {
    stage::start(stage::recording(records).set("drain_timeout", "5s"))
}

/// Only a program that ends by itself writes down what was counted.
fn end(mut proxy: Proxy) {
    proxy.process.signal("TERM");
    assert!(proxy.process.exit().success());
}

fn requests(proxy: &Proxy) {
    let fields = "User-Agent: shop/1.0\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n";
    let (asked, published) = (get("/any/1024", fields), post("/any/0", 512));
    let lessons = [
        (proxy.producer(), get("/any/1024", ""), 200, REQUESTS),
        (proxy.producer(), asked, 200, REQUESTS / 2),
        (proxy.producer(), published, 200, REQUESTS / 4),
        (proxy.consumer(), get("/denied", ""), 403, REQUESTS / 2),
    ];
    for (client, request, status, times) in lessons {
        client::run(ask(&client, proxy.address, CONNECTIONS, &request, status, times));
    }
}

/// Asks so many times, on several connections at once.
async fn ask(client: &Client, to: SocketAddr, connections: usize, request: &str, status: u16, times: usize) {
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

/// Half of them whole, half of them resumed.
fn handshakes(proxy: &Proxy) {
    let regular = proxy.producer();
    client::run(async {
        for number in 0..HANDSHAKES {
            let client = if number % 2 == 0 { &regular } else { &proxy.producer() };
            let mut connection =
                LoadConnection::open(client, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
            assert_eq!(connection.get("/any/1024").await.unwrap().status, 200);
        }
    });
}

fn bodies(proxy: &Proxy) {
    for request in [get(&format!("/any/{BODY}"), ""), post("/any/0", BODY)] {
        client::run(ask(&proxy.producer(), proxy.address, 1, &request, 200, BODIES));
    }
}
