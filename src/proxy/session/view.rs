//! A connection as the admin listener shows it.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Phase, Session};
use crate::refusal::Refusal;

/// One open connection.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The peer.
    pub source: SocketAddr,
    /// The time at which the connection was accepted.
    pub since: Timestamp,
    /// The client's name; of a client that is not authenticated, the name in its certificate, which proves nothing.
    pub client: Option<String>,
    /// The client entries of the policy that match.
    pub grants: Vec<String>,
    /// The reason why the client is not authenticated, if it is not.
    pub unauthenticated: Option<String>,
    /// The end of the client's authentication, if nothing changes.
    pub valid_until: Option<Timestamp>,
    /// `HTTP/1.1` or `HTTP/2`; `None` before the handshake is done.
    pub protocol: Option<&'static str>,
    /// `handshake`, `new` (no request yet), `reading` (the head of a request), `busy` or `idle`.
    pub state: &'static str,
    /// `true` if the connection holds a slot; otherwise it is in the lobby.
    pub slot: bool,
    /// Number of requests so far.
    pub requests: u32,
    /// Number of requests that are being answered.
    pub in_progress: u32,
}

impl View {
    /// Returns the view of a connection in its TLS handshake.
    #[must_use]
    pub const fn in_handshake(source: SocketAddr, since: Timestamp) -> Self {
        Self {
            source,
            since,
            client: None,
            grants: Vec::new(),
            unauthenticated: None,
            valid_until: None,
            protocol: None,
            state: "handshake",
            slot: false,
            requests: 0,
            in_progress: 0,
        }
    }
}

impl Session {
    /// Returns the view of the connection as it is now.
    #[must_use]
    pub fn view(&self, since: Timestamp) -> View {
        let now = Timestamp::now();
        let left = self.peer.time_left(now).and_then(|left| SignedDuration::try_from(left).ok());
        let peer = self.peer.summary();
        View {
            client: peer.name,
            grants: peer.client.map(|client| client.grants.clone()).unwrap_or_default(),
            unauthenticated: peer.unauthenticated.map(|because| Refusal::Unauthenticated(because).detail()),
            valid_until: left.and_then(|left| now.checked_add(left).ok()),
            protocol: Some(self.protocol.name()),
            state: match self.activity.phase() {
                // An answer that the client has not read yet is not over.
                _ if self.situation().unread_since.is_some() => "busy",
                Phase::Busy => "busy",
                Phase::ReadingHead(_) => "reading",
                Phase::New(_) => "new",
                Phase::Idle(_) => "idle",
            },
            slot: self.holding.has_slot(),
            requests: self.activity.requests(),
            in_progress: self.activity.in_progress(),
            ..View::in_handshake(self.peer.address, since)
        }
    }
}
