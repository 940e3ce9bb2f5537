//! Deadlines: the one place that decides when a connection has done nothing, or its client has read nothing, for too long.

use tokio::time::Instant;

use super::Phase;
use crate::live::ClientTimeouts;

/// Facts that decide the deadline of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) phase: Phase,
    /// The instant since which the client has taken nothing of an answer: of a part that HTTP/2 has no window for, or of
    /// bytes that the socket has no room for.
    pub(crate) unread_since: Option<Instant>,
    pub(crate) has_slot: bool,
}

/// The instant at which a connection ends if nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) reason: Reason,
}

/// The reason for a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The client reads nothing, so it would not read a closing frame either.
    Unread,
    /// The client sends no request, or sends one too slowly.
    NoRequest,
}

impl Situation {
    /// The deadline; `None` while a request is being answered and the client reads the answer.
    pub(crate) fn deadline(&self, client_timeouts: &ClientTimeouts) -> Option<Deadline> {
        let reader = self
            .unread_since
            .map(|since| Deadline { at: since + client_timeouts.write_timeout, reason: Reason::Unread });
        let request =
            self.request_deadline(client_timeouts).map(|at| Deadline { at, reason: Reason::NoRequest });
        [reader, request].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }

    fn request_deadline(&self, client_timeouts: &ClientTimeouts) -> Option<Instant> {
        match self.phase {
            Phase::Busy => None,
            Phase::ReadingHead(since) | Phase::New(since) => Some(since + client_timeouts.request_timeout),
            // A client is not idle while the end of the last answer is on its way.
            Phase::Idle(_) if self.unread_since.is_some() => None,
            Phase::Idle(since) if self.has_slot => Some(since + client_timeouts.idle_timeout),
            Phase::Idle(since) => Some(since + client_timeouts.lobby_idle_timeout),
        }
    }

    /// `true` if no request is in progress and no answer is unread.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.phase != Phase::Busy && self.unread_since.is_none()
    }

    /// `true` if a stopping server waits for the connection. Refusals that are unread, on a connection without a slot, delay
    /// no shutdown.
    pub(crate) fn delays_shutdown(&self) -> bool {
        self.has_slot || self.unread_since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    const CLIENT_TIMEOUTS: ClientTimeouts = ClientTimeouts {
        handshake_timeout: seconds(1),
        request_timeout: seconds(10),
        lobby_idle_timeout: seconds(20),
        idle_timeout: seconds(75),
        upgrade_idle_timeout: seconds(300),
        write_timeout: seconds(60),
        connection_age: Duration::ZERO,
    };

    #[test]
    fn every_phase_has_its_time_limit_and_an_unread_answer_has_one_in_each() {
        let start = Instant::now();
        let (reads, asks) = (Reason::Unread, Reason::NoRequest);
        for (phase, unread, has_slot, expected) in [
            (Phase::Busy, None, true, None),
            (Phase::Busy, Some(5), true, Some((65, reads))),
            (Phase::Busy, Some(5), false, Some((65, reads))),
            (Phase::ReadingHead(start), None, true, Some((10, asks))),
            (Phase::ReadingHead(start), Some(5), true, Some((10, asks))),
            (Phase::New(start), Some(5), false, Some((10, asks))),
            (Phase::Idle(start), None, true, Some((75, asks))),
            (Phase::Idle(start), None, false, Some((20, asks))),
            (Phase::Idle(start), Some(5), true, Some((65, reads))),
            (Phase::Idle(start), Some(5), false, Some((65, reads))),
        ] {
            let unread_since = unread.map(|after| start + seconds(after));
            let situation = Situation { phase, unread_since, has_slot };
            let expected = expected.map(|(after, reason)| Deadline { at: start + seconds(after), reason });
            assert_eq!(situation.deadline(&CLIENT_TIMEOUTS), expected, "{situation:?}");
        }
    }

    #[test]
    fn only_connections_with_a_slot_delay_the_shutdown() {
        let now = Instant::now();
        for (unread_since, has_slot, expected) in
            [(None, false, true), (None, true, true), (Some(now), true, true), (Some(now), false, false)]
        {
            let situation = Situation { phase: Phase::Busy, unread_since, has_slot };
            assert_eq!(situation.delays_shutdown(), expected, "{situation:?}");
            assert!(!situation.is_at_rest());
        }
        let idle = |unread_since| Situation { phase: Phase::Idle(now), unread_since, has_slot: false };
        assert!(idle(None).is_at_rest() && !idle(Some(now)).is_at_rest());
    }
}
