//! What of a running server the page and its API look at, beyond the census.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Running;
use crate::connection;
use crate::identity::Expiry;
use crate::live::Live;
use crate::reload::Summary;
use crate::telemetry::{self, Refused, Sample, Totals};

impl Running {
    /// The snapshot in force.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The last refusals of all workers, the newest first.
    #[must_use]
    pub fn refusals(&self) -> Vec<Arc<Refused>> {
        let mut all: Vec<_> = self.workers.iter().flat_map(|handle| handle.worker().refusals.all()).collect();
        all.sort_by_key(|refused| std::cmp::Reverse(refused.time));
        all
    }

    /// All open connections, the oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<connection::View> {
        let mut all: Vec<_> = self.workers.iter().flat_map(|handle| handle.worker().views()).collect();
        all.sort_by_key(|view| view.since);
        all
    }

    /// The last quarter of an hour.
    #[must_use]
    pub fn past(&self) -> &telemetry::History {
        &self.past
    }

    /// What came of reloads.
    #[must_use]
    pub fn reloads(&self) -> Summary {
        self.history.summary()
    }

    /// What expires of the snapshot in force, the first first.
    #[must_use]
    pub fn expiring(&self) -> Vec<Expiry> {
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
pub(super) async fn observe(running: Arc<Running>) -> Infallible {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        running.past.add(running.sample(), Totals::of(running.counters()));
    }
}
