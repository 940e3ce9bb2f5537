//! The verdict cache of one worker: verdicts for and against clients, by the whole presented chain, each for no longer than
//! it is true and under no other snapshot than its own.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use rustls::pki_types::CertificateDer;

use super::remembered::{Fingerprint, Remembered};
use super::{Client, name_of};
use crate::admission::Admission;
use crate::digest::sha256_of_parts;
use crate::identity::{Authenticated, Identity, Presented, Unauthenticated, judge, next_verdict_change};
use crate::live::Live;
use crate::telemetry::{RecordedPresented, kept_name};

/// Memory of verdicts for clients, in bytes: 4 MiB with those against clients (`deploy/README.md`, "Memory"). Clients that
/// are not authenticated and vary their chains displace only verdicts against clients.
const OF_CLIENTS: usize = 3 << 20;
/// Memory of verdicts against clients, in bytes.
const OF_STRANGERS: usize = 1 << 20;

/// Verdicts on chains, for all connections of one worker.
pub struct Verdicts {
    /// The limits of the whole process.
    admission: Arc<Admission>,
    memory: Mutex<Memory>,
}

/// The remembered verdicts, all of one snapshot.
#[derive(Debug)]
struct Memory {
    generation: u64,
    clients: Remembered<CachedClient>,
    strangers: Remembered<Stranger>,
}

/// A verdict in favour of the client.
#[derive(Debug)]
enum CachedClient {
    /// The chain is a path to an authority, and nothing else.
    ByPath(Arc<Client>),
    /// The chain holds that path, and further certificates that prove nothing.
    ByLongerChain(Fingerprint),
}

/// A verdict against the client.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Stranger {
    pub(in crate::proxy) because: Unauthenticated,
    /// The name in the certificate, which proves nothing.
    pub(in crate::proxy) name: Option<Box<str>>,
    /// The certificate's statements about itself, which prove nothing; only where records are kept.
    pub(in crate::proxy) presented: Option<Arc<RecordedPresented>>,
    generation: u64,
    judged_at: Timestamp,
    until: Timestamp,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts").finish_non_exhaustive()
    }
}

impl Verdicts {
    /// Returns an empty cache.
    #[must_use]
    pub fn new(admission: Arc<Admission>) -> Self {
        Self { admission, memory: Mutex::new(Memory::empty()) }
    }

    /// Judges a chain that was presented in a handshake, for the first time or again.
    pub(in crate::proxy) fn judge(
        &self,
        chain: &[CertificateDer<'static>],
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Stranger> {
        if chain.is_empty() {
            return Err(Stranger::without_certificate(now));
        }
        self.verdict(fingerprint(chain), chain, live, now)
    }

    /// `true` if the verdict on a chain is remembered and still valid.
    pub fn is_cached(&self, chain: &[CertificateDer<'static>], live: &Live, now: Timestamp) -> bool {
        self.memory(live).find(&fingerprint(chain), live.generation, now).is_some()
    }

    /// Judges the path of a client again.
    pub(in crate::proxy) fn judge_again(
        &self,
        client: &Client,
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Stranger> {
        self.verdict(client.path, &client.chain, live, now)
    }

    fn verdict(
        &self,
        key: Fingerprint,
        chain: &[CertificateDer<'static>],
        live: &Live,
        now: Timestamp,
    ) -> Result<Arc<Client>, Stranger> {
        let known = self.memory(live).find(&key, live.generation, now);
        if let Some(verdict) = known {
            return verdict;
        }
        match judge(chain, &live.trust, now) {
            Ok(verdict) => Ok(self.take_in(key, chain, verdict, live, now)),
            Err(because) => Err(self.refuse(key, chain, because, live, now)),
        }
    }

    /// Takes a client in. All chains with the same path belong to one client, whatever other certificates they hold.
    fn take_in(
        &self,
        key: Fingerprint,
        chain: &[CertificateDer<'static>],
        verdict: Authenticated,
        live: &Live,
        now: Timestamp,
    ) -> Arc<Client> {
        let path: Vec<_> = verdict.path.iter().filter_map(|position| chain.get(*position).cloned()).collect();
        let path_key = fingerprint(&path);
        let known = self.memory(live).client(&path_key, live.generation, now);
        let client = known.unwrap_or_else(|| {
            Arc::new(Client::new(verdict, path.into(), path_key, &self.admission, live, now))
        });
        self.memory(live).remember_client(key, &client);
        client
    }

    fn refuse(
        &self,
        key: Fingerprint,
        chain: &[CertificateDer<'static>],
        because: Unauthenticated,
        live: &Live,
        now: Timestamp,
    ) -> Stranger {
        let until = next_verdict_change(chain, &live.trust, now);
        let leaf = chain.first();
        let identity = leaf.and_then(|leaf| Identity::from_certificate(leaf).ok());
        let name = identity.map(|identity| kept_name(name_of(&identity)));
        let presented = leaf.filter(|_| live.keeps_records).map(|leaf| Presented::of(leaf));
        let presented = presented.map(|presented| Arc::new(RecordedPresented::of(&presented)));
        let stranger =
            Stranger { because, name, presented, generation: live.generation, judged_at: now, until };
        self.memory(live).remember_stranger(key, stranger.clone());
        stranger
    }

    /// The memory for this snapshot. Verdicts of an older one are forgotten first.
    fn memory(&self, live: &Live) -> MutexGuard<'_, Memory> {
        let mut memory = self.memory.lock();
        if memory.generation < live.generation {
            *memory = Memory { generation: live.generation, ..Memory::empty() };
        }
        memory
    }

    /// Forgets verdicts of an older snapshot, also if no client comes.
    pub fn tidy(&self, live: &Live) {
        drop(self.memory(live));
    }
}

impl Memory {
    fn empty() -> Self {
        Self {
            generation: 0,
            clients: Remembered::within(OF_CLIENTS),
            strangers: Remembered::within(OF_STRANGERS),
        }
    }

    fn find(
        &mut self,
        key: &Fingerprint,
        generation: u64,
        now: Timestamp,
    ) -> Option<Result<Arc<Client>, Stranger>> {
        if let Some(client) = self.client(key, generation, now) {
            return Some(Ok(client));
        }
        let stranger = self.strangers.find(key)?;
        stranger.holds(generation, now).then(|| Err(stranger.clone()))
    }

    fn client(&mut self, key: &Fingerprint, generation: u64, now: Timestamp) -> Option<Arc<Client>> {
        let client = match self.clients.find(key)? {
            CachedClient::ByPath(client) => Arc::clone(client),
            CachedClient::ByLongerChain(path) => {
                let path = *path;
                match self.clients.find(&path)? {
                    CachedClient::ByPath(client) => Arc::clone(client),
                    CachedClient::ByLongerChain(_) => return None,
                }
            }
        };
        client.holds(generation, now).then_some(client)
    }

    /// Remembers a client by its path, and by the chain that it presented if that is another.
    fn remember_client(&mut self, key: Fingerprint, client: &Arc<Client>) {
        // A judgement under an older snapshot may still be in progress; it is not remembered.
        if self.generation != client.generation {
            return;
        }
        let owner = Some(client.allowance.client());
        self.strangers.forget(&key);
        self.clients.remember(
            client.path,
            owner,
            CachedClient::ByPath(Arc::clone(client)),
            client.footprint(),
        );
        if key != client.path {
            self.clients.remember(key, owner, CachedClient::ByLongerChain(client.path), 0);
        }
    }

    fn remember_stranger(&mut self, key: Fingerprint, stranger: Stranger) {
        self.clients.forget(&key);
        if self.generation == stranger.generation {
            let bytes = stranger.footprint();
            self.strangers.remember(key, None, stranger, bytes);
        }
    }
}

impl Stranger {
    fn without_certificate(now: Timestamp) -> Self {
        Self {
            because: Unauthenticated::NoCertificate,
            name: None,
            presented: None,
            generation: 0,
            judged_at: now,
            until: Timestamp::MAX,
        }
    }

    /// `true` while the verdict holds. A verdict that there is no certificate holds for the whole connection: only a new
    /// handshake can bring one. Any other verdict says nothing of the time before it was reached, should the clock be set back.
    pub(in crate::proxy) fn holds(&self, generation: u64, now: Timestamp) -> bool {
        self.because == Unauthenticated::NoCertificate
            || (self.generation == generation && self.judged_at <= now && now < self.until)
    }

    /// The memory that the verdict takes, in bytes, about.
    fn footprint(&self) -> usize {
        let presented = self.presented.as_ref().map_or(0, |presented| presented.footprint());
        size_of::<Self>() + self.name.as_ref().map_or(0, |name| name.len()) + presented
    }
}

fn fingerprint(chain: &[CertificateDer<'_>]) -> Fingerprint {
    sha256_of_parts(chain.iter().map(|certificate| certificate.as_ref()))
}
