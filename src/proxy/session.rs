//! A session: what is known of one connection on which TLS is done. The tasks of the connection write it, all on one thread;
//! the admin listener reads it.

mod activity;
mod deadline;
mod forwarded;
mod interim;
mod peer;
mod request_guard;
mod unread;
mod view;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::{Holding, LobbyPlace};
use crate::forward::discard::Discard;
use crate::forward::headers::ConnectionHeaders;
use crate::identity::Unauthenticated;
use crate::live::Live;
use crate::protocol::Protocol;
use crate::proxy::client::Client;
use crate::proxy::services::Services;
use crate::stop::{Order, StopSignal};
use crate::telemetry::{Done, HandshakeTimes};

pub(crate) use activity::{Activity, Phase};
pub(crate) use deadline::{Deadline, Reason, Situation};
pub use forwarded::ForwardedRequest;
pub(crate) use interim::InterimAnswers;
pub use peer::{Peer, PeerSummary};
pub use request_guard::RequestGuard;
pub use unread::{Origin, Part};
pub use view::View;

use forwarded::ForwardedRequests;
use unread::UnreadAnswers;

/// The facts about one connection on which TLS is done.
#[derive(Debug)]
pub struct Session {
    /// The services of the connection's worker.
    pub services: Arc<Services>,
    /// The other end, authenticated or not.
    pub peer: Peer,
    /// The place in the lobby, or the slot, that the connection holds.
    pub holding: Holding,
    /// Orders to the connection.
    pub stop: Arc<StopSignal>,
    /// The version of HTTP.
    pub protocol: Protocol,
    /// The headers that tell the backend about the connection.
    pub headers: ConnectionHeaders,
    /// The activity of the connection: its phase, and since when.
    pub(crate) activity: Activity,
    /// Interim answers that wait to be written.
    pub(crate) interim: InterimAnswers,
    forwarded: ForwardedRequests,
    /// Answers that wait for the client to read them.
    unread: UnreadAnswers,
    /// The course of the handshake, until a trace takes it; only where requests are traced.
    handshake: Mutex<Option<HandshakeTimes>>,
    began: Instant,
    /// A random number, by which the age at which the connection ends differs from that of others.
    spread: u8,
    /// The end of the exchanges in progress when Sidegate closed the connection.
    closed: OnceLock<Done>,
}

impl Session {
    /// Begins with a place in the lobby.
    pub(crate) fn new(
        services: Arc<Services>,
        peer: Peer,
        place: LobbyPlace,
        stop: Arc<StopSignal>,
        protocol: Protocol,
        handshake: Option<HandshakeTimes>,
    ) -> Self {
        // Without randomness the age is the same for all.
        let mut spread = [128];
        let _ = aws_lc_rs::rand::fill(&mut spread);
        let [spread] = spread;
        Self {
            headers: ConnectionHeaders::of(peer.address.ip()),
            services,
            peer,
            holding: Holding::in_lobby(place),
            stop,
            protocol,
            activity: Activity::start(),
            interim: InterimAnswers::default(),
            forwarded: ForwardedRequests::default(),
            unread: UnreadAnswers::default(),
            handshake: Mutex::new(handshake),
            closed: OnceLock::new(),
            began: Instant::now(),
            spread,
        }
    }

    /// Time until the connection has the age at which it ends (`limits.connection_age`); `None` if it is older, or never ends
    /// for its age. The age differs by up to a tenth from connection to connection, so that they do not end together.
    pub(crate) fn time_to_age(&self) -> Option<Duration> {
        let age = self.services.live.load().client_timeouts.connection_age;
        let own = age * (230 + u32::from(self.spread) / 5) / 256;
        (!age.is_zero()).then(|| (self.began + own).checked_duration_since(Instant::now())).flatten()
    }

    /// `true` if the connection has the age at which it ends.
    pub(crate) fn is_aged(&self) -> bool {
        !self.services.live.load().client_timeouts.connection_age.is_zero() && self.time_to_age().is_none()
    }

    /// The part of a request's body that may still come after an early answer.
    pub(crate) fn discard(&self) -> Discard {
        self.services.live.load().limits.discard
    }

    /// Gives the slot back, if the connection holds one, and returns a place in the lobby.
    pub(crate) fn place_in_lobby(&self) -> LobbyPlace {
        self.holding.take_place().unwrap_or_else(|| {
            let place = self.services.admission.lobby.enter(self.peer.address.ip(), Arc::clone(&self.stop));
            place.set_authenticated(self.peer.is_authenticated());
            place
        })
    }

    /// Notes that Sidegate closes the connection, and the end of the exchanges that are in progress on it.
    pub(crate) fn close_by_us(&self, done: Done) {
        let _ = self.closed.set(done);
    }

    /// The end of an exchange that has not come to its own end because Sidegate closed the connection.
    pub(crate) fn closed_by_us(&self) -> Option<Done> {
        let stopped = || self.stop.includes(Order::Close).then_some(Done::Stopped);
        self.closed.get().copied().or_else(stopped)
    }

    /// Returns the course of the handshake to the first caller.
    pub fn take_handshake(&self) -> Option<HandshakeTimes> {
        self.handshake.lock().take()
    }

    /// Returns the client at this instant and under this snapshot. A verdict that is out of date is reached again first.
    ///
    /// # Errors
    /// The reason why the peer is not authenticated.
    pub(crate) fn client(&self, live: &Live, now: Timestamp) -> Result<Arc<Client>, Unauthenticated> {
        let before = self.peer.judgements();
        let client = self.peer.client(&self.services.verdicts, live, now);
        if self.peer.judgements() != before {
            self.holding.set_authenticated(client.is_ok());
        }
        client
    }

    /// Judges the peer again if that takes too long for the worker's own thread. Returns `true` if the peer was judged.
    pub(crate) async fn judge_aside(&self, now: Timestamp) -> bool {
        let is_judged = self.peer.judge_aside(&self.services, now).await;
        if is_judged {
            self.holding.set_authenticated(self.peer.is_authenticated());
        }
        is_judged
    }

    /// Judges requests in progress again, and withdraws those that the client may no longer have. Returns `true` if the
    /// client was authenticated on this connection once and is not any more (DESIGN §2.2).
    pub(crate) fn review(&self) -> bool {
        let (live, now) = (self.services.live.load(), Timestamp::now());
        match self.client(&live, now) {
            Ok(client) => {
                self.forwarded.review(&live, &client.rights, now);
                false
            }
            Err(_) => self.peer.has_lapsed(),
        }
    }

    /// The facts that decide when the connection has done nothing for too long.
    pub(crate) fn situation(&self) -> Situation {
        let unread = [self.activity.blocked_since(), self.unread.oldest()];
        Situation {
            phase: self.activity.phase(),
            unread_since: unread.into_iter().flatten().min(),
            has_slot: self.holding.has_slot(),
        }
    }

    /// Gives memory back while the connection rests.
    pub(crate) fn rest(&self) {
        self.forwarded.shrink();
    }
}
