//! Warnings about permissions and roles that no client entry has.

use std::collections::HashSet;

use super::super::check::Member;
use super::{Linter, granted_permissions};
use crate::diagnostic::Code;

impl Linter<'_> {
    pub(super) fn check_unused(&mut self) {
        self.warn_about_unused_permissions();
        self.warn_about_unused_roles();
    }

    fn warn_about_unused_permissions(&mut self) {
        let model = self.model;
        let mut used = granted_permissions(&model.clients);
        used.extend(model.denies.iter().flat_map(|deny| deny.permissions.iter().copied()));
        let in_roles: HashSet<u32> =
            model.roles.iter().flat_map(|role| role.permissions.iter().copied()).collect();
        let declared = (0..).zip(model.permissions.iter().take(model.declared));
        for (number, permission) in declared.filter(|(number, _)| !used.contains(number)) {
            let name = &permission.name;
            let why = match in_roles.contains(&number) {
                true => "only unused roles contain it",
                false => "no role and no client entry contains it",
            };
            let message = format!("no client entry has the permission `{}`: {why}", name.text);
            let help = "remove it, or add it to a role or a client entry";
            self.warn(Code::UnusedPermission, &name.place, message, help);
        }
    }

    fn warn_about_unused_roles(&mut self) {
        let model = self.model;
        let used = self.used_roles();
        for (_, role) in (0..).zip(&model.roles).filter(|(number, _)| !used.contains(number)) {
            let name = &role.entry.name;
            let message = format!("no client entry has the role `{}`", name.text);
            self.warn(Code::UnusedRole, &name.place, message, "remove it, or add it to a client entry");
        }
    }

    /// Returns the roles that client entries have, directly or through other roles.
    fn used_roles(&self) -> HashSet<u32> {
        let mut used: HashSet<u32> = HashSet::new();
        let mut open: Vec<u32> =
            self.model.clients.iter().flat_map(|client| client.roles.iter().copied()).collect();
        while let Some(number) = open.pop() {
            if let Some(role) = self.model.roles.get(number as usize).filter(|_| used.insert(number)) {
                open.extend(role.members.iter().filter_map(|member| match member {
                    Member::Role { role, .. } => Some(*role),
                    Member::Permission(_) => None,
                }));
            }
        }
        used
    }
}
