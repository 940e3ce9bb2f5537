//! The load of each client: its requests in flight and in the queue. The count is by client, over all its connections and
//! certificates and all workers, independent of the policy.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::in_flight::InFlight;
use crate::identity::ClientKey;

/// The loads of all clients in use. The entry of a client without connections and without requests is removed at the next
/// sweep.
#[derive(Debug, Default)]
pub(super) struct Loads(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    loads: HashMap<ClientKey, Weak<ClientLoad>>,
    /// Number of entries at which unused ones are removed: twice as many as were in use at the last sweep. The map is then
    /// bounded by what is in use, and an insertion costs a constant on average.
    sweep_at: usize,
}

/// Number of entries below which no sweep is made.
const FEW: usize = 1024;

/// The load of one client: the places in flight that it holds, and its requests that wait for one.
#[derive(Debug)]
pub(super) struct ClientLoad {
    client: ClientKey,
    /// The places in flight that are counted.
    pub(super) in_flight: Arc<InFlight>,
    /// Both numbers in one, so that a request costs one operation: [`HELD`] for each place, [`WAITS`] for each request that
    /// waits.
    counts: AtomicU64,
}

const HELD: u64 = 1;
const WAITS: u64 = 1 << 32;

/// The two numbers of a load at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts(u64);

impl Counts {
    /// Number of places held.
    pub(super) fn held(self) -> usize {
        usize::try_from(self.0 % WAITS).unwrap_or(usize::MAX)
    }

    /// Number of requests that wait.
    pub(super) fn waiting(self) -> usize {
        usize::try_from(self.0 / WAITS).unwrap_or(usize::MAX)
    }
}

impl Loads {
    /// The load of a client. All callers get the same one while any of them keeps it.
    pub(super) fn of(&self, client: ClientKey, in_flight: &Arc<InFlight>) -> Arc<ClientLoad> {
        let mut entries = self.entries();
        if let Some(load) = entries.loads.get(&client).and_then(Weak::upgrade) {
            return load;
        }
        if entries.loads.len() >= entries.sweep_at {
            entries.sweep();
        }
        let load = ClientLoad { client, in_flight: Arc::clone(in_flight), counts: AtomicU64::new(0) };
        let load = Arc::new(load);
        entries.loads.insert(client, Arc::downgrade(&load));
        load
    }

    /// Removes clients that are not in use any more.
    pub(super) fn sweep(&self) {
        self.entries().sweep();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock()
    }
}

impl Entries {
    fn sweep(&mut self) {
        self.loads.retain(|_, load| load.strong_count() > 0);
        self.loads.shrink_to_fit();
        self.sweep_at = self.loads.len().saturating_mul(2).max(FEW);
    }
}

/// Every operation is sequentially consistent with the numbers of places and of waiting requests: of a place that is given
/// back and a request that begins to wait at the same time, one sees the other.
impl ClientLoad {
    pub(super) const fn client(&self) -> &ClientKey {
        &self.client
    }

    pub(super) fn counts(&self) -> Counts {
        Counts(self.counts.load(Ordering::SeqCst))
    }

    /// Counts one more place if the client then has no more requests than its bound. Returns the counts before.
    pub(super) fn begin(&self, bound: Option<usize>) -> Option<Counts> {
        let Some(bound) = bound else { return Some(self.add(HELD)) };
        let one_more = |counts| {
            let before = Counts(counts);
            (before.held() + before.waiting() < bound).then_some(counts + HELD)
        };
        self.counts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok().map(Counts)
    }

    /// Counts one place less.
    pub(super) fn end(&self) {
        self.counts.fetch_sub(HELD, Ordering::SeqCst);
    }

    /// Counts a request that was counted with a place as one that waits.
    pub(super) fn move_to_queue(&self) {
        self.add(WAITS - HELD);
    }

    /// Counts a request that waited as one with a place. Returns the counts before.
    pub(super) fn move_to_place(&self) -> Counts {
        Counts(self.counts.fetch_sub(WAITS - HELD, Ordering::SeqCst))
    }

    /// Counts a waiting request less.
    pub(super) fn leave_queue(&self) {
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
        ClientKey::of(&Identity::from_attributes([(Attribute::Subject, name.to_owned())]))
    }

    fn in_flight() -> Arc<InFlight> {
        InFlight::new(10, Queue { length: 0, timeout: std::time::Duration::ZERO }, 0)
    }

    #[test]
    fn all_connections_of_a_client_count_together_and_apart_from_other_clients() {
        let (loads, in_flight) = (Loads::default(), in_flight());
        let (one, same) = (loads.of(key("CN=a"), &in_flight), loads.of(key("CN=a"), &in_flight));
        let other = loads.of(key("CN=b"), &in_flight);
        assert_eq!(one.begin(None).unwrap().held(), 0);
        assert_eq!(same.begin(Some(2)).unwrap().held(), 1);
        same.move_to_queue();
        assert_eq!((one.counts().held(), one.counts().waiting()), (1, 1));
        assert!(one.begin(Some(2)).is_none(), "what waits counts too");
        assert_eq!(other.counts(), Counts(0));
        assert_eq!((one.move_to_place().held(), one.counts().waiting()), (1, 0));
        one.end();
        one.move_to_queue();
        one.leave_queue();
        assert_eq!(same.counts(), Counts(0));
    }

    #[test]
    fn unused_clients_are_forgotten_before_they_are_many() {
        let (loads, in_flight) = (Loads::default(), in_flight());
        let kept = loads.of(key("CN=kept"), &in_flight);
        kept.begin(None).unwrap();
        for number in 0..10 * FEW {
            drop(loads.of(key(&format!("CN={number}")), &in_flight));
            assert!(loads.entries().loads.len() <= FEW);
        }
        loads.sweep();
        assert_eq!(loads.entries().loads.len(), 1);
        assert_eq!(loads.of(key("CN=kept"), &in_flight).counts().held(), 1, "what it has is not forgotten");
    }
}
