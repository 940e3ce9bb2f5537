//! The open connections of one worker, and orders to all of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::proxy::serve::Established;
use crate::proxy::session::View;
use crate::stop::{Order, StopSignal};

/// The open connections of one worker.
#[derive(Debug)]
pub(super) struct Registry {
    open: AtomicUsize,
    connections: Mutex<Connections>,
    /// Notified at the end of each connection.
    departures: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Connections {
    last_number: u64,
    open: HashMap<u64, OpenConnection>,
    /// The order that all connections were given, also those that come later.
    order: Option<Order>,
}

/// A connection that is open or on its way.
#[derive(Debug)]
struct OpenConnection {
    stop: Arc<StopSignal>,
    address: SocketAddr,
    since: Timestamp,
    /// Filled once the handshake is done.
    established: Established,
}

impl OpenConnection {
    fn view(&self) -> View {
        match self.established.get().and_then(Weak::upgrade) {
            Some(session) => session.view(self.since),
            None => View::in_handshake(self.address, self.since),
        }
    }
}

impl Registry {
    pub(super) fn new(departures: Arc<Notify>) -> Self {
        Self { open: AtomicUsize::new(0), connections: Mutex::default(), departures }
    }

    /// Number of connections that are open or on their way.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Adds a connection. Dropping the first returned value removes it; the second one is filled by its task.
    pub(super) fn add(
        self: &Arc<Self>,
        address: SocketAddr,
        stop: &Arc<StopSignal>,
    ) -> (Departure, Established) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut connections = self.connections.lock();
        if let Some(order) = connections.order {
            stop.send(order);
        }
        connections.last_number += 1;
        let (number, established) = (connections.last_number, Established::default());
        let open = OpenConnection {
            stop: Arc::clone(stop),
            address,
            since: Timestamp::now(),
            established: Arc::clone(&established),
        };
        connections.open.insert(number, open);
        (Departure { registry: Arc::clone(self), number }, established)
    }

    pub(super) fn views(&self) -> Vec<View> {
        self.connections.lock().open.values().map(OpenConnection::view).collect()
    }

    pub(super) fn order_all(&self, order: Order) {
        let mut connections = self.connections.lock();
        connections.order = connections.order.max(Some(order));
        connections.open.values().for_each(|open| open.stop.send(order));
    }

    pub(super) fn review_all(&self) {
        self.connections.lock().open.values().for_each(|open| open.stop.request_review());
    }

    /// Requests a review from every connection on which requests are in progress.
    pub(super) fn review_busy(&self) {
        let connections = self.connections.lock();
        let stops = connections.open.values().map(|open| &open.stop);
        stops.filter(|stop| stop.is_busy()).for_each(|stop| stop.request_review());
    }
}

/// Removes a connection from the registry when it is dropped, however the connection ends.
#[derive(Debug)]
pub(super) struct Departure {
    registry: Arc<Registry>,
    number: u64,
}

impl Drop for Departure {
    fn drop(&mut self) {
        let registry = &self.registry;
        registry.connections.lock().open.remove(&self.number);
        registry.open.fetch_sub(1, Ordering::Relaxed);
        registry.departures.notify_one();
    }
}
