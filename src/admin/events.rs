//! Server-sent events: the present state once per second, for as long as a client listens.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::api;
use super::body::{Answer, events, text};
use crate::admin::Running;

/// Most clients that listen at once; the other places of the listener are for probes.
const MOST_LISTENERS: usize = 16;
/// Most refusals in one event.
const MOST_REFUSALS: usize = 200;

/// The clients that listen.
#[derive(Debug)]
pub(super) struct Events {
    places: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST_LISTENERS)) }
    }
}

impl Events {
    /// Adds a client.
    pub(super) fn listen(&self, running: Arc<Running>) -> Answer {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let mut full = text(StatusCode::SERVICE_UNAVAILABLE, "too many people are looking already\n");
            full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            return full;
        };
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            tell(&running, &sender).await;
            drop(place);
        });
        events(receiver)
    }
}

/// Sends events until no client listens any more.
async fn tell(running: &Arc<Running>, listener: &mpsc::Sender<Bytes>) {
    let mut ticks = running.past().ticks();
    let mut told = Timestamp::now();
    loop {
        let (event, newest) = event(running, told);
        told = newest;
        // A client that reads slowly is waited for, and misses seconds.
        if listener.send(event).await.is_err() {
            return;
        }
        ticks.mark_unchanged();
        tokio::select! {
            changed = ticks.changed() => if changed.is_err() { return },
            () = listener.closed() => return,
        }
    }
}

/// The event: the present state, and the refusals since the last event. Returns also the time of the newest refusal.
fn event(running: &Running, since: Timestamp) -> (Bytes, Timestamp) {
    let all = running.refusals();
    let newer: Vec<_> = all.iter().take_while(|refused| refused.time > since).collect();
    let newest = newer.first().map_or(since, |refused| refused.time);
    let refusals: Vec<_> = newer.iter().take(MOST_REFUSALS).map(|refused| api::refusal(refused)).collect();
    let mut now = api::now(running, &all);
    if let Some(now) = now.as_object_mut() {
        now.insert("refusals".to_owned(), json!(refusals));
    }
    (Bytes::from(format!("event: now\ndata: {now}\n\n")), newest)
}
