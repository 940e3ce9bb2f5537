//! The most memory that clients can make the proxy use, on connections with and without a slot: incomplete large heads after
//! large certificate chains, uploads that the backend does not read, answers that the client does not read. The memory stays
//! below the bound that follows from the configuration (`deploy/README.md`, "Memory").

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::report::Report;
use crate::strangers;
use crate::support::{Client, Proxy, Setup};

const SLOTS: u64 = 100;
const LOBBY: u64 = 300;
const IN_FLIGHT: u64 = 100;
const WORKERS: u64 = 2;
const CHAINS: usize = 200;

/// Returns the bound on memory that follows from a configuration, in bytes.
pub fn bound(config: &Value) -> u64 {
    let number = |path: &[&str], default: u64| {
        path.iter().fold(config, |value, key| &value[*key]).as_u64().unwrap_or(default)
    };
    let connections =
        number(&["limits", "max_connections"], 1000) + number(&["limits", "lobby", "max_connections"], 1000);
    let header_bytes = number(&["limits", "http", "max_header_bytes"], 65_536);
    let in_flight = number(&["backend", "max_in_flight"], 512);
    let workers = match number(&["workers"], 0) {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        workers => workers,
    };
    FIXED + workers * WORKER + connections * (CONNECTION + 2 * header_bytes) + in_flight * EXCHANGE
}

const FIXED: u64 = 64 << 20;
/// 4 MiB each for answers read ahead of the client, answers that wait for a window, and cached verdicts on certificates.
const WORKER: u64 = 12 << 20;
const CONNECTION: u64 = 128 << 10;
const EXCHANGE: u64 = 640 << 10;

pub fn run(report: &mut Report, _: Duration) {
    let backend = FaultyBackend::start(Behaviour::Silent);
    let proxy = Setup::new(&backend.url())
        .set("limits.max_connections", SLOTS)
        .set("limits.lobby.max_connections", LOBBY)
        .set("limits.lobby.request_timeout", "60s")
        .set("limits.lobby.connections_per_second", 100_000)
        .set("backend.max_in_flight", IN_FLIGHT)
        // A single client sends all requests here.
        .set("backend.reserved_for_others", 0)
        .set("backend.response_timeout", "60s")
        .set("workers", WORKERS)
        .set("log.audit", "none")
        .start();
    let empty = proxy.process.resident_memory();
    report.show("at rest", format!("{} MiB", empty >> 20));
    client::run(fill(report, &proxy));
}

/// Fills the slots, the places in flight and the lobby, and checks the memory.
async fn fill(report: &mut Report, proxy: &Proxy) {
    let tasks = tokio::task::LocalSet::new();
    for number in 0..SLOTS {
        let (client, address) = (proxy.producer(), proxy.address);
        tasks.spawn_local(async move {
            if number % 2 == 0 {
                upload_http1(&client, address).await
            } else {
                upload_http2(&client, address).await
            }
        });
    }
    let all_in_flight = || proxy.admin.metrics().value("sidegate_requests_in_flight") >= IN_FLIGHT as f64;
    let start = Instant::now();
    while !all_in_flight() && start.elapsed() < client::DEADLINE {
        tasks.run_until(sleep(Duration::from_millis(100))).await;
    }
    present_chains(proxy, &tasks).await;
    let lobby = fill_lobby(proxy, &tasks).await;
    let used = stable_memory(proxy, &tasks).await;
    let status = proxy.admin.status();
    report.show("slots used", &status["slots_used"]);
    report.show("lobby", &status["lobby"]);
    report.show("in flight", &status["in_flight"]);
    report.check_memory("memory", used, bound(&proxy.setup.config));
    // The check of memory means something only if all limits were reached.
    let filled = status["slots_used"].as_u64() == Some(SLOTS)
        && status["in_flight"].as_u64() == Some(IN_FLIGHT)
        && status["lobby"].as_u64() == Some(LOBBY);
    report.check("all limits are reached", filled, "true", filled);
    drop(lobby);
}

/// Number of unread refusals of one connection: as many streams as a connection without a slot may have open, and three
/// times as many on a connection with a slot.
const UNREAD_OF_A_STRANGER: usize = 16;
const UNREAD_OF_A_CLIENT: usize = 48;

/// Lets the clients send until the memory of the proxy has not changed for one second; returns it in bytes.
async fn stable_memory(proxy: &Proxy, tasks: &tokio::task::LocalSet) -> u64 {
    let start = Instant::now();
    let (mut memory, mut since) = (proxy.process.resident_memory(), start);
    while since.elapsed() < Duration::from_secs(1) && start.elapsed() < client::DEADLINE {
        tasks.run_until(sleep(Duration::from_millis(50))).await;
        let now = proxy.process.resident_memory();
        if now != memory {
            (memory, since) = (now, Instant::now());
        }
    }
    memory
}

/// Open connections of strangers.
type LobbyConnections = (Vec<LoadConnection>, Vec<SendRequest<Bytes>>);

async fn fill_lobby(proxy: &Proxy, tasks: &tokio::task::LocalSet) -> LobbyConnections {
    let stranger = proxy.client(&strangers::with_unrelated(&proxy.pki().unknown_ca(), 60_000));
    let anonymous = proxy.anonymous();
    let (mut heads, mut unread) = (Vec::new(), Vec::new());
    for number in 0..LOBBY {
        if number % 3 == 0 {
            let sent = leave_answers_unread(&anonymous, proxy.address, number);
            unread.push(tasks.run_until(sent).await);
        } else {
            heads.push(tasks.run_until(send_half_a_head(&stranger, proxy.address, number)).await);
        }
    }
    (heads, unread)
}

async fn leave_answers_unread(client: &Client, address: SocketAddr, number: u64) -> SendRequest<Bytes> {
    let from = Ipv4Addr::new(127, 0, 3, u8::try_from(1 + number % 250).unwrap());
    let mut requests = open_without_window(client, address, from).await;
    send_refused(&mut requests, UNREAD_OF_A_STRANGER).await;
    requests
}

/// Opens an HTTP/2 connection whose windows are 0, so that no body of an answer can be sent.
async fn open_without_window(client: &Client, address: SocketAddr, from: Ipv4Addr) -> SendRequest<Bytes> {
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(0);
    client::open_http2(client, address, from, &settings).await.unwrap().0
}

/// Sends requests with long paths that are refused for every client.
async fn send_refused(requests: &mut SendRequest<Bytes>, count: usize) {
    for _ in 0..count {
        let target = format!("https://localhost/{}//", "p".repeat(15_000));
        let mut ready = requests.clone().ready().await.unwrap();
        let request = http::Request::get(target).body(()).unwrap();
        let (answer, _) = ready.send_request(request, true).unwrap();
        // The task holds the stream open as long as the connection.
        tokio::task::spawn_local(async move {
            let answer = answer.await;
            std::future::pending::<()>().await;
            drop(answer);
        });
    }
}

/// Fills the caches of verdicts: each handshake presents a new unrelated certificate beside the certificate of the client.
async fn present_chains(proxy: &Proxy, tasks: &tokio::task::LocalSet) {
    for number in 0..CHAINS {
        let own = if number % 2 == 0 { &proxy.pki().consumer } else { &proxy.pki().unknown_ca() };
        let client = proxy.client(&strangers::with_unrelated(own, 60_000));
        let opened = LoadConnection::open(&client, proxy.address, Ipv4Addr::LOCALHOST);
        drop(tasks.run_until(opened).await.unwrap());
    }
}

/// Sends a head that is nearly as long as allowed and never ends.
async fn send_half_a_head(client: &Client, address: SocketAddr, number: u64) -> LoadConnection {
    let from = Ipv4Addr::new(127, 0, 2, u8::try_from(1 + number % 250).unwrap());
    let mut connection = LoadConnection::open(client, address, from).await.unwrap();
    connection
        .send(&format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "a".repeat(60_000)))
        .await
        .unwrap();
    connection
}

/// Sends a body until no buffer between the client and the backend has room.
async fn upload_http1(client: &Client, address: SocketAddr) {
    let mut connection = LoadConnection::open(client, address, Ipv4Addr::LOCALHOST).await.unwrap();
    connection
        .send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
        .await
        .unwrap();
    let part = "a".repeat(65_536);
    let sending = async { while connection.send(&part).await.is_ok() {} };
    let _ = timeout(client::DEADLINE, sending).await;
    std::future::pending::<()>().await;
}

/// Sends a body over HTTP/2 until its windows are full, beside requests whose answers the client does not read.
async fn upload_http2(client: &Client, address: SocketAddr) {
    let mut requests = open_without_window(client, address, Ipv4Addr::LOCALHOST).await;
    let request = http::Request::post("https://localhost/events").body(()).unwrap();
    let mut ready = requests.clone().ready().await.unwrap();
    let (_answer, mut body) = ready.send_request(request, false).unwrap();
    body.send_data(vec![b'a'; 4 << 20].into(), false).unwrap();
    send_refused(&mut requests, UNREAD_OF_A_CLIENT).await;
    std::future::pending::<()>().await;
}
