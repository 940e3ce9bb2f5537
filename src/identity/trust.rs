//! Whom we trust to say who a client is: the configured client CAs and nothing else.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which extended key usage a client's certificate must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `clientAuth`, or no extended key usage at all.
    ClientAuthIfAny,
    /// `clientAuth`, said outright (`tls.require_client_auth_eku`).
    ClientAuth,
}

/// The trust bundle of one generation.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// What webpki leaves out of an anchor, in the same order.
    lives: Vec<Life>,
    /// Counts the bundles of this process; a verdict of an older generation is judged again.
    pub generation: u64,
    /// What is asked of a leaf's extended key usage.
    pub usage: Usage,
}

/// The first and the last instant of an authority's own certificate.
#[derive(Clone, Copy, Debug)]
struct Life {
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a certificate cannot be a client CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustError {
    /// It is no X.509 certificate that can be read.
    Unreadable,
    /// It says itself that it is no certificate authority.
    NotAnAuthority,
    /// Its KeyUsage forbids it to sign certificates.
    MayNotSign,
    /// There is none at all.
    Empty,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it is not a readable X.509 certificate",
            Self::NotAnAuthority => "it is not a certificate authority (its basicConstraints say so)",
            Self::MayNotSign => "its keyUsage does not allow it to sign certificates",
            Self::Empty => "there is no certificate in it",
        })
    }
}

impl std::error::Error for TrustError {}

impl Trust {
    /// A bundle of these authorities.
    ///
    /// # Errors
    /// The index of the first certificate that cannot be an authority, and why. No certificate at all is an error:
    /// a proxy without a client CA could only refuse.
    pub fn of_authorities(
        authorities: &[CertificateDer<'_>],
        usage: Usage,
        generation: u64,
    ) -> Result<Self, (usize, TrustError)> {
        if authorities.is_empty() {
            return Err((0, TrustError::Empty));
        }
        let mut trust = Self { anchors: Vec::new(), lives: Vec::new(), generation, usage };
        for (index, der) in authorities.iter().enumerate() {
            let (anchor, life) = authority(der).map_err(|error| (index, error))?;
            trust.anchors.push(anchor);
            trust.lives.push(life);
        }
        Ok(trust)
    }

    /// The authorities whose own certificates are valid at that instant: webpki does not look at their dates.
    pub(super) fn anchors_at(&self, now: Timestamp) -> Cow<'_, [TrustAnchor<'static>]> {
        if self.lives.iter().all(|life| life.includes(now)) {
            return Cow::Borrowed(&self.anchors);
        }
        let alive = self.anchors.iter().zip(&self.lives).filter(|(_, life)| life.includes(now));
        Cow::Owned(alive.map(|(anchor, _)| anchor.clone()).collect())
    }

    /// When the authority with this name and key expires.
    pub(super) fn expiry_of(&self, anchor: &TrustAnchor<'_>) -> Option<Timestamp> {
        let same = |other: &TrustAnchor<'_>| {
            other.subject == anchor.subject && other.subject_public_key_info == anchor.subject_public_key_info
        };
        self.anchors
            .iter()
            .zip(&self.lives)
            .filter(|(other, _)| same(other))
            .map(|(_, life)| life.not_after)
            .max()
    }

    /// When each authority expires, for metrics and warnings.
    pub fn expiries(&self) -> impl Iterator<Item = Timestamp> {
        self.lives.iter().map(|life| life.not_after)
    }
}

impl Life {
    fn includes(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

fn authority(der: &CertificateDer<'_>) -> Result<(TrustAnchor<'static>, Life), TrustError> {
    let anchor = webpki::anchor_from_trusted_cert(der).map_err(|_| TrustError::Unreadable)?.to_owned();
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| TrustError::Unreadable)?;
    let constraints = certificate.basic_constraints().map_err(|_| TrustError::Unreadable)?;
    if constraints.is_some_and(|constraints| !constraints.value.ca) {
        return Err(TrustError::NotAnAuthority);
    }
    let usage = certificate.key_usage().map_err(|_| TrustError::Unreadable)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(TrustError::MayNotSign);
    }
    let validity = certificate.validity();
    let life = Life {
        not_before: Timestamp::from_second(validity.not_before.timestamp()).unwrap_or(Timestamp::MAX),
        not_after: Timestamp::from_second(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX),
    };
    Ok((anchor, life))
}
