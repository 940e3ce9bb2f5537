//! A proxy with open connections of clients, whose CPU time and memory are measured.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend;
use crate::client::{self, LoadConnection};
use crate::support::{Client, Proxy, Setup};

/// Largest number of requests in flight.
const MAX_IN_FLIGHT: usize = 64;

/// Returns a configuration without audit records and with limits that no measurement reaches.
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

/// Destination of the audit records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditRecords {
    None,
    File,
}

/// Returns a configuration with one worker and these audit records.
pub fn setup_with_audit(records: AuditRecords) -> Setup {
    let setup = setup(1);
    match records {
        AuditRecords::None => setup,
        AuditRecords::File => {
            let file = setup.path("audit.jsonl");
            setup.set("log.audit", file.to_str().unwrap())
        }
    }
}

/// Starts the proxy with the highest limit of file descriptors that this machine allows.
pub fn start_proxy(setup: Setup) -> Proxy {
    setup.start_in_shell("ulimit -n $(ulimit -Hn)")
}

pub struct MeasuredProxy {
    proxy: Proxy,
    runtime: tokio::runtime::Runtime,
    connections: Vec<LoadConnection>,
}

impl MeasuredProxy {
    pub fn start(setup: Setup) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { proxy: start_proxy(setup), runtime, connections: Vec::new() }
    }

    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Opens connections until there are `count`, and sends one request on each new connection.
    pub fn open(&mut self, client: &Client, count: usize, request: &str) {
        let to = self.proxy.address;
        while self.connections.len() < count {
            // One address has only some 28,000 ports, so the connections come from several addresses.
            let from = Ipv4Addr::new(127, 0, 3, u8::try_from(1 + self.connections.len() / 10_000).unwrap());
            let opening = async {
                let mut connection = LoadConnection::open(client, to, from).await.unwrap();
                connection.ask(request).await.unwrap();
                connection
            };
            self.connections.push(self.runtime.block_on(opening));
        }
    }

    /// Returns the CPU time of the proxy for one request, in microseconds, after some requests to warm up.
    pub fn cpu_of_request(&mut self, requests: usize, request: &str, expected: u16) -> f64 {
        self.send(requests / 10 + 1, request, expected);
        let before = self.proxy.process.cpu();
        let sent = self.send(requests, request, expected);
        let used = self.proxy.process.cpu() - before;
        used.as_secs_f64() * 1e6 / sent as f64
    }

    /// Sends about this number of requests, equally many from each task, on all connections in turn; returns the number.
    fn send(&mut self, requests: usize, request: &str, expected: u16) -> usize {
        let tasks = self.connections.len().min(MAX_IN_FLIGHT);
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
            running.push(work.spawn_local(send_in_turn(own, each, request.to_owned(), expected)));
        }
        let sent = running.len() * each;
        for task in running {
            let own = self.runtime.block_on(work.run_until(task)).unwrap();
            self.connections.extend(own);
        }
        sent
    }

    /// Waits until the memory of the proxy stops changing, and returns it in bytes.
    pub fn memory_at_rest(&self) -> u64 {
        let start = Instant::now();
        let (mut memory, mut since) = (self.proxy.process.resident_memory(), Instant::now());
        while since.elapsed() < STABLE && start.elapsed() < client::DEADLINE {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.proxy.process.resident_memory();
            if now != memory {
                (memory, since) = (now, Instant::now());
            }
        }
        memory
    }
}

/// Duration without a change after which the memory counts as stable.
const STABLE: Duration = Duration::from_secs(3);

async fn send_in_turn(
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

/// Returns a request without a body, with these fields after `Host`.
pub fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

pub fn post(path: &str, length: usize) -> String {
    let body = "a".repeat(length);
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Returns the median, the lowest and the highest figure, rounded to a hundredth.
pub fn spread(mut figures: Vec<f64>) -> Value {
    figures.sort_by(f64::total_cmp);
    let round = |figure: f64| (figure * 100.0).round() / 100.0;
    let (low, high) = (figures[0], figures[figures.len() - 1]);
    json!({ "median": round(figures[figures.len() / 2]), "low": round(low), "high": round(high) })
}

/// Returns the number of connections that a process may have on this machine; 300 descriptors are left for other files.
pub fn most_connections() -> usize {
    let output = std::process::Command::new("sh").args(["-c", "ulimit -n"]).output().unwrap();
    let limit = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(1024);
    usize::saturating_sub(limit, 300)
}
