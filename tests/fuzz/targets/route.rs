//! See `bodies/route.rs`, which the ordinary tests run too.
#![no_main]

#[path = "../bodies/route.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| body::run(text));
