//! What a change of policy newly allows and newly denies: exactly, not by sampling.
//!
//! Rules that both policies have mean the same in both, however they are written, and are put aside ([`keys`]). Of each
//! grant that is left, and of each grant that a changed deny rule could touch, [`search`] either finds a request that the
//! one policy allows and the other does not, or proves that there is none. What is reported was put to both policies as
//! the proxy puts it; what could be neither found nor disproven is reported as undecided, never passed over.
//!
//! A certificate is any set of values here: that an authority would not issue some of them together is not known. Weekly
//! windows are followed for a year and a bit.

mod authority;
mod bound;
mod keys;
mod language;
mod moment;
mod parameter;
mod path;
mod region;
mod request;
mod rule;
mod search;
mod who;

use std::collections::{BTreeMap, HashSet};

use http::Method;
use jiff::Timestamp;

use super::Limits;
use super::check::Model;
use super::condition::When;
use super::document::Word;
use super::matching::Alternative;
use super::route::{KNOWN, Methods, Route};
use super::who_can::conditions;
use crate::identity::Attribute;
use keys::{Key, Keys};
pub(crate) use request::Request;
use rule::Rule;
use search::{Goal, Outcome, Search, Side};

/// More regions than this are not searched for one comparison.
const MOST_REGIONS: usize = 200_000;

/// What a certificate could say of which the alternative holds; nothing where none can be thought of.
pub(crate) fn certificate_for(alternative: &Alternative) -> Option<Vec<(Attribute, String)>> {
    let whom = who::Whom { tests: alternative.tests.iter().map(|test| (test, true)).collect() };
    whom.attributes(&[]).ok().flatten()
}

/// How two policies differ in what they allow.
#[derive(Debug, Default)]
pub(crate) struct Difference<'m> {
    pub(crate) allowed: Vec<Change<'m>>,
    pub(crate) denied: Vec<Change<'m>>,
    /// What may have changed, but could not be decided.
    pub(crate) undecided: Vec<Undecided<'m>>,
    /// Client entries whose limits are others than before, which changes nothing in what is allowed.
    pub(crate) limits: Vec<LimitsOf<'m>>,
}

/// A route of a client entry by which something is allowed in one policy only.
#[derive(Debug)]
pub(crate) struct Change<'m> {
    pub(crate) entry: &'m Word,
    /// Each alternative of its `match`, in words.
    pub(crate) whom: Vec<String>,
    pub(crate) permission: &'m Word,
    pub(crate) route: &'m Route,
    /// Those of its methods that it is about.
    pub(crate) methods: String,
    /// Whether it is about the switch to WebSocket only.
    pub(crate) switch: bool,
    /// What the entry asks besides, in words.
    pub(crate) conditions: Vec<String>,
    /// The deny rule of the other policy that forbids the example.
    pub(crate) denied_by: Option<Forbidding<'m>>,
    pub(crate) example: Request,
}

/// A deny rule.
#[derive(Debug)]
pub(crate) struct Forbidding<'m> {
    pub(crate) entry: &'m Word,
    /// While what holds, in words.
    pub(crate) conditions: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Undecided<'m> {
    pub(crate) entry: &'m Word,
    pub(crate) permission: &'m Word,
    pub(crate) route: &'m Route,
    /// Whether it may be newly allowed; otherwise newly denied.
    pub(crate) allowed: bool,
}

#[derive(Debug)]
pub(crate) struct LimitsOf<'m> {
    pub(crate) entry: &'m Word,
    pub(crate) old: Limits,
    pub(crate) new: Limits,
}

impl Difference<'_> {
    /// Whether both policies surely allow the same.
    pub(crate) const fn is_none(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty() && self.undecided.is_empty()
    }
}

/// Compares two policies; examples are as of `now` where the time does not matter.
pub(crate) fn diff<'m>(old: &'m Model, new: &'m Model, now: Timestamp) -> Difference<'m> {
    let mut difference = Difference { limits: limits(old, new), ..Difference::default() };
    let mut keys = Keys::default();
    let old = Parts::of(old, &mut keys);
    let new = Parts::of(new, &mut keys);
    if old.means_the_same_as(&new) {
        return difference;
    }
    let cells = cells(old.model, new.model);
    let (old_side, new_side) = (Side::of(old.model), Side::of(new.model));
    let mut left = MOST_REGIONS;
    for (allowed, mine, other, mine_side, other_side) in
        [(true, &new, &old, &new_side, &old_side), (false, &old, &new, &old_side, &new_side)]
    {
        let search = Search { mine: mine_side, other: other_side, now, regions_left: left };
        let mut comparison = Comparison { search, cells: &cells, changes: Vec::new(), undecided: Vec::new() };
        comparison.run(mine, other, &mut keys);
        left = comparison.search.regions_left;
        let undecided = comparison.undecided.into_iter().map(|grant| Undecided {
            entry: grant.entry,
            permission: grant.permission,
            route: grant.route,
            allowed,
        });
        difference.undecided.extend(undecided);
        let changes = if allowed { &mut difference.allowed } else { &mut difference.denied };
        *changes = comparison.changes;
    }
    difference
}

/// What the rules of a policy mean.
struct Parts<'m> {
    model: &'m Model,
    grants: HashSet<Key>,
    denies: HashSet<Key>,
}

impl<'m> Parts<'m> {
    fn of(model: &'m Model, keys: &mut Keys) -> Self {
        let grants = Rule::grants(model).map(|rule| keys.of(&rule)).collect();
        let denies = Rule::denies(model).map(|rule| keys.of(&rule)).collect();
        Self { model, grants, denies }
    }

    fn means_the_same_as(&self, other: &Self) -> bool {
        self.grants == other.grants && self.denies == other.denies
    }
}

/// Methods that no route of either policy tells apart.
#[derive(Debug)]
struct Cell {
    one: Method,
    /// All of them that have a name; the methods that no route names have none.
    named: Vec<Method>,
}

fn cells(old: &Model, new: &Model) -> Vec<Cell> {
    let routes = [old, new].into_iter().flat_map(|model| &model.permissions);
    let mut sets: Vec<&Methods> = Vec::new();
    for methods in routes.flat_map(|permission| &permission.routes).map(|route| &route.methods) {
        if !sets.contains(&methods) {
            sets.push(methods);
        }
    }
    let mut named: Vec<Method> = KNOWN.into();
    for method in sets.iter().flat_map(|methods| methods.named()) {
        if !named.contains(&method) {
            named.push(method);
        }
    }
    let within = |method: &Method| sets.iter().map(|methods| methods.contains(method)).collect::<Vec<bool>>();
    let mut cells: Vec<(Vec<bool>, Cell)> = Vec::new();
    for method in named.clone() {
        let sets = within(&method);
        match cells.iter_mut().find(|(known, _)| *known == sets) {
            Some((_, cell)) => cell.named.push(method),
            None => cells.push((sets, Cell { one: method.clone(), named: vec![method] })),
        }
    }
    let mut cells: Vec<Cell> = cells.into_iter().map(|(_, cell)| cell).collect();
    let names = std::iter::once("OTHER".to_owned()).chain((2..).map(|number| format!("OTHER{number}")));
    let mut unnamed = names.filter_map(|name| Method::from_bytes(name.as_bytes()).ok());
    cells.extend(unnamed.find(|name| !named.contains(name)).map(|one| Cell { one, named: Vec::new() }));
    cells
}

/// One direction of the comparison.
struct Comparison<'s, 'm> {
    search: Search<'s, 'm>,
    cells: &'s [Cell],
    changes: Vec<Change<'m>>,
    undecided: Vec<Rule<'m>>,
}

impl<'m> Comparison<'_, 'm> {
    fn run(&mut self, mine: &Parts<'m>, other: &Parts<'m>, keys: &mut Keys) {
        let mut denies: Vec<Rule<'m>> = Rule::denies(other.model).collect();
        denies.retain(|rule| !mine.denies.contains(&keys.of(rule)));
        let grants: Vec<Rule<'m>> = Rule::grants(mine.model).collect();
        for grants in grants.chunk_by(Rule::is_beside) {
            let Some(first) = grants.first() else { continue };
            let changed = !other.grants.contains(&keys.of(first));
            if changed || !denies.is_empty() {
                self.route(grants, changed, &denies);
            }
        }
    }

    /// A route of an entry, with all alternatives of whom the entry means.
    fn route(&mut self, grants: &[Rule<'m>], changed: bool, denies: &[Rule<'m>]) {
        let Some(first) = grants.first().copied() else { return };
        let cells: Vec<&Cell> =
            self.cells.iter().filter(|cell| first.route.methods.contains(&cell.one)).collect();
        let mut undecided = false;
        let mut done: Vec<bool> = vec![false; cells.len()];
        for upgrade in [false, true] {
            if upgrade && !first.route.upgrade {
                break;
            }
            let mut found: Vec<Option<Request>> = Vec::new();
            for (cell, done) in cells.iter().zip(&mut done) {
                let mut one = None;
                if !*done {
                    let goals = goals(grants, changed, denies, &cell.one, upgrade);
                    (one, undecided) = match self.first_difference(goals) {
                        Ok(one) => (one, undecided),
                        Err(Open) => (None, true),
                    };
                    *done = one.is_some();
                }
                found.push(one);
            }
            let methods = methods(&first, &cells, &found);
            if let Some(example) = found.into_iter().flatten().next() {
                let change = self.change(&first, methods, upgrade, example);
                self.changes.push(change);
            }
        }
        if undecided {
            self.undecided.push(first);
        }
    }

    fn first_difference(&mut self, goals: impl Iterator<Item = Goal<'m>>) -> Result<Option<Request>, Open> {
        let mut open = false;
        for goal in goals {
            match self.search.run(&goal) {
                Outcome::Differs(request) => return Ok(Some(*request)),
                Outcome::Same => {}
                Outcome::Undecided => open = true,
            }
        }
        if open { Err(Open) } else { Ok(None) }
    }

    fn change(&self, grant: &Rule<'m>, methods: String, switch: bool, example: Request) -> Change<'m> {
        let client = grant.client;
        let alternatives = client.map(|client| client.entry.alternatives.as_slice()).unwrap_or_default();
        let denied_by = example.asked().and_then(|asked| {
            let rule = Rule::denies(self.search.other.model).find(|rule| rule.means(&asked))?;
            Some(Forbidding { entry: rule.entry, conditions: rule.when.map(When::words).unwrap_or_default() })
        });
        Change {
            entry: grant.entry,
            whom: alternatives.iter().map(Alternative::words).collect(),
            permission: grant.permission,
            route: grant.route,
            methods,
            switch,
            conditions: client.map(|client| conditions(client, grant.route)).unwrap_or_default(),
            denied_by,
            example,
        }
    }
}

/// Neither found nor disproven.
struct Open;

impl Rule<'_> {
    /// Whether both are of the same route of the same entry.
    fn is_beside(&self, other: &Self) -> bool {
        std::ptr::eq(self.entry, other.entry)
            && std::ptr::eq(self.permission, other.permission)
            && std::ptr::eq(self.route, other.route)
    }
}

fn goals<'m>(
    grants: &[Rule<'m>],
    changed: bool,
    denies: &[Rule<'m>],
    method: &Method,
    upgrade: bool,
) -> impl Iterator<Item = Goal<'m>> {
    let goal = move |grant: &Rule<'m>, deny: Option<&Rule<'m>>| Goal {
        grant: *grant,
        deny: deny.copied(),
        method: method.clone(),
        upgrade,
    };
    let ungranted = grants.iter().filter(move |_| changed).map(move |grant| goal(grant, None));
    let denies = denies.iter().filter(move |deny| deny.route.methods.contains(method));
    let forbidden = denies.flat_map(move |deny| grants.iter().map(move |grant| goal(grant, Some(deny))));
    ungranted.chain(forbidden)
}

/// The methods for which something was found: as the route has them, if it is all of them.
fn methods(grant: &Rule<'_>, cells: &[&Cell], found: &[Option<Request>]) -> String {
    if found.iter().all(Option::is_some) {
        let written = grant.route.text.split(' ').next().unwrap_or_default();
        return if written == "*" { "any method".to_owned() } else { written.to_owned() };
    }
    let cells = cells.iter().zip(found).filter(|(_, found)| found.is_some()).map(|(cell, _)| cell);
    let mut names = Vec::new();
    for cell in cells {
        names.extend(cell.named.iter().map(Method::as_str));
        if cell.named.is_empty() {
            names.push("any other method");
        }
    }
    if names.contains(&"GET") {
        names.retain(|name| *name != "HEAD");
    }
    names.join("|")
}

fn limits<'m>(old: &'m Model, new: &'m Model) -> Vec<LimitsOf<'m>> {
    let before: BTreeMap<&str, Limits> =
        old.clients.iter().map(|client| (&*client.entry.name.text, client.entry.limits)).collect();
    let all = new.clients.iter().filter_map(|client| {
        let entry = &client.entry;
        let old = *before.get(&*entry.name.text)?;
        (old != entry.limits).then_some(LimitsOf { entry: &entry.name, old, new: entry.limits })
    });
    all.collect()
}
