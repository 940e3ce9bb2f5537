//! The bytes of one connection: TLS, then HTTP until one side ends it, a deadline passes, or an order to stop comes.
//!
//! [`gate`] decides about each request; this module obeys: it closes the connection, discards a body, or switches protocols.

mod closing;
mod drive;
mod http1;
mod http2;
pub mod lines;
mod outbox;
mod oversized;
mod plain_http;
mod resets;
mod resting;
mod stream;
mod tls;
mod window;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

use http::Response;
use tokio::net::TcpStream;

use crate::admission::LobbyPlace;
use crate::protocol::Protocol;
use crate::proxy::gate;
use crate::proxy::reply::Reply;
use crate::proxy::services::Services;
use crate::proxy::session::Session;
use crate::stop::StopSignal;

/// The session of a connection, for those that look at it from outside; filled once the handshake is done.
pub type Established = Arc<OnceLock<Weak<Session>>>;

/// The response to one request, while it is made. Each is a future of its own on the heap: an idle connection holds none.
type Responding = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The peer's address.
    pub address: SocketAddr,
    /// The connection's place in the lobby.
    pub place: LobbyPlace,
    /// Orders to the connection.
    pub stop: Arc<StopSignal>,
    /// The cell in which the session is shown to the worker's registry.
    pub established: Established,
}

/// Serves one accepted socket until its connection ends.
pub fn serve(services: Arc<Services>, socket: TcpStream, accepted: Accepted) -> impl Future<Output = ()> {
    // The handshake is a future on the heap, so that its memory is free once it is done.
    let secured = Box::pin(tls::secure(services, socket, accepted));
    async {
        if let Some((session, stream)) = secured.await {
            match session.protocol {
                Protocol::Http1 => http1::serve(session, stream).await,
                Protocol::Http2 => Box::pin(http2::serve(session, stream)).await,
            }
        }
    }
}
