//! Accepting: each connection is given a place in the lobby and handed to the least loaded worker. When descriptors
//! run out, accepting backs off and says so; it never spins and never ends.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use crate::admission::Lobby;
use crate::leash::Leash;
use crate::worker::{Arrived, Handle};

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when it fails for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// The worker on whose thread connections are accepted.
pub const OWN: usize = 0;
/// How often sources are forgotten at most, while there are too many of them.
const SWEEP: Duration = Duration::from_secs(1);

/// Binds the main port.
///
/// # Errors
/// The address is in use, not ours, or not allowed to us.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What happened at the door.
#[derive(Debug, Default)]
pub struct DoorCounters {
    turned_away: AtomicU64,
    errors: AtomicU64,
}

impl DoorCounters {
    /// Connections closed before TLS because their source came too often.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Connections that could not be accepted.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Accepts until it is dropped; dropping it closes the port. To be run on the thread of the first worker: where it is the
/// only one, no connection goes from thread to thread before it is served.
///
/// # Errors
/// The listener cannot be watched by this runtime.
pub async fn accept(
    listener: TcpListener,
    lobby: Arc<Lobby>,
    workers: Arc<[Handle]>,
    counters: Arc<DoorCounters>,
) -> io::Result<std::convert::Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut swept = tokio::time::Instant::now();
    loop {
        match listener.accept().await {
            Ok((socket, address)) => hand_over(socket, address, &lobby, &workers, &counters),
            // The client went away before it was accepted.
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if counters.errors.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
                    tracing::error!(%error, "cannot accept connections; trying again in {BACK_OFF:?}");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
        if lobby.wants_sweep() && swept.elapsed() > SWEEP {
            lobby.sweep();
            swept = tokio::time::Instant::now();
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn hand_over(
    socket: TcpStream,
    address: SocketAddr,
    lobby: &Arc<Lobby>,
    workers: &[Handle],
    counters: &DoorCounters,
) {
    if !lobby.may_knock(address.ip()) {
        counters.turned_away.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // Answers are whole when they are written; waiting for more only adds delay.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let least = workers.iter().enumerate().min_by_key(|(_, handle)| handle.worker().open());
    let Some((number, worker)) = least else { return };
    let socket = match number {
        OWN => Ok(Arrived::Watched(socket)),
        // Given back by this thread's event loop: its worker's will watch it.
        _ => socket.into_std().map(Arrived::Plain),
    };
    if let Ok(socket) = socket {
        let leash = Arc::new(Leash::default());
        let place = lobby.enter(address.ip(), Arc::clone(&leash));
        worker.give(socket, address, place, leash);
    }
}
