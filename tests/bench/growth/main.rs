//! The growth of Sidegate's cost: CPU per request and memory for more connections, rules, bodies, headers and workers; the time
//! to start; and the cost of audit records. The real binary runs on loopback, as in `tests/load`; clients and backend run in
//! this process.
//!
//! `cargo bench --bench growth` measures everything in some minutes and writes `tests/bench/growth.json`. Names after `--`
//! choose measurements; the figures of the others stay. `growth.py` beside this folder draws the figures.
//!
//! The figures are the CPU time of the proxy's threads as the kernel accounts it: wall time means nothing on a machine that
//! the driver shares. Each figure is the median of [`REPETITIONS`] repetitions, which are measured in turns.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a driver reports an error by ending, and no other crate uses its items"
)]

mod backend;
#[expect(dead_code, reason = "the load scenarios use more items of this module")]
#[path = "../../load/client.rs"]
mod client;
mod figures;
mod record;
mod measured_proxy;
#[expect(dead_code, unused_imports, reason = "the promises use more items of this module")]
#[path = "../../support/mod.rs"]
mod support;
#[expect(dead_code, reason = "the benchmarks of decisions use more items of this module")]
#[path = "../workload.rs"]
mod workload;

use std::process::ExitCode;

use record::Record;

/// Number of measurements of each figure.
const REPETITIONS: usize = 3;

/// A measurement: its name, a description, and the function that returns the figures.
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
    // Cargo passes `--bench` as the first argument.
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
            record.write(name, measure());
        }
    }
    ExitCode::SUCCESS
}
