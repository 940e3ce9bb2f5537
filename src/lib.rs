//! Sidegate, a reverse-proxy authorization sidecar.

pub mod admin;
pub mod admission;
pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod connection;
pub mod demo;
pub mod diagnostic;
pub mod document;
pub mod forward;
pub mod gate;
pub mod handshake;
pub mod identity;
pub mod leash;
pub mod listener;
pub mod live;
pub mod policy;
pub mod policy_files;
pub mod refusal;
pub mod reload;
pub mod reply;
pub mod target;
pub mod telemetry;
pub mod unread;
pub mod worker;
