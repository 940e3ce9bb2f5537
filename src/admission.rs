//! Admission: slots, places in flight, the queue, rates and the lobby. Every limit is a guard: dropping it gives the place
//! back, on whatever path that happens.

mod allowance;
mod eviction;
mod in_flight;
mod load;
mod lobby;
mod rates;
mod shares;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use allowance::Allowance;
pub use in_flight::{InFlight, Queue};
pub use lobby::{Bound, Bounds, Lobby, LobbyPlace};

use crate::policy::Permit;
use in_flight::{InFlightPlace, QueuePlace, QueueRefusal, Turn};
use rates::Rates;
use shares::{Share, Shares};

/// Time between two sweeps of sources and clients that are at rest.
const SWEEP: Duration = Duration::from_secs(30);

/// A count of slots, or of places in flight, that never exceeds its limit, at any interleaving of threads.
#[derive(Debug)]
pub struct Counter {
    used: AtomicUsize,
    limit: AtomicUsize,
}

/// One unit of a [`Counter`], given back when it is dropped.
#[derive(Debug)]
struct CounterGuard(Arc<Counter>);

impl Counter {
    const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Number that is in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the number of places. Places that are taken beyond it stay taken until they are given back.
    fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a place if fewer than `limit` are taken. Sequentially consistent with the number of waiting requests in
    /// [`InFlight`].
    fn take(&self, limit: usize) -> bool {
        let one_more = |used: usize| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for CounterGuard {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// The right of one connection to have the backend work for it (DESIGN §2.3). The connection takes it with its first permitted
/// request. The connection keeps it, and so does each exchange until the backend's work for that exchange has ended.
#[derive(Clone, Debug)]
pub struct Slot(Arc<SlotState>);

/// A slot, and its place in the client's share if the share has a bound.
#[derive(Debug)]
struct SlotState {
    /// Given back before the slot: a client that finds the slot free finds its share free.
    share: OnceLock<Share>,
    _taken: CounterGuard,
}

/// A permitted request that has its slot, before the last step to being forwarded.
#[derive(Debug)]
pub enum Entry {
    /// The request has its place in flight.
    Open(Admitted),
    /// The request waits for a place in flight.
    Queued(Queued),
}

/// A permit with its slot, in the queue for a place in flight. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Queued {
    permit: Permit,
    slot: Slot,
    waiting: QueuePlace,
    queue_timeout: Duration,
}

impl Queued {
    /// Waits for a place in flight.
    ///
    /// # Errors
    /// No place was free within the time limit of the queue.
    pub async fn turn(self) -> Result<Admitted, NotAdmitted> {
        let place = self.waiting.turn().await.ok_or(NotAdmitted::Overloaded(self.queue_timeout))?;
        Ok(Admitted { permit: self.permit, guards: Guards { _slot: self.slot, place } })
    }
}

/// A permit with its slot and its place in flight. The forwarder takes nothing else, and only [`Admission::admit`] leads to
/// one.
#[derive(Debug)]
pub struct Admitted {
    permit: Permit,
    guards: Guards,
}

impl Admitted {
    /// The permit.
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
    place: InFlightPlace,
}

impl Guards {
    /// Returns `true` if the request may be reset at the backend at once, although the end of the backend's work is then
    /// unknown. Granted for a small part of all places, each of which stays taken for as long as that work may last.
    pub(crate) fn cancel(&mut self) -> bool {
        self.place.cancel()
    }
}

/// The reason why a permitted request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// No slot is free.
    Full,
    /// The client has as many connections as its share allows.
    ShareTaken,
    /// The client has as many requests in flight and in the queue as its limit allows.
    InFlightTaken,
    /// The client has sent too many requests; after this time it may send the next one.
    TooOften(Duration),
    /// The places in flight and the queue are full. After this time every request that waits now has had its turn or has left.
    Overloaded(Duration),
}

/// The bounds of the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections that hold a slot.
    pub max_connections: usize,
    /// Most connections of one client that hold a slot; 0: no limit.
    pub max_connections_per_client: usize,
    /// Most requests that the backend works on at once.
    pub max_in_flight: usize,
    /// Percentage of the places in flight, and of the queue, that only clients that hold no place may take.
    pub reserved_for_others: usize,
    /// Bounds of the queue for places in flight.
    pub queue: Queue,
    /// Percentage of slots, places in flight and queue places that only clients of high priority may take.
    pub reserved: usize,
    /// Bounds of the connections without a slot.
    pub lobby: Bounds,
}

impl Limits {
    /// Number of places in flight that only clients that hold no place may take, rounded down: of few places none is kept.
    #[must_use]
    pub const fn kept_for_others(&self) -> usize {
        part(self.max_in_flight, self.reserved_for_others)
    }
}

/// A percentage of a number, rounded down.
const fn part(whole: usize, percent: usize) -> usize {
    whole.saturating_mul(percent) / 100
}

/// The limits of the whole process, and what is used of them. Nothing of it belongs to a policy: the counts stay when a new
/// policy comes into force.
#[derive(Debug)]
pub struct Admission {
    slots: Arc<Counter>,
    shares: Arc<Shares>,
    rates: Rates,
    /// The limits in force.
    limits: ArcSwap<Limits>,
    in_flight: Arc<InFlight>,
    /// The connections that hold no slot.
    pub lobby: Arc<Lobby>,
}

impl Admission {
    /// Returns limits of which nothing is used.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            slots: Arc::new(Counter::new(limits.max_connections)),
            shares: Arc::default(),
            rates: Rates::default(),
            limits: ArcSwap::from_pointee(limits),
            in_flight: InFlight::new(limits.max_in_flight, limits.queue, limits.reserved_for_others),
            lobby: Arc::new(Lobby::new(limits.lobby)),
        }
    }

    /// Admits a permitted request of a connection: with the slot that the connection holds, or with a free one, which the
    /// connection holds from then on. The connection then leaves the lobby.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn admit(
        &self,
        permit: Permit,
        allowance: &Allowance,
        holding: &Holding,
    ) -> Result<Entry, NotAdmitted> {
        let slot = holding.slot_or_take(self, allowance)?;
        allowance.count_request().map_err(NotAdmitted::TooOften)?;
        let queue_timeout = || self.in_flight.queue_timeout();
        let turn = InFlight::enter(&allowance.load, allowance.terms).map_err(|no_turn| match no_turn {
            QueueRefusal::ClientAtLimit => NotAdmitted::InFlightTaken,
            QueueRefusal::Full => NotAdmitted::Overloaded(queue_timeout()),
        });
        Ok(match turn? {
            Turn::Now(place) => Entry::Open(Admitted { permit, guards: Guards { _slot: slot, place } }),
            Turn::Later(waiting) => {
                Entry::Queued(Queued { permit, slot, waiting, queue_timeout: queue_timeout() })
            }
        })
    }

    /// Takes a free slot for a connection of this client.
    fn slot(&self, allowance: &Allowance) -> Result<Slot, NotAdmitted> {
        let share = OnceLock::new();
        self.count(allowance, &share)?;
        if !self.slots.take(allowance.terms.reserve.limit(self.slots.limit())) {
            return Err(NotAdmitted::Full);
        }
        Ok(Slot(Arc::new(SlotState { share, _taken: CounterGuard(Arc::clone(&self.slots)) })))
    }

    /// Counts a connection in its client's share, once. A connection that is older than the bound is counted with its next
    /// request.
    fn count(&self, allowance: &Allowance, share: &OnceLock<Share>) -> Result<(), NotAdmitted> {
        let Some(bound) = allowance.connections.filter(|_| share.get().is_none()) else { return Ok(()) };
        let taken = self.shares.take(*allowance.load.client(), bound).ok_or(NotAdmitted::ShareTaken)?;
        // If two requests of one connection count it at once, the second gives its count back.
        let _ = share.set(taken);
        Ok(())
    }

    /// Forgets sources and clients that are at rest, at regular intervals.
    pub async fn sweep_regularly(self: Arc<Self>) -> Infallible {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.lobby.sweep();
            self.rates.sweep();
            self.shares.sweep();
            self.in_flight.sweep();
        }
    }

    /// Changes the limits. Requests and connections that were admitted before stay admitted.
    pub fn set_limits(&self, limits: Limits) {
        self.slots.set_limit(limits.max_connections);
        self.in_flight.set_limits(limits.max_in_flight, limits.queue, limits.reserved_for_others);
        self.lobby.set_bounds(limits.lobby);
        self.limits.store(Arc::new(limits));
    }

    /// The slots, for statistics.
    pub fn slots(&self) -> &Counter {
        &self.slots
    }

    /// The requests in flight, for statistics.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }
}

/// The place in the lobby, or the slot, of one connection.
#[derive(Debug)]
pub struct Holding(parking_lot::Mutex<Held>);

#[derive(Debug)]
enum Held {
    Place(LobbyPlace),
    Slot(Slot),
    Nothing,
}

impl Holding {
    /// Returns the holding of a new connection, which starts in the lobby.
    pub fn in_lobby(place: LobbyPlace) -> Self {
        Self(parking_lot::Mutex::new(Held::Place(place)))
    }

    /// `true` if the connection holds a slot.
    pub fn has_slot(&self) -> bool {
        matches!(*self.held(), Held::Slot(_))
    }

    /// Notes whether the client is authenticated, once that changes: the lobby closes connections of others first.
    pub fn set_authenticated(&self, is_authenticated: bool) {
        if let Held::Place(place) = &*self.held() {
            place.set_authenticated(is_authenticated);
        }
    }

    /// Takes the place in the lobby, or drops the slot. The connection serves no further request.
    pub fn take_place(&self) -> Option<LobbyPlace> {
        match std::mem::replace(&mut *self.held(), Held::Nothing) {
            Held::Place(place) => Some(place),
            Held::Slot(_) | Held::Nothing => None,
        }
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

/// Returns the part of an address that counts as one source: an IPv4 address, or the /64 of an IPv6 address, because one host
/// can use a whole /64.
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
