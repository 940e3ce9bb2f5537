//! Warnings about a policy: parts that have no effect, and parts that may allow more than the author means.

mod clients;
mod denies;
mod routes;
mod unused;

use std::cell::Cell;
use std::collections::HashSet;

use jiff::Timestamp;

use super::check::{Client, Model};
use super::condition::When;
use super::document::LocatedText;
use crate::diagnostic::{Code, Diagnostic, Place, first_ones};

/// Returns the warnings about a policy. Entries whose `until` is before `now` count as expired.
pub(crate) fn lint(model: &Model, now: Timestamp) -> Vec<Diagnostic> {
    let mut linter =
        Linter { model, now, warnings: Vec::new(), comparisons_left: Cell::new(MAX_COMPARISONS) };
    linter.check_unused();
    linter.check_clients();
    linter.check_denies();
    linter.check_routes();
    linter.check_tests();
    linter.warnings.sort_by_key(|warning| {
        warning.place.as_ref().map(|place| (place.source.name().to_owned(), place.span))
    });
    first_ones(linter.warnings)
}

struct Linter<'m> {
    model: &'m Model,
    now: Timestamp,
    warnings: Vec<Diagnostic>,
    /// The number of comparisons that may still be made.
    comparisons_left: Cell<usize>,
}

/// The number of client entries up to which each is compared with each other.
const MAX_COMPARED: usize = 1_000;

/// The number of comparisons of entries or routes in all. They take some seconds; parts that are not compared get no
/// warning.
const MAX_COMPARISONS: usize = 10_000_000;

impl<'m> Linter<'m> {
    fn warn(&mut self, code: Code, place: &Place, message: String, help: &str) {
        self.warnings.push(Diagnostic::warning(code, message).at(place.clone()).help(help));
    }

    /// Takes comparisons from the budget. Returns false if the rest is too small.
    fn take_comparisons(&self, number: usize) -> bool {
        let left = self.comparisons_left.get().checked_sub(number);
        self.comparisons_left.set(left.unwrap_or(0));
        left.is_some()
    }

    fn warn_if_expired(&mut self, when: Option<&When>, place: Option<&Place>, name: &LocatedText) {
        if let (Some(until), Some(place)) = (when.and_then(|when| when.until), place)
            && until <= self.now
        {
            let message = format!("`{}` ended at {until}", name.text);
            self.warn(Code::Expired, place, message, "remove it, or set a later `until`");
        }
    }
}

/// Returns the permissions of client entries together. Sets are shared between entries, and each is read once.
fn granted_permissions<'c>(clients: impl IntoIterator<Item = &'c Client>) -> HashSet<u32> {
    let mut seen = HashSet::new();
    let sets = clients.into_iter().flat_map(|client| &client.sets);
    sets.filter(|set| seen.insert(set.as_ptr())).flat_map(|set| set.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::trace::file_and_line;
    use super::*;
    use crate::diagnostic::Source;

    fn codes(text: &str) -> Vec<String> {
        let (model, _) = super::super::model(&[Source::new("p.yaml", text)]).unwrap();
        let now = "2026-11-24T00:00:00Z".parse().unwrap();
        lint(&model, now)
            .iter()
            .map(|w| format!("{}:{}", w.place.as_ref().map(file_and_line).unwrap_or_default(), w.code))
            .collect()
    }

    #[test]
    fn a_priority_that_every_entry_has_is_reported() {
        let policy = |second: &str| {
            codes(&format!(
                r#"version: 1
permissions: {{ read: [GET /a] }}
clients:
  - {{ name: a, match: {{ common_name: a }}, permissions: [read], priority: high }}
  - {{ name: b, match: {{ common_name: b }}, permissions: [read], priority: {second} }}
"#
            ))
        };
        assert_eq!(policy("high"), ["p.yaml:4:high-priority-for-all"]);
        assert!(policy("normal").is_empty());
    }

    #[test]
    fn parts_without_effect_are_reported() {
        let warnings = codes(
            r#"version: 1
permissions:
  unused: [GET /u]
  read:
    - GET /a/*
    - GET /a/b
  twin: [GET /A/*]
  all: ["* /**"]
  other: [GET /other]
roles:
  unassigned: [read]
  some: [read, twin]
clients:
  - { name: a, match: { common_name: a }, roles: [some] }
  - { name: b, match: { common_name: [a, b] }, permissions: [twin, read] }
  - { name: c, match: { any: true }, permissions: [all] }
  - { name: d, match: { uri: shop.example }, permissions: [other], when: { until: 2020-01-01T00:00:00Z } }
  - { name: e, match: { common_name: e } }
deny:
  - { name: x, clients: [a], permissions: [other] }
  - { name: y, clients: [b], routes: ["GET /a/**", "GET /A/**"] }
tests:
  - { name: t, client: { common_name: a }, request: GET /b, expect: deny }
"#,
        );
        let expected = [
            "p.yaml:3:unused-permission",
            "p.yaml:6:covered-route",
            "p.yaml:7:upper-case-twin",
            "p.yaml:11:unused-role",
            "p.yaml:15:fully-denied",
            "p.yaml:16:very-wide",
            "p.yaml:17:impossible-match",
            "p.yaml:17:expired",
            "p.yaml:18:gives-nothing",
            "p.yaml:20:forbids-nothing",
            "p.yaml:21:upper-case-twin",
        ];
        assert_eq!(warnings, expected, "{warnings:#?}");
    }

    #[test]
    fn a_test_whose_path_fits_no_route_is_reported() {
        let warnings = codes(
            "version: 1
permissions: { read: [GET /events] }
clients: [{ name: a, match: { common_name: a }, permissions: [read] }]
tests:
  - { name: typo, client: { common_name: b }, request: GET /event, expect: deny }
  - { name: right, client: { common_name: b }, request: GET /events, expect: deny }
",
        );
        assert_eq!(warnings, ["p.yaml:5:tests-nothing"]);
    }

    #[test]
    fn a_grant_within_another_is_reported_once() {
        let warnings = codes(
            "version: 1
permissions: { read: [GET /events], write: [POST /events] }
clients:
  - { name: a, match: { common_name: a, organization: x }, permissions: [read] }
  - { name: b, match: { common_name: [a, b] }, permissions: [read, write] }
  - { name: c, match: { common_name: [a, b] }, permissions: [read, write] }
  - { name: d, match: { common_name: d }, permissions: [read], when: { from: 2026-01-01T00:00:00Z } }
",
        );
        assert_eq!(warnings, ["p.yaml:4:covered-grant", "p.yaml:6:covered-grant"]);
    }
}
