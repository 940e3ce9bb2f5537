//! Sidegate, a reverse-proxy authorization sidecar.
#![doc = ""]
pub mod demo;
pub mod diagnostic;
pub mod identity;
pub mod policy;
pub mod target;
