//! The promises, in one program: each folder is a subject, and each file of it is a promise.
//!
//! `cargo test --test promises slots` runs the promises whose name contains `slots`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test says what is wrong by panicking, and nothing of it is used elsewhere"
)]

/// Inputs that are dangerous for a proxy of this kind, each with its right outcome. `tests/attacks/README.md` lists the
/// classes by number; a test cites the numbers of what it tries (`Case 32`).
mod attacks {
    mod ambiguous_requests;
    mod bad_backends;
    mod bad_http2_backends;
    mod citations;
    mod conditions;
    mod fixture;
    mod floods;
    mod frames_of_http2;
    mod framing;
    mod framing_tables;
    mod fuzz_seeds;
    mod fuzzing;
    mod headers;
    mod identity;
    mod mixed_requests;
    mod names;
    mod one_reading;
    mod outcomes;
    mod paths;
    mod requests_of_http2;
}

/// Which certificates are identities, for how long, and what an operator learns of them.
mod certificates {
    mod authorities;
    mod certificate_tool;
    mod corpora;
    mod identities;
    mod independent_verifier;
    mod lasting_authentication;
    mod mended_refusals;
    mod presented_chains;
    mod proof_of_possession;
    mod revocation;
    mod rotation;
    mod spiffe;
}

/// Commands, configuration, output and monitoring for operators.
mod operations {
    mod admin;
    mod admin_access;
    mod admin_api;
    mod admin_crowds;
    mod admin_schema;
    mod audit_records;
    mod bad_configuration;
    mod command_line;
    mod configuration;
    mod damaged_keys;
    mod dead_volume;
    mod demo;
    mod doctor;
    mod documentation;
    mod drain;
    mod failed_handshakes;
    mod full_disk;
    mod inject;
    mod irregular_files;
    mod key_files;
    mod keys_in_place_of_paths;
    mod kubernetes;
    mod map;
    mod latencies;
    mod parts;
    mod playground;
    mod release_profile;
    mod records_of_certificates;
    mod reload;
    mod secrets_of_clients;
    mod shutdown;
    mod traces;
    mod watching;
}

/// The page of the admin listener.
mod page {
    mod browser;
}

/// The meaning of policies, and the tools for their authors.
mod policies {
    mod files_and_folders;
    mod policy_budget;
    mod policy_diagnostics;
    mod policy_reference;
    mod policy_tools;
    mod trials;
}

/// Connections, requests and answers.
mod traffic {
    mod backend_answers;
    mod backend_connections;
    mod backend_errors;
    mod backends;
    mod bodies;
    mod disconnects;
    mod early_answers;
    mod failing_backends;
    mod forwarding_headers;
    mod going_away;
    mod headers;
    mod http_limits;
    mod identity_headers;
    mod interim_answers;
    mod kept_backend_connections;
    mod large_bodies;
    mod lobby;
    mod lost_clients;
    mod order_of_refusals;
    mod pipelining;
    mod places;
    mod places_of_one_client;
    mod places_of_unread_answers;
    mod queue;
    mod real_backends;
    mod real_clients;
    mod refusals;
    mod request_targets;
    mod requests_taken_back;
    mod resting;
    mod route_timeouts;
    mod shares;
    mod slots;
    mod slow_clients;
    mod slow_readers;
    mod strangers;
    mod table_of_clients;
    mod unread_answers;
    mod upgrades;
    mod versions_of_http;
}

mod support;

use std::fs;
use std::path::Path;

/// Folders beside the promises: other programs, and data that several of these read.
const NO_PROMISES: [&str; 6] = ["bench", "clients", "fuzz", "load", "support", "trial"];

/// A file that is no module of this program would look like a test and never run.
#[test]
fn every_file_of_a_subject_is_part_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let root = fs::read_to_string(folder.join("promises.rs")).unwrap();
    for subject in names_in(&folder).iter().filter(|name| !NO_PROMISES.contains(&name.as_str())) {
        if subject == "promises.rs" {
            continue;
        }
        let (_, rest) = root.split_once(&format!("\nmod {subject} {{\n")).expect(subject);
        let (modules, _) = rest.split_once("\n}\n").unwrap();
        for name in names_in(&folder.join(subject)) {
            if let Some(module) = name.strip_suffix(".rs") {
                let line = format!("    mod {module};");
                assert!(modules.lines().any(|other| other == line), "add `mod {module};` to `{subject}`");
            }
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
