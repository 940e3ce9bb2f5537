//! Any headers and trailers of a client: forbidden ones are removed, and no other is lost.
#![no_main]

#[expect(dead_code, reason = "each target calls one of the checks")]
#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| checks::stripping::check(text));
