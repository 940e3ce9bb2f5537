//! Workers: each is one thread with one current-thread runtime, its own connections, its own connections to the backend and
//! its own counters. A request never leaves the thread that its connection was given to.

mod registry;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Interval, MissedTickBehavior};

use crate::admission::LobbyPlace;
use crate::proxy::serve::{self, Accepted};
use crate::proxy::services::{Services, Shared};
use crate::proxy::session;
use crate::stop::{Order, StopSignal};

use registry::{Departure, Registry};

/// Time between two clean-ups of a worker's caches and pools.
const TIDY: Duration = Duration::from_secs(5);
/// Time between two judgements of what is in progress, under a policy by which time alone can withdraw a grant.
const REVIEW: Duration = Duration::from_millis(500);

/// A connection on its way to a worker.
#[derive(Debug)]
struct Arrival {
    socket: ArrivingSocket,
    accepted: Accepted,
    departure: Departure,
}

/// A socket on its way to a worker.
#[derive(Debug)]
pub(crate) enum ArrivingSocket {
    /// A socket from the worker's own thread, which its event loop watches already.
    Registered(TcpStream),
    /// A socket from another thread.
    Unregistered(std::net::TcpStream),
}

impl ArrivingSocket {
    /// The socket as this thread's event loop watches it.
    fn registered(self) -> io::Result<TcpStream> {
        match self {
            Self::Registered(socket) => Ok(socket),
            Self::Unregistered(socket) => TcpStream::from_std(socket),
        }
    }
}

/// A running worker, from outside.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    services: Arc<Services>,
    registry: Arc<Registry>,
    arrivals: UnboundedSender<Arrival>,
    runtime: tokio::runtime::Handle,
}

/// Starts a worker thread. `departures` is notified at the end of each connection.
///
/// # Errors
/// The operating system gives no thread, or no event loop.
pub(crate) fn start(number: usize, shared: Shared, departures: Arc<Notify>) -> io::Result<WorkerHandle> {
    let services = Arc::new(Services::new(shared));
    let registry = Arc::new(Registry::new(departures));
    let (arrivals, inbox) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let running = run(Arc::clone(&services), Arc::clone(&registry), inbox);
    // The thread is not joined: it ends with the process, once its connections have ended or the drain timeout is over.
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || runtime.block_on(running))?;
    Ok(WorkerHandle { services, registry, arrivals, runtime: handle })
}

async fn run(services: Arc<Services>, registry: Arc<Registry>, mut inbox: UnboundedReceiver<Arrival>) {
    let (mut tidy, mut review) = (every(TIDY), every(REVIEW));
    loop {
        tokio::select! {
            arrival = inbox.recv() => match arrival {
                Some(arrival) => start_serving(&services, arrival),
                None => return,
            },
            _ = tidy.tick() => services.tidy(),
            _ = review.tick() => if services.live.load().policy.depends_on_time() {
                registry.review_busy();
            },
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn start_serving(services: &Arc<Services>, arrival: Arrival) {
    let Arrival { socket, accepted, departure } = arrival;
    // A socket that cannot be registered is closed here; dropping `departure` counts its end all the same.
    let Ok(socket) = socket.registered() else { return };
    let serving = serve::serve(Arc::clone(services), socket, accepted);
    tokio::spawn(async {
        let _departure = departure;
        serving.await;
    });
}

impl WorkerHandle {
    /// The services of this worker.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Number of connections that are open or on their way to this worker.
    pub(crate) fn open(&self) -> usize {
        self.registry.open()
    }

    /// Views of all open connections, as they are now.
    pub(crate) fn views(&self) -> Vec<session::View> {
        self.registry.views()
    }

    /// The event loop of this worker; what is spawned there runs on its thread.
    pub(crate) const fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// Gives the worker a connection.
    pub(crate) fn give(
        &self,
        socket: ArrivingSocket,
        address: SocketAddr,
        place: LobbyPlace,
        stop: Arc<StopSignal>,
    ) {
        let (departure, established) = self.registry.add(address, &stop);
        let accepted = Accepted { address, place, stop, established };
        // A worker that has ended (its thread panicked) gives the arrival back, and dropping it counts the departure.
        let _ = self.arrivals.send(Arrival { socket, accepted, departure });
    }

    /// Gives an order to every connection, also to those that come later.
    pub(crate) fn order_all(&self, order: Order) {
        self.registry.order_all(order);
    }

    /// Requests that every connection judges again what is in progress, under the snapshot in force now.
    pub(crate) fn review(&self) {
        self.registry.review_all();
    }
}
