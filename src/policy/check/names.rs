//! The lookup of names: declarations, references, globs, and suggestions for references to unknown names.

use std::collections::HashMap;

use super::super::document::{ClientEntry, DenyEntry, LocatedText, PermissionEntry, RoleEntry};
use super::{Client, Deny, Member, PermissionSet};
use crate::diagnostic::{Code, Diagnostic, did_you_mean};

/// The declared names of one kind.
#[derive(Default)]
pub(super) struct NameTable {
    pub(super) by_name: HashMap<Box<str>, usize>,
    /// The names in order, so that a glob is compared only with names that begin like it. Empty until the first glob.
    sorted: Vec<(Box<str>, u32)>,
    /// The names that each glob matches.
    globs: HashMap<Box<str>, Vec<u32>>,
    /// The number of comparisons with globs, and of names returned for globs.
    work: usize,
}

/// The bound of the work for all globs of one kind: hundreds of globs that begin with `*`, over a hundred thousand
/// names.
const MAX_WORK: usize = 10_000_000;

impl NameTable {
    fn of(by_name: HashMap<Box<str>, usize>) -> Self {
        Self { by_name, ..Self::default() }
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).and_then(|index| u32::try_from(*index).ok())
    }

    /// Returns the names that a glob matches. The result is empty if the globs exceed their bound.
    fn expand(&mut self, glob: &str) -> &[u32] {
        if !self.globs.contains_key(glob) && !self.is_exhausted() {
            self.sort();
            let start = glob.split('*').next().unwrap_or_default();
            let from = self.sorted.partition_point(|(name, _)| **name < *start);
            let alike = self.sorted.iter().skip(from).take_while(|(name, _)| name.starts_with(start));
            let compared = alike.inspect(|_| self.work += 1);
            let mut found: Vec<u32> =
                compared.filter(|(name, _)| glob_matches(glob, name)).map(|(_, index)| *index).collect();
            found.sort_unstable();
            self.globs.insert(glob.into(), found);
        }
        let found = self.globs.get(glob).map(Vec::as_slice).unwrap_or_default();
        self.work += found.len();
        if self.work > MAX_WORK { &[] } else { found }
    }

    fn sort(&mut self) {
        if self.sorted.is_empty() {
            let numbered = self.by_name.iter();
            let numbered =
                numbered.filter_map(|(name, index)| Some((name.clone(), (*index).try_into().ok()?)));
            self.sorted = numbered.collect();
            self.sorted.sort_unstable();
        }
    }

    const fn is_exhausted(&self) -> bool {
        self.work > MAX_WORK
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }
}

/// Returns true if the glob matches the name. A `*` matches any number of characters.
fn glob_matches(glob: &str, name: &str) -> bool {
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

/// A budget of suggestions. Each suggestion costs a comparison with every name, and an author does not read hundreds of
/// them.
pub(super) struct Suggestions {
    left: usize,
}

impl Suggestions {
    pub(super) fn suggest<'n>(&mut self, word: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        did_you_mean(word, names)
    }
}

/// The names that references can mean.
pub(super) struct Names {
    permissions: NameTable,
    roles: NameTable,
    pub(super) clients: NameTable,
    pub(super) suggestions: Suggestions,
}

impl Names {
    pub(super) fn of(
        permissions: &[PermissionEntry],
        roles: &[RoleEntry],
        clients: &[ClientEntry],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let permission_names = index("permission", permissions.iter().map(|entry| &entry.name), diagnostics);
        let role_names = index("role", roles.iter().map(|entry| &entry.name), diagnostics);
        let client_names = index("client entry", clients.iter().map(|entry| &entry.name), diagnostics);
        for role in roles {
            if let Some(permission) =
                permission_names.get(&role.name.text).and_then(|index| permissions.get(*index))
            {
                diagnostics.push(
                    Diagnostic::error(
                        Code::DuplicateName,
                        format!("`{}` is both a permission and a role", role.name.text),
                    )
                    .at(role.name.place.clone())
                    .related(permission.name.place.clone(), "the permission is declared here")
                    .help("rename one of the two, because a role's list may name both kinds"),
                );
            }
        }
        Self {
            permissions: NameTable::of(permission_names),
            roles: NameTable::of(role_names),
            clients: NameTable::of(client_names),
            suggestions: Suggestions { left: 50 },
        }
    }

    /// Returns true if the globs exceeded their bound, so that their meaning is not known.
    pub(super) const fn are_exhausted(&self) -> bool {
        self.permissions.is_exhausted() || self.roles.is_exhausted() || self.clients.is_exhausted()
    }

    /// Returns the members of a role: permissions and roles, by name or by glob.
    pub(super) fn members(
        &mut self,
        words: &[LocatedText],
        of: Option<&RoleEntry>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<Member> {
        let mut members = Vec::new();
        let own = of.and_then(|role| self.roles.find(&role.name.text));
        for word in words {
            if word.text.contains('*') {
                let roles = self.roles.expand(&word.text).iter().filter(|role| Some(**role) != own);
                let roles = roles.map(|role| Member::Role { role: *role, by_glob: true });
                let before = members.len();
                members.extend(roles);
                members.extend(
                    self.permissions
                        .expand(&word.text)
                        .iter()
                        .map(|permission| Member::Permission(*permission)),
                );
                if members.len() == before && !self.are_exhausted() {
                    diagnostics.push(no_match("permission or role", word));
                }
            } else if let Some(permission) = self.permissions.find(&word.text) {
                members.push(Member::Permission(permission));
            } else if let Some(role) = self.roles.find(&word.text) {
                members.push(Member::Role { role, by_glob: false });
            } else {
                let names = self.permissions.names().chain(self.roles.names());
                let help = self.suggestions.suggest(&word.text, names);
                diagnostics.push(unknown("permission or role", word, help, of.map(|role| &role.name)));
            }
        }
        members.sort_unstable();
        members.dedup();
        members
    }

    pub(super) fn client(
        &mut self,
        entry: ClientEntry,
        sets: &[PermissionSet],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Client {
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
        let mut given: Vec<PermissionSet> =
            roles.iter().filter_map(|role| sets.get(*role as usize).cloned()).collect();
        if !permissions.is_empty() {
            given.push(permissions.into());
        }
        Client { entry, roles, sets: given }
    }

    pub(super) fn deny(
        &mut self,
        mut entry: DenyEntry,
        permissions: &mut Vec<PermissionEntry>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Deny {
        let owner = Some(&entry.name);
        let none = NameTable::default();
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

/// Looks up names and globs of one kind. A name that only the other kind has gets its own message.
fn look_up(
    what: &str,
    kind: &mut NameTable,
    other: &NameTable,
    suggestions: &mut Suggestions,
    words: &[LocatedText],
    owner: Option<&LocatedText>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<u32> {
    let mut found = Vec::new();
    for word in words {
        if word.text.contains('*') {
            let matching = kind.expand(&word.text);
            found.extend_from_slice(matching);
            if matching.is_empty() && !kind.is_exhausted() {
                diagnostics.push(no_match(what, word));
            }
        } else if let Some(index) = kind.find(&word.text) {
            found.push(index);
        } else {
            let help = match (other.find(&word.text), what) {
                (Some(_), "role") => {
                    Some(format!("`{}` is a permission; write it under `permissions`", word.text))
                }
                (Some(_), _) => {
                    Some(format!("`{}` is a role, but this list takes only permissions", word.text))
                }
                (None, _) => suggestions.suggest(&word.text, kind.names()),
            };
            diagnostics.push(unknown(what, word, help, owner));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn unknown(what: &str, word: &LocatedText, help: Option<String>, owner: Option<&LocatedText>) -> Diagnostic {
    let (code, otherwise) = match what {
        "role" => (Code::UnknownRole, "declare it under `roles`"),
        "permission" => (Code::UnknownPermission, "declare it under `permissions`"),
        "client entry" => (Code::UnknownClient, "name an entry of `clients`"),
        _ => (Code::UnknownName, "declare it under `permissions` or `roles`"),
    };
    let diagnostic =
        Diagnostic::error(code, format!("unknown {what} `{}`", word.text)).at(word.place.clone());
    let diagnostic = match owner {
        Some(owner) => diagnostic.label(format!("used by `{}`", owner.text)),
        None => diagnostic,
    };
    diagnostic.help(help.unwrap_or_else(|| otherwise.to_owned()))
}

fn no_match(what: &str, word: &LocatedText) -> Diagnostic {
    Diagnostic::error(Code::BadGlob, format!("`{}` matches no {what}", word.text))
        .at(word.place.clone())
        .help("`*` stands for any run of characters in a declared name, as in `events:*`")
}

/// Returns the index of each name, and reports names that are declared twice.
pub(super) fn index<'w>(
    kind: &str,
    names: impl Iterator<Item = &'w LocatedText>,
    diagnostics: &mut Vec<Diagnostic>,
) -> HashMap<Box<str>, usize> {
    let mut found: HashMap<Box<str>, (usize, &LocatedText)> = HashMap::new();
    for (number, word) in names.enumerate() {
        match found.get(&word.text) {
            Some((_, first)) => diagnostics.push(
                Diagnostic::error(
                    Code::DuplicateName,
                    format!("the {kind} `{}` is declared twice", word.text),
                )
                .at(word.place.clone())
                .related(first.place.clone(), "first declared here")
                .help("rename one of the two, or join them"),
            ),
            None => drop(found.insert(word.text.clone(), (number, word))),
        }
    }
    found.into_iter().map(|(name, (number, _))| (name, number)).collect()
}
