//! `sidegate policy who-can`.

use std::io;

use clap::Args;
use serde_json::{Value, json};

use super::explain::request;
use super::{FINE, Format, NEGATIVE, Output, load};
use crate::diagnostic::printable;
use crate::policy::trace::line;
use crate::policy::who_can::{Answer, who_can};

/// List the clients that may make a request
///
/// Exits with 0 if there are any and with 1 if there are none.
#[derive(Debug, Args)]
pub struct WhoCan {
    /// Policy files or folders, then the method and the path of the request
    #[arg(required = true, value_name = "PATH> <METHOD> <TARGET")]
    words: Vec<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl WhoCan {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        let loaded = request(&self.words).map_err(|problem| vec![problem]);
        let loaded = loaded.and_then(|(paths, target)| Ok((load(&paths)?, target)));
        let (model, target) = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => return output.bad_input(&problems),
        };
        let answers = who_can(&model, &target);
        match self.format {
            Format::Human => human(&answers, output)?,
            Format::Json => {
                let answers: Vec<Value> = answers.iter().map(as_json).collect();
                writeln!(output.out, "{:#}", json!({ "clients": answers }))?;
            }
        }
        Ok(if answers.iter().any(|answer| !answer.never) { FINE } else { NEGATIVE })
    }
}

fn human(answers: &[Answer<'_>], output: &mut Output<'_>) -> io::Result<()> {
    let out = &mut output.out;
    if answers.is_empty() {
        return writeln!(out, "nobody");
    }
    for answer in answers {
        let Answer { finding, whom, conditions, denies, never } = answer;
        let never = if *never { ", but is always denied" } else { "" };
        writeln!(out, "`{}` ({}){never}", finding.entry.text, line(&finding.entry.place))?;
        writeln!(out, "  who: {}", printable(&whom.join(", or ")))?;
        writeln!(out, "  through {}", printable(&finding.words()))?;
        for condition in conditions {
            writeln!(out, "  only if {}", printable(condition))?;
        }
        for deny in denies {
            writeln!(out, "  {deny}")?;
        }
    }
    Ok(())
}

fn as_json(answer: &Answer<'_>) -> Value {
    let Answer { finding, whom, conditions, denies, never } = answer;
    json!({
        "name": finding.entry.text, "at": line(&finding.entry.place), "who": whom, "roles": finding.roles,
        "permission": finding.permission.text, "route": finding.route.text, "route_at": line(&finding.route.place),
        "conditions": conditions, "denies": denies, "always_denied": never,
    })
}
