//! `sidegate drain`: the effect of SIGTERM, for a container without `kill`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use super::{Output, SUCCESS};
use crate::diagnostic::{Code, Diagnostic};

/// Ask the proxy in this container to finish its open requests and to end
///
/// Sends SIGTERM to the `sidegate run` that runs from the same program file, and does not wait for its end. Meant for a
/// preStop hook: a native sidecar gets SIGTERM from Kubernetes only after the backend has ended. Exits with 2 if there
/// is not exactly one such process.
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// Process id of the proxy, if several run
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
}

impl Drain {
    /// Runs the command.
    pub(super) fn run(self, err: &mut dyn Write) -> ExitCode {
        let mut output = Output { out: &mut io::sink(), err, colour: super::colour() };
        match self.ask() {
            Ok(()) => ExitCode::from(SUCCESS),
            Err(problem) => ExitCode::from(output.bad_input(&[problem]).unwrap_or(super::BAD_INPUT)),
        }
    }

    fn ask(&self) -> Result<(), Diagnostic> {
        let pid = match self.pid.map_or_else(proxies, |pid| vec![pid]).as_slice() {
            [pid] => *pid,
            [] => {
                return Err(wrong(
                    "no `sidegate run` of this program runs here",
                    "run it in the proxy's container",
                ));
            }
            several => {
                let help = format!(
                    "say which: --pid {}",
                    several.iter().map(i32::to_string).collect::<Vec<_>>().join(" or ")
                );
                return Err(wrong("several proxies of this program run here", &help));
            }
        };
        let process =
            Pid::from_raw(pid).ok_or_else(|| wrong("there is no such process", "give its number"))?;
        kill_process(process, Signal::TERM).map_err(|error| {
            wrong(
                &format!("process {pid} cannot be sent a signal: {error}"),
                "run as the user that it runs as",
            )
        })
    }
}

fn wrong(message: &str, help: &str) -> Diagnostic {
    Diagnostic::error(Code::Drain, message).help(help)
}

/// Returns the ids of the processes that run `sidegate run` from this program's file.
fn proxies() -> Vec<i32> {
    let Ok(own) = fs::read_link("/proc/self/exe") else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|pid| is_proxy(&Path::new("/proc").join(pid.to_string()), &own)).collect()
}

fn is_proxy(process: &Path, program: &Path) -> bool {
    let words = fs::read(process.join("cmdline")).unwrap_or_default();
    let is_run = words.split(|byte| *byte == 0).nth(1) == Some(b"run");
    is_run && fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program)
}
