//! Clients: what was worked out for one certificate chain, shared by all its connections, and true only for a while.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use crate::admission::{Admission, Allowance};
use crate::forward::headers::IdentityHeaders;
use crate::identity::{Attribute, Identity, Unauthenticated, judge};
use crate::live::Live;
use crate::policy::Rights;
use crate::telemetry::{Chain, Told, kept_name};

/// An authenticated client: identity, rights and headers, worked out once per chain and generation.
pub struct Client {
    /// The presented chain, to judge again when the verdict may have stopped being true.
    pub chain: Chain,
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
    fn judged(
        chain: Arc<[CertificateDer<'static>]>,
        admission: &Admission,
        live: &Live,
        now: Timestamp,
    ) -> Result<Self, Unauthenticated> {
        let verdict = judge(&chain, &live.trust, now)?;
        let rights = live.policy.rights(&verdict.identity);
        let name = name_of(&verdict.identity);
        Ok(Self {
            judged_at: now,
            valid_until: verdict.valid_until,
            generation: live.generation,
            grants: rights.clients().iter().map(ToString::to_string).collect(),
            allowance: admission.allowance(&verdict.identity, &rights),
            headers: IdentityHeaders::of(&live.identity_headers, &verdict.identity, &chain),
            name: name.to_owned(),
            told: live.keeps_records.then(|| Told::of(&verdict.identity)),
            shadow: live.shadow().map(|shadow| shadow.policy.rights(&verdict.identity)),
            rights,
            chain,
        })
    }

    fn holds(&self, live: &Live, now: Timestamp) -> bool {
        self.generation == live.generation && self.judged_at <= now && now <= self.valid_until
    }
}

/// Who it is, in one line: the certificate's subject, or its first other name.
fn name_of(identity: &Identity) -> &str {
    let names = [Attribute::Subject, Attribute::Uri, Attribute::Dns, Attribute::Fingerprint];
    names.into_iter().find_map(|name| identity.values(name).next()).unwrap_or_default()
}

/// More chains than this are not remembered at once.
const MOST_REMEMBERED: usize = 8192;

/// The verdict cache of one worker: only verdicts in a client's favour, by the whole chain, each for no longer than
/// it is true and under no other snapshot than its own.
#[derive(Debug)]
pub struct Verdicts {
    /// Where it is known how much of the service each client takes.
    admission: Arc<Admission>,
    clients: Mutex<HashMap<Fingerprint, Arc<Client>>>,
}

/// SHA-256 over the whole chain, lengths included: no two chains share one.
type Fingerprint = [u8; 32];

impl Verdicts {
    /// None yet.
    #[must_use]
    pub fn new(admission: Arc<Admission>) -> Self {
        Self { admission, clients: Mutex::default() }
    }

    fn judge(
        &self,
        chain: Vec<CertificateDer<'static>>,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Unauthenticated> {
        if chain.is_empty() {
            return Err(Unauthenticated::NoCertificate);
        }
        let key = fingerprint(&chain);
        let known = self.clients().get(&key).map(Arc::clone);
        match known {
            Some(client) if client.holds(live, now) => Ok(client),
            Some(client) => self.remember(key, Arc::clone(&client.chain), live, now),
            None => self.remember(key, chain.into(), live, now),
        }
    }

    fn judge_again(
        &self,
        client: &Client,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Unauthenticated> {
        let key = fingerprint(&client.chain);
        let known = self.clients().get(&key).map(Arc::clone);
        match known {
            Some(client) if client.holds(live, now) => Ok(client),
            _ => self.remember(key, Arc::clone(&client.chain), live, now),
        }
    }

    fn remember(
        &self,
        key: Fingerprint,
        chain: Arc<[CertificateDer<'static>]>,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Unauthenticated> {
        let judged = Client::judged(chain, &self.admission, live, now);
        let mut clients = self.clients();
        if judged.is_err() {
            clients.remove(&key);
        }
        let client = Arc::new(judged?);
        if clients.len() >= MOST_REMEMBERED {
            clients.retain(|_, client| client.holds(live, now));
        }
        if clients.len() >= MOST_REMEMBERED
            && let Some(any) = clients.keys().next().copied()
        {
            clients.remove(&any);
        }
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Fingerprint, Arc<Client>>> {
        // Nothing panics while it is held.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(chain: &[CertificateDer<'_>]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    for certificate in chain {
        context.update(&certificate.len().to_be_bytes());
        context.update(certificate);
    }
    let mut fingerprint = Fingerprint::default();
    for (to, from) in fingerprint.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    fingerprint
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
        let leaf = chain.first().cloned();
        let standing = match verdicts.judge(chain, live, now) {
            Ok(client) => Standing::Known(client),
            Err(unauthenticated) => {
                let identity = leaf.and_then(|leaf| Identity::of_certificate(&leaf).ok());
                Standing::Unknown(
                    unauthenticated,
                    identity.map(|identity| kept_name(name_of(&identity).to_owned())),
                )
            }
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
            Standing::Known(client) if client.holds(live, now) => Ok(Arc::clone(client)),
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
        let judged = verdicts.judge_again(client, live, now);
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
