//! Revocation: the check of the certificates of a path against the configured CRLs.
//!
//! webpki parses the CRLs strictly, but the check itself is made here. webpki would verify the signature of a CRL for every
//! verdict, which hashes all entries of the CRL, and would consult only one CRL of an issuer. Here the signature is verified
//! once, when the CRL is loaded, and every CRL that covers a certificate counts.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use webpki::BorrowedCertRevocationList;
use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::extensions::{CRLDistributionPoint, DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

use super::Flaw;
use super::der::{elements, is_well_formed};

/// Bound for the distribution points of a certificate and their names, which no real certificate reaches. Each is compared with
/// the scope of every CRL of the issuer, and an issuer may have hundreds of CRLs (denial of service).
const MAX_DISTRIBUTION_POINTS: usize = 256;

/// Handling of a client whose certificate, or an issuer of it, is covered by no CRL (`tls.crl_missing`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingCrl {
    /// The client is refused, because the certificate may have been revoked.
    Refuse,
    /// The client is accepted if the issuer has no CRL at all: for authorities that publish no CRL.
    Allow,
}

/// Kind of a certificate in a path. The scope of a CRL may be one kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificateKind {
    Leaf,
    Authority,
}

/// All CRLs of a trust bundle.
#[derive(Debug)]
pub(super) struct Revocation {
    pub(super) lists: Vec<Crl>,
    pub(super) ignored: Vec<IgnoredCrl>,
    pub(super) missing: MissingCrl,
}

/// A CRL whose signer is not a known authority. It revokes nothing. But it shows that an issuer of this name publishes CRLs, so
/// `tls.crl_missing: allow` does not apply to an issuer of this name in a presented chain.
#[derive(Debug)]
pub(super) struct IgnoredCrl {
    pub(super) issuer_der: Box<[u8]>,
    /// Keys (SubjectPublicKeyInfo) that did not sign the CRL.
    pub(super) not_of: Vec<Box<[u8]>>,
}

impl IgnoredCrl {
    fn may_be_of(&self, issuer: &[u8], key: &[u8]) -> bool {
        *self.issuer_der == *issuer && self.not_of.iter().all(|other| **other != *key)
    }
}

/// A CRL with a verified signature.
#[derive(Debug)]
pub(super) struct Crl {
    /// File with the CRL.
    pub(super) file: Box<str>,
    /// Distinguished name of the issuer, for display.
    pub(super) issuer: Box<str>,
    /// Distinguished name of the issuer, DER.
    pub(super) issuer_der: Box<[u8]>,
    /// Key (SubjectPublicKeyInfo) that signed the CRL. Another authority with the same name is another issuer.
    pub(super) key: Box<[u8]>,
    scope: Option<CrlScope>,
    revoked: HashSet<Box<[u8]>>,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Timestamp,
    /// Last instant at which the CRL is believed: `nextUpdate` plus the grace.
    ends: Timestamp,
}

/// Scope of a CRL: its issuing distribution point (RFC 5280 §5.2.5).
#[derive(Debug, PartialEq, Eq)]
struct CrlScope {
    leaves_only: bool,
    authorities_only: bool,
    uris: Vec<Box<[u8]>>,
}

/// Reason for which a CRL cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrlFlaw {
    Unreadable,
    OldVersion,
    NoNextUpdate,
    Delta,
    Indirect,
    SomeReasons,
    Scope,
    CriticalExtension,
}

impl fmt::Display for CrlFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it is not a readable CRL",
            Self::OldVersion => "it is a CRL of version 1",
            Self::NoNextUpdate => "it does not say when the next one comes (`nextUpdate`)",
            Self::Delta => "it is a delta CRL",
            Self::Indirect => "it is an indirect CRL, about certificates of other issuers",
            Self::SomeReasons => "it is about some reasons for revocation only",
            Self::Scope => {
                "its issuing distribution point has no full name, or is about attribute certificates"
            }
            Self::CriticalExtension => "it has a critical extension that is not understood",
        })
    }
}

impl CrlFlaw {
    /// Returns the remedy for an operator.
    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Self::Unreadable => "fetch it again; a half-written file is read again as soon as it is whole",
            Self::OldVersion | Self::NoNextUpdate => {
                "let the authority issue CRLs of version 2 with `nextUpdate` and extensions (RFC 5280 §5)"
            }
            Self::Delta => "fetch the complete CRL; a delta CRL alone says too little",
            Self::Indirect | Self::SomeReasons | Self::Scope => {
                "let the authority issue a complete CRL of its own, or one for each distribution point's full name"
            }
            Self::CriticalExtension => "let the authority issue CRLs as in RFC 5280 §5.2",
        }
    }
}

/// A parsed CRL whose signature is not yet verified.
pub(super) struct UnverifiedCrl<'a> {
    pub(super) issuer_der: &'a [u8],
    pub(super) issuer: String,
    /// Identifier of the key that the CRL claims to be signed with (RFC 5280 §5.2.1).
    pub(super) key_identifier: Option<&'a [u8]>,
    scope: Option<CrlScope>,
    revoked: HashSet<Box<[u8]>>,
    this_update: Timestamp,
    next_update: Timestamp,
}

impl<'a> UnverifiedCrl<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, CrlFlaw> {
        if !is_well_formed(der) {
            return Err(CrlFlaw::Unreadable);
        }
        let strict = BorrowedCertRevocationList::from_der(der).map_err(|error| list_flaw(der, &error))?;
        let mut revoked = HashSet::new();
        for entry in &strict {
            revoked.insert(entry.map_err(|error| list_flaw(der, &error))?.serial_number.into());
        }
        let (issuer_der, this_update, next_update) = header(der).ok_or(CrlFlaw::Unreadable)?;
        let (_, issuer) = X509Name::from_der(issuer_der).map_err(|_| CrlFlaw::Unreadable)?;
        let list = webpki::CertRevocationList::from(strict);
        let scope = list.issuing_distribution_point().map(|der| CrlScope::read(der).ok_or(CrlFlaw::Scope));
        Ok(Self {
            issuer_der,
            issuer: super::names::distinguished_name(&issuer).map_err(|_| CrlFlaw::Unreadable)?,
            key_identifier: key_identifier(der),
            scope: scope.transpose()?,
            revoked,
            this_update,
            next_update,
        })
    }

    pub(super) fn signed_by(self, key: &[u8], file: &str, grace: Duration) -> Crl {
        let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        Crl {
            file: file.into(),
            issuer: self.issuer.into(),
            issuer_der: self.issuer_der.into(),
            key: key.into(),
            scope: self.scope,
            revoked: self.revoked,
            this_update: self.this_update,
            next_update: self.next_update,
            ends: self.next_update.saturating_add(grace).unwrap_or(Timestamp::MAX),
        }
    }
}

/// Returns the fields that webpki does not expose: the whole name of the issuer, `thisUpdate` and `nextUpdate`.
fn header(der: &[u8]) -> Option<(&[u8], Timestamp, Timestamp)> {
    let (_, outer) = Any::from_der(der).ok()?;
    let (_, signed) = Any::from_der(outer.data).ok()?;
    let (rest, _version) = Any::from_der(signed.data).ok()?;
    let (at_issuer, _algorithm) = Any::from_der(rest).ok()?;
    let (after_issuer, _issuer) = Any::from_der(at_issuer).ok()?;
    let issuer = at_issuer.get(..at_issuer.len().checked_sub(after_issuer.len())?)?;
    let (rest, this_update) = ASN1Time::from_der(after_issuer).ok()?;
    let (_, next_update) = ASN1Time::from_der(rest).ok()?;
    let instant = |time: ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((issuer, instant(this_update)?, instant(next_update)?))
}

/// Returns the `keyIdentifier` of the authority key identifier extension. All entries of a CRL are one field before the
/// extensions, so a long CRL costs no more than a short one.
fn key_identifier(der: &[u8]) -> Option<&[u8]> {
    const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
    let (_, outer) = Any::from_der(der).ok()?;
    let (_, signed) = Any::from_der(outer.data).ok()?;
    let last = elements(signed.data)?.pop().filter(|last| last.header.is_contextspecific())?;
    let (_, extensions) = Any::from_der(last.data).ok()?;
    let value = elements(extensions.data)?.into_iter().find_map(|extension| {
        let parts = elements(extension.data)?;
        let is_it = parts.first().is_some_and(|oid| oid.data == AUTHORITY_KEY_IDENTIFIER);
        parts.last().filter(|_| is_it).map(|value| value.data)
    })?;
    let (_, names) = Any::from_der(value).ok()?;
    let names = elements(names.data)?;
    names.into_iter().find(|name| name.header.tag().0 == 0).map(|id| id.data)
}

fn list_flaw(der: &[u8], error: &webpki::Error) -> CrlFlaw {
    use webpki::Error;
    match error {
        Error::UnsupportedCrlVersion => CrlFlaw::OldVersion,
        Error::UnsupportedDeltaCrl => CrlFlaw::Delta,
        Error::UnsupportedIndirectCrl => CrlFlaw::Indirect,
        Error::UnsupportedRevocationReasonsPartitioning => CrlFlaw::SomeReasons,
        Error::UnsupportedCrlIssuingDistributionPoint => CrlFlaw::Scope,
        Error::UnsupportedCriticalExtension => CrlFlaw::CriticalExtension,
        _ if lacks_version(der) => CrlFlaw::OldVersion,
        _ if lacks_next_update(der) => CrlFlaw::NoNextUpdate,
        _ => CrlFlaw::Unreadable,
    }
}

/// A CRL of version 1 does not begin with a version number.
fn lacks_version(der: &[u8]) -> bool {
    let first_in = |der| Any::from_der(der).ok().map(|(_, any)| any);
    first_in(der)
        .and_then(|outer| first_in(outer.data))
        .and_then(|signed| first_in(signed.data))
        .is_some_and(|first| first.header.tag() != Tag::Integer)
}

fn lacks_next_update(der: &[u8]) -> bool {
    x509_parser::revocation_list::CertificateRevocationList::from_der(der)
        .is_ok_and(|(_, list)| list.next_update().is_none())
}

impl CrlScope {
    /// Reads a scope. webpki has refused malformed and unsupported scopes before. The fields may have any order.
    fn read(der: &[u8]) -> Option<Self> {
        let (_, fields) = Any::from_der(der).ok()?;
        let mut scope = Self { leaves_only: false, authorities_only: false, uris: Vec::new() };
        for field in elements(fields.data)? {
            let is_true = field.data.iter().any(|byte| *byte != 0);
            match field.header.tag().0 {
                0 => scope.uris = uris(field.data)?,
                1 => scope.leaves_only = is_true,
                2 => scope.authorities_only = is_true,
                3..=5 if is_true => return None,
                _ => {}
            }
        }
        Some(scope)
    }

    fn includes(&self, certificate: &X509Certificate<'_>, role: CertificateKind) -> bool {
        if self.authorities_only && role == CertificateKind::Leaf
            || self.leaves_only && role == CertificateKind::Authority
        {
            return false;
        }
        // A certificate without distribution points is in every scope of its issuer, as in webpki.
        distribution_points(certificate)
            .is_none_or(|points| points.iter().any(|point| self.has_uri_of(point)))
    }

    fn has_uri_of(&self, point: &CRLDistributionPoint<'_>) -> bool {
        let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { return false };
        // A point with another issuer, or for some reasons only, does not belong to this CRL.
        point.crl_issuer.is_none()
            && point.reasons.is_none()
            && names.iter().any(|name| match name {
                GeneralName::URI(uri) => self.uris.iter().any(|known| **known == *uri.as_bytes()),
                _ => false,
            })
    }
}

fn distribution_points<'c>(certificate: &'c X509Certificate<'_>) -> Option<&'c [CRLDistributionPoint<'c>]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => Some(points.points.as_slice()),
        _ => None,
    })
}

/// Returns the number of distribution points and of all their full names.
fn count_distribution_points(certificate: &X509Certificate<'_>) -> usize {
    let names = |point: &CRLDistributionPoint<'_>| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => names.len(),
        _ => 0,
    };
    let points = distribution_points(certificate).unwrap_or_default();
    points.len() + points.iter().map(names).sum::<usize>()
}

/// Returns the URIs among the full names of a distribution point: `[0] { [0] { [6] uri … } }`.
fn uris(point_name: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let (_, full) = Any::from_der(point_name).ok()?;
    let names = elements(full.data)?.into_iter();
    Some(names.filter(|name| name.header.tag().0 == 6).map(|name| name.data.into()).collect())
}

impl Crl {
    /// Returns true if the CRL lists the serial number of this certificate.
    pub(super) fn revokes(&self, certificate: &X509Certificate<'_>) -> bool {
        self.revoked.contains(certificate.raw_serial())
    }

    /// Returns true if this CRL is newer and has the same issuer and scope.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.issuer_der == other.issuer_der
            && self.key == other.key
            && self.scope == other.scope
            && self.this_update > other.this_update
    }

    pub(super) fn entries(&self) -> usize {
        self.revoked.len()
    }
}

impl Revocation {
    /// Returns the last instant at which a certificate with this issuer key counts as not revoked.
    ///
    /// # Errors
    /// The certificate is revoked, or no current CRL covers it.
    pub(super) fn judge(
        &self,
        certificate: &X509Certificate<'_>,
        issuer_key: &[u8],
        role: CertificateKind,
        now: Timestamp,
    ) -> Result<Timestamp, Flaw> {
        if count_distribution_points(certificate) > MAX_DISTRIBUTION_POINTS {
            return Err(Flaw::TooComplex);
        }
        let issuer = certificate.issuer().as_raw();
        let is_about = |list: &&Crl| {
            *list.issuer_der == *issuer
                && *list.key == *issuer_key
                && list.scope.as_ref().is_none_or(|scope| scope.includes(certificate, role))
        };
        let about = || self.lists.iter().filter(is_about);
        // An entry of an outdated CRL still counts: revocation is permanent, and the newer CRL may be missing.
        if about().any(|list| list.revokes(certificate)) {
            return Err(Flaw::Revoked);
        }
        match about().map(|list| list.ends).max() {
            Some(ends) if now <= ends => Ok(ends),
            Some(_) => Err(Flaw::RevocationOutdated),
            None if self.missing == MissingCrl::Allow && !self.has_lists_of(issuer, issuer_key) => {
                Ok(Timestamp::MAX)
            }
            None => Err(Flaw::RevocationUnknown),
        }
    }

    fn has_lists_of(&self, issuer: &[u8], key: &[u8]) -> bool {
        self.lists.iter().any(|list| *list.issuer_der == *issuer)
            || self.ignored.iter().any(|list| list.may_be_of(issuer, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_distribution_points_are_refused_before_they_are_compared() {
        let revocation = Revocation { lists: Vec::new(), ignored: Vec::new(), missing: MissingCrl::Allow };
        let judged = |points: usize, names: usize| {
            let mut params = rcgen::CertificateParams::default();
            let uris: Vec<_> = (0..names).map(|name| format!("http://{name}.example")).collect();
            let point = || rcgen::CrlDistributionPoint { uris: uris.clone() };
            params.crl_distribution_points = (0..points).map(|_| point()).collect();
            let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            revocation.judge(&certificate, &[], CertificateKind::Leaf, Timestamp::now())
        };
        let most_names = MAX_DISTRIBUTION_POINTS - 1;
        for (points, names) in [(0, 0), (3, 2), (1, most_names), (MAX_DISTRIBUTION_POINTS / 2, 1)] {
            assert_eq!(judged(points, names), Ok(Timestamp::MAX), "{points} points of {names} names");
        }
        for (points, names) in [(1, most_names + 1), (MAX_DISTRIBUTION_POINTS / 2 + 1, 1)] {
            assert_eq!(judged(points, names), Err(Flaw::TooComplex), "{points} points of {names} names");
        }
    }
}
