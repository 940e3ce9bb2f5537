//! Time limits of clients' connections.

use std::time::Duration;

/// Time limits of clients' connections (`limits`).
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the headers of a request, and until the first request.
    pub request: Duration,
    /// Time between requests while the connection holds no slot.
    pub lobby_idle: Duration,
    /// Time between requests while the connection holds a slot.
    pub idle: Duration,
    /// Time without a byte in either direction, after a switch of protocols.
    pub upgrade_idle: Duration,
    /// Time for which the client may read nothing of an answer that waits for it.
    pub write: Duration,
    /// Age at which a connection ends with its next answer; zero for no bound.
    pub age: Duration,
}

impl Patience {
    /// The shortest time limit that can apply once TLS is done.
    pub fn shortest(&self) -> Duration {
        self.request.min(self.lobby_idle).min(self.idle).min(self.write)
    }
}
