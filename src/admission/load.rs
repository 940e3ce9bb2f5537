//! Requests that each client has in flight and in the queue: counted by who the client is, over all its connections, its
//! certificates and all workers, and whatever its policy says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::passages::Passages;
use crate::identity::ClientKey;

/// Loads of all clients that are known. A client that nobody knows any more, and that has nothing in flight, costs an entry
/// only until the next sweep.
#[derive(Debug, Default)]
pub(super) struct Loads(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    loads: HashMap<ClientKey, Weak<ClientLoad>>,
    /// Number of entries at which those without a client are removed: twice as many as were in use the last time, so that the
    /// map is bounded by what is in use and no insertion costs more than a constant on average.
    sweep_at: usize,
}

/// Fewer entries than this are not worth a sweep.
const FEW: usize = 1024;

/// Load of one client: how many places in flight it holds, and how many of its requests wait for one.
#[derive(Debug)]
pub(super) struct ClientLoad {
    client: ClientKey,
    /// The places that it counts.
    pub(super) passages: Arc<Passages>,
    /// Both numbers in one, so that a request costs one operation: [`HELD`] for each place, [`WAITS`] for each request that waits.
    counts: AtomicU64,
}

const HELD: u64 = 1;
const WAITS: u64 = 1 << 32;

/// Both numbers of a client at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts(u64);

impl Counts {
    /// Places that it holds.
    pub(super) fn held(self) -> usize {
        usize::try_from(self.0 % WAITS).unwrap_or(usize::MAX)
    }

    /// Requests that wait.
    pub(super) fn waiting(self) -> usize {
        usize::try_from(self.0 / WAITS).unwrap_or(usize::MAX)
    }
}

impl Loads {
    /// The load of a client; the same for all who ask while any of them keeps it.
    pub(super) fn of(&self, client: ClientKey, passages: &Arc<Passages>) -> Arc<ClientLoad> {
        let mut known = self.known();
        if let Some(load) = known.loads.get(&client).and_then(Weak::upgrade) {
            return load;
        }
        if known.loads.len() >= known.sweep_at {
            known.sweep();
        }
        let load = ClientLoad { client, passages: Arc::clone(passages), counts: AtomicU64::new(0) };
        let load = Arc::new(load);
        known.loads.insert(client, Arc::downgrade(&load));
        load
    }

    /// Clients that nobody knows any more are removed.
    pub(super) fn sweep(&self) {
        self.known().sweep();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }
}

impl Known {
    fn sweep(&mut self) {
        self.loads.retain(|_, load| load.strong_count() > 0);
        self.loads.shrink_to_fit();
        self.sweep_at = self.loads.len().saturating_mul(2).max(FEW);
    }
}

/// Every operation is in one order with the count of places and of those who wait: whoever gives a place back and whoever
/// begins to wait see each other.
impl ClientLoad {
    pub(super) const fn client(&self) -> &ClientKey {
        &self.client
    }

    pub(super) fn counts(&self) -> Counts {
        Counts(self.counts.load(Ordering::SeqCst))
    }

    /// One more place is counted, if the client then has no more requests than its bound. Returns what it had before.
    pub(super) fn begin(&self, bound: Option<usize>) -> Option<Counts> {
        let Some(bound) = bound else { return Some(self.add(HELD)) };
        let one_more = |counts| {
            let before = Counts(counts);
            (before.held() + before.waiting() < bound).then_some(counts + HELD)
        };
        self.counts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok().map(Counts)
    }

    /// One place less is counted.
    pub(super) fn end(&self) {
        self.counts.fetch_sub(HELD, Ordering::SeqCst);
    }

    /// A request that was counted with a place has none, and waits.
    pub(super) fn waits(&self) {
        self.add(WAITS - HELD);
    }

    /// A request that waited is counted with a place. Returns what the client had before.
    pub(super) fn goes_on(&self) -> Counts {
        Counts(self.counts.fetch_sub(WAITS - HELD, Ordering::SeqCst))
    }

    /// A request that waited has left.
    pub(super) fn leaves(&self) {
        self.counts.fetch_sub(WAITS, Ordering::SeqCst);
    }

    fn add(&self, number: u64) -> Counts {
        Counts(self.counts.fetch_add(number, Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Queue;
    use crate::identity::{Attribute, Identity};

    fn key(name: &str) -> ClientKey {
        ClientKey::of(&Identity::of_attributes([(Attribute::Subject, name.to_owned())]))
    }

    fn passages() -> Arc<Passages> {
        Passages::new(10, Queue { length: 0, timeout: std::time::Duration::ZERO }, 0)
    }

    #[test]
    fn all_who_know_a_client_count_together_and_nobody_else() {
        let (loads, passages) = (Loads::default(), passages());
        let (one, same) = (loads.of(key("CN=a"), &passages), loads.of(key("CN=a"), &passages));
        let other = loads.of(key("CN=b"), &passages);
        assert_eq!(one.begin(None).unwrap().held(), 0);
        assert_eq!(same.begin(Some(2)).unwrap().held(), 1);
        same.waits();
        assert_eq!((one.counts().held(), one.counts().waiting()), (1, 1));
        assert!(one.begin(Some(2)).is_none(), "what waits counts too");
        assert_eq!(other.counts(), Counts(0));
        assert_eq!((one.goes_on().held(), one.counts().waiting()), (1, 0));
        one.end();
        one.waits();
        one.leaves();
        assert_eq!(same.counts(), Counts(0));
    }

    #[test]
    fn clients_that_nobody_knows_are_forgotten_before_they_are_many() {
        let (loads, passages) = (Loads::default(), passages());
        let kept = loads.of(key("CN=kept"), &passages);
        kept.begin(None).unwrap();
        for number in 0..10 * FEW {
            drop(loads.of(key(&format!("CN={number}")), &passages));
            assert!(loads.known().loads.len() <= FEW);
        }
        loads.sweep();
        assert_eq!(loads.known().loads.len(), 1);
        assert_eq!(loads.of(key("CN=kept"), &passages).counts().held(), 1, "what it has is not forgotten");
    }
}
