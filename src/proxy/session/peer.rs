//! The peer: the other end of one connection, authenticated for as long as that is true, or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::identity::Unauthenticated;
use crate::live::Live;
use crate::proxy::client::{Client, Stranger, Verdicts};
use crate::proxy::services::Services;
use crate::telemetry::{Chain, RecordedPresented, kept_chain};

/// Certificates of a chain that is judged on the worker's own thread: the chains of ordinary clients are short, and cheap to
/// judge.
const SHORT_CHAIN: usize = 2;
/// Longest wait of a request for its turn to have a long chain judged again. Then the request is refused and its connection
/// ends, and the chain is judged in the next handshake.
const TURN: Duration = Duration::from_secs(2);

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
    Refused(Stranger, Evidence),
}

/// The certificates by which a peer that is not authenticated is judged again, once its verdict is out of date: under a new
/// snapshot, or when a validity begins. The proof that it holds the key was made in the handshake.
#[derive(Clone, Debug)]
enum Evidence {
    /// The path of the client that the peer was on this connection.
    Lapsed(Arc<Client>),
    /// The presented chain.
    Presented(Chain),
    /// None: the chain was too long to be kept, or there was none. Only a new handshake can bring one.
    None,
}

impl Evidence {
    /// Keeps a chain within the bound: connections without a slot are many, and a chain may have 64 KiB.
    fn of(chain: &Chain) -> Self {
        kept_chain(chain).map_or(Self::None, Self::Presented)
    }
}

/// A verdict on a peer.
type Judged = Result<Arc<Client>, Stranger>;

/// A summary of the peer, for records and views. No decision is made from it.
#[derive(Debug, Default)]
pub struct PeerSummary {
    /// The client's name; of a peer that is not authenticated, the name in its certificate, which proves nothing.
    pub name: Option<String>,
    /// The client that the peer is, or was.
    pub client: Option<Arc<Client>>,
    /// The reason why the peer is not authenticated, if it is not.
    pub unauthenticated: Option<Unauthenticated>,
    /// The statements of the certificate of an unauthenticated peer about itself; only where records are kept.
    pub presented: Option<Arc<RecordedPresented>>,
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
        let chain = Chain::from(chain);
        Self::of(address, verdicts.judge(&chain, live, now), &chain)
    }

    /// Judges the chain that was presented in the handshake, beside the worker's thread if that takes too long for it. `None`
    /// if the thread that judges it fails.
    pub(crate) async fn judge_in_turn(
        services: &Arc<Services>,
        address: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
    ) -> Option<Self> {
        let (live, now) = (services.live.load_full(), Timestamp::now());
        if is_quick(&chain, &services.verdicts, &live, now) {
            return Some(Self::judge(address, chain, &services.verdicts, &live, now));
        }
        let chain = Chain::from(chain);
        let judged = judge_in_turn(services, &chain, &live, now).await?;
        Some(Self::of(address, judged, &chain))
    }

    fn of(address: SocketAddr, judged: Judged, chain: &Chain) -> Self {
        let authentication = match judged {
            Ok(client) => Authentication::Valid(client),
            Err(stranger) => Authentication::Refused(stranger, Evidence::of(chain)),
        };
        Self { address, authentication: ArcSwap::from_pointee(authentication), judgements: AtomicU32::new(1) }
    }

    /// Returns the client at this instant and under this snapshot. A verdict that is out of date is reached again first, if
    /// that takes no longer than a worker's thread may be busy.
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
            Authentication::Valid(client) => {
                self.judged(verdicts.judge_again(client, live, now), Evidence::Lapsed(Arc::clone(client)))
            }
            Authentication::Refused(stranger, evidence) => {
                let judged = match evidence {
                    _ if stranger.holds(live.generation, now) => return Err(stranger.because.clone()),
                    Evidence::Lapsed(client) => verdicts.judge_again(client, live, now),
                    Evidence::Presented(chain) if is_quick(chain, verdicts, live, now) => {
                        verdicts.judge(chain, live, now)
                    }
                    Evidence::Presented(_) | Evidence::None => return Err(stranger.because.clone()),
                };
                self.judged(judged, evidence.clone())
            }
        }
    }

    /// Judges a peer again that is refused by a verdict that is out of date, and whose chain is long. Returns `true` if the
    /// peer was judged, by this call or meanwhile.
    pub(super) async fn judge_aside(&self, services: &Arc<Services>, now: Timestamp) -> bool {
        let live = services.live.load_full();
        let chain = match &**self.authentication.load() {
            Authentication::Refused(_, Evidence::Presented(chain)) => Arc::clone(chain),
            _ => return false,
        };
        let judging = judge_in_turn(services, &chain, &live, now);
        let Ok(Some(judged)) = timeout(TURN, judging).await else { return false };
        // Another request of the connection may have had the peer judged.
        if self.is_outdated(&live, now) {
            let _ = self.judged(judged, Evidence::Presented(chain));
        }
        true
    }

    /// Notes a new verdict. All tasks of a connection run on one thread, so its authentication does not change meanwhile.
    /// `evidence` is that of a peer that is refused.
    fn judged(&self, judged: Judged, evidence: Evidence) -> Result<Arc<Client>, Unauthenticated> {
        self.judgements.fetch_add(1, Ordering::Relaxed);
        let (authentication, client) = match judged {
            Ok(client) => (Authentication::Valid(Arc::clone(&client)), Ok(client)),
            Err(stranger) => {
                let because = stranger.because.clone();
                (Authentication::Refused(stranger, evidence), Err(because))
            }
        };
        self.authentication.store(Arc::new(authentication));
        client
    }

    /// `true` if the peer is authenticated.
    pub fn is_authenticated(&self) -> bool {
        matches!(**self.authentication.load(), Authentication::Valid(_))
    }

    /// `true` if the peer is refused by a verdict that is out of date.
    pub(crate) fn is_outdated(&self, live: &Live, now: Timestamp) -> bool {
        match &**self.authentication.load() {
            Authentication::Valid(_) => false,
            Authentication::Refused(stranger, _) => !stranger.holds(live.generation, now),
        }
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
            Authentication::Refused(..) => None,
        }
    }

    /// `true` if the peer was authenticated on this connection once and is not any more: the certificate expired or was
    /// revoked.
    pub fn has_lapsed(&self) -> bool {
        matches!(**self.authentication.load(), Authentication::Refused(_, Evidence::Lapsed(_)))
    }

    /// Returns a summary of the peer.
    pub fn summary(&self) -> PeerSummary {
        match &**self.authentication.load() {
            Authentication::Valid(client) => PeerSummary {
                name: Some(client.name.clone()),
                client: Some(Arc::clone(client)),
                ..PeerSummary::default()
            },
            Authentication::Refused(stranger, evidence) => {
                let client = match evidence {
                    Evidence::Lapsed(client) => Some(Arc::clone(client)),
                    Evidence::Presented(_) | Evidence::None => None,
                };
                let name = client.as_ref().map(|client| client.name.clone());
                PeerSummary {
                    name: name.or_else(|| stranger.name.as_deref().map(str::to_owned)),
                    client,
                    unauthenticated: Some(stranger.because.clone()),
                    presented: stranger.presented.clone(),
                }
            }
        }
    }
}

/// `true` if a chain is judged within a moment: it is short, or its verdict is remembered.
fn is_quick(chain: &[CertificateDer<'static>], verdicts: &Verdicts, live: &Live, now: Timestamp) -> bool {
    chain.len() <= SHORT_CHAIN || verdicts.is_cached(chain, live, now)
}

/// Judges a chain on a thread beside the worker's, one at a time: an attacker can make a chain that takes ten milliseconds,
/// for which all other clients of the worker would wait. `None` if that thread fails.
async fn judge_in_turn(
    services: &Arc<Services>,
    chain: &Chain,
    live: &Arc<Live>,
    now: Timestamp,
) -> Option<Judged> {
    // The semaphore is never closed.
    let turn = Arc::clone(&services.judging).acquire_owned().await.ok()?;
    let (services, live, chain) = (Arc::clone(services), Arc::clone(live), Arc::clone(chain));
    let judging = spawn_blocking(move || {
        // The turn lasts until the judgement ends, also if nobody waits for it any more.
        let _turn = turn;
        services.verdicts.judge(&chain, &live, now)
    });
    judging.await.ok()
}
