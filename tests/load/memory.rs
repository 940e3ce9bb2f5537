//! The most that clients can make the proxy hold: connections that have begun a large head after a large chain, uploads that nobody takes,
//! answers that nobody reads, of connections with a slot and without one. What it uses stays below what the configuration lets one
//! expect (`deploy/README.md`, "Memory").

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::report::Report;
use crate::strangers;
use crate::support::{Client, Proxy, Setup};

const SLOTS: u64 = 100;
const LOBBY: u64 = 300;
const IN_FLIGHT: u64 = 100;
const WORKERS: u64 = 2;
const CHAINS: usize = 200;

/// The most memory that a configuration lets be used, in bytes.
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
/// Answers that were read ahead, answers that wait for their readers, and verdicts on certificates: 4 MiB each.
const WORKER: u64 = 12 << 20;
const CONNECTION: u64 = 128 << 10;
const EXCHANGE: u64 = 640 << 10;

pub fn run(report: &mut Report, _: Duration) {
    let backend = Backend::start(Mood::Silent);
    let mut setup = Setup::new(&backend.url()).set("limits.max_connections", SLOTS);
    setup.config["limits"]["lobby"]["max_connections"] = LOBBY.into();
    setup.config["limits"]["lobby"]["request_timeout"] = "60s".into();
    setup.config["limits"]["lobby"]["connections_per_second"] = 100_000.into();
    setup.config["backend"]["max_in_flight"] = IN_FLIGHT.into();
    // One client takes everything here.
    setup.config["backend"]["reserved_for_others"] = 0.into();
    setup.config["backend"]["response_timeout"] = "60s".into();
    setup.config["workers"] = WORKERS.into();
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let proxy = setup.start();
    let empty = proxy.process.resident();
    report.tells("at rest", format!("{} MiB", empty >> 20));
    client::run(fill(report, &proxy));
}

async fn fill(report: &mut Report, proxy: &Proxy) {
    let tasks = tokio::task::LocalSet::new();
    for number in 0..SLOTS {
        let (client, address) = (proxy.producer(), proxy.address);
        tasks.spawn_local(async move {
            if number % 2 == 0 {
                uploads(&client, address).await
            } else {
                uploads_http2(&client, address).await
            }
        });
    }
    let all_in_flight = || proxy.admin.metrics().value("sidegate_requests_in_flight") >= IN_FLIGHT as f64;
    let start = Instant::now();
    while !all_in_flight() && start.elapsed() < client::PATIENCE {
        tasks.run_until(sleep(Duration::from_millis(100))).await;
    }
    present_chains(proxy, &tasks).await;
    let stranger = proxy.client(&strangers::with_unrelated(&proxy.pki().unknown_ca(), 60_000));
    let mut lobby = Vec::new();
    let mut unread = Vec::new();
    let anonymous = proxy.anonymous();
    for number in 0..LOBBY {
        if number % 3 == 0 {
            let asking = asks_without_a_window(&anonymous, proxy.address, number);
            unread.push(tasks.run_until(asking).await);
        } else {
            lobby.push(tasks.run_until(begins_a_head(&stranger, proxy.address, number)).await);
        }
    }
    tasks.run_until(sleep(Duration::from_secs(1))).await;
    let (used, most) = (proxy.process.resident(), bound(&proxy.setup.config));
    let census = proxy.admin.status();
    report.tells("slots used", &census["slots_used"]);
    report.tells("lobby", &census["lobby"]);
    report.tells("in flight", &census["in_flight"]);
    report.holds(
        "memory",
        format!("{} MiB", used >> 20),
        &format!("at most {} MiB", most >> 20),
        used <= most,
    );
    // Otherwise nothing was tried.
    let filled = census["slots_used"].as_u64() == Some(SLOTS)
        && census["in_flight"].as_u64() == Some(IN_FLIGHT)
        && census["lobby"].as_u64() == Some(LOBBY);
    report.holds("everything is taken", filled, "true", filled);
    drop((lobby, unread));
}

/// Refusals that wait without a window are as many as a connection may have without a slot, and three times as many with one.
const UNREAD_OF_A_STRANGER: usize = 16;
const UNREAD_OF_A_CLIENT: usize = 48;

/// A stranger that asks as often as it may without reading an answer.
async fn asks_without_a_window(client: &Client, address: SocketAddr, number: u64) -> Requests {
    let from = Ipv4Addr::new(127, 0, 3, u8::try_from(1 + number % 250).unwrap());
    let mut requests = without_windows(client, address, from).await;
    refused(&mut requests, UNREAD_OF_A_STRANGER).await;
    requests
}

type Requests = h2::client::SendRequest<bytes::Bytes>;

/// A connection of HTTP/2 into which no answer fits.
async fn without_windows(client: &Client, address: SocketAddr, from: Ipv4Addr) -> Requests {
    let socket = client::socket(address, from).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(client.alpn(&["h2"]).config);
    let stream = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    let (requests, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake(stream).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    requests
}

/// Requests with a long path that is refused, whoever asks.
async fn refused(requests: &mut Requests, count: usize) {
    for _ in 0..count {
        let target = format!("https://localhost/{}//", "p".repeat(15_000));
        let mut ready = requests.clone().ready().await.unwrap();
        let request = http::Request::get(target).body(()).unwrap();
        let (answer, _) = ready.send_request(request, true).unwrap();
        // Held for as long as the connection.
        tokio::task::spawn_local(async move {
            let answer = answer.await;
            std::future::pending::<()>().await;
            drop(answer);
        });
    }
}

/// Ever different certificates, beside a client's own and beside a stranger's.
async fn present_chains(proxy: &Proxy, tasks: &tokio::task::LocalSet) {
    for number in 0..CHAINS {
        let own = if number % 2 == 0 { &proxy.pki().consumer } else { &proxy.pki().unknown_ca() };
        let client = proxy.client(&strangers::with_unrelated(own, 60_000));
        let opened = Connection::open(&client, proxy.address, Ipv4Addr::LOCALHOST);
        drop(tasks.run_until(opened).await.unwrap());
    }
}

/// A head that is nearly as long as it may be, and never ends.
async fn begins_a_head(client: &Client, address: SocketAddr, number: u64) -> Connection {
    let from = Ipv4Addr::new(127, 0, 2, u8::try_from(1 + number % 250).unwrap());
    let mut connection = Connection::open(client, address, from).await.unwrap();
    connection
        .send(&format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "a".repeat(60_000)))
        .await
        .unwrap();
    connection
}

/// A body that is much longer than anybody takes.
async fn uploads(client: &Client, address: SocketAddr) {
    let mut connection = Connection::open(client, address, Ipv4Addr::LOCALHOST).await.unwrap();
    connection
        .send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
        .await
        .unwrap();
    let part = "a".repeat(65_536);
    let sending = async { while connection.send(&part).await.is_ok() {} };
    let _ = timeout(client::PATIENCE, sending).await;
    std::future::pending::<()>().await;
}

/// The same in HTTP/2, as far as its windows go, beside answers that nobody reads.
async fn uploads_http2(client: &Client, address: SocketAddr) {
    let mut requests = without_windows(client, address, Ipv4Addr::LOCALHOST).await;
    let request = http::Request::post("https://localhost/events").body(()).unwrap();
    let mut ready = requests.clone().ready().await.unwrap();
    let (_answer, mut body) = ready.send_request(request, false).unwrap();
    body.send_data(vec![b'a'; 4 << 20].into(), false).unwrap();
    refused(&mut requests, UNREAD_OF_A_CLIENT).await;
    std::future::pending::<()>().await;
}
