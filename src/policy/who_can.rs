//! The client entries that may make a request, with the roles, permissions and conditions.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use jiff::Timestamp;

use super::Question;
use super::check::{Client, Deny, Model};
use super::condition::When;
use super::host::Host;
use super::matching::Alternative;
use super::route::{Route, Segment};
use super::trace::{Evaluation, Finding, file_and_line};
use crate::identity::Identity;
use crate::target::Target;

/// One route by which a client entry may make the request.
#[derive(Debug)]
pub(crate) struct Access<'m> {
    pub(crate) finding: Finding<'m>,
    /// The alternatives of the entry's `match`, in words.
    pub(crate) match_words: Vec<String>,
    /// The further conditions, in words.
    pub(crate) conditions: Vec<String>,
    /// The deny rules that may forbid the request, with their conditions, in words.
    pub(crate) denies: Vec<String>,
    /// True if a deny rule without conditions forbids the request.
    pub(crate) always_denied: bool,
}

/// Returns the routes of all client entries that fit the request.
pub(crate) fn who_can<'m>(model: &'m Model, target: &Target) -> Vec<Access<'m>> {
    let (headers, identity) = (HeaderMap::new(), Identity::from_attributes([]));
    let question = Question {
        target,
        host: Host::Absent,
        headers: Some(&headers),
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        now: Timestamp::UNIX_EPOCH,
        upgrade: None,
    };
    let evaluation = Evaluation { model, identity: &identity, question: &question };
    let mut accesses = Vec::new();
    for (number, client) in (0..).zip(&model.clients) {
        let mut seen = std::collections::HashSet::new();
        for permission in client.permissions().filter(|permission| seen.insert(*permission)) {
            let Some(entry) = model.permissions.get(permission as usize) else { continue };
            for route in entry.routes.iter().filter(|route| evaluation.fits_shape(route)) {
                let roles = model.role_path(client, permission);
                let finding = Finding { entry: &client.entry.name, permission: &entry.name, roles, route };
                let denies: Vec<&Deny> = denies(evaluation, number).collect();
                accesses.push(Access {
                    finding,
                    match_words: client.entry.alternatives.iter().map(Alternative::describe).collect(),
                    conditions: conditions(client, route),
                    always_denied: denies
                        .iter()
                        .any(|deny| deny.entry.when.is_none() && evaluation.always_applies(deny)),
                    denies: denies.iter().map(|deny| evaluation.deny_in_words(deny)).collect(),
                });
            }
        }
    }
    accesses
}

fn denies<'m>(evaluation: Evaluation<'m, '_>, client: u32) -> impl Iterator<Item = &'m Deny> {
    let names_client =
        move |deny: &&Deny| deny.clients.as_ref().is_none_or(|clients| clients.contains(&client));
    let affects_request = move |deny: &&Deny| {
        deny.permissions.iter().any(|permission| {
            evaluation.model.routes(*permission).iter().any(|route| evaluation.fits_shape(route))
        })
    };
    evaluation.model.denies.iter().filter(names_client).filter(affects_request)
}

impl Evaluation<'_, '_> {
    /// Returns true if the deny rule applies for every client, query and header.
    fn always_applies(self, deny: &Deny) -> bool {
        deny.permissions.iter().any(|permission| {
            self.model.routes(*permission).iter().any(|route| {
                let fixed = !route.path.segments.iter().any(|segment| matches!(segment, Segment::Client(_)));
                fixed && !route.is_conditional() && self.fits_shape(route)
            })
        })
    }

    fn deny_in_words(self, deny: &Deny) -> String {
        let name = &deny.entry.name;
        let mut words = format!("denied by `{}` ({})", name.text, file_and_line(&name.place));
        if let Some(when) = &deny.entry.when {
            words += &format!(" while {},", when.describe().join(" and "));
        }
        let routes = deny.permissions.iter().flat_map(|permission| self.model.routes(*permission));
        let alternatives = route_alternatives(routes.filter(|route| self.fits_shape(route)));
        if !alternatives.is_empty() {
            words += &format!(" if {}", alternatives.join(", or if "));
        }
        words.trim_end_matches(',').to_owned()
    }
}

/// Returns the conditions of a deny rule's routes in words. One of them must hold. The result is empty if a route has
/// no conditions.
pub(super) fn route_alternatives<'r>(routes: impl Iterator<Item = &'r Route>) -> Vec<String> {
    let mut alternatives = Vec::new();
    for route in routes {
        let conditions = route_conditions(route);
        if conditions.is_empty() {
            return Vec::new();
        }
        let words = conditions.join(" and ");
        if !alternatives.contains(&words) {
            alternatives.push(words);
        }
    }
    alternatives
}

/// Returns the conditions of a client entry and a route beside the entry's `match`.
pub(super) fn conditions(client: &Client, route: &Route) -> Vec<String> {
    let mut conditions = client.entry.when.as_ref().map(When::describe).unwrap_or_default();
    conditions.extend(route_conditions(route));
    conditions
}

/// Returns the conditions of a route beside its method and path, in words.
fn route_conditions(route: &Route) -> Vec<String> {
    let mut conditions = Vec::new();
    for segment in &route.path.segments {
        if let Segment::Client(variable) = segment {
            conditions.push(format!("the path's `{segment}` is the certificate's `{}`", variable.name()));
        }
    }
    if !route.hosts.is_empty() {
        let hosts: Vec<String> = route.hosts.iter().map(|host| format!("`{host}`")).collect();
        conditions.push(format!("the host is {}", hosts.join(" or ")));
    }
    let listed = |values: &[Box<str>]| {
        values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ")
    };
    conditions.extend(
        route.query.iter().map(|query| format!("the query's `{}` is {}", query.name, listed(&query.values))),
    );
    conditions.extend(
        route
            .headers
            .iter()
            .map(|header| format!("the header `{}` is {}", header.name, listed(&header.values))),
    );
    conditions
}

impl Alternative {
    /// Returns the condition on the certificate in words.
    pub(crate) fn describe(&self) -> String {
        if self.tests.is_empty() {
            return "every client".to_owned();
        }
        let tests: Vec<String> = self
            .tests
            .iter()
            .map(|test| format!("`{}` is {}", test.attribute, test.describe_expected()))
            .collect();
        tests.join(" and ")
    }
}

impl When {
    /// Returns the conditions in words.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut words = Vec::new();
        if !self.source.is_empty() {
            let networks: Vec<String> = self.source.iter().map(|network| format!("`{network}`")).collect();
            words.push(format!("the address is in {}", networks.join(" or ")));
        }
        words.extend(self.from.map(|from| format!("it is {from} or later")));
        words.extend(self.until.map(|until| format!("it is before {until}")));
        words.extend(self.week.as_ref().map(super::condition::Week::describe));
        words
    }
}
