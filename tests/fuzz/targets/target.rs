//! Any text as the target of a request: an accepted target has one reading.
#![no_main]

#[expect(dead_code, reason = "each target calls one of the checks")]
#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| checks::target::check(text));
