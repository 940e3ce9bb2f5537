//! The export of traces: from the queue that requests fill to the collector, on a task of its own.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::Tracing;
use crate::forward::{Collector, deliver};
use crate::telemetry::{Batch, Outbox, Tracer};

/// The path of OTLP over HTTP.
const PATH: &str = "/v1/traces";
/// Number of times that a batch is sent.
const TRIES: u32 = 3;
/// Pause between the first and the second time; the pause before the third is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// Time limit for one answer of the collector.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that the end of the process waits for the remaining spans.
const FAREWELL: Duration = Duration::from_secs(1);

/// An exporter that is not running yet.
#[derive(Debug)]
pub(super) struct Export {
    outbox: Outbox,
    to: Collector,
    reached: bool,
}

/// A running exporter.
pub(super) struct Exporting {
    stop: Sender<Infallible>,
    task: JoinHandle<()>,
}

/// Begins traces if the configuration names a collector.
pub(super) fn begin(tracing: Option<&Tracing>) -> Option<(Tracer, Export)> {
    let Tracing { to, sample } = tracing?;
    let (tracer, outbox) = Tracer::new(*sample);
    Some((tracer, Export { outbox, to: to.clone(), reached: true }))
}

impl Export {
    pub(super) fn start(self) -> Exporting {
        let (stop, stopped) = oneshot::channel();
        Exporting { stop, task: tokio::spawn(self.run(stopped)) }
    }

    async fn run(mut self, mut stopped: Receiver<Infallible>) {
        loop {
            tokio::select! {
                batch = self.outbox.batch() => match batch {
                    Some(batch) => self.send(batch, TRIES).await,
                    None => return,
                },
                _ = &mut stopped => break,
            }
        }
        while let Some(batch) = self.outbox.rest() {
            self.send(batch, 1).await;
        }
    }

    /// Sends a batch, again if the collector is away for a moment; meanwhile the queue fills, and spans that do not fit are
    /// counted.
    async fn send(&mut self, batch: Batch, tries: u32) {
        let body = Bytes::copy_from_slice(&batch.body);
        for number in 0..tries {
            if number > 0 {
                sleep(PAUSE * number).await;
            }
            let answer = timeout(RESPONSE_TIMEOUT, deliver(&self.to, PATH, body.clone())).await;
            match answer.unwrap_or_else(|_| Err("it took too long".to_owned())) {
                Ok(status) if status.is_success() => return self.is_reached(),
                Ok(status) => self.is_not_reached(&format!("it answered {status}")),
                Err(error) => self.is_not_reached(&error),
            }
        }
        self.outbox.lost(&batch);
    }

    fn is_reached(&mut self) {
        if !std::mem::replace(&mut self.reached, true) {
            tracing::info!(collector = %self.to.location, "the collector of traces can be reached again");
        }
    }

    /// Logs a failure once, until the collector is reached again.
    fn is_not_reached(&mut self, error: &str) {
        if std::mem::replace(&mut self.reached, false) {
            tracing::warn!(collector = %self.to.location, error, "the collector of traces cannot be reached; spans are dropped, and counted");
        }
    }
}

impl Exporting {
    /// Sends the remaining spans, and ends.
    pub(super) async fn finish(self) {
        drop(self.stop);
        let _ = timeout(FAREWELL, self.task).await;
    }
}
