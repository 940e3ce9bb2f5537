//! Load, floods and faults against the real binary on loopback, within documented bounds.
//!
//! `cargo test --test load -- all` runs every scenario for a few seconds each; `-- flood --seconds 600` runs one for longer.
//! `--release` measures the build that users run. Each scenario prints its figures beside the required values. The exit code
//! is 1 if a figure is wrong. `cargo test` alone runs no scenario.

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
mod canceled;
mod client;
mod drain;
mod faults;
mod flood;
mod frames;
mod full;
mod leak;
mod machine;
mod memory;
mod namespace;
mod records;
mod report;
mod strangers;
#[expect(dead_code, unused_imports, reason = "the promises use more items of this module")]
#[path = "../support/mod.rs"]
mod support;
mod windows;

use std::process::ExitCode;
use std::time::Duration;

use report::Report;

/// A scenario: its name, a description, and the function that runs it.
type Scenario = (&'static str, &'static str, fn(&mut Report, Duration));

const SCENARIOS: [Scenario; 12] = [
    ("flood", "a thousand strangers beside authenticated clients", flood::run),
    ("strangers-chains", "strangers that present certificate chains of every size", strangers::run),
    ("frames", "floods of HTTP/2 frames", frames::run),
    ("full", "all slots are used", full::run),
    ("faults", "every kind of fault of the backend", faults::run),
    (
        "machine",
        "no descriptors, a full disk, clock jumps, a stopped process, a tenth of a CPU",
        machine::run,
    ),
    ("drain", "a shutdown under load", drain::run),
    ("taken-back", "canceled requests, and uploads that never end", canceled::run),
    ("memory", "the most memory that the configuration lets clients use", memory::run),
    ("windows", "unread answers to strangers, denied and permitted clients", windows::run),
    ("records", "random clients that leave at every point, and the records of all they did", records::run),
    ("leak", "random traffic that leaves no resource in use", leak::run),
];

/// Length of a scenario that does not end by itself.
const DEFAULT_LENGTH: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut chosen, mut length) = (Vec::new(), DEFAULT_LENGTH);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                length = Duration::from_secs(seconds.expect("a number after --seconds"));
            }
            "all" => chosen.extend(SCENARIOS),
            // A scenario starts this program as its backend; the argument is not documented.
            namespace::SERVE => {
                namespace::serve(&arguments.next().expect("an address"));
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
