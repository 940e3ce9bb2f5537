//! Backends that work on each request until the test lets them go on, and that do not notice when a client has left.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::admin::{IN_FLIGHT, QUEUED};
use super::backend::OK;
use super::{Backend, Proxy, eventually};

/// A gate through which as many requests pass as the test says.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        self.let_pass(usize::MAX);
    }

    pub fn close(&self) {
        self.let_pass(0);
    }

    /// Sets the number of requests that may still pass.
    pub fn let_pass(&self, count: usize) {
        *self.0.0.lock().unwrap() = count;
        self.0.1.notify_all();
    }

    /// Waits until the gate lets the caller pass.
    pub fn pass(&self) {
        let count = self.0.0.lock().unwrap();
        let mut left = self.0.1.wait_while(count, |left| *left == 0).unwrap();
        *left -= 1;
    }
}

/// A backend whose work on a request ends when its gate lets the request pass.
pub struct BlockingBackend {
    pub backend: Backend,
    pub gate: Gate,
    /// The number of requests in work.
    working: Arc<AtomicUsize>,
    /// The largest number of requests that were ever in work at once.
    most: Arc<AtomicUsize>,
}

impl BlockingBackend {
    /// Reads a connection again only once the work on its request is done. Requests to `/quick` are answered at once.
    pub fn start() -> Self {
        let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Gate::default();
        let backend = {
            let (working, most, gate) = (Arc::clone(&working), Arc::clone(&most), gate.clone());
            Backend::scripted(move |connection| {
                while let Some(head) = connection.head()? {
                    most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    if !head.contains("/quick ") {
                        gate.pass();
                    }
                    working.fetch_sub(1, Ordering::SeqCst);
                    connection.wire.send(OK)?;
                }
                Ok(())
            })
        };
        Self { backend, gate, working, most }
    }

    /// Closes a connection as soon as its client ends its side, and goes on with the work, as aiohttp, Node.js and Tornado do.
    pub fn closing_at_once() -> Self {
        let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Gate::default();
        let backend = {
            let (working, most, gate) = (Arc::clone(&working), Arc::clone(&most), gate.clone());
            Backend::scripted(move |connection| {
                while connection.head()?.is_some() {
                    most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let mut socket = connection.wire.stream.stream.try_clone()?;
                    let (working, gate) = (Arc::clone(&working), gate.clone());
                    std::thread::spawn(move || {
                        gate.pass();
                        working.fetch_sub(1, Ordering::SeqCst);
                        let _ = socket.write_all(OK.as_ref());
                    });
                }
                connection.wire.stream.stream.shutdown(Shutdown::Both)
            })
        };
        Self { backend, gate, working, most }
    }

    /// Returns the number of requests in work.
    pub fn working(&self) -> usize {
        self.working.load(Ordering::SeqCst)
    }

    /// Returns the largest number of requests that were ever in work at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Waits until exactly this many requests are in work.
    #[track_caller]
    pub fn wait_for(&self, working: u32) {
        let count = || u32::try_from(self.working()).unwrap();
        eventually("requests at the backend", count, |count| *count == working);
    }

    /// Opens the gate: all work ends, no place stays taken, and the proxy serves the next request.
    #[track_caller]
    pub fn assert_ends(&self, proxy: &Proxy, most: usize) {
        self.gate.open();
        proxy.admin.wait_for(IN_FLIGHT, 0.0);
        proxy.admin.wait_for(QUEUED, 0.0);
        assert_eq!(self.most(), most);
        assert_eq!(proxy.connect().get("/events").unwrap().verdict(), "200");
    }
}
