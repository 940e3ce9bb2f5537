//! From what the files say to what they mean: every name looked up, every role unfolded into its permissions, and every
//! mistake that needs more than one entry to be seen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::document::{Case, ClientEntry, DenyEntry, Document, PermissionEntry, RoleEntry, Word, index};
use super::matching::Alternative;
use super::route::{Methods, Route};
use super::trie::MOST_OTHER_METHODS;
use crate::diagnostic::{Diagnostic, did_you_mean};

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

/// Roles may unfold into this many permissions in all; honest policies stay far below.
const MOST_UNFOLDED: usize = 20_000_000;

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
        no_cycles(&roles, &members, diagnostics);
        let unfolded = unfold(&members);
        if unfolded.is_none() {
            diagnostics.push(Diagnostic::error("too-large", "the roles unfold into too many permissions"));
        }
        let sets = unfolded.unwrap_or_default();
        let clients: Vec<Client> =
            clients.into_iter().map(|entry| names.client(entry, &sets, diagnostics)).collect();
        let denies: Vec<Deny> =
            denies.into_iter().map(|entry| names.deny(entry, &mut permissions, diagnostics)).collect();
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
                diagnostics.push(Diagnostic::error("too-large", message).at(route.place.clone()));
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
                    false => format!("`{}` does not capture `{name}`, which a route of its uses", entry.text),
                };
                let help = did_you_mean(name, captured.iter().copied()).unwrap_or_else(|| {
                    format!("capture it in `match`, as in `common_name: \"{{{name}}}-reader\"`, in each alternative and value")
                });
                diagnostics.push(
                    Diagnostic::error("unknown-capture", message)
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
                "unknown-capture",
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
                    Diagnostic::error("unknown-name", message).at(reason.place.clone()).maybe_help(help),
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

/// The captures that are bound whichever alternative holds.
fn captured(alternatives: &[Alternative]) -> HashSet<&str> {
    let mut sets = alternatives.iter().map(Alternative::captures);
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| common.intersection(&set).copied().collect())
}

/// The declared names of one kind.
#[derive(Default)]
struct Kind {
    by_name: HashMap<Box<str>, usize>,
    /// What globs were found to mean.
    globs: HashMap<Box<str>, Vec<u32>>,
}

impl Kind {
    fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).and_then(|index| u32::try_from(*index).ok())
    }

    fn glob(&mut self, glob: &str) -> &[u32] {
        let by_name = &self.by_name;
        self.globs.entry(glob.into()).or_insert_with(|| {
            let matching = by_name.iter().filter(|(name, _)| glob_matches(glob, name));
            let mut found: Vec<u32> = matching.filter_map(|(_, index)| u32::try_from(*index).ok()).collect();
            found.sort_unstable();
            found
        })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }
}

/// Whether a name is one that a glob means; `*` stands for any run of characters.
pub(super) fn glob_matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// Suggestions cost a comparison with every name; after so many wrong names nobody reads them.
struct Suggestions {
    left: usize,
}

impl Suggestions {
    fn of<'n>(&mut self, word: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        did_you_mean(word, names)
    }
}

/// Everything that can be referred to.
struct Names {
    permissions: Kind,
    roles: Kind,
    clients: Kind,
    suggestions: Suggestions,
}

impl Names {
    fn of(
        permissions: &[PermissionEntry],
        roles: &[RoleEntry],
        clients: &[ClientEntry],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let kind = |by_name| Kind { by_name, globs: HashMap::new() };
        let permission_names = index("permission", permissions.iter().map(|entry| &entry.name), diagnostics);
        let role_names = index("role", roles.iter().map(|entry| &entry.name), diagnostics);
        let client_names = index("client entry", clients.iter().map(|entry| &entry.name), diagnostics);
        for role in roles {
            if let Some(permission) =
                permission_names.get(&role.name.text).and_then(|index| permissions.get(*index))
            {
                diagnostics.push(
                    Diagnostic::error(
                        "duplicate-name",
                        format!("`{}` is both a permission and a role", role.name.text),
                    )
                    .at(role.name.place.clone())
                    .related(permission.name.place.clone(), "the permission is declared here")
                    .help("give one of them another name; a role's list may name either kind"),
                );
            }
        }
        Self {
            permissions: kind(permission_names),
            roles: kind(role_names),
            clients: kind(client_names),
            suggestions: Suggestions { left: 200 },
        }
    }

    /// What the list of a role means: permissions and roles, and globs over both.
    fn members(
        &mut self,
        words: &[Word],
        of: Option<&RoleEntry>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<Member> {
        let mut members = Vec::new();
        let own = of.and_then(|role| self.roles.find(&role.name.text));
        for word in words {
            if word.text.contains('*') {
                let roles = self.roles.glob(&word.text).iter().filter(|role| Some(**role) != own);
                let roles = roles.map(|role| Member::Role { role: *role, by_glob: true });
                let before = members.len();
                members.extend(roles);
                members.extend(
                    self.permissions
                        .glob(&word.text)
                        .iter()
                        .map(|permission| Member::Permission(*permission)),
                );
                if members.len() == before {
                    diagnostics.push(no_match("permission or role", word));
                }
            } else if let Some(permission) = self.permissions.find(&word.text) {
                members.push(Member::Permission(permission));
            } else if let Some(role) = self.roles.find(&word.text) {
                members.push(Member::Role { role, by_glob: false });
            } else {
                let names = self.permissions.names().chain(self.roles.names());
                let help = self.suggestions.of(&word.text, names);
                diagnostics.push(unknown("permission or role", word, help, of.map(|role| &role.name)));
            }
        }
        members.sort_unstable();
        members.dedup();
        members
    }

    fn client(&mut self, entry: ClientEntry, sets: &[Set], diagnostics: &mut Vec<Diagnostic>) -> Client {
        let owner = Some(&entry.name);
        let roles = look_up(
            "role",
            &mut self.roles,
            &self.permissions,
            &mut self.suggestions,
            &entry.roles,
            owner,
            diagnostics,
        );
        let permissions = look_up(
            "permission",
            &mut self.permissions,
            &self.roles,
            &mut self.suggestions,
            &entry.permissions,
            owner,
            diagnostics,
        );
        let mut given: Vec<Set> = roles.iter().filter_map(|role| sets.get(*role as usize).cloned()).collect();
        if !permissions.is_empty() {
            given.push(permissions.into());
        }
        Client { entry, roles, sets: given }
    }

    fn deny(
        &mut self,
        mut entry: DenyEntry,
        permissions: &mut Vec<PermissionEntry>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Deny {
        let owner = Some(&entry.name);
        let none = Kind::default();
        let clients = entry.clients.as_ref().map(|words| {
            look_up(
                "client entry",
                &mut self.clients,
                &none,
                &mut self.suggestions,
                words,
                owner,
                diagnostics,
            )
        });
        let mut forbidden = look_up(
            "permission",
            &mut self.permissions,
            &self.roles,
            &mut self.suggestions,
            &entry.permissions,
            owner,
            diagnostics,
        );
        if !entry.routes.is_empty() {
            forbidden.extend(u32::try_from(permissions.len()).ok());
            let routes = std::mem::take(&mut entry.routes);
            permissions.push(PermissionEntry { name: entry.name.clone(), routes });
        }
        Deny { entry, clients, permissions: forbidden.into() }
    }
}

/// Names and globs of one kind; a name of the other kind is pointed out.
fn look_up(
    what: &str,
    kind: &mut Kind,
    other: &Kind,
    suggestions: &mut Suggestions,
    words: &[Word],
    owner: Option<&Word>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<u32> {
    let mut found = Vec::new();
    for word in words {
        if word.text.contains('*') {
            let matching = kind.glob(&word.text);
            if matching.is_empty() {
                diagnostics.push(no_match(what, word));
            }
            found.extend(matching);
        } else if let Some(index) = kind.find(&word.text) {
            found.push(index);
        } else {
            let help = match (other.find(&word.text), what) {
                (Some(_), "role") => {
                    Some(format!("`{}` is a permission; write it under `permissions`", word.text))
                }
                (Some(_), _) => Some(format!("`{}` is a role; only permissions can stand here", word.text)),
                (None, _) => suggestions.of(&word.text, kind.names()),
            };
            diagnostics.push(unknown(what, word, help, owner));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn unknown(what: &str, word: &Word, help: Option<String>, owner: Option<&Word>) -> Diagnostic {
    let (code, otherwise) = match what {
        "role" => ("unknown-role", "declare it under `roles`"),
        "permission" => ("unknown-permission", "declare it under `permissions`"),
        "client entry" => ("unknown-client", "name an entry of `clients`"),
        _ => ("unknown-name", "declare it under `permissions` or `roles`"),
    };
    let diagnostic =
        Diagnostic::error(code, format!("unknown {what} `{}`", word.text)).at(word.place.clone());
    let diagnostic = match owner {
        Some(owner) => diagnostic.label(format!("used by `{}`", owner.text)),
        None => diagnostic,
    };
    diagnostic.help(help.unwrap_or_else(|| otherwise.to_owned()))
}

fn no_match(what: &str, word: &Word) -> Diagnostic {
    Diagnostic::error("bad-glob", format!("`{}` matches no {what}", word.text))
        .at(word.place.clone())
        .help("`*` stands for any run of characters in a declared name, as in `events:*`")
}

/// Roles that contain themselves by name.
fn no_cycles(roles: &[RoleEntry], members: &[Vec<Member>], diagnostics: &mut Vec<Diagnostic>) {
    let named = |role: usize| -> Vec<usize> {
        let members = members.get(role).map(Vec::as_slice).unwrap_or_default();
        members
            .iter()
            .filter_map(|member| match member {
                Member::Role { role, by_glob: false } => Some(*role as usize),
                _ => None,
            })
            .collect()
    };
    // Depth first with an own stack: a chain of roles may be as long as the file allows.
    let mut done = vec![false; roles.len()];
    for start in 0..roles.len() {
        if done.get(start).copied().unwrap_or(true) {
            continue;
        }
        let mut path: Vec<(usize, Vec<usize>)> = vec![(start, named(start))];
        let mut open: HashSet<usize> = HashSet::from([start]);
        while let Some((role, next)) = path.last_mut() {
            let Some(member) = next.pop() else {
                if let Some(done) = done.get_mut(*role) {
                    *done = true;
                }
                open.remove(role);
                path.pop();
                continue;
            };
            if open.contains(&member) {
                let from = path.iter().position(|(role, _)| *role == member).unwrap_or(0);
                let around: Vec<usize> = path.iter().skip(from).map(|(role, _)| *role).collect();
                diagnostics.extend(cycle(roles, &around));
            } else if !done.get(member).copied().unwrap_or(true) {
                open.insert(member);
                path.push((member, named(member)));
            }
        }
    }
}

fn cycle(roles: &[RoleEntry], around: &[usize]) -> Option<Diagnostic> {
    let entries: Vec<&RoleEntry> = around.iter().filter_map(|role| roles.get(*role)).collect();
    let (first, rest) = entries.split_first()?;
    let chain: Vec<&str> = entries.iter().chain([first]).map(|role| &*role.name.text).take(12).collect();
    let mut diagnostic =
        Diagnostic::error("role-cycle", format!("the role `{}` contains itself", first.name.text))
            .at(first.name.place.clone())
            .label(chain.join(" → "))
            .help("take one of them out of the other's list");
    for role in rest.iter().take(3) {
        diagnostic = diagnostic.related(role.name.place.clone(), "by way of this role");
    }
    Some(diagnostic)
}

/// The permissions of each role; `None` if they are too many.
fn unfold(members: &[Vec<Member>]) -> Option<Vec<Set>> {
    let mut total = 0usize;
    let mut sets = Vec::with_capacity(members.len());
    for start in 0..members.len() {
        let mut seen = HashSet::from([start]);
        let mut open = vec![start];
        let mut permissions = Vec::new();
        while let Some(role) = open.pop() {
            for member in members.get(role).map(Vec::as_slice).unwrap_or_default() {
                match member {
                    Member::Permission(permission) => permissions.push(*permission),
                    Member::Role { role, .. } if seen.insert(*role as usize) => open.push(*role as usize),
                    Member::Role { .. } => {}
                }
            }
            total = total
                .checked_add(members.get(role).map_or(0, Vec::len))
                .filter(|total| *total <= MOST_UNFOLDED)?;
        }
        permissions.sort_unstable();
        permissions.dedup();
        sets.push(permissions.into());
    }
    Some(sets)
}
