//! Every limit is a guard: what takes a place gives it back when it is dropped, on whatever path that happens.

mod allowance;
mod lobby;
mod rates;
mod shares;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use allowance::Allowance;
pub use lobby::{Bounds, Lobby, Place};

use crate::policy::Permit;
use rates::Rates;
use shares::{Share, Shares};

/// How often clients are forgotten that are at rest.
const SWEEP: Duration = Duration::from_secs(30);

/// A number of places that is never exceeded, at any interleaving.
#[derive(Debug)]
pub struct Places {
    used: AtomicUsize,
    limit: usize,
}

/// One of the [`Places`]; gives itself back.
#[derive(Debug)]
struct Taken(Arc<Places>);

impl Places {
    /// So many places, all free.
    #[must_use]
    pub fn of(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// How many are taken just now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn take(self: &Arc<Self>) -> Option<Taken> {
        let one_more = |used: usize| (used < self.limit).then_some(used + 1);
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
pub struct Slot(Arc<Occupied>);

/// A slot, and its place in the share of the connection's client where that has a bound.
#[derive(Debug)]
struct Occupied {
    _taken: Taken,
    share: OnceLock<Share>,
}

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
    /// The client has as many connections as it may have.
    ShareTaken,
    /// The client has asked too often; after this time it may ask again.
    TooOften(Duration),
    /// Too many requests are in flight.
    Overloaded,
}

/// The bounds of the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that hold a slot.
    pub max_connections: usize,
    /// Of them those of one client; 0: as many as there are.
    pub max_connections_per_client: usize,
    /// Requests that the backend works on at once.
    pub max_in_flight: usize,
    /// Of the connections without a slot.
    pub lobby: Bounds,
}

/// The limits of the whole process, and what is used of them. None of it belongs to a policy: counters go on when
/// another one comes into force.
#[derive(Debug)]
pub struct Admission {
    slots: Arc<Places>,
    max_connections_per_client: usize,
    shares: Arc<Shares>,
    rates: Rates,
    in_flight: Arc<Places>,
    /// The connections that hold no slot.
    pub lobby: Arc<Lobby>,
}

impl Admission {
    /// Limits with nothing admitted yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            slots: Places::of(limits.max_connections),
            max_connections_per_client: limits.max_connections_per_client,
            shares: Arc::default(),
            rates: Rates::default(),
            in_flight: Places::of(limits.max_in_flight),
            lobby: Arc::new(Lobby::new(limits.lobby)),
        }
    }

    /// Admits a permitted request of a connection: by the slot that the connection holds, or by a free one, which it
    /// holds from then on. The connection leaves the lobby with it.
    ///
    /// # Errors
    /// What is full, or used up.
    pub fn admit(
        &self,
        permit: Permit,
        allowance: &Allowance,
        holding: &Holding,
    ) -> Result<Admitted, NotAdmitted> {
        let slot = holding.slot_or_take(self, allowance)?;
        allowance.ask().map_err(NotAdmitted::TooOften)?;
        let passage = Passage(self.in_flight.take().ok_or(NotAdmitted::Overloaded)?);
        Ok(Admitted { permit, guards: Guards { _slot: slot, _passage: passage } })
    }

    /// A slot that is free, for a connection of this client.
    fn slot(&self, allowance: &Allowance) -> Result<Slot, NotAdmitted> {
        let share = OnceLock::new();
        self.count(allowance, &share)?;
        let taken = self.slots.take().ok_or(NotAdmitted::Full)?;
        Ok(Slot(Arc::new(Occupied { _taken: taken, share })))
    }

    /// Counts a connection in its client's share, once. One that is older than its bound is counted with its next request.
    fn count(&self, allowance: &Allowance, share: &OnceLock<Share>) -> Result<(), NotAdmitted> {
        let Some(bound) = allowance.connections.filter(|_| share.get().is_none()) else { return Ok(()) };
        let taken = self.shares.take(allowance.client, bound).ok_or(NotAdmitted::ShareTaken)?;
        // Of two requests of one connection that both do it, the second gives its own back.
        let _ = share.set(taken);
        Ok(())
    }

    /// Forgets clients that are at rest, every now and then.
    pub async fn keep_tidy(self: Arc<Self>) -> Infallible {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.rates.sweep();
            self.shares.sweep();
        }
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

    fn slot_or_take(&self, admission: &Admission, allowance: &Allowance) -> Result<Slot, NotAdmitted> {
        let mut held = self.held();
        if let Held::Slot(slot) = &*held {
            admission.count(allowance, &slot.0.share)?;
            return Ok(slot.clone());
        }
        let slot = admission.slot(allowance)?;
        *held = Held::Slot(slot.clone());
        Ok(slot)
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
