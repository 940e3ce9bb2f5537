//! Store of the last events in memory, bounded in number and bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};

use super::stream::{Followers, Subscription};

/// Maximum number of events.
const MAX_EVENTS: usize = 10_000;
/// Maximum number of bytes of all events.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Events as JSON texts, oldest first. The ids are consecutive.
#[derive(Debug, Default)]
pub(super) struct Store {
    events: VecDeque<Bytes>,
    /// Id of the last published event.
    last: u64,
    bytes: usize,
    followers: Followers,
}

impl Store {
    /// Stores an event, sends it to the followers, and returns its id.
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

    /// Returns the events after this id, with their ids.
    pub(super) fn after(&self, id: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        let first = self.first();
        let skipped = id.saturating_add(1).saturating_sub(first);
        (first..).zip(&self.events).skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// Subscribes to new events, and to the events after `seen` if it is given.
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

/// Returns an event as JSON. A body that is not JSON becomes a string, without invalid UTF-8.
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
