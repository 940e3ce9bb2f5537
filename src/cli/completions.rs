//! `sidegate completions`: what a shell completes, made from the definition of the command line.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

/// Print what makes a shell complete commands and options
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Does what was asked, of this definition.
    pub(super) fn run(self, mut root: Command, out: &mut dyn Write) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut root, "sidegate", &mut script);
        // Who closed the pipe wants no more.
        let _ = out.write_all(&script);
        ExitCode::SUCCESS
    }
}
