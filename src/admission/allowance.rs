//! The limits of one client, made once with its rights and shared by its connections.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Admission;
use super::in_flight::Terms;
use super::load::ClientLoad;
use super::rates::Rate;
use crate::identity::{ClientKey, Identity};
use crate::policy::{Priority, Rights};

/// The limits of one client. Its requests take no lock for them, and write no memory of other clients.
#[derive(Debug)]
pub struct Allowance {
    /// The client's requests in flight, over all its connections, workers and certificates.
    pub(super) load: Arc<ClientLoad>,
    /// Most connections with a slot; `None`: no limit.
    pub(super) connections: Option<usize>,
    rate: Option<Arc<Rate>>,
    pub(super) terms: Terms,
}

/// The part of all places, in percent, that is left to clients of high priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserve(usize);

impl Reserve {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn of(percent: usize) -> Self {
        Self(percent)
    }

    /// Number of places that may be taken, of so many. A fraction of a place is rounded up, but the last place is never kept.
    pub(super) fn limit(self, places: usize) -> usize {
        let reserved = places.saturating_mul(self.0).div_ceil(100);
        places - reserved.min(places.saturating_sub(1))
    }
}

impl Allowance {
    /// The key of the client that has these limits.
    #[must_use]
    pub fn client(&self) -> ClientKey {
        *self.load.client()
    }

    /// Counts a request against the client's rate.
    ///
    /// # Errors
    /// The request comes too early, by that time.
    pub(super) fn count_request(&self) -> Result<(), Duration> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.ask(self.load.client()))
    }
}

impl Admission {
    /// Returns the limits of a client: the strictest of those of its policy entries and of the configuration. If no entry of
    /// the policy has high priority, nothing is kept for high priority.
    #[must_use]
    pub fn allowance(&self, identity: &Identity, rights: &Rights) -> Allowance {
        let limits = rights.limits();
        let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let own = self.limits.load();
        let default_bound = (own.max_connections_per_client > 0).then_some(own.max_connections_per_client);
        let per_second = limits.requests_per_second.and_then(NonZeroU32::new);
        let burst = limits.requests_at_once().and_then(NonZeroU32::new);
        let part_if = |is_kept| if is_kept { Reserve::of(own.reserved) } else { Reserve::NONE };
        let terms = Terms {
            priority: limits.priority,
            reserve: part_if(rights.is_outranked()),
            high: part_if(rights.is_outranked() || limits.priority == Priority::High),
            in_flight: limits.in_flight.map(number),
        };
        Allowance {
            load: self.in_flight.load_of(ClientKey::of(identity)),
            connections: limits.connections.map(number).into_iter().chain(default_bound).min(),
            rate: per_second.zip(burst).map(|(per_second, burst)| self.rates.of(per_second, burst)),
            terms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Bounds, Limits, Queue};
    use crate::diagnostic::Source;
    use crate::identity::Attribute;
    use crate::policy::Policy;

    fn admission(max_connections_per_client: usize) -> Admission {
        Admission::new(Limits {
            max_connections: 10,
            max_connections_per_client,
            max_in_flight: 10,
            reserved_for_others: 10,
            queue: Queue { length: 0, timeout: Duration::ZERO },
            reserved: 25,
            lobby: Bounds {
                max_connections: 10,
                max_per_source: 10,
                connections_per_second: NonZeroU32::MAX,
                handshakes: 10,
            },
        })
    }

    /// The limits of the client `CN=x` under a policy whose entries have these limits.
    fn under(admission: &Admission, limits: &[&str]) -> Allowance {
        let entry = |limits| format!("match: {{ any: true }}, limits: {{ {limits} }}");
        of_entries(admission, &limits.iter().map(entry).collect::<Vec<_>>())
    }

    fn of_entries(admission: &Admission, entries: &[String]) -> Allowance {
        let entries = entries.iter().enumerate();
        let entries = entries.map(|(number, entry)| format!("  - {{ name: e{number}, {entry} }}\n"));
        let text = format!("version: 1\nclients:\n{}", entries.collect::<String>());
        let (policy, _) = Policy::compile(&[Source::new("policy.yaml", text.as_str())]).unwrap();
        let identity = Identity::from_attributes([(Attribute::Subject, "CN=x".to_owned())]);
        admission.allowance(&identity, &policy.rights(&identity))
    }

    #[test]
    fn of_each_kind_the_strictest_holds() {
        let admission = admission(5);
        assert_eq!(under(&admission, &["requests_per_second: 1"]).connections, Some(5));
        assert_eq!(under(&admission, &["connections: 9"]).connections, Some(5));
        assert_eq!(under(&admission, &["connections: 3", "connections: 4"]).connections, Some(3));
        assert_eq!(under(&admission, &["connections: 3"]).terms.in_flight, None);
        assert_eq!(
            under(&admission, &["in_flight: 9", "in_flight: 4", "burst: 2, requests_per_second: 1"])
                .terms
                .in_flight,
            Some(4)
        );
        // The burst of an entry is its rate, unless the entry says otherwise.
        let both = under(&admission, &["requests_per_second: 100, burst: 200", "requests_per_second: 2"]);
        assert_eq!((0..10).filter(|_| both.count_request().is_ok()).count(), 2);
    }

    #[test]
    fn a_part_is_kept_for_high_priority_if_an_entry_has_it() {
        let admission = admission(0);
        let (me, other) = ("match: { any: true }", "match: { common_name: y }");
        let reserve = |entries: &[String]| of_entries(&admission, entries).terms.reserve;
        assert_eq!(reserve(&[me.to_owned(), other.to_owned()]), Reserve::NONE);
        assert_eq!(reserve(&[me.to_owned(), format!("{other}, priority: high")]), Reserve::of(25));
        assert_eq!(reserve(&[format!("{me}, priority: high"), other.to_owned()]), Reserve::NONE);
        let both =
            of_entries(&admission, &[format!("{me}, priority: high"), format!("{me}, priority: normal")]);
        assert_eq!(both.terms.priority, Priority::High, "what any of its entries gives");
    }

    #[test]
    fn a_reserve_is_rounded_up_and_leaves_one_to_everybody() {
        for (percent, places, limit) in
            [(0, 10, 10), (10, 1000, 900), (10, 3, 2), (10, 1, 1), (90, 2, 1), (50, 0, 0)]
        {
            assert_eq!(Reserve::of(percent).limit(places), limit, "{percent} % of {places}");
        }
    }

    #[test]
    fn another_policy_with_the_same_limits_goes_on_counting_and_one_with_others_starts_anew() {
        let admission = admission(0);
        let before = under(&admission, &["requests_per_second: 1, burst: 3"]);
        assert_eq!((0..5).filter(|_| before.count_request().is_ok()).count(), 3);
        drop(before);
        let same = under(&admission, &["connections: 7", "requests_per_second: 1, burst: 3"]);
        assert!(same.count_request().is_err(), "its rate did not change");
        assert!(under(&admission, &["requests_per_second: 1, burst: 4"]).count_request().is_ok());
        assert!(under(&admission, &["connections: 1"]).count_request().is_ok());
    }
}
