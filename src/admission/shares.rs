//! The number of connections with a slot of each client that has a limit. The count is by client, not by policy, so that it
//! is true also right after the limit has changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::identity::ClientKey;

/// The connections of clients that have a limit.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<ClientKey, usize>>);

/// One connection's place in its client's share. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    client: ClientKey,
}

impl Shares {
    /// Counts one more connection of this client, if it has fewer than its limit.
    pub(super) fn take(self: &Arc<Self>, client: ClientKey, bound: usize) -> Option<Share> {
        let mut counts = self.counts();
        let count = counts.get(&client).copied().unwrap_or_default();
        if count >= bound {
            return None;
        }
        counts.insert(client, count + 1);
        Some(Share { shares: Arc::clone(self), client })
    }

    /// Gives back memory after many clients have left.
    pub(super) fn sweep(&self) {
        self.counts().shrink_to_fit();
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<ClientKey, usize>> {
        self.0.lock()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.shares.counts().entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Attribute, Identity};

    #[test]
    fn a_share_is_never_exceeded_and_no_place_of_it_is_lost() {
        let client =
            |name: &str| ClientKey::of(&Identity::from_attributes([(Attribute::Subject, name.to_owned())]));
        let (one, other) = (client("CN=one"), client("CN=other"));
        let shares = Arc::new(Shares::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let held = [one, one, other].map(|client| shares.take(client, 5));
                        assert!(shares.counts().values().all(|count| (1..=5).contains(count)));
                        drop(held);
                    }
                });
            }
        });
        assert!(shares.counts().is_empty(), "a client without a connection takes no memory");
        let held: Vec<_> = (0..5).map_while(|_| shares.take(one, 3)).collect();
        assert_eq!(held.len(), 3);
        assert!(shares.take(one, 4).is_some(), "a wider bound counts those that are there");
        assert!(shares.take(one, 2).is_none(), "and so does a narrower one");
    }
}
