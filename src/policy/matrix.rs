//! Clients × permissions: who may do what, cell by cell, with what stands behind each.
//!
//! A cell is about one client entry and one permission. Whoever matches several entries has what all of them give.

use std::collections::HashMap;

use super::check::{Client, Deny, Model};
use super::condition::When;
use super::route::{Glob, Methods, Path, Route, Segment};
use super::trace::line;
use super::who_can::{alternatives, conditions};

/// What one cell says, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Given, whatever else holds.
    Granted,
    /// Given under conditions: for all or some of its routes.
    Conditional,
    /// Some of it may be forbidden by a deny rule, or all of it at times.
    Restricted,
    /// Forbidden altogether by a deny rule, although it is given.
    Denied,
}

impl State {
    /// All of them, with their names in JSON.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Granted, "granted"),
        (Self::Conditional, "conditional"),
        (Self::Restricted, "restricted"),
        (Self::Denied, "denied"),
    ];

    /// Its name in JSON.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }
}

/// How much of a permission a deny rule forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Whole,
    Part,
}

/// A model with what its deny rules reach, worked out once.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) model: Model,
    /// For each permission the deny rules that reach it.
    denies: HashMap<u32, Vec<(usize, Reach)>>,
}

/// Everything behind one cell.
#[derive(Debug)]
pub(crate) struct Behind<'m> {
    pub(crate) state: State,
    /// The roles by which the entry comes to the permission; none where it is given directly.
    pub(crate) roles: Vec<&'m str>,
    /// Each route with its conditions.
    pub(crate) routes: Vec<(&'m Route, Vec<String>)>,
    pub(crate) denies: Vec<Forbidden<'m>>,
}

/// A deny rule that reaches a cell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forbidden<'m> {
    pub(crate) name: &'m str,
    /// File and line.
    pub(crate) at: String,
    /// Times and addresses for which the rule holds; empty for all.
    pub(crate) when: Vec<String>,
    /// Conditions of its routes, one of which must hold; empty if it holds whatever a request says.
    pub(crate) conditions: Vec<String>,
    /// True if the rule forbids the whole permission.
    pub(crate) whole: bool,
}

impl Matrix {
    pub(crate) fn of(model: Model) -> Self {
        let mut denies: HashMap<u32, Vec<(usize, Reach)>> = HashMap::new();
        let declared = u32::try_from(model.declared).unwrap_or(u32::MAX);
        for (number, deny) in model.denies.iter().enumerate() {
            for permission in 0..declared {
                if let Some(reach) = reach(&model, deny, permission) {
                    denies.entry(permission).or_default().push((number, reach));
                }
            }
        }
        Self { model, denies }
    }

    /// What a client entry is given, in the order of the policy.
    pub(crate) fn row(&self, client: usize) -> Vec<(u32, State)> {
        let Some(entry) = self.model.clients.get(client) else { return Vec::new() };
        let mut permissions: Vec<u32> = entry.permissions().collect();
        permissions.sort_unstable();
        permissions.dedup();
        permissions
            .into_iter()
            .map(|permission| (permission, self.state(client, entry, permission)))
            .collect()
    }

    /// Everything behind one cell; nothing where the client is not given the permission.
    pub(crate) fn behind(&self, client: usize, permission: u32) -> Option<Behind<'_>> {
        let entry = self.model.clients.get(client)?;
        if !entry.permissions().any(|given| given == permission) {
            return None;
        }
        let denies = self.denies(client, permission);
        let denies = denies.map(|(deny, reach)| self.forbidden(deny, reach, permission));
        Some(Behind {
            state: self.state(client, entry, permission),
            roles: self.model.way(entry, permission),
            routes: self
                .model
                .routes(permission)
                .iter()
                .map(|route| (route, conditions(entry, route)))
                .collect(),
            denies: denies.collect(),
        })
    }

    fn forbidden<'m>(&'m self, deny: &'m Deny, reach: Reach, permission: u32) -> Forbidden<'m> {
        let name = &deny.entry.name;
        let conditions = match reach {
            Reach::Whole => Vec::new(),
            Reach::Part => alternatives(self.meeting(deny, permission)),
        };
        Forbidden {
            name: &name.text,
            at: line(&name.place),
            when: deny.entry.when.as_ref().map(When::words).unwrap_or_default(),
            conditions,
            whole: reach == Reach::Whole,
        }
    }

    /// Routes of a deny rule that share a request with a route of the permission.
    fn meeting<'m>(&'m self, deny: &'m Deny, permission: u32) -> impl Iterator<Item = &'m Route> {
        let routes = self.model.routes(permission);
        let forbidden = deny.permissions.iter().flat_map(|permission| self.model.routes(*permission));
        forbidden.filter(|forbidden| routes.iter().any(|route| meets(forbidden, route)))
    }

    fn state(&self, client: usize, entry: &Client, permission: u32) -> State {
        let by_denies = self.denies(client, permission).map(|(deny, reach)| match reach {
            Reach::Whole if deny.entry.when.is_none() => State::Denied,
            _ => State::Restricted,
        });
        let is_conditional =
            self.model.routes(permission).iter().any(|route| !conditions(entry, route).is_empty());
        let given = if is_conditional { State::Conditional } else { State::Granted };
        by_denies.max().map_or(given, |denied| denied.max(given))
    }

    fn denies(&self, client: usize, permission: u32) -> impl Iterator<Item = (&Deny, Reach)> {
        let client = u32::try_from(client).unwrap_or(u32::MAX);
        let reaching = self.denies.get(&permission).into_iter().flatten();
        let denies = reaching.filter_map(|(number, reach)| Some((self.model.denies.get(*number)?, *reach)));
        denies.filter(move |(deny, _)| deny.clients.as_ref().is_none_or(|clients| clients.contains(&client)))
    }
}

fn reach(model: &Model, deny: &Deny, permission: u32) -> Option<Reach> {
    if deny.permissions.binary_search(&permission).is_ok() {
        // Its own conditions are the deny's as well: what does not meet them is not given either.
        return Some(Reach::Whole);
    }
    let forbidden = || deny.permissions.iter().flat_map(|permission| model.routes(*permission));
    let routes = model.routes(permission);
    let is_whole = routes.iter().all(|route| forbidden().any(|forbidden| covers(forbidden, route)));
    let is_part = || routes.iter().any(|route| forbidden().any(|forbidden| meets(forbidden, route)));
    match is_whole {
        true => Some(Reach::Whole),
        false => is_part().then_some(Reach::Part),
    }
}

/// Whether every request of the second route is one of the first. May say no where it is so, never yes where it is not.
fn covers(wide: &Route, narrow: &Route) -> bool {
    let methods = match (&wide.methods, &narrow.methods) {
        (Methods::Any, _) => true,
        (_, Methods::Any) => false,
        (Methods::Of { known, others }, Methods::Of { known: less, others: fewer }) => {
            less & !known == 0 && fewer.iter().all(|method| others.contains(method))
        }
    };
    let lengths = match wide.path.rest {
        true => wide.path.segments.len() <= narrow.path.segments.len(),
        false => !narrow.path.rest && wide.path.segments.len() == narrow.path.segments.len(),
    };
    let mut pairs = wide.path.segments.iter().zip(&narrow.path.segments);
    let is_free = !wide.is_conditional();
    methods && lengths && is_free && pairs.all(|(wide, narrow)| segment_covers(wide, narrow))
}

fn segment_covers(wide: &Segment, narrow: &Segment) -> bool {
    match (wide, narrow) {
        (Segment::Any, Segment::Literal(literal)) => !literal.is_empty(),
        (Segment::Any, Segment::Any | Segment::Client(_)) => true,
        (Segment::Glob(glob), Segment::Literal(literal)) => glob.matches(literal),
        (Segment::Client(_), _) => false,
        (wide, narrow) => wide == narrow,
    }
}

/// Whether a request may be one of both. May say yes where none is, never no where one is.
fn meets(one: &Route, other: &Route) -> bool {
    let methods = match (&one.methods, &other.methods) {
        (Methods::Any, _) | (_, Methods::Any) => true,
        (Methods::Of { known, others }, Methods::Of { known: more, others: further }) => {
            known & more != 0 || others.iter().any(|method| further.contains(method))
        }
    };
    methods && paths_meet(&one.path, &other.path)
}

fn paths_meet(one: &Path, other: &Path) -> bool {
    let lengths = match (one.rest, other.rest) {
        (true, true) => true,
        (true, false) => one.segments.len() <= other.segments.len(),
        (false, true) => other.segments.len() <= one.segments.len(),
        (false, false) => one.segments.len() == other.segments.len(),
    };
    lengths && one.segments.iter().zip(&other.segments).all(|(one, other)| segments_meet(one, other))
}

fn segments_meet(one: &Segment, other: &Segment) -> bool {
    let fits = |glob: &Glob, literal: &[u8]| glob.matches(literal);
    match (one, other) {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        (Segment::Glob(glob), Segment::Literal(literal))
        | (Segment::Literal(literal), Segment::Glob(glob)) => fits(glob, literal),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    const POLICY: &str = r#"version: 1
permissions:
  read: [GET /events, "GET /events/{id}"]
  write: [POST /events]
  own: ["GET /tenants/{client.common_name}/**"]
  erase: ["DELETE /events/{id}"]
roles:
  all: [read, write, own, erase]
clients:
  - { name: everyone, match: { any: true }, roles: [all] }
  - name: at-times
    match: { common_name: a }
    permissions: [read, write]
    when: { source: [10.0.0.0/8] }
deny:
  - { name: no-erasing, routes: ["DELETE /**"] }
  - { name: one-event, routes: [GET /events/1] }
  - { name: freeze, clients: [at-times], permissions: [write] }
  - { name: pause, clients: [everyone], permissions: [write], when: { until: 2030-01-01T00:00:00Z } }
"#;

    #[test]
    fn each_cell_says_what_the_grants_and_the_denies_leave() {
        let (model, _) = super::super::model(&[Source::new("p.yaml", POLICY)]).unwrap();
        let matrix = Matrix::of(model);
        let row = |client: usize| -> Vec<(String, &str)> {
            let name = |permission: u32| matrix.model.permissions[permission as usize].name.text.to_string();
            matrix
                .row(client)
                .into_iter()
                .map(|(permission, state)| (name(permission), state.name()))
                .collect()
        };
        let said = |pairs: &[(&str, &'static str)]| -> Vec<(String, &str)> {
            pairs.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
        };
        let everyone =
            [("read", "restricted"), ("write", "restricted"), ("own", "conditional"), ("erase", "denied")];
        assert_eq!(row(0), said(&everyone));
        assert_eq!(row(1), said(&[("read", "restricted"), ("write", "denied")]));
        let behind = matrix.behind(0, 3).unwrap();
        assert_eq!(behind.roles, ["all"]);
        let [denied] = &*behind.denies else { panic!("{behind:?}") };
        assert_eq!((denied.name, &*denied.at, denied.whole), ("no-erasing", "p.yaml:16", true));
        assert!(denied.when.is_empty() && denied.conditions.is_empty(), "{denied:?}");
        let behind = matrix.behind(1, 0).unwrap();
        assert_eq!(behind.routes[0].1, ["the address is in `10.0.0.0/8`"]);
        assert!(matrix.behind(1, 3).is_none());
    }

    #[test]
    fn a_cell_says_under_which_conditions_a_deny_takes_it() {
        let policy = r#"version: 1
permissions: { read: [GET /events/**], own: ["GET /t/{client.common_name}"] }
clients: [{ name: all, match: { any: true }, permissions: [read, own] }]
deny:
  - name: conditional
    routes:
      - { route: GET /events/**, hosts: [evil.example], headers: { X-Mode: batch } }
      - { route: GET /events/1, query: { format: csv } }
      - { route: GET /elsewhere, query: { a: b } }
  - { name: partly, routes: [GET /events/1, { route: GET /events/2, hosts: [a.example] }] }
  - { name: own, clients: [all], routes: ["GET /t/{client.common_name}"] }
"#;
        let (model, _) = super::super::model(&[Source::new("p.yaml", policy)]).unwrap();
        let matrix = Matrix::of(model);
        let said = |permission: u32| -> Vec<(String, Vec<String>, bool)> {
            let behind = matrix.behind(0, permission).unwrap();
            assert_eq!(behind.state, State::Restricted);
            let denies = behind.denies.into_iter();
            denies.map(|denied| (denied.name.to_owned(), denied.conditions, denied.whole)).collect()
        };
        let both = [
            "the host is `evil.example` and the header `x-mode` is `batch`".to_owned(),
            "the query's `format` is `csv`".to_owned(),
        ];
        let expected =
            [("conditional".to_owned(), both.to_vec(), false), ("partly".to_owned(), Vec::new(), false)];
        assert_eq!(said(0), expected);
        let own = "the path's `{client.common_name}` is the certificate's `common_name`".to_owned();
        assert_eq!(said(1), [("own".to_owned(), vec![own], false)]);
    }
}
