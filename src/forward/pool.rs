//! Idle connections to the backend, of one worker.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::link::Link;

/// Shorter than the keep-alive of the usual backends (Node 5 s excepted, which closing connections are noticed for).
const IDLE_FOR: Duration = Duration::from_secs(55);
/// More idle connections than this are closed instead of kept.
const MOST_IDLE: usize = 1024;

/// The last used is used next: those that are not needed grow old and go.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    /// A connection that was open when it was last used. Whether it still is shows when it is used: then it gives back what
    /// it cannot take.
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
