//! Rules bound to one identity: which permissions they concern, and whether they apply to a request.

use std::sync::Arc;

use super::Deny;
use crate::policy::check::PermissionSet;
use crate::policy::condition::{IfDoubtful, When};
use crate::policy::host;
use crate::policy::route::Variable;
use crate::policy::trie::{Entry, RouteConditions, Trie};
use crate::policy::{Question, Rule};

/// Rules bound to one identity, found by permission.
#[derive(Clone, Debug, Default)]
pub(in crate::policy) struct BoundRules {
    /// Pairs of a permission and the index of a rule that has the permission, sorted. All small sets are copied into this list.
    flat: Box<[(u32, u32)]>,
    /// Large sets, each with the index of its rule. These sets stay shared with the policy.
    large: Box<[(PermissionSet, u32)]>,
    holders: Box<[BoundRule]>,
}

/// A client entry or deny rule as it applies to one identity.
#[derive(Clone, Debug)]
pub(in crate::policy) struct BoundRule {
    pub(in crate::policy) rule: Arc<Rule>,
    pub(super) when: Option<Arc<When>>,
    /// Values of the variables (`{client.NAME}`). A variable that is missing could not be bound.
    pub(super) bindings: Box<[(Variable, Box<str>)]>,
}

/// The largest set of permissions that is copied for each identity. Copies of larger sets would cost too much memory.
const SMALL: usize = 256;

/// The longest list for which comparing one by one is faster than a binary search.
const SHORT: usize = 8;

impl BoundRules {
    pub(super) fn footprint(&self) -> usize {
        let bindings = self.holders.iter().flat_map(|holder| &holder.bindings);
        let bound = bindings.map(|binding| size_of_val(binding) + binding.1.len()).sum::<usize>();
        size_of_val(&*self.flat) + size_of_val(&*self.large) + size_of_val(&*self.holders) + bound
    }

    pub(in crate::policy) const fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Calls `hit` with each entry and each rule that has the entry's permission, until `hit` returns true. Returns true if a
    /// call did. The loop runs over the shorter of the two lists.
    pub(in crate::policy) fn any<'h>(
        &'h self,
        entries: &[Entry],
        mut hit: impl FnMut(&Entry, &'h BoundRule) -> bool,
    ) -> bool {
        let mut found =
            |entry: &Entry, holder: u32| self.holders.get(holder as usize).is_some_and(|h| hit(entry, h));
        if entries.len() > self.flat.len() {
            for (permission, holder) in &self.flat {
                let start = entries.partition_point(|entry| entry.permission < *permission);
                let own = entries.iter().skip(start).take_while(|entry| entry.permission == *permission);
                for entry in own {
                    if found(entry, *holder) {
                        return true;
                    }
                }
            }
        } else {
            for entry in entries {
                for (_, holder) in self.flat_of(entry.permission) {
                    if found(entry, *holder) {
                        return true;
                    }
                }
            }
        }
        self.large.iter().any(|(set, holder)| {
            entries.iter().any(|entry| set.binary_search(&entry.permission).is_ok() && found(entry, *holder))
        })
    }

    fn flat_of(&self, permission: u32) -> impl Iterator<Item = &(u32, u32)> {
        let start = match self.flat.len() <= SHORT {
            true => self.flat.iter().position(|(held, _)| *held == permission).unwrap_or(self.flat.len()),
            false => self.flat.partition_point(|(held, _)| *held < permission),
        };
        self.flat.iter().skip(start).take_while(move |(held, _)| *held == permission)
    }

    pub(super) fn gather(&mut self, held: impl Iterator<Item = (BoundRule, Box<[PermissionSet]>)>) {
        let (mut flat, mut large, mut holders) = (Vec::new(), Vec::new(), Vec::new());
        for (holder, sets) in held {
            let number = u32::try_from(holders.len()).unwrap_or(u32::MAX);
            holders.push(holder);
            for set in sets {
                match set.len() <= SMALL {
                    true => flat.extend(set.iter().map(|permission| (*permission, number))),
                    false => large.push((set, number)),
                }
            }
        }
        flat.sort_unstable();
        flat.dedup();
        *self = Self { flat: flat.into(), large: large.into(), holders: holders.into() };
    }

    /// Builds the rules of deny rules that use no variables, so that they apply to every identity alike.
    pub(in crate::policy) fn of_denies<'d>(denies: impl Iterator<Item = &'d Deny>) -> Self {
        let mut holdings = Self::default();
        holdings
            .gather(denies.map(|deny| (deny.holder(Box::default()), Box::from([deny.permissions.clone()]))));
        holdings
    }
}

impl BoundRule {
    /// Returns true if the rule applies to the request: the walk down the path has found the entry, and this checks the method,
    /// `when` and the conditions of the route.
    pub(in crate::policy) fn covers(
        &self,
        trie: &Trie,
        entry: &Entry,
        question: &Question<'_>,
        bit: u64,
        if_doubtful: IfDoubtful,
    ) -> bool {
        entry.allows(bit)
            && self.when.as_ref().is_none_or(|when| when.holds(question.source, question.now))
            && trie.conditions(entry).is_none_or(|conditions| self.meets(conditions, question, if_doubtful))
    }

    fn meets(&self, conditions: &RouteConditions, question: &Question<'_>, if_doubtful: IfDoubtful) -> bool {
        conditions.variables.iter().all(|(index, variable)| {
            let bound = self.bindings.iter().find(|(known, _)| known == variable);
            match bound {
                Some((_, text)) => question.target.segments().nth(*index) == Some(text.as_bytes()),
                None => if_doubtful == IfDoubtful::Met,
            }
        }) && host::holds(&conditions.hosts, question.host, if_doubtful)
            && conditions.query.iter().all(|condition| condition.holds(question.target.query(), if_doubtful))
            && conditions.headers.iter().all(|condition| condition.holds(question.headers, if_doubtful))
    }
}
