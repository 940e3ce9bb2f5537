//! Services: what the requests of one worker share.

mod spare_buffer;
mod unread_memory;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::admission::Admission;
use crate::forward::{self, Backend};
use crate::live::Live;
use crate::proxy::client::Verdicts;
use crate::telemetry::{Audit, Counters, FailedHandshakes, Refusals, RequestIds, Tracer, Trials};

pub use spare_buffer::SpareBuffer;
pub use unread_memory::UnreadMemory;

/// Parts that all workers of the process share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The snapshot in force.
    pub live: Arc<ArcSwap<Live>>,
    /// The limits of the whole process.
    pub admission: Arc<Admission>,
    /// The backend's location and protocol.
    pub backend: forward::Settings,
    /// The backend's health, as all workers know it.
    pub health: Arc<forward::Health>,
    /// The sink of audit records.
    pub audit: Option<Audit>,
    /// The beginning of traces, where traces are configured.
    pub tracer: Option<Tracer>,
}

/// Parts that the requests of one worker share.
pub struct Services {
    /// The snapshot in force.
    pub live: Arc<ArcSwap<Live>>,
    /// The limits of the whole process.
    pub admission: Arc<Admission>,
    /// This worker's connections to the backend.
    pub backend: Backend,
    /// This worker's verdict cache.
    pub verdicts: Verdicts,
    /// The turn to judge a long chain beside this worker's thread.
    pub judging: Arc<Semaphore>,
    /// The lines of the log about failed handshakes.
    pub failed_handshakes: FailedHandshakes,
    /// This worker's counters.
    pub counters: Counters,
    /// Results of trials (audit mode, shadow policies) on this worker's traffic.
    pub trials: Trials,
    /// The sink of audit records.
    pub audit: Option<Audit>,
    /// The beginning of traces, where traces are configured.
    pub tracer: Option<Tracer>,
    /// The buffer in which frames of HTTP/2 are gathered.
    pub spare: Arc<SpareBuffer>,
    /// Memory of answers that wait for clients to read them.
    pub unread: UnreadMemory,
    /// The last refusals.
    pub refusals: Refusals,
    /// The source of request ids.
    pub ids: RequestIds,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    /// Returns the services of a new worker.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        let backend = Backend::new(shared.backend, &shared.live.load().backend, shared.health);
        Self {
            backend,
            live: shared.live,
            verdicts: Verdicts::new(Arc::clone(&shared.admission)),
            judging: Arc::new(Semaphore::new(1)),
            failed_handshakes: FailedHandshakes::default(),
            admission: shared.admission,
            counters: Counters::default(),
            trials: Trials::default(),
            audit: shared.audit,
            tracer: shared.tracer,
            spare: Arc::default(),
            unread: UnreadMemory::default(),
            refusals: Refusals::default(),
            ids: RequestIds::new(),
        }
    }

    /// Drops what has been idle or out of date for long. The worker calls this every few seconds.
    pub fn tidy(&self) {
        let live = self.live.load();
        self.backend.sweep(&live.backend);
        self.verdicts.tidy(&live);
    }
}
