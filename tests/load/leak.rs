//! Random traffic with random ends. Whatever it was, nothing is left of it: every gauge returns to where it was, and
//! memory stays what it is after a while.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::report::Report;
use crate::support::{Client, Proxy, Setup};

const CLIENTS: u64 = 60;
const GAUGES: [&str; 3] = ["sidegate_slots_used", "sidegate_connections", "sidegate_requests_in_flight"];

pub fn run(report: &mut Report, length: Duration) {
    let backend = Backend::start(Mood::Well);
    let mut setup = Setup::new(&backend.url()).set("limits.max_connections", 40);
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let proxy = setup.start();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    report.tells("seed", seed);
    let (first, mut most) = (client::run(visit(&proxy, seed, length / 2)), 0);
    let warm = proxy.process.resident();
    let second = client::run(visit(&proxy, seed + 1, length / 2));
    most = most.max(proxy.process.resident());
    report.tells("connections", first + second);
    for gauge in GAUGES {
        proxy.admin.wait_for(gauge, 0.0);
        report.holds(gauge, 0, "0, as at the start", true);
    }
    let limit = warm + warm / 10 + (4 << 20);
    let (used, limit) = (most >> 10, limit >> 10);
    report.holds("memory at the end", format!("{used} KiB"), &format!("at most {limit} KiB"), used <= limit);
}

/// A generator of its own: the same seed is the same traffic.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

async fn visit(proxy: &Proxy, seed: u64, length: Duration) -> usize {
    let (over, visits) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let tasks = tokio::task::LocalSet::new();
    for number in 0..CLIENTS {
        let clients = [proxy.producer(), proxy.consumer(), proxy.anonymous()];
        let (over, visits, address) = (Rc::clone(&over), Rc::clone(&visits), proxy.address);
        let mut random = Random(seed.wrapping_mul(CLIENTS).wrapping_add(number));
        tasks.spawn_local(async move {
            while !over.get() {
                let client = &clients[usize::try_from(random.below(3)).unwrap()];
                // However it ends, it is the proxy that must clean up.
                let _ = once(&mut random, client, address).await;
                visits.set(visits.get() + 1);
            }
        });
    }
    tasks.run_until(sleep(length)).await;
    over.set(true);
    tasks.await;
    visits.get()
}

async fn once(random: &mut Random, client: &Client, address: SocketAddr) -> io::Result<()> {
    if random.below(10) == 0 {
        let socket = client::socket(address, Ipv4Addr::LOCALHOST).await?;
        sleep(Duration::from_millis(random.below(50))).await;
        drop(socket);
        return Ok(());
    }
    let mut connection = Connection::open(client, address, Ipv4Addr::LOCALHOST).await?;
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
    sleep(Duration::from_millis(random.below(20))).await;
    if random.below(2) == 0 {
        connection.abort();
    }
    Ok(())
}
