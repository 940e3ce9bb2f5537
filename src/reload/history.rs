//! Outcomes of reloads, part by part: logged once, counted, and kept for `/status`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde_json::Value;

use super::part::{Part, PerPart};
use crate::diagnostic::{Diagnostic, Severity};
use crate::digest::Digest;

/// Most attempts that are kept.
const MOST_KEPT: usize = 20;
/// Most diagnostics of one attempt that are kept.
const MOST_DIAGNOSTICS: usize = 100;
/// Most problems that are logged one by one; of further ones the log gives the number.
const MOST_LOGGED: usize = 20;

/// The trigger of a reload.
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

/// Outcome of a reload, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The content of the files is in force.
    Applied,
    /// The content of the files has a mistake; the last good content is still in force.
    Refused,
    /// A read hangs; the earlier content is still in force.
    Hanging,
}

/// Outcome of one part.
#[derive(Debug)]
pub(super) struct PartOutcome {
    pub(super) part: Part,
    pub(super) outcome: Outcome,
    /// Digest of the judged content; `None` while the read hangs.
    pub(super) of: Digest,
    /// Problems, or warnings about the content in force.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// `true` if requests are judged differently from now on.
    pub(super) is_new: bool,
}

/// Outcomes of all parts of one reload.
#[derive(Debug)]
pub(super) struct Verdicts {
    pub(super) trigger: Trigger,
    pub(super) generation: u64,
    pub(super) of_parts: Vec<PartOutcome>,
    pub(super) needs_restart: Vec<&'static str>,
}

/// One reload.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// The time of the decision.
    pub at: Timestamp,
    /// The trigger.
    pub trigger: Trigger,
    /// The worst outcome of its parts, the shadow policies left out.
    pub outcome: Outcome,
    /// The generation of the snapshot in force after it.
    pub generation: u64,
    /// Outcome of each part that was judged.
    pub parts: BTreeMap<Part, Outcome>,
    /// Problems, and warnings about the content in force, each with its part; the first hundred.
    pub diagnostics: Vec<Value>,
    /// Keys that were changed and stay as they are until the next start.
    pub needs_restart: Vec<&'static str>,
    /// Digest of the content that was refused: the same mistake in other files is news.
    #[serde(skip)]
    refused: Vec<(Part, Digest)>,
    /// `true` if another snapshot is in force after it.
    #[serde(skip)]
    has_news: bool,
}

impl Attempt {
    fn of(verdicts: &Verdicts, at: Timestamp) -> Self {
        let of_parts = &verdicts.of_parts;
        let essential = of_parts.iter().filter(|verdict| verdict.part.is_essential());
        let told = of_parts.iter().flat_map(|verdict| {
            verdict.diagnostics.iter().map(|diagnostic| json_of(verdict.part, diagnostic))
        });
        let refused = of_parts.iter().filter(|verdict| verdict.outcome != Outcome::Applied);
        Self {
            at,
            trigger: verdicts.trigger,
            outcome: essential.map(|verdict| verdict.outcome).max().unwrap_or(Outcome::Applied),
            generation: verdicts.generation,
            parts: of_parts.iter().map(|verdict| (verdict.part, verdict.outcome)).collect(),
            diagnostics: told.take(MOST_DIAGNOSTICS).collect(),
            needs_restart: verdicts.needs_restart.clone(),
            has_news: of_parts.iter().any(|it| it.is_new && it.outcome == Outcome::Applied),
            refused: refused.map(|verdict| (verdict.part, verdict.of)).collect(),
        }
    }

    /// `true` if another attempt reports the same: a mistake that persists is not logged again.
    fn repeats(&self, other: &Self) -> bool {
        !self.refused.is_empty() && !self.has_news && self.refused == other.refused
    }
}

/// A diagnostic, with the part that it belongs to.
fn json_of(part: Part, diagnostic: &Diagnostic) -> Value {
    let mut json = diagnostic.json();
    if let Value::Object(fields) = &mut json {
        fields.insert("part".to_owned(), part.name().into());
    }
    json
}

impl Verdicts {
    fn log(&self) {
        let trigger = self.trigger.name();
        // Warnings about content that was in force already are not reported with a mistake in another part.
        let is_good = self.of_parts.iter().all(|verdict| verdict.outcome == Outcome::Applied);
        let applied = self.of_parts.iter().filter(|verdict| verdict.outcome == Outcome::Applied);
        let applied = applied.filter(|verdict| is_good || verdict.is_new);
        let applied: Vec<_> = applied.map(|verdict| verdict.part.name()).collect();
        if !applied.is_empty() {
            tracing::info!(trigger, generation = self.generation, parts = applied.join(", "), "reloaded");
        }
        if applied.contains(&Part::Configuration.name()) && !self.needs_restart.is_empty() {
            let keys = self.needs_restart.join(", ");
            tracing::warn!(keys, "changed, and needs a restart to take effect");
        }
        self.of_parts.iter().for_each(|verdict| verdict.log(trigger, self.generation));
    }
}

impl PartOutcome {
    fn log(&self, trigger: &'static str, generation: u64) {
        let (part, problems) = (self.part.name(), self.diagnostics.len());
        if self.outcome == Outcome::Refused {
            let message = "not reloaded: what was in force before still is";
            tracing::error!(trigger, generation, part, problems, "{message}");
        }
        log_first(self.part, &self.diagnostics);
    }
}

/// Logs the problems of a part, up to a number.
fn log_first(part: Part, diagnostics: &[Diagnostic]) {
    diagnostics.iter().take(MOST_LOGGED).for_each(|diagnostic| log(part, diagnostic));
    let (part, problems) = (part.name(), diagnostics.len());
    if problems > MOST_LOGGED {
        tracing::warn!(
            part,
            problems,
            "only the first {MOST_LOGGED} are shown here; `sidegate doctor` shows all"
        );
    }
}

/// Logs a problem and its place.
fn log(part: Part, diagnostic: &Diagnostic) {
    let Diagnostic { severity, code, message, place, help, .. } = diagnostic;
    let place = place.as_ref().map(ToString::to_string);
    let (part, place, help) = (part.name(), place.as_deref(), help.as_deref());
    match severity {
        Severity::Error => tracing::error!(part, code = code.name(), place, help, "{message}"),
        Severity::Warning => tracing::warn!(part, code = code.name(), place, help, "{message}"),
    }
}

/// The outcomes of all reloads of a process.
#[derive(Debug, Default)]
pub struct History(Mutex<ReloadRecord>);

#[derive(Debug, Default)]
struct ReloadRecord {
    applied: u64,
    refused: u64,
    decided_at: Option<Timestamp>,
    applied_at: Option<Timestamp>,
    needs_restart: Vec<&'static str>,
    parts: PerPart<PartHistory>,
    recent: VecDeque<Attempt>,
}

/// The state of one part.
#[derive(Debug)]
struct PartHistory {
    outcome: Outcome,
    is_hanging: bool,
    decided_at: Option<Timestamp>,
    applied_at: Option<Timestamp>,
    counts: [u64; 2],
    diagnostics: Vec<Value>,
    read_at: Instant,
}

impl Default for PartHistory {
    fn default() -> Self {
        Self {
            outcome: Outcome::Applied,
            is_hanging: false,
            decided_at: None,
            applied_at: None,
            counts: [0; 2],
            diagnostics: Vec::new(),
            read_at: Instant::now(),
        }
    }
}

/// The history as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The content on disk is in force, for all parts but the shadow policies.
    pub success: bool,
    /// The time of the last decision.
    pub decided_at: Option<Timestamp>,
    /// The time at which a reload last put something in force.
    pub applied_at: Option<Timestamp>,
    /// Number of reloads that were put in force.
    pub applied: u64,
    /// Number of reloads with a refused part.
    pub refused: u64,
    /// Keys that were changed and keep their values until the next start.
    pub needs_restart: Vec<&'static str>,
    /// Seconds since the end of the last look that read every part.
    pub look_age_seconds: u64,
    /// State of each part.
    pub parts: PerPart<PartStatus>,
    /// The last attempts, the newest first.
    pub recent: Vec<Attempt>,
}

/// The state of one part, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PartStatus {
    /// The content on disk is in force.
    pub success: bool,
    /// Outcome of the content on disk; the last content that was applied is in force.
    pub state: Outcome,
    /// Instant of the last decision of a reload about the part, either way.
    pub decided_at: Option<Timestamp>,
    /// Instant at which a reload last put the part in force; `None` while the first content is.
    pub applied_at: Option<Timestamp>,
    /// Number of reloads that put the part in force.
    pub applied: u64,
    /// Number of reloads that refused the part.
    pub refused: u64,
    /// Seconds since the part was last read.
    pub look_age_seconds: u64,
    /// Problems of the part, or warnings about it; the first hundred.
    pub diagnostics: Vec<Value>,
}

impl PartHistory {
    fn note(&mut self, verdict: &PartOutcome, at: Timestamp) {
        let PartOutcome { part, outcome, diagnostics, .. } = verdict;
        let [applied, refused] = &mut self.counts;
        match outcome {
            // A read that hangs decides nothing.
            Outcome::Hanging => return,
            Outcome::Applied => (*applied, self.applied_at) = (*applied + 1, Some(at)),
            Outcome::Refused => *refused += 1,
        }
        (self.outcome, self.decided_at) = (*outcome, Some(at));
        let told = diagnostics.iter().take(MOST_DIAGNOSTICS);
        self.diagnostics = told.map(|diagnostic| json_of(*part, diagnostic)).collect();
    }

    const fn state(&self) -> Outcome {
        if self.is_hanging { Outcome::Hanging } else { self.outcome }
    }

    fn status(&self) -> PartStatus {
        let [applied, refused] = self.counts;
        PartStatus {
            success: self.state() == Outcome::Applied,
            state: self.state(),
            decided_at: self.decided_at,
            applied_at: self.applied_at,
            applied,
            refused,
            look_age_seconds: self.read_at.elapsed().as_secs(),
            diagnostics: self.diagnostics.clone(),
        }
    }

    /// Notes whether the part was read in a look, and logs a change of that.
    fn looked(&mut self, part: Part, is_read: bool) {
        let was_hanging = std::mem::replace(&mut self.is_hanging, !is_read);
        if is_read {
            self.read_at = Instant::now();
        }
        match (was_hanging, self.is_hanging) {
            (false, true) => tracing::error!(
                part = part.name(),
                help = "see whether the volume that it is on answers (`ls` there); the other parts are still followed",
                "reading does not come to an end: what was in force before still is"
            ),
            (true, false) => tracing::info!(part = part.name(), "reading has come to an end"),
            _ => {}
        }
    }
}

impl History {
    /// Notes a reload, and logs it unless the same was logged already.
    pub(super) fn add(&self, verdicts: &Verdicts) -> Attempt {
        let at = Timestamp::now();
        let attempt = Attempt::of(verdicts, at);
        let mut past = self.past();
        match attempt.outcome {
            Outcome::Applied => past.applied += 1,
            Outcome::Refused => past.refused += 1,
            Outcome::Hanging => {}
        }
        for verdict in &verdicts.of_parts {
            past.parts.of_mut(verdict.part).note(verdict, at);
        }
        past.decided_at = Some(at);
        if verdicts.of_parts.iter().any(|verdict| verdict.is_new) || attempt.outcome == Outcome::Applied {
            past.applied_at = Some(at);
        }
        past.needs_restart.clone_from(&attempt.needs_restart);
        if past.recent.front().is_none_or(|last| !attempt.repeats(last)) {
            verdicts.log();
            past.recent.push_front(attempt.clone());
            past.recent.truncate(MOST_KEPT);
        }
        attempt
    }

    /// Notes the state of a part at the start, and logs its diagnostics. Only a mistake in a shadow policy does not prevent
    /// the start.
    pub(super) fn begin(&self, part: Part, told: &[Diagnostic]) {
        log_first(part, told);
        let mut past = self.past();
        let part_past = past.parts.of_mut(part);
        let is_refused = told.iter().any(Diagnostic::is_error);
        part_past.outcome = if is_refused { Outcome::Refused } else { Outcome::Applied };
        part_past.diagnostics =
            told.iter().take(MOST_DIAGNOSTICS).map(|diagnostic| json_of(part, diagnostic)).collect();
    }

    /// Notes whether a part was read in a look.
    pub(super) fn looked(&self, part: Part, is_read: bool) {
        self.past().parts.of_mut(part).looked(part, is_read);
    }

    /// Returns the state for `/status`.
    pub fn summary(&self) -> Summary {
        let past = self.past();
        let parts = PerPart::from_fn(|part| past.parts.of(part).status());
        let success = parts.iter().all(|(part, status)| status.success || !part.is_essential());
        let look_age_seconds = parts.iter().map(|(_, status)| status.look_age_seconds).max().unwrap_or(0);
        Summary {
            success,
            decided_at: past.decided_at,
            applied_at: past.applied_at,
            applied: past.applied,
            refused: past.refused,
            needs_restart: past.needs_restart.clone(),
            look_age_seconds,
            parts,
            recent: past.recent.iter().cloned().collect(),
        }
    }

    fn past(&self) -> MutexGuard<'_, ReloadRecord> {
        self.0.lock()
    }
}
