//! The last events, in memory, within bounds.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};

use super::stream::{Followers, Subscription};

/// How many events are kept,
const MAX_EVENTS: usize = 10_000;
/// and how many bytes of them.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The events, oldest first, each as the JSON text in which it is read; ids are consecutive.
#[derive(Debug, Default)]
pub(super) struct Store {
    events: VecDeque<Bytes>,
    /// The id of the last event ever published.
    last: u64,
    bytes: usize,
    followers: Followers,
}

impl Store {
    /// Keeps an event, tells whoever follows, and returns its id.
    pub(super) fn publish(&mut self, body: &[u8]) -> u64 {
        self.last += 1;
        let event = Bytes::from(render(self.last, body));
        self.bytes += event.len();
        self.events.push_back(event.clone());
        self.forget();
        self.followers.send(self.last, &event);
        self.last
    }

    pub(super) fn event(&self, id: u64) -> Option<&Bytes> {
        let place = id.checked_sub(self.first())?;
        self.events.get(usize::try_from(place).ok()?)
    }

    /// The events that came after one, with their ids.
    pub(super) fn after(&self, id: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        let first = self.first();
        let skipped = id.saturating_add(1).saturating_sub(first);
        (first..).zip(&self.events).skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// Follows from now on, or from the event after `seen`.
    pub(super) fn subscribe(&mut self, seen: Option<u64>) -> Subscription {
        let missed = seen.map(|id| self.after(id).map(|(id, event)| (id, event.clone())).collect());
        self.followers.subscribe(missed.unwrap_or_default())
    }

    fn first(&self) -> u64 {
        self.last + 1 - self.events.len() as u64
    }

    fn forget(&mut self) {
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }
}

/// JSON as it is; other text as a string; anything else as the text that is left of it.
fn render(id: u64, body: &[u8]) -> String {
    let data = serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
    json!({ "id": id, "published": jiff::Timestamp::now().to_string(), "data": data }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_beyond_the_number_of_events() {
        let mut store = Store::default();
        for _ in 0..=MAX_EVENTS {
            store.publish(b"1");
        }
        assert!(store.event(0).is_none() && store.event(1).is_none());
        assert!(store.event(2).is_some() && store.event(MAX_EVENTS as u64 + 1).is_some());
        assert!(store.event(MAX_EVENTS as u64 + 2).is_none());
        assert_eq!(store.after(0).count(), MAX_EVENTS);
    }

    #[test]
    fn forgets_the_oldest_beyond_the_number_of_bytes() {
        let mut store = Store::default();
        let body = vec![b'x'; 64 * 1024];
        for _ in 0..300 {
            store.publish(&body);
        }
        assert!(store.bytes <= MAX_BYTES && store.bytes > MAX_BYTES - 2 * body.len(), "{}", store.bytes);
        assert_eq!(store.after(298).map(|(id, _)| id).collect::<Vec<_>>(), [299, 300]);
        assert_eq!(store.after(u64::MAX).count(), 0);
    }
}
