//! Construction of a trust bundle from the bytes of files. Every problem of every file is reported. No file is read here.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{NotAuthority, check_authority};
use super::crls::{Issuer, revocation};
use super::{Authority, EkuPolicy, Trust, TrustDomain};
use crate::diagnostic::{Code, Diagnostic, Place, did_you_mean};
use crate::identity::names::distinguished_name;
use crate::identity::paths::subject_key_id;
use crate::identity::revocation::MissingCrl;
use crate::pem;

/// A file of certificates or CRLs with its content.
#[derive(Clone)]
pub struct TrustFile {
    /// Name of the file, for diagnostics and metrics.
    pub name: String,
    /// Content of the file.
    pub bytes: Vec<u8>,
    /// Place in the configuration that names the file.
    pub place: Option<Place>,
}

/// The content is not printed: a file that was named by mistake may contain a private key.
impl fmt::Debug for TrustFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The place does not count: the same file under another place gives the same trust bundle.
impl Hash for TrustFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.bytes).hash(state);
    }
}

/// The trust domain of the authorities in one file (`tls.trust_domains`).
#[derive(Clone, Debug)]
pub struct TrustDomainPin {
    /// Name of the file, without its folder.
    pub file: String,
    /// The only domain whose SPIFFE ids the authorities may issue.
    pub domain: TrustDomain,
    /// Place in the configuration.
    pub place: Option<Place>,
}

/// Content and settings for a trust bundle.
#[derive(Debug)]
pub struct TrustSources {
    /// Client CAs (PEM).
    pub authorities: Vec<TrustFile>,
    /// CRLs (PEM or DER), and the certificates of intermediates that sign CRLs; `None` if revocation is not checked.
    pub crls: Option<Vec<TrustFile>>,
    /// Requirement on the extended key usage of a leaf.
    pub usage: EkuPolicy,
    /// Time for which a CRL is believed after its `nextUpdate`.
    pub crl_grace: Duration,
    /// Handling of clients whose issuer has no CRL.
    pub crl_missing: MissingCrl,
    /// Trust domains by CA file.
    pub pins: Vec<TrustDomainPin>,
}

impl TrustSources {
    /// Makes sources from one file of client CAs, without CRLs.
    #[must_use]
    pub fn from_authorities(name: &str, pem: &[u8], usage: EkuPolicy) -> Self {
        let file = TrustFile { name: name.to_owned(), bytes: pem.to_owned(), place: None };
        Self {
            authorities: vec![file],
            crls: None,
            usage,
            crl_grace: Duration::ZERO,
            crl_missing: MissingCrl::Refuse,
            pins: Vec::new(),
        }
    }
}

impl TrustFile {
    /// Makes an error about this file.
    pub(super) fn problem(&self, code: Code, message: String, help: &str) -> Diagnostic {
        self.placed(Diagnostic::error(code, message).help(help))
    }

    pub(super) fn warning(&self, code: Code, message: String, help: &str) -> Diagnostic {
        self.placed(Diagnostic::warning(code, message).help(help))
    }

    fn placed(&self, diagnostic: Diagnostic) -> Diagnostic {
        match &self.place {
            Some(place) => diagnostic.at(place.clone()),
            None => diagnostic,
        }
    }

    /// Returns the sections of a PEM file.
    pub(super) fn sections(&self) -> Result<Vec<(SectionKind, Vec<u8>)>, Diagnostic> {
        pem::sections(&self.bytes).map_err(|flaw| {
            self.problem(Code::File, format!("`{}` cannot be read as PEM: {flaw}", self.name), flaw.remedy())
        })
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
        pem::certificates(&self.bytes).map_err(|flaw| {
            self.problem(
                Code::File,
                format!("there is no certificate in `{}` that can be read: {flaw}", self.name),
                flaw.remedy(),
            )
        })
    }

    fn is_named(&self, name: &str) -> bool {
        self.file_name() == name
    }

    fn file_name(&self) -> &str {
        Path::new(&self.name).file_name().and_then(|name| name.to_str()).unwrap_or(&self.name)
    }
}

impl Trust {
    /// Builds a trust bundle, and returns the warnings about it at this instant.
    ///
    /// # Errors
    /// Every problem of every file. No client CA at all is a problem, because every client would be refused.
    pub fn build(sources: &TrustSources, now: Timestamp) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut found = pins_without_file(sources);
        let certificates = certificates(&sources.authorities, &mut found);
        let (mut anchors, mut authorities, mut issuers) = (Vec::new(), Vec::new(), Vec::new());
        for (file, der) in &certificates {
            match authority(file, der, &sources.pins, &mut found) {
                Ok((anchor, authority, issuer)) => {
                    anchors.push(anchor);
                    authorities.push(authority);
                    issuers.push(issuer);
                }
                Err(problem) => found.push(problem),
            }
        }
        if anchors.is_empty() && found.is_empty() {
            found.push(Diagnostic::error(Code::File, "there is no client CA"));
        }
        let revocation = revocation(sources, &issuers, &mut authorities, &mut found);
        let trust = Self { anchors, authorities, revocation, usage: sources.usage };
        found.extend(trust.disagreements(sources));
        if found.iter().any(Diagnostic::is_error) {
            return Err(found);
        }
        found.extend(trust.expiries().filter_map(|expiry| expiry.warning(now)));
        Ok((trust, found))
    }

    /// Reports an authority in two files with different trust domains: the choice between the two would be arbitrary.
    fn disagreements(&self, sources: &TrustSources) -> Option<Diagnostic> {
        let pairs = self.anchors.iter().zip(&self.authorities);
        let disagrees = |(anchor, authority): &(&TrustAnchor<'_>, &Authority)| {
            self.authorities_of(anchor).any(|other| other.domain != authority.domain)
        };
        let (_, authority) = pairs.into_iter().find(disagrees)?;
        let place = sources.pins.iter().find_map(|pin| pin.place.clone());
        let message =
            format!("the client CA `{}` is in two files with different trust domains", authority.name);
        let problem = Diagnostic::error(Code::BadTrustDomain, message)
            .help("leave it in one of the files, or give both the same domain");
        Some(place.into_iter().fold(problem, Diagnostic::at))
    }
}

fn certificates<'s>(
    files: &'s [TrustFile],
    found: &mut Vec<Diagnostic>,
) -> Vec<(&'s TrustFile, CertificateDer<'static>)> {
    let mut certificates = Vec::new();
    for file in files {
        match file.certificates() {
            Ok(these) => certificates.extend(these.into_iter().map(|der| (file, der))),
            Err(problem) => found.push(problem),
        }
    }
    certificates
}

fn authority<'d>(
    file: &TrustFile,
    der: &'d CertificateDer<'_>,
    pins: &[TrustDomainPin],
    found: &mut Vec<Diagnostic>,
) -> Result<(TrustAnchor<'static>, Authority, Issuer<'d>), Diagnostic> {
    let unreadable = || not_authority(file, &"it is not a readable X.509 certificate");
    let error = check_authority(der).err();
    if let Some(error) = error.as_ref().filter(|error| !error.may_be_anchor()) {
        return Err(not_authority(file, error));
    }
    found.extend(error.map(|error| own_anchor(file, &error)));
    let anchor = webpki::anchor_from_trusted_cert(der).map_err(|_| unreadable())?.to_owned();
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
    let instant = |second| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
    let pin = pins.iter().find(|pin| file.is_named(&pin.file));
    let authority = Authority {
        file: file.name.as_str().into(),
        name: distinguished_name(certificate.subject()).unwrap_or_default().into(),
        key: certificate.public_key().raw.into(),
        not_before: instant(certificate.validity().not_before.timestamp()),
        not_after: instant(certificate.validity().not_after.timestamp()),
        domain: pin.map(|pin| pin.domain.clone()),
        key_id: subject_key_id(&certificate).map(Box::from),
        is_revoked: false,
    };
    Ok((anchor, authority, Issuer { der, certificate }))
}

fn not_authority(file: &TrustFile, why: &impl fmt::Display) -> Diagnostic {
    file.problem(
        Code::NoAuthority,
        format!("`{}` cannot be a client CA: {why}", file.name),
        "take that certificate out of `tls.client_ca` (the whole file, if nothing else is in it): only authorities that issue client certificates belong there; anyone with the key of such a certificate can make a certificate for any client",
    )
}

/// Warns about a self-signed certificate without `basicConstraints`. The operator decides what is a trust anchor (RFC 5280
/// §6.1.1 d), so the certificate is accepted.
fn own_anchor(file: &TrustFile, error: &NotAuthority) -> Diagnostic {
    file.warning(
        Code::SelfSignedAnchor,
        format!(
            "`{}` is trusted as a client CA because it is self-signed, although {error}: anyone with its key can make a certificate for any client",
            file.name
        ),
        "if it is the certificate of one client, take it out of `tls.client_ca` and issue that client one by a CA; if it is a CA, renew it with `basicConstraints = critical, CA:TRUE`",
    )
}

fn pins_without_file(sources: &TrustSources) -> Vec<Diagnostic> {
    let without = |pin: &&TrustDomainPin| !sources.authorities.iter().any(|file| file.is_named(&pin.file));
    let names = || sources.authorities.iter().map(TrustFile::file_name);
    let problem = |pin: &TrustDomainPin| {
        let message = format!("no file of `tls.client_ca` is called `{}`", pin.file);
        let help = did_you_mean(&pin.file, names())
            .unwrap_or_else(|| format!("the files are: {}", names().collect::<Vec<_>>().join(", ")));
        let problem = Diagnostic::error(Code::BadTrustDomain, message).help(help);
        pin.place.clone().into_iter().fold(problem, Diagnostic::at)
    };
    sources.pins.iter().filter(without).map(problem).collect()
}
