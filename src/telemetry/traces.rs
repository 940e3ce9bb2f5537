//! Traces (OpenTelemetry): of each request that is traced the spans of its handshake, its decision and the backend's work,
//! handed over through a bounded queue, in batches of OTLP's JSON. What does not fit is dropped and counted.
//!
//! JSON is one of the encodings of OTLP by HTTP, and the OpenTelemetry Collector takes it. By what is in the tree anyway it needs no
//! further crate, no generated code, and no second HTTP client.

mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use super::audit::cut;
use super::{Begun, Decision, Ended, Handshaken, RequestIds, Share};
use crate::refusal::Reason;
use crate::trace_context::{SpanId, TraceContext};

/// Requests that may wait to be sent.
const ROOM: usize = 4096;
/// Of so many a batch is full;
const MOST: usize = 512;
/// and after this time it goes as it is.
const GATHER: Duration = Duration::from_secs(1);

/// Begins traces. Cloned for each worker; never blocks.
#[derive(Clone, Debug)]
pub struct Tracer {
    sample: Share,
    queue: Sender<Box<Finished>>,
    dropped: Arc<AtomicU64>,
}

/// What is known of a traced request while it goes on.
#[derive(Debug)]
pub struct Trace {
    tracer: Tracer,
    /// Where in its trace the request is, and whose child that is.
    context: TraceContext,
    parent: Option<SpanId>,
    decision: SpanId,
    backend: SpanId,
    handshake: Option<(SpanId, Handshaken)>,
    time: Timestamp,
    started: Instant,
    source: String,
    method: String,
    path: String,
    client: Option<String>,
    rule: Option<String>,
    decided: Option<Instant>,
}

/// A traced request that is over.
#[derive(Debug)]
struct Finished {
    trace: Trace,
    ended: Ended,
    at: Instant,
}

/// What was traced, on its way out.
#[derive(Debug)]
pub struct Outbox {
    queue: Receiver<Box<Finished>>,
    gathered: Vec<Finished>,
    dropped: Arc<AtomicU64>,
}

/// What goes out at once.
#[derive(Debug)]
pub struct Batch {
    /// As OTLP's JSON.
    pub body: Vec<u8>,
    spans: u64,
}

impl Tracer {
    /// Of traces that begin here that share is recorded; of others those that whoever began them records.
    #[must_use]
    pub fn new(sample: Share) -> (Self, Outbox) {
        let (queue, outbox) = mpsc::channel(ROOM);
        let dropped = Arc::new(AtomicU64::new(0));
        let outbox = Outbox { queue: outbox, gathered: Vec::new(), dropped: Arc::clone(&dropped) };
        (Self { sample, queue, dropped }, outbox)
    }

    /// Begins with a request, if it is traced. The handshake of its connection is told with the first one.
    pub fn begin(
        &self,
        begun: &Begun<'_>,
        ids: &RequestIds,
        handshake: impl FnOnce() -> Option<Handshaken>,
    ) -> Option<Box<Trace>> {
        let known = TraceContext::of(begun.headers);
        let is_traced = known.map_or_else(|| self.sample.has(&begun.id), |known| known.is_sampled());
        if !is_traced {
            return None;
        }
        let context = known.or_else(|| TraceContext::begin(begun.id.as_str(), true))?;
        let ([own, decision], [backend, shaking]) = (ids.next().halves(), ids.next().halves());
        Some(Box::new(Trace {
            tracer: self.clone(),
            context: context.at(own),
            parent: known.map(|known| known.span_id()),
            decision,
            backend,
            handshake: handshake().map(|handshake| (shaking, handshake)),
            time: begun.time,
            started: begun.started,
            source: begun.source.ip().to_string(),
            method: cut(begun.method.as_str()).to_owned(),
            path: cut(begun.path).to_owned(),
            client: None,
            rule: None,
            decided: None,
        }))
    }

    /// Spans that nobody will see.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Trace {
    /// What the backend is told: its work is a child of the span that waits for it.
    #[must_use]
    pub fn onward(&self) -> TraceContext {
        self.context.at(self.backend)
    }

    /// The client is known.
    pub fn set_client(&mut self, client: &str) {
        self.client = Some(cut(client).to_owned());
    }

    /// It is decided, by that rule if by one.
    pub fn set_rule(&mut self, rule: Option<&str>) {
        self.rule = rule.map(str::to_owned);
        self.decided = Some(Instant::now());
    }

    /// It is over.
    pub fn end(self, ended: Ended) {
        let has_more = [ended.asked.is_some() || is_failure(ended.done), self.handshake.is_some()];
        let (tracer, spans) = (self.tracer.clone(), 2 + has_more.map(u64::from).iter().sum::<u64>());
        let finished = Box::new(Finished { trace: self, ended, at: Instant::now() });
        if tracer.queue.try_send(finished).is_err() {
            tracer.dropped.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

/// Whether the backend was asked in vain.
const fn is_failure(done: Decision) -> bool {
    matches!(done, Decision::Refused(Reason::BackendUnavailable | Reason::BackendTimeout))
}

impl Outbox {
    /// The next batch: what came within a moment. Nothing is lost where this is broken off.
    pub async fn batch(&mut self) -> Option<Batch> {
        if self.gathered.is_empty() {
            let first = self.queue.recv().await?;
            self.gathered.push(*first);
        }
        let end = Instant::now() + GATHER;
        while self.gathered.len() < MOST {
            match timeout_at(end, self.queue.recv()).await {
                Ok(Some(next)) => self.gathered.push(*next),
                Ok(None) | Err(_) => break,
            }
        }
        self.take()
    }

    /// What is left when nothing more is waited for.
    pub fn rest(&mut self) -> Option<Batch> {
        while self.gathered.len() < MOST
            && let Ok(next) = self.queue.try_recv()
        {
            self.gathered.push(*next);
        }
        self.take()
    }

    /// A batch could not be delivered.
    pub fn lost(&self, batch: &Batch) {
        self.dropped.fetch_add(batch.spans, Ordering::Relaxed);
    }

    fn take(&mut self) -> Option<Batch> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() { None } else { Some(otlp::batch(&gathered)) }
    }
}
