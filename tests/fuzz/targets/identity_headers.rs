//! Any text in a certificate: the headers that tell it stay what they are, and give it back.
#![no_main]

#[expect(dead_code, reason = "each target calls one of them")]
#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| checks::identity_headers::check(text));
