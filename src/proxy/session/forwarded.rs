//! Requests of a connection that were forwarded and have not ended. A request is judged again as soon as the policy, or the
//! client's identity, has changed, and ends where it would not be permitted any more (DESIGN §2.2).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::live::Live;
use crate::policy::{Question, Rights, Upgrade};
use crate::target::Target;

/// A forwarded request, as far as a policy looks at it.
#[derive(Clone, Debug)]
pub struct ForwardedRequest {
    /// The method, the path and the query, as they were judged.
    pub target: Target,
    /// The host that the request names.
    pub host: Option<Box<str>>,
    /// The headers as they were judged; only under a policy that looks at headers.
    pub headers: Option<HeaderMap>,
    /// The protocol that the request may switch to.
    pub upgrade: Option<Upgrade>,
    /// The peer's address.
    pub source: IpAddr,
}

impl ForwardedRequest {
    /// Bytes that the request keeps in memory.
    pub(super) fn size(&self) -> usize {
        let headers = self.headers.iter().flatten();
        let headers: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
        self.target.path_and_query().as_str().len() + headers
    }

    /// `true` if the request would be permitted now, as far as is known of it.
    fn is_permitted(&self, live: &Live, rights: &Rights, now: Timestamp) -> bool {
        let question = Question {
            target: &self.target,
            host: self.host.as_deref().into(),
            // A newer policy may look at headers that were not kept: all its conditions on headers are then in doubt.
            headers: self.headers.as_ref(),
            source: self.source,
            now,
            upgrade: self.upgrade,
        };
        live.permit(rights, &question).is_ok_and(|permit| permit.allows_upgrade() || self.upgrade.is_none())
    }
}

/// The forwarded requests of one connection.
#[derive(Debug, Default)]
pub(super) struct ForwardedRequests {
    entries: Mutex<Vec<Option<Entry>>>,
    /// Read for every frame of an answer; the entries are looked at only if a request was withdrawn.
    any_withdrawn: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    request: ForwardedRequest,
    /// The task that answers the request, if it is not the connection's own.
    waker: Option<Waker>,
    withdrawn: bool,
}

impl ForwardedRequests {
    /// Adds a request. The returned number is the request's own until `end`.
    pub(super) fn begin(&self, request: ForwardedRequest) -> usize {
        let entry = Some(Entry { request, waker: None, withdrawn: false });
        let mut entries = self.entries.lock();
        if let Some(number) = entries.iter().position(Option::is_none) {
            if let Some(free) = entries.get_mut(number) {
                *free = entry;
            }
            return number;
        }
        // HTTP/1.1 has one request at a time: room for more would be kept by every connection.
        if entries.is_empty() {
            entries.reserve_exact(1);
        }
        entries.push(entry);
        entries.len() - 1
    }

    /// Removes a request that has ended.
    pub(super) fn end(&self, number: usize) {
        if let Some(entry) = self.entries.lock().get_mut(number) {
            *entry = None;
        }
    }

    /// Gives memory back if there is no request.
    pub(super) fn shrink(&self) {
        let mut entries = self.entries.lock();
        if entries.iter().all(Option::is_none) {
            *entries = Vec::new();
        }
    }

    /// Names the task that is woken when the request is withdrawn.
    pub(super) fn set_waker(&self, number: usize, waker: &Waker) {
        if let Some(Some(entry)) = self.entries.lock().get_mut(number)
            && entry.waker.as_ref().is_none_or(|known| !known.will_wake(waker))
        {
            entry.waker = Some(waker.clone());
        }
    }

    /// `true` if the request may not go on.
    pub(super) fn is_withdrawn(&self, number: usize) -> bool {
        self.any_withdrawn.load(Ordering::Relaxed)
            && matches!(self.entries.lock().get(number), Some(Some(entry)) if entry.withdrawn)
    }

    /// Judges all requests again, and withdraws those that are not permitted any more.
    pub(super) fn review(&self, live: &Live, rights: &Rights, now: Timestamp) {
        for entry in self.entries.lock().iter_mut().flatten() {
            if !entry.withdrawn && !entry.request.is_permitted(live, rights, now) {
                entry.withdrawn = true;
                self.any_withdrawn.store(true, Ordering::Relaxed);
                entry.waker.iter().for_each(Waker::wake_by_ref);
            }
        }
    }
}
