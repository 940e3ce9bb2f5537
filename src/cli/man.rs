//! `sidegate man`: manual pages, generated from the definition of the command line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};

use super::{BAD_INPUT, Output, SUCCESS};
use crate::diagnostic::{Code, Diagnostic, did_you_mean};

/// The sections at the end of every page, which the definition of the command line does not have.
const MORE: &str = "\
.SH \"EXIT STATUS\"
0 if all is well, 1 for a negative answer (denied, tests failed, an invalid certificate), 2 for bad input.
.SH \"SEE ALSO\"
deploy/README.md for operators and policies/README.md for authors of policies, in the sources of Sidegate.
";

/// Print the manual page of a command, or write the pages of all commands
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The command, as in `sidegate man policy check` [default: the whole program]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write one page for each command into this folder, named as `man` expects
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    to: Option<PathBuf>,
}

impl Man {
    /// Runs the command for a definition of the command line.
    pub(super) fn run(self, root: Command, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
        let mut output = Output { out, err, colour: super::colour() };
        let mut root = root.disable_help_subcommand(true);
        root.build();
        let code = match self.answer(&root, output.out) {
            Ok(()) => SUCCESS,
            Err(problem) => output.bad_input(&[problem]).unwrap_or(BAD_INPUT),
        };
        ExitCode::from(code)
    }

    fn answer(&self, root: &Command, out: &mut dyn Write) -> Result<(), Diagnostic> {
        let Some(folder) = &self.to else {
            let command = find(root, &self.command)?;
            // A closed pipe is not an error: the reader wants no more.
            let _ = page(command, out);
            return Ok(());
        };
        write_all(root, folder).map_err(|error| {
            Diagnostic::error(Code::Man, format!("cannot write to `{}`: {error}", folder.display()))
        })
    }
}

fn find<'c>(root: &'c Command, words: &[String]) -> Result<&'c Command, Diagnostic> {
    words.iter().try_fold(root, |command, word| {
        command.find_subcommand(word).ok_or_else(|| {
            let problem =
                Diagnostic::error(Code::Man, format!("`{}` has no command `{word}`", command.get_name()));
            match did_you_mean(word, command.get_subcommands().map(Command::get_name)) {
                Some(help) => problem.help(help),
                None => problem,
            }
        })
    })
}

fn page(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(out)?;
    out.write_all(MORE.as_bytes())
}

fn write_all(command: &Command, folder: &Path) -> io::Result<()> {
    let name = clap_mangen::Man::new(command.clone()).get_filename();
    let mut file = File::create(folder.join(name))?;
    page(command, &mut file)?;
    command.get_subcommands().try_for_each(|command| write_all(command, folder))
}
