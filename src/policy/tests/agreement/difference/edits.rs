//! Edits of a generated policy.

use proptest::prelude::*;

use super::super::generated::{
    GeneratedClient, GeneratedDeny, GeneratedPolicy, GeneratedRoute, Window, client, deny, route, window,
};

/// One edit of a policy. Numbers are taken modulo the number of items.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// Edits that change only the spelling.
    ReverseRoutes(usize),
    ReverseClients,
    DuplicateClient(usize),
    RepeatRoute(usize),
    /// Edits that may change the meaning.
    AddRoute(usize, GeneratedRoute),
    ReplaceRoute(usize, GeneratedRoute),
    RemoveRoute(usize),
    Give(usize, usize),
    Withdraw(usize),
    ReplaceMatch(usize, GeneratedClient),
    When(usize, Window),
    AddDeny(GeneratedDeny),
    RemoveDeny(usize),
    DenyWhen(usize, Window),
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let n = || 0usize..12;
    prop_oneof![
        n().prop_map(Edit::ReverseRoutes),
        Just(Edit::ReverseClients),
        n().prop_map(Edit::DuplicateClient),
        n().prop_map(Edit::RepeatRoute),
        (n(), route()).prop_map(|(at, route)| Edit::AddRoute(at, route)),
        (n(), route()).prop_map(|(at, route)| Edit::ReplaceRoute(at, route)),
        n().prop_map(Edit::RemoveRoute),
        (n(), n()).prop_map(|(client, permission)| Edit::Give(client, permission)),
        n().prop_map(Edit::Withdraw),
        (n(), client(1, 1)).prop_map(|(at, client)| Edit::ReplaceMatch(at, client)),
        (n(), window()).prop_map(|(at, when)| Edit::When(at, when)),
        deny(1, 1).prop_map(Edit::AddDeny),
        n().prop_map(Edit::RemoveDeny),
        (n(), window()).prop_map(|(at, when)| Edit::DenyWhen(at, when)),
    ]
}

fn one<T>(all: &mut [T], at: usize) -> Option<&mut T> {
    let length = all.len();
    if length == 0 { None } else { all.get_mut(at % length) }
}

impl Edit {
    pub(super) fn apply(self, generated: &mut GeneratedPolicy) {
        match self {
            Self::ReverseClients if generated.denies.iter().all(|deny| deny.clients.is_none()) => {
                generated.clients.reverse();
            }
            Self::AddDeny(deny) => generated.denies.push(deny),
            Self::RemoveDeny(at) => {
                if !generated.denies.is_empty() {
                    generated.denies.remove(at % generated.denies.len());
                }
            }
            Self::DenyWhen(at, when) => {
                if let Some(deny) = one(&mut generated.denies, at) {
                    deny.when = when;
                }
            }
            edit => {
                edit.apply_to_routes(&mut generated.permissions);
                edit.apply_to_clients(generated);
            }
        }
    }

    fn apply_to_routes(&self, permissions: &mut [Vec<GeneratedRoute>]) {
        match self {
            Self::ReverseRoutes(at) => {
                if let Some(routes) = one(permissions, *at) {
                    routes.reverse();
                }
            }
            Self::RepeatRoute(at) => {
                if let Some(routes) = one(permissions, *at) {
                    routes.extend(routes.first().cloned());
                }
            }
            Self::AddRoute(at, route) => {
                if let Some(routes) = one(permissions, *at) {
                    routes.push(route.clone());
                }
            }
            Self::ReplaceRoute(at, new) => {
                if let Some(route) = one(permissions, *at).and_then(|routes| one(routes, at / 3)) {
                    *route = new.clone();
                }
            }
            Self::RemoveRoute(at) => {
                if let Some(routes) = one(permissions, *at).filter(|routes| routes.len() > 1) {
                    routes.pop();
                }
            }
            _ => {}
        }
    }

    fn apply_to_clients(self, generated: &mut GeneratedPolicy) {
        let permissions = generated.permissions.len();
        let (Self::DuplicateClient(at)
        | Self::Give(at, _)
        | Self::Withdraw(at)
        | Self::ReplaceMatch(at, _)
        | Self::When(at, _)) = &self
        else {
            return;
        };
        let Some(client) = one(&mut generated.clients, *at) else { return };
        match self {
            Self::DuplicateClient(_) => {
                let copy = client.clone();
                generated.clients.push(copy);
            }
            Self::Give(_, permission) => client.permissions.push(permission % permissions),
            Self::Withdraw(_) => {
                client.permissions.pop();
                client.roles.pop();
            }
            Self::ReplaceMatch(_, other) => client.alternatives = other.alternatives,
            Self::When(_, when) => client.when = when,
            _ => {}
        }
    }
}
