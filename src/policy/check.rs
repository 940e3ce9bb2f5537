//! The step from a document to a model: names are looked up, roles are unfolded into permissions, and mistakes that
//! need more than one entry to be seen are reported.

mod names;
mod roles;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::document::{Case, ClientEntry, DenyEntry, Document, PermissionEntry, RoleEntry};
use names::{Names, index};

use super::matching::Alternative;
use super::route::{Methods, Route};
use super::trie::MAX_OTHER_METHODS;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};

/// A policy without mistakes, in the terms of its author. Tools for authors work on it, and the engine is compiled from
/// it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The declared permissions, then one permission for each deny rule with `routes`.
    pub(crate) permissions: Vec<PermissionEntry>,
    /// The number of declared permissions.
    pub(crate) declared: usize,
    pub(crate) roles: Vec<Role>,
    pub(crate) clients: Vec<Client>,
    pub(crate) denies: Vec<Deny>,
    pub(crate) cases: Vec<Case>,
}

/// Indexes of permissions, sorted. Entries with the same permissions share one allocation.
pub(crate) type PermissionSet = Arc<[u32]>;

#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) entry: RoleEntry,
    pub(crate) members: Vec<Member>,
    pub(crate) permissions: PermissionSet,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) entry: ClientEntry,
    pub(crate) roles: Vec<u32>,
    /// The permissions of the entry: one set for each role, and one for its own `permissions`.
    pub(crate) sets: Vec<PermissionSet>,
}

#[derive(Clone, Debug)]
pub(crate) struct Deny {
    pub(crate) entry: DenyEntry,
    /// The indexes of the client entries that the rule names; `None` for every client.
    pub(crate) clients: Option<Vec<u32>>,
    pub(crate) permissions: PermissionSet,
}

/// A member of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Member {
    Permission(u32),
    Role {
        role: u32,
        /// True if a glob named the role. Such a member never makes a cycle, because a glob means all other roles that
        /// match.
        by_glob: bool,
    },
}

impl Client {
    /// Returns the permissions of the entry. A permission that comes by several roles is returned several times.
    pub(crate) fn permissions(&self) -> impl Iterator<Item = u32> {
        self.sets.iter().flat_map(|set| set.iter().copied())
    }
}

impl Model {
    /// Looks up all names of a document. Errors are added to `diagnostics`; a model is returned only if there are none.
    pub(crate) fn check(document: Document, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let Document { mut permissions, roles, clients, denies, cases } = document;
        let declared = permissions.len();
        let mut names = Names::of(&permissions, &roles, &clients, diagnostics);
        let members: Vec<Vec<Member>> =
            roles.iter().map(|role| names.members(&role.members, Some(role), diagnostics)).collect();
        // The meaning of the remaining globs is unknown now. To look further would cost time without a bound.
        if names.are_exhausted() {
            diagnostics.push(too_many_names());
            return None;
        }
        roles::report_cycles(&roles, &members, diagnostics);
        let unfolded = roles::unfold(&members);
        if unfolded.is_none() {
            let message = "the roles expand to too many permissions";
            let help = "list fewer roles in other roles, or fewer permissions in each role";
            diagnostics.push(Diagnostic::error(Code::TooLarge, message).help(help));
        }
        let sets = unfolded.unwrap_or_default();
        let clients: Vec<Client> =
            clients.into_iter().map(|entry| names.client(entry, &sets, diagnostics)).collect();
        let denies: Vec<Deny> =
            denies.into_iter().map(|entry| names.deny(entry, &mut permissions, diagnostics)).collect();
        if names.are_exhausted() {
            diagnostics.push(too_many_names());
            return None;
        }
        index("deny rule", denies.iter().map(|deny| &deny.entry.name), diagnostics);
        let roles = roles.into_iter().zip(members).zip(sets);
        let roles =
            roles.map(|((entry, members), permissions)| Role { entry, members, permissions }).collect();
        let model = Self { permissions, declared, roles, clients, denies, cases };
        model.check_methods(diagnostics);
        model.check_captures(diagnostics);
        model.check_reasons(&mut names, diagnostics);
        (!diagnostics.iter().any(Diagnostic::is_error)).then_some(model)
    }

    /// Reports too many unusual methods. Each of them takes one bit of every route in the compiled policy.
    fn check_methods(&self, diagnostics: &mut Vec<Diagnostic>) {
        let mut seen = HashSet::new();
        for route in self.permissions.iter().flat_map(|permission| &permission.routes) {
            let Methods::Listed { others, .. } = &route.methods else { continue };
            seen.extend(others);
            if seen.len() > MAX_OTHER_METHODS {
                let message =
                    format!("more than {MAX_OTHER_METHODS} different methods beyond the usual ones");
                diagnostics.push(Diagnostic::error(Code::TooLarge, message).at(route.place.clone()));
                return;
            }
        }
    }

    /// Reports each `{client.NAME}` of a route that an entry with that route does not capture.
    fn check_captures(&self, diagnostics: &mut Vec<Diagnostic>) {
        let mut permissions_of_sets: HashMap<*const u32, Vec<u32>> = HashMap::new();
        let uses_captures =
            |permission: &u32| self.routes(*permission).iter().any(|route| route.captures().next().is_some());
        for client in &self.clients {
            let mut permissions = Vec::new();
            for set in &client.sets {
                permissions.extend_from_slice(
                    permissions_of_sets
                        .entry(set.as_ptr())
                        .or_insert_with(|| set.iter().copied().filter(uses_captures).collect()),
                );
            }
            self.check_captures_of_client(client, &permissions, diagnostics);
        }
        for deny in &self.denies {
            let permissions: Vec<u32> = deny.permissions.iter().copied().filter(uses_captures).collect();
            match &deny.clients {
                Some(clients) => {
                    for client in clients.iter().filter_map(|client| self.clients.get(*client as usize)) {
                        self.check_captures_of_client(client, &permissions, diagnostics);
                    }
                }
                None => self.check_captures_of_general_deny(deny, &permissions, diagnostics),
            }
        }
    }

    fn check_captures_of_client(
        &self,
        client: &Client,
        permissions: &[u32],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if permissions.is_empty() {
            return;
        }
        let captured = common_captures(&client.entry.alternatives);
        let mut reported = HashSet::new();
        for route in permissions.iter().flat_map(|permission| self.routes(*permission)) {
            for name in route.captures().filter(|name| !captured.contains(name)) {
                if !reported.insert(name) {
                    continue;
                }
                let entry = &client.entry.name;
                let somewhere =
                    client.entry.alternatives.iter().any(|alternative| alternative.captures().contains(name));
                let message = match somewhere {
                    true => format!(
                        "every part of the `match` of `{}` must contain `{{{name}}}`, because a route uses `{{client.{name}}}`",
                        entry.text
                    ),
                    false => {
                        format!(
                            "the `match` of `{}` must contain `{{{name}}}`, because a route uses `{{client.{name}}}`",
                            entry.text
                        )
                    }
                };
                let help = did_you_mean(name, captured.iter().copied()).unwrap_or_else(|| {
                    format!("write it in `match`, in each mapping and in each value of a list, as in `common_name: \"{{{name}}}-reader\"`")
                });
                diagnostics.push(
                    Diagnostic::error(Code::UnknownCapture, message)
                        .at(entry.place.clone())
                        .related(route.place.clone(), format!("`{{client.{name}}}` is used here"))
                        .help(help),
                );
            }
        }
    }

    fn check_captures_of_general_deny(
        &self,
        deny: &Deny,
        permissions: &[u32],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let routes = permissions.iter().flat_map(|permission| self.routes(*permission));
        let Some(route) = routes.into_iter().find(|route| route.captures().next().is_some()) else { return };
        let name = &deny.entry.name;
        diagnostics.push(
            Diagnostic::error(
                Code::UnknownCapture,
                format!("`{}` applies to every client, but its routes use a capture", name.text),
            )
            .at(name.place.clone())
            .related(route.place.clone(), "a capture is used here")
            .help("name the `clients` that capture it, or write `{name}` for any segment"),
        );
    }

    fn check_reasons(&self, names: &mut Names, diagnostics: &mut Vec<Diagnostic>) {
        let denies: HashSet<&str> = self.denies.iter().map(|deny| &*deny.entry.name.text).collect();
        for reason in self.cases.iter().filter_map(|case| case.because.as_ref()) {
            if !denies.contains(&*reason.text) && !names.clients.by_name.contains_key(&reason.text) {
                let message = format!("no client entry and no deny rule is named `{}`", reason.text);
                let known = denies.iter().copied().chain(names.clients.by_name.keys().map(|name| &**name));
                let help = names.suggestions.suggest(&reason.text, known);
                diagnostics.push(
                    Diagnostic::error(Code::UnknownName, message).at(reason.place.clone()).maybe_help(help),
                );
            }
        }
    }

    /// Returns the routes of a permission.
    pub(crate) fn routes(&self, permission: u32) -> &[Route] {
        self.permissions
            .get(permission as usize)
            .map(|permission| permission.routes.as_slice())
            .unwrap_or_default()
    }
}

fn too_many_names() -> Diagnostic {
    Diagnostic::error(Code::TooLarge, "the patterns match too many names")
        .help("write the names, or begin each pattern with the first letters of its names")
}

/// Returns the captures that every alternative binds.
fn common_captures(alternatives: &[Alternative]) -> HashSet<&str> {
    let mut sets = alternatives.iter().map(Alternative::captures);
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| common.intersection(&set).copied().collect())
}
