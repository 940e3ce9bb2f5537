//! A connection as it is seen from outside: who is at its other end, and what it does.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Connection;
use super::pulse::Felt;
use crate::handshake::Protocol;
use crate::refusal::Refusal;

/// One open connection.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The peer.
    pub source: SocketAddr,
    /// When it was accepted.
    pub since: Timestamp,
    /// Who the client is; of one that is not authenticated, what its certificate says, which nobody vouches for.
    pub client: Option<String>,
    /// The policy's entries that it matches.
    pub grants: Vec<String>,
    /// Why it is nobody, where it is.
    pub unauthenticated: Option<String>,
    /// Until when its certificate is good, if nothing else changes.
    pub valid_until: Option<Timestamp>,
    /// `HTTP/1.1` or `HTTP/2`; nothing before the handshake is done.
    pub protocol: Option<&'static str>,
    /// `handshake`, `new` (nothing asked yet), `reading` (a request's head), `busy` or `idle`.
    pub state: &'static str,
    /// Whether it holds a slot; otherwise it is in the lobby.
    pub slot: bool,
    /// Requests that it has made.
    pub requests: u32,
    /// Requests of them that are being answered.
    pub in_progress: u32,
}

impl View {
    /// One that is in its handshake.
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

impl Connection {
    /// How it looks just now.
    #[must_use]
    pub fn view(&self, since: Timestamp) -> View {
        let now = Timestamp::now();
        let left = self.peer.time_left(now).and_then(|left| SignedDuration::try_from(left).ok());
        let introduced = self.peer.introduced();
        View {
            client: introduced.name,
            grants: introduced.client.map(|client| client.grants.clone()).unwrap_or_default(),
            unauthenticated: introduced
                .unauthenticated
                .map(|because| Refusal::Unauthenticated(because).detail()),
            valid_until: left.and_then(|left| now.checked_add(left).ok()),
            protocol: Some(match self.protocol {
                Protocol::Http1 => "HTTP/1.1",
                Protocol::Http2 => "HTTP/2",
            }),
            state: match self.pulse.felt() {
                // An answer that waits for its reader is not over.
                _ if self.situation().unread_since.is_some() => "busy",
                Felt::Busy => "busy",
                Felt::ReadingHead(_) => "reading",
                Felt::Fresh(_) => "new",
                Felt::Idle(_) => "idle",
            },
            slot: self.holding.has_slot(),
            requests: self.pulse.asked(),
            in_progress: self.pulse.in_progress(),
            ..View::in_handshake(self.peer.address, since)
        }
    }
}
