//! The command line: one file per verb. Results go to standard output, diagnostics to standard error; exit codes are
//! 0 for fine, 1 for a negative answer, 2 for bad input.

mod demo;
pub mod policy;
mod run;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::diagnostic::Diagnostic;

/// Bad input: what was given cannot be worked with.
pub(crate) const BAD_INPUT: u8 = 2;

/// A reverse-proxy authorization sidecar: mutual TLS in, YAML policies, forwarded or a documented answer out.
#[derive(Debug, Parser)]
#[command(name = "sidegate", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy
    Run(run::Run),
    /// Try it: everything at once on this machine, and lines to paste
    Demo(demo::Demo),
    /// Check, test, explain and change policies
    #[command(subcommand)]
    Policy(policy::Command),
}

impl Cli {
    /// Does what was asked.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::Run(run) => run.run(),
            Verb::Demo(demo) => demo.run(),
            Verb::Policy(command) => command.run(&mut io::stdout().lock(), &mut io::stderr().lock()),
        }
    }
}

/// Whether a person reads standard error on a terminal that shows colours.
pub(crate) fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Writes diagnostics to standard error, in colour where a person reads.
pub(crate) fn report(diagnostics: &[Diagnostic]) {
    let mut err = io::stderr().lock();
    let colour = colour();
    for diagnostic in diagnostics {
        // Nobody is left to be told when standard error is gone.
        let _ = writeln!(err, "{}", diagnostic.human(colour));
    }
}
