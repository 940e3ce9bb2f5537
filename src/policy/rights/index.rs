//! The index that finds the client entries an identity may match.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::Client;
use crate::identity::{Attribute, Identity};
use crate::policy::matching::{AttributeTest, values};

/// The index of client entries. Each alternative is indexed by its most selective test, so that an identity is compared with
/// few entries.
#[derive(Debug, Default)]
pub(super) struct Index {
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

type Keyed = HashMap<Attribute, HashMap<Box<str>, Vec<u32>, FixedState>, FixedState>;

/// The table and key under which an alternative is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Exact(Attribute, Box<str>),
    Prefix(Attribute, Box<str>),
    Suffix(Attribute, Box<str>),
}

impl Index {
    pub(super) fn of(clients: &[Client]) -> Self {
        let alternatives = || {
            let numbered = clients.iter().enumerate();
            numbered.flat_map(|(number, client)| {
                client.alternatives.iter().map(move |alternative| (number, alternative))
            })
        };
        // A key is selective if few alternatives share the key.
        let mut shared: HashMap<Key, usize, FixedState> = HashMap::default();
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
    pub(super) fn candidates(&self, identity: &Identity) -> Vec<u32> {
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
