//! Audit records: one JSON line per decision.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use super::lines::{self, Dropped, Next};
use super::{Decision, Done, RequestId, Share};
use crate::identity::{Attribute, Identity};
use crate::policy::{Change, Difference, Rule};
use crate::refusal::{Fault, Reason, ResponseFlaw};

/// Longest path, query or name in a record, in bytes; the rest is cut. A line is for reading, and a client must not choose
/// its length.
const LONGEST: usize = 1024;

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

/// Most records on their way to the writing thread.
const ROOM: usize = 16_384;

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

    /// Returns all attributes of an identity, within the bounds of a line.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let values = |attribute| identity.values(attribute).take(MOST_VALUES).map(cut).collect::<Vec<_>>();
        let attributes = Attribute::ALL.into_iter().map(|attribute| (attribute.name(), values(attribute)));
        let told: BTreeMap<_, _> = attributes.filter(|(_, values)| !values.is_empty()).collect();
        // Lists of texts cannot fail to serialize.
        Self(serde_json::value::to_raw_value(&told).unwrap_or_default())
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    request_id: &'a str,
    source: SocketAddr,
    client: Option<&'a str>,
    identity: Option<&'a RawValue>,
    grants: &'a [String],
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    decision: &'static str,
    reason: &'static str,
    rule: Option<&'a Rule>,
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
    rule: Option<&'a Rule>,
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
        let (file, (writer, dropped, guard)) = match destination {
            Destination::None => return Ok(None),
            Destination::Stdout => (None, lines::writer(io::stdout(), Next::none_yet(), ROOM, "audit")),
            Destination::File(path) => {
                let next = Next::none_yet();
                let writer = lines::writer(appended(path)?, next.clone(), ROOM, "audit");
                (Some(Arc::new(ReopenedFile { path: path.clone(), next })), writer)
            }
        };
        let keeping = Arc::new(SharedRecordSettings::of(keeping));
        Ok(Some((Self { writer, dropped, file, keeping }, guard)))
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
        let mut line = Vec::with_capacity(512);
        if serde_json::to_writer(&mut line, &Line::of(record)).is_ok() {
            line.push(b'\n');
            // The channel itself counts a record for which it has no room.
            let _ = self.writer.clone().write_all(&line);
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

fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl<'a> Line<'a> {
    fn of(record: &Record<'a>) -> Self {
        Self {
            time: record.time,
            request_id: record.request_id,
            source: record.source,
            client: record.client.map(cut),
            identity: record.identity.map(|told| &*told.0),
            grants: record.grants.get(..MOST_VALUES).unwrap_or(record.grants),
            method: cut(record.method),
            path: cut(record.path),
            query: record.query.map(cut),
            decision: record.decision.outcome(),
            reason: record.decision.reason(),
            rule: record.rule,
            done: record.done.name(),
            fault: record.done.fault().map(Fault::name),
            cause: record.cause.map(ResponseFlaw::name),
            shadow: record.difference.map(|difference| Shadow {
                change: difference.change,
                decision: if difference.shadow_allows { "allowed" } else { "denied" },
                rule: difference.shadow.as_deref(),
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
/// while its answer waits for the client. [`CUT`] marks the place where the rest is left out.
pub fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let start = text.get(..text.floor_char_boundary(LONGEST - CUT.len())).unwrap_or_default();
    [start, CUT].concat()
}

/// The mark at the end of a path or a query that was cut. No request can have it there: a URI is ASCII.
const CUT: &str = "…";

/// Returns the start of a text that is longer than one line should hold.
pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default()
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
