//! The lobby: connections that hold no slot. Bounded in total and per source, newest in, oldest out (DESIGN §2.4).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::source_of;
use crate::leash::{Leash, Order};

/// The lobby's bounds (`limits.lobby`).
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections without a slot, in total.
    pub max_connections: usize,
    /// Connections without a slot from one source.
    pub max_per_source: usize,
    /// New connections a second from one source; as many may come at once.
    pub connections_per_second: NonZeroU32,
}

/// More sources than this are forgotten early: a rate limiter must not be what fills the memory.
const MAX_SOURCES: usize = 65_536;

/// The connections that hold no slot.
#[derive(Debug)]
pub struct Lobby {
    waiting: Mutex<Waiting>,
    rates: ArcSwap<Rates>,
}

type Rates = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

#[derive(Debug)]
struct Waiting {
    bounds: Bounds,
    next: u64,
    /// By age: the first is the oldest.
    places: BTreeMap<u64, Entry>,
    sources: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Entry {
    source: IpAddr,
    leash: Arc<Leash>,
}

/// A place in the lobby; leaves it when dropped.
#[derive(Debug)]
pub struct Place {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Lobby {
    pub(super) fn new(bounds: Bounds) -> Self {
        let waiting = Waiting { bounds, next: 0, places: BTreeMap::new(), sources: HashMap::new() };
        Self { waiting: Mutex::new(waiting), rates: ArcSwap::from_pointee(rates(bounds)) }
    }

    /// Changes the bounds. Who is beyond them goes when the next one comes.
    pub fn set_bounds(&self, bounds: Bounds) {
        let before = std::mem::replace(&mut self.waiting().bounds, bounds);
        if before.connections_per_second != bounds.connections_per_second {
            self.rates.store(Arc::new(rates(bounds)));
        }
    }

    /// Whether one more connection of this source is within its rate.
    pub fn may_knock(&self, address: IpAddr) -> bool {
        self.rates.load().check_key(&source_of(address)).is_ok()
    }

    /// Lets a connection in. Where that is one too many, of this source or in total, the oldest is closed.
    pub fn enter(self: &Arc<Self>, address: IpAddr, leash: Arc<Leash>) -> Place {
        let source = source_of(address);
        let mut waiting = self.waiting();
        while waiting.of_source(source) >= waiting.bounds.max_per_source {
            waiting.evict_oldest_of(source);
        }
        while waiting.places.len() >= waiting.bounds.max_connections {
            waiting.evict_oldest();
        }
        Place { number: waiting.add(source, leash), lobby: Arc::clone(self) }
    }

    /// How many connections hold no slot.
    pub fn len(&self) -> usize {
        self.waiting().places.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets sources that have not been seen for a while; to be called now and then.
    pub fn sweep(&self) {
        let rates = self.rates.load();
        rates.retain_recent();
        rates.shrink_to_fit();
    }

    /// Whether so many sources are known that they should be swept at once.
    pub fn wants_sweep(&self) -> bool {
        self.rates.load().len() > MAX_SOURCES
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held; if it did, the lists would still agree.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rates(bounds: Bounds) -> Rates {
    RateLimiter::hashmap(Quota::per_second(bounds.connections_per_second))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.waiting().remove(self.number);
    }
}

impl Waiting {
    fn add(&mut self, source: IpAddr, leash: Arc<Leash>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.places.insert(number, Entry { source, leash });
        self.sources.entry(source).or_default().insert(number);
        number
    }

    fn of_source(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, BTreeSet::len)
    }

    fn evict_oldest_of(&mut self, source: IpAddr) {
        if let Some(number) = self.sources.get(&source).and_then(|numbers| numbers.first().copied()) {
            self.evict(number);
        }
    }

    fn evict_oldest(&mut self) {
        if let Some(number) = self.places.first_key_value().map(|(number, _)| *number) {
            self.evict(number);
        }
    }

    fn evict(&mut self, number: u64) {
        if let Some(entry) = self.remove(number) {
            entry.leash.give(Order::Close);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.places.remove(&number)?;
        if let Some(numbers) = self.sources.get_mut(&entry.source) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.sources.remove(&entry.source);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lobby(max_connections: usize, max_per_source: usize) -> Arc<Lobby> {
        let connections_per_second = NonZeroU32::new(5).unwrap();
        Arc::new(Lobby::new(Bounds { max_connections, max_per_source, connections_per_second }))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_newcomer_gets_in_and_the_oldest_goes() {
        let lobby = lobby(2, 2);
        let leashes: Vec<_> = (0..3).map(|_| Arc::new(Leash::default())).collect();
        let places: Vec<_> = leashes
            .iter()
            .zip(1..)
            .map(|(leash, last)| lobby.enter(address(last), Arc::clone(leash)))
            .collect();
        assert_eq!(
            leashes.iter().map(|leash| leash.was_told(Order::Close)).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(lobby.len(), 2);
        drop(places);
        assert!(lobby.is_empty());
        assert!(lobby.waiting().sources.is_empty());
    }

    #[test]
    fn one_source_cannot_push_out_another() {
        let lobby = lobby(10, 2);
        let other = Arc::new(Leash::default());
        let _other = lobby.enter(address(1), Arc::clone(&other));
        let leashes: Vec<_> = (0..4).map(|_| Arc::new(Leash::default())).collect();
        let _places: Vec<_> =
            leashes.iter().map(|leash| lobby.enter(address(2), Arc::clone(leash))).collect();
        assert!(!other.was_told(Order::Close));
        assert_eq!(
            leashes.iter().map(|leash| leash.was_told(Order::Close)).collect::<Vec<_>>(),
            [true, true, false, false]
        );
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_64() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        let lobby = lobby(10, 10);
        assert_eq!((0..10).filter(|_| lobby.may_knock(address(1))).count(), 5);
        assert!(lobby.may_knock(address(2)));
    }
}
