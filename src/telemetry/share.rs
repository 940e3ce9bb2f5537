//! A share of all requests. Every sidecar chooses the same requests, by their ids.

use super::RequestId;

/// A share, from 0 (no request) to 1 (every request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// All requests.
    pub const ALL: Self = Self(u64::MAX);

    /// Returns the share, if the number is one.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked, and all of them is the most"
    )]
    pub fn of(number: f64) -> Option<Self> {
        const EVERYTHING: f64 = 18_446_744_073_709_551_616.0;
        (0.0..=1.0).contains(&number).then_some(Self((number * EVERYTHING) as u64))
    }

    /// `true` if a request belongs to the share: the first 16 digits of its id, as a number, are below that share of all such
    /// numbers.
    #[must_use]
    pub fn has(self, id: &RequestId) -> bool {
        self == Self::ALL || id.number() < self.0
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn of_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RequestIds;
    use super::*;

    #[test]
    fn a_share_has_its_part_of_all_requests() {
        let ids = RequestIds::new();
        let ids: Vec<_> = (0..10_000).map(|_| ids.next()).collect();
        for (number, low, high) in [(0.0, 0, 0), (1.0, 10_000, 10_000), (0.25, 2_200, 2_800)] {
            let share = Share::of(number).unwrap();
            let count = ids.iter().filter(|id| share.has(id)).count();
            assert!((low..=high).contains(&count), "{number}: {count}");
        }
        let [less, more] = [0.1, 0.2].map(|number| Share::of(number).unwrap());
        assert!(ids.iter().all(|id| more.has(id) || !less.has(id)), "who has more has the same ones");
        assert!([-0.1, 1.1, f64::NAN].into_iter().all(|number| Share::of(number).is_none()));
    }
}
