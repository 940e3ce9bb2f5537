//! What came of reloads: said in the log once, counted, and kept for `/status`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Severity};

/// More attempts than this are not kept.
const MOST_KEPT: usize = 20;
/// More diagnostics of one attempt than this are not kept.
const MOST_DIAGNOSTICS: usize = 100;
/// Of more problems than this the log gives the number.
const MOST_LOGGED: usize = 20;

/// What a reload was begun by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A file changed.
    Change,
    /// SIGHUP.
    Signal,
    /// `POST /reload`.
    Request,
}

impl Trigger {
    const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Signal => "signal",
            Self::Request => "request",
        }
    }
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// There is a mistake in it; what was in force before still is.
    Refused,
}

/// One reload.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// When it was decided.
    pub at: Timestamp,
    /// What it was begun by.
    pub trigger: Trigger,
    /// What came of it.
    pub outcome: Outcome,
    /// The snapshot that is in force after it.
    pub generation: u64,
    /// Its problems, or the warnings about what is in force; the first hundred.
    pub diagnostics: Vec<Value>,
    /// Keys that were changed and stay as they are until the next start.
    pub needs_restart: Vec<&'static str>,
}

impl Attempt {
    /// Whether it says the same as another: a mistake that is still there is no news.
    fn repeats(&self, other: &Self) -> bool {
        let is_refused = |attempt: &Self| attempt.outcome == Outcome::Refused;
        is_refused(self) && is_refused(other) && self.diagnostics == other.diagnostics
    }

    fn log(&self, diagnostics: &[Diagnostic]) {
        let Self { trigger, generation, needs_restart, .. } = self;
        let problems = diagnostics.len();
        match self.outcome {
            Outcome::Applied => tracing::info!(trigger = trigger.name(), generation, "reloaded"),
            Outcome::Refused => tracing::error!(
                trigger = trigger.name(),
                generation,
                problems,
                "not reloaded: what was in force before still is"
            ),
        }
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            tracing::warn!(keys, "changed, and needs a restart to take effect");
        }
        diagnostics.iter().take(MOST_LOGGED).for_each(log);
        if problems > MOST_LOGGED {
            tracing::warn!(
                problems,
                "only the first {MOST_LOGGED} are shown here; `sidegate doctor` shows all"
            );
        }
    }
}

/// Says in the log what is wrong with something, and where.
fn log(diagnostic: &Diagnostic) {
    let Diagnostic { severity, code, message, place, help, .. } = diagnostic;
    let place = place.as_ref().map(ToString::to_string);
    let (place, help) = (place.as_deref(), help.as_deref());
    match severity {
        Severity::Error => tracing::error!(code, place, help, "{message}"),
        Severity::Warning => tracing::warn!(code, place, help, "{message}"),
    }
}

/// What came of the reloads of a process.
#[derive(Debug, Default)]
pub struct History(Mutex<Past>);

#[derive(Debug, Default)]
struct Past {
    applied: u64,
    refused: u64,
    decided_at: Option<Timestamp>,
    recent: VecDeque<Attempt>,
}

/// The history as `/status` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Whether the last reload was applied, or there was none.
    pub success: bool,
    /// When the last reload was decided, this way or the other.
    pub decided_at: Option<Timestamp>,
    /// When something was last put in force by a reload.
    pub applied_at: Option<Timestamp>,
    /// Reloads that were put in force.
    pub applied: u64,
    /// Reloads that were not.
    pub refused: u64,
    /// Keys that were changed and stay as they are until the next start.
    pub needs_restart: Vec<&'static str>,
    /// The last ones, the newest first.
    pub recent: Vec<Attempt>,
}

impl History {
    /// Notes a reload, and says it in the log unless it was said already.
    pub(super) fn add(&self, mut attempt: Attempt, diagnostics: &[Diagnostic]) -> Attempt {
        attempt.diagnostics = diagnostics.iter().take(MOST_DIAGNOSTICS).map(Diagnostic::json).collect();
        let mut past = self.past();
        match attempt.outcome {
            Outcome::Applied => past.applied += 1,
            Outcome::Refused => past.refused += 1,
        }
        past.decided_at = Some(attempt.at);
        if past.recent.front().is_none_or(|last| !attempt.repeats(last)) {
            attempt.log(diagnostics);
            past.recent.push_front(attempt.clone());
            past.recent.truncate(MOST_KEPT);
        }
        attempt
    }

    /// As it stands.
    pub fn summary(&self) -> Summary {
        let past = self.past();
        let recent: Vec<Attempt> = past.recent.iter().cloned().collect();
        let applied = recent.iter().find(|attempt| attempt.outcome == Outcome::Applied);
        Summary {
            success: recent.first().is_none_or(|last| last.outcome == Outcome::Applied),
            decided_at: past.decided_at,
            applied_at: applied.map(|attempt| attempt.at),
            applied: past.applied,
            refused: past.refused,
            needs_restart: applied.map(|attempt| attempt.needs_restart.clone()).unwrap_or_default(),
            recent,
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // Nothing panics while it is held; if it did, the numbers would still stand.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
