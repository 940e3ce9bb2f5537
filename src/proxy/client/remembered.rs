//! Entries by the fingerprint of a chain, within a bound in bytes.

use std::collections::HashMap;

use crate::identity::ClientKey;

/// SHA-256 over a whole chain, lengths included, so that no two chains share a fingerprint.
pub(super) type Fingerprint = [u8; 32];

/// Memory of an entry beside that of its value, in bytes: the tables have at most twice as many places as entries.
const ENTRY: usize = 256;

/// Entries in two halves. An entry that is looked up moves to the young half; when that one is full, the old half is
/// forgotten and the young one becomes the old one. Making room thus needs no search.
#[derive(Debug)]
pub(super) struct Remembered<V> {
    young: Half<V>,
    old: Half<V>,
    /// Most bytes of one half.
    most: usize,
    /// Most bytes of one client in the young half.
    most_of_one: usize,
}

#[derive(Debug)]
struct Half<V> {
    entries: HashMap<Fingerprint, Entry<V>>,
    bytes: usize,
    shares: HashMap<ClientKey, usize>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// The client to which the entry is counted; `None` for clients that are not authenticated, which share one bound.
    owner: Option<ClientKey>,
    bytes: usize,
}

impl<V> Half<V> {
    fn empty() -> Self {
        Self { entries: HashMap::new(), bytes: 0, shares: HashMap::new() }
    }

    fn share(&self, owner: Option<&ClientKey>) -> usize {
        owner.and_then(|owner| self.shares.get(owner)).copied().unwrap_or(0)
    }

    fn insert(&mut self, key: Fingerprint, entry: Entry<V>) {
        self.remove(&key);
        self.bytes += entry.bytes;
        if let Some(owner) = entry.owner {
            *self.shares.entry(owner).or_default() += entry.bytes;
        }
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Fingerprint) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        if let Some(share) = entry.owner.and_then(|owner| self.shares.get_mut(&owner)) {
            *share -= entry.bytes;
        }
        Some(entry)
    }
}

impl<V> Remembered<V> {
    /// Returns an empty memory that never holds more than this number of bytes.
    pub(super) fn within(bytes: usize) -> Self {
        let most = bytes / 2;
        Self { young: Half::empty(), old: Half::empty(), most, most_of_one: most / 8 }
    }

    pub(super) fn find(&mut self, key: &Fingerprint) -> Option<&V> {
        if let Some(entry) = self.old.remove(key) {
            self.put(*key, entry);
        }
        self.young.entries.get(key).map(|entry| &entry.value)
    }

    /// Remembers a value that takes so many bytes, unless its owner has its share already: a client with ever new chains
    /// cannot displace the chains of others.
    pub(super) fn remember(&mut self, key: Fingerprint, owner: Option<ClientKey>, value: V, bytes: usize) {
        self.forget(&key);
        self.put(key, Entry { value, owner, bytes: bytes.saturating_add(ENTRY) });
    }

    pub(super) fn forget(&mut self, key: &Fingerprint) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// The memory of all entries, in bytes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    fn put(&mut self, key: Fingerprint, entry: Entry<V>) {
        let most = if entry.owner.is_some() { self.most_of_one } else { self.most };
        let own = self.young.share(entry.owner.as_ref());
        if own.saturating_add(entry.bytes) > most {
            return;
        }
        if self.young.bytes + entry.bytes > self.most {
            self.old = std::mem::replace(&mut self.young, Half::empty());
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Attribute, Identity};

    const KIB: usize = 1024;

    fn key(number: usize) -> Fingerprint {
        let mut key = Fingerprint::default();
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn client(name: &str) -> Option<ClientKey> {
        Some(ClientKey::of(&Identity::from_attributes([(Attribute::Subject, name.to_owned())])))
    }

    #[test]
    fn no_number_and_no_size_of_entries_passes_the_bound() {
        for size in [0, 100, KIB, 60 * KIB, KIB * KIB] {
            for owned in [false, true] {
                let mut remembered = Remembered::within(KIB * KIB);
                for number in 0..5_000 {
                    let owner = if owned { client(&number.to_string()) } else { None };
                    remembered.remember(key(number), owner, (), size);
                    assert!(remembered.bytes() <= KIB * KIB, "{size}: {}", remembered.bytes());
                    if number % 3 == 0 {
                        remembered.find(&key(number / 2));
                        assert!(remembered.bytes() <= KIB * KIB, "{size}: {}", remembered.bytes());
                    }
                }
            }
        }
    }

    #[test]
    fn a_client_with_ever_new_chains_pushes_out_its_own_and_no_other() {
        let mut remembered = Remembered::within(KIB * KIB);
        remembered.remember(key(0), client("quiet"), (), KIB);
        for number in 1..10_000 {
            remembered.remember(key(number), client("loud"), (), KIB);
        }
        assert!(remembered.find(&key(0)).is_some());
        assert!(remembered.bytes() <= KIB * KIB / 2 / 8 + 2 * KIB, "{}", remembered.bytes());
    }

    #[test]
    fn used_entries_stay_and_unused_ones_are_forgotten() {
        let mut remembered = Remembered::within(64 * KIB);
        for number in 0..1_000 {
            remembered.remember(key(number), client(&number.to_string()), (), KIB);
            assert!(remembered.find(&key(0)).is_some(), "{number}");
        }
        assert!(remembered.find(&key(1)).is_none());
    }

    #[test]
    fn a_value_that_is_remembered_anew_is_counted_once() {
        let mut remembered = Remembered::within(KIB * KIB);
        for _ in 0..1_000 {
            remembered.remember(key(1), client("one"), (), KIB);
        }
        assert_eq!(remembered.bytes(), KIB + ENTRY);
        remembered.forget(&key(1));
        assert_eq!(remembered.bytes(), 0);
    }
}
