//! Reloads: all files are read again and again, and content that has changed is checked, built and put in force, part by
//! part, each as one whole. A mistake in a part leaves the last good content of that part in force, is reported, and keeps no
//! other part from coming into force.
//!
//! Content is compared, not time stamps: a mounted volume swaps a link, an editor replaces the file, a rotation writes it in
//! place. Content that has just changed must be the same in the next look before it is believed, because a program may still
//! be writing.
//!
//! A configuration comes into force together with the files that it newly names. A part whose new files cannot be used stays
//! as it was, together with the settings with which it was made.

mod contents;
pub mod files;
mod history;
mod part;
pub mod policy_files;
mod readers;
mod snapshot;
pub mod trust_files;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::config::{Config, Override};
use crate::diagnostic::{Code, Diagnostic, Source};
use crate::document::Budget;
use crate::live::Live;
use crate::secret;

use files::AcceptedKinds;

use contents::{Material, Reading, settings_of};
use history::{PartOutcome, Verdicts};
use readers::{Late, Readers};
use snapshot::{Moment, Pieces};
use watch::{LookResult, Watch};

pub use history::{Attempt, History, Outcome, PartStatus, Summary, Trigger};
pub use part::{Part, PerPart};

/// Time between two looks at all files.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Time for which changed content must stay the same before it is believed.
const SETTLE: Duration = Duration::from_millis(400);
/// Time limit for the first read in a look that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for the first read that hangs at the start, where nothing is in force yet.
const PATIENCE_AT_START: Duration = Duration::from_secs(10);

/// The origin of a configuration: its file, and the values given beside it.
#[derive(Clone, Debug)]
pub struct Origin {
    file: PathBuf,
    overrides: Vec<Override>,
}

/// A configuration with everything that it names, ready to start with.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The first snapshot.
    pub live: Live,
    /// Warnings about valid content: probably not meant, or about to expire.
    pub warnings: Vec<Diagnostic>,
    /// The content that everything was made of.
    pub read: Read,
}

/// The content with which a server was started, to find later changes.
pub struct Read {
    origin: Origin,
    readers: Readers,
    pieces: Pieces,
    watches: PerPart<Watch>,
    /// Diagnostics of each part at the start: warnings, and mistakes in a shadow policy, which do not prevent the start.
    told: PerPart<Vec<Diagnostic>>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Origin {
    /// Returns the origin of a configuration file; overrides take precedence over it.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, overrides: &[Override]) -> Self {
        Self { file: file.into(), overrides: overrides.to_vec() }
    }

    /// Reads the configuration and everything that it names.
    ///
    /// # Errors
    /// Every problem of every part, each with its place.
    pub fn load(self) -> Result<Loaded, Vec<Diagnostic>> {
        let mut readers = Readers::new(PATIENCE_AT_START);
        let configuration = self.read(&mut readers).ok_or_else(|| vec![hanging(Part::Configuration)])?;
        let config = Arc::new(self.parse(&configuration)?);
        let (pieces, watches) = (Pieces::default(), PerPart::default());
        let read = Read { origin: self, readers, pieces, watches, told: PerPart::default() };
        read.load(config, configuration)
    }

    /// Reads the configuration's file; `None` while the read hangs.
    fn read(&self, readers: &mut Readers) -> Option<Reading> {
        let (file, settings) = (self.file.clone(), [0; 32]);
        readers.read(Part::Configuration, settings, move || {
            let source = read_source(&file).map_err(|problem| vec![problem]);
            Reading::new(settings, Material::Configuration(source))
        })
    }

    fn parse(&self, configuration: &Reading) -> Result<Config, Vec<Diagnostic>> {
        let Material::Configuration(source) = &configuration.material else { return Err(Vec::new()) };
        let source = source.as_ref().map_err(Clone::clone)?;
        Config::build(source, self.file.parent().unwrap_or(Path::new("")), &self.overrides)
    }
}

fn read_source(file: &Path) -> Result<Arc<Source>, Diagnostic> {
    let name = file.display().to_string();
    let problem = |error: String| {
        Diagnostic::error(Code::File, format!("cannot read the configuration `{name}`: {error}"))
            .help("name a regular file with --config FILE; README.md has one to start from")
    };
    let bytes = files::read(file, Budget::CONFIGURATION.bytes as u64, AcceptedKinds::Regular);
    let bytes = bytes.map_err(|error| problem(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| problem(error.to_string()))?;
    let source = Source::new(name, text);
    secret::refuse_secret_document(&source)?;
    Ok(source)
}

/// Reads the files that the configuration names for a part; `None` while the read hangs.
fn read_part(readers: &mut Readers, part: Part, config: &Arc<Config>) -> Option<Reading> {
    let config = Arc::clone(config);
    readers.read(part, settings_of(part, &config), move || Reading::of(part, &config))
}

impl Read {
    fn load(mut self, config: Arc<Config>, configuration: Reading) -> Result<Loaded, Vec<Diagnostic>> {
        let moment = Moment { generation: 1, now: Timestamp::now() };
        let mut problems = Vec::new();
        let mut configuration = Some(configuration);
        for part in Part::ALL {
            let reading = configuration.take().or_else(|| read_part(&mut self.readers, part, &config));
            let told = match self.take_over(part, reading, &config, moment) {
                Err(found) if part.is_essential() => {
                    problems.extend(found);
                    Vec::new()
                }
                Ok(found) | Err(found) => found,
            };
            let expiring = self.pieces.expiring(part, &config, moment.now);
            *self.told.of_mut(part) = told.into_iter().chain(expiring).collect();
        }
        let warnings = self.told.iter().flat_map(|(_, told)| told.iter().cloned()).collect();
        let live = self.pieces.live(&config, moment.generation).filter(|_| problems.is_empty());
        let live = live.ok_or(problems)?;
        Ok(Loaded { config: (*config).clone(), live, warnings, read: self })
    }

    fn take_over(
        &mut self,
        part: Part,
        reading: Option<Reading>,
        config: &Config,
        moment: Moment,
    ) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let Some(Reading { of, material, .. }) = reading else { return Err(vec![hanging(part)]) };
        let watch = self.watches.of_mut(part);
        watch.refused(of);
        let warnings = self.pieces.take_over(material, config, moment)?;
        watch.applied(of, warnings.clone());
        Ok(warnings)
    }
}

/// The problem of a part whose read hangs.
fn hanging(part: Part) -> Diagnostic {
    let message = format!("reading the files of `{}` does not come to an end", part.name());
    let help = "see whether the volume that they are on answers (`ls` there)";
    Diagnostic::error(Code::Hanging, message).help(help)
}

/// Puts a snapshot in force, with the limits that are not in it.
pub type Swap = Box<dyn Fn(Live, &Config) + Send>;

/// The reloader: it looks at the files and puts their content in force, on a thread of its own, so that no request waits for
/// a file.
pub struct Reloader {
    origin: Origin,
    readers: Readers,
    watches: PerPart<Watch>,
    /// The configuration in force.
    config: Arc<Config>,
    pieces: Pieces,
    needs_restart: Vec<&'static str>,
    live: Arc<ArcSwap<Live>>,
    swap: Swap,
    history: Arc<History>,
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
    /// Requests that everything is read and put in force, changed or not, and does not wait.
    pub fn ask(&self, trigger: Trigger) {
        // Without a reloader there is nothing to reload.
        let _ = self.0.send(Ask { trigger, reply: None });
    }

    /// Has everything read and put in force, changed or not. Returns the result, or `None` if the server ends.
    pub async fn ask_and_wait(&self, trigger: Trigger) -> Option<Attempt> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask { trigger, reply: Some(reply) }).ok()?;
        answer.await.ok()
    }
}

/// One look at every part.
struct Look {
    trigger: Trigger,
    moment: Moment,
    /// The configuration that is in force after this look, if the one on disk is valid.
    config: Arc<Config>,
    /// The problems of the configuration on disk, if it is not valid.
    mistakes: Vec<Diagnostic>,
    needs_restart: Vec<&'static str>,
    readings: PerPart<Option<Reading>>,
    seen: PerPart<LookResult>,
    pieces: Pieces,
}

impl Reloader {
    /// Returns a reloader that goes on from the content with which the server was started. `swap` puts a snapshot in force in
    /// `live`.
    pub fn new(
        read: Read,
        config: Config,
        live: Arc<ArcSwap<Live>>,
        history: Arc<History>,
        swap: Swap,
    ) -> Self {
        let Read { origin, readers, pieces, watches, told } = read;
        told.iter().for_each(|(part, told)| history.begin(part, told));
        let (config, needs_restart) = (Arc::new(config), Vec::new());
        Self { origin, readers, watches, config, pieces, needs_restart, live, swap, history }
    }

    /// Starts the thread, which runs until the last asker is dropped.
    ///
    /// # Errors
    /// No further thread can be started.
    pub fn start(self) -> std::io::Result<Asker> {
        let (asker, asks) = mpsc::channel();
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || self.run(&asks))?;
        Ok(Asker(asker))
    }

    fn run(mut self, asks: &Receiver<Ask>) {
        let mut pause = LOOK_EVERY;
        loop {
            let Ask { trigger, reply } = match asks.recv_timeout(pause) {
                Ok(ask) => ask,
                Err(RecvTimeoutError::Timeout) => Ask { trigger: Trigger::Change, reply: None },
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let look = self.look(trigger);
            let is_changing = look.seen.iter().any(|(_, seen)| *seen == LookResult::Changing);
            pause = if is_changing { SETTLE } else { LOOK_EVERY };
            let attempt = self.judge(look);
            if let Some((reply, attempt)) = reply.zip(attempt) {
                // A caller that has stopped waiting gets no answer.
                drop(reply.send(attempt));
            }
        }
    }

    /// Reads every part, as the configuration on disk names it if that is valid.
    fn look(&mut self, trigger: Trigger) -> Look {
        let is_forced = trigger != Trigger::Change;
        self.readers.begin(READ_TIMEOUT, if is_forced { Late::IsDropped } else { Late::Counts });
        let mut readings = PerPart::default();
        let configuration = self.origin.read(&mut self.readers);
        let (config, needs_restart, mistakes) = self.next_config(configuration.as_ref());
        *readings.of_mut(Part::Configuration) = configuration;
        for part in Part::of_files() {
            *readings.of_mut(part) = read_part(&mut self.readers, part, &config);
        }
        let seen = PerPart::from_fn(|part| {
            let of = readings.of(part).as_ref().map(|reading| reading.of);
            self.history.looked(part, of.is_some());
            self.watches.of_mut(part).observe(of, is_forced)
        });
        let moment = Moment { generation: self.live.load().generation + 1, now: Timestamp::now() };
        let pieces = self.pieces.clone();
        Look { trigger, moment, config, mistakes, needs_restart, readings, seen, pieces }
    }

    /// The configuration on disk, with the changes that need a restart; the one in force, with the problems, if that on disk
    /// is not valid.
    fn next_config(&self, reading: Option<&Reading>) -> (Arc<Config>, Vec<&'static str>, Vec<Diagnostic>) {
        let in_force = || (Arc::clone(&self.config), self.needs_restart.clone());
        let watch = self.watches.of(Part::Configuration);
        let Some(reading) = reading.filter(|reading| !watch.is_in_force(reading.of)) else {
            let (config, needs_restart) = in_force();
            return (config, needs_restart, Vec::new());
        };
        match self.origin.parse(reading) {
            Ok(mut config) => {
                let needs_restart = config.keep_until_restart(&self.config);
                (Arc::new(config), needs_restart, Vec::new())
            }
            Err(mistakes) => {
                let (config, needs_restart) = in_force();
                (config, needs_restart, mistakes)
            }
        }
    }

    /// Judges the parts that are due, and puts the good ones in force together.
    fn judge(&mut self, mut look: Look) -> Option<Attempt> {
        let moved = self.moved(&look);
        // A configuration waits for the files that it newly names, so that both come into force at once.
        let is_waiting = moved.iter().any(|part| *look.seen.of(*part) == LookResult::Changing);
        let configuration = if is_waiting { None } else { self.verdict(Part::Configuration, &mut look) };
        let is_new = configuration.as_ref().is_some_and(|verdict| verdict.is_new);
        let mut of_parts: Vec<PartOutcome> = configuration.into_iter().collect();
        for part in Part::of_files().filter(|part| is_new || !moved.contains(part)) {
            of_parts.extend(self.verdict(part, &mut look));
        }
        if of_parts.is_empty() {
            return None;
        }
        if is_new {
            (self.config, self.needs_restart) = (Arc::clone(&look.config), look.needs_restart.clone());
        }
        self.pieces = look.pieces;
        let is_good =
            |verdict: &PartOutcome| verdict.outcome == Outcome::Applied || !verdict.part.is_essential();
        let is_forced = look.trigger != Trigger::Change && of_parts.iter().all(is_good);
        if is_forced || of_parts.iter().any(|verdict| verdict.is_new) {
            self.put_in_force(look.moment.generation);
        }
        let verdicts = Verdicts {
            trigger: look.trigger,
            generation: self.live.load().generation,
            of_parts,
            needs_restart: self.needs_restart.clone(),
        };
        Some(self.history.add(&verdicts))
    }

    /// Parts for which the configuration on disk has other settings than the one in force.
    fn moved(&self, look: &Look) -> Vec<Part> {
        if Arc::ptr_eq(&look.config, &self.config) {
            return Vec::new();
        }
        let says_otherwise =
            |part: &Part| settings_of(*part, &look.config) != settings_of(*part, &self.config);
        Part::of_files().filter(says_otherwise).collect()
    }

    fn put_in_force(&self, generation: u64) {
        if let Some(live) = self.pieces.live(&self.config, generation) {
            (self.swap)(live, &self.config);
        }
    }

    /// The outcome of a part; `None` if nothing is to be decided yet.
    fn verdict(&mut self, part: Part, look: &mut Look) -> Option<PartOutcome> {
        let is_forced = look.trigger != Trigger::Change;
        let watch = self.watches.of_mut(part);
        let reading = look.readings.of_mut(part).take();
        let verdict =
            |outcome, of, diagnostics, is_new| PartOutcome { part, outcome, of, diagnostics, is_new };
        let Some(Reading { of, is_unfinished, material, .. }) = reading else {
            return is_forced.then(|| verdict(Outcome::Hanging, [0; 32], vec![hanging(part)], false));
        };
        match look.seen.of(part) {
            LookResult::Hangs | LookResult::Same | LookResult::Changing => return None,
            LookResult::Unsettled => {
                watch.refused(of);
                return Some(verdict(Outcome::Refused, of, vec![unsettled()], false));
            }
            LookResult::Due if is_unfinished && !is_forced && watch.waits_for_rotation() => return None,
            LookResult::Due => {}
        }
        let is_new = !watch.is_in_force(of);
        let built = match part {
            _ if !is_new => Ok(watch.warnings()),
            Part::Configuration if !look.mistakes.is_empty() => Err(std::mem::take(&mut look.mistakes)),
            _ => look.pieces.take_over(material, &look.config, look.moment),
        };
        match built {
            Ok(mut warnings) => {
                watch.applied(of, warnings.clone());
                warnings.extend(look.pieces.expiring(part, &look.config, look.moment.now));
                Some(verdict(Outcome::Applied, of, warnings, is_new))
            }
            Err(problems) if !is_forced && is_rotation(&problems) && watch.waits_for_rotation() => None,
            Err(problems) => {
                watch.refused(of);
                // The number of mistakes in a shadow policy is in the snapshot.
                Some(verdict(Outcome::Refused, of, problems, !part.is_essential()))
            }
        }
    }
}

fn unsettled() -> Diagnostic {
    Diagnostic::error(Code::Unsettled, "what was read changes again and again")
        .help("write files under another name first, then rename them: that is seen as one change")
}

/// `true` if a key and its certificate are being replaced one after the other.
fn is_rotation(problems: &[Diagnostic]) -> bool {
    problems.iter().all(|problem| problem.code == Code::KeyMismatch)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::demo::pki::{Authority, Leaf, pem};

    const POLICY: &str = "version: 1\npermissions: { all: ['* /**'] }\nclients: [{ name: all, match: { any: true }, permissions: [all] }]\n";

    /// A reloader without a thread, in a folder of its own.
    fn reloader(folder: &Path) -> Reloader {
        let ca = Authority::root("ca").unwrap();
        ca.issue(&Leaf::server().unwrap()).unwrap().write(folder, "server").unwrap();
        fs::write(folder.join("ca.crt"), pem("CERTIFICATE", ca.certificate())).unwrap();
        fs::write(folder.join("ca.crl"), ca.crl(&[], |_| {}).unwrap()).unwrap();
        for name in ["policy.yaml", "next.yaml"] {
            fs::write(folder.join(name), POLICY).unwrap();
        }
        let text = "tls: { certificate: server.crt, key: server.key, client_ca: ca.crt, crl: ca.crl }\n\
                    backend: { url: 'http://127.0.0.1:9' }\npolicies: policy.yaml\nshadow_policies: next.yaml\n";
        fs::write(folder.join("sidegate.yaml"), text).unwrap();
        let Loaded { config, live, read, .. } =
            Origin::new(folder.join("sidegate.yaml"), &[]).load().unwrap();
        let live = Arc::new(ArcSwap::from_pointee(live));
        let swapped = Arc::clone(&live);
        let swap = Box::new(move |next, _: &Config| swapped.store(Arc::new(next)));
        Reloader::new(read, config, live, Arc::new(History::default()), swap)
    }

    fn look(reloader: &mut Reloader, trigger: Trigger) -> Option<Attempt> {
        let look = reloader.look(trigger);
        reloader.judge(look)
    }

    /// Pieces of two snapshots that are identical: policy, trust, TLS, shadow policy.
    fn shared(before: &Live, after: &Live) -> [bool; 4] {
        let shadow = |live: &Live| Arc::clone(&live.shadow().unwrap().policy);
        [
            Arc::ptr_eq(&before.policy, &after.policy),
            Arc::ptr_eq(&before.trust, &after.trust),
            Arc::ptr_eq(&before.tls.value, &after.tls.value),
            Arc::ptr_eq(&shadow(before), &shadow(after)),
        ]
    }

    #[test]
    fn a_part_that_has_not_changed_is_not_built_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut reloader = reloader(folder.path());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for (file, text, expected) in [
            ("policy.yaml", "version: 1\n", [false, true, true, true]),
            ("next.yaml", "version: 1\n", [true, true, true, false]),
            (
                "ca.crt",
                &*fs::read_to_string(folder.path().join("ca.crt")).unwrap().replace('\n', "\r\n"),
                [true, false, true, true],
            ),
        ] {
            for trigger in [Trigger::Request, Trigger::Change] {
                let before = reloader.live.load_full();
                write(file, &format!("{text}# {trigger:?}\n"));
                assert_eq!(look(&mut reloader, trigger).is_some(), trigger == Trigger::Request);
                let _ = look(&mut reloader, Trigger::Change);
                let after = reloader.live.load_full();
                assert_eq!(
                    (after.generation, shared(&before, &after)),
                    (before.generation + 1, expected),
                    "{file}"
                );
            }
        }
        let before = reloader.live.load_full();
        let attempt = look(&mut reloader, Trigger::Signal).unwrap();
        assert_eq!((attempt.outcome, attempt.parts.len()), (Outcome::Applied, Part::ALL.len()));
        assert_eq!(shared(&before, &reloader.live.load()), [true; 4]);
    }

    /// The shadow policy is the same, and the policy that it is compared with is another.
    #[test]
    fn what_differs_is_counted_anew_under_another_policy() {
        let folder = tempfile::tempdir().unwrap();
        let mut reloader = reloader(folder.path());
        let since = |reloader: &Reloader| reloader.live.load().shadow().unwrap().since;
        let first = since(&reloader);
        look(&mut reloader, Trigger::Request).unwrap();
        assert_eq!(since(&reloader), first);
        fs::write(folder.path().join("policy.yaml"), "version: 1\n").unwrap();
        look(&mut reloader, Trigger::Request).unwrap();
        assert!(since(&reloader) > first);
    }

    /// A permission that a new configuration moves from one file to another is never in both, nor in none.
    #[test]
    fn a_configuration_and_the_files_that_it_newly_names_come_into_force_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut reloader = reloader(folder.path());
        let path = |name: &str| folder.path().join(name);
        let text = fs::read_to_string(path("sidegate.yaml")).unwrap();
        fs::write(path("elsewhere.yaml"), "version: 1\n").unwrap();
        let text =
            text.replace("policies: policy.yaml", "policies: elsewhere.yaml\nlimits: { max_connections: 7 }");
        fs::write(path("sidegate.yaml"), text).unwrap();
        assert!(look(&mut reloader, Trigger::Change).is_none(), "it is looked at twice");
        // The policy is written in the meantime: both wait.
        fs::write(path("elsewhere.yaml"), "version: 1\n# more\n").unwrap();
        assert!(look(&mut reloader, Trigger::Change).is_none());
        assert_eq!(reloader.config.limits.max_connections, 1000);
        let attempt = look(&mut reloader, Trigger::Change).unwrap();
        let applied: Vec<_> = attempt.parts.into_keys().collect();
        assert_eq!(applied, [Part::Configuration, Part::Policies]);
        assert_eq!(reloader.live.load().generation, 2);
        assert!(reloader.live.load().policy.allows_nothing());
        assert_eq!(reloader.config.limits.max_connections, 7);
    }

    #[test]
    fn what_is_written_without_a_pause_is_told_and_holds_up_no_other_part() {
        let folder = tempfile::tempdir().unwrap();
        let mut reloader = reloader(folder.path());
        let mut told = Vec::new();
        for round in 0..30 {
            fs::write(folder.path().join("policy.yaml"), format!("{POLICY}# {round}\n")).unwrap();
            if round == 3 {
                fs::write(folder.path().join("next.yaml"), "version: 1\n").unwrap();
            }
            told.extend(look(&mut reloader, Trigger::Change).map(|attempt| (round, attempt.parts)));
        }
        let parts: Vec<_> =
            told.iter().map(|(round, parts)| (*round, parts.iter().next().unwrap())).collect();
        assert_eq!(parts[0], (4, (&Part::ShadowPolicies, &Outcome::Applied)));
        assert_eq!(parts[1].1, (&Part::Policies, &Outcome::Refused));
        let diagnostics = reloader.history.summary().parts.of(Part::Policies).diagnostics.clone();
        assert_eq!(diagnostics[0]["code"], "unsettled");
    }
}
