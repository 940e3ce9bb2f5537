//! The one place that decides when a connection has done nothing, or its client has read nothing, for too long.

use tokio::time::Instant;

use super::Patience;
use super::pulse::Felt;

/// Facts that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) doing: Felt,
    /// The instant since which the client has taken nothing of an answer that waits for it: of a part that HTTP/2 has no window
    /// for, or of what the socket has no room for.
    pub(super) unread_since: Option<Instant>,
    pub(super) has_slot: bool,
}

/// The end of a connection if nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) because: Because,
}

/// The reason for a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// The client reads nothing. A farewell would not be read either.
    NobodyReads,
    /// The client asks nothing, or too slowly.
    NothingAsked,
}

impl Situation {
    /// `None` while a request is answered and its client takes what there is.
    pub(super) fn deadline(&self, patience: &Patience) -> Option<Deadline> {
        let reader = self
            .unread_since
            .map(|since| Deadline { at: since + patience.write, because: Because::NobodyReads });
        let asked =
            self.asked_at_the_latest(patience).map(|at| Deadline { at, because: Because::NothingAsked });
        [reader, asked].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }

    fn asked_at_the_latest(&self, patience: &Patience) -> Option<Instant> {
        match self.doing {
            Felt::Busy => None,
            Felt::ReadingHead(since) | Felt::Fresh(since) => Some(since + patience.request),
            // A client is not idle while the end of its last answer is on its way to it.
            Felt::Idle(_) if self.unread_since.is_some() => None,
            Felt::Idle(since) if self.has_slot => Some(since + patience.idle),
            Felt::Idle(since) => Some(since + patience.lobby_idle),
        }
    }

    /// Whether nothing is asked and nothing is left to be read.
    pub(super) fn is_at_rest(&self) -> bool {
        self.doing != Felt::Busy && self.unread_since.is_none()
    }

    /// Whether a stopping server waits for the connection. Answers to strangers, and refusals to clients that were given
    /// nothing, are worth no delay.
    pub(super) fn may_hold_up_an_end(&self) -> bool {
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

    const PATIENCE: Patience = Patience {
        handshake: seconds(1),
        request: seconds(10),
        lobby_idle: seconds(20),
        idle: seconds(75),
        upgrade_idle: seconds(300),
        write: seconds(60),
    };

    #[test]
    fn every_state_has_its_limit_and_an_answer_that_nobody_reads_has_one_in_each() {
        let start = Instant::now();
        let (reads, asks) = (Because::NobodyReads, Because::NothingAsked);
        for (doing, unread, has_slot, expected) in [
            (Felt::Busy, None, true, None),
            (Felt::Busy, Some(5), true, Some((65, reads))),
            (Felt::Busy, Some(5), false, Some((65, reads))),
            (Felt::ReadingHead(start), None, true, Some((10, asks))),
            (Felt::ReadingHead(start), Some(5), true, Some((10, asks))),
            (Felt::Fresh(start), Some(5), false, Some((10, asks))),
            (Felt::Idle(start), None, true, Some((75, asks))),
            (Felt::Idle(start), None, false, Some((20, asks))),
            (Felt::Idle(start), Some(5), true, Some((65, reads))),
            (Felt::Idle(start), Some(5), false, Some((65, reads))),
        ] {
            let unread_since = unread.map(|after| start + seconds(after));
            let situation = Situation { doing, unread_since, has_slot };
            let expected = expected.map(|(after, because)| Deadline { at: start + seconds(after), because });
            assert_eq!(situation.deadline(&PATIENCE), expected, "{situation:?}");
        }
    }

    #[test]
    fn only_what_was_given_a_slot_holds_up_the_end() {
        let now = Instant::now();
        for (unread_since, has_slot, expected) in
            [(None, false, true), (None, true, true), (Some(now), true, true), (Some(now), false, false)]
        {
            let situation = Situation { doing: Felt::Busy, unread_since, has_slot };
            assert_eq!(situation.may_hold_up_an_end(), expected, "{situation:?}");
            assert!(!situation.is_at_rest());
        }
        let idle = |unread_since| Situation { doing: Felt::Idle(now), unread_since, has_slot: false };
        assert!(idle(None).is_at_rest() && !idle(Some(now)).is_at_rest());
    }
}
