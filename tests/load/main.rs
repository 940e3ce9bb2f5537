//! What Sidegate withstands: load, floods and faults against the real binary, on loopback, within bounds of count and time.
//!
//! `cargo test --test load -- all` runs every scenario for a few seconds each; `-- flood --seconds 600` runs one for longer.
//! (`--release` measures what users run.) Each prints its figures beside what they must be, and a scenario that does not hold
//! ends the program with 1. `cargo test` alone does not run it.

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
mod client;
mod drain;
mod faults;
mod flood;
mod frames;
mod full;
mod hole;
mod leak;
mod machine;
mod memory;
mod report;
mod strangers;
#[expect(dead_code, unused_imports, reason = "the promises use more of it")]
#[path = "../support/mod.rs"]
mod support;
mod taken_back;
mod windows;

use std::process::ExitCode;
use std::time::Duration;

use report::Report;

/// A scenario: its name, what it is about, and how it is run.
type Scenario = (&'static str, &'static str, fn(&mut Report, Duration));

const SCENARIOS: [Scenario; 11] = [
    ("flood", "strangers by the thousand, while those who are known go on", flood::run),
    ("strangers-chains", "strangers who present chains of every size", strangers::run),
    ("frames", "frames of HTTP/2 by the million", frames::run),
    ("full", "all slots are taken", full::run),
    ("faults", "a backend in every kind of trouble", faults::run),
    (
        "machine",
        "no descriptors, a full disk, a process that is stopped, a CPU that is not there",
        machine::run,
    ),
    ("drain", "a server that is asked to end under load", drain::run),
    ("taken-back", "requests that are taken back, and uploads that never end", taken_back::run),
    ("memory", "as much as the configuration lets clients hold", memory::run),
    ("windows", "answers that nobody reads, of strangers, denied and permitted clients", windows::run),
    ("leak", "random traffic with random ends, and nothing left of it", leak::run),
];

/// So long a scenario runs that has no end of its own.
const SHORT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut chosen, mut length) = (Vec::new(), SHORT);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                length = Duration::from_secs(seconds.expect("a number after --seconds"));
            }
            "all" => chosen.extend(SCENARIOS),
            // Not for people: a scenario calls this program so.
            hole::SERVE => {
                hole::serve(&arguments.next().expect("an address"));
                return ExitCode::SUCCESS;
            }
            name => match SCENARIOS.iter().find(|(known, ..)| *known == name) {
                Some(scenario) => chosen.push(*scenario),
                None => return usage(),
            },
        }
    }
    if chosen.is_empty() {
        return usage();
    }
    let mut report = Report::default();
    for (name, about, run) in chosen {
        report.begin(name, about);
        run(&mut report, length);
    }
    report.end()
}

fn usage() -> ExitCode {
    println!("cargo test --test load -- [all | SCENARIO…] [--seconds N]\n");
    for (name, about, _) in SCENARIOS {
        println!("  {name:<16} {about}");
    }
    ExitCode::from(2)
}
