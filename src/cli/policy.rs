//! `sidegate policy`: the tools for authors, one file for each command. They use the same engine as the proxy.

mod check;
mod diff;
mod explain;
mod replay;
mod schema;
mod test;
mod who_can;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use rustls::pki_types::CertificateDer;

use super::{Format, LARGEST_CERTIFICATE, NEGATIVE_ANSWER, Output, SUCCESS, instant, read_input};
use crate::diagnostic::{Code, Diagnostic, Source};
use crate::identity::Identity;
use crate::pem;
use crate::policy::identity_text::parse_identity;
use crate::policy::{self, Model};
use crate::reload::files::{self, AcceptedKinds, ReadError};
use crate::reload::policy_files;

/// Check, test, explain and change policies
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all errors and warnings of a policy
    Check(check::Check),
    /// Run the tests of a policy
    Test(test::Test),
    /// Show how a request is decided, and by which rules
    Explain(explain::Explain),
    /// List the client entries that may make a request
    WhoCan(who_can::WhoCan),
    /// Show what a change of policy newly allows and newly denies
    Diff(diff::Diff),
    /// Show the recorded decisions that a policy would make otherwise
    Replay(replay::Replay),
    /// Write a first policy from recorded requests
    Suggest(replay::Suggest),
    /// Print the JSON Schema of policies, for editors
    Schema(schema::Schema),
}

impl Command {
    /// Runs the command: results go to `out`, diagnostics to `err`. The exit code is 0 for success, 1 for a negative
    /// answer, 2 for bad input.
    pub fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
        let mut output = Output { out, err, colour: super::colour() };
        let done = match self {
            Self::Check(verb) => verb.run(&mut output),
            Self::Test(verb) => verb.run(&mut output),
            Self::Explain(verb) => verb.run(&mut output),
            Self::WhoCan(verb) => verb.run(&mut output),
            Self::Diff(verb) => verb.run(&mut output),
            Self::Replay(verb) => verb.run(&mut output),
            Self::Suggest(verb) => verb.run(&mut output),
            Self::Schema(verb) => verb.run(&mut output),
        };
        // A closed pipe (`| head`) is not an error: the reader wants no more.
        ExitCode::from(done.map_or(SUCCESS, |answer| answer))
    }
}

/// Reads policies without their test files.
fn load(paths: &[PathBuf]) -> Result<Model, Vec<Diagnostic>> {
    model(&policy_files::read(paths, AcceptedKinds::Streams)?)
}

/// Reads policies with the test files beside them.
fn load_with_tests(paths: &[PathBuf]) -> Result<Model, Vec<Diagnostic>> {
    model(&policy_files::read_with_tests(paths)?)
}

fn model(sources: &[Arc<Source>]) -> Result<Model, Vec<Diagnostic>> {
    policy::model(sources).map(|(model, _)| model)
}

/// Returns the identity in a certificate's file (PEM or DER, leaf first), valid or not.
fn identity_of_certificate(path: &Path) -> Result<Identity, Diagnostic> {
    identity_of(read_input(path, LARGEST_CERTIFICATE), path)
}

/// Returns the identity in a certificate's file that a policy names. Only a regular file is read: `policy test` runs
/// unattended, and a FIFO or standard input would block it.
fn identity_of_certificate_file(path: &Path) -> Result<Identity, Diagnostic> {
    identity_of(files::read(path, LARGEST_CERTIFICATE, AcceptedKinds::Regular), path)
}

fn identity_of(bytes: Result<Vec<u8>, ReadError>, path: &Path) -> Result<Identity, Diagnostic> {
    let wrong =
        |what: String| Diagnostic::error(Code::BadCertificate, format!("`{}` {what}", path.display()));
    let bytes = bytes.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let leaf = match pem::is_der(&bytes) {
        true => bytes.into(),
        false => leaf_of(&bytes).map_err(|flaw| {
            wrong(format!("has no certificate in it that can be read: {flaw}")).help(flaw.remedy())
        })?,
    };
    Identity::from_certificate(&leaf).map_err(|flaw| wrong(format!("gives no identity: {flaw}")))
}

fn leaf_of(pem: &[u8]) -> Result<CertificateDer<'static>, pem::PemFlaw> {
    pem::certificates(pem)?.into_iter().next().ok_or(pem::PemFlaw::Malformed)
}

/// Returns the source address of a request, or the default one.
fn address(source: Option<IpAddr>) -> IpAddr {
    source.unwrap_or(policy::test_run::DEFAULT_SOURCE)
}
