//! Time limits of clients' connections.

use std::time::Duration;

/// Time limits of clients' connections (`limits`).
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// Time for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for the headers of a request, and until the first request.
    pub request_timeout: Duration,
    /// Time between requests while the connection holds no slot.
    pub lobby_idle_timeout: Duration,
    /// Time between requests while the connection holds a slot.
    pub idle_timeout: Duration,
    /// Time without a byte in either direction, after a switch of protocols.
    pub upgrade_idle_timeout: Duration,
    /// Time for which the client may read nothing of an answer that waits for it.
    pub write_timeout: Duration,
    /// Age at which a connection ends with its next answer; zero for no bound.
    pub connection_age: Duration,
}

impl ClientTimeouts {
    /// The shortest time limit that can apply once TLS is done.
    pub fn shortest(&self) -> Duration {
        self.request_timeout.min(self.lobby_idle_timeout).min(self.idle_timeout).min(self.write_timeout)
    }
}
