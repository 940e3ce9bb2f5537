//! Warnings about a policy: parts that have no effect, and parts that may allow more than the author means.

mod comparison;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::Priority;
use super::check::{Client, Deny, Member, Model};
use super::condition::When;
use super::document::{Expectation, Word};
use super::matching::{Alternative, Test};
use super::route::{KNOWN, Methods, Path, Route, Segment};
use super::trie::Builder;
use crate::diagnostic::{Code, Diagnostic, Place, first_ones, nearest};
use crate::identity::Attribute;
use crate::target::Target;
use comparison::{covers, is_subset_of, overlaps};

/// Returns the warnings about a policy. Entries whose `until` is before `now` count as expired.
pub(crate) fn lint(model: &Model, now: Timestamp) -> Vec<Diagnostic> {
    let mut linter =
        Linter { model, now, warnings: Vec::new(), comparisons_left: Cell::new(MOST_COMPARISONS) };
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
const MOST_COMPARED: usize = 1_000;

/// The number of comparisons of entries or routes in all. They take some seconds; parts that are not compared get no
/// warning.
const MOST_COMPARISONS: usize = 10_000_000;

impl<'m> Linter<'m> {
    fn warn(&mut self, code: Code, place: &Place, message: String, help: &str) {
        self.warnings.push(Diagnostic::warning(code, message).at(place.clone()).help(help));
    }

    /// Takes comparisons from the budget. Returns false if the rest is too small.
    fn take_comparisons(&self, number: usize) -> bool {
        let comparisons_left = self.comparisons_left.get().checked_sub(number);
        self.comparisons_left.set(comparisons_left.unwrap_or(0));
        comparisons_left.is_some()
    }

    fn check_unused(&mut self) {
        let mut used = granted_permissions(&self.model.clients);
        used.extend(self.model.denies.iter().flat_map(|deny| deny.permissions.iter().copied()));
        let in_roles: HashSet<u32> =
            self.model.roles.iter().flat_map(|role| role.permissions.iter().copied()).collect();
        for (number, permission) in (0..).zip(self.model.permissions.iter().take(self.model.declared)) {
            if used.contains(&number) {
                continue;
            }
            let name = &permission.name;
            let why = if in_roles.contains(&number) {
                "only roles that nobody has give it"
            } else {
                "no role and no client entry has it"
            };
            self.warn(
                Code::UnusedPermission,
                &name.place,
                format!("the permission `{}` is granted_permissions to nobody: {why}", name.text),
                "remove it, or give it to someone",
            );
        }
        let mut reached: HashSet<u32> = HashSet::new();
        let mut open: Vec<u32> =
            self.model.clients.iter().flat_map(|client| client.roles.iter().copied()).collect();
        while let Some(number) = open.pop() {
            if let Some(role) = self.model.roles.get(number as usize).filter(|_| reached.insert(number)) {
                open.extend(role.members.iter().filter_map(|member| match member {
                    Member::Role { role, .. } => Some(*role),
                    Member::Permission(_) => None,
                }));
            }
        }
        for (number, role) in (0..).zip(&self.model.roles) {
            if !reached.contains(&number) {
                let name = &role.entry.name;
                self.warn(
                    Code::UnusedRole,
                    &name.place,
                    format!("the role `{}` is granted_permissions to nobody", name.text),
                    "remove it, or give it to someone",
                );
            }
        }
    }

    fn check_clients(&mut self) {
        let named: HashSet<u32> =
            self.model.denies.iter().filter_map(|deny| deny.clients.as_ref()).flatten().copied().collect();
        for (number, client) in (0..).zip(&self.model.clients) {
            let name = &client.entry.name;
            self.warn_if_expired(client.entry.when.as_ref(), client.entry.when_place.as_ref(), name);
            for alternative in &client.entry.alternatives {
                self.warn_if_impossible(alternative, name);
            }
            let useful = named.contains(&number) || client.entry.limits != super::Limits::default();
            if client.permissions().next().is_none() && !useful {
                self.warn(
                    Code::GivesNothing,
                    &name.place,
                    format!("`{}` gives its clients nothing", name.text),
                    "add `roles` or `permissions`, or remove it",
                );
            }
            self.warn_if_very_wide(client);
            self.warn_if_fully_denied(number, client);
        }
        self.warn_if_all_high();
        if self.model.clients.len() <= MOST_COMPARED {
            self.warn_about_covered_grants(&named);
        }
    }

    /// Warns if every client entry has the priority `high`, because then the priority has no effect.
    fn warn_if_all_high(&mut self) {
        let model = self.model;
        let is_high = |client: &Client| client.entry.limits.priority == Priority::High;
        if let Some(first) = model.clients.first()
            && model.clients.iter().all(is_high)
        {
            self.warn(
                Code::EverybodyFirst,
                &first.entry.name.place,
                "every client entry has the priority `high`, so nobody comes before anybody".to_owned(),
                "leave `priority` out where others should come first",
            );
        }
    }

    fn warn_if_expired(&mut self, when: Option<&When>, place: Option<&Place>, name: &Word) {
        if let (Some(until), Some(place)) = (when.and_then(|when| when.until), place)
            && until <= self.now
        {
            self.warn(
                Code::Expired,
                place,
                format!("`{}` ended at {until}", name.text),
                "remove it, or move `until`",
            );
        }
    }

    fn warn_if_impossible(&mut self, alternative: &Alternative, name: &Word) {
        for test in &alternative.tests {
            if let Some((value, why)) = impossible_value(test) {
                let message = format!("no certificate can match `{}`: `{value}` {why}", name.text);
                self.warn(
                    Code::MatchesNobody,
                    &alternative.place,
                    message,
                    "write the value as certificates spell it",
                );
            }
        }
    }

    fn warn_if_very_wide(&mut self, client: &Client) {
        let anyone = client.entry.alternatives.iter().any(|alternative| alternative.tests.is_empty());
        let wide = |route: &&Route| {
            route.methods == Methods::Any && is_every_path(&route.path) && !route.is_conditional()
        };
        let own: usize = client.sets.iter().map(|set| set.len()).sum();
        if !anyone || !self.take_comparisons(own) {
            return;
        }
        let mut routes = client.permissions().flat_map(|permission| self.model.routes(permission));
        if let Some(route) = routes.find(wide) {
            let message = format!("`{}` lets every client do everything", client.entry.name.text);
            let warning = Diagnostic::warning(Code::VeryWide, message)
                .at(client.entry.name.place.clone())
                .related(route.place.clone(), "this route is every request")
                .help("name the clients, or the routes");
            self.warnings.push(warning);
        }
    }

    fn warn_if_fully_denied(&mut self, number: u32, client: &Client) {
        let for_it = |deny: &&Deny| {
            deny.entry.when.is_none() && deny.clients.as_ref().is_none_or(|clients| clients.contains(&number))
        };
        let model = self.model;
        let routes_of = |deny: &'m Deny| {
            let routes = deny.permissions.iter().flat_map(|permission| model.routes(*permission));
            routes.map(move |route| (deny, route))
        };
        let denies: Vec<(&Deny, &Route)> = model.denies.iter().filter(for_it).flat_map(routes_of).collect();
        if !self.take_comparisons(model.denies.len() + denies.len())
            || denies.is_empty()
            || client.permissions().next().is_none()
        {
            return;
        }
        let mut last = None;
        for route in client.permissions().flat_map(|permission| self.model.routes(permission)) {
            match denies.iter().find(|(_, deny)| covers(deny, route)) {
                Some((deny, _)) if self.take_comparisons(denies.len()) => last = Some(*deny),
                _ => return,
            }
        }
        if let Some(deny) = last {
            let message = format!("everything that `{}` gives is denied", client.entry.name.text);
            let warning = Diagnostic::warning(Code::FullyDenied, message)
                .at(client.entry.name.place.clone())
                .related(deny.entry.name.place.clone(), "denied here")
                .help("remove the entry, or narrow the deny rule");
            self.warnings.push(warning);
        }
    }

    fn warn_about_covered_grants(&mut self, named: &HashSet<u32>) {
        for (number, client) in (0..).zip(&self.model.clients) {
            let own: HashSet<u32> = client.permissions().collect();
            if own.is_empty() || named.contains(&number) || client.entry.limits != super::Limits::default() {
                continue;
            }
            let other = (0..).zip(&self.model.clients).find(|(other, wider)| {
                *other != number
                    && wider.entry.when.is_none()
                    && is_subset_of(&client.entry.alternatives, &wider.entry.alternatives)
                    && self.take_comparisons(wider.sets.iter().map(|set| set.len()).sum())
                    && own.is_subset(&wider.permissions().collect())
                    // Only one of two equal entries is reported.
                    && (*other < number || !is_subset_of(&wider.entry.alternatives, &client.entry.alternatives) || !wider.permissions().all(|p| own.contains(&p)))
            });
            if let Some((_, wider)) = other {
                let message = format!(
                    "`{}` gives nothing that `{}` does not give already",
                    client.entry.name.text, wider.entry.name.text
                );
                let warning = Diagnostic::warning(Code::CoveredGrant, message)
                    .at(client.entry.name.place.clone())
                    .related(wider.entry.name.place.clone(), "it means the same clients, and gives as much")
                    .help("remove one of them");
                self.warnings.push(warning);
            }
        }
    }

    fn check_denies(&mut self) {
        for deny in &self.model.denies {
            self.warn_if_expired(deny.entry.when.as_ref(), deny.entry.when_place.as_ref(), &deny.entry.name);
            if !self.has_effect(deny) {
                let name = &deny.entry.name;
                let message =
                    format!("`{}` forbids nothing that is granted_permissions to anyone it names", name.text);
                self.warn(
                    Code::ForbidsNothing,
                    &name.place,
                    message,
                    "everything that is not granted_permissions is denied already",
                );
            }
        }
    }

    fn has_effect(&self, deny: &Deny) -> bool {
        let named = |number: u32| deny.clients.as_ref().is_none_or(|clients| clients.contains(&number));
        let clients =
            (0..).zip(&self.model.clients).filter(|(number, _)| named(*number)).map(|(_, client)| client);
        if !self.take_comparisons(self.model.clients.len()) {
            return true;
        }
        let granted_permissions = granted_permissions(clients);
        deny.permissions.iter().any(|permission| {
            granted_permissions.contains(permission)
                || self.model.routes(*permission).iter().any(|route| {
                    !self.take_comparisons(granted_permissions.len())
                        || granted_permissions
                            .iter()
                            .flat_map(|granted_permissions| self.model.routes(*granted_permissions))
                            .any(|granted_permissions| overlaps(route, granted_permissions))
                })
        })
    }

    fn check_routes(&mut self) {
        for permission in &self.model.permissions {
            let compared = permission.routes.len().min(MOST_COMPARED);
            if !self.take_comparisons(compared * compared) {
                break;
            }
            for (number, route) in permission.routes.iter().enumerate().take(MOST_COMPARED) {
                let others = permission.routes.iter().enumerate().take(MOST_COMPARED);
                let wider = others.filter(|(other, _)| *other != number).find(|(other, wider)| {
                    covers(wider, route) && (*other < number || !covers(route, wider))
                });
                if let Some((_, wider)) = wider {
                    self.warnings.push(covered_route(route, wider));
                }
            }
        }
        for route in self.model.permissions.iter().flat_map(|permission| &permission.routes) {
            self.warnings.extend(foreign_parameter(route));
            self.warnings.extend(unusual_method(route));
        }
        self.warn_about_case_twins();
    }

    fn warn_about_case_twins(&mut self) {
        let mut spellings: HashMap<String, &Route> = HashMap::new();
        for route in self.model.permissions.iter().flat_map(|permission| &permission.routes) {
            let path = route.path.to_string();
            let twin = spellings.entry(path.to_ascii_lowercase()).or_insert(route);
            if twin.path.to_string() != path {
                let twin = *twin;
                let message = format!("`{path}` and `{}` differ only in case", twin.path);
                let warning = Diagnostic::warning(Code::UpperCaseTwin, message)
                    .at(route.place.clone())
                    .related(twin.place.clone(), "the other one")
                    .help("paths are compared with their case; a backend that ignores case may answer both alike");
                self.warnings.push(warning);
            }
        }
    }

    fn check_tests(&mut self) {
        let mut trie = Builder::new();
        for (number, permission) in (0..).zip(&self.model.permissions) {
            permission.routes.iter().for_each(|route| trie.add(number, route));
        }
        let trie = trie.finish();
        let fits_some = |target: &Target| trie.walk(target.segments(), |_| ControlFlow::Break(())).is_break();
        let idle: Vec<&Word> = self
            .model
            .cases
            .iter()
            .filter(|case| case.expect == Expectation::Deny)
            .filter(|case| case.request.text.parse().is_ok_and(|target| !fits_some(&target)))
            .map(|case| &case.request)
            .collect();
        for request in idle {
            let message = format!("`{}` tests nothing: no route fits its path, whoever asks", request.text);
            self.warn(Code::TestsNothing, &request.place, message, "write a path that some route fits");
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
    let warning = Diagnostic::warning(Code::ForeignParameter, format!("`{text}` stands for just this text"));
    Some(warning.at(route.place.clone()).help(format!("write `{{{name}}}` if any one segment is meant")))
}

/// Warns of a method that is probably a misspelling of a usual one.
fn unusual_method(route: &Route) -> Option<Diagnostic> {
    let Methods::Of { others, .. } = &route.methods else { return None };
    let mut slips = others.iter().filter_map(|method| {
        Some((method, nearest(method.as_str(), KNOWN.iter().map(http::Method::as_str))?))
    });
    let (method, usual) = slips.next()?;
    let warning = Diagnostic::warning(Code::UnusualMethod, format!("`{method}` is no usual method"));
    Some(warning.at(route.place.clone()).help(format!("did you mean `{usual}`?")))
}

fn covered_route(route: &Route, wider: &Route) -> Diagnostic {
    let (message, label, help) = match covers(route, wider) {
        true => ("means the same as", "this route means the same", "remove one of them"),
        false => ("is part of", "this route includes it", "remove the narrower one"),
    };
    Diagnostic::warning(Code::CoveredRoute, format!("`{}` {message} `{}`", route.text, wider.text))
        .at(route.place.clone())
        .related(wider.place.clone(), label)
        .help(help)
}

/// Returns the permissions of client entries together. Sets are shared between entries, and each is read once.
fn granted_permissions<'c>(clients: impl IntoIterator<Item = &'c Client>) -> HashSet<u32> {
    let mut seen = HashSet::new();
    let sets = clients.into_iter().flat_map(|client| &client.sets);
    sets.filter(|set| seen.insert(set.as_ptr())).flat_map(|set| set.iter().copied()).collect()
}

/// Returns a value that no certificate can have, and the reason.
fn impossible_value(test: &Test) -> Option<(&str, &'static str)> {
    let odd = |value: &str| match test.attribute {
        Attribute::Dns if value.contains(['/', ':', '@', ' ']) => Some("is no DNS name"),
        Attribute::Uri if !value.contains(':') => Some("is no URI; it has no scheme"),
        Attribute::Email if !value.contains('@') => Some("is no e-mail address"),
        Attribute::Country if value.len() != 2 => Some("is no country; they have two letters"),
        Attribute::Subject if !value.contains('=') => Some("is no distinguished name, such as `CN=x,O=y`"),
        _ => None,
    };
    test.exact.iter().find_map(|value| odd(value).map(|why| (&**value, why)))
}

fn is_every_path(path: &Path) -> bool {
    path.rest && path.segments.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::trace::line;
    use super::*;
    use crate::diagnostic::Source;

    fn codes(text: &str) -> Vec<String> {
        let (model, _) = super::super::model(&[Source::new("p.yaml", text)]).unwrap();
        let now = "2026-11-24T00:00:00Z".parse().unwrap();
        lint(&model, now)
            .iter()
            .map(|w| format!("{}:{}", w.place.as_ref().map(line).unwrap_or_default(), w.code))
            .collect()
    }

    #[test]
    fn a_priority_that_everybody_has_is_pointed_out() {
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
        assert_eq!(policy("high"), ["p.yaml:4:everybody-first"]);
        assert!(policy("normal").is_empty());
    }

    #[test]
    fn what_says_nothing_is_pointed_out() {
        let warnings = codes(
            r#"version: 1
permissions:
  check_unused: [GET /u]
  read:
    - GET /a/*
    - GET /a/b
  twin: [GET /A/*]
  all: ["* /**"]
  other: [GET /other]
roles:
  nobody: [read]
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
            "p.yaml:3:check_unused-permission",
            "p.yaml:6:warn_about_covered_grants-route",
            "p.yaml:7:upper-case-twin",
            "p.yaml:11:check_unused-role",
            "p.yaml:15:fully-denied",
            "p.yaml:16:very-wide",
            "p.yaml:17:matches-nobody",
            "p.yaml:17:expired",
            "p.yaml:18:gives-nothing",
            "p.yaml:20:forbids-nothing",
            "p.yaml:21:upper-case-twin",
        ];
        assert_eq!(warnings, expected, "{warnings:#?}");
    }

    #[test]
    fn a_denial_that_nothing_could_change_is_no_test() {
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
    fn a_grant_within_another_is_pointed_out_once() {
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
        assert_eq!(
            warnings,
            ["p.yaml:4:warn_about_covered_grants-grant", "p.yaml:6:warn_about_covered_grants-grant"]
        );
    }
}
