//! The running server, as the admin listener sees it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::time::Instant;

use super::status::{Expires, ShadowStatus, Status};
use crate::admission::{Admission, Bound};
use crate::forward::Health;
use crate::identity::Expiry;
use crate::live::{Live, ShadowPolicy};
use crate::proxy::listener::ListenerCounters;
use crate::proxy::session;
use crate::proxy::worker::WorkerHandle;
use crate::reload::{Asker, Attempt, History, Summary, Trigger};
use crate::stop::Order;
use crate::telemetry::{self, Counters, Dropped, Refused, Sample, Totals, Tracer, Trials};
use crate::version;

/// The running server.
pub(crate) struct Running {
    pub(crate) workers: Arc<[WorkerHandle]>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) live: Arc<ArcSwap<Live>>,
    pub(crate) listener: Arc<ListenerCounters>,
    pub(crate) ready: AtomicBool,
    pub(crate) health: Arc<Health>,
    pub(crate) readiness_needs_backend: bool,
    pub(crate) started: Instant,
    pub(crate) log_dropped: Option<Dropped>,
    pub(crate) audit_dropped: Option<Dropped>,
    pub(crate) tracer: Option<Tracer>,
    pub(crate) history: Arc<History>,
    pub(crate) reloads: Asker,
    pub(crate) past: telemetry::History,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Running {
    /// `true` if the readiness probe answers yes.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_serving() && (self.health.serves() || !self.readiness_needs_backend)
    }

    /// `true` if the sidecar itself serves, whatever the backend does.
    pub(crate) fn is_serving(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// The backend's health.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Number of connections without a slot that were closed for newer ones because of this bound.
    pub(crate) fn evicted(&self, bound: Bound) -> u64 {
        self.admission.lobby.evicted(bound)
    }

    /// The results of trials on live traffic, of each worker.
    pub(crate) fn trials(&self) -> impl Iterator<Item = &Trials> {
        self.workers.iter().map(|handle| &handle.services().trials)
    }

    /// The counters of each worker.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &Counters> + Clone {
        self.workers.iter().map(|handle| &handle.services().counters)
    }

    /// Certificates and CRLs that expire, in the snapshot in force.
    #[must_use]
    pub(crate) fn expiries(&self) -> Vec<Expiry> {
        self.live.load().expiries().collect()
    }

    /// Reads everything anew and puts it in force. Returns the result, or `None` if the server ends.
    pub(crate) async fn reload(&self) -> Option<Attempt> {
        self.reloads.ask_and_wait(Trigger::Request).await
    }

    fn shadow(&self, live: &Live) -> Option<ShadowStatus> {
        let ShadowPolicy { named, problems, .. } = live.shadow_policy.as_ref()?;
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

    pub(crate) fn order_all(&self, order: Order) {
        self.workers.iter().for_each(|handle| handle.order_all(order));
    }

    /// Returns the status.
    pub(crate) fn status(&self) -> Status {
        let dropped = |counter: &Option<Dropped>| counter.as_ref().map_or(0, Dropped::count);
        let live = self.live.load();
        Status {
            version: version::VERSION,
            commit: version::COMMIT,
            ready: self.is_ready(),
            uptime_seconds: self.started.elapsed().as_secs(),
            generation: live.generation,
            mode: live.mode,
            shadow: self.shadow(&live),
            workers: self.workers.len(),
            slots_used: self.admission.slots().used(),
            slots_limit: self.admission.slots().limit(),
            lobby: self.admission.lobby.len(),
            handshakes: self.admission.lobby.handshakes(),
            in_flight: self.admission.in_flight().in_flight(),
            in_flight_limit: self.admission.in_flight().places().limit(),
            queued: self.admission.in_flight().waiting(),
            backend: self.health.condition(),
            backend_idle_connections: self
                .workers
                .iter()
                .map(|handle| handle.services().backend.idle_connections())
                .sum(),
            turned_away: self.listener.turned_away(),
            accept_errors: self.listener.errors(),
            log_dropped: dropped(&self.log_dropped),
            audit_dropped: dropped(&self.audit_dropped),
            spans_dropped: self.tracer.as_ref().map_or(0, Tracer::dropped),
            reload: self.history.summary(),
            expires: self.expires(),
        }
    }

    /// The snapshot in force.
    #[must_use]
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The last refusals of all workers, the newest first.
    #[must_use]
    pub(crate) fn refusals(&self) -> Vec<Arc<Refused>> {
        let mut all: Vec<_> =
            self.workers.iter().flat_map(|handle| handle.services().refusals.all()).collect();
        all.sort_by_key(|refused| std::cmp::Reverse(refused.time));
        all
    }

    /// All open connections, the oldest first.
    #[must_use]
    pub(crate) fn connections(&self) -> Vec<session::View> {
        let mut all: Vec<_> = self.workers.iter().flat_map(|handle| handle.views()).collect();
        all.sort_by_key(|view| view.since);
        all
    }

    /// The last quarter of an hour.
    #[must_use]
    pub(crate) fn past(&self) -> &telemetry::History {
        &self.past
    }

    /// The outcomes of reloads.
    #[must_use]
    pub(crate) fn reloads(&self) -> Summary {
        self.history.summary()
    }

    /// Certificates and CRLs that expire, in the snapshot in force, the earliest first.
    #[must_use]
    pub(crate) fn expiring(&self) -> Vec<Expiry> {
        let mut all = self.expiries();
        all.sort_by_key(|expiry| expiry.until);
        all
    }

    fn sample(&self) -> Sample {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let in_flight = self.admission.in_flight();
        Sample {
            at: Timestamp::now(),
            slots_used: count(self.admission.slots().used()),
            lobby: count(self.admission.lobby.len()),
            in_flight: count(in_flight.places().used()),
            queued: count(in_flight.waiting()),
            ..Sample::default()
        }
    }
}

/// Takes a sample every second.
pub(crate) async fn observe(running: Arc<Running>) -> Infallible {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        running.past.add(running.sample(), Totals::of(running.counters()));
    }
}
