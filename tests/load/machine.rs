//! Faults of the machine: no free file descriptors, a full disk for audit records, a clock that jumps, a stopped process, a
//! tenth of a CPU.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::report::Report;
use crate::support::{Proxy, Setup};

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    no_free_descriptors(report, &backend);
    full_disk(report, &backend);
    clock_jumps(report, &backend);
    stopped_process(report, &backend, length);
    tenth_of_a_cpu(report, &backend);
}

fn without_audit(backend: &FaultyBackend) -> Setup {
    Setup::new(&backend.url()).set("log.audit", "none")
}

async fn open_producer(proxy: &Proxy) -> LoadConnection {
    LoadConnection::open(&proxy.producer(), proxy.address, Ipv4Addr::LOCALHOST).await.unwrap()
}

async fn status_of(connection: &mut LoadConnection) -> u16 {
    connection.get("/events").await.map_or(0, |answer| answer.status)
}

fn no_free_descriptors(report: &mut Report, backend: &FaultyBackend) {
    let setup = without_audit(backend).set("limits.max_connections", 10);
    let proxy = setup.set("limits.lobby.max_connections", 500).start_in_shell("ulimit -n 96");
    client::run(async {
        let mut authenticated = open_producer(&proxy).await;
        assert_eq!(status_of(&mut authenticated).await, 200);
        let mut strangers = Vec::new();
        for _ in 0..300 {
            strangers.push(client::connect_from(proxy.address, Ipv4Addr::LOCALHOST).await.unwrap());
        }
        let (start, before) = (Instant::now(), proxy.process.cpu());
        let mut failed = 0;
        while start.elapsed() < Duration::from_secs(2) {
            failed += usize::from(status_of(&mut authenticated).await != 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        report.check_none("no descriptors: requests of authenticated clients that failed", failed);
        let used = proxy.process.cpu() - before;
        report.check_at_most("no descriptors: CPU in 2 s", used, Duration::from_millis(500));
        drop(strangers);
        let (start, producer) = (Instant::now(), proxy.producer());
        while LoadConnection::open(&producer, proxy.address, Ipv4Addr::LOCALHOST).await.is_err() {
            assert!(start.elapsed() < client::DEADLINE);
        }
        let what = "no descriptors: time to a new connection after descriptors are free";
        report.check_at_most(what, start.elapsed(), Duration::from_secs(2));
    });
    let errors = proxy.admin.metrics().value("sidegate_accept_errors_total");
    report.check("no descriptors: counted accept errors", errors, "at least 1", errors >= 1.0);
}

fn full_disk(report: &mut Report, backend: &FaultyBackend) {
    let proxy = without_audit(backend).set("log.audit", "/dev/full").start();
    let failed = client::run(async {
        let mut authenticated = open_producer(&proxy).await;
        let mut failed = 0;
        for _ in 0..500 {
            failed += usize::from(status_of(&mut authenticated).await != 200);
        }
        failed
    });
    report.check_none("full disk: requests that failed", failed);
    let lost = || proxy.admin.metrics().labelled("sidegate_lines_dropped_total", &[("kind", "audit")]);
    let start = Instant::now();
    while lost() < 500.0 && start.elapsed() < client::DEADLINE {}
    report.check("full disk: counted records that were lost", lost(), "500", (lost() - 500.0).abs() < 0.5);
}

/// The library that gives a process another time of day, and leaves the monotonic clock as it is.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Checks that the time of day decides only about validity, and that no timeout depends on it.
fn clock_jumps(report: &mut Report, backend: &FaultyBackend) {
    if !Path::new(FAKETIME).exists() {
        assert!(std::env::var_os("CI").is_none(), "libfaketime is missing");
        return report.show("the clock jumps", "not tried: libfaketime is not installed");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let set_clock = |offset: &str| fs::write(file.path(), offset).unwrap();
    set_clock("+0");
    let proxy = without_audit(backend).start_with(|command| {
        command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", file.path());
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    client::run(async {
        let mut open = open_producer(&proxy).await;
        // The certificate is valid from one hour ago for one month.
        for (offset, expected) in [("+0", 200), ("+1d", 200), ("-1d", 401), ("+0", 200)] {
            set_clock(offset);
            // The connection of a client that lost its identity has ended, so the next round needs a new one.
            if offset == "+0" {
                open = open_producer(&proxy).await;
                assert_eq!(status_of(&mut open).await, 200);
            }
            for (what, connection) in [("an open", &mut open), ("a new", &mut open_producer(&proxy).await)] {
                let status = status_of(connection).await;
                let what = format!("the clock says {offset}: {what} connection");
                report.check(&what, status, &expected.to_string(), status == expected);
            }
        }
    });
}

fn stopped_process(report: &mut Report, backend: &FaultyBackend, length: Duration) {
    let proxy = without_audit(backend).start();
    let length = length.min(Duration::from_secs(10));
    client::run(async {
        let mut authenticated = open_producer(&proxy).await;
        assert_eq!(status_of(&mut authenticated).await, 200);
        proxy.process.signal("STOP");
        tokio::time::sleep(length).await;
        proxy.process.signal("CONT");
        let start = Instant::now();
        let status = status_of(&mut authenticated).await;
        report.check(
            "stopped: status of the next answer on an open connection",
            status,
            "200",
            status == 200,
        );
        report.check_at_most("stopped: time to that answer", start.elapsed(), Duration::from_secs(1));
    });
}

/// A control group of the kernel; removed when dropped.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// Returns `None` if the machine does not allow new control groups.
    fn with_cpu_max(limit: &str) -> Option<Self> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/sidegate-load-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        fs::write(group.0.join("cpu.max"), limit).ok()?;
        Some(group)
    }

    fn add(&self, proxy: &Proxy) -> Option<()> {
        fs::write(self.0.join("cgroup.procs"), proxy.process.id().to_string()).ok()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn tenth_of_a_cpu(report: &mut Report, backend: &FaultyBackend) {
    let proxy = without_audit(backend).start();
    let group = ControlGroup::with_cpu_max("10000 100000");
    if group.as_ref().and_then(|group| group.add(&proxy)).is_none() {
        return report.show("a tenth of a CPU", "not tried: this machine does not allow new control groups");
    }
    let (answered, wrong) = client::run(async {
        let (mut answered, mut wrong) = (0, 0);
        for (client, expected) in [(proxy.producer(), 200), (proxy.consumer(), 403), (proxy.anonymous(), 401)]
        {
            let mut connection =
                LoadConnection::open(&client, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
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
    report.show("a tenth of a CPU: answered", answered);
    report.check_none("a tenth of a CPU: answers that differ from those with a whole CPU", wrong);
}
