//! Rates of clients: for each rate of a policy, one limiter for all clients that have this rate. A limiter outlives the
//! policy: a client whose rate stays the same keeps its state, and a client with another rate starts anew.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};

use crate::identity::ClientKey;

/// Most clients of one rate; beyond them, clients at rest are forgotten at once: a limiter itself must not fill the memory.
const MANY_CLIENTS: usize = 65_536;

/// All rates in use.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<RateTable>);

/// The rates, by requests per second and burst.
type RateTable = HashMap<(NonZeroU32, NonZeroU32), Arc<Rate>>;

/// One rate, and how far each of its clients has used it.
#[derive(Debug)]
pub(super) struct Rate(RateLimiter<ClientKey, HashMapStateStore<ClientKey>, DefaultClock>);

impl Rates {
    /// The limiter for clients that may send so many requests per second, and so many at once.
    pub(super) fn of(&self, per_second: NonZeroU32, burst: NonZeroU32) -> Arc<Rate> {
        let mut rates = self.rates();
        let rate = rates.entry((per_second, burst)).or_insert_with(|| {
            let quota = Quota::per_second(per_second).allow_burst(burst);
            Arc::new(Rate(RateLimiter::hashmap(quota)))
        });
        if rate.0.len() > MANY_CLIENTS {
            rate.sweep();
        }
        Arc::clone(rate)
    }

    /// Forgets clients at rest, and rates that are not in use any more.
    pub(super) fn sweep(&self) {
        let mut rates = self.rates();
        rates.retain(|_, rate| {
            rate.sweep();
            Arc::strong_count(rate) > 1 || !rate.0.is_empty()
        });
        rates.shrink_to_fit();
    }

    fn rates(&self) -> MutexGuard<'_, RateTable> {
        self.0.lock()
    }
}

impl Rate {
    /// Counts a request of this client.
    ///
    /// # Errors
    /// The request comes too early, by that time.
    pub(super) fn ask(&self, client: &ClientKey) -> Result<(), Duration> {
        self.0.check_key(client).map_err(|early| early.wait_time_from(self.0.clock().now()))
    }

    fn sweep(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Attribute, Identity};

    fn client(name: &str) -> ClientKey {
        ClientKey::of(&Identity::from_attributes([(Attribute::Subject, name.to_owned())]))
    }

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn each_client_has_the_rate_for_itself_and_is_told_how_long_to_wait() {
        let rates = Rates::default();
        let rate = rates.of(number(1), number(3));
        let (one, other) = (client("CN=one"), client("CN=other"));
        assert_eq!((0..5).filter(|_| rate.ask(&one).is_ok()).count(), 3);
        let wait = rate.ask(&one).unwrap_err();
        assert!((Duration::ZERO..=Duration::from_secs(1)).contains(&wait), "{wait:?}");
        assert!(rate.ask(&other).is_ok());
    }

    #[test]
    fn the_same_rate_is_gone_on_with_and_another_starts_anew() {
        let rates = Rates::default();
        let one = client("CN=one");
        assert!(rates.of(number(1), number(1)).ask(&one).is_ok());
        rates.sweep();
        assert!(rates.of(number(1), number(1)).ask(&one).is_err(), "swept only once it is at rest");
        assert!(rates.of(number(1), number(2)).ask(&one).is_ok());
    }

    #[test]
    fn what_is_at_rest_is_forgotten() {
        let rates = Rates::default();
        let quick = rates.of(number(1_000_000), number(1));
        assert!(quick.ask(&client("CN=one")).is_ok());
        let slow = rates.of(number(1), number(1));
        assert!(slow.ask(&client("CN=one")).is_ok());
        drop((quick, slow));
        // The faster client is at rest after a microsecond; governor keeps its state for as long again.
        let start = std::time::Instant::now();
        while rates.rates().len() > 1 {
            rates.sweep();
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(rates.rates().values().map(|rate| rate.0.len()).sum::<usize>(), 1);
    }
}
