//! An optional instant that several owners read and write without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// An optional instant in an atomic, in milliseconds since an origin that the owner knows. Writes are relaxed: readers of
/// other threads may see a value late, never a torn one.
#[derive(Debug, Default)]
pub(crate) struct AtomicInstant(AtomicU64);

impl AtomicInstant {
    /// An instant that is not set.
    pub(crate) const fn unset() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The instant, or `None` if it is not set.
    pub(crate) fn get(&self, origin: Instant) -> Option<Instant> {
        let millis = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(origin + Duration::from_millis(millis))
    }

    /// `true` if an instant is set.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Sets the instant to now.
    pub(crate) fn set_now(&self, origin: Instant) {
        let millis = u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        // 0 means "not set".
        self.0.store(millis.saturating_add(1), Ordering::Relaxed);
    }

    /// Forgets the instant.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
