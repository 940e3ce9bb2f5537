//! Comparison of two policies: which requests a change newly allows and newly denies, exactly and not by sampling.
//!
//! Clauses that both policies have mean the same in both, however they are written, and are left out ([`keys`]). For each
//! remaining grant, and for each grant that a changed deny rule could affect, [`search`] either finds a request that only
//! one policy allows, or proves that there is none. Every reported example was decided by both policies through the engine
//! that the proxy uses. If the search can neither find nor exclude a difference, the route is reported as undecided.
//!
//! A certificate is any set of values here; the comparison does not know which sets an authority would issue. Weekly
//! windows are followed for 400 days.

mod binding;
mod certificate;
mod clause;
mod host;
mod keys;
mod language;
mod methods;
mod parameter;
mod path;
mod region;
mod report;
mod request;
mod search;
mod source;
mod time;

use std::collections::{BTreeMap, HashSet};

use http::Method;
use jiff::Timestamp;

use super::check::Model;
use super::condition::When;
use super::matching::Alternative;
use super::route::Route;
use super::who_can::conditions;
use super::{Limits, LocatedText, RouteTimeouts, Upgrade};
use crate::identity::Attribute;
use clause::Clause;
use keys::{Key, KeyTable};
use methods::{MethodClass, changed_methods, method_classes};
pub(crate) use report::{
    ForbiddingRule, LimitsChange, PolicyDifference, RouteChange, TimeoutsChange, UndecidedRoute,
};
pub(crate) use request::ExampleRequest;
use search::{ComparedPolicy, Goal, Outcome, Search};

/// The number of regions that one comparison may search.
const MAX_REGIONS: usize = 200_000;

/// Returns the attributes of a certificate for which the alternative holds; `None` if no such certificate is found.
pub(crate) fn certificate_for(alternative: &Alternative) -> Option<Vec<(Attribute, String)>> {
    let tests = alternative.tests.iter().map(|test| (test, true)).collect();
    certificate::CertificateConstraints { tests }.attributes(&[]).ok().flatten()
}

/// Compares two policies. Examples have the time `now` unless a condition asks for another.
pub(crate) fn diff<'m>(old: &'m Model, new: &'m Model, now: Timestamp) -> PolicyDifference<'m> {
    let mut difference = PolicyDifference {
        limits: limits(old, new),
        timeouts: timeouts(old, new),
        ..PolicyDifference::default()
    };
    let mut keys = KeyTable::default();
    let old = PolicyKeys::of(old, &mut keys);
    let new = PolicyKeys::of(new, &mut keys);
    if old.means_the_same_as(&new) {
        return difference;
    }
    let classes = method_classes(old.model, new.model);
    let (old_policy, new_policy) = (ComparedPolicy::of(old.model), ComparedPolicy::of(new.model));
    let mut regions_left = MAX_REGIONS;
    for (allowed, mine, other, my_policy, other_policy) in
        [(true, &new, &old, &new_policy, &old_policy), (false, &old, &new, &old_policy, &new_policy)]
    {
        let search = Search { mine: my_policy, other: other_policy, now, regions_left };
        let mut comparison =
            Comparison { search, classes: &classes, changes: Vec::new(), undecided: Vec::new() };
        comparison.run(mine, other, &mut keys);
        regions_left = comparison.search.regions_left;
        let undecided = comparison.undecided.into_iter();
        difference.undecided.extend(undecided.map(|grant| undecided_route(&grant, allowed)));
        let changes = if allowed { &mut difference.allowed } else { &mut difference.denied };
        *changes = comparison.changes;
    }
    difference
}

fn undecided_route<'m>(grant: &Clause<'m>, allowed: bool) -> UndecidedRoute<'m> {
    let Clause { entry, permission, route, .. } = *grant;
    UndecidedRoute { entry, permission, route, allowed }
}

/// The keys of all clauses of a policy.
struct PolicyKeys<'m> {
    model: &'m Model,
    grants: HashSet<Key>,
    denies: HashSet<Key>,
}

impl<'m> PolicyKeys<'m> {
    fn of(model: &'m Model, keys: &mut KeyTable) -> Self {
        let grants = Clause::grants(model).map(|clause| keys.key(&clause)).collect();
        let denies = Clause::denies(model).map(|clause| keys.key(&clause)).collect();
        Self { model, grants, denies }
    }

    fn means_the_same_as(&self, other: &Self) -> bool {
        self.grants == other.grants && self.denies == other.denies
    }
}

/// One direction of the comparison: requests that `mine` allows and `other` does not.
struct Comparison<'s, 'm> {
    search: Search<'s, 'm>,
    classes: &'s [MethodClass],
    changes: Vec<RouteChange<'m>>,
    undecided: Vec<Clause<'m>>,
}

/// The clauses of one route of one entry, and the reasons why the other policy may not allow what they grant.
#[derive(Clone, Copy)]
struct Candidate<'c, 'm> {
    /// One clause for each alternative of the entry's `match`.
    grants: &'c [Clause<'m>],
    /// True if the other policy has no grant with the same meaning.
    is_changed: bool,
    /// The deny clauses that only the other policy has.
    denies: &'c [Clause<'m>],
}

impl<'m> Comparison<'_, 'm> {
    fn run(&mut self, mine: &PolicyKeys<'m>, other: &PolicyKeys<'m>, keys: &mut KeyTable) {
        let mut denies: Vec<Clause<'m>> = Clause::denies(other.model).collect();
        denies.retain(|clause| !mine.denies.contains(&keys.key(clause)));
        let grants: Vec<Clause<'m>> = Clause::grants(mine.model).collect();
        for grants in grants.chunk_by(Clause::is_of_same_route) {
            let Some(first) = grants.first() else { continue };
            let is_changed = !other.grants.contains(&keys.key(first));
            if is_changed || !denies.is_empty() {
                self.compare_route(first, Candidate { grants, is_changed, denies: &denies });
            }
        }
    }

    fn compare_route(&mut self, first: &Clause<'m>, candidate: Candidate<'_, 'm>) {
        let classes: Vec<&MethodClass> =
            self.classes.iter().filter(|class| first.route.methods.contains(&class.representative)).collect();
        let mut is_undecided = false;
        let mut done: Vec<bool> = vec![false; classes.len()];
        for upgrade in [None, Some(Upgrade::WebSocket)] {
            if upgrade.is_some() && !first.route.upgrade {
                break;
            }
            let mut examples: Vec<Option<ExampleRequest>> = Vec::new();
            for (class, done) in classes.iter().zip(&mut done) {
                let mut example = None;
                if !*done {
                    let goals = candidate.goals(&class.representative, upgrade);
                    match self.first_difference(goals) {
                        Ok(found) => example = found,
                        Err(NotDecided) => is_undecided = true,
                    }
                    *done = example.is_some();
                }
                examples.push(example);
            }
            let methods = changed_methods(first, &classes, &examples);
            if let Some(example) = examples.into_iter().flatten().next() {
                let change = self.change(first, methods, example);
                self.changes.push(change);
            }
        }
        if is_undecided {
            self.undecided.push(*first);
        }
    }

    fn first_difference(
        &mut self,
        goals: impl Iterator<Item = Goal<'m>>,
    ) -> Result<Option<ExampleRequest>, NotDecided> {
        let mut is_undecided = false;
        for goal in goals {
            match self.search.run(&goal) {
                Outcome::Differs(request) => return Ok(Some(*request)),
                Outcome::Same => {}
                Outcome::Undecided => is_undecided = true,
            }
        }
        if is_undecided { Err(NotDecided) } else { Ok(None) }
    }

    fn change(&self, grant: &Clause<'m>, methods: String, example: ExampleRequest) -> RouteChange<'m> {
        let client = grant.client;
        let alternatives = client.map(|client| client.entry.alternatives.as_slice()).unwrap_or_default();
        let denied_by = example.input().and_then(|input| {
            let deny = Clause::denies(self.search.other.model).find(|clause| clause.applies_to(&input))?;
            let conditions = deny.when.map(When::describe).unwrap_or_default();
            Some(ForbiddingRule { entry: deny.entry, conditions })
        });
        RouteChange {
            entry: grant.entry,
            match_words: alternatives.iter().map(Alternative::describe).collect(),
            permission: grant.permission,
            route: grant.route,
            methods,
            websocket_only: example.upgrade.is_some(),
            conditions: client.map(|client| conditions(client, grant.route)).unwrap_or_default(),
            denied_by,
            example,
        }
    }
}

/// The search neither found a difference nor excluded one.
struct NotDecided;

impl Clause<'_> {
    /// Returns true if both clauses belong to the same route of the same entry.
    fn is_of_same_route(&self, other: &Self) -> bool {
        std::ptr::eq(self.entry, other.entry)
            && std::ptr::eq(self.permission, other.permission)
            && std::ptr::eq(self.route, other.route)
    }
}

impl<'m> Candidate<'_, 'm> {
    /// Returns the goals of the search for one method: no grant in the other policy, then each deny clause.
    fn goals(&self, method: &Method, upgrade: Option<Upgrade>) -> impl Iterator<Item = Goal<'m>> {
        let Self { grants, is_changed, denies } = *self;
        let goal = move |grant: &Clause<'m>, deny: Option<&Clause<'m>>| Goal {
            grant: *grant,
            deny: deny.copied(),
            method: method.clone(),
            upgrade,
        };
        let ungranted = grants.iter().filter(move |_| is_changed).map(move |grant| goal(grant, None));
        let denies = denies.iter().filter(move |deny| deny.route.methods.contains(method));
        let forbidden = denies.flat_map(move |deny| grants.iter().map(move |grant| goal(grant, Some(deny))));
        ungranted.chain(forbidden)
    }
}

fn limits<'m>(old: &'m Model, new: &'m Model) -> Vec<LimitsChange<'m>> {
    let before: BTreeMap<&str, Limits> =
        old.clients.iter().map(|client| (&*client.entry.name.text, client.entry.limits)).collect();
    let all = new.clients.iter().filter_map(|client| {
        let entry = &client.entry;
        let old = *before.get(&*entry.name.text)?;
        (old != entry.limits).then_some(LimitsChange { entry: &entry.name, old, new: entry.limits })
    });
    all.collect()
}

/// Returns the routes of permissions that both policies have and whose time limits are not the same.
fn timeouts<'m>(old: &'m Model, new: &'m Model) -> Vec<TimeoutsChange<'m>> {
    let before = limited_routes(old);
    let changed = limited_routes(new).into_iter().filter_map(|(key, (permission, route, new))| {
        let (_, _, old) = *before.get(&key)?;
        (old != new).then_some(TimeoutsChange { permission, route, old, new })
    });
    changed.collect()
}

/// A route, its permission, and the time limits of all routes of that permission that mean the same.
type LimitedRoute<'m> = (&'m LocatedText, &'m Route, RouteTimeouts);

/// Returns the routes by the name of their permission and their meaning.
fn limited_routes(model: &Model) -> BTreeMap<(&str, String), LimitedRoute<'_>> {
    let mut found: BTreeMap<(&str, String), LimitedRoute<'_>> = BTreeMap::new();
    for permission in &model.permissions {
        for route in &permission.routes {
            let key = (&*permission.name.text, keys::path(route));
            let (_, _, timeouts) = found.entry(key).or_insert((&permission.name, route, route.timeouts));
            *timeouts = timeouts.longest(route.timeouts);
        }
    }
    found
}
