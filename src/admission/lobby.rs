//! The lobby: connections that hold no slot. Bounded in total, per source and in the handshake; newest in, oldest out, each
//! source at its own expense (DESIGN §2.4).

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};

use super::crowd::Crowd;
use super::source_of;
use crate::stop::{Order, StopSignal};

/// The lobby's bounds (`limits.lobby`).
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections without a slot, in total.
    pub max_connections: usize,
    /// Connections without a slot from one source.
    pub max_per_source: usize,
    /// New connections a second from one source; as many may come at once.
    pub connections_per_second: NonZeroU32,
    /// Connections in the middle of their TLS handshake.
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
    waiting: Mutex<Waiting>,
    rates: ArcSwap<Rates>,
}

type Rates = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

#[derive(Debug)]
struct Waiting {
    bounds: Bounds,
    next: u64,
    places: HashMap<u64, Entry>,
    /// In the middle of their handshake; these are nobody as well.
    shaking_hands: Crowd,
    /// Not authenticated, or not yet.
    nobody: Crowd,
    /// Authenticated, and not admitted yet.
    known: Crowd,
    /// How many were closed for newer ones, by [`Bound`].
    evicted: [u64; 3],
}

#[derive(Debug)]
struct Entry {
    source: IpAddr,
    stop: Arc<StopSignal>,
}

/// A place in the lobby; leaves it when dropped.
#[derive(Debug)]
pub struct Place {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Lobby {
    pub(super) fn new(bounds: Bounds) -> Self {
        let waiting = Waiting {
            bounds,
            next: 0,
            places: HashMap::new(),
            shaking_hands: Crowd::default(),
            nobody: Crowd::default(),
            known: Crowd::default(),
            evicted: [0; 3],
        };
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
    pub fn allows_rate_of(&self, address: IpAddr) -> bool {
        self.rates.load().check_key(&source_of(address)).is_ok()
    }

    /// Lets a connection in. Where that is one too many, of this source, of handshakes or in total, another one is closed:
    /// the oldest of the source that has the most, and nobody who is authenticated before anybody who is not.
    pub fn enter(self: &Arc<Self>, address: IpAddr, stop: Arc<StopSignal>) -> Place {
        let source = source_of(address);
        let mut waiting = self.waiting();
        waiting.make_room(source);
        Place { number: waiting.add(source, stop), lobby: Arc::clone(self) }
    }

    /// How many connections hold no slot.
    pub fn len(&self) -> usize {
        self.waiting().places.len()
    }

    /// How many of them are in the middle of their handshake.
    pub fn handshakes(&self) -> usize {
        self.waiting().shaking_hands.len()
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
        self.waiting.lock()
    }
}

fn rates(bounds: Bounds) -> Rates {
    RateLimiter::hashmap(Quota::per_second(bounds.connections_per_second))
}

impl Place {
    /// The handshake is over, and it was judged who this is.
    pub fn set_authenticated(&self, is_known: bool) {
        self.lobby.waiting().judge(self.number, is_known);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.waiting().remove(self.number);
    }
}

impl Waiting {
    fn add(&mut self, source: IpAddr, stop: Arc<StopSignal>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.places.insert(number, Entry { source, stop });
        self.nobody.add(source, number);
        self.shaking_hands.add(source, number);
        number
    }

    fn judge(&mut self, number: u64, is_known: bool) {
        // It may have been evicted meanwhile.
        let Some(Entry { source, .. }) = self.places.get(&number) else { return };
        self.shaking_hands.remove(*source, number);
        if is_known && self.nobody.remove(*source, number) {
            self.known.add(*source, number);
        }
    }

    /// Room for one more of a source; every bound is at least one.
    fn make_room(&mut self, source: IpAddr) {
        let Bounds { max_connections, max_per_source, handshakes, .. } = self.bounds;
        while self.nobody.of_source(source) + self.known.of_source(source) >= max_per_source {
            let oldest = self.nobody.oldest_of(source).or_else(|| self.known.oldest_of(source));
            self.evict(Bound::Source, oldest);
        }
        while self.shaking_hands.len() >= handshakes {
            self.evict(Bound::Handshakes, self.shaking_hands.first_to_go());
        }
        while self.places.len() >= max_connections {
            let first = self.nobody.first_to_go().or_else(|| self.known.first_to_go());
            self.evict(Bound::Connections, first);
        }
    }

    fn evict(&mut self, bound: Bound, number: Option<u64>) {
        if let Some(entry) = number.and_then(|number| self.remove(number)) {
            entry.stop.send(Order::Close);
            if let Some(count) = self.evicted.get_mut(bound as usize) {
                *count += 1;
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.places.remove(&number)?;
        for crowd in [&mut self.shaking_hands, &mut self.nobody, &mut self.known] {
            crowd.remove(entry.source, number);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lobby(max_connections: usize, max_per_source: usize) -> Arc<Lobby> {
        let connections_per_second = NonZeroU32::new(5).unwrap();
        Arc::new(Lobby::new(Bounds {
            max_connections,
            max_per_source,
            connections_per_second,
            handshakes: 100,
        }))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_newcomer_gets_in_and_the_oldest_goes() {
        let lobby = lobby(2, 2);
        let stopes: Vec<_> = (0..3).map(|_| Arc::new(StopSignal::default())).collect();
        let places: Vec<_> =
            stopes.iter().zip(1..).map(|(stop, last)| lobby.enter(address(last), Arc::clone(stop))).collect();
        assert_eq!(
            stopes.iter().map(|stop| stop.includes(Order::Close)).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(lobby.len(), 2);
        drop(places);
        assert!(lobby.is_empty());
        let waiting = lobby.waiting();
        assert_eq!(waiting.nobody.len() + waiting.shaking_hands.len(), 0);
    }

    #[test]
    fn one_source_cannot_push_out_another() {
        let lobby = lobby(10, 2);
        let other = Arc::new(StopSignal::default());
        let _other = lobby.enter(address(1), Arc::clone(&other));
        let stopes: Vec<_> = (0..4).map(|_| Arc::new(StopSignal::default())).collect();
        let _places: Vec<_> = stopes.iter().map(|stop| lobby.enter(address(2), Arc::clone(stop))).collect();
        assert!(!other.includes(Order::Close));
        assert_eq!(
            stopes.iter().map(|stop| stop.includes(Order::Close)).collect::<Vec<_>>(),
            [true, true, false, false]
        );
    }

    #[test]
    fn who_is_known_stays_as_long_as_anybody_is_not_and_few_stay_before_many() {
        let lobby = lobby(4, 4);
        let enter = |last| {
            let stop = Arc::new(StopSignal::default());
            (lobby.enter(address(last), Arc::clone(&stop)), stop)
        };
        let is_out = |(_, stop): &(Place, Arc<StopSignal>)| stop.includes(Order::Close);
        let (known, stranger) = (enter(1), enter(1));
        known.0.set_authenticated(true);
        stranger.0.set_authenticated(false);
        let crowd: Vec<_> = (0..5).map(|_| enter(9)).collect();
        assert!(!is_out(&known) && !is_out(&stranger), "they are few");
        assert_eq!(crowd.iter().map(is_out).collect::<Vec<_>>(), [true, true, true, false, false]);
        let others = [enter(2), enter(3), enter(4)];
        assert!(is_out(&stranger) && !is_out(&known));
        assert_eq!(others.each_ref().map(is_out), [false; 3]);
        // Where everybody is known, the oldest goes.
        others.iter().for_each(|(place, _)| place.set_authenticated(true));
        let _newcomer = enter(5);
        assert!(is_out(&known));
    }

    #[test]
    fn handshakes_have_a_bound_of_their_own() {
        let lobby = lobby(100, 100);
        let bounds = lobby.waiting().bounds;
        lobby.set_bounds(Bounds { handshakes: 2, ..bounds });
        let enter = || {
            let stop = Arc::new(StopSignal::default());
            (lobby.enter(address(1), Arc::clone(&stop)), stop)
        };
        let is_out = |(_, stop): &(Place, Arc<StopSignal>)| stop.includes(Order::Close);
        let done: Vec<_> =
            (0..5).map(|_| enter()).inspect(|(place, _)| place.set_authenticated(false)).collect();
        assert!(!done.iter().any(is_out));
        let shaking: Vec<_> = (0..4).map(|_| enter()).collect();
        assert_eq!(lobby.handshakes(), 2);
        assert_eq!(Bound::ALL.map(|bound| lobby.evicted(bound)), [0, 0, 2]);
        assert_eq!(shaking.iter().map(is_out).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(!done.iter().any(is_out));
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_64() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        let lobby = lobby(10, 10);
        assert_eq!((0..10).filter(|_| lobby.allows_rate_of(address(1))).count(), 5);
        assert!(lobby.allows_rate_of(address(2)));
    }
}
