//! A leash on a connection: how others tell it to end, without a channel and without touching it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::task::Waker;

/// What a connection is told. Each order includes those before it; an order is never taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// Nothing special.
    GoOn,
    /// End with the next answer (HTTP/1.1: `Connection: close`; HTTP/2: GOAWAY). Until then a request is welcome.
    WindDown,
    /// Finish what runs, take nothing new.
    Finish,
    /// Close now.
    Close,
}

/// Orders to one connection.
#[derive(Debug, Default)]
pub struct Leash {
    order: AtomicU8,
    /// What goes on may not be permitted any more.
    look: AtomicBool,
    /// Whether anything goes on.
    busy: AtomicBool,
    /// The connection's task, which never changes.
    waker: OnceLock<Waker>,
}

impl Leash {
    /// Gives an order, and wakes the connection to obey it.
    pub fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        // Pairs with the fence in `hold`: of an order and a waker that cross, one side sees the other.
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether this order, or one that includes it, was given.
    pub fn was_told(&self, order: Order) -> bool {
        self.order.load(Ordering::Acquire) >= order as u8
    }

    /// Has the connection judge again what goes on.
    pub fn look_again(&self) {
        self.look.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether anything goes on; to be said by the connection itself.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Whether anything goes on.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Whether it is to judge again; asked once for each time that it is told to.
    pub fn is_to_look(&self) -> bool {
        self.look.load(Ordering::Relaxed) && self.look.swap(false, Ordering::AcqRel)
    }

    /// Names the task to be woken by an order. An order given before is seen by whoever looks after this.
    pub fn hold(&self, waker: &Waker) {
        let _ = self.waker.set(waker.clone());
        fence(Ordering::SeqCst);
    }
}
