//! `sidegate policy test`.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{NEGATIVE_ANSWER, Output, SUCCESS, identity_of_certificate_file, instant, load_with_tests};
use crate::diagnostic::printable;
use crate::policy::Policy;
use crate::policy::test_run::{self, Coverage, Trial};
use crate::policy::trace::file_and_line;

/// Run the tests of a policy
///
/// Exits with 1 if a test fails, or if the coverage is lower than required.
#[derive(Debug, Args)]
pub struct Test {
    /// Policy files, or folders of policy files; `*_test.yaml` beside them are read too
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// List the grants, deny rules and routes that no test reaches
    #[arg(long)]
    coverage: bool,
    /// Fail if the tests reach fewer percent of the grants, deny rules and routes
    #[arg(long, value_name = "PERCENT")]
    min_coverage: Option<usize>,
    /// Form of the results
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Time of tests without `at` [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Human,
    /// JSON for programs
    Json,
    /// JUnit XML for build servers
    Junit,
}

impl Test {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        let model = match load_with_tests(&self.paths) {
            Ok(model) => model,
            Err(problems) => return output.bad_input(&problems),
        };
        let compiled = Policy::of(model.clone());
        let now = self.at.unwrap_or_else(Timestamp::now);
        let certificate = |file: &crate::policy::LocatedText| {
            let folder = Path::new(file.place.source.name()).parent().unwrap_or(Path::new(""));
            identity_of_certificate_file(&folder.join(&*file.text))
                .map_err(|problem| problem.at(file.place.clone()))
        };
        let (trials, coverage) = match test_run::run(&model, &compiled, now, certificate) {
            Ok(run) => run,
            Err(problems) => return output.bad_input(&problems),
        };
        match self.format {
            Format::Human => self.human(&trials, &coverage, output)?,
            Format::Json => writeln!(output.out, "{:#}", as_json(&trials, &coverage))?,
            Format::Junit => junit(&trials, output)?,
        }
        let failed = trials.iter().any(|test_run| test_run.outcome.is_err());
        let uncovered = self.min_coverage.is_some_and(|least| coverage.percent() < least);
        Ok(if failed || uncovered { NEGATIVE_ANSWER } else { SUCCESS })
    }

    fn human(
        &self,
        trials: &[Trial<'_>],
        coverage: &Coverage<'_>,
        output: &mut Output<'_>,
    ) -> io::Result<()> {
        let out = &mut output.out;
        for Trial { case, outcome } in trials {
            let Err(failure) = outcome else { continue };
            writeln!(
                out,
                "FAILED {} ({})",
                printable(&case.name.text),
                printable(&file_and_line(case.place()))
            )?;
            writeln!(out, "  {}: {}", printable(&case.request.text), printable(&failure.message))?;
            for fact in &failure.trace {
                // The values of a certificate are text from outside, so control characters are escaped.
                writeln!(out, "    {}", printable(fact))?;
            }
        }
        let failed = trials.iter().filter(|test_run| test_run.outcome.is_err()).count();
        writeln!(out, "{} passed, {failed} failed, {} % covered", trials.len() - failed, coverage.percent())?;
        if self.coverage || self.min_coverage.is_some_and(|least| coverage.percent() < least) {
            for (kind, left) in coverage.all().filter(|(_, covered)| !covered.is_reached) {
                writeln!(
                    out,
                    "  no test reaches the {kind} `{}` ({})",
                    left.name,
                    file_and_line(left.place)
                )?;
            }
        }
        Ok(())
    }
}

fn as_json(trials: &[Trial<'_>], coverage: &Coverage<'_>) -> Value {
    let tests: Vec<Value> = trials
        .iter()
        .map(|Trial { case, outcome }| {
            let failure = outcome.as_ref().err();
            json!({
                "name": case.name.text, "request": case.request.text, "at": file_and_line(case.place()), "passed": outcome.is_ok(),
                "message": failure.map(|failure| &failure.message), "trace": failure.map(|failure| &failure.trace),
            })
        })
        .collect();
    let left: Vec<Value> = coverage
        .all()
        .filter(|(_, covered)| !covered.is_reached)
        .map(|(kind, covered)| json!({ "kind": kind, "name": covered.name, "at": file_and_line(covered.place) }))
        .collect();
    json!({ "tests": tests, "coverage": { "percent": coverage.percent(), "untried": left } })
}

fn junit(trials: &[Trial<'_>], output: &mut Output<'_>) -> io::Result<()> {
    let out = &mut output.out;
    let failed = trials.iter().filter(|test_run| test_run.outcome.is_err()).count();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        out,
        "<testsuite name=\"sidegate policy test\" tests=\"{}\" failures=\"{failed}\">",
        trials.len()
    )?;
    for Trial { case, outcome } in trials {
        let (name, request) = (escaped(&case.name.text), escaped(&case.request.text));
        let file = escaped(case.place().source.name());
        write!(
            out,
            "  <testcase classname=\"{file}\" name=\"{name}: {request}\" line=\"{}\"",
            case.place().position().line
        )?;
        match outcome {
            Ok(()) => writeln!(out, "/>")?,
            Err(failure) => {
                writeln!(out, ">")?;
                writeln!(
                    out,
                    "    <failure message=\"{}\">{}</failure>",
                    escaped(&failure.message),
                    escaped(&failure.trace.join("\n"))
                )?;
                writeln!(out, "  </testcase>")?;
            }
        }
    }
    writeln!(out, "</testsuite>")
}

fn escaped(text: &str) -> String {
    let printable = |c: &char| !c.is_control() || *c == '\n';
    let text: String = text.chars().filter(printable).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
