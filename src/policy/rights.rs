//! The rights of an identity: the client entries and deny rules that match the identity, and the permissions of these. An
//! index finds the entries, so that the cost does not grow with the number of entries.

use std::collections::HashMap;
use std::sync::Arc;

use super::check::PermissionSet;
use super::condition::{IfDoubtful, When};
use super::hash::Fast;
use super::host;
use super::matching::{Alternative, AttributeTest, bind, values};
use super::route::Variable;
use super::trie::{Entry, RouteConditions, Trie};
use super::{Limits, Priority, Question, Rule};
use crate::identity::{Attribute, Identity};

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

/// Rules bound to one identity, found by permission.
#[derive(Clone, Debug, Default)]
pub(super) struct BoundRules {
    /// Pairs of a permission and the index of a rule that has the permission, sorted. All small sets are copied into this list.
    flat: Box<[(u32, u32)]>,
    /// Large sets, each with the index of its rule. These sets stay shared with the policy.
    large: Box<[(PermissionSet, u32)]>,
    holders: Box<[BoundRule]>,
}

/// A client entry or deny rule as it applies to one identity.
#[derive(Clone, Debug)]
pub(super) struct BoundRule {
    pub(super) rule: Arc<Rule>,
    when: Option<Arc<When>>,
    /// Values of the variables (`{client.NAME}`). A variable that is missing could not be bound.
    bindings: Box<[(Variable, Box<str>)]>,
}

/// The largest set of permissions that is copied for each identity. Copies of larger sets would cost too much memory.
const SMALL: usize = 256;

/// The longest list for which comparing one by one is faster than a binary search.
const SHORT: usize = 8;

impl BoundRules {
    fn footprint(&self) -> usize {
        let bindings = self.holders.iter().flat_map(|holder| &holder.bindings);
        let bound = bindings.map(|binding| size_of_val(binding) + binding.1.len()).sum::<usize>();
        size_of_val(&*self.flat) + size_of_val(&*self.large) + size_of_val(&*self.holders) + bound
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Calls `hit` with each entry and each rule that has the entry's permission, until `hit` returns true. Returns true if a
    /// call did. The loop runs over the shorter of the two lists.
    pub(super) fn any<'h>(
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

    fn gather(&mut self, held: impl Iterator<Item = (BoundRule, Box<[PermissionSet]>)>) {
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
    pub(super) fn of_denies<'d>(denies: impl Iterator<Item = &'d Deny>) -> Self {
        let mut holdings = Self::default();
        holdings
            .gather(denies.map(|deny| (deny.holder(Box::default()), Box::from([deny.permissions.clone()]))));
        holdings
    }
}

impl BoundRule {
    /// Returns true if the rule applies to the request: the walk down the path has found the entry, and this checks the method,
    /// `when` and the conditions of the route.
    pub(super) fn covers(
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

/// The index of client entries. Each alternative is indexed by its most selective test, so that an identity is compared with
/// few entries.
#[derive(Debug, Default)]
struct Index {
    exact: Keyed,
    /// Entries by the text that the values of a pattern start with, and end with.
    prefixes: Keyed,
    suffixes: Keyed,
    /// Lengths of the prefixes and suffixes that occur, ascending.
    prefix_lengths: Box<[usize]>,
    suffix_lengths: Box<[usize]>,
    /// Entries with an alternative that has no key: `any: true`, networks, patterns that start and end with a wildcard.
    unindexed: Vec<u32>,
}

type Keyed = HashMap<Attribute, HashMap<Box<str>, Vec<u32>, Fast>, Fast>;

/// The table and key under which an alternative is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Exact(Attribute, Box<str>),
    Prefix(Attribute, Box<str>),
    Suffix(Attribute, Box<str>),
}

impl Index {
    fn of(clients: &[Client]) -> Self {
        let alternatives = || {
            let numbered = clients.iter().enumerate();
            numbered.flat_map(|(number, client)| {
                client.alternatives.iter().map(move |alternative| (number, alternative))
            })
        };
        // A key is selective if few alternatives share the key.
        let mut shared: HashMap<Key, usize, Fast> = HashMap::default();
        for key in
            alternatives().flat_map(|(_, alternative)| &alternative.tests).flat_map(value_keys).flatten()
        {
            *shared.entry(key).or_default() += 1;
        }
        let shared = |key: &Key| shared.get(key).copied().unwrap_or(0);
        let mut index = Self::default();
        for (number, alternative) in alternatives() {
            let client = u32::try_from(number).unwrap_or(u32::MAX);
            let selective = alternative.tests.iter().filter_map(|test| most_selective(test, shared));
            match selective.min_by_key(|keys| keys.iter().map(shared).sum::<usize>()) {
                Some(keys) => keys.into_iter().for_each(|key| index.insert(key, client)),
                None => index.unindexed.push(client),
            }
        }
        index.prefix_lengths = lengths(&index.prefixes);
        index.suffix_lengths = lengths(&index.suffixes);
        index
    }

    fn insert(&mut self, key: Key, client: u32) {
        let (table, attribute, text) = match key {
            Key::Exact(attribute, text) => (&mut self.exact, attribute, text),
            Key::Prefix(attribute, text) => (&mut self.prefixes, attribute, text),
            Key::Suffix(attribute, text) => (&mut self.suffixes, attribute, text),
        };
        table.entry(attribute).or_default().entry(text).or_default().push(client);
    }

    /// Returns, in order, every client entry that could match, and few that do not.
    fn candidates(&self, identity: &Identity) -> Vec<u32> {
        let mut found = self.unindexed.clone();
        for attribute in Attribute::ALL {
            for value in values(identity, attribute) {
                let mut look = |table: &Keyed, part: &str| {
                    let of_attribute = table.get(&attribute);
                    found.extend(of_attribute.and_then(|texts| texts.get(part)).into_iter().flatten());
                };
                look(&self.exact, value);
                for length in self.prefix_lengths.iter().take_while(|length| **length <= value.len()) {
                    if let Some(prefix) = value.get(..*length) {
                        look(&self.prefixes, prefix);
                    }
                }
                for length in self.suffix_lengths.iter().take_while(|length| **length <= value.len()) {
                    if let Some(suffix) = value.get(value.len() - length..) {
                        look(&self.suffixes, suffix);
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Returns, for each value of a test, the keys under which an identity with that value can be found.
fn value_keys(test: &AttributeTest) -> impl Iterator<Item = Vec<Key>> {
    let attribute = test.attribute;
    let exact = test.exact.iter().map(move |text| vec![Key::Exact(attribute, text.clone())]);
    let patterns = test.patterns.iter().map(move |pattern| {
        let prefix = (!pattern.prefix().is_empty()).then(|| Key::Prefix(attribute, pattern.prefix().into()));
        let suffix = (!pattern.suffix().is_empty()).then(|| Key::Suffix(attribute, pattern.suffix().into()));
        prefix.into_iter().chain(suffix).collect()
    });
    exact.chain(patterns).chain(test.networks.iter().map(|_| Vec::new()))
}

/// Returns the most selective keys under which every identity that meets the test is found; `None` if a value has no key.
fn most_selective(test: &AttributeTest, shared: impl Fn(&Key) -> usize) -> Option<Vec<Key>> {
    value_keys(test).map(|keys| keys.into_iter().min_by_key(&shared)).collect()
}

fn lengths(table: &Keyed) -> Box<[usize]> {
    let mut lengths: Vec<usize> = table.values().flat_map(HashMap::keys).map(|text| text.len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths.into()
}
