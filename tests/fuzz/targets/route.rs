//! The fuzz target of `bodies/route.rs`, which the promises run too.
#![no_main]

#[path = "../bodies/route.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| body::run(text));
