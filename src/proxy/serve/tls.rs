//! The beginning of a connection: the TLS handshake, and the judgement of the client's certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Accepted, drive, plain_http};
use crate::handshake::{self, HandshakeError, Stream, TlsConnection};
use crate::live::Live;
use crate::proxy::services::Services;
use crate::proxy::session::{Peer, Session};
use crate::stop::StopSignal;
use crate::telemetry::{Handshake, HandshakeTimes};

/// Certificates of a chain that is judged on the worker's own thread: the chains of ordinary clients are short, and cheap to
/// judge.
const SHORT_CHAIN: usize = 2;

/// Makes a session: TLS first, then the judgement of the peer. `None` if the connection ends instead.
pub(super) async fn secure(
    services: Arc<Services>,
    socket: TcpStream,
    accepted: Accepted,
) -> Option<(Arc<Session>, Stream)> {
    let Accepted { address, place, stop, established } = accepted;
    // The clock is read only where requests are traced.
    let began = services.tracer.as_ref().map(|_| Instant::now());
    let secured = handshake(&services, socket, &stop).await?;
    let resumed = secured.resumed;
    let handshake = began.map(|began| HandshakeTimes { began, ended: Instant::now(), resumed });
    let live = services.live.load_full();
    let judged = judge(&services, address, secured.chain, &live);
    let peer = drive::until_finished(&stop, judged).await.flatten()?;
    place.set_authenticated(peer.is_authenticated());
    let session = Session::new(services, peer, place, stop, secured.protocol, handshake);
    let session = Arc::new(session);
    let _ = established.set(Arc::downgrade(&session));
    Some((session, secured.stream))
}

/// Judges the peer. A longer chain without a cached verdict is judged on a thread beside the worker's, one at a time: an
/// attacker can make a chain that takes ten milliseconds, for which all other clients of the worker would wait.
async fn judge(
    services: &Arc<Services>,
    address: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    live: &Arc<Live>,
) -> Option<Peer> {
    let now = Timestamp::now();
    if chain.len() <= SHORT_CHAIN || services.verdicts.is_cached(&chain, live, now) {
        return Some(Peer::judge(address, chain, &services.verdicts, live, now));
    }
    // The semaphore is never closed.
    let _turn = services.judging.acquire().await.ok()?;
    let (services, live) = (Arc::clone(services), Arc::clone(live));
    spawn_blocking(move || Peer::judge(address, chain, &services.verdicts, &live, now)).await.ok()
}

async fn handshake(services: &Services, socket: TcpStream, stop: &StopSignal) -> Option<TlsConnection> {
    let (tls, limit) = {
        let live = services.live.load();
        (Arc::clone(&live.tls.value), live.patience.handshake)
    };
    let secured = drive::until_finished(stop, handshake::accept(socket, &tls, limit)).await;
    services.counters.count_handshake(result(secured.as_ref()));
    match secured? {
        Ok(secured) => Some(secured),
        Err(HandshakeError::PlainHttp(socket)) => {
            drive::until_finished(stop, plain_http::answer(services, socket)).await;
            None
        }
        Err(HandshakeError::Failed(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(HandshakeError::TimedOut) => None,
    }
}

fn result(secured: Option<&Result<TlsConnection, HandshakeError>>) -> Handshake {
    match secured {
        Some(Ok(secured)) if secured.resumed => Handshake::Resumed,
        Some(Ok(_)) => Handshake::Full,
        Some(Err(HandshakeError::Failed(_))) => Handshake::Failed,
        Some(Err(HandshakeError::TimedOut)) => Handshake::TimedOut,
        Some(Err(HandshakeError::PlainHttp(_))) => Handshake::PlainHttp,
        None => Handshake::GaveWay,
    }
}
