//! Memory of answers that wait for clients to read them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that answers may hold on all connections of a worker, beyond what each connection may have anyway.
const LARGEST: usize = 4 << 20;

/// Memory that answers hold on all connections of one worker, in bytes.
#[derive(Debug, Default)]
pub struct UnreadMemory(AtomicUsize);

impl UnreadMemory {
    /// Adds bytes that are held from now on.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Subtracts bytes that are no longer held.
    pub fn subtract(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// `true` if answers hold more than the worker may spend on them.
    pub fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) > LARGEST
    }
}
