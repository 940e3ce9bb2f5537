//! The eviction order: the oldest connection of the source that has the most goes first. A source with many connections
//! therefore pushes out its own, and a source with few is safe from it. With one source, or with as many sources as
//! connections, the order is that of arrival.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Connections of a group in their eviction order. Each has a number, which grows with the time of arrival.
#[derive(Debug, Default)]
pub(super) struct EvictionOrder {
    len: usize,
    sources: HashMap<IpAddr, BTreeSet<u64>>,
    /// Every source by its number of connections; among sources with equal numbers, the one with the oldest connection comes
    /// last.
    weights: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

impl EvictionOrder {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn of_source(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, BTreeSet::len)
    }

    pub(super) fn add(&mut self, source: IpAddr, number: u64) {
        self.change(source, |numbers| numbers.insert(number));
        self.len += 1;
    }

    /// Returns `true` if the connection was in the group.
    pub(super) fn remove(&mut self, source: IpAddr, number: u64) -> bool {
        let was_there = self.change(source, |numbers| numbers.remove(&number));
        self.len -= usize::from(was_there);
        was_there
    }

    /// The connection that is evicted first.
    pub(super) fn next_to_evict(&self) -> Option<u64> {
        self.weights.last().map(|(_, Reverse(oldest), _)| *oldest)
    }

    /// The oldest connection of a source.
    pub(super) fn oldest_of(&self, source: IpAddr) -> Option<u64> {
        self.sources.get(&source)?.first().copied()
    }

    /// Changes the connections of a source, and its weight with them.
    fn change(&mut self, source: IpAddr, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) -> bool {
        let numbers = self.sources.entry(source).or_default();
        if let Some(oldest) = numbers.first() {
            self.weights.remove(&(numbers.len(), Reverse(*oldest), source));
        }
        let changed = change(numbers);
        if let Some(oldest) = numbers.first() {
            self.weights.insert((numbers.len(), Reverse(*oldest), source));
        } else {
            self.sources.remove(&source);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_source_with_the_most_goes_first() {
        let mut order = EvictionOrder::default();
        let source = |last: u8| IpAddr::from([192, 0, 2, last]);
        for (number, last) in [(0, 1), (1, 2), (2, 2), (3, 3), (4, 3), (5, 1), (6, 2)] {
            order.add(source(last), number);
        }
        assert_eq!((order.len(), order.of_source(source(2)), order.oldest_of(source(3))), (7, 3, Some(3)));
        let mut evicted = Vec::new();
        while let Some(number) = order.next_to_evict() {
            let last = [1, 2, 2, 3, 3, 1, 2][usize::try_from(number).unwrap()];
            assert!(order.remove(source(last), number));
            evicted.push(number);
        }
        assert_eq!(evicted, [1, 0, 2, 3, 4, 5, 6]);
        assert!(!order.remove(source(1), 0));
        assert!(order.len() == 0 && order.sources.is_empty() && order.weights.is_empty());
    }
}
