//! Roles within roles: cycles are reported, and the rest is unfolded into permissions.

use std::collections::HashSet;

use super::super::document::RoleEntry;
use super::{Member, PermissionSet};
use crate::diagnostic::{Code, Diagnostic};

/// The number of members that may be visited to unfold all roles. Usual policies stay far below.
const MAX_UNFOLDED: usize = 20_000_000;

/// Reports roles that contain themselves by name.
pub(super) fn report_cycles(roles: &[RoleEntry], members: &[Vec<Member>], diagnostics: &mut Vec<Diagnostic>) {
    let members_by_name = |role: usize| -> Vec<usize> {
        let members = members.get(role).map(Vec::as_slice).unwrap_or_default();
        members
            .iter()
            .filter_map(|member| match member {
                Member::Role { role, by_glob: false } => Some(*role as usize),
                _ => None,
            })
            .collect()
    };
    // The search is depth-first with its own stack, because a chain of roles may be as long as the file allows.
    let mut done = vec![false; roles.len()];
    for start in 0..roles.len() {
        if done.get(start).copied().unwrap_or(true) {
            continue;
        }
        let mut path: Vec<(usize, Vec<usize>)> = vec![(start, members_by_name(start))];
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
                let circle: Vec<usize> = path.iter().skip(from).map(|(role, _)| *role).collect();
                diagnostics.extend(cycle(roles, &circle));
            } else if !done.get(member).copied().unwrap_or(true) {
                open.insert(member);
                path.push((member, members_by_name(member)));
            }
        }
    }
}

fn cycle(roles: &[RoleEntry], circle: &[usize]) -> Option<Diagnostic> {
    let entries: Vec<&RoleEntry> = circle.iter().filter_map(|role| roles.get(*role)).collect();
    let (first, rest) = entries.split_first()?;
    let chain: Vec<&str> = entries.iter().chain([first]).map(|role| &*role.name.text).take(12).collect();
    let mut diagnostic =
        Diagnostic::error(Code::RoleCycle, format!("the role `{}` contains itself", first.name.text))
            .at(first.name.place.clone())
            .label(chain.join(" → "))
            .help("remove one of these roles from the list of the other");
    for role in rest.iter().take(3) {
        diagnostic = diagnostic.related(role.name.place.clone(), "through this role");
    }
    Some(diagnostic)
}

/// Returns the permissions of each role; `None` if there are too many.
pub(super) fn unfold(members: &[Vec<Member>]) -> Option<Vec<PermissionSet>> {
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
                .filter(|total| *total <= MAX_UNFOLDED)?;
        }
        permissions.sort_unstable();
        permissions.dedup();
        sets.push(permissions.into());
    }
    Some(sets)
}
