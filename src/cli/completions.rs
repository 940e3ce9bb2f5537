//! `sidegate completions`: completion scripts, generated from the definition of the command line.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

/// Print a shell's completion script
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Name of the shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Runs the command for a definition of the command line.
    pub(super) fn run(self, mut root: Command, out: &mut dyn Write) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut root, "sidegate", &mut script);
        // A closed pipe is not an error: the reader wants no more.
        let _ = out.write_all(&script);
        ExitCode::SUCCESS
    }
}
