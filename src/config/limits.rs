//! The keys below `limits` and `backend` that bound connections and requests.

use super::Limits;
use super::keys::{BackendSection, HttpSection, LimitsSection, LobbySection};
use crate::admission::{Bounds, Queue};
use crate::forward::discard::Discard;
use crate::live::{ClientTimeouts, HttpLimits};

/// The bounds on connections.
pub(super) const fn limits(limits: &LimitsSection, lobby: &LobbySection, http: &HttpSection) -> Limits {
    Limits {
        max_connections: limits.max_connections,
        max_connections_per_client: limits.max_connections_per_client,
        reserved: limits.reserved_for_high_priority,
        lobby: Bounds {
            max_connections: lobby.max_connections,
            max_per_source: lobby.max_per_source,
            connections_per_second: lobby.connections_per_second,
            handshakes: lobby.handshakes,
        },
        http: HttpLimits {
            header_bytes: http.max_header_bytes,
            headers: http.max_headers,
            streams: http.max_streams,
            pending_resets: http.max_pending_resets,
            provoked_resets: http.max_provoked_resets,
            discard: Discard { bytes: http.discard, time: http.discard_timeout },
        },
    }
}

/// The time limits of connections.
pub(super) const fn client_timeouts(
    limits: &LimitsSection,
    lobby: &LobbySection,
    http: &HttpSection,
) -> ClientTimeouts {
    ClientTimeouts {
        handshake_timeout: lobby.handshake_timeout,
        request_timeout: lobby.request_timeout,
        lobby_idle_timeout: lobby.idle_timeout,
        idle_timeout: limits.idle_timeout,
        upgrade_idle_timeout: limits.upgrade_idle_timeout,
        write_timeout: http.write_timeout,
        connection_age: limits.connection_age,
    }
}

/// The queue of requests that wait for a place in flight. There is none if its length or its time is zero.
pub(super) const fn queue(backend: &BackendSection) -> Queue {
    Queue { length: backend.queue, timeout: backend.queue_timeout }
}
