//! Workers: each is one thread with one current-thread runtime, its own connections, its own connections to the
//! backend and its own counters. A request never leaves the thread that its connection was given to.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, Semaphore};

use crate::admission::{Admission, Place};
use crate::client::Verdicts;
use crate::connection::{self, Connection, Spare, Unread};
use crate::forward::{self, Backend};
use crate::leash::{Leash, Order};
use crate::live::Live;
use crate::telemetry::{Audit, Counters, Refusals, RequestIds, Tracer, Trials};

/// How often a worker tidies up.
const TIDY: Duration = Duration::from_secs(5);
/// How often what goes on is judged again, under a policy by which time alone can withdraw a grant.
const REVIEW: Duration = Duration::from_millis(500);

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The snapshot in force.
    pub live: Arc<ArcSwap<Live>>,
    /// The limits of the whole process.
    pub admission: Arc<Admission>,
    /// Where the backend is.
    pub backend: forward::Settings,
    /// What is known of its health.
    pub health: Arc<forward::Health>,
    /// Where audit records go.
    pub audit: Option<Audit>,
    /// Traces begin here, where they are asked for.
    pub tracer: Option<Tracer>,
    /// Connections that ended are told here.
    pub departures: Arc<Notify>,
}

/// One worker, as its connections see it.
pub struct Worker {
    /// The snapshot in force.
    pub live: Arc<ArcSwap<Live>>,
    /// The limits of the whole process.
    pub admission: Arc<Admission>,
    /// This worker's way to the backend.
    pub backend: Backend,
    /// This worker's verdict cache.
    pub verdicts: Verdicts,
    /// The turn to judge a long chain beside this worker's thread.
    pub judging: Semaphore,
    /// This worker's counters.
    pub counters: Counters,
    /// What trials on its traffic have shown.
    pub trials: Trials,
    /// Where audit records go.
    pub audit: Option<Audit>,
    /// Traces begin here, where they are asked for.
    pub tracer: Option<Tracer>,
    /// What frames of HTTP/2 are gathered in.
    pub spare: Arc<Spare>,
    /// Memory of answers that wait for their readers.
    pub unread: Unread,
    /// The last refusals.
    pub refusals: Refusals,
    /// Names for requests.
    pub ids: RequestIds,
    open: AtomicUsize,
    connections: Mutex<Connections>,
    departures: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Open>,
    /// What all of them were told, also those that still come.
    told: Option<Order>,
}

/// A connection that is open or on its way.
#[derive(Debug)]
struct Open {
    leash: Arc<Leash>,
    address: SocketAddr,
    since: Timestamp,
    /// Once its handshake is done.
    connection: Weak<Connection>,
}

impl Open {
    fn view(&self) -> connection::View {
        match self.connection.upgrade() {
            Some(connection) => connection.view(self.since),
            None => connection::View::in_handshake(self.address, self.since),
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("open", &self.open()).finish_non_exhaustive()
    }
}

/// A connection on its way to a worker.
#[derive(Debug)]
struct Arrival {
    socket: Arrived,
    address: SocketAddr,
    place: Place,
    leash: Arc<Leash>,
    number: u64,
}

/// A socket on its way to a worker.
#[derive(Debug)]
pub enum Arrived {
    /// From the worker's own thread, whose event loop watches it already.
    Watched(TcpStream),
    /// From another one.
    Plain(std::net::TcpStream),
}

impl Arrived {
    /// As this thread's event loop watches it.
    fn watched(self) -> io::Result<TcpStream> {
        match self {
            Self::Watched(socket) => Ok(socket),
            Self::Plain(socket) => TcpStream::from_std(socket),
        }
    }
}

/// A connection that its worker has begun to serve.
#[derive(Debug)]
pub struct Accepted {
    /// The peer.
    pub address: SocketAddr,
    /// Its number among the worker's connections.
    pub number: u64,
    /// Its place in the lobby.
    pub place: Place,
    /// How it is told to end.
    pub leash: Arc<Leash>,
}

/// A running worker, from outside.
#[derive(Debug)]
pub struct Handle {
    worker: Arc<Worker>,
    arrivals: UnboundedSender<Arrival>,
    runtime: tokio::runtime::Handle,
    thread: JoinHandle<()>,
}

impl Worker {
    fn new(shared: Shared) -> Self {
        Self {
            backend: Backend::new(shared.backend, Arc::clone(&shared.live), shared.health),
            live: shared.live,
            verdicts: Verdicts::new(Arc::clone(&shared.admission)),
            judging: Semaphore::new(1),
            admission: shared.admission,
            counters: Counters::default(),
            trials: Trials::default(),
            audit: shared.audit,
            tracer: shared.tracer,
            spare: Arc::default(),
            unread: Unread::default(),
            refusals: Refusals::default(),
            ids: RequestIds::new(),
            open: AtomicUsize::new(0),
            connections: Mutex::default(),
            departures: shared.departures,
        }
    }

    /// Connections that are open or on their way.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Nothing panics while it is held.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every connection on which something goes on judge it again.
    fn review(&self) {
        let connections = self.connections();
        let leashes = connections.open.values().map(|open| &open.leash);
        leashes.filter(|leash| leash.is_busy()).for_each(|leash| leash.look_again());
    }

    /// The handshake of that connection is done.
    pub fn introduce(&self, number: u64, connection: &Arc<Connection>) {
        if let Some(open) = self.connections().open.get_mut(&number) {
            open.connection = Arc::downgrade(connection);
        }
    }

    /// Every open connection, as it looks just now.
    pub fn views(&self) -> Vec<connection::View> {
        self.connections().open.values().map(Open::view).collect()
    }

    fn depart(&self, number: u64) {
        self.connections().open.remove(&number);
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.departures.notify_one();
    }
}

/// Starts a worker thread.
///
/// # Errors
/// No thread or no runtime could be made.
pub fn start(number: usize, shared: Shared) -> io::Result<Handle> {
    let worker = Arc::new(Worker::new(shared));
    let (arrivals, inbox) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (running, handle) = (Arc::clone(&worker), runtime.handle().clone());
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || runtime.block_on(work(running, inbox)))?;
    Ok(Handle { worker, arrivals, runtime: handle, thread })
}

async fn work(worker: Arc<Worker>, mut inbox: UnboundedReceiver<Arrival>) {
    let mut tidy = tokio::time::interval(TIDY);
    tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut review = tokio::time::interval(REVIEW);
    review.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            arrival = inbox.recv() => match arrival {
                Some(arrival) => welcome(&worker, arrival),
                None => return,
            },
            _ = tidy.tick() => {
                worker.backend.sweep();
                worker.verdicts.tidy(&worker.live.load());
            }
            _ = review.tick() => if worker.live.load().policy.depends_on_time() {
                worker.review();
            },
        }
    }
}

fn welcome(worker: &Arc<Worker>, arrival: Arrival) {
    let worker = Arc::clone(worker);
    let departure = Departure { worker: Arc::clone(&worker), number: arrival.number };
    // A socket that cannot be registered is closed here; its departure is counted all the same.
    let Ok(socket) = arrival.socket.watched() else { return };
    let accepted = Accepted {
        address: arrival.address,
        number: arrival.number,
        place: arrival.place,
        leash: arrival.leash,
    };
    let serving = connection::serve(worker, socket, accepted);
    tokio::spawn(async {
        let _departure = departure;
        serving.await;
    });
}

/// Counts a connection out, however it ends.
struct Departure {
    worker: Arc<Worker>,
    number: u64,
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.worker.depart(self.number);
    }
}

impl Handle {
    /// The worker.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Its event loop, and all that runs on its thread.
    pub const fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// Gives it a connection.
    pub fn give(&self, socket: Arrived, address: SocketAddr, place: Place, leash: Arc<Leash>) {
        let worker = &self.worker;
        worker.open.fetch_add(1, Ordering::Relaxed);
        let number = {
            let mut connections = worker.connections();
            if let Some(order) = connections.told {
                leash.give(order);
            }
            connections.next += 1;
            let number = connections.next;
            let (leash, since) = (Arc::clone(&leash), Timestamp::now());
            connections.open.insert(number, Open { leash, address, since, connection: Weak::new() });
            number
        };
        // A worker ends only after its last connection was given to it.
        if self.arrivals.send(Arrival { socket, address, place, leash, number }).is_err() {
            worker.depart(number);
        }
    }

    /// Gives an order to every connection, also to those that still come.
    pub fn tell_all(&self, order: Order) {
        let mut connections = self.worker.connections();
        connections.told = connections.told.max(Some(order));
        connections.open.values().for_each(|open| open.leash.give(order));
    }

    /// Has every connection judge again what goes on, under the snapshot that is in force now.
    pub fn review(&self) {
        self.worker.connections().open.values().for_each(|open| open.leash.look_again());
    }

    /// Ends the thread once its connections have ended.
    pub fn join(self) {
        drop(self.arrivals);
        // A worker that panicked has ended too.
        let _ = self.thread.join();
    }
}
