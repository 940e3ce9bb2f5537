//! Random clients that leave at every point: before, within and after the request, in the queue and in the middle of the answer,
//! by closing, reset, cancelled streams, half-closed connections and time limits. Afterwards the number of decisions, the number
//! of records and the number of counts are equal, and every request that the backend saw has its record.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::report::Report;
use crate::support::http2::request;
use crate::support::random::Random;
use crate::support::{Client, Setup};

const CLIENTS: u64 = 80;
const GAUGES: [&str; 4] = [
    "sidegate_slots_used",
    "sidegate_connections",
    "sidegate_requests_in_flight",
    "sidegate_requests_queued",
];

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    backend.record_request_ids();
    let setup = Setup::new(&backend.url())
        .set("workers", 2)
        .set("limits.max_connections", 60)
        .set("limits.http.body_timeout", "300ms")
        .set("backend.max_in_flight", 48)
        .set("backend.queue", 20)
        .set("backend.queue_timeout", "200ms")
        .set("log.audit", "audit.log");
    let mut proxy = setup.start();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    report.show("seed", seed);
    let clients = [proxy.producer(), proxy.consumer(), proxy.anonymous()];
    let exchanges = client::run(send_random_traffic(clients, proxy.address, seed, length));
    report.show("requests that were begun", exchanges);
    for gauge in GAUGES {
        proxy.admin.wait_for(gauge, 0.0);
        report.check(gauge, 0, "0, as at the start", true);
    }
    let metrics = proxy.admin.metrics();
    let records = proxy.setup.path("audit.log");
    proxy.process.signal("INT");
    proxy.process.exit();
    let records = fs::read_to_string(records).unwrap();
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let lost = metrics.labelled("sidegate_lines_dropped_total", &[("kind", "audit")]);
    report.check("records that were dropped", lost, "0", lost == 0.0);
    let decisions = metrics.value("sidegate_decisions_total");
    let (count, equal) = (records.len(), records.len() as f64 == decisions);
    report.check("records", count, &format!("{decisions}, the number of decisions"), equal);
    let ids: HashSet<&str> = records.iter().filter_map(|record| record["request_id"].as_str()).collect();
    report.check("different request ids", ids.len(), &format!("{count}"), ids.len() == count);
    let seen = backend.request_ids();
    report.check_none(
        "requests that the backend saw without a record",
        seen.iter().filter(|id| !ids.contains(id.as_str())).count(),
    );
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    records.iter().for_each(|record| *ends.entry(record["done"].as_str().unwrap()).or_default() += 1);
    for done in ["client_left", "broken_off", "withdrawn", "unread", "stopped"] {
        let counted = metrics.labelled("sidegate_unfinished_answers_total", &[("done", done)]);
        let recorded = ends.get(done).copied().unwrap_or_default();
        report.check(done, recorded, &format!("{counted}, as counted"), recorded as f64 == counted);
    }
    report.check(
        "clients that left",
        ends.get("client_left").copied().unwrap_or_default(),
        "some",
        ends.contains_key("client_left"),
    );
    let blamed = records.iter().filter(|record| record["fault"] == "backend").count();
    report.check_none("exchanges put down to the backend, which answers everything", blamed);
    report.show("ends", format!("{ends:?}"));
}

/// Runs all clients for a while, and returns the number of requests that were begun. The same seed makes the same choices.
async fn send_random_traffic(
    clients: [Client; 3],
    address: SocketAddr,
    seed: u64,
    length: Duration,
) -> usize {
    let (over, requests) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let tasks = tokio::task::LocalSet::new();
    for number in 0..CLIENTS {
        let (clients, over, requests) = (clients.clone(), Rc::clone(&over), Rc::clone(&requests));
        let mut random = Random::from_seed(seed.wrapping_mul(CLIENTS).wrapping_add(number));
        tasks.spawn_local(async move {
            while !over.get() {
                // Four of five connections are those of a permitted client.
                let client = &clients[[0, 0, 0, 0, 0, 0, 0, 0, 1, 2][random.below(10)]];
                // An error is allowed: whatever happens must be recorded.
                let _ = match random.below(2) {
                    0 => use_http1(&mut random, client, address, &requests).await,
                    _ => use_http2(&mut random, client, address, &requests).await,
                };
            }
        });
    }
    tasks.run_until(sleep(length)).await;
    over.set(true);
    tasks.await;
    requests.get()
}

fn milliseconds_below(random: &mut Random, limit: usize) -> Duration {
    Duration::from_millis(random.below(limit) as u64)
}

async fn use_http1(
    random: &mut Random,
    client: &Client,
    address: SocketAddr,
    requests: &Cell<usize>,
) -> io::Result<()> {
    let mut connection = LoadConnection::open(client, address, Ipv4Addr::LOCALHOST).await?;
    for _ in 0..=random.below(30) {
        requests.set(requests.get() + 1);
        match random.below(24) {
            0 => connection.send("GET /ev").await?,
            1 => connection.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await?,
            2 => connection.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await?,
            3 => connection.send("DELETE /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await?,
            4 => {
                let half = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nhalf";
                connection.send(half).await?;
            }
            5 => {
                let malformed = "Transfer-Encoding: chunked\r\n\r\nxyz\r\n";
                connection.send(&format!("POST /events HTTP/1.1\r\nHost: localhost\r\n{malformed}")).await?;
            }
            6 => {
                connection.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
                connection.close_sending_side().await?;
            }
            7 => drop(connection.get("/denied/%2F").await?),
            8 => drop(connection.get("/slow").await?),
            _ => {
                drop(connection.get("/events").await?);
                continue;
            }
        }
        sleep(milliseconds_below(random, 30)).await;
        match random.below(4) {
            0 => connection.abort(),
            // The time limit for the body, or for the next request, comes first.
            1 => drop(timeout(Duration::from_millis(500), connection.answer()).await),
            _ => {}
        }
        return Ok(());
    }
    Ok(())
}

async fn use_http2(
    random: &mut Random,
    client: &Client,
    address: SocketAddr,
    requests: &Cell<usize>,
) -> io::Result<()> {
    let settings = h2::client::Builder::new();
    let (sender, driver) = client::open_http2(client, address, Ipv4Addr::LOCALHOST, &settings).await?;
    let mut open = Vec::new();
    for _ in 0..=random.below(30) {
        let mut sender = sender.clone().ready().await.map_err(io::Error::other)?;
        requests.set(requests.get() + 1);
        let (method, path) = match random.below(12) {
            0 => ("GET", "/slow"),
            1 => ("GET", "/stream"),
            2 => ("POST", "/events"),
            _ => ("GET", "/events"),
        };
        let head = request(method, path, &[]);
        let (response, mut body) = sender.send_request(head, method == "GET").map_err(io::Error::other)?;
        if method == "POST" {
            let _ = body.send_data("part".into(), random.below(2) == 0);
        }
        match random.below(4) {
            0 => body.send_reset(h2::Reason::CANCEL),
            1 => open.push((response, body)),
            _ => drop(timeout(Duration::from_millis(600), response).await),
        }
    }
    sleep(milliseconds_below(random, 40)).await;
    if random.below(2) == 0 {
        driver.abort();
    }
    Ok(())
}
