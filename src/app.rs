//! The process: it wires configuration, snapshot, workers, listener and admin listener together, and ends them in order.

mod export;
pub(crate) mod descriptors;
mod signals;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing_appender::non_blocking::WorkerGuard;

use crate::admin::Running;
use crate::admission::Admission;
use crate::config::Config;
use crate::forward::{self, Backend, Check, Health};
use crate::proxy::listener;
use crate::proxy::services::Shared;
use crate::proxy::worker::{self, WorkerHandle};
use crate::reload::{History, Loaded, Reloader, Swap};
use crate::stop::Order;
use crate::telemetry::{Audit, Dropped};
use crate::{admin, telemetry};

pub(crate) use signals::signals;

/// A server whose ports are bound and which does not serve yet.
#[derive(Debug)]
pub(crate) struct App {
    running: Arc<Running>,
    listener: std::net::TcpListener,
    admin: Option<std::net::TcpListener>,
    departures: Arc<Notify>,
    /// SIGHUP and SIGUSR1, received from before the ports are bound: without a handler they would end the process.
    hangups: Signal,
    rotations: Signal,
    audit: Option<Audit>,
    export: Option<export::Export>,
    /// The backend and its health check, if one is configured.
    checked: Option<(Backend, Check)>,
    _audit: Option<WorkerGuard>,
}

/// The reason why the process cannot start, with its remedy.
#[derive(Debug)]
pub(crate) struct StartError {
    /// The action that failed.
    pub what: String,
    /// The error of the operating system.
    pub error: io::Error,
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for StartError {}

/// The way in which a server is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// By a person at a keyboard: the port closes at once.
    Interrupt,
    /// By an orchestrator, which may still send new connections for a moment.
    Terminate,
}

impl App {
    /// Binds the ports and starts the workers. It must be called in a runtime.
    ///
    /// # Errors
    /// A port, a thread or the audit file is not available.
    pub(crate) fn start(loaded: Loaded, log_dropped: Option<Dropped>) -> Result<Self, StartError> {
        let hangups = signal(SignalKind::hangup()).map_err(failed("cannot listen to signals"))?;
        signals::survive_file_size_limit().map_err(failed("cannot listen to signals"))?;
        let Loaded { config, live, read, .. } = loaded;
        let (listener, admin) = bind_ports(&config)?;
        let (audit, guard) = Audit::open(&config.audit, config.keeping)
            .map_err(failed(format!("cannot write audit records to {:?}", config.audit)))?
            .unzip();
        let rotations = signal(SignalKind::user_defined1()).map_err(failed("cannot listen to signals"))?;
        let (tracer, export) = export::begin(config.tracing.as_ref()).unzip();
        let shared = Shared {
            live: Arc::new(ArcSwap::from_pointee(live)),
            admission: Arc::new(Admission::new(config.admission())),
            backend: config.backend.clone(),
            health: Arc::new(Health::new(config.backend.breaker, config.backend.check.as_ref())),
            audit: audit.clone(),
            tracer: tracer.clone(),
        };
        let departures = Arc::new(Notify::new());
        let workers = start_workers(config.workers, &shared, &departures)?;
        let checked = checked_backend(&config, &shared);
        let readiness_needs_backend = config.readiness_needs_backend;
        let history = Arc::new(History::default());
        let swap = swap(&shared, &workers);
        let reloader = Reloader::new(read, config, Arc::clone(&shared.live), Arc::clone(&history), swap);
        let reloads = reloader.start().map_err(failed("cannot start the thread that reloads"))?;
        let running = Running {
            workers,
            admission: shared.admission,
            live: shared.live,
            listener: Arc::default(),
            ready: AtomicBool::new(false),
            health: shared.health,
            readiness_needs_backend,
            started: Instant::now(),
            log_dropped,
            audit_dropped: audit.as_ref().map(Audit::dropped),
            tracer,
            history,
            reloads,
            past: telemetry::History::default(),
        };
        let running = Arc::new(running);
        Ok(Self {
            running,
            checked,
            listener,
            admin,
            departures,
            hangups,
            rotations,
            audit,
            export,
            _audit: guard,
        })
    }

    /// The address of the main port.
    ///
    /// # Errors
    /// The operating system does not tell the address.
    pub(crate) fn listen_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of the admin port.
    #[must_use]
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop` resolves, and then until requests in progress have finished or `drain_timeout` is over; `abort`
    /// ends that at once.
    ///
    /// # Errors
    /// A port cannot be watched.
    pub(crate) async fn serve(
        self,
        stop: impl Future<Output = Stop>,
        abort: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let mut serving = self.start_tasks()?;
        let running = Arc::clone(&serving.running);
        running.ready.store(true, Ordering::Relaxed);
        let stop = tokio::select! {
            failed = closed(&mut serving.accepting) => return Err(failed),
            stop = stop => stop,
        };
        running.ready.store(false, Ordering::Relaxed);
        serving.end(stop, abort).await;
        Ok(())
    }

    /// Starts everything that runs beside the workers.
    fn start_tasks(self) -> io::Result<Serving> {
        let running = self.running;
        if let Some(admin) = self.admin {
            let admin = tokio::net::TcpListener::from_std(admin)?;
            tokio::spawn(admin::serve(admin, Arc::clone(&running)));
        }
        if let Some((backend, check)) = self.checked {
            let live = Arc::clone(&running.live);
            tokio::spawn(forward::watch(backend, check, move || Arc::clone(&live.load().backend)));
        }
        tokio::spawn(warn_ahead(Arc::clone(&running)));
        tokio::spawn(admin::observe(Arc::clone(&running)));
        let exporting = self.export.map(export::Export::start);
        tokio::spawn(signals::reopen_at(self.rotations, self.audit.clone()));
        tokio::spawn(signals::reload_at(self.hangups, running.reloads.clone(), self.audit));
        tokio::spawn(Arc::clone(&running.admission).sweep_regularly());
        let lobby = Arc::clone(&running.admission.lobby);
        let workers = Arc::clone(&running.workers);
        let listening = listener::accept(self.listener, lobby, workers, Arc::clone(&running.listener));
        let mut accepting = JoinSet::new();
        if let Some(own) = running.workers.get(listener::ACCEPTING_WORKER) {
            accepting.spawn_on(listening, own.runtime());
        }
        Ok(Serving { running, accepting, departures: self.departures, exporting, _audit: self._audit })
    }
}

/// A server that serves.
struct Serving {
    running: Arc<Running>,
    /// The task that accepts connections.
    accepting: JoinSet<io::Result<Infallible>>,
    departures: Arc<Notify>,
    exporting: Option<export::Exporting>,
    _audit: Option<WorkerGuard>,
}

impl Serving {
    /// Ends in order: new connections are refused, requests in progress finish, and what is left is closed.
    async fn end(mut self, stop: Stop, abort: impl Future<Output = ()>) {
        let drain_timeout = self.running.live.load().drain_timeout;
        tracing::info!(?drain_timeout, "stopping");
        tokio::select! {
            () = self.drain(stop, drain_timeout) => {}
            () = abort => tracing::warn!("ending at once, asked a second time"),
        }
        self.running.order_all(Order::Close);
        let closed = all_departed(&self.running, &self.departures);
        let _ = tokio::time::timeout(Duration::from_millis(500), closed).await;
        if let Some(exporting) = self.exporting {
            exporting.finish().await;
        }
        tracing::info!("stopped");
    }

    /// Waits for requests in progress, for no longer than `drain_timeout` in all.
    async fn drain(&mut self, stop: Stop, drain_timeout: Duration) {
        let deadline = Instant::now() + drain_timeout;
        if stop == Stop::Terminate {
            self.running.order_all(Order::WindDown);
            let _ = tokio::time::timeout(grace(drain_timeout), closed(&mut self.accepting)).await;
        }
        self.accepting.shutdown().await;
        self.running.order_all(Order::Finish);
        // Clients of HTTP/2 that always have a request in progress are told before the end to send no more.
        let told = deadline - last_part(drain_timeout);
        if timeout_at(told, all_departed(&self.running, &self.departures)).await.is_err() {
            self.running.order_all(Order::FinishNow);
            let _ = timeout_at(deadline, all_departed(&self.running, &self.departures)).await;
        }
    }
}

/// Returns the error of an action that failed.
fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |error| StartError { what, error }
}

/// Binds the main port, and the admin port if there is one.
fn bind_ports(config: &Config) -> Result<(std::net::TcpListener, Option<std::net::TcpListener>), StartError> {
    let address = config.listen;
    let listener = listener::bind(address).map_err(failed(format!("cannot listen on {address}")))?;
    let bind_admin =
        |address| admin::bind(address).map_err(failed(format!("cannot listen on {address} (admin)")));
    Ok((listener, config.admin.map(bind_admin).transpose()?))
}

fn start_workers(
    count: usize,
    shared: &Shared,
    departures: &Arc<Notify>,
) -> Result<Arc<[WorkerHandle]>, StartError> {
    let workers = (0..count).map(|number| worker::start(number, shared.clone(), Arc::clone(departures)));
    workers.collect::<io::Result<_>>().map_err(failed("cannot start a worker thread"))
}

/// The backend and its health check, if one is configured.
fn checked_backend(config: &Config, shared: &Shared) -> Option<(Backend, Check)> {
    let check = config.backend.check.clone()?;
    let terms = &shared.live.load().backend;
    Some((Backend::new(config.backend.clone(), terms, Arc::clone(&shared.health)), check))
}

/// Returns the function that puts a snapshot in force, for later requests and for requests in progress, which are judged
/// again at once.
fn swap(shared: &Shared, workers: &Arc<[WorkerHandle]>) -> Swap {
    let (live, admission) = (Arc::clone(&shared.live), Arc::clone(&shared.admission));
    let (workers, audit) = (Arc::clone(workers), shared.audit.clone());
    Box::new(move |next, config| {
        audit.iter().for_each(|audit| audit.keep(config.keeping));
        admission.set_limits(config.admission());
        live.store(Arc::new(next));
        workers.iter().for_each(WorkerHandle::review);
    })
}

/// Time between two warnings about what expires.
const EXPIRY_WARNINGS: Duration = Duration::from_secs(60 * 60);

/// Warns every hour of what has expired or is about to, and of parts on disk that are not in force. The first warning is
/// given when the fact is found.
async fn warn_ahead(running: Arc<Running>) -> Infallible {
    loop {
        tokio::time::sleep(EXPIRY_WARNINGS).await;
        let now = Timestamp::now();
        for warning in running.expiries().iter().filter_map(|expiry| expiry.warning(now)) {
            tracing::warn!(code = warning.code.name(), help = warning.help.as_deref(), "{}", warning.message);
        }
        for (part, _) in running.reloads().parts.iter().filter(|(_, status)| !status.success) {
            let part = part.name();
            tracing::error!(part, "what is on disk is still not in force; see `/status`");
        }
    }
}

/// The reason why no connection is accepted any more.
async fn closed(door: &mut JoinSet<io::Result<Infallible>>) -> io::Error {
    match door.join_next().await {
        Some(Ok(Err(failed))) => failed,
        Some(Err(failed)) => failed.into(),
        Some(Ok(Ok(never))) => match never {},
        None => io::Error::other("there is no worker"),
    }
}

/// Returns the last part of the time for a stop, in which HTTP/2 connections with requests in progress are told to end.
fn last_part(drain_timeout: Duration) -> Duration {
    (drain_timeout / 4).min(Duration::from_secs(3))
}

/// Time for which new connections are still accepted after an orchestrator's signal: load balancers learn of it with a delay,
/// and a refused connection would be an error for a client.
fn grace(drain_timeout: Duration) -> Duration {
    (drain_timeout / 5).min(Duration::from_secs(5))
}

async fn all_departed(running: &Running, departures: &Notify) {
    loop {
        let departure = departures.notified();
        if running.workers.iter().all(|handle| handle.open() == 0) {
            return;
        }
        departure.await;
    }
}

/// Starts the log of the process as configured.
#[must_use]
pub(crate) fn start_log(config: &Config) -> telemetry::Log {
    telemetry::Log::start(config.log_level, config.log_format)
}
