//! Audit records: one JSON line per decision.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use super::lines::{self, Dropped, Next, Report, Sink, Waiting};
use super::{Decision, Done, RequestId, Share};
use crate::identity::{Attribute, Identity, Presented};
use crate::policy::{Change, Difference, Rule};
use crate::printable::{self, CUT};
use crate::refusal::{Fault, Reason, ResponseFlaw};

/// Longest line, in bytes. A line is for reading, and a client must not choose its length.
const LONGEST_LINE: usize = 8 * 1024;
/// Longest identity, in bytes.
const LONGEST_IDENTITY: usize = 4 * 1024;
/// Longest path, query, name or value of an identity, in bytes as JSON; the rest is cut.
const LONGEST: usize = 1024;
/// Longest serial number of a certificate that is not valid, in bytes. RFC 5280 §4.1.2.2 allows 40.
const LONGEST_SERIAL: usize = 64;

/// The longest parts of a line, in bytes as JSON.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    client: usize,
    path: usize,
    query: usize,
    method: usize,
    /// All client entries together.
    grants: usize,
    /// The name, and the file, of a rule.
    rule: usize,
}

/// The bounds of nearly every line.
const USUAL: Bounds =
    Bounds { client: LONGEST, path: LONGEST, query: LONGEST, method: 256, grants: LONGEST, rule: LONGEST };
/// The bounds of a line that would be too long with the usual ones: with the longest identity and all other fields it is not.
const TIGHT: Bounds = Bounds { client: 256, path: 768, query: 512, method: 64, grants: 384, rule: 128 };

/// The destination of audit records (`log.audit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// No destination.
    None,
    /// A file, which is appended to.
    File(PathBuf),
}

/// The records that are kept, and their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// The share of allowed requests that is recorded (`log.audit_sample`). All other requests are recorded.
    pub sample: Share,
    /// Queries are recorded (`log.audit_query`).
    pub query: bool,
}

/// The writer of audit records. Workers have clones of it; it never blocks.
#[derive(Clone, Debug)]
pub struct Audit {
    writer: NonBlocking,
    waiting: Waiting,
    dropped: Dropped,
    file: Option<Arc<ReopenedFile>>,
    keeping: Arc<SharedRecordSettings>,
}

/// A file that other programs rename, after which it is opened anew.
#[derive(Debug)]
struct ReopenedFile {
    path: PathBuf,
    next: Next<File>,
}

/// [`RecordSettings`], as it is in force.
#[derive(Debug)]
struct SharedRecordSettings {
    sample: AtomicU64,
    query: AtomicBool,
}

/// Most bytes of records on their way to the writing thread.
const ROOM: usize = 12 << 20;
/// Most records on their way: more than there is room for, because no record is shorter than 400 bytes.
const MOST: usize = 32_768;

/// The audit record of one decision.
#[derive(Debug)]
pub struct Record<'a> {
    /// The time at which the request came.
    pub time: Timestamp,
    /// The request id.
    pub request_id: &'a str,
    /// The peer.
    pub source: SocketAddr,
    /// The client's name; `None` if it is not authenticated.
    pub client: Option<&'a str>,
    /// The identity in the certificate, by the keys of a policy's `match`.
    pub identity: Option<&'a RecordedIdentity>,
    /// The statements of an invalid certificate about itself, which prove nothing.
    pub presented: Option<&'a RecordedPresented>,
    /// The flaw of a certificate that is not valid.
    pub flaw: Option<&'static str>,
    /// The client entries of the policy that match.
    pub grants: &'a [String],
    /// The method.
    pub method: &'a str,
    /// The path, without the query: queries hold secrets.
    pub path: &'a str,
    /// The query, if queries are recorded.
    pub query: Option<&'a str>,
    /// The decision of the policy.
    pub decision: Decision,
    /// The way in which the exchange ended. A denied request that `mode: audit` let pass was forwarded.
    pub done: Done,
    /// The cause for which the backend's answer is not HTTP.
    pub cause: Option<ResponseFlaw>,
    /// The rule that decided.
    pub rule: Option<&'a Rule>,
    /// The difference, if a shadow policy decides otherwise.
    pub difference: Option<&'a Difference>,
    /// The status of the answer; `None` if the client left before there was one.
    pub status: Option<u16>,
    /// Length of the answer's body, in bytes.
    pub bytes: u64,
    /// Time from the request's headers to the end of the answer.
    pub duration: Duration,
    /// Times of Sidegate and of the backend, if the backend answered.
    pub took: Option<RequestTimes>,
}

impl<'a> Record<'a> {
    /// Returns the record of a refusal before there was a request.
    #[must_use]
    pub const fn of_nothing_known(
        time: Timestamp,
        request_id: &'a str,
        source: SocketAddr,
        (reason, fault): (Reason, Fault),
        (status, bytes): (u16, u64),
    ) -> Self {
        Self {
            time,
            request_id,
            source,
            client: None,
            identity: None,
            presented: None,
            flaw: None,
            grants: &[],
            method: "-",
            path: "-",
            query: None,
            decision: Decision::Refused(reason, fault),
            done: Done::Refused(reason, fault),
            cause: None,
            rule: None,
            difference: None,
            status: Some(status),
            bytes,
            duration: Duration::ZERO,
            took: None,
        }
    }
}

/// The two parts of the time of a request that the backend answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimes {
    /// Time of Sidegate: until the request was sent on, and from the answer's headers until they were passed on.
    pub added: Duration,
    /// Time of the backend: in between.
    pub backend: Duration,
}

/// An identity as records show it: lists of values by the keys of `match`. It is written once per client, not once per
/// record.
#[derive(Debug)]
pub struct RecordedIdentity(Box<RawValue>);

/// Most values of one attribute, and most client entries, in a record; further ones are left out.
const MOST_VALUES: usize = 16;

impl RecordedIdentity {
    /// The memory that the text takes, in bytes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.0.get().len()
    }

    /// Returns all attributes of an identity, within [`LONGEST_IDENTITY`]. A value that was cut ends in a mark, and so does a
    /// list of which values are left out.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let mut room = LONGEST_IDENTITY - RESERVED;
        let told: BTreeMap<_, _> = BY_WEIGHT
            .into_iter()
            .map(|attribute| (attribute.name(), bounded(identity.values(attribute), MOST_VALUES, &mut room)))
            .filter(|(_, values)| !values.is_empty())
            .collect();
        Self(raw(&told))
    }
}

/// All attributes. Those that come first get the room of an identity first: those by which a client is told apart.
const BY_WEIGHT: [Attribute; 15] = [
    Attribute::Fingerprint,
    Attribute::PublicKey,
    Attribute::Uri,
    Attribute::Subject,
    Attribute::CommonName,
    Attribute::Dns,
    Attribute::Issuer,
    Attribute::Serial,
    Attribute::Email,
    Attribute::Ip,
    Attribute::Organization,
    Attribute::OrganizationalUnit,
    Attribute::Country,
    Attribute::State,
    Attribute::Locality,
];

/// Room for the names of all attributes, their brackets, and the mark of each list, in bytes.
const RESERVED: usize = 512;

/// Returns the values that have room, each with its quotes and a comma, and takes that room. A mark stands in the place of
/// those that are left out; the caller has reserved its room.
fn bounded<'v>(values: impl Iterator<Item = &'v str>, most: usize, room: &mut usize) -> Vec<Cow<'v, str>> {
    let mut kept = Vec::new();
    let mut values = values.peekable();
    while let Some(value) = values.next() {
        let is_beyond = kept.len() + 1 == most && values.peek().is_some();
        let left = room.saturating_sub(AROUND);
        if is_beyond || left < LEAST_VALUE.min(printable::json_length(value)) {
            kept.push(Cow::Borrowed(CUT));
            break;
        }
        let value = printable::cut(value, LONGEST.min(left));
        *room = left.saturating_sub(printable::json_length(&value));
        kept.push(value);
    }
    kept
}

/// The quotes of a value, and the comma behind it, in bytes.
const AROUND: usize = 3;
/// A value that is cut keeps this many bytes at least, or is left out.
const LEAST_VALUE: usize = 16;

/// Serializes texts, which cannot fail, with everything escaped that is not printable.
fn raw(told: &impl Serialize) -> Box<RawValue> {
    let json = serde_json::to_vec(told).map(printable::escape_json).unwrap_or_default();
    String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok()).unwrap_or_default()
}

/// The statements of an invalid certificate about itself, as records show them. They are written once per verdict.
#[derive(Debug)]
pub struct RecordedPresented(Box<RawValue>);

impl RecordedPresented {
    /// Returns what a certificate says of itself, within the bounds of a line.
    #[must_use]
    pub fn of(presented: &Presented) -> Self {
        #[derive(Serialize)]
        struct Told<'p> {
            subject: Option<Cow<'p, str>>,
            issuer: Option<Cow<'p, str>>,
            serial: Option<Cow<'p, str>>,
            fingerprint: &'p str,
        }
        let Presented { subject, issuer, serial, fingerprint } = presented;
        Self(raw(&Told {
            subject: subject.as_deref().map(|subject| printable::cut(subject, LONGEST)),
            issuer: issuer.as_deref().map(|issuer| printable::cut(issuer, LONGEST)),
            serial: serial.as_deref().map(|serial| printable::cut(serial, LONGEST_SERIAL)),
            fingerprint,
        }))
    }

    /// The memory that the text takes, in bytes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.0.get().len()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    request_id: &'a str,
    source: SocketAddr,
    client: Option<Cow<'a, str>>,
    identity: Option<&'a RawValue>,
    presented: Option<&'a RawValue>,
    flaw: Option<&'static str>,
    grants: Grants<'a>,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
    decision: &'static str,
    reason: &'static str,
    rule: Option<RecordedRule<'a>>,
    done: &'static str,
    fault: Option<&'static str>,
    cause: Option<&'static str>,
    shadow: Option<Shadow<'a>>,
    status: Option<u16>,
    bytes: u64,
    duration_us: u64,
    added_us: Option<u64>,
    backend_us: Option<u64>,
}

#[derive(Serialize)]
struct Shadow<'a> {
    change: Change,
    decision: &'static str,
    rule: Option<RecordedRule<'a>>,
}

/// The client entries that match, within their room.
struct Grants<'a> {
    all: &'a [String],
    room: usize,
}

impl Serialize for Grants<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // No byte takes more than six in JSON.
        let most: usize = self.all.iter().map(|grant| grant.len() * 6 + AROUND).sum();
        if self.all.len() <= MOST_VALUES && most <= self.room {
            return self.all.serialize(serializer);
        }
        let mut room = self.room;
        bounded(self.all.iter().map(String::as_str), MOST_VALUES, &mut room).serialize(serializer)
    }
}

#[derive(Serialize)]
struct RecordedRule<'a> {
    name: Cow<'a, str>,
    file: Cow<'a, str>,
    line: usize,
}

impl<'a> RecordedRule<'a> {
    fn of(rule: &'a Rule, bounds: &Bounds) -> Self {
        let Rule { name, file, line } = rule;
        Self { name: printable::cut(name, bounds.rule), file: printable::cut(file, bounds.rule), line: *line }
    }
}

impl Audit {
    /// Opens the destination. The guard writes the remaining records when it is dropped.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(
        destination: &Destination,
        keeping: RecordSettings,
    ) -> io::Result<Option<(Self, WorkerGuard)>> {
        let waiting = Waiting::default();
        let (file, (writer, dropped, guard)) = match destination {
            Destination::None => return Ok(None),
            Destination::Stdout => (None, writer(io::stdout(), Next::none_yet(), &waiting)),
            Destination::File(path) => {
                let (to, next) = (appended(path)?, Next::none_yet());
                let writer = writer(to, next.clone(), &waiting);
                (Some(Arc::new(ReopenedFile { path: path.clone(), next })), writer)
            }
        };
        let keeping = Arc::new(SharedRecordSettings::of(keeping));
        Ok(Some((Self { writer, waiting, dropped, file, keeping }, guard)))
    }

    /// Opens the file anew, after another program has renamed it. Earlier records go to the old file to their end; if no new
    /// file can be opened, the old one is kept. `None` if records go to no file.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn reopen(&self) -> Option<io::Result<()>> {
        let rotated = self.file.as_ref()?;
        Some(appended(&rotated.path).map(|file| rotated.next.give(file)))
    }

    /// Changes the records that are kept from now on.
    pub fn keep(&self, keeping: RecordSettings) {
        self.keeping.set(keeping);
    }

    /// `true` if queries are recorded.
    #[must_use]
    pub fn tells_queries(&self) -> bool {
        self.keeping.query.load(Ordering::Relaxed)
    }

    /// `true` if the record of this allowed request is kept.
    #[must_use]
    pub fn keeps(&self, id: &RequestId) -> bool {
        Share::of_bits(self.keeping.sample.load(Ordering::Relaxed)).has(id)
    }

    /// The counter of records that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }

    /// Writes one record, or drops and counts it.
    pub fn write(&self, record: &Record<'_>) {
        let Some(line) = line(record) else { return };
        if self.waiting.take(line.len(), ROOM) {
            let _ = self.writer.clone().write_all(&line);
        } else {
            self.dropped.add();
        }
    }
}

impl SharedRecordSettings {
    const fn of(keeping: RecordSettings) -> Self {
        Self { sample: AtomicU64::new(keeping.sample.bits()), query: AtomicBool::new(keeping.query) }
    }

    fn set(&self, keeping: RecordSettings) {
        self.sample.store(keeping.sample.bits(), Ordering::Relaxed);
        self.query.store(keeping.query, Ordering::Relaxed);
    }
}

/// Returns a writer of records that says in the log if it cannot write.
fn writer<W: Sink + Send + 'static>(
    to: W,
    next: Next<W>,
    waiting: &Waiting,
) -> (NonBlocking, Dropped, WorkerGuard) {
    lines::writer(to, next, MOST, "audit", Report::Log, Some(waiting.clone()))
}

/// Opens a file to append to it. Records name clients, so a new file is for its owner and its group alone.
fn appended(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    // Reading serves to take a torn record back. A pipe that is opened for reading as well would never tell that its reader
    // is gone, and some files may only be written.
    let is_other = fs::metadata(path).is_ok_and(|file| !file.is_file());
    match is_other {
        true => options.open(path),
        false => options.clone().read(true).open(path).or_else(|_| options.open(path)),
    }
}

/// Writes a record as a line of at most [`LONGEST_LINE`] bytes. `None` does not happen: everything in it can be written.
fn line(record: &Record<'_>) -> Option<Vec<u8>> {
    let within = |bounds: &Bounds| {
        let mut line = Vec::with_capacity(512);
        serde_json::to_writer(&mut line, &Line::of(record, bounds)).ok()?;
        let mut line = printable::escape_json(line);
        line.push(b'\n');
        (line.len() <= LONGEST_LINE).then_some(line)
    };
    within(&USUAL).or_else(|| within(&TIGHT))
}

impl<'a> Line<'a> {
    fn of(record: &Record<'a>, bounds: &Bounds) -> Self {
        let rule = |rule: &'a Rule| RecordedRule::of(rule, bounds);
        Self {
            time: record.time,
            request_id: record.request_id,
            source: record.source,
            client: record.client.map(|client| printable::cut(client, bounds.client)),
            identity: record.identity.map(|told| &*told.0),
            presented: record.presented.map(|told| &*told.0),
            flaw: record.flaw,
            grants: Grants { all: record.grants, room: bounds.grants },
            method: printable::cut(record.method, bounds.method),
            path: printable::cut(record.path, bounds.path),
            query: record.query.map(|query| printable::cut(query, bounds.query)),
            decision: record.decision.outcome(),
            reason: record.decision.reason(),
            rule: record.rule.map(rule),
            done: record.done.name(),
            fault: record.done.fault().map(Fault::name),
            cause: record.cause.map(ResponseFlaw::name),
            shadow: record.difference.map(|difference| Shadow {
                change: difference.change,
                decision: if difference.shadow_allows { "allowed" } else { "denied" },
                rule: difference.shadow.as_deref().map(rule),
            }),
            status: record.status,
            bytes: record.bytes,
            duration_us: microseconds(record.duration),
            added_us: record.took.map(|took| microseconds(took.added)),
            backend_us: record.took.map(|took| microseconds(took.backend)),
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Cuts a path or a query as records keep it from the moment the request comes, so that a long one is not held in memory
/// while its answer waits for the client.
pub fn shortened(text: &str) -> String {
    printable::cut(text, LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut_with_a_mark_and_within_the_bound() {
        for (text, kept) in [
            ("/short".to_owned(), "/short".to_owned()),
            ("a".repeat(LONGEST), "a".repeat(LONGEST)),
            ("a".repeat(LONGEST + 1), "a".repeat(LONGEST - 3) + "…"),
            ("é".repeat(LONGEST), "é".repeat(LONGEST / 2 - 2) + "…"),
        ] {
            let cut = shortened(&text);
            assert_eq!(cut, kept);
            assert!(cut.len() <= LONGEST && cut.capacity() <= LONGEST);
        }
    }
}
