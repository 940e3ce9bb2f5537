//! `sidegate doctor`: the check of an installation.

mod backend;
mod machine;
mod places;
mod trust;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::run::Overrides;
use super::{Format, NEGATIVE_ANSWER, Output, SUCCESS, instant};
use crate::config::Config;
use crate::diagnostic::{Code, Diagnostic, printable};
use crate::live::Live;
use crate::reload::{Loaded, Origin};

/// Check an installation for present and coming problems
///
/// Reads the configuration and all files that it names, as `run` does. Then checks the dates and chains of
/// certificates, the age of CRLs, whether the backend can be reached, whether others can reach the backend without the
/// sidecar, whether one client can have all requests in flight, the limit of descriptors, and the clock. Run it where
/// the proxy runs, as the same user. Exits with 0 if there is no problem, with 1 if there is a problem, and with 2 if
/// the proxy would not start.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The configuration file
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "SIDEGATE_CONFIG",
        default_value = "/etc/sidegate/sidegate.yaml"
    )]
    config: PathBuf,
    /// Time at which dates are checked: RFC 3339, or `@` and seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    #[command(flatten)]
    overrides: Overrides,
}

/// The result of one check.
#[derive(Debug)]
struct Finding {
    /// The short name of the check.
    check: &'static str,
    /// The result in one sentence.
    message: String,
    /// The remedy; `None` if there is no problem.
    help: Option<String>,
}

impl Finding {
    fn fine(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, message: message.into(), help: None }
    }

    fn wrong(check: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check, message: message.into(), help: Some(help.into()) }
    }

    fn of_warning(check: &'static str, warning: &Diagnostic) -> Self {
        Self::wrong(check, warning.message.clone(), warning.help.as_deref().unwrap_or_default())
    }

    const fn is_fine(&self) -> bool {
        self.help.is_none()
    }
}

impl Doctor {
    /// Runs the command.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
        let mut output = Output { out, err, colour: super::colour() };
        ExitCode::from(self.look(&mut output).unwrap_or(SUCCESS))
    }

    fn look(&self, output: &mut Output<'_>) -> io::Result<u8> {
        let loaded = Origin::new(&self.config, self.overrides.given()).load();
        let Loaded { config, live, warnings, .. } = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => return output.bad_input(&problems),
        };
        let now = self.at.unwrap_or_else(Timestamp::now);
        let findings = findings(&config, &live, &warnings, now);
        match self.format {
            Format::Human => human(&findings, output.out)?,
            Format::Json => writeln!(output.out, "{:#}", as_json(&findings))?,
        }
        Ok(if findings.iter().all(Finding::is_fine) { SUCCESS } else { NEGATIVE_ANSWER })
    }
}

fn findings(config: &Config, live: &Live, warnings: &[Diagnostic], now: Timestamp) -> Vec<Finding> {
    let mut findings =
        vec![Finding::fine("configuration", "the configuration and all files that it names can be used")];
    // Dates are checked separately, at the time of the option `--at`.
    let others = warnings.iter().filter(|warning| !matches!(warning.code, Code::Expiry | Code::CrlExpired));
    findings.extend(others.map(|warning| Finding::of_warning("configuration", warning)));
    findings.extend(trust::check_trust(config, live, now));
    findings.extend(backend::check_backend(config));
    findings.push(places::check_places(config, live));
    findings.extend(machine::check_machine(config, live, now));
    findings
}

fn human(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for Finding { check, message, help } in findings {
        let mark = if help.is_some() { "attention" } else { "fine" };
        writeln!(out, "{mark:<10} {check:<14} {}", printable(message))?;
        for line in help.iter().flat_map(|help| help.lines()) {
            writeln!(out, "{:<25} {}", "", printable(line))?;
        }
    }
    Ok(())
}

fn as_json(findings: &[Finding]) -> Value {
    let list: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "fine": finding.is_fine(),
                "message": finding.message,
                "help": finding.help,
            })
        })
        .collect();
    json!({ "fine": findings.iter().all(Finding::is_fine), "findings": list })
}
