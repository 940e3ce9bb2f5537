//! The content of each part in one look. What is put in force is built of exactly these bytes, so no part is a mixture of
//! earlier and later content.

use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, KeyPair, Located};
use crate::diagnostic::{Diagnostic, Source};
use crate::digest::{Digest, sha256_of_value};
use crate::identity::TrustFile;
use crate::reload::files::AcceptedKinds;
use crate::reload::policy_files;
use crate::reload::trust_files::{self, TrustFileKind};
use crate::secret::Secret;

use super::part::Part;

/// The content of a file, or the reason why it could not be read.
pub(super) type Held<T> = Result<T, Vec<Diagnostic>>;

/// The content of a certificate chain and its key.
#[derive(Hash)]
pub(super) struct KeyPairHeld {
    pub(super) certificate: Held<Vec<u8>>,
    pub(super) key: Held<Secret>,
}

/// The content of the files of one part.
pub(super) enum Material {
    Configuration(Held<Arc<Source>>),
    /// Each server certificate, in the order of the configuration.
    ServerCertificates(Vec<KeyPairHeld>),
    ClientTrust {
        authorities: Held<Vec<TrustFile>>,
        crls: Option<Held<Vec<TrustFile>>>,
    },
    Policies(Held<Vec<Arc<Source>>>),
    ShadowPolicies(Option<Held<Vec<Arc<Source>>>>),
    BackendTls(Option<BackendHeld>),
    AdminToken(Option<Held<Secret>>),
}

/// The files of TLS to the backend.
#[derive(Hash)]
pub(super) struct BackendHeld {
    pub(super) ca: Held<Vec<TrustFile>>,
    pub(super) own: Option<KeyPairHeld>,
}

/// One part in one look.
pub(super) struct Reading {
    /// The settings of the part when it was read.
    pub(super) settings: Digest,
    /// The digest of the settings and the content.
    pub(super) of: Digest,
    /// A file of the part is empty: a program that writes in place begins with that.
    pub(super) is_unfinished: bool,
    pub(super) material: Material,
}

impl Reading {
    pub(super) fn new(settings: Digest, material: Material) -> Self {
        let of = sha256_of_value(&(settings, &material));
        Self { settings, of, is_unfinished: material.has_empty_file(), material }
    }

    /// Reads the files that the configuration names for a part.
    pub(super) fn of(part: Part, config: &Config) -> Self {
        Self::new(settings_of(part, config), Material::read(part, config))
    }
}

/// The settings of a part: its paths, and the rules by which its files are read.
pub(super) fn settings_of(part: Part, config: &Config) -> Digest {
    let path = |located: &Located<PathBuf>| located.value.clone();
    let pair = |pair: &KeyPair| (path(&pair.certificate), path(&pair.key));
    // A policy with conditions on headers that the configuration strips is refused.
    let stripped = || format!("{:?}", config.identity_headers.stripped);
    match part {
        Part::Configuration => sha256_of_value(""),
        Part::ServerCertificates => {
            sha256_of_value(&config.certificates.iter().map(pair).collect::<Vec<_>>())
        }
        Part::ClientTrust => {
            let pins = config.trust_domains.iter().map(|pin| (&pin.file, pin.domain.to_string()));
            let rules = format!("{:?} {:?}", config.crl_missing, config.usage);
            let paths = (path(&config.client_ca), config.crl.as_ref().map(path));
            sha256_of_value(&(paths, config.crl_grace, rules, pins.collect::<Vec<_>>()))
        }
        Part::Policies => sha256_of_value(&(path(&config.policies), stripped())),
        Part::ShadowPolicies => sha256_of_value(&(config.shadow_policies.as_ref().map(path), stripped())),
        Part::BackendTls => {
            let tls = config.backend_tls.as_ref();
            let paths = tls.map(|tls| (path(&tls.ca), tls.certificate.as_ref().map(pair)));
            sha256_of_value(&(paths, format!("{:?}", tls.map(|tls| tls.protocol))))
        }
        Part::AdminToken => sha256_of_value(&config.admin_token.as_ref().map(path)),
    }
}

impl Hash for Material {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Configuration(source) => source.hash(state),
            Self::ServerCertificates(pairs) => pairs.hash(state),
            Self::ClientTrust { authorities, crls } => (authorities, crls).hash(state),
            Self::Policies(sources) => sources.hash(state),
            Self::ShadowPolicies(sources) => sources.hash(state),
            Self::BackendTls(held) => held.hash(state),
            Self::AdminToken(token) => token.hash(state),
        }
    }
}

impl Material {
    fn read(part: Part, config: &Config) -> Self {
        let trust = |path: &Located<PathBuf>, kind| trust_files::read(&path.value, kind, Some(&path.place));
        match part {
            // The configuration itself is read by `Origin`.
            Part::Configuration => Self::Configuration(Err(Vec::new())),
            Part::ServerCertificates => {
                Self::ServerCertificates(config.certificates.iter().map(KeyPairHeld::read).collect())
            }
            Part::ClientTrust => Self::ClientTrust {
                authorities: trust(&config.client_ca, TrustFileKind::Certificates),
                crls: config.crl.as_ref().map(|path| trust(path, TrustFileKind::Crls)),
            },
            Part::Policies => Self::Policies(policies(&config.policies)),
            Part::ShadowPolicies => Self::ShadowPolicies(config.shadow_policies.as_ref().map(policies)),
            Part::BackendTls => Self::BackendTls(config.backend_tls.as_ref().map(|tls| BackendHeld {
                ca: trust(&tls.ca, TrustFileKind::Certificates),
                own: tls.certificate.as_ref().map(KeyPairHeld::read),
            })),
            Part::AdminToken => Self::AdminToken(config.admin_token.as_ref().map(read_secret)),
        }
    }

    /// `true` if a file of the part is empty.
    fn has_empty_file(&self) -> bool {
        let trust = |held: &Held<Vec<TrustFile>>| held.iter().flatten().any(|file| file.bytes.is_empty());
        let sources = |held: &Held<Vec<Arc<Source>>>| held.iter().flatten().any(|it| it.text().is_empty());
        match self {
            Self::Configuration(source) => source.iter().any(|source| source.text().is_empty()),
            Self::ServerCertificates(pairs) => pairs.iter().any(KeyPairHeld::has_empty_file),
            Self::ClientTrust { authorities, crls } => trust(authorities) || crls.iter().any(trust),
            Self::Policies(held) => sources(held),
            Self::ShadowPolicies(held) => held.iter().any(sources),
            Self::BackendTls(held) => held
                .iter()
                .any(|held| trust(&held.ca) || held.own.as_ref().is_some_and(KeyPairHeld::has_empty_file)),
            Self::AdminToken(held) => held.iter().flatten().any(Secret::is_empty),
        }
    }
}

impl KeyPairHeld {
    fn has_empty_file(&self) -> bool {
        self.certificate.iter().any(Vec::is_empty) || self.key.iter().any(Secret::is_empty)
    }

    fn read(named: &KeyPair) -> Self {
        Self { certificate: read_file(&named.certificate), key: read_secret(&named.key) }
    }
}

fn read_file(path: &Located<PathBuf>) -> Held<Vec<u8>> {
    trust_files::read_file(&path.value, &path.place)
}

fn read_secret(path: &Located<PathBuf>) -> Held<Secret> {
    trust_files::read_file(&path.value, &path.place).map(Secret::from)
}

fn policies(path: &Located<PathBuf>) -> Held<Vec<Arc<Source>>> {
    policy_files::read(std::slice::from_ref(&path.value), AcceptedKinds::Regular).map_err(|mut problems| {
        for problem in &mut problems {
            problem.place.get_or_insert_with(|| path.place.clone());
        }
        problems
    })
}
