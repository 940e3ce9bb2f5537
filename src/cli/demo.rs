//! `sidegate demo`: a demonstration of all parts on this machine.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::value_parser;

use super::{BAD_INPUT, report};
use crate::demo::{self, Options};

/// Start a demonstration: a temporary PKI, an events backend, a policy, the proxy, and example commands to paste
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Folder of the files, which is kept [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the proxy [default: a free port]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Port of the admin listener [default: a free port]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    admin_port: u16,
    /// Port of the backend [default: a free port]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    backend_port: u16,
    /// Number of connections that the proxy admits
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u32).range(1..))]
    max_connections: u32,
}

impl Demo {
    pub(super) fn run(self) -> ExitCode {
        match demo::run(&self.options(), &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problems) => {
                report(&problems);
                ExitCode::from(BAD_INPUT)
            }
        }
    }

    fn options(self) -> Options {
        Options {
            folder: self.dir,
            port: self.port,
            admin_port: self.admin_port,
            backend_port: self.backend_port,
            max_connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
        }
    }
}
