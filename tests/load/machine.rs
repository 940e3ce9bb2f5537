//! A machine in trouble: no descriptors, a full disk for the records, a clock that jumps, a process that was stopped for a
//! while, a tenth of a CPU.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::report::Report;
use crate::support::{Proxy, Setup};

pub fn run(report: &mut Report, length: Duration) {
    let backend = Backend::start(Mood::Well);
    no_descriptors(report, &backend);
    full_disk(report, &backend);
    jumps(report, &backend);
    stopped(report, &backend, length);
    a_tenth_of_a_cpu(report, &backend);
}

fn quiet(backend: &Backend) -> Setup {
    let mut setup = Setup::new(&backend.url());
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    setup
}

fn no_descriptors(report: &mut Report, backend: &Backend) {
    let mut setup = quiet(backend).set("limits.max_connections", 10);
    setup.config["limits"]["lobby"]["max_connections"] = 500.into();
    let proxy = setup.start_within("ulimit -n 96");
    client::run(async {
        let producer = proxy.producer();
        let mut known = Connection::open(&producer, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(known.get("/events").await.unwrap().status, 200);
        let mut crowd = Vec::new();
        for _ in 0..300 {
            crowd.push(client::socket(proxy.address, Ipv4Addr::LOCALHOST).await.unwrap());
        }
        let (start, before) = (Instant::now(), proxy.process.cpu());
        let mut failed = 0;
        while start.elapsed() < Duration::from_secs(2) {
            failed += usize::from(known.get("/events").await.map_or(0, |answer| answer.status) != 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        report.none("no descriptors: requests of the known that failed", failed);
        let used = proxy.process.cpu() - before;
        report.at_most("no descriptors: CPU in 2 s", used, Duration::from_millis(500));
        drop(crowd);
        let start = Instant::now();
        while Connection::open(&producer, proxy.address, Ipv4Addr::LOCALHOST).await.is_err() {
            assert!(start.elapsed() < client::PATIENCE);
        }
        report.at_most(
            "no descriptors: new connections once they are back",
            start.elapsed(),
            Duration::from_secs(2),
        );
    });
    let errors = proxy.admin.metrics().value("sidegate_accept_errors_total");
    report.holds(
        "no descriptors: refusals of the kernel that were counted",
        errors,
        "at least 1",
        errors >= 1.0,
    );
}

fn full_disk(report: &mut Report, backend: &Backend) {
    let proxy = quiet(backend).set("log.audit", "/dev/full").start();
    let failed = client::run(async {
        let mut known =
            Connection::open(&proxy.producer(), proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
        let mut failed = 0;
        for _ in 0..500 {
            failed += usize::from(known.get("/events").await.map_or(0, |answer| answer.status) != 200);
        }
        failed
    });
    report.none("full disk: requests that failed", failed);
    let lost = || proxy.admin.metrics().labelled("sidegate_lines_dropped_total", &[("kind", "audit")]);
    let start = Instant::now();
    while lost() < 500.0 && start.elapsed() < client::PATIENCE {}
    report.holds("full disk: lost records that were counted", lost(), "500", (lost() - 500.0).abs() < 0.5);
}

/// What makes a process see another time of day (and the same monotonic clock).
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The time of day says what is valid, and nothing else: no time limit runs by it.
fn jumps(report: &mut Report, backend: &Backend) {
    if !Path::new(FAKETIME).exists() {
        assert!(std::env::var_os("CI").is_none(), "libfaketime is missing");
        return report.tells("the clock jumps", "not tried: libfaketime is not installed");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let clock_says = |offset: &str| fs::write(file.path(), offset).unwrap();
    clock_says("+0");
    let proxy = quiet(backend).start_with(|command| {
        command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", file.path());
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    client::run(async {
        let producer = proxy.producer();
        let open = || Connection::open(&producer, proxy.address, Ipv4Addr::LOCALHOST);
        let mut known = open().await.unwrap();
        // Its certificate is from an hour ago, and for a month.
        for (offset, expected) in [("+0", 200), ("+1d", 200), ("-1d", 401), ("+0", 200)] {
            clock_says(offset);
            // Who was nobody on a connection stays that.
            if offset == "+0" {
                known = open().await.unwrap();
                assert_eq!(known.get("/events").await.unwrap().status, 200);
            }
            for (what, connection) in [("an open", &mut known), ("a new", &mut open().await.unwrap())] {
                let answer = connection.get("/events").await.map_or(0, |answer| answer.status);
                let what = format!("the clock says {offset}: {what} connection");
                report.holds(&what, answer, &expected.to_string(), answer == expected);
            }
        }
    });
}

fn stopped(report: &mut Report, backend: &Backend, length: Duration) {
    let proxy = quiet(backend).start();
    let length = length.min(Duration::from_secs(10));
    client::run(async {
        let mut known =
            Connection::open(&proxy.producer(), proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(known.get("/events").await.unwrap().status, 200);
        proxy.process.signal("STOP");
        tokio::time::sleep(length).await;
        proxy.process.signal("CONT");
        let start = Instant::now();
        let answer = known.get("/events").await.map_or(0, |answer| answer.status);
        report.holds("stopped: the next answer on an open connection", answer, "200", answer == 200);
        report.at_most("stopped: until it came", start.elapsed(), Duration::from_secs(1));
    });
}

/// A control group of the kernel's, where this machine lets us make one.
struct Group(PathBuf);

impl Group {
    fn with_cpu_max(text: &str) -> Option<Self> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/sidegate-load-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        fs::write(group.0.join("cpu.max"), text).ok()?;
        Some(group)
    }

    fn takes(&self, proxy: &Proxy) -> Option<()> {
        fs::write(self.0.join("cgroup.procs"), proxy.process.id().to_string()).ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn a_tenth_of_a_cpu(report: &mut Report, backend: &Backend) {
    let proxy = quiet(backend).start();
    let group = Group::with_cpu_max("10000 100000");
    if group.as_ref().and_then(|group| group.takes(&proxy)).is_none() {
        return report.tells("a tenth of a CPU", "not tried: this machine lets nobody make control groups");
    }
    let (answered, wrong) = client::run(async {
        let (mut answered, mut wrong) = (0, 0);
        for (client, expected) in [(proxy.producer(), 200), (proxy.consumer(), 403), (proxy.anonymous(), 401)]
        {
            let mut connection = Connection::open(&client, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
            for _ in 0..100 {
                match connection.get("/events").await {
                    Ok(answer) if answer.status == expected => answered += 1,
                    _ => wrong += 1,
                }
            }
        }
        (answered, wrong)
    });
    drop(proxy);
    report.tells("a tenth of a CPU: answered", answered);
    report.none("a tenth of a CPU: answered otherwise than with a whole one", wrong);
}
