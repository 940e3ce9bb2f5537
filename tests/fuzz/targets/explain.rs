//! The fuzz target of `bodies/explain.rs`, which the promises run too.
#![no_main]

#[path = "../bodies/explain.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| body::run(text));
