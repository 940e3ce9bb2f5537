//! Any headers and trailers of a client: what it may not say never passes, and nothing else is lost.
#![no_main]

#[expect(dead_code, reason = "each target calls one of them")]
#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| checks::stripping::check(text));
