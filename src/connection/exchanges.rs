//! What the backend is working on for one connection, kept so that it can be judged again while it lasts: whatever
//! goes on under a grant that was withdrawn ends (DESIGN §2.2).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::HeaderMap;
use jiff::Timestamp;

use crate::live::Live;
use crate::policy::{Question, Rights};
use crate::target::Target;

/// What was asked, as far as a policy looks at it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method, the path and the query, as they were judged.
    pub target: Target,
    /// The host that it names.
    pub host: Option<Box<str>>,
    /// The request's headers as they were judged; only under a policy that looks at them.
    pub headers: Option<HeaderMap>,
    /// The protocol that it may switch to.
    pub upgrade: Option<&'static str>,
    /// The peer's address.
    pub source: IpAddr,
}

impl Asked {
    /// Bytes that it keeps in memory.
    pub(super) fn size(&self) -> usize {
        let headers = self.headers.iter().flatten();
        let headers: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
        self.target.path_and_query().as_str().len() + headers
    }

    /// Whether it would be permitted now, as far as is known of it.
    fn is_permitted(&self, live: &Live, rights: &Rights, now: Timestamp) -> bool {
        let question = Question {
            target: &self.target,
            host: self.host.as_deref().into(),
            // A policy that came later may look at what was not kept: to it, all conditions on headers are doubtful.
            headers: self.headers.as_ref(),
            source: self.source,
            now,
            upgrade: self.upgrade,
        };
        live.permit(rights, &question).is_ok_and(|permit| permit.upgrade() || self.upgrade.is_none())
    }
}

/// The exchanges of one connection.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    entries: Mutex<Vec<Option<Entry>>>,
    /// Looked at for every frame of an answer; the entries only where one was withdrawn.
    any_withdrawn: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    asked: Asked,
    /// Whose answer it is, where that is not the connection's own task.
    waker: Option<Waker>,
    withdrawn: bool,
}

impl Exchanges {
    /// One more; the number is its own until it is ended.
    pub(super) fn begin(&self, asked: Asked) -> usize {
        let entry = Some(Entry { asked, waker: None, withdrawn: false });
        let mut entries = self.entries();
        match entries.iter().position(Option::is_none) {
            Some(free) => {
                if let Some(place) = entries.get_mut(free) {
                    *place = entry;
                }
                free
            }
            None => {
                // HTTP/1.1 has one at a time: room for more would be kept by every connection.
                if entries.is_empty() {
                    entries.reserve_exact(1);
                }
                entries.push(entry);
                entries.len() - 1
            }
        }
    }

    pub(super) fn end(&self, number: usize) {
        if let Some(place) = self.entries().get_mut(number) {
            *place = None;
        }
    }

    /// Nothing is to be kept while there is none.
    pub(super) fn rest(&self) {
        let mut entries = self.entries();
        if entries.iter().all(Option::is_none) {
            *entries = Vec::new();
        }
    }

    /// Whom to wake when it is withdrawn.
    pub(super) fn wake(&self, number: usize, waker: &Waker) {
        if let Some(Some(entry)) = self.entries().get_mut(number)
            && entry.waker.as_ref().is_none_or(|known| !known.will_wake(waker))
        {
            entry.waker = Some(waker.clone());
        }
    }

    /// Whether it may not go on.
    pub(super) fn is_withdrawn(&self, number: usize) -> bool {
        self.any_withdrawn.load(Ordering::Relaxed)
            && matches!(self.entries().get(number), Some(Some(entry)) if entry.withdrawn)
    }

    /// Judges all of them again.
    pub(super) fn review(&self, live: &Live, rights: &Rights, now: Timestamp) {
        for entry in self.entries().iter_mut().flatten() {
            if !entry.withdrawn && !entry.asked.is_permitted(live, rights, now) {
                entry.withdrawn = true;
                self.any_withdrawn.store(true, Ordering::Relaxed);
                entry.waker.iter().for_each(Waker::wake_by_ref);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Option<Entry>>> {
        // Nothing panics while it is held.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
