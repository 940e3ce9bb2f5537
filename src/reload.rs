//! Look, read, check, build, swap: everything that a running server was started with is looked at again and again, and
//! where it changed, put in force as one whole. Any mistake leaves what was there running, and says so.
//!
//! What is compared is what the files hold, not when they were written: a mounted volume swaps a link, an editor
//! replaces the file, a rotation writes it in place. What has just changed is looked at twice before it is believed,
//! because whoever writes in place may be in the middle of it.

mod contents;
mod history;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::config::{Config, Override};
use crate::diagnostic::{Diagnostic, Source};
use crate::document::Budget;
use crate::files::{self, Accept};
use crate::live::Live;

use contents::{Contents, digest_of};
use snapshot::Moment;

pub use history::{Attempt, History, Outcome, Summary, Trigger};

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For so long what has changed must stay as it is before it is believed.
const SETTLE: Duration = Duration::from_millis(400);
/// More looks than this in a row are not waited for.
const MOST_LOOKS: usize = 20;
/// A key that does not fit its certificate, and an empty file, are in the middle of being replaced, until that lasts so
/// long.
const ROTATION: Duration = Duration::from_secs(10);

/// Where a configuration comes from: its file, and what was given beside it.
#[derive(Clone, Debug)]
pub struct Origin {
    file: PathBuf,
    overrides: Vec<Override>,
}

/// A configuration with everything that it names, ready to start with.
#[derive(Debug)]
pub struct Loaded {
    /// What the configuration says.
    pub config: Config,
    /// The first snapshot.
    pub live: Live,
    /// What is valid and probably not meant, or about to expire.
    pub warnings: Vec<Diagnostic>,
    /// What it was all read from.
    pub read: Read,
}

/// What a server was started with, to tell what changes from then on.
#[derive(Debug)]
pub struct Read {
    origin: Origin,
    seen: [u8; 32],
}

/// One look at everything: what it was, by a digest, and what it holds.
struct Look {
    seen: [u8; 32],
    found: Result<Found, Vec<Diagnostic>>,
    /// A file of it is empty: whoever writes in place begins with that.
    is_unfinished: bool,
}

/// A configuration that makes sense, and what it names.
struct Found {
    config: Config,
    contents: Contents,
    /// Keys that were changed and stay as they are until the next start.
    needs_restart: Vec<&'static str>,
}

/// What is ready to be put in force.
struct Built {
    config: Config,
    live: Live,
    warnings: Vec<Diagnostic>,
    needs_restart: Vec<&'static str>,
}

impl Origin {
    /// A configuration file; overrides win over it.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, overrides: &[Override]) -> Self {
        Self { file: file.into(), overrides: overrides.to_vec() }
    }

    /// Reads the configuration and everything that it names.
    ///
    /// # Errors
    /// Every problem found, each with its place.
    pub fn load(self) -> Result<Loaded, Vec<Diagnostic>> {
        let Look { seen, found, .. } = self.look(None);
        let Found { config, contents, .. } = found?;
        let moment = Moment { generation: 1, now: Timestamp::now(), before: None };
        let (live, warnings) = snapshot::build(&config, contents, moment)?;
        Ok(Loaded { config, live, warnings, read: Read { origin: self, seen } })
    }

    /// What a running server cannot change is left as it is there.
    fn look(&self, running: Option<&Config>) -> Look {
        let source = match self.source() {
            Ok(source) => source,
            Err(problem) => {
                let seen = digest_of(&problem);
                return Look { seen, found: Err(vec![problem]), is_unfinished: false };
            }
        };
        let folder = self.file.parent().unwrap_or(Path::new(""));
        match Config::build(&source, folder, &self.overrides) {
            Ok(mut config) => {
                let needs_restart =
                    running.map(|running| config.keep_until_restart(running)).unwrap_or_default();
                let contents = Contents::read(&config);
                let seen = digest_of(&(source, &contents));
                let is_unfinished = contents.has_empty_file();
                Look { seen, found: Ok(Found { config, contents, needs_restart }), is_unfinished }
            }
            Err(problems) => Look {
                seen: digest_of(&source),
                found: Err(problems),
                is_unfinished: source.text().is_empty(),
            },
        }
    }

    fn source(&self) -> Result<Arc<Source>, Diagnostic> {
        let name = self.file.display().to_string();
        let problem = |error: String| {
            Diagnostic::error("file", format!("cannot read the configuration `{name}`: {error}"))
                .help("name a regular file with --config FILE; README.md has one to start from")
        };
        let bytes = files::read(&self.file, Budget::CONFIGURATION.bytes as u64, Accept::Regular);
        let bytes = bytes.map_err(|error| problem(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| problem(error.to_string()))?;
        Ok(Source::new(name, text))
    }
}

/// Puts a snapshot in force, with the limits that do not stand in it.
pub type Swap = Box<dyn Fn(Live, &Config) + Send>;

/// Looks, and puts in force what it finds, on a thread of its own: no request waits for a file.
pub struct Reloader {
    origin: Origin,
    /// What was last judged, to be put in force or not.
    seen: [u8; 32],
    /// What is in force.
    config: Config,
    live: Arc<ArcSwap<Live>>,
    swap: Swap,
    history: Arc<History>,
    /// Since when something is in the middle of being replaced.
    rotating: Option<Instant>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Asks a running [`Reloader`] to look now.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<Ask>);

#[derive(Debug)]
struct Ask {
    trigger: Trigger,
    reply: Option<oneshot::Sender<Attempt>>,
}

impl Asker {
    /// Has everything read and put in force, changed or not, and does not wait for it.
    pub fn ask(&self, trigger: Trigger) {
        // Without a reloader there is nothing to reload.
        let _ = self.0.send(Ask { trigger, reply: None });
    }

    /// Has everything read and put in force, changed or not; tells what came of it, or nothing where the server ends.
    pub async fn ask_and_wait(&self, trigger: Trigger) -> Option<Attempt> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask { trigger, reply: Some(reply) }).ok()?;
        answer.await.ok()
    }
}

impl Reloader {
    /// Goes on from what a server was started with. `live` is what it judges by, and `swap` changes that.
    pub fn new(
        read: Read,
        config: Config,
        live: Arc<ArcSwap<Live>>,
        history: Arc<History>,
        swap: Swap,
    ) -> Self {
        let Read { origin, seen } = read;
        Self { origin, seen, config, live, swap, history, rotating: None }
    }

    /// Starts its thread, which goes on until the last asker is dropped.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(self) -> std::io::Result<Asker> {
        let (asker, asks) = mpsc::channel();
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || self.run(&asks))?;
        Ok(Asker(asker))
    }

    fn run(mut self, asks: &Receiver<Ask>) {
        loop {
            match asks.recv_timeout(LOOK_EVERY) {
                Ok(Ask { trigger, reply }) => {
                    // Who asks says by that that everything is as it should be.
                    let Look { seen, found, .. } = self.look();
                    let built = self.built(found);
                    let attempt = self.conclude(trigger, seen, built);
                    // Who does not wait any more need not know.
                    let _ = reply.map(|reply| reply.send(attempt));
                }
                Err(RecvTimeoutError::Timeout) => self.look_for_changes(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look_for_changes(&mut self) {
        let mut look = self.look();
        if look.seen != self.seen {
            look = self.settled(look);
        }
        // It may have been changed back meanwhile.
        if look.seen == self.seen {
            self.rotating = None;
            return;
        }
        let built = self.built(look.found);
        let is_in_the_middle =
            look.is_unfinished || built.as_ref().is_err_and(|problems| is_rotation(problems));
        // Then the next look tells, unless this lasts.
        if is_in_the_middle && self.rotating.get_or_insert_with(Instant::now).elapsed() < ROTATION {
            return;
        }
        self.conclude(Trigger::Change, look.seen, built);
    }

    fn look(&self) -> Look {
        self.origin.look(Some(&self.config))
    }

    /// The first look that gives the same as the one before it.
    fn settled(&self, mut look: Look) -> Look {
        for _ in 0..MOST_LOOKS {
            std::thread::sleep(SETTLE);
            let again = self.look();
            if again.seen == look.seen {
                return again;
            }
            look = again;
        }
        let message = "what was read changes again and again";
        let help = "write files under another name first, then rename them: that is seen as one change";
        let found = Err(vec![Diagnostic::error("unsettled", message).help(help)]);
        Look { seen: look.seen, found, is_unfinished: false }
    }

    fn built(&self, found: Result<Found, Vec<Diagnostic>>) -> Result<Built, Vec<Diagnostic>> {
        let Found { config, contents, needs_restart } = found?;
        let before = self.live.load();
        let moment =
            Moment { generation: before.generation + 1, now: Timestamp::now(), before: Some(&before) };
        let (live, warnings) = snapshot::build(&config, contents, moment)?;
        Ok(Built { config, live, warnings, needs_restart })
    }

    /// Puts in force what could be built, and says what came of it.
    fn conclude(
        &mut self,
        trigger: Trigger,
        seen: [u8; 32],
        built: Result<Built, Vec<Diagnostic>>,
    ) -> Attempt {
        self.seen = seen;
        self.rotating = None;
        let (outcome, diagnostics, needs_restart) = match built {
            Ok(Built { config, live, warnings, needs_restart }) => {
                (self.swap)(live, &config);
                self.config = config;
                (Outcome::Applied, warnings, needs_restart)
            }
            Err(problems) => (Outcome::Refused, problems, Vec::new()),
        };
        let attempt = Attempt {
            at: Timestamp::now(),
            trigger,
            outcome,
            generation: self.live.load().generation,
            diagnostics: Vec::new(),
            needs_restart,
        };
        self.history.add(attempt, &diagnostics)
    }
}

/// Whether a key and its certificate are being replaced one after the other.
fn is_rotation(problems: &[Diagnostic]) -> bool {
    problems.iter().all(|problem| problem.code == snapshot::KEY_MISMATCH)
}
