//! The command line: one file for each command. Results go to standard output, diagnostics to standard error. The exit
//! code is 0 for success, 1 for a negative answer, 2 for bad input.

mod cert;
mod completions;
mod demo;
mod doctor;
mod drain;
mod inject;
mod man;
pub mod policy;
mod run;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::diagnostic::{Code, Colour, Diagnostic};
use crate::redact;
use crate::reload::files::{self, AcceptedKinds, ReadError};
use crate::version;

/// Exit code of bad input: a file or an argument cannot be used.
pub(crate) const BAD_INPUT: u8 = 2;

/// Exit code of success.
const SUCCESS: u8 = 0;
/// Exit code of a negative answer.
const NEGATIVE_ANSWER: u8 = 1;

/// Bound of the size of a certificate file, in bytes.
const LARGEST_CERTIFICATE: u64 = 16 << 20;

/// The streams that a command writes to.
struct Output<'o> {
    out: &'o mut dyn Write,
    err: &'o mut dyn Write,
    colour: Colour,
}

impl Output<'_> {
    /// Writes problems to standard error and returns the exit code of bad input.
    fn bad_input(&mut self, problems: &[Diagnostic]) -> io::Result<u8> {
        for problem in problems {
            writeln!(self.err, "{}", problem.human(self.colour))?;
        }
        Ok(BAD_INPUT)
    }
}

/// Form of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Human,
    /// JSON for programs
    Json,
}

/// A reverse-proxy authorization sidecar: it authenticates clients by mutual TLS, decides each request by YAML
/// policies, and forwards what is allowed
#[derive(Debug, Parser)]
#[command(name = "sidegate", version = version::FULL, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy
    Run(run::Run),
    /// Start a demonstration on this machine, with example commands to paste
    Demo(demo::Demo),
    /// Check, test, explain and change policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Show the contents of a certificate, and whether the proxy would accept it
    Cert(cert::Cert),
    /// Check an installation for present and coming problems
    Doctor(doctor::Doctor),
    /// Print the manual page of a command, or write the pages of all commands
    Man(man::Man),
    /// Print a shell's completion script
    Completions(completions::Completions),
    Inject(Box<inject::Inject>),
    Drain(drain::Drain),
}

impl Cli {
    /// Reads the command line of this process.
    ///
    /// # Errors
    /// The exit code of bad input, if an argument may contain a private key. The usual message would repeat the
    /// argument.
    pub fn of_process() -> Result<Self, ExitCode> {
        let mut texts = std::env::args_os().chain(std::env::var_os("SIDEGATE_CONFIG"));
        if texts.any(|text| redact::has_private_key(&text.to_string_lossy())) {
            return Err(key_in_arguments());
        }
        Self::try_parse().map_err(|error| {
            let text = error.to_string();
            if redact::redact_secrets(&text) == text { error.exit() } else { key_in_arguments() }
        })
    }

    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::Run(run) => run.run(),
            Verb::Demo(demo) => demo.run(),
            Verb::Cert(cert) => cert.run(&mut io::stdout().lock(), &mut io::stderr().lock()),
            Verb::Doctor(doctor) => doctor.run(&mut io::stdout().lock(), &mut io::stderr().lock()),
            Verb::Man(man) => man.run(Self::command(), &mut io::stdout().lock(), &mut io::stderr().lock()),
            Verb::Completions(completions) => completions.run(Self::command(), &mut io::stdout().lock()),
            Verb::Inject(inject) => inject.run(&mut io::stdout().lock(), &mut io::stderr().lock()),
            Verb::Drain(drain) => drain.run(&mut io::stderr().lock()),
            Verb::Policy(command) => command.run(&mut io::stdout().lock(), &mut io::stderr().lock()),
        }
    }
}

fn key_in_arguments() -> ExitCode {
    let problem =
        Diagnostic::error(Code::Secret, "the command line has a private key in it and is not shown");
    report(&[
        problem.help("give the key's file name instead; other users of this machine can read command lines")
    ]);
    ExitCode::from(BAD_INPUT)
}

/// Reads a file, a pipe, or standard input (`-`), of at most `bound` bytes.
fn read_input(path: &Path, bound: u64) -> Result<Vec<u8>, ReadError> {
    if path.as_os_str() == "-" {
        return files::read_stream(io::stdin().lock(), bound);
    }
    files::read(path, bound, AcceptedKinds::Streams)
}

/// Parses an instant: RFC 3339, or `@` and seconds since 1970.
fn instant(text: &str) -> Result<Timestamp, String> {
    let instant = match text.strip_prefix('@') {
        Some(seconds) => seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()),
        None => text.parse().ok(),
    };
    instant.ok_or_else(|| "an instant such as 2027-01-01T00:00:00Z is expected".to_owned())
}

/// The colours that standard error shows: none unless it is a terminal, or if the user wants none.
pub(crate) fn colour() -> Colour {
    let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_dumb = said("TERM").is_some_and(|terminal| terminal == "dumb");
    match io::stderr().is_terminal() && said("NO_COLOR").is_none() && !is_dumb {
        true => Colour::Ansi,
        false => Colour::Never,
    }
}

/// Writes diagnostics to standard error, in colour on a terminal.
pub(crate) fn report(diagnostics: &[Diagnostic]) {
    let mut err = io::stderr().lock();
    let colour = colour();
    for diagnostic in diagnostics {
        // A failure to write is ignored, because there is no other stream to report it on.
        let _ = writeln!(err, "{}", diagnostic.human(colour));
    }
}
