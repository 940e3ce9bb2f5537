//! Sidegate, a reverse-proxy authorization sidecar.
//!
//! It terminates mutual TLS, decides who the client is from its certificate and what it may do from YAML policies,
//! bounds how many connections the backend sees, and forwards what is allowed, byte for byte. Everything else it
//! answers itself, with one of the documented refusals.
//!
//! # The map
//!
//! The modules below stand in the order in which a request meets them.
//!
//! ```text
//! accept ─ lobby ─ TLS handshake ─ judge certificate ─┐            per connection
//!                                                     │
//! request ─ authenticated? ─ well-formed? ─ permitted? ─ slot? ─ in flight? ─ forward ─ respond
//!               │ no: 401        │ no: 400      │ no: 403    │ no: 504  │ no: 504     │ failed: 504
//! ```
//!
//! | layer | modules | knows |
//! | --- | --- | --- |
//! | words | [`refusal`], [`diagnostic`], [`document`], [`digest`], [`target`], [`client_headers`], [`trace_context`], [`leash`], [`pem`], [`secret`], [`token`], [`version`] | nothing of the others |
//! | pure | [`identity`], [`policy`], [`config`], [`inject`] | words; no I/O, no clock: time is an argument |
//! | effects | [`handshake`], [`admission`], [`forward`], [`reload`], [`telemetry`] | words and pure; not each other |
//! | story | [`gate`], [`client`], [`reply`], [`connection`], [`listener`], [`worker`], [`admin`] | all of the above |
//! | outside | [`app`], [`descriptors`], [`cli`], [`demo`] | everything |
//!
//! [`gate`] is the story of a request on one screen: each step needs what only the step before it can give. Only
//! [`policy`] makes a `Permit`, only a `Permit` gets a slot from [`admission`], and only what was admitted is taken by [`forward`].
//!
//! Each third-party crate has one door: YAML is known to [`document`] alone, the HTTP client to [`forward`], webpki and
//! the X.509 parser to [`identity`], the metrics crate to [`telemetry`].
//!
//! # Pages that comments cite
//!
//! "DESIGN §2.1" is that section of [`design`], the contract. "Case 32" in a test is that row of `tests/attacks/README.md`, the
//! classes of attacks. [`runbook`] is for operators, `CONTRIBUTING.md` for contributors.

pub mod listener;
pub mod worker;
pub mod connection;
pub mod handshake;
pub mod gate;
pub mod client;
pub mod identity;
pub mod target;
pub mod client_headers;
pub mod trace_context;
pub mod policy;
pub mod admission;
pub mod forward;
pub mod refusal;
pub mod reply;
pub mod unread;
pub mod pieces;

pub mod app;
pub mod descriptors;
pub mod config;
pub mod inject;
pub mod live;
pub mod reload;
pub mod files;
pub mod policy_files;
pub mod trust_files;
pub mod document;
pub mod diagnostic;
mod digest;
pub mod leash;
pub mod pem;
pub mod secret;
pub mod token;
pub mod version;
pub mod telemetry;
pub mod admin;
pub mod cli;
pub mod demo;
#[doc = include_str!("../docs/design.md")]
pub mod design {}
#[doc = include_str!("../deploy/RUNBOOK.md")]
pub mod runbook {}
