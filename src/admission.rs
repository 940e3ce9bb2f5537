//! Every limit is a guard: what takes a place gives it back when it is dropped, on whatever path that happens.

mod lobby;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use lobby::{Bounds, Lobby, Place};

use crate::policy::Permit;

/// A number of places that is never exceeded, at any interleaving.
#[derive(Debug)]
pub struct Places {
    used: AtomicUsize,
    limit: AtomicUsize,
}

/// One of the [`Places`]; gives itself back.
#[derive(Debug)]
struct Taken(Arc<Places>);

impl Places {
    /// So many places, all free.
    #[must_use]
    pub fn of(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) })
    }

    /// How many are taken just now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// From now on there are so many. Those that are taken beyond that stay until they are given back.
    fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn take(self: &Arc<Self>) -> Option<Taken> {
        let limit = self.limit();
        let one_more = |used: usize| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Taken(Arc::clone(self)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right of one connection to have the backend work for it (DESIGN §2.3). Taken with its first permitted
/// request; kept by the connection, and by each of its exchanges until the backend's work for it has ended.
#[derive(Clone, Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for what its drop gives back")] Arc<Taken>);

/// A permit that got its slot: what the forwarder asks for, and only [`Admission::admit`] makes.
#[derive(Debug)]
pub struct Admitted {
    permit: Permit,
    guards: Guards,
}

impl Admitted {
    /// What allowed it.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The guards, to be kept until the exchange with the backend has ended, however it ends.
    pub(crate) fn into_guards(self) -> Guards {
        self.guards
    }
}

/// A slot and a place in flight, held for one exchange.
#[derive(Debug)]
pub struct Guards {
    _slot: Slot,
    _passage: Passage,
}

/// A place among the requests in flight.
#[derive(Debug)]
struct Passage(#[expect(dead_code, reason = "held for what its drop gives back")] Taken);

/// Why a permitted request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// No slot is free.
    Full,
    /// Too many requests are in flight.
    Overloaded,
}

/// The limits of the whole process.
#[derive(Debug)]
pub struct Admission {
    slots: Arc<Places>,
    in_flight: Arc<Places>,
    /// The connections that hold no slot.
    pub lobby: Arc<Lobby>,
}

impl Admission {
    /// Limits with nothing admitted yet.
    #[must_use]
    pub fn new(max_connections: usize, max_in_flight: usize, lobby: Bounds) -> Self {
        Self {
            slots: Places::of(max_connections),
            in_flight: Places::of(max_in_flight),
            lobby: Arc::new(Lobby::new(lobby)),
        }
    }

    /// Admits a permitted request of a connection: by the slot that the connection holds, or by a free one, which it
    /// holds from then on. The connection leaves the lobby with it.
    ///
    /// # Errors
    /// What is full.
    pub fn admit(&self, permit: Permit, holding: &Holding) -> Result<Admitted, NotAdmitted> {
        let slot = holding.slot_or_take(&self.slots).ok_or(NotAdmitted::Full)?;
        let passage = Passage(self.in_flight.take().ok_or(NotAdmitted::Overloaded)?);
        Ok(Admitted { permit, guards: Guards { _slot: slot, _passage: passage } })
    }

    /// Changes the limits; what was admitted under others stays.
    pub fn set_limits(&self, max_connections: usize, max_in_flight: usize, lobby: Bounds) {
        self.slots.set_limit(max_connections);
        self.in_flight.set_limit(max_in_flight);
        self.lobby.set_bounds(lobby);
    }

    /// The slots, to be counted.
    pub fn slots(&self) -> &Places {
        &self.slots
    }

    /// The requests in flight, to be counted.
    pub fn in_flight(&self) -> &Places {
        &self.in_flight
    }
}

/// What one connection holds: its place in the lobby, or its slot.
#[derive(Debug)]
pub struct Holding(std::sync::Mutex<Held>);

#[derive(Debug)]
enum Held {
    Place(#[expect(dead_code, reason = "held for what its drop gives back")] Place),
    Slot(Slot),
}

impl Holding {
    /// A connection starts in the lobby.
    pub fn in_lobby(place: Place) -> Self {
        Self(std::sync::Mutex::new(Held::Place(place)))
    }

    /// Whether the connection has its slot.
    pub fn has_slot(&self) -> bool {
        matches!(*self.held(), Held::Slot(_))
    }

    fn slot_or_take(&self, slots: &Arc<Places>) -> Option<Slot> {
        let mut held = self.held();
        if let Held::Slot(slot) = &*held {
            return Some(slot.clone());
        }
        let slot = Slot(Arc::new(slots.take()?));
        *held = Held::Slot(slot.clone());
        Some(slot)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Nothing panics while it is held; if it did, what is held is still true.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The part of an address that counts as one source: an IPv4 address, or the /64 of an IPv6 address, all of which
/// one host can use.
#[must_use]
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
