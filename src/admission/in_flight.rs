//! The requests in flight, and the short queue of requests that wait for a place among them: first come, first served,
//! requests of high priority before the others. The last places are taken only by clients that hold none, so that no client
//! keeps all others out, whatever it sends and however slowly.
//!
//! A request costs two counters, and no lock, while the queue is empty.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::allowance::Reserve;
use super::load::{ClientLoad, Loads};
use super::{Counter, part};
use crate::identity::ClientKey;
use crate::policy::Priority;

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Most requests that may wait; 0: none.
    pub length: usize,
    /// Longest time that each may wait; zero: not at all.
    pub timeout: Duration,
}

/// The requests in flight, and the requests that wait.
#[derive(Debug)]
pub struct InFlight {
    places: Counter,
    /// Number of places whose requests were reset at the backend.
    cancelled: AtomicUsize,
    queue: ArcSwap<Queue>,
    /// Percentage of the places, and of the queue, that only clients that hold no place may take.
    percent_for_others: AtomicUsize,
    /// Number of requests that wait; written only while one waits.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    loads: Loads,
}

/// The terms on which a client takes places in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) priority: Priority,
    /// The part of all places that this client leaves to clients of high priority.
    pub(super) reserve: Reserve,
    /// The part of all places that only clients of high priority may take, whether or not this client is one of them.
    pub(super) high: Reserve,
    /// Most requests of this client in flight and in the queue; `None`: no limit of its own.
    pub(super) in_flight: Option<usize>,
}

/// At most one place in this number of places may be held by a request that was reset at the backend. Nothing tells when the
/// backend ends such work, so other clients lose the place for an estimated time.
const CANCELLED_SHARE: usize = 8;

/// The requests that wait, by priority.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    high: Waiters,
    normal: Waiters,
}

/// The requests of one priority that wait, in the order of arrival.
#[derive(Debug, Default)]
struct Waiters {
    by_number: BTreeMap<u64, Waiter>,
    of_client: HashMap<ClientKey, BTreeSet<u64>>,
    /// The earliest request of each client, so that a search for a client that holds nothing need not look at all requests.
    firsts: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    terms: Terms,
    load: Arc<ClientLoad>,
    call: oneshot::Sender<InFlightPlace>,
}

/// A place in flight. Dropping it gives the place to the request that waits first.
#[derive(Debug)]
pub(super) struct InFlightPlace {
    load: Arc<ClientLoad>,
    is_cancelled: bool,
}

/// A place, or a place in the queue.
#[derive(Debug)]
pub(super) enum Turn {
    Now(InFlightPlace),
    Later(QueuePlace),
}

/// The reason why a request gets neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueRefusal {
    /// The client has as many requests as its limit allows.
    ClientAtLimit,
    /// The places and the queue are full.
    Full,
}

/// A place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct QueuePlace {
    load: Arc<ClientLoad>,
    priority: Priority,
    number: u64,
    served: oneshot::Receiver<InFlightPlace>,
}

impl InFlight {
    pub(super) fn new(most: usize, queue: Queue, percent_for_others: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Counter::new(most),
            cancelled: AtomicUsize::new(0),
            queue: ArcSwap::from_pointee(queue),
            percent_for_others: AtomicUsize::new(percent_for_others),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
            loads: Loads::default(),
        })
    }

    /// Changes the bounds. Requests that wait keep their time limit; places that become free are given to them first.
    pub(super) fn set_limits(&self, most: usize, queue: Queue, percent_for_others: usize) {
        self.places.set_limit(most);
        self.percent_for_others.store(percent_for_others, Ordering::Relaxed);
        self.queue.store(Arc::new(queue));
        self.serve_queue();
    }

    /// The places, for statistics.
    pub fn places(&self) -> &Counter {
        &self.places
    }

    /// Number of requests that the backend is working on, without those that were reset there.
    pub fn in_flight(&self) -> usize {
        self.places.used().saturating_sub(self.cancelled.load(Ordering::Relaxed))
    }

    /// Number of requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The load of this client, shared by all callers.
    pub(super) fn load_of(self: &Arc<Self>, client: ClientKey) -> Arc<ClientLoad> {
        self.loads.of(client, self)
    }

    /// Forgets clients that are not in use any more.
    pub(super) fn sweep(&self) {
        self.loads.sweep();
    }

    /// The longest time that a request may wait; zero if there is no queue.
    pub(super) fn queue_timeout(&self) -> Duration {
        let queue = self.queue.load();
        if queue.length == 0 { Duration::ZERO } else { queue.timeout }
    }

    /// Takes a free place, or else a place in the queue if the queue is not full.
    pub(super) fn enter(load: &Arc<ClientLoad>, terms: Terms) -> Result<Turn, QueueRefusal> {
        let in_flight = &load.in_flight;
        let before = load.begin(terms.in_flight).ok_or(QueueRefusal::ClientAtLimit)?;
        // A new request overtakes none that waits.
        if in_flight.waiting.load(Ordering::SeqCst) == 0
            && in_flight.places.take(in_flight.limit(terms, before.held()))
        {
            return Ok(Turn::Now(InFlightPlace::of(load)));
        }
        in_flight.line_up(load, terms).ok_or(QueueRefusal::Full)
    }

    /// Number of places up to which a client may take one more, by the number that it holds already.
    fn limit(&self, terms: Terms, held: usize) -> usize {
        let places = self.places.limit();
        let open = terms.reserve.limit(places);
        if held == 0 {
            return open;
        }
        let others = self.kept_for_others(places);
        if others == 0 {
            return open;
        }
        // A client of high priority that took all but the places kept for others would leave none that a client of normal
        // priority may take.
        let own = terms.high.limit(places).saturating_sub(others).max(1);
        if held < own { open.saturating_sub(others).max(1) } else { 0 }
    }

    /// Number of places that only clients that hold no place may take, rounded down: of few places none is kept.
    fn kept_for_others(&self, places: usize) -> usize {
        part(places, self.percent_for_others.load(Ordering::Relaxed))
    }

    /// The slow path of [`Self::enter`], for a request that is already counted as one with a place.
    fn line_up(&self, load: &Arc<ClientLoad>, terms: Terms) -> Option<Turn> {
        let mut line = self.line();
        // The count is raised before the places are looked at: of a place that is given back and a request that comes at the
        // same time, one sees the other.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let held = load.counts().held().saturating_sub(1);
        if line.overtakes_none(terms.priority, held) && self.places.take(self.limit(terms, held)) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Some(Turn::Now(InFlightPlace::of(load)));
        }
        if self.queue_timeout().is_zero() || line.len() >= self.open_queue(load, terms, held) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            load.end();
            return None;
        }
        load.move_to_queue();
        let (call, served) = oneshot::channel();
        let number = line.next;
        line.next += 1;
        line.of(terms.priority).insert(number, Waiter { terms, load: Arc::clone(load), call });
        Some(Turn::Later(QueuePlace { load: Arc::clone(load), priority: terms.priority, number, served }))
    }

    /// Number of requests in the queue up to which one more of this client may wait.
    fn open_queue(&self, load: &ClientLoad, terms: Terms, held: usize) -> usize {
        let length = self.queue.load().length;
        let has_none = held == 0 && load.counts().waiting() == 0;
        let others = if has_none { 0 } else { self.kept_for_others(length) };
        terms.reserve.limit(length).saturating_sub(others)
    }

    /// Gives free places to the requests that wait first.
    fn serve_queue(&self) {
        while let Some(waiter) = self.next() {
            // A request that leaves at this moment drops its place, which serves the next one.
            let _ = waiter.call.send(InFlightPlace::of(&waiter.load));
        }
    }

    /// The next request that waits, with a place taken for it.
    fn next(&self) -> Option<Waiter> {
        let mut line = self.line();
        let waiter = match self.next_of(&mut line.high) {
            Some(waiter) => Some(waiter),
            None => self.next_of(&mut line.normal),
        };
        if waiter.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        waiter
    }

    /// The first of these requests; or the first of a client that holds no place, if all free places are kept for such
    /// clients.
    fn next_of(&self, waiters: &mut Waiters) -> Option<Waiter> {
        let first = *waiters.by_number.first_key_value()?.0;
        if self.takes_for(waiters, first) {
            return waiters.remove(first);
        }
        let holds_none = |number: &u64| waiters.load(*number).is_some_and(|load| load.counts().held() == 0);
        let other = waiters.firsts.iter().copied().find(holds_none).filter(|other| *other != first)?;
        if self.takes_for(waiters, other) { waiters.remove(other) } else { None }
    }

    /// Takes a place for a request that waits, if one is free that its client may have.
    fn takes_for(&self, waiters: &Waiters, number: u64) -> bool {
        let Some(waiter) = waiters.by_number.get(&number) else { return false };
        let before = waiter.load.move_to_place();
        let is_taken = self.places.take(self.limit(waiter.terms, before.held()));
        if !is_taken {
            waiter.load.move_to_queue();
        }
        is_taken
    }

    fn leave(&self, priority: Priority, number: u64) {
        let left = self.line().of(priority).remove(number);
        if let Some(waiter) = left {
            waiter.load.leave_queue();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock()
    }
}

impl Line {
    fn of(&mut self, priority: Priority) -> &mut Waiters {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
        }
    }

    fn len(&self) -> usize {
        self.high.by_number.len() + self.normal.by_number.len()
    }

    /// `true` if a new request of a client that holds so many places would overtake none. A client that holds none does not
    /// wait for clients that hold some: they may not take the places that are kept for it.
    fn overtakes_none(&self, priority: Priority, held: usize) -> bool {
        let before = |waiters: &Waiters| match held {
            0 => waiters.has_client_that_holds_none(),
            _ => !waiters.by_number.is_empty(),
        };
        !before(&self.high) && (priority == Priority::High || !before(&self.normal))
    }
}

impl Waiters {
    fn insert(&mut self, number: u64, waiter: Waiter) {
        let own = self.of_client.entry(*waiter.load.client()).or_default();
        if own.is_empty() {
            self.firsts.insert(number);
        }
        own.insert(number);
        self.by_number.insert(number, waiter);
    }

    fn remove(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.by_number.remove(&number)?;
        self.firsts.remove(&number);
        if let Some(own) = self.of_client.get_mut(waiter.load.client()) {
            own.remove(&number);
            match own.first() {
                Some(next) => drop(self.firsts.insert(*next)),
                None => drop(self.of_client.remove(waiter.load.client())),
            }
        }
        Some(waiter)
    }

    fn load(&self, number: u64) -> Option<&ClientLoad> {
        self.by_number.get(&number).map(|waiter| &*waiter.load)
    }

    fn has_client_that_holds_none(&self) -> bool {
        let mut firsts = self.firsts.iter().filter_map(|number| self.load(*number));
        firsts.any(|load| load.counts().held() == 0)
    }
}

impl InFlightPlace {
    fn of(load: &Arc<ClientLoad>) -> Self {
        Self { load: Arc::clone(load), is_cancelled: false }
    }

    pub(super) fn cancel(&mut self) -> bool {
        let InFlight { cancelled, places, .. } = &*self.load.in_flight;
        let most = places.limit() / CANCELLED_SHARE;
        let one_more = |count| (count < most).then_some(count + 1);
        self.is_cancelled = cancelled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        self.is_cancelled
    }
}

impl Drop for InFlightPlace {
    fn drop(&mut self) {
        let in_flight = &self.load.in_flight;
        if self.is_cancelled {
            in_flight.cancelled.fetch_sub(1, Ordering::Relaxed);
        }
        self.load.end();
        in_flight.places.give_back();
        if in_flight.waiting.load(Ordering::SeqCst) > 0 {
            in_flight.serve_queue();
        }
    }
}

impl QueuePlace {
    /// Waits for a place, for no longer than the queue allows.
    pub(super) async fn turn(mut self) -> Option<InFlightPlace> {
        if let Ok(served) = timeout(self.load.in_flight.queue_timeout(), &mut self.served).await {
            return served.ok();
        }
        self.leave();
        // A place may have been given while the request left the queue.
        self.served.try_recv().ok()
    }

    fn leave(&self) {
        self.load.in_flight.leave(self.priority, self.number);
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.leave();
        // The next request may have waited only for the first one, which leaves without a place.
        if self.load.in_flight.waiting.load(Ordering::SeqCst) > 0 {
            self.load.in_flight.serve_queue();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::identity::{Attribute, Identity};

    const QUEUE: Queue = Queue { length: 4, timeout: Duration::from_secs(3600) };

    fn now(turn: Option<Turn>) -> InFlightPlace {
        match turn {
            Some(Turn::Now(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    fn later(turn: Option<Turn>) -> QueuePlace {
        match turn {
            Some(Turn::Later(waiting)) => waiting,
            other => panic!("{other:?}"),
        }
    }

    const NORMAL: Terms =
        Terms { priority: Priority::Normal, reserve: Reserve::NONE, high: Reserve::NONE, in_flight: None };
    const HIGH: Terms = Terms { priority: Priority::High, ..NORMAL };

    fn load(in_flight: &Arc<InFlight>, client: &str) -> Arc<ClientLoad> {
        in_flight
            .load_of(ClientKey::of(&Identity::from_attributes([(Attribute::Subject, client.to_owned())])))
    }

    /// One more request of this client.
    fn asks(in_flight: &Arc<InFlight>, client: &str, terms: Terms) -> Option<Turn> {
        InFlight::enter(&load(in_flight, client), terms).ok()
    }

    fn normal(in_flight: &Arc<InFlight>) -> Option<Turn> {
        asks(in_flight, "CN=usual", NORMAL)
    }

    fn served(waiting: &mut QueuePlace) -> Option<InFlightPlace> {
        waiting.served.try_recv().ok()
    }

    #[test]
    fn waiting_requests_are_served_in_order_of_arrival() {
        let in_flight = InFlight::new(1, QUEUE, 10);
        let first = now(normal(&in_flight));
        let mut waiting: Vec<QueuePlace> = (0..4).map(|_| later(normal(&in_flight))).collect();
        assert!(normal(&in_flight).is_none(), "the queue is full");
        assert_eq!(in_flight.waiting(), 4);
        // The second request leaves the queue.
        drop(waiting.remove(1));
        let mut holder = first;
        for mut next in waiting {
            assert!(served(&mut next).is_none());
            drop(holder);
            holder = served(&mut next).unwrap();
            assert_eq!(in_flight.places().used(), 1);
        }
        drop(holder);
        assert_eq!((in_flight.places().used(), in_flight.waiting()), (0, 0));
        now(normal(&in_flight));
    }

    #[test]
    fn a_request_that_is_gone_passes_its_place_on() {
        let in_flight = InFlight::new(1, QUEUE, 10);
        let first = now(normal(&in_flight));
        let (gone, mut next) = (later(normal(&in_flight)), later(normal(&in_flight)));
        drop(first);
        // The request is dropped after it was given a place, before it knew.
        drop(gone);
        assert!(served(&mut next).is_some());
        assert_eq!((in_flight.places().used(), in_flight.waiting()), (0, 0));
    }

    #[test]
    fn high_priority_comes_first_and_has_a_part_for_itself() {
        let in_flight = InFlight::new(4, QUEUE, 10);
        let part = Reserve::of(25);
        let usual = || asks(&in_flight, "CN=usual", Terms { reserve: part, high: part, ..NORMAL });
        let high = || asks(&in_flight, "CN=high", Terms { high: part, ..HIGH });
        let mut held: Vec<InFlightPlace> = (0..3).map(|_| now(usual())).collect();
        let mut waiting: Vec<QueuePlace> = (0..3).map(|_| later(usual())).collect();
        assert!(usual().is_none(), "the last place of the queue is kept");
        let last = now(high());
        let mut urgent = later(high());
        assert!(high().is_none());
        drop(last);
        let urgent = served(&mut urgent).unwrap();
        drop(urgent);
        assert!(served(&mut waiting[0]).is_none(), "the last place is kept free");
        drop(held.pop());
        assert!(served(&mut waiting[0]).is_some());
        drop((waiting, held));
        assert_eq!((in_flight.places().used(), in_flight.waiting()), (0, 0));
    }

    #[test]
    fn no_request_waits_without_a_queue() {
        for queue in [Queue { length: 0, ..QUEUE }, Queue { timeout: Duration::ZERO, ..QUEUE }] {
            let in_flight = InFlight::new(1, queue, 10);
            let _first = now(normal(&in_flight));
            assert!(normal(&in_flight).is_none());
            assert_eq!(in_flight.queue_timeout(), Duration::ZERO);
        }
    }

    /// Many threads, few places: never more are taken than there are, none is lost, and every request in the queue is served.
    #[test]
    fn any_interleaving_keeps_the_number_of_places_and_serves_every_request() {
        let in_flight = InFlight::new(2, Queue { length: 100, timeout: Duration::from_secs(3600) }, 50);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let in_flight = &in_flight;
                scope.spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    for round in 0..2000 {
                        let terms = if thread == 0 { HIGH } else { NORMAL };
                        let client = format!("CN={}", thread / 2);
                        let held = match asks(in_flight, &client, terms).unwrap() {
                            Turn::Now(place) => Some(place),
                            // Some requests give up after one poll.
                            Turn::Later(waiting) if round % 7 == 0 => {
                                let mut turn = pin!(waiting.turn());
                                let _enter = runtime.enter();
                                match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                                    Poll::Ready(place) => place,
                                    Poll::Pending => None,
                                }
                            }
                            Turn::Later(waiting) => Some(runtime.block_on(waiting.turn()).unwrap()),
                        };
                        assert!(in_flight.places().used() <= 2);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!((in_flight.places().used(), in_flight.waiting()), (0, 0));
        for client in ["CN=0", "CN=1"] {
            let left = load(&in_flight, client).counts();
            assert_eq!((left.held(), left.waiting()), (0, 0));
        }
    }

    #[test]
    fn one_client_never_holds_all_places_and_others_find_one() {
        for (places, percent, most) in
            [(40, 10, 36), (9, 10, 9), (10, 10, 9), (40, 0, 40), (4, 90, 1), (1, 90, 1)]
        {
            let in_flight = InFlight::new(places, Queue { length: 1000, ..QUEUE }, percent);
            let mut held: Vec<InFlightPlace> = (0..most).map(|_| now(normal(&in_flight))).collect();
            let _waiting = later(normal(&in_flight));
            for other in most..places {
                let own = format!("CN={other}");
                held.push(now(asks(&in_flight, &own, NORMAL)));
                later(asks(&in_flight, &own, NORMAL));
            }
            later(asks(&in_flight, "CN=last", NORMAL));
            assert_eq!(in_flight.places().used(), places, "{percent} % of {places}");
        }
    }

    #[test]
    fn kept_places_go_to_clients_that_hold_none() {
        let in_flight = InFlight::new(10, QUEUE, 10);
        let mut held: Vec<InFlightPlace> = (0..9).map(|_| now(normal(&in_flight))).collect();
        let other = now(asks(&in_flight, "CN=other", NORMAL));
        let mut first = later(normal(&in_flight));
        let (mut second, mut third) =
            (later(asks(&in_flight, "CN=third", NORMAL)), later(asks(&in_flight, "CN=fourth", NORMAL)));
        drop(other);
        assert!(served(&mut first).is_none(), "the last place is none of theirs");
        let second = served(&mut second).unwrap();
        assert!(served(&mut third).is_none(), "one place, one call");
        drop(held.pop());
        assert!(served(&mut first).is_none(), "nine are taken");
        let third = served(&mut third).unwrap();
        drop((second, third));
        assert!(served(&mut first).is_some(), "no request is forgotten");
        drop(held);
        assert_eq!((in_flight.places().used(), in_flight.waiting()), (0, 0));
    }

    /// A client whose requests have ended holds no place, also if its next request waits already.
    #[test]
    fn a_waiting_client_whose_requests_have_ended_may_take_a_kept_place() {
        let in_flight = InFlight::new(10, QUEUE, 10);
        let own = now(asks(&in_flight, "CN=own", NORMAL));
        let _held: Vec<InFlightPlace> = (0..8).map(|_| now(normal(&in_flight))).collect();
        let _first = later(normal(&in_flight));
        let mut next = later(asks(&in_flight, "CN=own", NORMAL));
        drop(own);
        assert_eq!(in_flight.places().used(), 10, "one for the first who waited, and one for this client");
        assert!(served(&mut next).is_some());
    }

    #[test]
    fn a_client_of_high_priority_leaves_places_for_normal_clients() {
        let (in_flight, part) = (InFlight::new(40, QUEUE, 10), Reserve::of(10));
        let high = Terms { high: part, ..HIGH };
        let _held: Vec<InFlightPlace> = (0..32).map(|_| now(asks(&in_flight, "CN=high", high))).collect();
        let mut waiting = later(asks(&in_flight, "CN=high", high));
        let usual = Terms { reserve: part, high: part, ..NORMAL };
        let others: Vec<InFlightPlace> =
            (0..4).map(|number| now(asks(&in_flight, &format!("CN={number}"), usual))).collect();
        assert!(served(&mut waiting).is_none());
        let _another = now(asks(&in_flight, "CN=another", high));
        drop(others);
        assert!(served(&mut waiting).is_none(), "as many as one client may have");
    }

    #[test]
    fn a_part_of_the_queue_is_kept_for_clients_without_requests() {
        let in_flight = InFlight::new(1, Queue { length: 10, ..QUEUE }, 10);
        let _held = now(normal(&in_flight));
        let _waiting: Vec<QueuePlace> = (0..9).map(|_| later(normal(&in_flight))).collect();
        assert!(normal(&in_flight).is_none());
        let _other = later(asks(&in_flight, "CN=other", NORMAL));
        assert!(asks(&in_flight, "CN=last", NORMAL).is_none(), "the queue is full");
    }

    #[test]
    fn a_client_at_its_limit_is_refused_at_once() {
        let in_flight = InFlight::new(2, QUEUE, 0);
        let bound = Terms { in_flight: Some(3), ..NORMAL };
        let ask = |client: &str| InFlight::enter(&load(&in_flight, client), bound);
        let held = [now(ask("CN=a").ok()), now(ask("CN=a").ok())];
        let waiting = later(ask("CN=a").ok());
        assert_eq!(ask("CN=a").unwrap_err(), QueueRefusal::ClientAtLimit);
        later(ask("CN=b").ok());
        drop(waiting);
        later(ask("CN=a").ok());
        drop(held);
        assert_eq!((in_flight.places().used(), in_flight.waiting()), (0, 0));
        assert_eq!(load(&in_flight, "CN=a").counts().held(), 0);
    }

    #[test]
    fn new_bounds_hold_at_once_and_serve_waiting_requests() {
        let in_flight = InFlight::new(10, QUEUE, 50);
        let _held: Vec<InFlightPlace> = (0..5).map(|_| now(normal(&in_flight))).collect();
        let mut waiting = later(normal(&in_flight));
        in_flight.set_limits(10, QUEUE, 0);
        let _sixth = served(&mut waiting).unwrap();
        in_flight.set_limits(10, QUEUE, 90);
        later(normal(&in_flight));
        now(asks(&in_flight, "CN=other", NORMAL));
    }
}
