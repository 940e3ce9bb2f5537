//! The evaluation of a request entry by entry on the checked model: all grants and deny rules that apply, and the grants that
//! nearly apply, for tools. This code is slow and simple. The proxy decides by [`Policy`](super::Policy), and tests compare
//! the two.

use std::collections::HashSet;
use std::fmt::Display;

use jiff::Timestamp;

use super::Question;
use super::check::{Client, Deny, Member, Model};
use super::condition::{IfDoubtful, When};
use super::document::LocatedText;
use super::host::{self, Host};
use super::matching::{Alternative, AttributeTest, bind, values};
use super::route::{Path, Route, Segment, Variable};
use crate::diagnostic::Place;
use crate::identity::{Attribute, Identity};

/// One request of one identity, evaluated on a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evaluation<'m, 'q> {
    pub(crate) model: &'m Model,
    pub(crate) identity: &'q Identity,
    pub(crate) question: &'q Question<'q>,
}

/// An entry that applies to the request, and the route by which it does.
#[derive(Clone, Debug)]
pub(crate) struct Finding<'m> {
    /// Name of the client entry or deny rule.
    pub(crate) entry: &'m LocatedText,
    /// Name of the permission with the route; the name of the deny rule if the route stands in the deny rule itself.
    pub(crate) permission: &'m LocatedText,
    /// Roles through which the client entry has the permission, outermost first.
    pub(crate) roles: Vec<&'m str>,
    pub(crate) route: &'m Route,
}

/// A client entry with a route for the path and method, which does not grant the request because a condition fails.
#[derive(Clone, Debug)]
pub(crate) struct NearMiss<'m> {
    pub(crate) entry: &'m LocatedText,
    pub(crate) permission: &'m LocatedText,
    pub(crate) route: &'m Route,
    /// Description of the first condition that fails.
    pub(crate) because: String,
}

impl<'m, 'q> Evaluation<'m, 'q> {
    /// Returns all client entries and routes that grant the request.
    pub(crate) fn grants(self) -> Vec<Finding<'m>> {
        let meant =
            self.model.clients.iter().filter(|client| self.matches_identity(&client.entry.alternatives));
        let meant = meant.filter(|client| self.is_in_force(client.entry.when.as_ref()));
        meant.flat_map(|client| self.granted_by(client)).collect()
    }

    /// Returns all deny rules and routes that forbid the request.
    pub(crate) fn denies(self) -> Vec<Finding<'m>> {
        let denies = self.model.denies.iter().filter(|deny| self.is_in_force(deny.entry.when.as_ref()));
        denies.flat_map(|deny| self.denied_by(deny)).collect()
    }

    /// Returns the client entries that match the identity.
    pub(crate) fn clients(self) -> impl Iterator<Item = &'m Client> + use<'m, 'q> {
        self.model.clients.iter().filter(move |client| self.matches_identity(&client.entry.alternatives))
    }

    /// Returns the client entries with a route for the path and method, each with the first condition that fails.
    pub(crate) fn near_misses(self) -> Vec<NearMiss<'m>> {
        let mut misses = Vec::new();
        for client in &self.model.clients {
            let mut seen = HashSet::new();
            for permission in client.permissions().filter(|permission| seen.insert(*permission)) {
                for route in self.model.routes(permission).iter().filter(|route| self.fits_shape(route)) {
                    let Some(because) = self.failing_condition(client, route) else { continue };
                    let Some(permission) = self.model.permissions.get(permission as usize) else { continue };
                    misses.push(NearMiss {
                        entry: &client.entry.name,
                        permission: &permission.name,
                        route,
                        because,
                    });
                }
            }
        }
        misses
    }

    /// Returns the routes whose path matches, with any method.
    pub(crate) fn routes_of_path(self) -> Vec<&'m Route> {
        self.all_routes().filter(|route| self.fits_path(&route.path, |_| None, IfDoubtful::Met)).collect()
    }

    fn all_routes(self) -> impl Iterator<Item = &'m Route> + use<'m, 'q> {
        self.model.permissions.iter().take(self.model.declared).flat_map(|permission| &permission.routes)
    }

    fn granted_by(self, client: &'m Client) -> Vec<Finding<'m>> {
        let mut findings = Vec::new();
        let mut seen = HashSet::new();
        for permission in client.permissions().filter(|permission| seen.insert(*permission)) {
            let routes = self.model.routes(permission).iter();
            for route in
                routes.filter(|route| self.fits(route, Some(&client.entry.alternatives), IfDoubtful::Unmet))
            {
                let Some(entry) = self.model.permissions.get(permission as usize) else { continue };
                let roles = self.model.role_path(client, permission);
                findings.push(Finding { entry: &client.entry.name, permission: &entry.name, roles, route });
            }
        }
        findings
    }

    fn denied_by(self, deny: &'m Deny) -> Vec<Finding<'m>> {
        let mut findings = Vec::new();
        for permission in deny.permissions.iter() {
            let Some(entry) = self.model.permissions.get(*permission as usize) else { continue };
            for route in entry.routes.iter().filter(|route| self.forbids(deny, route)) {
                findings.push(Finding {
                    entry: &deny.entry.name,
                    permission: &entry.name,
                    roles: Vec::new(),
                    route,
                });
            }
        }
        findings
    }

    fn forbids(self, deny: &Deny, route: &Route) -> bool {
        let Some(clients) = &deny.clients else { return self.fits(route, None, IfDoubtful::Met) };
        let clients = clients.iter().filter_map(|client| self.model.clients.get(*client as usize));
        clients.map(|client| client.entry.alternatives.as_slice()).any(|alternatives| {
            self.matches_identity(alternatives) && self.fits(route, Some(alternatives), IfDoubtful::Met)
        })
    }

    fn matches_identity(self, alternatives: &[Alternative]) -> bool {
        alternatives.iter().any(|alternative| alternative.holds(self.identity))
    }

    fn is_in_force(self, when: Option<&When>) -> bool {
        when.is_none_or(|when| when.holds(self.question.source, self.question.now))
    }

    fn fits(self, route: &Route, alternatives: Option<&[Alternative]>, if_doubtful: IfDoubtful) -> bool {
        let bound = |variable: &Variable| bind(alternatives.unwrap_or_default(), self.identity, variable);
        route.methods.contains(self.question.target.method())
            && self.fits_path(&route.path, bound, if_doubtful)
            && host::holds(&route.hosts, self.question.host, if_doubtful)
            && route.query.iter().all(|condition| condition.holds(self.question.target.query(), if_doubtful))
            && route.headers.iter().all(|condition| condition.holds(self.question.headers, if_doubtful))
    }

    /// Returns true if the method and path of a route match, without its conditions.
    pub(crate) fn fits_shape(self, route: &Route) -> bool {
        route.methods.contains(self.question.target.method())
            && self.fits_path(&route.path, |_| None, IfDoubtful::Met)
    }

    fn fits_path(
        self,
        path: &Path,
        bound: impl Fn(&Variable) -> Option<Box<str>>,
        if_doubtful: IfDoubtful,
    ) -> bool {
        let segments: Vec<&[u8]> = self.question.target.segments().collect();
        let enough = if path.rest {
            segments.len() >= path.segments.len()
        } else {
            segments.len() == path.segments.len()
        };
        enough
            && path.segments.iter().zip(segments).all(|(pattern, segment)| match pattern {
                Segment::Literal(literal) => **literal == *segment,
                Segment::Glob(glob) => glob.matches(segment),
                Segment::Any => !segment.is_empty(),
                Segment::Client(variable) => match bound(variable) {
                    Some(text) => text.as_bytes() == segment,
                    None => if_doubtful == IfDoubtful::Met && !segment.is_empty(),
                },
            })
    }

    /// Describes the first condition of a grant that fails, for a route whose path and method match.
    fn failing_condition(self, client: &Client, route: &Route) -> Option<String> {
        let entry = &client.entry;
        if !self.matches_identity(&entry.alternatives) {
            return self.failing_match(&entry.alternatives);
        }
        if let Some(when) = &entry.when
            && let Some(because) = self.failing_when(when)
        {
            return Some(because);
        }
        self.failing_variable(entry.alternatives.as_slice(), route)
            .or_else(|| self.failing_route_condition(route))
    }

    /// Describes the first test that fails, in the alternative with the fewest failing tests.
    fn failing_match(self, alternatives: &[Alternative]) -> Option<String> {
        let failing = |alternative: &'_ Alternative| {
            alternative.tests.iter().filter(|test| !test.holds(self.identity)).count()
        };
        let closest = alternatives.iter().min_by_key(|alternative| failing(alternative))?;
        let test = closest.tests.iter().find(|test| !test.holds(self.identity))?;
        Some(describe_mismatch(test, self.identity))
    }

    fn failing_when(self, when: &When) -> Option<String> {
        let now: Timestamp = self.question.now;
        if let Some(from) = when.from.filter(|from| now < *from) {
            return Some(format!("it applies from {from}, and the time is {now}"));
        }
        if let Some(until) = when.until.filter(|until| *until <= now) {
            return Some(format!("it applied until {until}, and the time is {now}"));
        }
        let only_source = When { source: when.source.clone(), ..When::default() };
        if !only_source.holds(self.question.source, now) {
            let networks: Vec<String> = when.source.iter().map(|network| format!("`{network}`")).collect();
            return Some(format!("the address {} is not in {}", self.question.source, networks.join(" or ")));
        }
        let week = when.week.as_ref().filter(|week| !week.holds(now))?;
        Some(format!("it applies only while {}, and the time is {now}", week.describe()))
    }

    fn failing_variable(self, alternatives: &[Alternative], route: &Route) -> Option<String> {
        let segments: Vec<&[u8]> = self.question.target.segments().collect();
        for (pattern, segment) in route.path.segments.iter().zip(segments) {
            let Segment::Client(variable) = pattern else { continue };
            let name = variable.name();
            match bind(alternatives, self.identity, variable) {
                None => return Some(format!("the certificate gives no value for `{{client.{name}}}`")),
                Some(text) if text.as_bytes() != segment => {
                    let segment = String::from_utf8_lossy(segment);
                    return Some(format!("`{{client.{name}}}` is `{text}`, and the path says `{segment}`"));
                }
                Some(_) => {}
            }
        }
        None
    }

    fn failing_route_condition(self, route: &Route) -> Option<String> {
        if !host::holds(&route.hosts, self.question.host, IfDoubtful::Unmet) {
            let hosts = either(route.hosts.iter());
            return Some(match self.question.host {
                Host::Named(host) => format!("the host is `{host}`, not {hosts}"),
                Host::Absent | Host::Unrecorded => {
                    format!("the request names no host, and the entry requires {hosts}")
                }
            });
        }
        let query = route
            .query
            .iter()
            .find(|condition| !condition.holds(self.question.target.query(), IfDoubtful::Unmet));
        if let Some(condition) = query {
            if let Some(doubt) = condition.doubt_reason(self.question.target.query().unwrap_or_default()) {
                return Some(doubt);
            }
            return Some(format!(
                "the query parameter `{}` must occur exactly once, with the value {}",
                condition.name,
                either(condition.values.iter())
            ));
        }
        let header = route
            .headers
            .iter()
            .find(|condition| !condition.holds(self.question.headers, IfDoubtful::Unmet))?;
        if let Some(doubt) = self.question.headers.and_then(|headers| header.doubt_reason(headers)) {
            return Some(doubt);
        }
        Some(format!(
            "the header `{}` must occur exactly once, with the value {}",
            header.name,
            either(header.values.iter())
        ))
    }
}

fn either(values: impl Iterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.take(5).map(|value| format!("`{value}`")).collect();
    values.join(" or ")
}

/// Describes how the certificate differs from the values that a test asks for.
fn describe_mismatch(test: &AttributeTest, identity: &Identity) -> String {
    let attribute = test.attribute;
    let wanted = test.describe_expected();
    let has: Vec<&str> = values(identity, attribute).collect();
    match has.as_slice() {
        [] if attribute == Attribute::CommonName && identity.values(attribute).next().is_some() => {
            "the certificate has several common names, so `common_name` matches no rule".to_owned()
        }
        [] => format!("the certificate has no `{attribute}`, and the entry requires {wanted}"),
        [value] => format!("`{attribute}` is `{value}`, not {wanted}"),
        several => format!("none of the {} values of `{attribute}` is {wanted}", several.len()),
    }
}

impl AttributeTest {
    /// Describes the values that the test asks for: the first three.
    pub(crate) fn describe_expected(&self) -> String {
        let exact = self.exact.iter().map(ToString::to_string);
        let patterns = self.patterns.iter().map(ToString::to_string);
        let networks = self.networks.iter().map(ToString::to_string);
        let mut all: Vec<String> =
            exact.chain(patterns).chain(networks).map(|value| format!("`{value}`")).collect();
        let more = all.len().saturating_sub(3);
        all.truncate(3);
        let listed = all.join(" or ");
        if more > 0 { format!("{listed} or one of {more} more") } else { listed }
    }
}

impl Model {
    /// Returns the roles through which a client entry has a permission; none if the entry lists the permission itself.
    pub(crate) fn role_path(&self, client: &Client, permission: u32) -> Vec<&str> {
        let mut open: Vec<(u32, Vec<u32>)> = client.roles.iter().map(|role| (*role, vec![*role])).collect();
        let mut seen: HashSet<u32> = client.roles.iter().copied().collect();
        open.reverse();
        while let Some((number, way)) = open.pop() {
            let Some(role) = self.roles.get(number as usize) else { continue };
            if role.permissions.binary_search(&permission).is_err() {
                continue;
            }
            if role.members.contains(&Member::Permission(permission)) {
                let names = way.iter().filter_map(|role| self.roles.get(*role as usize));
                return names.map(|role| &*role.entry.name.text).collect();
            }
            for member in role.members.iter().rev() {
                if let Member::Role { role, .. } = member
                    && seen.insert(*role)
                {
                    let mut longer = way.clone();
                    longer.push(*role);
                    open.push((*role, longer));
                }
            }
        }
        Vec::new()
    }
}

impl Finding<'_> {
    /// Describes the roles, the permission and the route of the finding.
    pub(crate) fn describe(&self) -> String {
        let mut words = String::new();
        for role in &self.roles {
            words += &format!("role `{role}` → ");
        }
        if !std::ptr::eq(self.entry, self.permission) && self.entry.text != self.permission.text {
            words += &format!("`{}` → ", self.permission.text);
        }
        format!("{words}`{}` ({})", self.route.text, file_and_line(&self.route.place))
    }
}

/// Returns `file:line` of a place.
pub(crate) fn file_and_line(place: &Place) -> String {
    format!("{}:{}", place.source.name(), place.position().line)
}
