//! Random traffic that ends in random ways. Afterwards every gauge is 0 again, and memory does not keep growing.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::report::Report;
use crate::support::random::Random;
use crate::support::{Client, Proxy, Setup};

const CLIENTS: u64 = 60;
const GAUGES: [&str; 3] = ["sidegate_slots_used", "sidegate_connections", "sidegate_requests_in_flight"];

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let setup = Setup::new(&backend.url()).set("limits.max_connections", 40);
    let proxy = setup.set("log.audit", "none").start();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    report.show("seed", seed);
    let first = client::run(send_random_traffic(&proxy, seed, length / 2));
    let warm = proxy.process.resident_memory();
    let second = client::run(send_random_traffic(&proxy, seed + 1, length / 2));
    let end = proxy.process.resident_memory();
    report.show("connections", first + second);
    for gauge in GAUGES {
        proxy.admin.wait_for(gauge, 0.0);
        report.check(gauge, 0, "0, as at the start", true);
    }
    let limit = warm + warm / 10 + (4 << 20);
    let (used, limit) = (end >> 10, limit >> 10);
    report.check("memory at the end", format!("{used} KiB"), &format!("at most {limit} KiB"), used <= limit);
}

/// Runs all clients for a while and returns the number of their connections. The same seed makes the same choices.
async fn send_random_traffic(proxy: &Proxy, seed: u64, length: Duration) -> usize {
    let (over, connections) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let tasks = tokio::task::LocalSet::new();
    for number in 0..CLIENTS {
        let clients = [proxy.producer(), proxy.consumer(), proxy.anonymous()];
        let (over, connections, address) = (Rc::clone(&over), Rc::clone(&connections), proxy.address);
        let mut random = Random::from_seed(seed.wrapping_mul(CLIENTS).wrapping_add(number));
        tasks.spawn_local(async move {
            while !over.get() {
                let client = &clients[random.below(3)];
                // An error is allowed: the proxy must release its resources in any case.
                let _ = use_connection(&mut random, client, address).await;
                connections.set(connections.get() + 1);
            }
        });
    }
    tasks.run_until(sleep(length)).await;
    over.set(true);
    tasks.await;
    connections.get()
}

fn milliseconds_below(random: &mut Random, limit: usize) -> Duration {
    Duration::from_millis(random.below(limit) as u64)
}

/// Opens one connection, sends up to four complete or incomplete requests, and ends the connection in a random way.
async fn use_connection(random: &mut Random, client: &Client, address: SocketAddr) -> io::Result<()> {
    if random.below(10) == 0 {
        let socket = client::connect_from(address, Ipv4Addr::LOCALHOST).await?;
        sleep(milliseconds_below(random, 50)).await;
        drop(socket);
        return Ok(());
    }
    let mut connection = LoadConnection::open(client, address, Ipv4Addr::LOCALHOST).await?;
    for _ in 0..random.below(5) {
        match random.below(6) {
            0 => drop(connection.get("/events").await?),
            1 => drop(connection.get("/denied/%2F").await?),
            2 => {
                connection
                    .send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nhalf")
                    .await?
            }
            3 => connection.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await?,
            4 => drop(connection.get("/slow").await?),
            _ => connection.send("GET /ev").await?,
        }
    }
    sleep(milliseconds_below(random, 20)).await;
    if random.below(2) == 0 {
        connection.abort();
    }
    Ok(())
}
