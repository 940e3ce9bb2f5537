//! Traces (OpenTelemetry): for each traced request the spans of its handshake, its decision and the backend's work, handed
//! over through a bounded queue, in batches of OTLP's JSON. Spans that do not fit are dropped and counted.
//!
//! JSON is one of the encodings of OTLP over HTTP, and the OpenTelemetry Collector takes it. It needs no further crate, no
//! generated code, and no second HTTP client.

mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use super::{Done, HandshakeTimes, RequestIds, Share, TraceEnd, TraceStart, shortened};
use crate::refusal::Reason;
use crate::trace_context::{SpanId, TraceContext};

/// Most requests that wait to be sent.
const QUEUE_LENGTH: usize = 4096;
/// Number of requests in a full batch.
const MAX_BATCH: usize = 512;
/// Time after which a batch is sent although it is not full.
const GATHER: Duration = Duration::from_secs(1);

/// The beginning of traces. Workers have clones of it; it never blocks.
#[derive(Clone, Debug)]
pub struct Tracer {
    sample: Share,
    queue: Sender<Box<Finished>>,
    dropped: Arc<AtomicU64>,
}

/// The facts about a traced request while it is in progress.
#[derive(Debug)]
pub struct Trace {
    tracer: Tracer,
    /// The trace context of the request, and the parent span.
    context: TraceContext,
    parent: Option<SpanId>,
    decision: SpanId,
    backend: SpanId,
    handshake: Option<(SpanId, HandshakeTimes)>,
    time: Timestamp,
    started: Instant,
    source: String,
    method: String,
    path: String,
    client: Option<String>,
    rule: Option<String>,
    decided: Option<Instant>,
}

/// A traced request that has ended.
#[derive(Debug)]
struct Finished {
    trace: Trace,
    ended: TraceEnd,
    at: Instant,
}

/// The queue of ended requests.
#[derive(Debug)]
pub struct Outbox {
    queue: Receiver<Box<Finished>>,
    gathered: Vec<Finished>,
    dropped: Arc<AtomicU64>,
}

/// A batch of spans.
#[derive(Debug)]
pub struct Batch {
    /// The body, as OTLP's JSON.
    pub body: Vec<u8>,
    spans: u64,
}

impl Tracer {
    /// Returns a tracer and its queue. Of traces that begin here that share is recorded; other traces are recorded if their
    /// beginner records them.
    #[must_use]
    pub fn new(sample: Share) -> (Self, Outbox) {
        let (queue, outbox) = mpsc::channel(QUEUE_LENGTH);
        let dropped = Arc::new(AtomicU64::new(0));
        let outbox = Outbox { queue: outbox, gathered: Vec::new(), dropped: Arc::clone(&dropped) };
        (Self { sample, queue, dropped }, outbox)
    }

    /// Begins the trace of a request, if it is traced. The first traced request of a connection carries the span of the
    /// handshake.
    pub fn begin(
        &self,
        begun: &TraceStart<'_>,
        ids: &RequestIds,
        handshake: impl FnOnce() -> Option<HandshakeTimes>,
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
            method: shortened(begun.method.as_str()),
            path: shortened(begun.path),
            client: None,
            rule: None,
            decided: None,
        }))
    }

    /// Number of spans that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Trace {
    /// The trace context for the backend: its work is a child of the span that waits for it.
    #[must_use]
    pub fn onward(&self) -> TraceContext {
        self.context.at(self.backend)
    }

    /// Notes the authenticated client.
    pub fn set_client(&mut self, client: &str) {
        self.client = Some(shortened(client));
    }

    /// Notes the decision, and the rule that made it if there was one.
    pub fn set_rule(&mut self, rule: Option<&str>) {
        self.rule = rule.map(str::to_owned);
        self.decided = Some(Instant::now());
    }

    /// Ends the trace.
    pub fn end(self, ended: TraceEnd) {
        let has_more = [ended.asked.is_some() || is_failure(ended.done), self.handshake.is_some()];
        let (tracer, spans) = (self.tracer.clone(), 2 + has_more.map(u64::from).iter().sum::<u64>());
        let finished = Box::new(Finished { trace: self, ended, at: Instant::now() });
        if tracer.queue.try_send(finished).is_err() {
            tracer.dropped.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

/// `true` if the exchange with the backend failed.
const fn is_failure(done: Done) -> bool {
    matches!(done, Done::BrokenOff | Done::Refused(Reason::BackendUnavailable | Reason::BackendTimeout, _))
}

impl Outbox {
    /// Waits for the next batch: the requests that ended within a moment. Nothing is lost if the future is dropped.
    pub async fn batch(&mut self) -> Option<Batch> {
        if self.gathered.is_empty() {
            let first = self.queue.recv().await?;
            self.gathered.push(*first);
        }
        let end = Instant::now() + GATHER;
        while self.gathered.len() < MAX_BATCH {
            match timeout_at(end, self.queue.recv()).await {
                Ok(Some(next)) => self.gathered.push(*next),
                Ok(None) | Err(_) => break,
            }
        }
        self.take()
    }

    /// The remaining requests, without waiting.
    pub fn rest(&mut self) -> Option<Batch> {
        while self.gathered.len() < MAX_BATCH
            && let Ok(next) = self.queue.try_recv()
        {
            self.gathered.push(*next);
        }
        self.take()
    }

    /// Counts the spans of a batch that could not be delivered.
    pub fn lost(&self, batch: &Batch) {
        self.dropped.fetch_add(batch.spans, Ordering::Relaxed);
    }

    fn take(&mut self) -> Option<Batch> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() { None } else { Some(otlp::batch(&gathered)) }
    }
}
