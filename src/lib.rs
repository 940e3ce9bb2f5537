//! Sidegate, a reverse-proxy authorization sidecar.
//!
//! It terminates mutual TLS, decides who the client is from its certificate and what it may do from YAML policies,
//! bounds how many connections the backend sees, and forwards what is allowed, byte for byte. Everything else it
//! answers itself, with one of the documented refusals.
//!
//! # The course of a request
//!
//! ```text
//! accept ─ lobby ─ TLS handshake ─ judge certificate ─┐            per connection
//!                                                     │
//! request ─ authenticated? ─ well-formed? ─ permitted? ─ slot? ─ in flight? ─ forward ─ respond
//!               │ no: 401        │ no: 400      │ no: 403    │ no: 504  │ no: 504     │ failed: 504
//! ```
//!
//! [`proxy::gate`] has this course on one screen. Each step needs what only the step before it can give: only [`policy`]
//! makes a `Permit`, only a `Permit` gets a slot from [`admission`], and only what was admitted is taken by [`forward`].
//!
//! # The map
//!
//! A module uses only modules that stand before it in this table. A test holds the table and the code to each other
//! (`tests/operations/map.rs`).
//!
//! | layer | modules | rule |
//! | --- | --- | --- |
//! | words | [`version`], [`protocol`], [`stop`], [`atomic_instant`], [`from_files`], [`digest`], [`token`], [`trace_context`], [`client_headers`], [`target`], [`pem`], [`redact`], [`printable`], [`handshake_failure`], [`diagnostic`], [`secret`], [`document`] | small types without a domain of their own, which every layer may use |
//! | pure | [`identity`], [`policy`], [`inject`], [`refusal`] | decisions; no runtime, sockets, clock, files or logs: the time is an argument |
//! | services | [`handshake`], [`admission`], [`forward`], [`telemetry`] | do not know each other, nor their callers; [`forward`] takes what [`admission`] has admitted |
//! | state | [`live`], [`config`] | the snapshot that requests see; the settings of every module, read from `sidegate.yaml` |
//! | proxy | [`proxy`] | the data path: listener, worker, serve, gate, reply, session, services, client |
//! | outside | [`reload`], [`admin`], [`app`], [`demo`], [`cli`] | files and signals, the admin listener, the process, the command line |
//!
//! Each third-party crate has one door: only [`document`] knows the YAML crate, only [`forward`] the HTTP client, only
//! [`identity`] webpki and the X.509 parser, only [`telemetry`] and [`admin`] the metrics crate.
//!
//! # Pages that comments cite
//!
//! "DESIGN §2.1" is that section of [`design`], the contract. "Case 32" in a test is that row of `tests/attacks/README.md`, the
//! classes of attacks. [`runbook`] is for operators, `CONTRIBUTING.md` for contributors.

// Words.
pub(crate) mod atomic_instant;
pub mod client_headers;
pub mod diagnostic;
pub(crate) mod digest;
pub mod document;
pub(crate) mod from_files;
pub mod handshake_failure;
pub mod pem;
pub(crate) mod printable;
pub mod protocol;
pub(crate) mod redact;
pub(crate) mod secret;
pub(crate) mod stop;
pub mod target;
pub(crate) mod token;
pub(crate) mod trace_context;
pub(crate) mod version;

// Pure.
pub mod identity;
pub mod inject;
pub mod policy;
pub mod refusal;

// Services.
pub mod admission;
pub mod forward;
pub(crate) mod handshake;
pub mod telemetry;

// State.
pub mod config;
pub(crate) mod live;

pub mod proxy;

// Outside.
pub(crate) mod admin;
pub(crate) mod app;
pub mod cli;
pub mod demo;
pub mod reload;

#[doc = include_str!("../docs/design.md")]
pub mod design {}
#[doc = include_str!("../deploy/RUNBOOK.md")]
pub mod runbook {}
