//! Read: everything that a configuration names, as it was in one look. A snapshot is built of these very bytes, so it
//! cannot be a mixture of what was there before and after.

use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::config::{Config, KeyPair, Located};
use crate::diagnostic::{Diagnostic, Source};
use crate::files::Accept;
use crate::identity::TrustFile;
use crate::policy_files;
use crate::trust_files::{self, Kind};

/// What was found, or why it could not be read.
pub(super) type Held<T> = Result<T, Vec<Diagnostic>>;

/// A certificate chain and its key, as they were found. (No `Debug`: a key is never printed.)
#[derive(Hash)]
pub(super) struct KeyPairHeld {
    pub(super) certificate: Held<Vec<u8>>,
    pub(super) key: Held<Vec<u8>>,
}

/// Everything that a configuration names.
#[derive(Hash)]
pub(super) struct Contents {
    /// Of each server certificate, in the order of the configuration.
    pub(super) server: Vec<KeyPairHeld>,
    pub(super) authorities: Held<Vec<TrustFile>>,
    pub(super) crls: Option<Held<Vec<TrustFile>>>,
    pub(super) policies: Held<Vec<Arc<Source>>>,
    /// Never waited for, and never a reason to put nothing in force.
    pub(super) shadow: Option<Held<Vec<Arc<Source>>>>,
    pub(super) backend_ca: Option<Held<Vec<TrustFile>>>,
    pub(super) backend_own: Option<KeyPairHeld>,
    pub(super) admin_token: Option<Held<Vec<u8>>>,
}

impl Contents {
    pub(super) fn read(config: &Config) -> Self {
        let trust = |path: &Located<PathBuf>, kind| trust_files::read(&path.value, kind, Some(&path.place));
        let backend = config.backend_tls.as_ref();
        Self {
            server: config.certificates.iter().map(KeyPairHeld::read).collect(),
            authorities: trust(&config.client_ca, Kind::Certificates),
            crls: config.crl.as_ref().map(|path| trust(path, Kind::Crls)),
            policies: policies(&config.policies),
            shadow: config.shadow_policies.as_ref().map(policies),
            backend_ca: backend.map(|tls| trust(&tls.ca, Kind::Certificates)),
            backend_own: backend.and_then(|tls| tls.certificate.as_ref()).map(KeyPairHeld::read),
            admin_token: config.admin_token.as_ref().map(read_file),
        }
    }

    /// Whether any of it is a file with nothing in it.
    pub(super) fn has_empty_file(&self) -> bool {
        let trust = [Some(&self.authorities), self.crls.as_ref(), self.backend_ca.as_ref()];
        let policies = self.policies.iter().flatten();
        let token = self.admin_token.iter().flatten();
        self.server.iter().chain(&self.backend_own).any(KeyPairHeld::has_empty_file)
            || trust.into_iter().flatten().flatten().flatten().any(|file| file.bytes.is_empty())
            || policies.into_iter().any(|source| source.text().is_empty())
            || token.into_iter().any(Vec::is_empty)
    }
}

impl KeyPairHeld {
    fn has_empty_file(&self) -> bool {
        [&self.certificate, &self.key].into_iter().flatten().any(Vec::is_empty)
    }

    fn read(named: &KeyPair) -> Self {
        Self { certificate: read_file(&named.certificate), key: read_file(&named.key) }
    }
}

fn read_file(path: &Located<PathBuf>) -> Held<Vec<u8>> {
    trust_files::read_file(&path.value, &path.place)
}

fn policies(path: &Located<PathBuf>) -> Held<Vec<Arc<Source>>> {
    policy_files::read(std::slice::from_ref(&path.value), Accept::Regular).map_err(|mut problems| {
        for problem in &mut problems {
            problem.place.get_or_insert_with(|| path.place.clone());
        }
        problems
    })
}

/// SHA-256 over what was found: names, lengths and bytes.
pub(super) fn digest_of(what: &(impl Hash + ?Sized)) -> [u8; 32] {
    let mut sha256 = Sha256(digest::Context::new(&digest::SHA256));
    what.hash(&mut sha256);
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(sha256.0.finish().as_ref()) {
        *to = *from;
    }
    digest
}

/// Takes in whatever can be hashed.
struct Sha256(digest::Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Nobody asks for so little of it.
    fn finish(&self) -> u64 {
        0
    }
}
