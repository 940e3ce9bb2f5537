//! Trust bundle: the configured client CAs with their CRLs. No other authority is trusted, and never those of the system.

mod authority;
mod build;
mod crls;
mod expiry;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rustls::pki_types::TrustAnchor;

use super::revocation::Revocation;

pub use authority::{NotAuthority, NotAuthorityReason, check_authority};
pub use build::{TrustDomainPin, TrustFile, TrustSources};
pub use expiry::{Expiry, ExpiryKind};

/// Requirement on the extended key usage of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EkuPolicy {
    /// `clientAuth` is required if the certificate has an extended key usage.
    ClientAuthIfPresent,
    /// `clientAuth` is required in every certificate (`tls.require_client_auth_eku`).
    ClientAuthRequired,
}

/// An authority that a path may end at.
pub(super) type Anchor<'t> = (&'t TrustAnchor<'static>, &'t Authority);

/// A trust bundle.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// Properties that an anchor of webpki does not contain, in the order of the anchors.
    authorities: Vec<Authority>,
    /// CRLs; `None` if none are configured.
    pub(super) revocation: Option<Revocation>,
    /// Requirement on the extended key usage of a leaf.
    pub usage: EkuPolicy,
}

/// A client CA.
#[derive(Debug)]
pub(super) struct Authority {
    /// File with the certificate.
    file: Box<str>,
    /// Distinguished name, for display.
    name: Box<str>,
    /// SubjectPublicKeyInfo, DER.
    pub(super) key: Box<[u8]>,
    /// First and last instant of the validity of the certificate.
    not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The only trust domain whose SPIFFE ids the authority may issue; `None` if none is configured.
    pub(super) domain: Option<TrustDomain>,
    /// Subject key identifier; `None` if the certificate has none.
    pub(super) key_id: Option<Box<[u8]>>,
    /// True if a configured CRL lists the certificate.
    pub(super) is_revoked: bool,
}

/// A SPIFFE trust domain: `shop.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(Box<str>);

impl FromStr for TrustDomain {
    type Err = ();

    /// Reads the name of a trust domain, with or without `spiffe://` before it.
    fn from_str(text: &str) -> Result<Self, ()> {
        let name = text.strip_prefix("spiffe://").unwrap_or(text);
        if super::names::is_trust_domain(name) { Ok(Self(name.into())) } else { Err(()) }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TrustDomain {
    /// Returns true if a URI is a SPIFFE id of this domain.
    pub(super) fn contains(&self, uri: &str) -> bool {
        let after = uri.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(&*self.0));
        after.is_some_and(|path| path.starts_with('/'))
    }
}

impl Trust {
    /// Returns the authorities whose certificates are valid at this instant. webpki does not check the dates of its anchors.
    pub(super) fn valid_at(&self, now: Timestamp) -> impl Iterator<Item = Anchor<'_>> {
        let pairs = self.anchors.iter().zip(&self.authorities);
        pairs.filter(move |(_, authority)| authority.is_valid_at(now))
    }

    /// Returns the first and the last instant of the validity of each authority's certificate.
    pub(super) fn validities(&self) -> impl Iterator<Item = [Timestamp; 2]> {
        self.authorities.iter().map(|authority| [authority.not_before, authority.not_after])
    }

    /// Returns the authorities with the name and key of an anchor: renewed certificates of one authority differ in their dates.
    pub(super) fn authorities_of(&self, anchor: &TrustAnchor<'_>) -> impl Iterator<Item = &Authority> {
        let same = move |other: &TrustAnchor<'_>| {
            other.subject == anchor.subject && other.subject_public_key_info == anchor.subject_public_key_info
        };
        self.anchors.iter().zip(&self.authorities).filter(move |(other, _)| same(other)).map(|(_, it)| it)
    }

    /// Returns true if CRLs are configured.
    #[must_use]
    pub const fn checks_revocation(&self) -> bool {
        self.revocation.is_some()
    }

    /// Returns the number of certificates that the CRLs list.
    #[must_use]
    pub fn revoked(&self) -> usize {
        self.revocation.iter().flat_map(|it| &it.lists).map(super::revocation::Crl::entries).sum()
    }
}

impl Authority {
    fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}
