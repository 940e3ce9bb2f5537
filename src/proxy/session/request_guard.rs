//! The guard of a request that is being answered.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{ForwardedRequest, Origin, Part, Session};
use crate::protocol::Protocol;

/// The guard of a request that is being answered: while it lives, from the complete head to the end of the answer, the
/// connection is busy.
#[derive(Debug)]
pub struct RequestGuard {
    session: Arc<Session>,
    /// Number among the forwarded requests, once the request was forwarded.
    forwarded: Option<usize>,
    /// Number of the request on its connection.
    number: u32,
    /// Bytes that are kept of the forwarded request.
    kept: usize,
}

impl RequestGuard {
    /// Begins when the head is complete.
    pub fn begin(session: &Arc<Session>) -> Self {
        let number = session.activity.begin_request();
        session.stop.set_busy(true);
        Self { session: Arc::clone(session), forwarded: None, number, kept: 0 }
    }

    /// Registers the request as forwarded. It is judged again until the guard is dropped.
    pub fn register_forwarded(&mut self, request: ForwardedRequest) {
        self.kept = request.size();
        self.forwarded = Some(self.session.forwarded.begin(request));
    }

    /// `true` if the request may not go on. The task that asks is woken when that changes.
    pub fn poll_withdrawn(&self, cx: &Context<'_>) -> bool {
        let (forwarded, Some(number)) = (&self.session.forwarded, self.forwarded) else { return false };
        // In HTTP/1.1 the connection's own task answers, and every review polls it.
        if self.session.protocol == Protocol::Http2 {
            forwarded.set_waker(number, cx.waker());
        }
        forwarded.is_withdrawn(number)
    }

    /// `true` if the request may not go on.
    pub fn is_withdrawn(&self) -> bool {
        self.forwarded.is_some_and(|number| self.session.forwarded.is_withdrawn(number))
    }

    /// Hands a part of the answer over to HTTP, counted until its last byte is written out.
    pub fn hand_over(&self, bytes: Bytes, origin: Origin) -> Part {
        match self.session.protocol {
            Protocol::Http1 => Part::uncounted(bytes),
            Protocol::Http2 => self.session.hand_over(bytes, self.number, self.kept, origin),
        }
    }

    /// Ready while more of the answer may be handed over. Otherwise the task is woken when that may have changed.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.session.poll_room(self.number, cx)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if let Some(number) = self.forwarded {
            self.session.forwarded.end(number);
        }
        if self.session.activity.end_request() {
            self.session.stop.set_busy(false);
        }
    }
}
