//! Idle connections to the backend, of one worker.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::link::Link;

/// Time after which an idle connection is closed. It is shorter than the keep-alive of the usual backends, but for Node.js
/// with 5 s, whose closing is noticed.
const IDLE_FOR: Duration = Duration::from_secs(55);
/// Most idle connections that are kept.
const MOST_IDLE: usize = 1024;

/// The idle connections. The connection used last is taken first, so that unneeded ones grow old and are closed.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    /// Takes a connection that was open after its last use. If it has been closed since, it gives the request back that it
    /// cannot take.
    pub(super) fn take(&self) -> Option<Link> {
        self.idle().pop().map(|idle| idle.link)
    }

    pub(super) fn give_back(&self, link: Link) {
        let mut idle = self.idle();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { link, since: Instant::now() });
        }
    }

    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.idle().retain_mut(|idle| now.duration_since(idle.since) < IDLE_FOR && idle.link.is_open());
    }

    pub(super) fn len(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.lock()
    }
}
