//! The matrix of client entries and permissions: for each cell the state, and the roles, routes and deny rules that
//! explain it.
//!
//! A cell belongs to one client entry and one permission. A client that matches several entries has the permissions of
//! all of them.

use std::collections::HashMap;

use super::check::{Client, Deny, Model};
use super::comparison::{covers_requests, overlaps};
use super::condition::When;
use super::route::{Route, Segment};
use super::trace::file_and_line;
use super::who_can::{conditions, route_alternatives};

/// The state of a cell, the weakest restriction first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CellState {
    /// The permission is granted without conditions.
    Granted,
    /// The permission is granted under conditions, which may concern only some of its routes.
    Conditional,
    /// A deny rule may forbid a part of the permission, or all of it at some times.
    Restricted,
    /// A deny rule always forbids the whole permission, although the entry grants it.
    Denied,
}

impl CellState {
    /// All states, with their names in JSON.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Granted, "granted"),
        (Self::Conditional, "conditional"),
        (Self::Restricted, "restricted"),
        (Self::Denied, "denied"),
    ];

    /// Returns the name in JSON.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }
}

/// The part of a permission that a deny rule forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    Part,
}

/// A model, with the permissions that each deny rule affects, computed once.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) model: Model,
    /// For each permission, the deny rules that affect it.
    denies: HashMap<u32, Vec<(usize, Extent)>>,
}

/// The details of one cell.
#[derive(Debug)]
pub(crate) struct CellDetails<'m> {
    pub(crate) state: CellState,
    /// The roles through which the entry has the permission. Empty if the entry names the permission itself.
    pub(crate) roles: Vec<&'m str>,
    /// The routes of the permission, each with its conditions.
    pub(crate) routes: Vec<(&'m Route, Vec<String>)>,
    pub(crate) denies: Vec<CellDeny<'m>>,
}

/// A deny rule that affects a cell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CellDeny<'m> {
    pub(crate) name: &'m str,
    /// The file and the line of the rule.
    pub(crate) at: String,
    /// The times and addresses for which the rule holds. Empty if it holds always.
    pub(crate) when: Vec<String>,
    /// The conditions of the rule's routes, one of which must hold. Empty if the rule holds for every request.
    pub(crate) conditions: Vec<String>,
    /// True if the rule forbids the whole permission.
    pub(crate) whole: bool,
}

impl Matrix {
    pub(crate) fn of(model: Model) -> Self {
        let mut denies: HashMap<u32, Vec<(usize, Extent)>> = HashMap::new();
        let declared = u32::try_from(model.declared).unwrap_or(u32::MAX);
        for (number, deny) in model.denies.iter().enumerate() {
            for permission in 0..declared {
                if let Some(extent) = extent(&model, deny, permission) {
                    denies.entry(permission).or_default().push((number, extent));
                }
            }
        }
        Self { model, denies }
    }

    /// Returns the permissions of a client entry with their states, in the order of the policy.
    pub(crate) fn row(&self, client: usize) -> Vec<(u32, CellState)> {
        let Some(entry) = self.model.clients.get(client) else { return Vec::new() };
        let mut permissions: Vec<u32> = entry.permissions().collect();
        permissions.sort_unstable();
        permissions.dedup();
        permissions
            .into_iter()
            .map(|permission| (permission, self.state(client, entry, permission)))
            .collect()
    }

    /// Returns the details of one cell; `None` if the entry does not have the permission.
    pub(crate) fn details(&self, client: usize, permission: u32) -> Option<CellDetails<'_>> {
        let entry = self.model.clients.get(client)?;
        if !entry.permissions().any(|given| given == permission) {
            return None;
        }
        let denies = self.denies(client, permission);
        let denies = denies.map(|(deny, extent)| self.forbidden(deny, extent, permission));
        Some(CellDetails {
            state: self.state(client, entry, permission),
            roles: self.model.role_path(entry, permission),
            routes: self
                .model
                .routes(permission)
                .iter()
                .map(|route| (route, conditions(entry, route)))
                .collect(),
            denies: denies.collect(),
        })
    }

    fn forbidden<'m>(&'m self, deny: &'m Deny, extent: Extent, permission: u32) -> CellDeny<'m> {
        let name = &deny.entry.name;
        let conditions = match extent {
            Extent::Whole => Vec::new(),
            Extent::Part => route_alternatives(self.overlapping_routes(deny, permission)),
        };
        CellDeny {
            name: &name.text,
            at: file_and_line(&name.place),
            when: deny.entry.when.as_ref().map(When::describe).unwrap_or_default(),
            conditions,
            whole: extent == Extent::Whole,
        }
    }

    /// Returns the routes of a deny rule that share a request with a route of the permission.
    fn overlapping_routes<'m>(&'m self, deny: &'m Deny, permission: u32) -> impl Iterator<Item = &'m Route> {
        let routes = self.model.routes(permission);
        let forbidden = deny.permissions.iter().flat_map(|permission| self.model.routes(*permission));
        forbidden.filter(|forbidden| routes.iter().any(|route| overlaps(forbidden, route)))
    }

    fn state(&self, client: usize, entry: &Client, permission: u32) -> CellState {
        let denied_states = self.denies(client, permission).map(|(deny, extent)| match extent {
            Extent::Whole if deny.entry.when.is_none() => CellState::Denied,
            _ => CellState::Restricted,
        });
        let is_conditional =
            self.model.routes(permission).iter().any(|route| !conditions(entry, route).is_empty());
        let given = if is_conditional { CellState::Conditional } else { CellState::Granted };
        denied_states.max().map_or(given, |denied| denied.max(given))
    }

    fn denies(&self, client: usize, permission: u32) -> impl Iterator<Item = (&Deny, Extent)> {
        let client = u32::try_from(client).unwrap_or(u32::MAX);
        let reaching = self.denies.get(&permission).into_iter().flatten();
        let denies = reaching.filter_map(|(number, extent)| Some((self.model.denies.get(*number)?, *extent)));
        denies.filter(move |(deny, _)| deny.clients.as_ref().is_none_or(|clients| clients.contains(&client)))
    }
}

fn extent(model: &Model, deny: &Deny, permission: u32) -> Option<Extent> {
    if deny.permissions.binary_search(&permission).is_ok() {
        // The deny rule has the same routes with the same conditions. A request that does not meet them is not granted
        // either.
        return Some(Extent::Whole);
    }
    let forbidden = || deny.permissions.iter().flat_map(|permission| model.routes(*permission));
    let routes = model.routes(permission);
    let covers = |forbidden: &Route, route: &Route| !depends(forbidden) && covers_requests(forbidden, route);
    let is_whole = routes.iter().all(|route| forbidden().any(|forbidden| covers(forbidden, route)));
    let is_part = || routes.iter().any(|route| forbidden().any(|forbidden| overlaps(forbidden, route)));
    match is_whole {
        true => Some(Extent::Whole),
        false => is_part().then_some(Extent::Part),
    }
}

/// Returns true if more than the method and the path decides about a request of the route. Such a deny rule is shown with its
/// conditions, even if the grants have the same ones.
fn depends(route: &Route) -> bool {
    route.is_conditional() || route.path.segments.iter().any(|segment| matches!(segment, Segment::Client(_)))
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
    fn each_cell_combines_grants_and_deny_rules() {
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
        let expected = |pairs: &[(&str, &'static str)]| -> Vec<(String, &str)> {
            pairs.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
        };
        let everyone =
            [("read", "restricted"), ("write", "restricted"), ("own", "conditional"), ("erase", "denied")];
        assert_eq!(row(0), expected(&everyone));
        assert_eq!(row(1), expected(&[("read", "restricted"), ("write", "denied")]));
        let details = matrix.details(0, 3).unwrap();
        assert_eq!(details.roles, ["all"]);
        let [denied] = &*details.denies else { panic!("{details:?}") };
        assert_eq!((denied.name, &*denied.at, denied.whole), ("no-erasing", "p.yaml:16", true));
        assert!(denied.when.is_empty() && denied.conditions.is_empty(), "{denied:?}");
        let details = matrix.details(1, 0).unwrap();
        assert_eq!(details.routes[0].1, ["the address is in `10.0.0.0/8`"]);
        assert!(matrix.details(1, 3).is_none());
    }

    #[test]
    fn a_cell_lists_the_conditions_of_its_deny_rules() {
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
        let denies_of = |permission: u32| -> Vec<(String, Vec<String>, bool)> {
            let details = matrix.details(0, permission).unwrap();
            assert_eq!(details.state, CellState::Restricted);
            let denies = details.denies.into_iter();
            denies.map(|denied| (denied.name.to_owned(), denied.conditions, denied.whole)).collect()
        };
        let both = [
            "the host is `evil.example` and the header `x-mode` is `batch`".to_owned(),
            "the query's `format` is `csv`".to_owned(),
        ];
        let expected =
            [("conditional".to_owned(), both.to_vec(), false), ("partly".to_owned(), Vec::new(), false)];
        assert_eq!(denies_of(0), expected);
        let own = "the path's `{client.common_name}` is the certificate's `common_name`".to_owned();
        assert_eq!(denies_of(1), [("own".to_owned(), vec![own], false)]);
    }
}
