//! A proxy with its clients' connections, ready to be asked.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend;
use crate::client::LoadConnection;
use crate::support::{Client, Proxy, Setup};

/// So many requests are under way at once, where there are as many connections.
const AT_ONCE: usize = 64;

/// What differs from the usual: bounds that nothing here reaches, and no records.
pub fn setup(workers: usize) -> Setup {
    let mut setup = Setup::new(&backend::start()).set("workers", workers);
    setup.config["log"] = json!({ "audit": "none" });
    setup.config["limits"] = json!({
        "max_connections": 100_000,
        "idle_timeout": "30m",
        "lobby": {
            "max_connections": 100_000,
            "max_per_source": 100_000,
            "connections_per_second": 1_000_000,
            "idle_timeout": "30m",
        },
    });
    setup
}

/// With one worker, and a record of every decision in a file if they are asked for.
pub fn recording(records: bool) -> Setup {
    let mut setup = setup(1);
    if records {
        setup.config["log"] = json!({ "audit": setup.path("audit.jsonl") });
    }
    setup
}

/// Starts it with as many descriptors as this machine lets it have.
pub fn start(setup: Setup) -> Proxy {
    setup.start_in_shell("ulimit -n $(ulimit -Hn)")
}

pub struct Stage {
    proxy: Proxy,
    runtime: tokio::runtime::Runtime,
    connections: Vec<LoadConnection>,
}

impl Stage {
    pub fn of(setup: Setup) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { proxy: start(setup), runtime, connections: Vec::new() }
    }

    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Opens connections until there are so many, each of which has been answered once.
    pub fn open(&mut self, client: &Client, count: usize, request: &str) {
        let to = self.proxy.address;
        while self.connections.len() < count {
            // Of several addresses: one has no more than some 28,000 ports.
            let from = Ipv4Addr::new(127, 0, 3, u8::try_from(1 + self.connections.len() / 10_000).unwrap());
            let opening = async {
                let mut connection = LoadConnection::open(client, to, from).await.unwrap();
                connection.ask(request).await.unwrap();
                connection
            };
            self.connections.push(self.runtime.block_on(opening));
        }
    }

    /// CPU time of the proxy for one request, in microseconds, when so many are asked on all connections in turn.
    pub fn cost(&mut self, requests: usize, request: &str, expected: u16) -> f64 {
        self.ask(requests / 10 + 1, request, expected);
        let before = self.proxy.process.cpu();
        let asked = self.ask(requests, request, expected);
        let used = self.proxy.process.cpu() - before;
        used.as_secs_f64() * 1e6 / asked as f64
    }

    /// Returns how many were asked: about as many, and as many of each.
    fn ask(&mut self, requests: usize, request: &str, expected: u16) -> usize {
        let tasks = self.connections.len().min(AT_ONCE);
        let each = requests.div_ceil(tasks);
        let share = self.connections.len().div_ceil(tasks);
        let all = std::mem::take(&mut self.connections);
        let mut all = all.into_iter();
        let work = tokio::task::LocalSet::new();
        let mut running = Vec::new();
        loop {
            let own: Vec<_> = all.by_ref().take(share).collect();
            if own.is_empty() {
                break;
            }
            running.push(work.spawn_local(ask_in_turn(own, each, request.to_owned(), expected)));
        }
        let asked = running.len() * each;
        for task in running {
            let own = self.runtime.block_on(work.run_until(task)).unwrap();
            self.connections.extend(own);
        }
        asked
    }

    /// Memory of the proxy, in bytes, when nothing has happened for a while.
    pub fn memory_at_rest(&self) -> u64 {
        // Not for an event: what is measured is that nothing happens.
        std::thread::sleep(Duration::from_secs(3));
        self.proxy.process.resident_memory()
    }
}

async fn ask_in_turn(
    mut own: Vec<LoadConnection>,
    requests: usize,
    request: String,
    expected: u16,
) -> Vec<LoadConnection> {
    let count = own.len();
    for number in 0..requests {
        let answer = own[number % count].ask(&request).await.unwrap();
        assert_eq!(answer.status, expected, "{request}");
    }
    own
}

/// A request without a body, with these fields beside `Host`.
pub fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

pub fn post(path: &str, length: usize) -> String {
    let body = "a".repeat(length);
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The median of a row of figures with the least and the most of it, to a hundredth.
pub fn spread(mut figures: Vec<f64>) -> Value {
    figures.sort_by(f64::total_cmp);
    let round = |figure: f64| (figure * 100.0).round() / 100.0;
    let (low, high) = (figures[0], figures[figures.len() - 1]);
    json!({ "median": round(figures[figures.len() / 2]), "low": round(low), "high": round(high) })
}

/// So many connections a process may have here, with some descriptors left for the rest.
pub fn most_connections() -> usize {
    let told = std::process::Command::new("sh").args(["-c", "ulimit -n"]).output().unwrap();
    let limit = String::from_utf8_lossy(&told.stdout).trim().parse().unwrap_or(1024);
    usize::saturating_sub(limit, 300)
}
