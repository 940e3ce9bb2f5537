//! The rights of an identity: the client entries and deny rules that match the identity, and the permissions of these. An
//! index finds the entries, so that the cost does not grow with the number of entries.

mod bound;
mod index;

use std::sync::Arc;

use super::check::PermissionSet;
use super::condition::When;
use super::matching::{Alternative, bind};
use super::route::Variable;
use super::{Limits, Priority, Rule};
use crate::identity::Identity;
pub(super) use bound::{BoundRule, BoundRules};
use index::Index;

/// The rights of one identity under one policy.
#[derive(Clone, Debug)]
pub struct Rights {
    pub(super) grants: BoundRules,
    /// Deny rules that apply to this identity. The policy itself has the deny rules that apply to all clients alike.
    pub(super) denies: BoundRules,
    clients: Box<[Arc<Rule>]>,
    limits: Limits,
    is_outranked: bool,
}

impl Rights {
    /// Returns the names of the client entries that the identity matches, in the order of the files.
    #[must_use]
    pub fn clients(&self) -> Vec<&str> {
        self.clients.iter().map(|rule| rule.name()).collect()
    }

    /// Returns the strictest of each limit of these entries.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the approximate memory of the rights in bytes, without what they share with the policy.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.grants.footprint() + self.denies.footprint() + size_of_val(&*self.clients)
    }

    /// Returns true if other client entries have a higher priority than these.
    #[must_use]
    pub const fn is_outranked(&self) -> bool {
        self.is_outranked
    }
}

/// A compiled client entry.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) rule: Arc<Rule>,
    pub(super) alternatives: Box<[Alternative]>,
    pub(super) sets: Box<[PermissionSet]>,
    pub(super) when: Option<Arc<When>>,
    pub(super) limits: Limits,
    /// Variables (`{client.NAME}`) that the routes of the entry use.
    pub(super) variables: Box<[Variable]>,
    /// Numbers of the deny rules that name the entry.
    pub(super) denies: Box<[u32]>,
}

/// A compiled deny rule.
#[derive(Debug)]
pub(super) struct Deny {
    pub(super) rule: Arc<Rule>,
    pub(super) permissions: PermissionSet,
    pub(super) when: Option<Arc<When>>,
    pub(super) variables: Box<[Variable]>,
}

impl Deny {
    fn holder(&self, bindings: Box<[(Variable, Box<str>)]>) -> BoundRule {
        BoundRule { rule: self.rule.clone(), when: self.when.clone(), bindings }
    }
}

/// All client entries of a policy, with an index by attributes.
#[derive(Debug)]
pub(super) struct Clients {
    clients: Box<[Client]>,
    /// Deny rules that name client entries or use variables.
    denies: Box<[Deny]>,
    /// Indexes of those deny rules that apply to every client.
    for_everyone: Box<[u32]>,
    index: Index,
    /// Highest priority of any client entry.
    priority: Priority,
}

impl Clients {
    pub(super) fn new(clients: Vec<Client>, denies: Vec<Deny>, for_everyone: Vec<u32>) -> Self {
        let index = Index::of(&clients);
        let priority = clients.iter().map(|client| client.limits.priority).max().unwrap_or_default();
        Self {
            clients: clients.into(),
            denies: denies.into(),
            for_everyone: for_everyone.into(),
            index,
            priority,
        }
    }

    pub(super) fn limits(&self) -> impl Iterator<Item = (&str, Limits)> {
        self.clients.iter().map(|client| (client.rule.name(), client.limits))
    }

    pub(super) fn has_grants(&self) -> bool {
        self.clients.iter().any(|client| client.sets.iter().any(|set| !set.is_empty()))
    }

    /// Computes the rights of an identity.
    pub(super) fn rights(&self, identity: &Identity) -> Rights {
        let candidates = self.index.candidates(identity).into_iter();
        let matching: Vec<&Client> = candidates
            .filter_map(|client| self.clients.get(client as usize))
            .filter(|client| client.alternatives.iter().any(|alternative| alternative.holds(identity)))
            .collect();
        let limits =
            matching.iter().fold(Limits::default(), |limits, client| limits.strictest(client.limits));
        let mut rights = Rights {
            grants: BoundRules::default(),
            denies: BoundRules::default(),
            clients: matching.iter().map(|client| client.rule.clone()).collect(),
            is_outranked: limits.priority < self.priority,
            limits,
        };
        rights.grants.gather(matching.iter().map(|client| {
            let bindings = bindings(&client.variables, &client.alternatives, identity);
            (
                BoundRule { rule: client.rule.clone(), when: client.when.clone(), bindings },
                client.sets.clone(),
            )
        }));
        rights.denies.gather(self.denies_of(&matching, identity));
        rights
    }

    fn denies_of(
        &self,
        matching: &[&Client],
        identity: &Identity,
    ) -> impl Iterator<Item = (BoundRule, Box<[PermissionSet]>)> {
        let everyone = self.for_everyone.iter().map(|deny| (*deny, [].as_slice()));
        let named = matching
            .iter()
            .flat_map(|client| client.denies.iter().map(|deny| (*deny, &*client.alternatives)));
        everyone.chain(named).filter_map(move |(deny, alternatives)| {
            let deny = self.denies.get(deny as usize)?;
            let bindings = bindings(&deny.variables, alternatives, identity);
            Some((deny.holder(bindings), Box::from([deny.permissions.clone()])))
        })
    }
}

fn bindings(
    variables: &[Variable],
    alternatives: &[Alternative],
    identity: &Identity,
) -> Box<[(Variable, Box<str>)]> {
    let bound = variables
        .iter()
        .filter_map(|variable| Some((variable.clone(), bind(alternatives, identity, variable)?)));
    bound.collect()
}
