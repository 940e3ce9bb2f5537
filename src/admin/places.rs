//! Places of the admin listener. A new connection always gets one, at the cost of the connection that needs its own least:
//! silent connections cannot keep a probe out, also if all come from one address, as on loopback.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::exchange::{Exchange, Phase};

/// Number of places: probes, scrapers and people are few.
pub(super) const MOST_CONNECTIONS: usize = 128;
/// Most answers that are being made or written and need a turn; all other places can be given away at any time.
const MOST_ANSWERS: usize = 32;
/// Time in which an honest client's request arrives after its connection. Until then a new connection does not count as
/// silent.
const ARRIVAL: Duration = Duration::from_millis(250);

/// The connections that have a place.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<TakenPlaces>,
    answers: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct TakenPlaces {
    next: u64,
    by_age: BTreeMap<u64, ListenerPlace>,
}

#[derive(Debug)]
struct ListenerPlace {
    source: IpAddr,
    exchange: Arc<Exchange>,
}

/// A place. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) exchange: Arc<Exchange>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().by_age.remove(&self.number);
    }
}

impl Default for Places {
    fn default() -> Self {
        Self { taken: Mutex::default(), answers: Arc::new(Semaphore::new(MOST_ANSWERS)) }
    }
}

impl Places {
    /// Takes a place for a new connection, from another connection if all are taken.
    pub(super) fn take(self: &Arc<Self>, source: IpAddr, now: Instant) -> Place {
        let exchange = Arc::new(Exchange::new(now));
        let mut taken = self.taken();
        if taken.by_age.len() >= MOST_CONNECTIONS {
            let evicted = taken.least_needed(now).and_then(|number| taken.by_age.remove(&number));
            evicted.iter().for_each(|seat| seat.exchange.evict());
        }
        let number = taken.next;
        taken.next += 1;
        taken.by_age.insert(number, ListenerPlace { source, exchange: Arc::clone(&exchange) });
        Place { places: Arc::clone(self), number, exchange }
    }

    /// Takes a turn to make an answer that needs work or memory; `None` if too many are being made already. An answer that
    /// only waits for its client gives its turn, and its connection, to the new request.
    pub(super) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.answers).try_acquire_owned().ok();
        free.or_else(|| self.taken().reclaim())
    }

    fn taken(&self) -> MutexGuard<'_, TakenPlaces> {
        self.taken.lock()
    }
}

impl TakenPlaces {
    fn reclaim(&mut self) -> Option<OwnedSemaphorePermit> {
        let mut oldest: Vec<_> =
            self.by_age.iter().map(|(number, seat)| (seat.exchange.phase().1, *number)).collect();
        oldest.sort();
        let (number, turn) = oldest
            .iter()
            .find_map(|(_, number)| Some((*number, self.by_age.get(number)?.exchange.give_up_turn()?)))?;
        self.by_age.remove(&number).iter().for_each(|seat| seat.exchange.evict());
        Some(turn)
    }

    /// The connection that needs its place least; among equals, one of the source with the most, and of these the one that
    /// has been so for the longest time.
    fn least_needed(&self, now: Instant) -> Option<u64> {
        let mut of_source: HashMap<IpAddr, usize> = HashMap::new();
        for seat in self.by_age.values() {
            *of_source.entry(seat.source).or_default() += 1;
        }
        let key = |(number, seat): (&u64, &ListenerPlace)| {
            let (phase, since) = seat.exchange.phase();
            let count = of_source.get(&seat.source).copied().unwrap_or_default();
            (need(phase, now.saturating_duration_since(since)), Reverse(count), since, *number)
        };
        self.by_age.iter().map(key).min().map(|(.., number)| number)
    }
}

/// A connection's need for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Silent,
    Resting,
    Listening,
    Working,
}

const fn need(phase: Phase, lasting: Duration) -> Need {
    match phase {
        Phase::Asking if lasting.as_millis() >= ARRIVAL.as_millis() => Need::Silent,
        Phase::Asking | Phase::Idle | Phase::Answering => Need::Resting,
        Phase::Listening => Need::Listening,
        Phase::Working => Need::Working,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn is_in(places: &Places, place: &Place) -> bool {
        places.taken().by_age.contains_key(&place.number)
    }

    #[test]
    fn the_connection_that_needs_its_place_least_loses_it() {
        let (places, start) = (Arc::new(Places::default()), Instant::now());
        let [working, listening, answering] = [(); 3].map(|()| places.take(source(1), start));
        working.exchange.work(places.turn());
        listening.exchange.answer(true);
        answering.exchange.answer(false);
        let mut silent: Vec<_> = (3..MOST_CONNECTIONS).map(|_| places.take(source(1), start)).collect();
        for number in 0..1_000 {
            silent.push(places.take(source(1), start + ARRIVAL + ARRIVAL * number / 100));
            assert!(places.taken().by_age.len() <= MOST_CONNECTIONS);
        }
        for (place, what) in [(&working, "working"), (&listening, "listening"), (&answering, "answering")] {
            assert!(is_in(&places, place), "{what}");
        }
        assert!(is_in(&places, silent.last().unwrap()) && !is_in(&places, &silent[0]));
        drop(silent);
        assert_eq!(places.taken().by_age.len(), 3, "a dropped place is given back, and no other");
    }

    #[test]
    fn the_source_that_has_the_most_gives_first() {
        let (places, start) = (Arc::new(Places::default()), Instant::now());
        let few = places.take(source(2), start);
        let many: Vec<_> = (1..MOST_CONNECTIONS).map(|_| places.take(source(1), start)).collect();
        let newcomer = places.take(source(3), start + ARRIVAL);
        assert!(is_in(&places, &few) && !is_in(&places, &many[0]) && is_in(&places, &newcomer));
    }

    #[test]
    fn turns_are_bounded_and_an_unread_answer_gives_its_turn_back() {
        let (places, now) = (Arc::new(Places::default()), Instant::now());
        let all: Vec<_> = (0..MOST_ANSWERS).map(|_| places.take(source(1), now)).collect();
        all.iter().for_each(|place| place.exchange.work(places.turn()));
        assert!(places.turn().is_none());
        all[1].exchange.answer(false);
        all[0].exchange.answer(false);
        assert!(places.turn().is_some());
        assert!(is_in(&places, &all[0]) && !is_in(&places, &all[1]), "the one that waits the longest");
    }
}
