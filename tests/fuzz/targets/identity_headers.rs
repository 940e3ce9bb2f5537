//! Any text in a certificate: the identity headers contain the text, and no other header changes.
#![no_main]

#[expect(dead_code, reason = "each target calls one of the checks")]
#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| checks::identity_headers::check(text));
