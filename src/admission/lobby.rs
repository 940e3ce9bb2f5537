//! The lobby: connections that hold no slot. Bounded in total and per source, newest in, oldest out (DESIGN §2.4).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// TLS handshakes in progress.
    pub handshakes: usize,
}

/// Which bound a connection was closed for, to make room for a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Bound {
    /// Connections without a slot, in total.
    Connections,
    /// Those from one source.
    Source,
    /// Handshakes in progress.
    Handshakes,
}

impl Bound {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connections, Self::Source, Self::Handshakes];

    /// The label `bound`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Source => "source",
            Self::Handshakes => "handshakes",
        }
    }
}

/// More sources than this are forgotten early: a rate limiter must not be what fills the memory.
const MAX_SOURCES: usize = 65_536;

/// The connections that hold no slot.
#[derive(Debug)]
pub struct Lobby {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
    rates: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By age: the first is the oldest.
    places: BTreeMap<u64, Entry>,
    sources: HashMap<IpAddr, BTreeSet<u64>>,
    /// Those whose TLS handshake has not ended.
    handshakes: BTreeSet<u64>,
    /// By [`Bound`].
    evicted: [u64; 3],
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
        let quota = Quota::per_second(bounds.connections_per_second);
        Self { bounds, waiting: Mutex::default(), rates: RateLimiter::hashmap(quota) }
    }

    /// Whether one more connection of this source is within its rate.
    pub fn may_knock(&self, address: IpAddr) -> bool {
        self.rates.check_key(&source_of(address)).is_ok()
    }

    /// Lets a connection in, whose TLS handshake begins. Where that is one too many, of this source, in total or of
    /// handshakes, the oldest is closed: one that is old and still here has had its time, and who is slow on purpose is old.
    pub fn enter(self: &Arc<Self>, address: IpAddr, leash: Arc<Leash>) -> Place {
        let source = source_of(address);
        let waiting = &mut *self.waiting();
        if waiting.of_source(source) >= self.bounds.max_per_source {
            waiting.evict(Bound::Source, waiting.oldest_of(source));
        }
        if waiting.places.len() >= self.bounds.max_connections {
            waiting.evict(Bound::Connections, waiting.oldest());
        }
        if waiting.handshakes.len() >= self.bounds.handshakes {
            waiting.evict(Bound::Handshakes, waiting.oldest_handshake());
        }
        Place { number: waiting.add(source, leash), lobby: Arc::clone(self) }
    }

    /// How many connections hold no slot.
    pub fn len(&self) -> usize {
        self.waiting().places.len()
    }

    /// How many of them are in their TLS handshake.
    pub fn handshakes(&self) -> usize {
        self.waiting().handshakes.len()
    }

    /// How many were closed for newer ones, by the bound.
    pub fn evicted(&self, bound: Bound) -> u64 {
        self.waiting().evicted.get(bound as usize).copied().unwrap_or_default()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets sources that have not been seen for a while; to be called now and then.
    pub fn sweep(&self) {
        self.rates.retain_recent();
        self.rates.shrink_to_fit();
    }

    /// Whether so many sources are known that they should be swept at once.
    pub fn wants_sweep(&self) -> bool {
        self.rates.len() > MAX_SOURCES
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held; if it did, the lists would still agree.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The TLS handshake has ended.
    pub fn is_secured(&self) {
        self.lobby.waiting().handshakes.remove(&self.number);
    }
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
        self.handshakes.insert(number);
        number
    }

    fn of_source(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, BTreeSet::len)
    }

    fn oldest_of(&self, source: IpAddr) -> Option<u64> {
        self.sources.get(&source)?.first().copied()
    }

    fn oldest(&self) -> Option<u64> {
        self.places.first_key_value().map(|(number, _)| *number)
    }

    fn oldest_handshake(&self) -> Option<u64> {
        self.handshakes.first().copied()
    }

    fn evict(&mut self, bound: Bound, number: Option<u64>) {
        if let Some(entry) = number.and_then(|number| self.remove(number)) {
            entry.leash.give(Order::Close);
            if let Some(count) = self.evicted.get_mut(bound as usize) {
                *count += 1;
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.places.remove(&number)?;
        self.handshakes.remove(&number);
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
        let bounds = Bounds { max_connections, max_per_source, connections_per_second, handshakes: 100 };
        Arc::new(Lobby::new(bounds))
    }

    fn were_closed(leashes: &[Arc<Leash>]) -> Vec<bool> {
        leashes.iter().map(|leash| leash.was_told(Order::Close)).collect()
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
        assert_eq!(were_closed(&leashes), [true, false, false]);
        assert_eq!(lobby.len(), 2);
        drop(places);
        assert!(lobby.is_empty());
        let waiting = lobby.waiting();
        assert!(waiting.sources.is_empty() && waiting.handshakes.is_empty());
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
        assert_eq!(were_closed(&leashes), [true, true, false, false]);
        assert_eq!(Bound::ALL.map(|bound| lobby.evicted(bound)), [0, 2, 0]);
    }

    #[test]
    fn of_handshakes_the_oldest_gives_way_and_who_is_through_does_not() {
        let mut lobby = lobby(10, 10);
        Arc::get_mut(&mut lobby).unwrap().bounds.handshakes = 2;
        let leashes: Vec<_> = (0..5).map(|_| Arc::new(Leash::default())).collect();
        let enter = |leash: &Arc<Leash>| lobby.enter(address(1), Arc::clone(leash));
        let first = enter(&leashes[0]);
        first.is_secured();
        let _others: Vec<Place> = leashes[1..].iter().map(enter).collect();
        assert_eq!(were_closed(&leashes), [false, true, true, false, false]);
        assert_eq!((lobby.len(), lobby.handshakes()), (3, 2));
        assert_eq!(Bound::ALL.map(|bound| lobby.evicted(bound)), [0, 0, 2]);
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
