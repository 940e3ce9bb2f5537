//! Whom we trust to say who a client is: the configured client CAs and nothing else, as far as their CRLs allow.

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

/// Which extended key usage a client's certificate must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EkuPolicy {
    /// `clientAuth`, or no extended key usage at all.
    ClientAuthIfPresent,
    /// `clientAuth`, said outright (`tls.require_client_auth_eku`).
    ClientAuthRequired,
}

/// An authority that a path may end at.
pub(super) type Anchor<'t> = (&'t TrustAnchor<'static>, &'t Authority);

/// The trust bundle of one generation.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// What webpki leaves out of an anchor, in the same order.
    authorities: Vec<Authority>,
    /// The CRLs, where any are configured.
    pub(super) revocation: Option<Revocation>,
    /// What is asked of a leaf's extended key usage.
    pub usage: EkuPolicy,
}

/// A client CA.
#[derive(Debug)]
pub(super) struct Authority {
    /// The file that it came from.
    file: Box<str>,
    /// Its distinguished name, for people.
    name: Box<str>,
    /// Its SubjectPublicKeyInfo, DER.
    pub(super) key: Box<[u8]>,
    /// The first and the last instant of its own certificate.
    not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The only domain whose SPIFFE ids it may issue, where one is configured.
    pub(super) domain: Option<TrustDomain>,
    /// Subject key identifier, where the certificate has one.
    pub(super) key_id: Option<Box<[u8]>>,
    /// A configured CRL lists it.
    pub(super) is_revoked: bool,
}

/// A SPIFFE trust domain: `shop.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(Box<str>);

impl FromStr for TrustDomain {
    type Err = ();

    /// With or without `spiffe://` before it.
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
    /// Whether a URI is a SPIFFE id of this domain.
    pub(super) fn holds(&self, uri: &str) -> bool {
        let after = uri.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(&*self.0));
        after.is_some_and(|path| path.starts_with('/'))
    }
}

impl Trust {
    /// The authorities whose own certificates are valid at that instant, as webpki knows them and with what it leaves out:
    /// webpki does not look at their dates.
    pub(super) fn valid_at(&self, now: Timestamp) -> impl Iterator<Item = Anchor<'_>> {
        let pairs = self.anchors.iter().zip(&self.authorities);
        pairs.filter(move |(_, authority)| authority.is_valid_at(now))
    }

    /// The first and the last instant of each authority's own certificate.
    pub(super) fn validities(&self) -> impl Iterator<Item = [Timestamp; 2]> {
        self.authorities.iter().map(|authority| [authority.not_before, authority.not_after])
    }

    /// The authorities with the name and key of an anchor: the same one may be there with several dates.
    pub(super) fn authorities_of(&self, anchor: &TrustAnchor<'_>) -> impl Iterator<Item = &Authority> {
        let same = move |other: &TrustAnchor<'_>| {
            other.subject == anchor.subject && other.subject_public_key_info == anchor.subject_public_key_info
        };
        self.anchors.iter().zip(&self.authorities).filter(move |(other, _)| same(other)).map(|(_, it)| it)
    }

    /// Whether any CRL is configured.
    #[must_use]
    pub const fn checks_revocation(&self) -> bool {
        self.revocation.is_some()
    }

    /// How many certificates the CRLs list.
    #[must_use]
    pub fn revoked(&self) -> usize {
        self.revocation.iter().flat_map(|it| &it.lists).map(super::revocation::List::entries).sum()
    }
}

impl Authority {
    fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}
