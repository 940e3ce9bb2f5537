//! Everything at once on this machine: a throw-away PKI, an embedded events backend, the shipped policies and the proxy.

pub mod events;
pub mod lines;
pub mod pki;
