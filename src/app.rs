//! Wires everything once: configuration → snapshot → workers, listener, admin. Owns the end as well.

mod export;
mod sight;
mod signals;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing_appender::non_blocking::WorkerGuard;

use crate::admission::{Admission, Bound};
use crate::config::Config;
use crate::forward::{self, Backend, Check, Health};
use crate::identity::Expiry;
use crate::leash::Order;
use crate::listener::{self, DoorCounters};
use crate::live::{Live, Tried};
use crate::reload::{Asker, Attempt, History, Loaded, Reloader, Summary, Swap, Trigger};
use crate::telemetry::{Audit, Counted, Counters, Differed, Dropped, Tracer, Trials};
use crate::worker::{self, Handle, Shared};
use crate::{admin, telemetry, version};

pub use signals::signals;

/// A server that runs, as the admin listener sees it.
pub struct Running {
    workers: Arc<[Handle]>,
    admission: Arc<Admission>,
    live: Arc<ArcSwap<Live>>,
    door: Arc<DoorCounters>,
    ready: AtomicBool,
    health: Arc<Health>,
    readiness_needs_backend: bool,
    started: Instant,
    log_dropped: Option<Dropped>,
    audit_dropped: Option<Dropped>,
    tracer: Option<Tracer>,
    history: Arc<History>,
    reloads: Asker,
    past: telemetry::History,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("census", &self.census()).finish_non_exhaustive()
    }
}

/// How things stand, in numbers: `/status`, and what metrics are made of.
#[derive(Clone, Debug, Serialize)]
pub struct Census {
    /// The version of the program.
    pub version: &'static str,
    /// The commit that it was built from.
    pub commit: &'static str,
    /// Whether the readiness probe answers yes.
    pub ready: bool,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Counts the snapshots of policy and trust that were put in force.
    pub generation: u64,
    /// What becomes of what the policy denies: `enforce` or `audit`.
    pub mode: &'static str,
    /// The policy that is tried beside it, if one is.
    pub shadow: Option<ShadowStatus>,
    /// Worker threads.
    pub workers: usize,
    /// Connection slots that are taken.
    pub slots_used: usize,
    /// Connection slots that there are.
    pub slots_limit: usize,
    /// Connections without a slot.
    pub lobby: usize,
    /// Those of them that are in their TLS handshake.
    pub handshakes: usize,
    /// Requests that the backend is working on.
    pub in_flight: usize,
    /// How many there may be.
    pub in_flight_limit: usize,
    /// Requests that wait for a place among them.
    pub queued: usize,
    /// How the backend is: untried, up, failing, down or unwell.
    pub backend: &'static str,
    /// Idle connections to the backend.
    pub backend_idle_connections: usize,
    /// Connections closed before TLS because their source came too often.
    pub turned_away: u64,
    /// Connections that could not be accepted.
    pub accept_errors: u64,
    /// Log lines that were dropped.
    pub log_dropped: u64,
    /// Audit records that were dropped.
    pub audit_dropped: u64,
    /// Spans that were dropped.
    pub spans_dropped: u64,
    /// What came of reloads.
    pub reload: Summary,
    /// What expires, the first first.
    pub expires: Vec<Expires>,
}

/// A policy that is tried beside the one in force, and what that has shown.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowStatus {
    /// How the configuration names it.
    pub policies: String,
    /// Mistakes in what was read last; with any, what was judged before still is.
    pub problems: usize,
    /// Since when it is judged beside this very policy; nothing where it never could be.
    pub since: Option<Timestamp>,
    /// Where the two differed since then, by the rule that makes the difference.
    pub differences: Vec<Counted>,
    /// The last of these, the newest first.
    pub recent: Vec<Differed>,
}

/// One thing that expires, and when.
#[derive(Clone, Debug, Serialize)]
pub struct Expires {
    /// `server`, `ca` or `crl`.
    pub kind: &'static str,
    /// The file that it came from.
    pub file: String,
    /// Its subject; of a CRL, its issuer.
    pub name: String,
    /// Until when it is valid.
    pub until: Timestamp,
    /// Seconds until then; negative afterwards.
    pub seconds_left: i64,
}

impl Running {
    /// Whether the readiness probe answers yes.
    pub fn is_ready(&self) -> bool {
        self.is_serving() && (self.health.serves() || !self.readiness_needs_backend)
    }

    /// Whether the sidecar itself serves, whatever the backend does.
    pub fn is_serving(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// What is known of the backend's health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Connections without a slot that were closed for newer ones, by the bound.
    pub fn evicted(&self, bound: Bound) -> u64 {
        self.admission.lobby.evicted(bound)
    }

    /// What trials on live traffic have shown, of each worker.
    pub fn trials(&self) -> impl Iterator<Item = &Trials> {
        self.workers.iter().map(|handle| &handle.worker().trials)
    }

    /// The counters of each worker.
    pub fn counters(&self) -> impl Iterator<Item = &Counters> + Clone {
        self.workers.iter().map(|handle| &handle.worker().counters)
    }

    /// What expires of the snapshot that is in force.
    #[must_use]
    pub fn expiries(&self) -> Vec<Expiry> {
        self.live.load().expiries().collect()
    }

    /// Reads everything anew and puts it in force; tells what came of it, or nothing where the server ends.
    pub async fn reload(&self) -> Option<Attempt> {
        self.reloads.ask_and_wait(Trigger::Request).await
    }

    fn shadow(&self, live: &Live) -> Option<ShadowStatus> {
        let Tried { named, problems, .. } = live.tried.as_ref()?;
        let since = live.shadow().map(|shadow| shadow.since);
        let shown = since.map(|since| Trials::since(self.trials(), since));
        let (differences, recent) = shown.unwrap_or_default();
        Some(ShadowStatus { policies: named.clone(), problems: *problems, since, differences, recent })
    }

    fn expires(&self) -> Vec<Expires> {
        let now = Timestamp::now();
        let mut all: Vec<_> = self.live.load().expiries().map(|expiry| Expires::of(expiry, now)).collect();
        all.sort_by_key(|expires| expires.until);
        all
    }

    fn tell_all(&self, order: Order) {
        self.workers.iter().for_each(|handle| handle.tell_all(order));
    }

    /// How things stand.
    pub fn census(&self) -> Census {
        let dropped = |counter: &Option<Dropped>| counter.as_ref().map_or(0, Dropped::count);
        let live = self.live.load();
        Census {
            version: version::VERSION,
            commit: version::COMMIT,
            ready: self.is_ready(),
            uptime_seconds: self.started.elapsed().as_secs(),
            generation: live.generation,
            mode: live.mode.name(),
            shadow: self.shadow(&live),
            workers: self.workers.len(),
            slots_used: self.admission.slots().used(),
            slots_limit: self.admission.slots().limit(),
            lobby: self.admission.lobby.len(),
            handshakes: self.admission.lobby.handshakes(),
            in_flight: self.admission.in_flight().in_flight(),
            in_flight_limit: self.admission.in_flight().places().limit(),
            queued: self.admission.in_flight().waiting(),
            backend: self.health.condition().name(),
            backend_idle_connections: self
                .workers
                .iter()
                .map(|handle| handle.worker().backend.idle_connections())
                .sum(),
            turned_away: self.door.turned_away(),
            accept_errors: self.door.errors(),
            log_dropped: dropped(&self.log_dropped),
            audit_dropped: dropped(&self.audit_dropped),
            spans_dropped: self.tracer.as_ref().map_or(0, Tracer::dropped),
            reload: self.history.summary(),
            expires: self.expires(),
        }
    }
}

impl Expires {
    fn of(expiry: Expiry, now: Timestamp) -> Self {
        let seconds_left = expiry.until.duration_since(now).as_secs();
        let Expiry { kind, file, name, until, .. } = expiry;
        Self { kind: kind.name(), file, name, until, seconds_left }
    }
}

/// A server whose ports are bound and which is not yet serving.
#[derive(Debug)]
pub struct App {
    running: Arc<Running>,
    listener: std::net::TcpListener,
    admin: Option<std::net::TcpListener>,
    departures: Arc<Notify>,
    /// SIGHUP and SIGUSR1, heard from before the ports are bound: one that nobody expects would end the process.
    hangups: Signal,
    rotations: Signal,
    audit: Option<Audit>,
    export: Option<export::Export>,
    /// The backend, where it is asked whether it is well.
    checked: Option<(Backend, Check)>,
    _audit: Option<WorkerGuard>,
}

/// What cannot be done at start, with what to do about it.
#[derive(Debug)]
pub struct StartError {
    /// What was tried.
    pub what: String,
    /// What came of it.
    pub error: io::Error,
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for StartError {}

/// How a server is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By somebody at a keyboard: no grace, just drain.
    Interrupt,
    /// By an orchestrator, which may still send new connections for a moment.
    Terminate,
}

impl App {
    /// Binds the ports and starts the workers. To be called in a runtime.
    ///
    /// # Errors
    /// A port, a thread or the audit file that cannot be had.
    pub fn start(loaded: Loaded, log_dropped: Option<Dropped>) -> Result<Self, StartError> {
        let failed = |what: String| move |error| StartError { what, error };
        let hangups = signal(SignalKind::hangup()).map_err(failed("cannot listen to signals".to_owned()))?;
        let Loaded { config, live, read, .. } = loaded;
        let listener =
            listener::bind(config.listen).map_err(failed(format!("cannot listen on {}", config.listen)))?;
        let admin = config
            .admin
            .map(|address| {
                admin::bind(address).map_err(failed(format!("cannot listen on {address} (admin)")))
            })
            .transpose()?;
        let (audit, guard) = Audit::open(&config.audit, config.keeping)
            .map_err(failed(format!("cannot write audit records to {:?}", config.audit)))?
            .unzip();
        let audit_dropped = audit.as_ref().map(Audit::dropped);
        let rotations =
            signal(SignalKind::user_defined1()).map_err(failed("cannot listen to signals".to_owned()))?;
        let (tracer, export) = export::begin(config.tracing.as_ref()).unzip();
        let shared = Shared {
            live: Arc::new(ArcSwap::from_pointee(live)),
            admission: Arc::new(Admission::new(config.admission())),
            backend: config.backend.clone(),
            health: Arc::new(Health::new(config.backend.breaker, config.backend.check.as_ref())),
            audit: audit.clone(),
            tracer: tracer.clone(),
            departures: Arc::new(Notify::new()),
        };
        let workers = (0..config.workers)
            .map(|number| worker::start(number, shared.clone()))
            .collect::<io::Result<Arc<[_]>>>()
            .map_err(failed("cannot start a worker thread".to_owned()))?;
        let checked = config.backend.check.clone().map(|check| {
            let (live, health) = (Arc::clone(&shared.live), Arc::clone(&shared.health));
            (Backend::new(config.backend.clone(), live, health), check)
        });
        let readiness_needs_backend = config.readiness_needs_backend;
        let history = Arc::new(History::default());
        let swap = swap(&shared, &workers);
        let reloader = Reloader::new(read, config, Arc::clone(&shared.live), Arc::clone(&history), swap);
        let reloads = reloader.start().map_err(failed("cannot start the thread that reloads".to_owned()))?;
        let running = Running {
            workers,
            admission: shared.admission,
            live: Arc::clone(&shared.live),
            door: Arc::default(),
            ready: AtomicBool::new(false),
            health: Arc::clone(&shared.health),
            readiness_needs_backend,
            started: Instant::now(),
            log_dropped,
            audit_dropped,
            tracer,
            history,
            reloads,
            past: telemetry::History::default(),
        };
        Ok(Self {
            running: Arc::new(running),
            checked,
            listener,
            admin,
            departures: shared.departures,
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
    /// The kernel does not say.
    pub fn listen_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of the admin port.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop` says how to end, and then until what runs has finished or `drain_timeout` is over; an
    /// `abort` ends that at once.
    ///
    /// # Errors
    /// A port that cannot be watched.
    pub async fn serve(
        self,
        stop: impl Future<Output = Stop>,
        abort: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let running = Arc::clone(&self.running);
        if let Some(admin) = self.admin {
            let admin = tokio::net::TcpListener::from_std(admin)?;
            tokio::spawn(admin::serve(admin, Arc::clone(&running)));
        }
        if let Some((backend, check)) = self.checked {
            tokio::spawn(forward::watch(backend, check));
        }
        tokio::spawn(warn_ahead(Arc::clone(&running)));
        tokio::spawn(sight::observe(Arc::clone(&running)));
        let exporting = self.export.map(export::Export::start);
        tokio::spawn(signals::reopen_at(self.rotations, self.audit.clone()));
        tokio::spawn(signals::reload_at(self.hangups, running.reloads.clone(), self.audit));
        tokio::spawn(Arc::clone(&running.admission).keep_tidy());
        let lobby = Arc::clone(&running.admission.lobby);
        let workers = Arc::clone(&running.workers);
        let accepting = listener::accept(self.listener, lobby, workers, Arc::clone(&running.door));
        let mut door = JoinSet::new();
        if let Some(own) = running.workers.get(listener::OWN) {
            door.spawn_on(accepting, own.runtime());
        }
        running.ready.store(true, Ordering::Relaxed);
        let stop = tokio::select! {
            failed = closed(&mut door) => return Err(failed),
            stop = stop => stop,
        };
        running.ready.store(false, Ordering::Relaxed);
        let drain_timeout = running.live.load().drain_timeout;
        let deadline = Instant::now() + drain_timeout;
        tracing::info!(?drain_timeout, "stopping");
        let drain = async {
            if stop == Stop::Terminate {
                running.tell_all(Order::WindDown);
                let _ = tokio::time::timeout(grace(drain_timeout), closed(&mut door)).await;
            }
            door.shutdown().await;
            running.tell_all(Order::Finish);
            let _ = timeout_at(deadline, all_departed(&running, &self.departures)).await;
        };
        tokio::select! {
            () = drain => {}
            () = abort => tracing::warn!("ending at once, asked a second time"),
        }
        running.tell_all(Order::Close);
        let _ =
            tokio::time::timeout(Duration::from_millis(500), all_departed(&running, &self.departures)).await;
        if let Some(exporting) = exporting {
            exporting.finish().await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Puts a snapshot in force: for whatever comes from now on, and for what goes on, which is judged again by it at once.
fn swap(shared: &Shared, workers: &Arc<[Handle]>) -> Swap {
    let (live, admission) = (Arc::clone(&shared.live), Arc::clone(&shared.admission));
    let (workers, audit) = (Arc::clone(workers), shared.audit.clone());
    Box::new(move |next, config| {
        audit.iter().for_each(|audit| audit.keep(config.keeping));
        admission.set_limits(config.admission());
        live.store(Arc::new(next));
        workers.iter().for_each(Handle::review);
    })
}

/// How often it is looked whether something is about to expire.
const EXPIRY_WARNINGS: Duration = Duration::from_secs(60 * 60);

/// Says every hour what has expired or is about to, and which parts on disk are not in force. The first time is said when
/// it happens.
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

/// Why nothing is accepted any more.
async fn closed(door: &mut JoinSet<io::Result<Infallible>>) -> io::Error {
    match door.join_next().await {
        Some(Ok(Err(failed))) => failed,
        Some(Err(failed)) => failed.into(),
        Some(Ok(Ok(never))) => match never {},
        None => io::Error::other("there is no worker"),
    }
}

/// For how long new connections are still accepted after an orchestrator's signal: whoever routes to us learns of it
/// with a delay, and a refused connection is an error that nobody deserves.
fn grace(drain_timeout: Duration) -> Duration {
    (drain_timeout / 5).min(Duration::from_secs(5))
}

async fn all_departed(running: &Running, departures: &Notify) {
    loop {
        let departure = departures.notified();
        if running.workers.iter().all(|handle| handle.worker().open() == 0) {
            return;
        }
        departure.await;
    }
}

/// Starts the process's log as configured.
#[must_use]
pub fn start_log(config: &Config) -> telemetry::Log {
    telemetry::Log::start(config.log_level, config.log_format)
}
