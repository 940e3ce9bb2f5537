//! The stop signal of a connection: how other tasks tell a connection to end, without a channel and without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::task::Waker;

/// An order to a connection. Each order includes those before it; an order is never taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// No order was given.
    GoOn,
    /// The connection ends with the next answer (HTTP/1.1: `Connection: close`; HTTP/2: GOAWAY). Until then requests are
    /// served.
    WindDown,
    /// The connection ends as soon as no request is in progress. HTTP/2 serves new requests until then: common clients drop
    /// what is in progress when GOAWAY comes.
    Finish,
    /// No new request is served; requests in progress are finished.
    FinishNow,
    /// The connection is closed now.
    Close,
}

/// Orders to one connection, and the request to judge again what is in progress on it.
#[derive(Debug, Default)]
pub struct StopSignal {
    order: AtomicU8,
    /// A review was requested: requests in progress may no longer be permitted.
    review: AtomicBool,
    /// Requests are in progress.
    busy: AtomicBool,
    /// Waker of the connection's task, which never changes.
    waker: OnceLock<Waker>,
}

impl StopSignal {
    /// Gives an order, and wakes the connection to obey it.
    pub fn send(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// `true` if this order, or one that includes it, was given.
    pub fn includes(&self, order: Order) -> bool {
        self.order.load(Ordering::Acquire) >= order as u8
    }

    /// Requests that the connection judges again what is in progress.
    pub fn request_review(&self) {
        self.review.store(true, Ordering::Release);
        self.wake();
    }

    /// `true` once for each time that a review was requested.
    pub fn take_review(&self) -> bool {
        self.review.load(Ordering::Relaxed) && self.review.swap(false, Ordering::AcqRel)
    }

    /// Notes whether requests are in progress. Only the connection itself calls this.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// `true` while requests are in progress.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Names the task that an order wakes. The task must look at the orders after this call: an order given before wakes
    /// nothing.
    pub fn set_waker(&self, waker: &Waker) {
        let _ = self.waker.set(waker.clone());
        fence(Ordering::SeqCst);
    }

    fn wake(&self) {
        // The fence pairs with the one in `set_waker`: if an order and a waker cross, one side sees the other.
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}
