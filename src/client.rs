//! Clients: what was worked out for one certificate chain, shared by all its connections, and true only for a while.

mod remembered;
mod verdicts;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use crate::admission::{Admission, Allowance};
use crate::forward::headers::IdentityHeaders;
use crate::identity::{Attribute, Authenticated, Identity, Unauthenticated};
use crate::live::Live;
use crate::policy::Rights;
use crate::telemetry::{Chain, Told};

use remembered::Fingerprint;

pub use verdicts::Verdicts;

/// An authenticated client: identity, rights and headers, worked out once per chain and generation.
pub struct Client {
    /// The path that was verified, to judge again when the verdict may have stopped being true. What else was presented is not
    /// kept: it proves nothing, and there may be 64 KiB of it. A later bundle that needs it refuses, and the client comes back.
    pub chain: Chain,
    /// The path's fingerprint.
    path: Fingerprint,
    /// When it was judged: of the time before that nothing is known, should the clock go back there.
    judged_at: Timestamp,
    valid_until: Timestamp,
    generation: u64,
    /// What the policy gives it.
    pub rights: Rights,
    /// What the policy that is tried beside it would give.
    pub shadow: Option<Rights>,
    /// How much of the service it may take.
    pub allowance: Allowance,
    /// How the backend is told who it is.
    pub headers: IdentityHeaders,
    /// Who it is, in one line for records: the certificate's subject, or its first other name.
    pub name: String,
    /// What its certificate says, for records; only where they are kept.
    pub told: Option<Told>,
    /// The policy's entries that it matches.
    pub grants: Vec<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Client {
    fn new(
        verdict: Authenticated,
        chain: Chain,
        path: Fingerprint,
        admission: &Admission,
        live: &Live,
        now: Timestamp,
    ) -> Self {
        let Authenticated { identity, valid_until, .. } = verdict;
        let rights = live.policy.rights(&identity);
        Self {
            judged_at: now,
            valid_until,
            generation: live.generation,
            grants: rights.clients().iter().map(ToString::to_string).collect(),
            allowance: admission.allowance(&identity, &rights),
            headers: IdentityHeaders::of(&live.identity_headers, &identity, &chain),
            name: name_of(&identity).to_owned(),
            told: live.keeps_records.then(|| Told::of(&identity)),
            shadow: live.shadow().map(|shadow| shadow.policy.rights(&identity)),
            rights,
            chain,
            path,
        }
    }

    /// The bytes that it takes, about.
    fn footprint(&self) -> usize {
        let certificates = self.chain.iter().map(|der| der.len() + size_of_val(der)).sum::<usize>();
        let grants = self.grants.iter().map(|grant| grant.len() + size_of_val(grant)).sum::<usize>();
        let rights = self.rights.footprint() + self.shadow.as_ref().map_or(0, Rights::footprint);
        let told = self.told.as_ref().map_or(0, Told::footprint);
        size_of::<Self>() + certificates + grants + rights + told + self.headers.footprint() + self.name.len()
    }

    fn holds(&self, generation: u64, now: Timestamp) -> bool {
        self.generation == generation && self.judged_at <= now && now <= self.valid_until
    }
}

/// Who it is, in one line: the certificate's subject, or its first other name.
fn name_of(identity: &Identity) -> &str {
    let names = [Attribute::Subject, Attribute::Uri, Attribute::Dns, Attribute::Fingerprint];
    names.into_iter().find_map(|name| identity.values(name).next()).unwrap_or_default()
}

/// The other end of one connection, as it stands: authenticated for as long as that is true, or not.
#[derive(Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    standing: ArcSwap<Standing>,
    judgements: AtomicU32,
}

#[derive(Debug)]
enum Standing {
    Known(Arc<Client>),
    /// For the rest of the connection: only a new handshake proves possession anew. Its certificate's name is what a
    /// stranger says.
    Unknown(Unauthenticated, Option<Box<str>>),
    /// It was known, and is no more.
    Fallen(Unauthenticated, Arc<Client>),
}

/// Who the other end says it is, for those who look on. Nothing is decided by it.
#[derive(Debug, Default)]
pub struct Introduced {
    /// Its name; of a stranger what its certificate says, which nobody vouches for.
    pub name: Option<String>,
    /// Who it is, or was.
    pub client: Option<Arc<Client>>,
    /// Why it is nobody, where it is.
    pub unauthenticated: Option<Unauthenticated>,
}

impl Peer {
    /// Judges what was presented in the handshake.
    #[must_use]
    pub fn judged(
        address: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
        verdicts: &Verdicts,
        live: &Live,
        now: Timestamp,
    ) -> Self {
        let standing = match verdicts.judge(&chain, live, now) {
            Ok(client) => Standing::Known(client),
            Err(stranger) => Standing::Unknown(stranger.because, stranger.name),
        };
        Self { address, standing: ArcSwap::from_pointee(standing), judgements: AtomicU32::new(1) }
    }

    /// Who it is, at this instant and under this snapshot. A verdict that is out of date is reached again first.
    ///
    /// # Errors
    /// Why it is nobody.
    pub fn client(
        &self,
        verdicts: &Verdicts,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Unauthenticated> {
        match &**self.standing.load() {
            Standing::Known(client) if client.holds(live.generation, now) => Ok(Arc::clone(client)),
            Standing::Known(client) => self.judge_again(client, verdicts, live, now),
            Standing::Unknown(because, _) | Standing::Fallen(because, _) => Err(because.clone()),
        }
    }

    /// All that a connection does is done by one thread, so its standing cannot change meanwhile.
    fn judge_again(
        &self,
        client: &Arc<Client>,
        verdicts: &Verdicts,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Unauthenticated> {
        self.judgements.fetch_add(1, Ordering::Relaxed);
        let judged = verdicts.judge_again(client, live, now).map_err(|stranger| stranger.because);
        self.standing.store(Arc::new(match &judged {
            Ok(client) => Standing::Known(Arc::clone(client)),
            Err(because) => Standing::Fallen(because.clone(), Arc::clone(client)),
        }));
        judged
    }

    /// Whether it is somebody.
    pub fn is_known(&self) -> bool {
        matches!(**self.standing.load(), Standing::Known(_))
    }

    /// How often it was judged: whoever waits for the end of its identity looks again when that grows.
    pub fn judgements(&self) -> u32 {
        self.judgements.load(Ordering::Relaxed)
    }

    /// How long it is going to be who it is, if nothing else changes; nothing where it is nobody.
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        match &**self.standing.load() {
            Standing::Known(client) => {
                Some(Duration::try_from(client.valid_until.duration_since(now)).unwrap_or_default())
            }
            Standing::Unknown(..) | Standing::Fallen(..) => None,
        }
    }

    /// Whether it was known on this connection once, and is no more: its certificate expired or was revoked.
    pub fn has_fallen(&self) -> bool {
        matches!(**self.standing.load(), Standing::Fallen(..))
    }

    /// Who the other end says it is.
    pub fn introduced(&self) -> Introduced {
        let of = |client: &Arc<Client>, because: Option<&Unauthenticated>| Introduced {
            name: Some(client.name.clone()),
            client: Some(Arc::clone(client)),
            unauthenticated: because.cloned(),
        };
        match &**self.standing.load() {
            Standing::Known(client) => of(client, None),
            Standing::Fallen(because, client) => of(client, Some(because)),
            Standing::Unknown(because, name) => Introduced {
                name: name.as_deref().map(str::to_owned),
                client: None,
                unauthenticated: Some(because.clone()),
            },
        }
    }
}
