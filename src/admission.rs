//! Every limit is a guard: what takes a place gives it back when it is dropped, on whatever path that happens.

mod allowance;
mod crowd;
mod load;
mod lobby;
mod passages;
mod rates;
mod shares;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use allowance::Allowance;
pub use lobby::{Bound, Bounds, Lobby, Place};
pub use passages::{Passages, Queue};

use crate::policy::Permit;
use passages::{NoTurn, Passage, Turn, Waiting};
use rates::Rates;
use shares::{Share, Shares};

/// How often sources and clients are forgotten that are at rest.
const SWEEP: Duration = Duration::from_secs(30);

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
    const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
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

    /// Takes a place, if fewer than this limit are taken. In one order with [`Passages`]' count of those who wait.
    fn take(&self, limit: usize) -> bool {
        let one_more = |used: usize| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// The right of one connection to have the backend work for it (DESIGN §2.3). Taken with its first permitted
/// request; kept by the connection, and by each of its exchanges until the backend's work for it has ended.
#[derive(Clone, Debug)]
pub struct Slot(Arc<Occupied>);

/// A slot, and its place in the share of the connection's client where that has a bound.
#[derive(Debug)]
struct Occupied {
    /// Given back first: whoever finds the slot free finds the share free.
    share: OnceLock<Share>,
    _taken: Taken,
}

/// A permitted request that got its slot, on the last step to being forwarded.
#[derive(Debug)]
pub enum Entry {
    /// It goes on at once.
    Open(Admitted),
    /// It waits for its turn.
    Queued(Queued),
}

/// A permit with its slot, in the queue for a place in flight. Whoever drops it has left the queue.
#[derive(Debug)]
pub struct Queued {
    permit: Permit,
    slot: Slot,
    waiting: Waiting,
    patience: Duration,
}

impl Queued {
    /// Waits for its turn.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn turn(self) -> Result<Admitted, NotAdmitted> {
        let passage = self.waiting.turn().await.ok_or(NotAdmitted::Overloaded(self.patience))?;
        Ok(Admitted { permit: self.permit, guards: Guards { _slot: self.slot, passage } })
    }
}

/// A permit that got its slot and its place in flight: what the forwarder asks for, and only [`Admission::admit`] leads to.
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
    passage: Passage,
}

impl Guards {
    /// Permission to reset the request at the backend at once, although nothing will then say when the backend's work is over.
    /// Granted for a small part of all places, each of which stays taken for as long as that work may last.
    pub(crate) fn cancel(&mut self) -> bool {
        self.passage.cancel()
    }
}

/// Why a permitted request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// No slot is free.
    Full,
    /// The client has as many connections as it may have.
    ShareTaken,
    /// The client has as many requests in flight and in the queue as it may have.
    InFlightTaken,
    /// The client has asked too often; after this time it may ask again.
    TooOften(Duration),
    /// Too many requests are in flight, and in the queue. After this time everybody who waits now has had its turn or left.
    Overloaded(Duration),
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
    /// Percent of them, and of the queue, that only clients may take that have nothing there.
    pub reserved_for_others: usize,
    /// Of those that wait for it.
    pub queue: Queue,
    /// Percent of slots, of requests in flight and of the queue that clients of high priority have for themselves.
    pub reserved: usize,
    /// Of the connections without a slot.
    pub lobby: Bounds,
}

impl Limits {
    /// The part of the places in flight that only clients may take that hold none. Rounded down: of few places none is kept.
    #[must_use]
    pub const fn kept_for_others(&self) -> usize {
        part(self.max_in_flight, self.reserved_for_others)
    }
}

/// A percentage of a number, rounded down.
const fn part(whole: usize, percent: usize) -> usize {
    whole.saturating_mul(percent) / 100
}

/// The limits of the whole process, and what is used of them. None of it belongs to a policy: counters go on when
/// another one comes into force.
#[derive(Debug)]
pub struct Admission {
    slots: Arc<Places>,
    shares: Arc<Shares>,
    rates: Rates,
    /// What one client may take of it all.
    limits: ArcSwap<Limits>,
    in_flight: Arc<Passages>,
    /// The connections that hold no slot.
    pub lobby: Arc<Lobby>,
}

impl Admission {
    /// Limits with nothing admitted yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            slots: Arc::new(Places::new(limits.max_connections)),
            shares: Arc::default(),
            rates: Rates::default(),
            limits: ArcSwap::from_pointee(limits),
            in_flight: Passages::new(limits.max_in_flight, limits.queue, limits.reserved_for_others),
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
    ) -> Result<Entry, NotAdmitted> {
        let slot = holding.slot_or_take(self, allowance)?;
        allowance.ask().map_err(NotAdmitted::TooOften)?;
        let patience = || self.in_flight.patience();
        let turn = Passages::enter(&allowance.load, allowance.terms).map_err(|no_turn| match no_turn {
            NoTurn::OfClient => NotAdmitted::InFlightTaken,
            NoTurn::Full => NotAdmitted::Overloaded(patience()),
        });
        Ok(match turn? {
            Turn::Now(passage) => Entry::Open(Admitted { permit, guards: Guards { _slot: slot, passage } }),
            Turn::Later(waiting) => Entry::Queued(Queued { permit, slot, waiting, patience: patience() }),
        })
    }

    /// A slot that is free, for a connection of this client.
    fn slot(&self, allowance: &Allowance) -> Result<Slot, NotAdmitted> {
        let share = OnceLock::new();
        self.count(allowance, &share)?;
        if !self.slots.take(allowance.terms.reserve.limit(self.slots.limit())) {
            return Err(NotAdmitted::Full);
        }
        Ok(Slot(Arc::new(Occupied { share, _taken: Taken(Arc::clone(&self.slots)) })))
    }

    /// Counts a connection in its client's share, once. One that is older than its bound is counted with its next request.
    fn count(&self, allowance: &Allowance, share: &OnceLock<Share>) -> Result<(), NotAdmitted> {
        let Some(bound) = allowance.connections.filter(|_| share.get().is_none()) else { return Ok(()) };
        let taken = self.shares.take(*allowance.load.client(), bound).ok_or(NotAdmitted::ShareTaken)?;
        // Of two requests of one connection that both do it, the second gives its own back.
        let _ = share.set(taken);
        Ok(())
    }

    /// Forgets sources and clients that are at rest, every now and then.
    pub async fn keep_tidy(self: Arc<Self>) -> Infallible {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.lobby.sweep();
            self.rates.sweep();
            self.shares.sweep();
            self.in_flight.sweep();
        }
    }

    /// Changes the limits; what was admitted under others stays.
    pub fn set_limits(&self, limits: Limits) {
        self.slots.set_limit(limits.max_connections);
        self.in_flight.set_limits(limits.max_in_flight, limits.queue, limits.reserved_for_others);
        self.lobby.set_bounds(limits.lobby);
        self.limits.store(Arc::new(limits));
    }

    /// The slots, to be counted.
    pub fn slots(&self) -> &Places {
        &self.slots
    }

    /// The requests in flight, to be counted.
    pub fn in_flight(&self) -> &Passages {
        &self.in_flight
    }
}

/// What one connection holds: its place in the lobby, or its slot.
#[derive(Debug)]
pub struct Holding(parking_lot::Mutex<Held>);

#[derive(Debug)]
enum Held {
    Place(#[expect(dead_code, reason = "held for what its drop gives back")] Place),
    Slot(Slot),
}

impl Holding {
    /// A connection starts in the lobby.
    pub fn in_lobby(place: Place) -> Self {
        Self(parking_lot::Mutex::new(Held::Place(place)))
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

    fn held(&self) -> parking_lot::MutexGuard<'_, Held> {
        self.0.lock()
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
