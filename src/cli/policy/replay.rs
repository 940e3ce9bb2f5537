//! `sidegate policy replay` and `sidegate policy suggest`: commands that read audit records.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Format, NEGATIVE_ANSWER, Output, SUCCESS, load};
use crate::diagnostic::{Code, Diagnostic, printable};
use crate::policy::Policy;
use crate::policy::history::{ChangedDecision, PastDecision, parse_record, replay};
use crate::policy::suggest::suggest;

/// Show the recorded decisions that a policy would make otherwise
///
/// Queries and headers are not recorded, so the conditions of a route on them count as not met. Exits with 1 if a
/// decision changes.
#[derive(Debug, Args)]
pub struct Replay {
    /// Audit records: files with a JSON object on each line; `-` is standard input
    #[arg(required = true, value_name = "AUDIT")]
    records: Vec<PathBuf>,
    /// Policy to try: a file or a folder; may be repeated
    #[arg(long = "policy", required = true, value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Write a first policy from recorded requests
///
/// Each route has a comment with the number and the time of its requests. The policy allows everything that was
/// recorded, also what should not be allowed: read it before use. From a proxy in `mode: audit` this includes requests
/// that no grant allows; requests that a deny rule forbids are left out.
#[derive(Debug, Args)]
pub struct Suggest {
    /// Audit records: files with a JSON object on each line; `-` is standard input
    #[arg(required = true, value_name = "AUDIT")]
    records: Vec<PathBuf>,
    /// Include denied requests: for the records of a proxy that ran with an empty policy
    #[arg(long)]
    with_denied: bool,
}

impl Replay {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        let read = load(&self.policies).and_then(|model| Ok((Policy::of(model), events(&self.records)?)));
        let (policy, events) = match read {
            Ok(read) => read,
            Err(problems) => return output.bad_input(&problems),
        };
        let (same, changes) = replay(events.into_iter(), &policy);
        match self.format {
            Format::Human => human(same, &changes, output)?,
            Format::Json => {
                let changes: Vec<Value> = changes.iter().map(as_json).collect();
                writeln!(output.out, "{:#}", json!({ "same": same, "changes": changes }))?;
            }
        }
        Ok(if changes.is_empty() { SUCCESS } else { NEGATIVE_ANSWER })
    }
}

impl Suggest {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        let events = match events(&self.records) {
            Ok(events) => events,
            Err(problems) => return output.bad_input(&problems),
        };
        let events =
            events.into_iter().filter(|event| event.allowed || event.passed_by_audit || self.with_denied);
        write!(output.out, "{}", suggest(events))?;
        Ok(SUCCESS)
    }
}

fn events(paths: &[PathBuf]) -> Result<Vec<PastDecision>, Vec<Diagnostic>> {
    let (mut events, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let read = match path.as_os_str() == "-" {
            true => collect(io::stdin().lock(), &mut events),
            false => File::open(path).and_then(|file| collect(BufReader::new(file), &mut events)),
        };
        if let Err(error) = read {
            problems.push(Diagnostic::error(
                Code::Unreadable,
                format!("`{}` cannot be read: {error}", path.display()),
            ));
        }
    }
    if problems.is_empty() { Ok(events) } else { Err(problems) }
}

fn collect(lines: impl BufRead, events: &mut Vec<PastDecision>) -> io::Result<()> {
    for line in lines.lines() {
        events.extend(parse_record(&line?));
    }
    Ok(())
}

fn human(same: usize, changes: &[ChangedDecision], output: &mut Output<'_>) -> io::Result<()> {
    let out = &mut output.out;
    for (allowed, title) in [(true, "newly allowed"), (false, "newly denied")] {
        for change in changes.iter().filter(|change| change.allowed == allowed) {
            let ChangedDecision { client, request, rule, times, last, .. } = change;
            let by = rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
            let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
            writeln!(out, "{title}: `{}` {request}{by}; {times}, last {last}", printable(client))?;
        }
    }
    let different: usize = changes.iter().map(|change| change.times).sum();
    writeln!(out, "decisions: {same} unchanged, {different} changed")
}

fn as_json(change: &ChangedDecision) -> Value {
    json!({
        "client": change.client, "request": change.request, "decision": if change.allowed { "allow" } else { "deny" },
        "rule": change.rule, "times": change.times, "last": change.last.to_string(),
    })
}
