//! Sidegate, a reverse-proxy authorization sidecar.

pub mod diagnostic;
pub mod document;
pub mod identity;
pub mod policy;
pub mod target;
