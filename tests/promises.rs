//! The promises, one file each, in one program: a file of this folder is a module here.
//!
//! `cargo test --test promises slots` runs one of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test says what is wrong by panicking, and nothing of it is used elsewhere"
)]

mod admin;
mod admin_api;
mod admin_crowds;
mod ambiguous_requests;
mod attacks;
mod audit_records;
mod authorities;
mod backends;
mod bad_configuration;
mod certificate_tool;
mod certificates;
mod command_line;
mod configuration;
mod corpora;
mod dead_volume;
mod demo;
mod disconnects;
mod doctor;
mod documentation;
mod drain;
mod early_answers;
mod failing_backends;
mod floods;
mod forwarding;
mod fuzz_seeds;
mod fuzzing;
mod http_limits;
mod independent_verifier;
mod inject;
mod irregular_files;
mod kubernetes;
mod large_bodies;
mod lasting_authentication;
mod latencies;
mod lobby;
mod one_reading;
mod order_of_refusals;
mod page;
mod parts;
mod places;
mod policies;
mod policy_budget;
mod policy_diagnostics;
mod policy_reference;
mod policy_tools;
mod presented_chains;
mod proof_of_possession;
mod queue;
mod real_backends;
mod real_clients;
mod refusals;
mod release_profile;
mod reload;
mod resting;
mod revocation;
mod rotation;
mod secrets;
mod shares;
mod shutdown;
mod slots;
mod slow_clients;
mod spiffe;
mod strangers;
mod support;
mod traces;
mod trials;
mod unread_answers;
mod upgrades;
mod watching;

use std::fs;
use std::path::Path;

/// A file that is no module here would look like a test and never run.
#[test]
fn every_file_of_this_folder_is_part_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let root = fs::read_to_string(folder.join("promises.rs")).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "promises") {
            assert!(root.contains(&format!("\nmod {module};")), "add `mod {module};` to tests/promises.rs");
        }
    }
}
