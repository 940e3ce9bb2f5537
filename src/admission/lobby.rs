//! The lobby: connections that hold no slot. Their number is bounded in total, per source and in the handshake. A new
//! connection is let in and an old one is closed, at the expense of the source with the most (DESIGN §2.4).

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};

use super::eviction::EvictionOrder;
use super::source_of;
use crate::stop::{Order, StopSignal};

/// The lobby's bounds (`limits.lobby`).
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most connections without a slot, in total.
    pub max_connections: usize,
    /// Most connections without a slot from one source.
    pub max_per_source: usize,
    /// Most new connections per second from one source; as many may come at once.
    pub connections_per_second: NonZeroU32,
    /// Most connections in their TLS handshake.
    pub handshakes: usize,
}

/// The bound for which a connection was closed, to make room for a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Bound {
    /// Connections without a slot, in total.
    Connections,
    /// Connections without a slot from one source.
    Source,
    /// Handshakes in progress.
    Handshakes,
}

impl Bound {
    /// All bounds.
    pub const ALL: [Self; 3] = [Self::Connections, Self::Source, Self::Handshakes];

    /// The value of the metric's label `bound`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Source => "source",
            Self::Handshakes => "handshakes",
        }
    }
}

/// Number of sources beyond which sources are forgotten early: the rate limiter itself must not fill the memory.
const MAX_SOURCES: usize = 65_536;

/// The connections that hold no slot.
#[derive(Debug)]
pub struct Lobby {
    connections: Mutex<Connections>,
    rates: ArcSwap<Rates>,
}

type Rates = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

#[derive(Debug)]
struct Connections {
    bounds: Bounds,
    next: u64,
    places: HashMap<u64, Entry>,
    /// Connections in their TLS handshake; all of these are in `unauthenticated` too.
    handshaking: EvictionOrder,
    /// Connections that are not authenticated, or not yet.
    unauthenticated: EvictionOrder,
    /// Authenticated connections that are not admitted yet.
    authenticated: EvictionOrder,
    /// Number of connections that were closed for newer ones, by [`Bound`].
    evicted: [u64; 3],
}

#[derive(Debug)]
struct Entry {
    source: IpAddr,
    stop: Arc<StopSignal>,
}

/// A place in the lobby. Dropping it leaves the lobby.
#[derive(Debug)]
pub struct LobbyPlace {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Lobby {
    pub(super) fn new(bounds: Bounds) -> Self {
        let connections = Connections {
            bounds,
            next: 0,
            places: HashMap::new(),
            handshaking: EvictionOrder::default(),
            unauthenticated: EvictionOrder::default(),
            authenticated: EvictionOrder::default(),
            evicted: [0; 3],
        };
        Self { connections: Mutex::new(connections), rates: ArcSwap::from_pointee(rates(bounds)) }
    }

    /// Changes the bounds. Connections beyond them are closed when the next connection comes.
    pub fn set_bounds(&self, bounds: Bounds) {
        let before = std::mem::replace(&mut self.connections().bounds, bounds);
        if before.connections_per_second != bounds.connections_per_second {
            self.rates.store(Arc::new(rates(bounds)));
        }
    }

    /// `true` if one more connection of this source is within its rate.
    pub fn allows_rate_of(&self, address: IpAddr) -> bool {
        self.rates.load().check_key(&source_of(address)).is_ok()
    }

    /// Lets a connection in. If a bound (for this source, for handshakes or in total) is reached, another connection is
    /// closed: the oldest of the source with the most, and no authenticated connection before one that is not.
    pub fn enter(self: &Arc<Self>, address: IpAddr, stop: Arc<StopSignal>) -> LobbyPlace {
        let source = source_of(address);
        let mut connections = self.connections();
        connections.make_room(source);
        LobbyPlace { number: connections.add(source, stop), lobby: Arc::clone(self) }
    }

    /// Number of connections that hold no slot.
    pub(crate) fn len(&self) -> usize {
        self.connections().places.len()
    }

    /// Number of connections in their TLS handshake.
    pub fn handshakes(&self) -> usize {
        self.connections().handshaking.len()
    }

    /// Number of connections that were closed for newer ones because of this bound.
    pub fn evicted(&self, bound: Bound) -> u64 {
        self.connections().evicted.get(bound as usize).copied().unwrap_or_default()
    }

    /// Forgets sources that have been at rest; to be called at regular intervals.
    pub fn sweep(&self) {
        let rates = self.rates.load();
        rates.retain_recent();
        rates.shrink_to_fit();
    }

    /// `true` if so many sources are known that they should be swept at once.
    pub fn wants_sweep(&self) -> bool {
        self.rates.load().len() > MAX_SOURCES
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock()
    }
}

fn rates(bounds: Bounds) -> Rates {
    RateLimiter::hashmap(Quota::per_second(bounds.connections_per_second))
}

impl LobbyPlace {
    /// Notes whether the client is authenticated: at the end of the handshake, and whenever that changes.
    pub fn set_authenticated(&self, is_authenticated: bool) {
        self.lobby.connections().set_authenticated(self.number, is_authenticated);
    }
}

impl Drop for LobbyPlace {
    fn drop(&mut self) {
        self.lobby.connections().remove(self.number);
    }
}

impl Connections {
    fn add(&mut self, source: IpAddr, stop: Arc<StopSignal>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.places.insert(number, Entry { source, stop });
        self.unauthenticated.add(source, number);
        self.handshaking.add(source, number);
        number
    }

    fn set_authenticated(&mut self, number: u64, is_authenticated: bool) {
        // The connection may have been evicted meanwhile.
        let Some(Entry { source, .. }) = self.places.get(&number) else { return };
        self.handshaking.remove(*source, number);
        let (from, to) = match is_authenticated {
            true => (&mut self.unauthenticated, &mut self.authenticated),
            false => (&mut self.authenticated, &mut self.unauthenticated),
        };
        if from.remove(*source, number) {
            to.add(*source, number);
        }
    }

    /// Makes room for one more connection of a source. Every bound is at least one.
    fn make_room(&mut self, source: IpAddr) {
        let Bounds { max_connections, max_per_source, handshakes, .. } = self.bounds;
        while self.unauthenticated.of_source(source) + self.authenticated.of_source(source) >= max_per_source
        {
            let oldest =
                self.unauthenticated.oldest_of(source).or_else(|| self.authenticated.oldest_of(source));
            self.evict(Bound::Source, oldest);
        }
        while self.handshaking.len() >= handshakes {
            self.evict(Bound::Handshakes, self.handshaking.next_to_evict());
        }
        while self.places.len() >= max_connections {
            let first = self.unauthenticated.next_to_evict().or_else(|| self.authenticated.next_to_evict());
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
        for order in [&mut self.handshaking, &mut self.unauthenticated, &mut self.authenticated] {
            order.remove(entry.source, number);
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
    fn a_new_connection_is_let_in_and_the_oldest_is_closed() {
        let lobby = lobby(2, 2);
        let stops: Vec<_> = (0..3).map(|_| Arc::new(StopSignal::default())).collect();
        let places: Vec<_> =
            stops.iter().zip(1..).map(|(stop, last)| lobby.enter(address(last), Arc::clone(stop))).collect();
        assert_eq!(
            stops.iter().map(|stop| stop.includes(Order::Close)).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(lobby.len(), 2);
        drop(places);
        assert_eq!(lobby.len(), 0);
        let connections = lobby.connections();
        assert_eq!(connections.unauthenticated.len() + connections.handshaking.len(), 0);
    }

    #[test]
    fn a_source_pushes_out_its_own_connections_only() {
        let lobby = lobby(10, 2);
        let other = Arc::new(StopSignal::default());
        let _other = lobby.enter(address(1), Arc::clone(&other));
        let stops: Vec<_> = (0..4).map(|_| Arc::new(StopSignal::default())).collect();
        let _places: Vec<_> = stops.iter().map(|stop| lobby.enter(address(2), Arc::clone(stop))).collect();
        assert!(!other.includes(Order::Close));
        assert_eq!(
            stops.iter().map(|stop| stop.includes(Order::Close)).collect::<Vec<_>>(),
            [true, true, false, false]
        );
    }

    #[test]
    fn authenticated_connections_are_closed_last_and_sources_with_few_are_spared() {
        let lobby = lobby(4, 4);
        let enter = |last| {
            let stop = Arc::new(StopSignal::default());
            (lobby.enter(address(last), Arc::clone(&stop)), stop)
        };
        let is_out = |(_, stop): &(LobbyPlace, Arc<StopSignal>)| stop.includes(Order::Close);
        let (known, stranger) = (enter(1), enter(1));
        known.0.set_authenticated(true);
        stranger.0.set_authenticated(false);
        let many: Vec<_> = (0..5).map(|_| enter(9)).collect();
        assert!(!is_out(&known) && !is_out(&stranger), "they are few");
        assert_eq!(many.iter().map(is_out).collect::<Vec<_>>(), [true, true, true, false, false]);
        let others = [enter(2), enter(3), enter(4)];
        assert!(is_out(&stranger) && !is_out(&known));
        assert_eq!(others.each_ref().map(is_out), [false; 3]);
        // If all connections are authenticated, the oldest is closed.
        others.iter().for_each(|(place, _)| place.set_authenticated(true));
        let _newcomer = enter(5);
        assert!(is_out(&known));
    }

    #[test]
    fn handshakes_have_a_bound_of_their_own() {
        let lobby = lobby(100, 100);
        let bounds = lobby.connections().bounds;
        lobby.set_bounds(Bounds { handshakes: 2, ..bounds });
        let enter = || {
            let stop = Arc::new(StopSignal::default());
            (lobby.enter(address(1), Arc::clone(&stop)), stop)
        };
        let is_out = |(_, stop): &(LobbyPlace, Arc<StopSignal>)| stop.includes(Order::Close);
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
    fn a_source_is_an_ipv4_address_or_the_64_of_an_ipv6_address() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        let lobby = lobby(10, 10);
        assert_eq!((0..10).filter(|_| lobby.allows_rate_of(address(1))).count(), 5);
        assert!(lobby.allows_rate_of(address(2)));
    }
}
