//! Audit records: one JSON line per decision.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use super::Decision;
use super::lines::{self, Dropped};
use crate::identity::{Attribute, Identity};
use crate::policy::{Change, Difference, Rule};

/// Longer paths and names are cut: a line is for reading, and a client must not choose its length.
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

/// The writer of audit records. Cloned for each worker; never blocks.
#[derive(Clone, Debug)]
pub struct Audit {
    writer: NonBlocking,
    dropped: Dropped,
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
    pub method: &'a Method,
    /// The path, without its query: queries hold secrets.
    pub path: &'a str,
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
}

/// An identity as records tell it: lists of values by the keys of `match`. Written once a client, not once a record.
#[derive(Debug)]
pub struct Told(Box<RawValue>);

/// More values of one attribute are left out of records.
const MOST_VALUES: usize = 16;

impl Told {
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
    decision: &'static str,
    reason: &'static str,
    rule: Option<&'a Rule>,
    done: &'static str,
    shadow: Option<Shadow<'a>>,
    status: u16,
    bytes: u64,
    duration_us: u64,
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
    pub fn open(destination: &Destination) -> io::Result<Option<(Self, WorkerGuard)>> {
        let (writer, dropped, guard) = match destination {
            Destination::None => return Ok(None),
            Destination::Stdout => lines::writer(io::stdout(), ROOM, "audit"),
            Destination::File(path) => {
                lines::writer(OpenOptions::new().append(true).create(true).open(path)?, ROOM, "audit")
            }
        };
        Ok(Some((Self { writer, dropped }, guard)))
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

impl<'a> Line<'a> {
    fn of(record: &Record<'a>) -> Self {
        Self {
            time: record.time,
            request_id: record.request_id,
            source: record.source,
            client: record.client.map(cut),
            identity: record.identity.map(|told| &*told.0),
            grants: record.grants,
            method: cut(record.method.as_str()),
            path: cut(record.path),
            decision: record.decision.outcome(),
            reason: record.decision.reason(),
            rule: record.rule,
            done: if record.done == Decision::Forwarded { "forwarded" } else { record.done.reason() },
            shadow: record.difference.map(|difference| Shadow {
                change: difference.change,
                decision: if difference.shadow_allows { "allowed" } else { "denied" },
                rule: difference.shadow.as_deref(),
            }),
            status: record.status,
            bytes: record.bytes,
            duration_us: u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// The start of a text that is longer than what one line should hold.
pub(super) fn cut(text: &str) -> &str {
    let end = text.char_indices().map(|(index, _)| index).take_while(|index| *index <= LONGEST).last();
    if text.len() <= LONGEST { text } else { text.get(..end.unwrap_or(0)).unwrap_or_default() }
}
