//! From what the files say to what they mean: every name looked up, every role unfolded into its permissions, and every
//! mistake that needs more than one entry to be seen.

mod names;
mod roles;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::document::{Case, ClientEntry, DenyEntry, Document, PermissionEntry, RoleEntry};
use names::{Names, index};

use super::matching::Alternative;
use super::route::{Methods, Route};
use super::trie::MOST_OTHER_METHODS;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};

/// A policy without mistakes, in the author's own terms: what tools for authors work on, and what is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The declared ones, then one for the `routes` of each deny rule that has them.
    pub(crate) permissions: Vec<PermissionEntry>,
    /// How many permissions are declared.
    pub(crate) declared: usize,
    pub(crate) roles: Vec<Role>,
    pub(crate) clients: Vec<Client>,
    pub(crate) denies: Vec<Deny>,
    pub(crate) cases: Vec<Case>,
}

/// Indexes of permissions, sorted; shared by all who have the same.
pub(crate) type Set = Arc<[u32]>;

#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) entry: RoleEntry,
    pub(crate) members: Vec<Member>,
    pub(crate) permissions: Set,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) entry: ClientEntry,
    pub(crate) roles: Vec<u32>,
    /// What it is given: the set of each of its roles, and its own `permissions`.
    pub(crate) sets: Vec<Set>,
}

#[derive(Clone, Debug)]
pub(crate) struct Deny {
    pub(crate) entry: DenyEntry,
    /// `None` for every client.
    pub(crate) clients: Option<Vec<u32>>,
    pub(crate) permissions: Set,
}

/// What a role consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Member {
    Permission(u32),
    Role {
        role: u32,
        /// Whether it was named by a glob, which never makes a cycle: a glob means whatever else there is.
        by_glob: bool,
    },
}

impl Client {
    /// What it is given, by whichever roles; a permission may come more than once.
    pub(crate) fn permissions(&self) -> impl Iterator<Item = u32> {
        self.sets.iter().flat_map(|set| set.iter().copied())
    }
}

impl Model {
    /// Looks everything up. Errors are added to `diagnostics`; a model is there only if nothing stands against it.
    pub(crate) fn check(document: Document, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let Document { mut permissions, roles, clients, denies, cases } = document;
        let declared = permissions.len();
        let mut names = Names::of(&permissions, &roles, &clients, diagnostics);
        let members: Vec<Vec<Member>> =
            roles.iter().map(|role| names.members(&role.members, Some(role), diagnostics)).collect();
        // What globs mean is not known then, and looking further would only go on costing.
        if names.are_exhausted() {
            diagnostics.push(too_many_names());
            return None;
        }
        roles::no_cycles(&roles, &members, diagnostics);
        let unfolded = roles::unfold(&members);
        if unfolded.is_none() {
            diagnostics.push(Diagnostic::error(Code::TooLarge, "the roles unfold into too many permissions"));
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
        model.methods_are_few(diagnostics);
        model.captures_are_there(diagnostics);
        model.reasons_are_there(&mut names, diagnostics);
        (!diagnostics.iter().any(Diagnostic::is_error)).then_some(model)
    }

    /// Each method beyond the well-known ones costs a bit of every route.
    fn methods_are_few(&self, diagnostics: &mut Vec<Diagnostic>) {
        let mut seen = HashSet::new();
        for route in self.permissions.iter().flat_map(|permission| &permission.routes) {
            let Methods::Of { others, .. } = &route.methods else { continue };
            seen.extend(others);
            if seen.len() > MOST_OTHER_METHODS {
                let message =
                    format!("more than {MOST_OTHER_METHODS} different methods beyond the usual ones");
                diagnostics.push(Diagnostic::error(Code::TooLarge, message).at(route.place.clone()));
                return;
            }
        }
    }

    /// Every `{client.NAME}` of a route must be captured by everyone whom the route is given to.
    fn captures_are_there(&self, diagnostics: &mut Vec<Diagnostic>) {
        let mut using: HashMap<*const u32, Vec<u32>> = HashMap::new();
        let uses =
            |permission: &u32| self.routes(*permission).iter().any(|route| route.captures().next().is_some());
        for client in &self.clients {
            let mut users = Vec::new();
            for set in &client.sets {
                users.extend_from_slice(
                    using.entry(set.as_ptr()).or_insert_with(|| set.iter().copied().filter(uses).collect()),
                );
            }
            self.captured_by(client, &users, diagnostics);
        }
        for deny in &self.denies {
            let users: Vec<u32> = deny.permissions.iter().copied().filter(uses).collect();
            match &deny.clients {
                Some(clients) => {
                    for client in clients.iter().filter_map(|client| self.clients.get(*client as usize)) {
                        self.captured_by(client, &users, diagnostics);
                    }
                }
                None => self.captured_by_nobody(deny, &users, diagnostics),
            }
        }
    }

    fn captured_by(&self, client: &Client, users: &[u32], diagnostics: &mut Vec<Diagnostic>) {
        if users.is_empty() {
            return;
        }
        let captured = captured(&client.entry.alternatives);
        let mut told = HashSet::new();
        for route in users.iter().flat_map(|permission| self.routes(*permission)) {
            for name in route.captures().filter(|name| !captured.contains(name)) {
                if !told.insert(name) {
                    continue;
                }
                let entry = &client.entry.name;
                let everywhere =
                    client.entry.alternatives.iter().any(|alternative| alternative.captures().contains(name));
                let message = match everywhere {
                    true => format!(
                        "`{}` does not capture `{name}` in every alternative of its `match`",
                        entry.text
                    ),
                    false => {
                        format!("`{}` does not capture `{name}`, which one of its routes needs", entry.text)
                    }
                };
                let help = did_you_mean(name, captured.iter().copied()).unwrap_or_else(|| {
                    format!("capture it in `match`, as in `common_name: \"{{{name}}}-reader\"`, in each alternative and value")
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

    fn captured_by_nobody(&self, deny: &Deny, users: &[u32], diagnostics: &mut Vec<Diagnostic>) {
        let routes = users.iter().flat_map(|permission| self.routes(*permission));
        let Some(route) = routes.into_iter().find(|route| route.captures().next().is_some()) else { return };
        let name = &deny.entry.name;
        diagnostics.push(
            Diagnostic::error(
                Code::UnknownCapture,
                format!("`{}` is for every client, but its routes use a capture", name.text),
            )
            .at(name.place.clone())
            .related(route.place.clone(), "a capture is used here")
            .help("name the `clients` that capture it, or write `{name}` for any segment"),
        );
    }

    fn reasons_are_there(&self, names: &mut Names, diagnostics: &mut Vec<Diagnostic>) {
        let denies: HashSet<&str> = self.denies.iter().map(|deny| &*deny.entry.name.text).collect();
        for reason in self.cases.iter().filter_map(|case| case.because.as_ref()) {
            if !denies.contains(&*reason.text) && !names.clients.by_name.contains_key(&reason.text) {
                let message = format!("no client entry and no deny rule is named `{}`", reason.text);
                let known = denies.iter().copied().chain(names.clients.by_name.keys().map(|name| &**name));
                let help = names.suggestions.of(&reason.text, known);
                diagnostics.push(
                    Diagnostic::error(Code::UnknownName, message).at(reason.place.clone()).maybe_help(help),
                );
            }
        }
    }

    /// The routes of a permission.
    pub(crate) fn routes(&self, permission: u32) -> &[Route] {
        self.permissions
            .get(permission as usize)
            .map(|permission| permission.routes.as_slice())
            .unwrap_or_default()
    }
}

fn too_many_names() -> Diagnostic {
    Diagnostic::error(Code::TooLarge, "the patterns over names mean too many names")
        .help("name what is meant, or start each pattern with the letters that its names start with")
}

/// The captures that are bound whichever alternative holds.
fn captured(alternatives: &[Alternative]) -> HashSet<&str> {
    let mut sets = alternatives.iter().map(Alternative::captures);
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| common.intersection(&set).copied().collect())
}
