//! The beginning of a connection: the TLS handshake, and the judgement of the client's certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Accepted, drive, plain_http};
use crate::handshake::{self, HandshakeError, Stream, TlsConnection};
use crate::proxy::services::Services;
use crate::proxy::session::{Peer, Session};
use crate::stop::StopSignal;
use crate::telemetry::{Handshake, HandshakeTimes};

/// Makes a session: TLS first, then the judgement of the peer. `None` if the connection ends instead.
pub(super) async fn secure(
    services: Arc<Services>,
    socket: TcpStream,
    accepted: Accepted,
) -> Option<(Arc<Session>, Stream)> {
    let Accepted { address, place, stop, established } = accepted;
    // The clock is read only where requests are traced.
    let began = services.tracer.as_ref().map(|_| Instant::now());
    let secured = handshake(&services, socket, address, &stop).await?;
    let resumed = secured.resumed;
    let handshake = began.map(|began| HandshakeTimes { began, ended: Instant::now(), resumed });
    let judged = Peer::judge_in_turn(&services, address, secured.chain);
    let peer = drive::until_finished(&stop, judged).await.flatten()?;
    place.set_authenticated(peer.is_authenticated());
    let session = Session::new(services, peer, place, stop, secured.protocol, handshake);
    let session = Arc::new(session);
    let _ = established.set(Arc::downgrade(&session));
    Some((session, secured.stream))
}

async fn handshake(
    services: &Services,
    socket: TcpStream,
    address: SocketAddr,
    stop: &StopSignal,
) -> Option<TlsConnection> {
    let (tls, limit) = {
        let live = services.live.load();
        (Arc::clone(&live.tls.value), live.client_timeouts.handshake_timeout)
    };
    let secured = drive::until_finished(stop, handshake::accept(socket, &tls, limit)).await;
    services.counters.count_handshake(result(secured.as_ref()));
    match secured? {
        Ok(secured) => Some(secured),
        Err(HandshakeError::PlainHttp(socket)) => {
            drive::until_finished(stop, plain_http::answer(services, socket)).await;
            None
        }
        Err(HandshakeError::Failed(cause, error)) => {
            services.failed_handshakes.log(address, cause, &error);
            None
        }
        Err(HandshakeError::TimedOut) => {
            services.failed_handshakes.log_timed_out(address);
            None
        }
    }
}

fn result(secured: Option<&Result<TlsConnection, HandshakeError>>) -> Handshake {
    match secured {
        Some(Ok(secured)) if secured.resumed => Handshake::Resumed,
        Some(Ok(_)) => Handshake::Full,
        Some(Err(HandshakeError::Failed(cause, _))) => Handshake::Failed(*cause),
        Some(Err(HandshakeError::TimedOut)) => Handshake::TimedOut,
        Some(Err(HandshakeError::PlainHttp(_))) => Handshake::PlainHttp,
        None => Handshake::GaveWay,
    }
}
