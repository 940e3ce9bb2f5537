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
use super::{Decision, RequestId, Share};
use crate::identity::{Attribute, Identity};
use crate::policy::{Change, Difference, Rule};

/// Longer paths, queries and names are cut: a line is for reading, and a client must not choose its length.
const LONGEST: usize = 1024;

/// Where audit records go (`log.audit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Nowhere.
    None,
    /// Appended to a file.
    File(PathBuf),
}

/// Which records are kept, and what they tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Of requests that were allowed (`log.audit_sample`). All others are kept.
    pub sample: Share,
    /// Whether queries are told (`log.audit_query`).
    pub query: bool,
}

/// The writer of audit records. Cloned for each worker; never blocks.
#[derive(Clone, Debug)]
pub struct Audit {
    writer: NonBlocking,
    dropped: Dropped,
    file: Option<Arc<Rotated>>,
    keeping: Arc<SharedKeeping>,
}

/// A file that others rename, after which it is opened anew.
#[derive(Debug)]
struct Rotated {
    path: PathBuf,
    next: Next<File>,
}

/// [`Keeping`], as it is in force.
#[derive(Debug)]
struct SharedKeeping {
    sample: AtomicU64,
    query: AtomicBool,
}

/// Records that may be on their way.
const ROOM: usize = 16_384;

/// One decision, as it is written.
#[derive(Debug)]
pub struct Record<'a> {
    /// When the request came.
    pub time: Timestamp,
    /// Its id.
    pub request_id: &'a str,
    /// The peer.
    pub source: SocketAddr,
    /// Who the client is; nobody before it is authenticated.
    pub client: Option<&'a str>,
    /// What its certificate says, as a policy's `match` would ask for it.
    pub identity: Option<&'a Told>,
    /// The names of the policy's entries that the client matches.
    pub grants: &'a [String],
    /// The method.
    pub method: &'a str,
    /// The path, without its query: queries hold secrets.
    pub path: &'a str,
    /// The query, where it is asked for.
    pub query: Option<&'a str>,
    /// What was decided.
    pub decision: Decision,
    /// What was done: the same, except where `mode: audit` let pass what was denied.
    pub done: Decision,
    /// The rule that decided.
    pub rule: Option<&'a Rule>,
    /// Where a shadow policy has decided otherwise.
    pub difference: Option<&'a Difference>,
    /// The status that was answered.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// From the request's headers to the end of the answer.
    pub duration: Duration,
    /// What Sidegate added to it, and what the backend took until its headers, where it answered.
    pub took: Option<Took>,
}

impl<'a> Record<'a> {
    /// Of a refusal before there was a request.
    #[must_use]
    pub const fn of_nothing_known(
        time: Timestamp,
        request_id: &'a str,
        source: SocketAddr,
        done: Decision,
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
            decision: done,
            done,
            rule: None,
            difference: None,
            status,
            bytes,
            duration: Duration::ZERO,
            took: None,
        }
    }
}

/// How long the two parts of a request took that the backend answered.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until it was sent on, and from the answer's headers until they were passed on.
    pub added: Duration,
    /// In between.
    pub backend: Duration,
}

/// An identity as records tell it: lists of values by the keys of `match`. Written once a client, not once a record.
#[derive(Debug)]
pub struct Told(Box<RawValue>);

/// More values of one attribute, and more matching entries of a policy, are left out of records.
const MOST_VALUES: usize = 16;

impl Told {
    /// The bytes that it takes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.0.get().len()
    }

    /// Everything that an identity says, within the bounds of a line.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let values = |attribute| identity.values(attribute).take(MOST_VALUES).map(cut).collect::<Vec<_>>();
        let attributes = Attribute::ALL.into_iter().map(|attribute| (attribute.name(), values(attribute)));
        let told: BTreeMap<_, _> = attributes.filter(|(_, values)| !values.is_empty()).collect();
        // Lists of texts: nothing here can fail.
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
    shadow: Option<Shadow<'a>>,
    status: u16,
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
    /// Opens the destination. The guard writes what is left when it is dropped.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(destination: &Destination, keeping: Keeping) -> io::Result<Option<(Self, WorkerGuard)>> {
        let (file, (writer, dropped, guard)) = match destination {
            Destination::None => return Ok(None),
            Destination::Stdout => (None, lines::writer(io::stdout(), Next::none_yet(), ROOM, "audit")),
            Destination::File(path) => {
                let next = Next::none_yet();
                let writer = lines::writer(appended(path)?, next.clone(), ROOM, "audit");
                (Some(Arc::new(Rotated { path: path.clone(), next })), writer)
            }
        };
        let keeping = Arc::new(SharedKeeping::of(keeping));
        Ok(Some((Self { writer, dropped, file, keeping }, guard)))
    }

    /// Opens the file anew, for what renames it. What was recorded before goes to its end in the old one; where there can be
    /// no new one, the old one goes on. Nothing where records go to no file.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn reopen(&self) -> Option<io::Result<()>> {
        let rotated = self.file.as_ref()?;
        Some(appended(&rotated.path).map(|file| rotated.next.give(file)))
    }

    /// From now on these are kept.
    pub fn keep(&self, keeping: Keeping) {
        self.keeping.set(keeping);
    }

    /// Whether queries are told.
    #[must_use]
    pub fn tells_queries(&self) -> bool {
        self.keeping.query.load(Ordering::Relaxed)
    }

    /// Whether the record of a request is kept that was allowed.
    #[must_use]
    pub fn keeps(&self, id: &RequestId) -> bool {
        Share::of_bits(self.keeping.sample.load(Ordering::Relaxed)).has(id)
    }

    /// Records that nobody will read.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }

    /// Writes one record, or drops and counts it.
    pub fn write(&self, record: &Record<'_>) {
        let mut line = Vec::with_capacity(512);
        if serde_json::to_writer(&mut line, &Line::of(record)).is_ok() {
            line.push(b'\n');
            // A full channel is counted by the channel.
            let _ = self.writer.clone().write_all(&line);
        }
    }
}

impl SharedKeeping {
    const fn of(keeping: Keeping) -> Self {
        Self { sample: AtomicU64::new(keeping.sample.bits()), query: AtomicBool::new(keeping.query) }
    }

    fn set(&self, keeping: Keeping) {
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
            done: record.done.done(),
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

/// A path or a query as records keep it from the moment the request comes: a long one is not held in memory while its answer
/// waits for a reader. [`CUT`] marks where the rest is left out.
pub fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let start = text.get(..text.floor_char_boundary(LONGEST - CUT.len())).unwrap_or_default();
    [start, CUT].concat()
}

/// The end of a path or a query that was cut. No request can have it there: a URI is ASCII.
const CUT: &str = "…";

/// The start of a text that is longer than what one line should hold.
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
