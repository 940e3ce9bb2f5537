//! Which client entries may make a request, through what, and under which conditions.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use jiff::Timestamp;

use super::Question;
use super::check::{Client, Deny, Model};
use super::condition::When;
use super::host::Host;
use super::matching::Alternative;
use super::route::{Route, Segment};
use super::trace::{Evaluation, Finding, line};
use crate::identity::Identity;
use crate::target::Target;

/// One way for a client entry to make the request.
#[derive(Debug)]
pub(crate) struct Answer<'m> {
    pub(crate) finding: Finding<'m>,
    /// Each alternative of its `match`, in words.
    pub(crate) whom: Vec<String>,
    /// What must hold besides.
    pub(crate) conditions: Vec<String>,
    /// What takes it away, and when.
    pub(crate) denies: Vec<String>,
    /// Whether a deny rule without conditions takes it away.
    pub(crate) never: bool,
}

/// Every way, of every client entry.
pub(crate) fn who_can<'m>(model: &'m Model, target: &Target) -> Vec<Answer<'m>> {
    let (headers, nobody) = (HeaderMap::new(), Identity::from_attributes([]));
    let question = Question {
        target,
        host: Host::Absent,
        headers: Some(&headers),
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        now: Timestamp::UNIX_EPOCH,
        upgrade: None,
    };
    let evaluation = Evaluation { model, identity: &nobody, question: &question };
    let mut answers = Vec::new();
    for (number, client) in (0..).zip(&model.clients) {
        let mut seen = std::collections::HashSet::new();
        for permission in client.permissions().filter(|permission| seen.insert(*permission)) {
            let Some(entry) = model.permissions.get(permission as usize) else { continue };
            for route in entry.routes.iter().filter(|route| evaluation.fits_shape(route)) {
                let roles = model.way(client, permission);
                let finding = Finding { entry: &client.entry.name, permission: &entry.name, roles, route };
                let denies: Vec<&Deny> = denies(evaluation, number).collect();
                answers.push(Answer {
                    finding,
                    whom: client.entry.alternatives.iter().map(Alternative::words).collect(),
                    conditions: conditions(client, route),
                    never: denies
                        .iter()
                        .any(|deny| deny.entry.when.is_none() && evaluation.denies_whatever_else(deny)),
                    denies: denies.iter().map(|deny| evaluation.deny_in_words(deny)).collect(),
                });
            }
        }
    }
    answers
}

fn denies<'m>(evaluation: Evaluation<'m, '_>, client: u32) -> impl Iterator<Item = &'m Deny> {
    let names_it = move |deny: &&Deny| deny.clients.as_ref().is_none_or(|clients| clients.contains(&client));
    let means_it = move |deny: &&Deny| {
        deny.permissions.iter().any(|permission| {
            evaluation.model.routes(*permission).iter().any(|route| evaluation.fits_shape(route))
        })
    };
    evaluation.model.denies.iter().filter(names_it).filter(means_it)
}

impl Evaluation<'_, '_> {
    /// Whether the deny means the request whoever asks and whatever its query and headers say.
    fn denies_whatever_else(self, deny: &Deny) -> bool {
        deny.permissions.iter().any(|permission| {
            self.model.routes(*permission).iter().any(|route| {
                let fixed = !route.path.segments.iter().any(|segment| matches!(segment, Segment::Client(_)));
                fixed && !route.is_conditional() && self.fits_shape(route)
            })
        })
    }

    fn deny_in_words(self, deny: &Deny) -> String {
        let name = &deny.entry.name;
        let mut words = format!("denied by `{}` ({})", name.text, line(&name.place));
        if let Some(when) = &deny.entry.when {
            words += &format!(" while {},", when.words().join(" and "));
        }
        let routes = deny.permissions.iter().flat_map(|permission| self.model.routes(*permission));
        let alternatives = alternatives(routes.filter(|route| self.fits_shape(route)));
        if !alternatives.is_empty() {
            words += &format!(" if {}", alternatives.join(", or if "));
        }
        words.trim_end_matches(',').to_owned()
    }
}

/// Conditions of the routes of a deny rule in words, of which those of one route must hold; none where a route has none.
pub(super) fn alternatives<'r>(routes: impl Iterator<Item = &'r Route>) -> Vec<String> {
    let mut alternatives = Vec::new();
    for route in routes {
        let conditions = of_route(route);
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

/// What must hold besides whom the entry means.
pub(super) fn conditions(client: &Client, route: &Route) -> Vec<String> {
    let mut conditions = client.entry.when.as_ref().map(When::words).unwrap_or_default();
    conditions.extend(of_route(route));
    conditions
}

/// Conditions of a route beyond its method and path, in words.
fn of_route(route: &Route) -> Vec<String> {
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
    /// In words: what a certificate must say.
    pub(crate) fn words(&self) -> String {
        if self.tests.is_empty() {
            return "every client".to_owned();
        }
        let tests: Vec<String> =
            self.tests.iter().map(|test| format!("`{}` is {}", test.attribute, test.wanted())).collect();
        tests.join(" and ")
    }
}

impl When {
    /// In words, a condition each.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if !self.source.is_empty() {
            let networks: Vec<String> = self.source.iter().map(|network| format!("`{network}`")).collect();
            words.push(format!("the address is in {}", networks.join(" or ")));
        }
        words.extend(self.from.map(|from| format!("it is {from} or later")));
        words.extend(self.until.map(|until| format!("it is before {until}")));
        words.extend(self.week.as_ref().map(super::condition::Week::words));
        words
    }
}
