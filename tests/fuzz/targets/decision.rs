//! The fuzz target of `bodies/decision.rs`, which the promises run too.
#![no_main]

#[path = "../bodies/decision.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| body::run(text));
