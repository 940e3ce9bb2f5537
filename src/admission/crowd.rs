//! Who of a crowd has to go: the oldest of the source that has the most in it. So a source that brings many pushes out its
//! own, and one that brings few is safe from it; a crowd of one source, or of as many sources as places, is a queue.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Numbers that count up with the time of arrival, by their sources.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    len: usize,
    sources: HashMap<IpAddr, BTreeSet<u64>>,
    /// Every source by how many it has; of those that have as many, the one with the oldest comes last.
    weights: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

impl Crowd {
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

    /// Whether it was there.
    pub(super) fn remove(&mut self, source: IpAddr, number: u64) -> bool {
        let was_there = self.change(source, |numbers| numbers.remove(&number));
        self.len -= usize::from(was_there);
        was_there
    }

    /// The one that has to go first.
    pub(super) fn first_to_go(&self) -> Option<u64> {
        self.weights.last().map(|(_, Reverse(oldest), _)| *oldest)
    }

    /// The one of this source that has to go first.
    pub(super) fn oldest_of(&self, source: IpAddr) -> Option<u64> {
        self.sources.get(&source)?.first().copied()
    }

    /// Changes what a source has, and its weight with it.
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
        let mut crowd = Crowd::default();
        let source = |last: u8| IpAddr::from([192, 0, 2, last]);
        for (number, last) in [(0, 1), (1, 2), (2, 2), (3, 3), (4, 3), (5, 1), (6, 2)] {
            crowd.add(source(last), number);
        }
        assert_eq!((crowd.len(), crowd.of_source(source(2)), crowd.oldest_of(source(3))), (7, 3, Some(3)));
        let mut order = Vec::new();
        while let Some(number) = crowd.first_to_go() {
            let last = [1, 2, 2, 3, 3, 1, 2][usize::try_from(number).unwrap()];
            assert!(crowd.remove(source(last), number));
            order.push(number);
        }
        assert_eq!(order, [1, 0, 2, 3, 4, 5, 6]);
        assert!(!crowd.remove(source(1), 0));
        assert!(crowd.len() == 0 && crowd.sources.is_empty() && crowd.weights.is_empty());
    }
}
