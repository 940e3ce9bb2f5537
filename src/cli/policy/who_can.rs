//! `sidegate policy who-can`.

use std::io;

use clap::Args;
use serde_json::{Value, json};

use super::explain::request;
use super::{Format, NEGATIVE_ANSWER, Output, SUCCESS, load};
use crate::diagnostic::printable;
use crate::policy::trace::file_and_line;
use crate::policy::who_can::{Access, who_can};

/// List the client entries that may make a request
///
/// Exits with 0 if there are any and with 1 if there are none.
#[derive(Debug, Args)]
pub struct WhoCan {
    /// Policy files or folders, then the method and the path of the request
    #[arg(required = true, value_name = "PATH> <METHOD> <TARGET")]
    words: Vec<String>,
    /// Form of the answer
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
        let accesses = who_can(&model, &target);
        match self.format {
            Format::Human => human(&accesses, output)?,
            Format::Json => {
                let accesses: Vec<Value> = accesses.iter().map(as_json).collect();
                writeln!(output.out, "{:#}", json!({ "clients": accesses }))?;
            }
        }
        Ok(if accesses.iter().any(|access| !access.always_denied) { SUCCESS } else { NEGATIVE_ANSWER })
    }
}

fn human(accesses: &[Access<'_>], output: &mut Output<'_>) -> io::Result<()> {
    let out = &mut output.out;
    if accesses.is_empty() {
        return writeln!(out, "no client entry can make this request");
    }
    for access in accesses {
        let Access { finding, match_words, conditions, denies, always_denied } = access;
        let always_denied = if *always_denied { ", but is always denied" } else { "" };
        writeln!(out, "`{}` ({}){always_denied}", finding.entry.text, file_and_line(&finding.entry.place))?;
        writeln!(out, "  who: {}", printable(&match_words.join(", or ")))?;
        writeln!(out, "  through {}", printable(&finding.describe()))?;
        for condition in conditions {
            writeln!(out, "  only if {}", printable(condition))?;
        }
        for deny in denies {
            writeln!(out, "  {deny}")?;
        }
    }
    Ok(())
}

fn as_json(access: &Access<'_>) -> Value {
    let Access { finding, match_words, conditions, denies, always_denied } = access;
    json!({
        "name": finding.entry.text, "at": file_and_line(&finding.entry.place), "who": match_words, "roles": finding.roles,
        "permission": finding.permission.text, "route": finding.route.text, "route_at": file_and_line(&finding.route.place),
        "conditions": conditions, "denies": denies, "always_denied": always_denied,
    })
}
