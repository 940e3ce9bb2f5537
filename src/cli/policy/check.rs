//! `sidegate policy check`.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::{NEGATIVE_ANSWER, Output, SUCCESS, instant, load_with_tests};
use crate::cli::BAD_INPUT;
use crate::diagnostic::Diagnostic;
use crate::policy::Model;
use crate::policy::lint::lint;

/// Show all errors and warnings of a policy
#[derive(Debug, Args)]
pub struct Check {
    /// Policy files, or folders of policy files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Exit with 1 if there are warnings
    #[arg(long)]
    strict: bool,
    /// Form of the problems
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Time at which an `until` counts as past [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Human,
    /// JSON for programs: one object with all problems
    Json,
    /// Annotations for GitHub Actions
    Github,
}

impl Check {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        let now = self.at.unwrap_or_else(Timestamp::now);
        let (problems, model) = match load_with_tests(&self.paths) {
            Ok(model) => (lint(&model, now), Some(model)),
            Err(problems) => (problems, None),
        };
        match self.format {
            Format::Human => human(&problems, model.as_ref(), output)?,
            Format::Json => {
                let problems: Vec<_> = problems.iter().map(Diagnostic::json).collect();
                writeln!(output.out, "{:#}", json!({ "valid": model.is_some(), "problems": problems }))?;
            }
            Format::Github => {
                for problem in &problems {
                    writeln!(output.out, "{}", problem.github())?;
                }
            }
        }
        Ok(match model {
            None => BAD_INPUT,
            Some(_) if self.strict && !problems.is_empty() => NEGATIVE_ANSWER,
            Some(_) => SUCCESS,
        })
    }
}

fn human(problems: &[Diagnostic], model: Option<&Model>, output: &mut Output<'_>) -> io::Result<()> {
    for problem in problems {
        writeln!(output.err, "{}", problem.human(output.colour))?;
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = count(problems.len() - errors, "warning");
    match model {
        Some(model) => {
            let Model { declared, roles, clients, denies, cases, .. } = model;
            let parts = [
                count(*declared, "permission"),
                count(roles.len(), "role"),
                count(clients.len(), "client entry"),
                count(denies.len(), "deny rule"),
                count(cases.len(), "test"),
            ];
            writeln!(output.out, "the policy is valid: {}; {warnings}", parts.join(", "))
        }
        None => writeln!(output.err, "the policy is not valid: {}, {warnings}", count(errors, "error")),
    }
}

/// Returns the number with its noun: `1 role`, `2 roles`, `no roles`.
fn count(number: usize, what: &str) -> String {
    let plural = match what.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{what}s"),
    };
    match number {
        0 => format!("no {plural}"),
        1 => format!("1 {what}"),
        number => format!("{number} {plural}"),
    }
}
