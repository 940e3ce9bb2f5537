//! Warnings about routes, and about tests that no route concerns.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::super::document::{Expectation, LocatedText};
use super::super::route::{KNOWN_METHODS, Methods, Route, Segment};
use super::super::trie::TrieBuilder;
use super::{Linter, MAX_COMPARED};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::policy::comparison::covers;
use crate::target::Target;

impl Linter<'_> {
    pub(super) fn check_routes(&mut self) {
        self.warn_about_covered_routes();
        for route in self.model.permissions.iter().flat_map(|permission| &permission.routes) {
            self.warnings.extend(foreign_parameter(route));
            self.warnings.extend(unusual_method(route));
        }
        self.warn_about_case_twins();
    }

    fn warn_about_covered_routes(&mut self) {
        for permission in &self.model.permissions {
            let compared = permission.routes.len().min(MAX_COMPARED);
            if !self.take_comparisons(compared * compared) {
                break;
            }
            for (number, route) in permission.routes.iter().enumerate().take(MAX_COMPARED) {
                let others = permission.routes.iter().enumerate().take(MAX_COMPARED);
                let wider = others.filter(|(other, _)| *other != number).find(|(other, wider)| {
                    covers(wider, route) && (*other < number || !covers(route, wider))
                });
                if let Some((_, wider)) = wider {
                    self.warnings.push(covered_route(route, wider));
                }
            }
        }
    }

    fn warn_about_case_twins(&mut self) {
        let mut spellings: HashMap<String, &Route> = HashMap::new();
        for route in self.model.permissions.iter().flat_map(|permission| &permission.routes) {
            let path = route.path.to_string();
            let twin = spellings.entry(path.to_ascii_lowercase()).or_insert(route);
            if twin.path.to_string() != path {
                let twin = *twin;
                let message = format!("`{path}` and `{}` differ only in upper and lower case", twin.path);
                let warning = Diagnostic::warning(Code::UpperCaseTwin, message)
                    .at(route.place.clone())
                    .related(twin.place.clone(), "the other route")
                    .help("paths are compared with upper and lower case; a backend that ignores case may treat both as one path");
                self.warnings.push(warning);
            }
        }
    }

    pub(super) fn check_tests(&mut self) {
        let mut trie = TrieBuilder::new();
        for (number, permission) in (0..).zip(&self.model.permissions) {
            permission.routes.iter().for_each(|route| trie.add(number, route));
        }
        let trie = trie.finish();
        let fits_some = |target: &Target| trie.walk(target.segments(), |_| ControlFlow::Break(())).is_break();
        let without_effect: Vec<&LocatedText> = self
            .model
            .cases
            .iter()
            .filter(|case| case.expect == Expectation::Deny)
            .filter(|case| case.request.text.parse().is_ok_and(|target| !fits_some(&target)))
            .map(|case| &case.request)
            .collect();
        for request in without_effect {
            let message = format!("the test has no effect: no route matches the path of `{}`", request.text);
            self.warn(Code::TestsNothing, &request.place, message, "write a path that a route matches");
        }
    }
}

/// Warns of a segment that is a parameter in other languages (`:id`, `<id>`) and literal text here.
fn foreign_parameter(route: &Route) -> Option<Diagnostic> {
    let texts = route.path.segments.iter().filter_map(|segment| match segment {
        Segment::Literal(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    });
    let mut texts = texts.filter_map(|text| {
        let in_angles = text.strip_prefix('<').and_then(|name| name.strip_suffix('>'));
        let name = text.strip_prefix(':').or(in_angles).or_else(|| text.strip_prefix('$'))?;
        (!name.is_empty()).then_some((text, name))
    });
    let (text, name) = texts.next()?;
    let warning = Diagnostic::warning(
        Code::ForeignParameter,
        format!("`{text}` is read as plain text, not as a parameter"),
    );
    Some(warning.at(route.place.clone()).help(format!("write `{{{name}}}` to match any segment")))
}

/// Warns of a method that is probably a misspelling of a usual one.
fn unusual_method(route: &Route) -> Option<Diagnostic> {
    let Methods::Listed { others, .. } = &route.methods else { return None };
    let mut misspellings = others.iter().filter_map(|method| {
        Some((method, nearest(method.as_str(), KNOWN_METHODS.iter().map(http::Method::as_str))?))
    });
    let (method, usual) = misspellings.next()?;
    let warning = Diagnostic::warning(Code::UnusualMethod, format!("`{method}` is not a usual method"));
    Some(warning.at(route.place.clone()).help(format!("did you mean `{usual}`?")))
}

fn covered_route(route: &Route, wider: &Route) -> Diagnostic {
    let (message, label, help) = match covers(route, wider) {
        true => ("means the same as", "this route means the same", "remove one of the two routes"),
        false => ("is included in", "this route includes it", "remove the narrower route"),
    };
    Diagnostic::warning(Code::CoveredRoute, format!("`{}` {message} `{}`", route.text, wider.text))
        .at(route.place.clone())
        .related(wider.place.clone(), label)
        .help(help)
}
