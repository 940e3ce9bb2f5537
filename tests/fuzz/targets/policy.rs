//! The fuzz target of `bodies/policy.rs`, which the promises run too.
#![no_main]

#[path = "../bodies/policy.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| body::run(text));
