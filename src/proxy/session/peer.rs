//! The peer: the other end of one connection, authenticated for as long as that is true, or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use crate::identity::Unauthenticated;
use crate::live::Live;
use crate::proxy::client::{Client, Verdicts};

/// The other end of one connection.
#[derive(Debug)]
pub struct Peer {
    /// The address from which the peer connects.
    pub address: SocketAddr,
    authentication: ArcSwap<Authentication>,
    judgements: AtomicU32,
}

#[derive(Debug)]
enum Authentication {
    Valid(Arc<Client>),
    /// Not authenticated for the rest of the connection: only a new handshake proves possession of the key anew. The name is
    /// the one in the certificate, which proves nothing.
    None(Unauthenticated, Option<Box<str>>),
    /// Authenticated once, and not any more.
    Lapsed(Unauthenticated, Arc<Client>),
}

/// A summary of the peer, for records and views. No decision is made from it.
#[derive(Debug, Default)]
pub struct PeerSummary {
    /// The client's name; of a peer that is not authenticated, the name in its certificate, which proves nothing.
    pub name: Option<String>,
    /// The client that the peer is, or was.
    pub client: Option<Arc<Client>>,
    /// The reason why the peer is not authenticated, if it is not.
    pub unauthenticated: Option<Unauthenticated>,
}

impl Peer {
    /// Judges the chain that was presented in the handshake.
    #[must_use]
    pub fn judge(
        address: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
        verdicts: &Verdicts,
        live: &Live,
        now: Timestamp,
    ) -> Self {
        let authentication = match verdicts.judge(&chain, live, now) {
            Ok(client) => Authentication::Valid(client),
            Err(stranger) => Authentication::None(stranger.because, stranger.name),
        };
        Self { address, authentication: ArcSwap::from_pointee(authentication), judgements: AtomicU32::new(1) }
    }

    /// Returns the client at this instant and under this snapshot. A verdict that is out of date is reached again first.
    ///
    /// # Errors
    /// The reason why the peer is not authenticated.
    pub fn client(
        &self,
        verdicts: &Verdicts,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Unauthenticated> {
        match &**self.authentication.load() {
            Authentication::Valid(client) if client.holds(live.generation, now) => Ok(Arc::clone(client)),
            Authentication::Valid(client) => self.judge_again(client, verdicts, live, now),
            Authentication::None(because, _) | Authentication::Lapsed(because, _) => Err(because.clone()),
        }
    }

    /// Judges the client again. All tasks of a connection run on one thread, so its authentication does not change meanwhile.
    fn judge_again(
        &self,
        client: &Arc<Client>,
        verdicts: &Verdicts,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Unauthenticated> {
        self.judgements.fetch_add(1, Ordering::Relaxed);
        let judged = verdicts.judge_again(client, live, now).map_err(|stranger| stranger.because);
        self.authentication.store(Arc::new(match &judged {
            Ok(client) => Authentication::Valid(Arc::clone(client)),
            Err(because) => Authentication::Lapsed(because.clone(), Arc::clone(client)),
        }));
        judged
    }

    /// `true` if the peer is authenticated.
    pub fn is_authenticated(&self) -> bool {
        matches!(**self.authentication.load(), Authentication::Valid(_))
    }

    /// Number of judgements so far. A timer for the end of the identity is set anew when the number grows.
    pub fn judgements(&self) -> u32 {
        self.judgements.load(Ordering::Relaxed)
    }

    /// Time until the identity expires; `None` if the peer is not authenticated.
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        match &**self.authentication.load() {
            Authentication::Valid(client) => {
                Some(Duration::try_from(client.valid_until.duration_since(now)).unwrap_or_default())
            }
            Authentication::None(..) | Authentication::Lapsed(..) => None,
        }
    }

    /// `true` if the peer was authenticated on this connection once and is not any more: the certificate expired or was
    /// revoked.
    pub fn has_lapsed(&self) -> bool {
        matches!(**self.authentication.load(), Authentication::Lapsed(..))
    }

    /// Returns a summary of the peer.
    pub fn summary(&self) -> PeerSummary {
        let of = |client: &Arc<Client>, because: Option<&Unauthenticated>| PeerSummary {
            name: Some(client.name.clone()),
            client: Some(Arc::clone(client)),
            unauthenticated: because.cloned(),
        };
        match &**self.authentication.load() {
            Authentication::Valid(client) => of(client, None),
            Authentication::Lapsed(because, client) => of(client, Some(because)),
            Authentication::None(because, name) => PeerSummary {
                name: name.as_deref().map(str::to_owned),
                client: None,
                unauthenticated: Some(because.clone()),
            },
        }
    }
}
