//! The listener: each accepted connection gets a place in the lobby and goes to the worker with the fewest connections. When
//! descriptors run out, accepting pauses and says so; it never spins and never ends.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::admission::Lobby;
use crate::proxy::worker::{ArrivingSocket, WorkerHandle};
use crate::stop::StopSignal;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// Pause after a failure to accept, for example for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Number of the worker on whose thread connections are accepted.
pub(crate) const ACCEPTING_WORKER: usize = 0;
/// Time without a byte after which a client is asked whether it is still there, and time between two such questions (TCP).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// Least time between two sweeps of the rate limiter's sources, while there are too many of them.
const SWEEP: Duration = Duration::from_secs(1);

/// Binds the main port.
///
/// # Errors
/// The address is in use, not ours, or not allowed to us.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // The accepted sockets inherit it: a client that vanished without a word is noticed also where a route has no time limit.
    socket
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Counters of the listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    turned_away: AtomicU64,
    errors: AtomicU64,
}

impl ListenerCounters {
    /// Connections closed before TLS because their source came too often.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Connections that could not be accepted.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Accepts connections until the future is dropped, which closes the port. It runs on the thread of the first worker: if that
/// is the only one, no connection goes from thread to thread before it is served.
///
/// # Errors
/// The listener cannot be watched by this runtime.
pub(crate) async fn accept(
    listener: TcpListener,
    lobby: Arc<Lobby>,
    workers: Arc<[WorkerHandle]>,
    counters: Arc<ListenerCounters>,
) -> io::Result<std::convert::Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut swept = tokio::time::Instant::now();
    loop {
        match listener.accept().await {
            Ok((socket, address)) => hand_over(socket, address, &lobby, &workers, &counters),
            // The client went away before it was accepted.
            Err(error) if concerns_one_connection(&error) => {}
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

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn hand_over(
    socket: TcpStream,
    address: SocketAddr,
    lobby: &Arc<Lobby>,
    workers: &[WorkerHandle],
    counters: &ListenerCounters,
) {
    if !lobby.allows_rate_of(address.ip()) {
        counters.turned_away.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // Answers are whole when they are written; waiting for more only adds delay.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let least = workers.iter().enumerate().min_by_key(|(_, handle)| handle.open());
    let Some((number, worker)) = least else { return };
    let socket = match number {
        ACCEPTING_WORKER => Ok(ArrivingSocket::Registered(socket)),
        // This thread's event loop gives the socket back; the worker's own will watch it.
        _ => socket.into_std().map(ArrivingSocket::Unregistered),
    };
    if let Ok(socket) = socket {
        let stop = Arc::new(StopSignal::default());
        let place = lobby.enter(address.ip(), Arc::clone(&stop));
        worker.give(socket, address, place, stop);
    }
}
