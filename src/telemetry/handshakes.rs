//! TLS handshakes: how they ended, for the counters, and a line of the log for those that failed.

use std::net::SocketAddr;
use std::time::Instant;

use super::throttle::Throttle;
use crate::handshake_failure::HandshakeFailure;

/// The end of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A full handshake.
    Full,
    /// A handshake resumed from a ticket.
    Resumed,
    /// A failure.
    Failed(HandshakeFailure),
    /// The handshake took too long.
    TimedOut,
    /// Plain HTTP came in place of a handshake.
    PlainHttp,
    /// The connection was closed for a newer one, or because the process ends.
    GaveWay,
}

impl Handshake {
    /// Number of different ends.
    pub const COUNT: usize = 5 + HandshakeFailure::ALL.len();

    /// All ends.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [Self::Full, Self::Resumed, Self::TimedOut, Self::PlainHttp, Self::GaveWay];
        others.into_iter().chain(HandshakeFailure::ALL.into_iter().map(Self::Failed))
    }

    /// The value of the label `result`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed(_) => "failed",
            Self::TimedOut => "timed_out",
            Self::PlainHttp => "plain_http",
            Self::GaveWay => "gave_way",
        }
    }

    /// The value of the label `cause`; empty where the result says everything.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Failed(cause) => cause.name(),
            _ => "",
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Full => 0,
            Self::Resumed => 1,
            Self::TimedOut => 2,
            Self::PlainHttp => 3,
            Self::GaveWay => 4,
            Self::Failed(cause) => 5 + cause as usize,
        }
    }
}

/// The lines of one worker about handshakes that failed. Strangers can cause them, so each cause has a limit of its own.
#[derive(Debug, Default)]
pub struct FailedHandshakes {
    failed: [Throttle; HandshakeFailure::ALL.len()],
    timed_out: Throttle,
}

impl FailedHandshakes {
    /// Writes a line about a failure, unless there were too many of this cause. `error` is the error in the words of TLS.
    pub fn log(&self, source: SocketAddr, cause: HandshakeFailure, error: &dyn std::error::Error) {
        let (name, text) = (cause.name(), cause.text());
        // Checks of load balancers connect every few seconds.
        if cause == HandshakeFailure::Silent {
            return tracing::debug!(%source, cause = name, "TLS handshake failed: {text}");
        }
        let throttle = self.failed.get(cause as usize);
        if let Some(left_out) = throttle.and_then(|throttle| throttle.pass(Instant::now())) {
            tracing::warn!(%source, cause = name, %error, left_out, "TLS handshake failed: {text}");
        }
    }

    /// Writes a line about a handshake that took too long, unless there were too many.
    pub fn log_timed_out(&self, source: SocketAddr) {
        if let Some(left_out) = self.timed_out.pass(Instant::now()) {
            tracing::warn!(%source, left_out, "TLS handshake failed: it took longer than `limits.lobby.handshake_timeout`");
        }
    }
}
