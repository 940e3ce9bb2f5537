//! How the cost of Sidegate grows: CPU per request and memory, as connections, rules, bodies, headers and workers become more; how
//! long it takes to start, and what audit records cost. The real binary on loopback, as in `tests/load`, with clients and backend
//! in this process.
//!
//! `cargo bench --bench growth` measures everything in some minutes and writes `tests/bench/growth.json`; names of measurements
//! after `--` measure those alone, and keep the others' figures. `growth.py` beside it draws them.
//!
//! What is told is the proxy's own CPU time, from the kernel's accounts of its threads: on a machine that the driver shares, time by
//! the clock says nothing. Each figure is the median of [`REPETITIONS`] that are measured in turns.

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

mod backend;
#[expect(dead_code, reason = "the scenarios of load use more of it")]
#[path = "../../load/client.rs"]
mod client;
mod figures;
mod record;
mod stage;
#[expect(dead_code, unused_imports, reason = "the promises use more of it")]
#[path = "../../support/mod.rs"]
mod support;
#[expect(dead_code, reason = "the benchmarks of decisions use more of it")]
#[path = "../workload.rs"]
mod workload;

use std::process::ExitCode;

use record::Record;

/// Each figure is measured so often.
const REPETITIONS: usize = 3;

/// A measurement: its name, what it is about, and how it is made.
type Measurement = (&'static str, &'static str, fn() -> serde_json::Value);

const MEASUREMENTS: [Measurement; 7] = [
    ("start", "from exec to ready", figures::start),
    ("audit", "audit records to a file, and none", figures::audit),
    ("headers", "fields in a request", figures::headers),
    ("rules", "rules of the policy", figures::rules),
    ("bodies", "bodies, both ways", figures::bodies),
    ("connections", "connections in use, for one worker and two", figures::connections),
    ("memory", "connections at rest", figures::memory),
];

fn main() -> ExitCode {
    // Cargo says `--bench` before everything else.
    let named: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(unknown) = named.iter().find(|name| MEASUREMENTS.iter().all(|(known, ..)| known != name)) {
        eprintln!("no measurement `{unknown}`; there are:");
        MEASUREMENTS.iter().for_each(|(name, about, _)| eprintln!("  {name:<12} {about}"));
        return ExitCode::from(2);
    }
    let mut record = Record::read();
    for (name, about, measure) in MEASUREMENTS {
        if named.is_empty() || named.iter().any(|chosen| chosen == name) {
            println!("{name}: {about}");
            record.keep(name, measure());
        }
    }
    ExitCode::SUCCESS
}
