//! What a policy says without saying anything by it, or more than its author may mean. Warnings, never errors.

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
use comparison::{covers, meant_by, overlaps};

/// Everything about a policy that its author should look at again, as of that time.
pub(crate) fn lint(model: &Model, now: Timestamp) -> Vec<Diagnostic> {
    let mut linter = Linter { model, now, found: Vec::new(), left: Cell::new(MOST_COMPARISONS) };
    linter.unused();
    linter.clients();
    linter.denies();
    linter.routes();
    linter.cases();
    linter.found.sort_by_key(|warning| {
        warning.place.as_ref().map(|place| (place.source.name().to_owned(), place.span))
    });
    first_ones(linter.found)
}

struct Linter<'m> {
    model: &'m Model,
    now: Timestamp,
    found: Vec<Diagnostic>,
    /// How many comparisons may still be made.
    left: Cell<usize>,
}

/// Beyond this many client entries, comparing each with each takes longer than an author waits.
const MOST_COMPARED: usize = 1_000;

/// So many comparisons of entries or routes in all take some seconds; then what is not yet compared counts as fine.
const MOST_COMPARISONS: usize = 10_000_000;

impl<'m> Linter<'m> {
    fn warn(&mut self, code: Code, place: &Place, message: String, help: &str) {
        self.found.push(Diagnostic::warning(code, message).at(place.clone()).help(help));
    }

    /// Takes so many comparisons from what is left; no if they are too many.
    fn may_compare(&self, number: usize) -> bool {
        let left = self.left.get().checked_sub(number);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    fn unused(&mut self) {
        let mut used = given(&self.model.clients);
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
                format!("the permission `{}` is given to nobody: {why}", name.text),
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
                    format!("the role `{}` is given to nobody", name.text),
                    "remove it, or give it to someone",
                );
            }
        }
    }

    fn clients(&mut self) {
        let named: HashSet<u32> =
            self.model.denies.iter().filter_map(|deny| deny.clients.as_ref()).flatten().copied().collect();
        for (number, client) in (0..).zip(&self.model.clients) {
            let name = &client.entry.name;
            self.over(client.entry.when.as_ref(), client.entry.when_place.as_ref(), name);
            for alternative in &client.entry.alternatives {
                self.impossible(alternative, name);
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
            self.wide(client);
            self.fully_denied(number, client);
        }
        self.all_first();
        if self.model.clients.len() <= MOST_COMPARED {
            self.covered(&named);
        }
    }

    /// Who is first among equals is nobody.
    fn all_first(&mut self) {
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

    fn over(&mut self, when: Option<&When>, place: Option<&Place>, name: &Word) {
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

    fn impossible(&mut self, alternative: &Alternative, name: &Word) {
        for test in &alternative.tests {
            if let Some((value, why)) = never(test) {
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

    fn wide(&mut self, client: &Client) {
        let anyone = client.entry.alternatives.iter().any(|alternative| alternative.tests.is_empty());
        let wide = |route: &&Route| {
            route.methods == Methods::Any && is_everything(&route.path) && !route.is_conditional()
        };
        let own: usize = client.sets.iter().map(|set| set.len()).sum();
        if !anyone || !self.may_compare(own) {
            return;
        }
        let mut routes = client.permissions().flat_map(|permission| self.model.routes(permission));
        if let Some(route) = routes.find(wide) {
            let message = format!("`{}` lets every client do everything", client.entry.name.text);
            let warning = Diagnostic::warning(Code::VeryWide, message)
                .at(client.entry.name.place.clone())
                .related(route.place.clone(), "this route is every request")
                .help("name the clients, or the routes");
            self.found.push(warning);
        }
    }

    fn fully_denied(&mut self, number: u32, client: &Client) {
        let for_it = |deny: &&Deny| {
            deny.entry.when.is_none() && deny.clients.as_ref().is_none_or(|clients| clients.contains(&number))
        };
        let model = self.model;
        let routes_of = |deny: &'m Deny| {
            let routes = deny.permissions.iter().flat_map(|permission| model.routes(*permission));
            routes.map(move |route| (deny, route))
        };
        let denies: Vec<(&Deny, &Route)> = model.denies.iter().filter(for_it).flat_map(routes_of).collect();
        if !self.may_compare(model.denies.len() + denies.len())
            || denies.is_empty()
            || client.permissions().next().is_none()
        {
            return;
        }
        let mut last = None;
        for route in client.permissions().flat_map(|permission| self.model.routes(permission)) {
            match denies.iter().find(|(_, deny)| covers(deny, route)) {
                Some((deny, _)) if self.may_compare(denies.len()) => last = Some(*deny),
                _ => return,
            }
        }
        if let Some(deny) = last {
            let message = format!("everything that `{}` gives is denied", client.entry.name.text);
            let warning = Diagnostic::warning(Code::FullyDenied, message)
                .at(client.entry.name.place.clone())
                .related(deny.entry.name.place.clone(), "denied here")
                .help("remove the entry, or narrow the deny rule");
            self.found.push(warning);
        }
    }

    fn covered(&mut self, named: &HashSet<u32>) {
        for (number, client) in (0..).zip(&self.model.clients) {
            let own: HashSet<u32> = client.permissions().collect();
            if own.is_empty() || named.contains(&number) || client.entry.limits != super::Limits::default() {
                continue;
            }
            let other = (0..).zip(&self.model.clients).find(|(other, wider)| {
                *other != number
                    && wider.entry.when.is_none()
                    && meant_by(&client.entry.alternatives, &wider.entry.alternatives)
                    && self.may_compare(wider.sets.iter().map(|set| set.len()).sum())
                    && own.is_subset(&wider.permissions().collect())
                    // Of two that say the same, one is pointed out.
                    && (*other < number || !meant_by(&wider.entry.alternatives, &client.entry.alternatives) || !wider.permissions().all(|p| own.contains(&p)))
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
                self.found.push(warning);
            }
        }
    }

    fn denies(&mut self) {
        for deny in &self.model.denies {
            self.over(deny.entry.when.as_ref(), deny.entry.when_place.as_ref(), &deny.entry.name);
            if !self.forbids_something(deny) {
                let name = &deny.entry.name;
                let message = format!("`{}` forbids nothing that is given to anyone it names", name.text);
                self.warn(
                    Code::ForbidsNothing,
                    &name.place,
                    message,
                    "everything that is not given is denied already",
                );
            }
        }
    }

    fn forbids_something(&self, deny: &Deny) -> bool {
        let named = |number: u32| deny.clients.as_ref().is_none_or(|clients| clients.contains(&number));
        let clients =
            (0..).zip(&self.model.clients).filter(|(number, _)| named(*number)).map(|(_, client)| client);
        if !self.may_compare(self.model.clients.len()) {
            return true;
        }
        let given = given(clients);
        deny.permissions.iter().any(|permission| {
            given.contains(permission)
                || self.model.routes(*permission).iter().any(|route| {
                    !self.may_compare(given.len())
                        || given
                            .iter()
                            .flat_map(|given| self.model.routes(*given))
                            .any(|given| overlaps(route, given))
                })
        })
    }

    fn routes(&mut self) {
        for permission in &self.model.permissions {
            let compared = permission.routes.len().min(MOST_COMPARED);
            if !self.may_compare(compared * compared) {
                break;
            }
            for (number, route) in permission.routes.iter().enumerate().take(MOST_COMPARED) {
                let others = permission.routes.iter().enumerate().take(MOST_COMPARED);
                let wider = others.filter(|(other, _)| *other != number).find(|(other, wider)| {
                    covers(wider, route) && (*other < number || !covers(route, wider))
                });
                if let Some((_, wider)) = wider {
                    self.found.push(covered_route(route, wider));
                }
            }
        }
        for route in self.model.permissions.iter().flat_map(|permission| &permission.routes) {
            self.found.extend(foreign_parameter(route));
            self.found.extend(unusual_method(route));
        }
        self.twins();
    }

    fn twins(&mut self) {
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
                self.found.push(warning);
            }
        }
    }

    fn cases(&mut self) {
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

/// A segment that is a parameter elsewhere (`:id`, `<id>`), and a text here.
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

/// A method that is probably a slip of a usual one.
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

/// What client entries are given together. Sets are shared, and each is looked at once.
fn given<'c>(clients: impl IntoIterator<Item = &'c Client>) -> HashSet<u32> {
    let mut seen = HashSet::new();
    let sets = clients.into_iter().flat_map(|client| &client.sets);
    sets.filter(|set| seen.insert(set.as_ptr())).flat_map(|set| set.iter().copied()).collect()
}

/// A value that no certificate has, and why.
fn never(test: &Test) -> Option<(&str, &'static str)> {
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

fn is_everything(path: &Path) -> bool {
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
        let found = codes(
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
            "p.yaml:3:unused-permission",
            "p.yaml:6:covered-route",
            "p.yaml:7:upper-case-twin",
            "p.yaml:11:unused-role",
            "p.yaml:15:fully-denied",
            "p.yaml:16:very-wide",
            "p.yaml:17:matches-nobody",
            "p.yaml:17:expired",
            "p.yaml:18:gives-nothing",
            "p.yaml:20:forbids-nothing",
            "p.yaml:21:upper-case-twin",
        ];
        assert_eq!(found, expected, "{found:#?}");
    }

    #[test]
    fn a_denial_that_nothing_could_change_is_no_test() {
        let found = codes(
            "version: 1
permissions: { read: [GET /events] }
clients: [{ name: a, match: { common_name: a }, permissions: [read] }]
tests:
  - { name: typo, client: { common_name: b }, request: GET /event, expect: deny }
  - { name: right, client: { common_name: b }, request: GET /events, expect: deny }
",
        );
        assert_eq!(found, ["p.yaml:5:tests-nothing"]);
    }

    #[test]
    fn a_grant_within_another_is_pointed_out_once() {
        let found = codes(
            "version: 1
permissions: { read: [GET /events], write: [POST /events] }
clients:
  - { name: a, match: { common_name: a, organization: x }, permissions: [read] }
  - { name: b, match: { common_name: [a, b] }, permissions: [read, write] }
  - { name: c, match: { common_name: [a, b] }, permissions: [read, write] }
  - { name: d, match: { common_name: d }, permissions: [read], when: { from: 2026-01-01T00:00:00Z } }
",
        );
        assert_eq!(found, ["p.yaml:4:covered-grant", "p.yaml:6:covered-grant"]);
    }
}
