//! What an identity may do: which entries of the policy mean it, found without asking all of them, and what they give.

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

/// What one identity may do under one policy.
#[derive(Clone, Debug)]
pub struct Rights {
    pub(super) grants: BoundRules,
    /// The deny rules that name it; those for everyone are the policy's.
    pub(super) denies: BoundRules,
    clients: Box<[Arc<Rule>]>,
    limits: Limits,
    is_outranked: bool,
}

impl Rights {
    /// The names of the client entries that the identity matches, in the order of the files.
    #[must_use]
    pub fn clients(&self) -> Vec<&str> {
        self.clients.iter().map(|rule| rule.name()).collect()
    }

    /// The limits of all these entries together: of each kind the strictest.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// The bytes that they take beside the policy, about.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.grants.footprint() + self.denies.footprint() + size_of_val(&*self.clients)
    }

    /// Whether others have a priority that these entries do not give.
    #[must_use]
    pub const fn is_outranked(&self) -> bool {
        self.is_outranked
    }
}

/// A client entry, ready to be held against identities.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) rule: Arc<Rule>,
    pub(super) alternatives: Box<[Alternative]>,
    pub(super) sets: Box<[PermissionSet]>,
    pub(super) when: Option<Arc<When>>,
    pub(super) limits: Limits,
    /// The `{client.NAME}`s of all its routes.
    pub(super) variables: Box<[Variable]>,
    /// The deny rules that name it.
    pub(super) denies: Box<[u32]>,
}

/// A deny rule.
#[derive(Debug)]
pub(super) struct Deny {
    pub(super) rule: Arc<Rule>,
    pub(super) permissions: PermissionSet,
    pub(super) when: Option<Arc<When>>,
    pub(super) variables: Box<[Variable]>,
}

/// Sets of permissions with who holds them.
#[derive(Clone, Debug, Default)]
pub(super) struct BoundRules {
    /// Permission and number of holder, sorted: all small sets in one.
    flat: Box<[(u32, u32)]>,
    /// Large sets stay shared, and are searched one by one.
    large: Box<[(PermissionSet, u32)]>,
    holders: Box<[BoundRule]>,
}

/// Under which rule, and when, permissions are held.
#[derive(Clone, Debug)]
pub(super) struct BoundRule {
    pub(super) rule: Arc<Rule>,
    when: Option<Arc<When>>,
    /// What `{client.NAME}`s stand for; one that is missing could not be bound.
    bindings: Box<[(Variable, Box<str>)]>,
}

/// Sets of at most this size are copied out; copying larger ones for each identity would cost too much memory.
const SMALL: usize = 256;

/// Up to here comparing one by one is faster than a binary search.
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

    /// Hands the entries that are held, with their holders, to `hit` until it is content; the shorter list leads.
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

    /// What these deny rules forbid whomever they are held against.
    pub(super) fn of_denies<'d>(denies: impl Iterator<Item = &'d Deny>) -> Self {
        let mut holdings = Self::default();
        holdings
            .gather(denies.map(|deny| (deny.holder(Box::default()), Box::from([deny.permissions.clone()]))));
        holdings
    }
}

impl BoundRule {
    /// Whether the route really means the request, as far as the walk down its path could not tell.
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

/// All client entries of a policy, found by what a certificate says.
#[derive(Debug)]
pub(super) struct Clients {
    clients: Box<[Client]>,
    /// The deny rules that name clients, or use what a certificate says.
    denies: Box<[Deny]>,
    /// Those of them that are for everyone.
    for_everyone: Box<[u32]>,
    index: Index,
    /// The highest that any of them gives.
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

    /// Works out what an identity may do.
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

/// Finds client entries by one telling test of each of their alternatives, so that an identity is held against few.
#[derive(Debug, Default)]
struct Index {
    exact: Keyed,
    /// By what the values of a pattern start with, and end with.
    prefixes: Keyed,
    suffixes: Keyed,
    /// The lengths of prefixes and suffixes that occur.
    prefix_lengths: Box<[usize]>,
    suffix_lengths: Box<[usize]>,
    /// Those with no telling test: `any: true`, networks, patterns without a beginning and an end.
    always: Vec<u32>,
}

type Keyed = HashMap<Attribute, HashMap<Box<str>, Vec<u32>, Fast>, Fast>;

/// Under which key of which table an alternative is found.
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
        // How many alternatives share a key says how telling it is.
        let mut shared: HashMap<Key, usize, Fast> = HashMap::default();
        for key in alternatives().flat_map(|(_, alternative)| &alternative.tests).flat_map(choices).flatten()
        {
            *shared.entry(key).or_default() += 1;
        }
        let shared = |key: &Key| shared.get(key).copied().unwrap_or(0);
        let mut index = Self::default();
        for (number, alternative) in alternatives() {
            let client = u32::try_from(number).unwrap_or(u32::MAX);
            let telling = alternative.tests.iter().filter_map(|test| most_telling(test, shared));
            match telling.min_by_key(|keys| keys.iter().map(shared).sum::<usize>()) {
                Some(keys) => keys.into_iter().for_each(|key| index.insert(key, client)),
                None => index.always.push(client),
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

    /// Every client that could match, and few that do not; sorted.
    fn candidates(&self, identity: &Identity) -> Vec<u32> {
        let mut found = self.always.clone();
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

/// For each value of a test, the keys under which an identity that has it can be found.
fn choices(test: &AttributeTest) -> impl Iterator<Item = Vec<Key>> {
    let attribute = test.attribute;
    let exact = test.exact.iter().map(move |text| vec![Key::Exact(attribute, text.clone())]);
    let patterns = test.patterns.iter().map(move |pattern| {
        let prefix = (!pattern.prefix().is_empty()).then(|| Key::Prefix(attribute, pattern.prefix().into()));
        let suffix = (!pattern.suffix().is_empty()).then(|| Key::Suffix(attribute, pattern.suffix().into()));
        prefix.into_iter().chain(suffix).collect()
    });
    exact.chain(patterns).chain(test.networks.iter().map(|_| Vec::new()))
}

/// Keys under which every identity that meets the test is found; `None` if a value of it has no key.
fn most_telling(test: &AttributeTest, shared: impl Fn(&Key) -> usize) -> Option<Vec<Key>> {
    choices(test).map(|keys| keys.into_iter().min_by_key(&shared)).collect()
}

fn lengths(table: &Keyed) -> Box<[usize]> {
    let mut lengths: Vec<usize> = table.values().flat_map(HashMap::keys).map(|text| text.len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths.into()
}
