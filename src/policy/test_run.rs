//! The tests of a policy. Each test is decided by the engine that the proxy uses, and the entries and routes that no
//! test reaches are listed.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use super::check::Model;
use super::document::{Case, Expectation, LocatedText, TestClient};
use super::route::Route;
use super::trace::Evaluation;
use super::{Policy, Question};
use crate::client_headers;
use crate::diagnostic::Diagnostic;
use crate::identity::Identity;
use crate::target::Target;

/// The source address of requests without `source`, from a block that is reserved for documentation (RFC 5737).
pub(crate) const DEFAULT_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A test and its result.
#[derive(Debug)]
pub(crate) struct Trial<'m> {
    pub(crate) case: &'m Case,
    pub(crate) outcome: Result<(), Failure>,
}

/// The reason why a test failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The reason in one line.
    pub(crate) message: String,
    /// The entries that granted, denied or nearly granted the request.
    pub(crate) trace: Vec<String>,
}

/// The client entries, deny rules and routes of a policy, each with whether a test reached it.
#[derive(Debug, Default)]
pub(crate) struct Coverage<'m> {
    pub(crate) grants: Vec<CoverageItem<'m>>,
    pub(crate) denies: Vec<CoverageItem<'m>>,
    pub(crate) routes: Vec<CoverageItem<'m>>,
}

/// An entry or a route of the coverage.
#[derive(Debug)]
pub(crate) struct CoverageItem<'m> {
    pub(crate) name: &'m str,
    pub(crate) place: &'m crate::diagnostic::Place,
    pub(crate) is_reached: bool,
}

/// Runs every test of a policy.
///
/// # Errors
/// The problems of the certificate files that tests name.
pub(crate) fn run<'m>(
    model: &'m Model,
    policy: &Policy,
    now: Timestamp,
    certificate: impl Fn(&LocatedText) -> Result<Identity, Diagnostic>,
) -> Result<(Vec<Trial<'m>>, Coverage<'m>), Vec<Diagnostic>> {
    let (mut trials, mut problems) = (Vec::new(), Vec::new());
    let mut coverage = Coverage::of(model);
    for case in &model.cases {
        let identity = match &case.client {
            TestClient::Attributes(attributes) => Ok(Identity::from_attributes(attributes.iter().cloned())),
            TestClient::Certificate(file) => certificate(file),
        };
        match identity {
            Ok(identity) => {
                trials.push(PreparedTest { model, policy, case, identity, now }.run(&mut coverage))
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok((trials, coverage)) } else { Err(problems) }
}

/// One test with its inputs.
struct PreparedTest<'m, 'p> {
    model: &'m Model,
    policy: &'p Policy,
    case: &'m Case,
    identity: Identity,
    now: Timestamp,
}

impl<'m> PreparedTest<'m, '_> {
    fn run(self, coverage: &mut Coverage<'m>) -> Trial<'m> {
        let outcome = match self.case.request.text.parse::<Target>() {
            Ok(target) => self.decide(&target, coverage),
            Err(flaw) => Err(Failure { message: flaw.to_string(), trace: Vec::new() }),
        };
        Trial { case: self.case, outcome }
    }

    fn decide(&self, target: &Target, coverage: &mut Coverage<'m>) -> Result<(), Failure> {
        // The proxy strips these headers before it decides, so the test does too.
        let mut headers = self.case.headers.clone();
        client_headers::strip(&mut headers, &[], client_headers::Sender::Client);
        let question = Question {
            target,
            host: self.case.host.as_deref().into(),
            headers: Some(&headers),
            source: self.case.source.unwrap_or(DEFAULT_SOURCE),
            now: self.case.at.unwrap_or(self.now),
            upgrade: self.case.upgrade,
        };
        let verdict = self.policy.authorize(&self.policy.rights(&self.identity), &question);
        let evaluation = Evaluation { model: self.model, identity: &self.identity, question: &question };
        coverage.add(evaluation);
        let allowed = match &verdict {
            Ok(permit) => self.case.upgrade.is_none() || permit.allows_upgrade(),
            Err(_) => false,
        };
        if allowed != (self.case.expect == Expectation::Allow) {
            return Err(unexpected(evaluation, allowed));
        }
        self.check_reason(evaluation, allowed)
    }

    fn check_reason(&self, evaluation: Evaluation<'_, '_>, allowed: bool) -> Result<(), Failure> {
        let Some(reason) = &self.case.because else { return Ok(()) };
        let findings = if allowed { evaluation.grants() } else { evaluation.denies() };
        if findings.iter().any(|finding| finding.entry.text == reason.text) {
            return Ok(());
        }
        let verb = if allowed { "allowed" } else { "denied" };
        let message = format!("{verb} as expected, but not because of `{}`", reason.text);
        Err(Failure { message, trace: trace_lines(evaluation) })
    }
}

fn unexpected(evaluation: Evaluation<'_, '_>, allowed: bool) -> Failure {
    let message = if allowed {
        "expected deny, but the request is allowed"
    } else {
        "expected allow, but the request is denied"
    };
    Failure { message: message.to_owned(), trace: trace_lines(evaluation) }
}

/// Returns the reasons for and against a request, one in each line.
pub(crate) fn trace_lines(evaluation: Evaluation<'_, '_>) -> Vec<String> {
    let grants = evaluation.grants();
    let granted =
        grants.iter().map(|finding| format!("granted to `{}`: {}", finding.entry.text, finding.describe()));
    let mut lines: Vec<String> = granted.collect();
    lines.extend(
        evaluation
            .denies()
            .iter()
            .map(|finding| format!("denied by `{}`: {}", finding.entry.text, finding.describe())),
    );
    if grants.is_empty() {
        let misses = evaluation.near_misses();
        lines.extend(misses.iter().take(MAX_MISSES).map(|miss| {
            format!("`{}` is granted to `{}`, but {}", miss.permission.text, miss.entry.text, miss.because)
        }));
        if misses.len() > MAX_MISSES {
            lines.push(format!("and {} more entries with a route that matches", misses.len() - MAX_MISSES));
        }
        if misses.is_empty() {
            lines.extend(no_route(evaluation));
        }
    }
    lines
}

/// The number of near misses that are shown.
const MAX_MISSES: usize = 10;

/// Returns the reasons why no route fits the request.
fn no_route(evaluation: Evaluation<'_, '_>) -> Vec<String> {
    let target = evaluation.question.target;
    let of_path = evaluation.routes_of_path();
    if of_path.iter().any(|route| route.methods.contains(target.method())) {
        return vec!["a route matches, but no client entry grants it".to_owned()];
    }
    if let Some(route) = of_path.first() {
        let route = format!("`{}` ({})", route.text, super::trace::file_and_line(&route.place));
        return vec![format!(
            "no route has the method {} for this path; {route} has other methods",
            target.method()
        )];
    }
    let mut lines = vec![format!("no route matches the path `{}`", target.path())];
    lines.extend(similar_route(evaluation).map(|(route, why)| {
        format!("the nearest is `{}` ({}): {why}", route.text, super::trace::file_and_line(&route.place))
    }));
    lines
}

/// Returns a route that would fit a slightly different path, with the difference.
fn similar_route<'m>(evaluation: Evaluation<'m, '_>) -> Option<(&'m Route, &'static str)> {
    let target = evaluation.question.target;
    let path = target.path();
    let other = |path: &str| format!("{} {path}", target.method()).parse::<Target>().ok();
    let slash = match path.strip_suffix('/') {
        Some(without) => other(without),
        None => other(&format!("{path}/")),
    };
    let lower = other(&path.to_ascii_lowercase());
    let choices = [
        (slash, "a slash at the end makes a different path"),
        (lower, "paths are compared with upper and lower case"),
    ];
    choices.into_iter().find_map(|(target, why)| {
        let target = target?;
        let question = Question { target: &target, ..*evaluation.question };
        let evaluation =
            Evaluation { model: evaluation.model, identity: evaluation.identity, question: &question };
        evaluation.routes_of_path().first().map(|route| (*route, why))
    })
}

impl<'m> Coverage<'m> {
    fn of(model: &'m Model) -> Self {
        let entry =
            |word: &'m LocatedText| CoverageItem { name: &word.text, place: &word.place, is_reached: false };
        let routes = model.permissions.iter().flat_map(|permission| &permission.routes);
        Self {
            grants: model.clients.iter().map(|client| entry(&client.entry.name)).collect(),
            denies: model.denies.iter().map(|deny| entry(&deny.entry.name)).collect(),
            routes: routes
                .map(|route| CoverageItem { name: &route.text, place: &route.place, is_reached: false })
                .collect(),
        }
    }

    fn add(&mut self, evaluation: Evaluation<'_, '_>) {
        let (grants, denies) = (evaluation.grants(), evaluation.denies());
        let mark = |list: &mut Vec<CoverageItem<'_>>, place: &crate::diagnostic::Place| {
            for covered in list.iter_mut().filter(|covered| covered.place.is(place)) {
                covered.is_reached = true;
            }
        };
        for finding in &grants {
            mark(&mut self.grants, &finding.entry.place);
            mark(&mut self.routes, &finding.route.place);
        }
        for finding in &denies {
            mark(&mut self.denies, &finding.entry.place);
            mark(&mut self.routes, &finding.route.place);
        }
    }

    /// Returns all items, each with its kind.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &CoverageItem<'m>)> {
        let grants = self.grants.iter().map(|covered| ("grant", covered));
        let denies = self.denies.iter().map(|covered| ("deny", covered));
        grants.chain(denies).chain(self.routes.iter().map(|covered| ("route", covered)))
    }

    /// Returns the share of the items that a test reached, in percent, rounded down. It is 100 for a policy without
    /// items.
    pub(crate) fn percent(&self) -> usize {
        let (is_reached, all) = self.all().fold((0, 0), |(is_reached, all), (_, covered)| {
            (is_reached + usize::from(covered.is_reached), all + 1)
        });
        (is_reached * 100).checked_div(all).unwrap_or(100)
    }
}
