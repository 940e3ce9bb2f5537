//! Judgement of a presented chain under a trust bundle at an instant. The result is an identity, or the flaw of the chain.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, TrustAnchor, UnixTime, alg_id};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::extensions::KeyUsage as Usages;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::der::{is_well_formed, validity};
use super::paths::{Budget, Candidate, Certificate, PathGraph};
use super::revocation::CertificateKind;
use super::signature::{Algorithms, accepted_algorithms};
use super::{Attribute, EkuPolicy, Identity, Trust, TrustDomain, names};

/// Bounds that no real chain reaches. They are checked before every expensive step (denial of service).
const MAX_CERTIFICATES: usize = 64;
const MAX_CHAIN_BYTES: usize = 64 * 1024;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// DER of the extended key usage `clientAuth`, 1.3.6.1.5.5.7.3.2 (RFC 5280 §4.2.1.12).
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// Curves of the provider, with the length of an uncompressed point (RFC 5480 §2.1.1.1).
const CURVES: [(AlgorithmIdentifier, usize, &EcdsaVerificationAlgorithm); 3] = [
    (alg_id::ECDSA_P256, 65, &signature::ECDSA_P256_SHA256_ASN1),
    (alg_id::ECDSA_P384, 97, &signature::ECDSA_P384_SHA384_ASN1),
    (alg_id::ECDSA_P521, 133, &signature::ECDSA_P521_SHA512_ASN1),
];

/// Verdict that a client is authenticated.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Identity of the client.
    pub identity: Identity,
    /// Positions in the presented chain of the certificates that prove the identity, leaf first.
    pub path: Box<[usize]>,
    /// Last instant at which the verdict is true: the earliest end of validity of the path and of its CRLs.
    pub valid_until: Timestamp,
}

/// Verdict that a client is not authenticated. Every request is answered with 401 (DESIGN §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No certificate was presented.
    NoCertificate,
    /// The presented chain has this flaw.
    Invalid(Flaw),
}

/// Flaw of a presented chain. Its text is sent to the client, so it describes the certificate of the client and reveals nothing
/// about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The bytes are not a certificate.
    Unreadable,
    /// X.509 v1 or v2, which cannot express the purpose of a certificate.
    OldVersion,
    /// More than 64 certificates or 64 KiB.
    TooLong,
    /// A key that is too small, too large, or of a kind that is not accepted.
    UnacceptableKey(&'static str),
    /// A signature algorithm that is not accepted.
    UnacceptableSignature,
    /// The certificate expired at this instant.
    Expired(Timestamp),
    /// The certificate is not valid before this instant.
    NotYetValid(Timestamp),
    /// No path leads to a configured authority.
    UnknownIssuer,
    /// A signature in the chain is wrong.
    BadSignature,
    /// The certificate or an issuer of it was revoked.
    Revoked,
    /// No CRL covers the certificate or an issuer of it.
    RevocationUnknown,
    /// The CRL that covers the certificate or an issuer of it is out of date.
    RevocationOutdated,
    /// The authority may only issue SPIFFE ids of another trust domain.
    OtherTrustDomain,
    /// The extended key usage does not include client authentication.
    NotForClients,
    /// The key usage of the leaf does not allow signatures, or that of an issuer does not allow to sign certificates.
    WrongKeyUsage,
    /// The leaf is the certificate of an authority.
    AuthorityAsClient,
    /// An issuer in the chain is not an authority, or the path below it is longer than its path length constraint allows.
    IssuerMayNot,
    /// A name constraint of an authority forbids a name in the certificate.
    NameNotAllowed,
    /// This part of the names is malformed.
    MalformedName(&'static str),
    /// More than 256 subject alternative names.
    TooManyNames,
    /// The certificate has a SPIFFE id and another URI name.
    SeveralSpiffeIds,
    /// The chain has a critical extension that is not supported.
    UnknownCriticalExtension,
    /// The verification takes more work than any honest chain needs: too many paths, or too many comparisons of names.
    TooComplex,
    /// Another error of the verifier.
    Malformed,
}

impl Flaw {
    /// The names of all flaws, in the order of the documentation.
    pub const NAMES: [&'static str; 24] = [
        "unreadable",
        "old_version",
        "too_long",
        "unacceptable_key",
        "unacceptable_signature",
        "expired",
        "not_yet_valid",
        "unknown_issuer",
        "bad_signature",
        "revoked",
        "revocation_unknown",
        "revocation_outdated",
        "other_trust_domain",
        "not_for_clients",
        "wrong_key_usage",
        "authority_as_client",
        "issuer_may_not",
        "name_not_allowed",
        "malformed_name",
        "too_many_names",
        "several_spiffe_ids",
        "unknown_critical_extension",
        "too_complex",
        "malformed",
    ];

    /// Returns the short stable name of the flaw, for programs: in records and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::OldVersion => "old_version",
            Self::TooLong => "too_long",
            Self::UnacceptableKey(_) => "unacceptable_key",
            Self::UnacceptableSignature => "unacceptable_signature",
            Self::Expired(_) => "expired",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::BadSignature => "bad_signature",
            Self::Revoked => "revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::RevocationOutdated => "revocation_outdated",
            Self::OtherTrustDomain => "other_trust_domain",
            Self::NotForClients => "not_for_clients",
            Self::WrongKeyUsage => "wrong_key_usage",
            Self::AuthorityAsClient => "authority_as_client",
            Self::IssuerMayNot => "issuer_may_not",
            Self::NameNotAllowed => "name_not_allowed",
            Self::MalformedName(_) => "malformed_name",
            Self::TooManyNames => "too_many_names",
            Self::SeveralSpiffeIds => "several_spiffe_ids",
            Self::UnknownCriticalExtension => "unknown_critical_extension",
            Self::TooComplex => "too_complex",
            Self::Malformed => "malformed",
        }
    }
}

impl Flaw {
    /// Returns a rank that grows with the progress of the verification, in the order of webpki. When all paths fail, the flaw
    /// with the highest rank is reported, because the path that came the farthest is the path that the client meant.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::UnknownIssuer => 0,
            Self::Malformed | Self::Unreadable => 1,
            Self::OldVersion | Self::UnknownCriticalExtension => 2,
            Self::UnacceptableSignature => 3,
            Self::AuthorityAsClient | Self::IssuerMayNot => 4,
            Self::NameNotAllowed => 5,
            Self::NotForClients => 6,
            Self::BadSignature => 7,
            Self::Expired(_) | Self::NotYetValid(_) => 8,
            // The other flaws are found on paths whose signatures and dates are good.
            _ => 9,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the certificate cannot be read"),
            Self::OldVersion => f.write_str("the certificate is not of X.509 version 3"),
            Self::TooLong => f.write_str("the certificate chain is longer than 64 certificates or 64 KiB"),
            Self::UnacceptableKey(what) => write!(f, "the certificate's key is not accepted: {what}"),
            Self::UnacceptableSignature => {
                f.write_str("the certificate chain is signed with an algorithm that is not accepted")
            }
            Self::Expired(at) => write!(f, "the certificate expired on {at}"),
            Self::NotYetValid(from) => write!(f, "the certificate is not valid before {from}"),
            Self::UnknownIssuer => {
                f.write_str("the certificate was not issued by an authority that is trusted here")
            }
            Self::BadSignature => f.write_str("a signature in the certificate chain is wrong"),
            Self::Revoked => f.write_str("the certificate, or an issuer of it, was revoked"),
            Self::RevocationUnknown => f.write_str("it cannot be told whether the certificate was revoked"),
            Self::RevocationOutdated => {
                f.write_str("it cannot be told any more whether the certificate was revoked")
            }
            Self::OtherTrustDomain => f.write_str(
                "the certificate has no SPIFFE id of the trust domain that its authority stands for",
            ),
            Self::NotForClients => {
                f.write_str("the certificate is not for client authentication (extended key usage)")
            }
            Self::WrongKeyUsage => {
                f.write_str("the key usage of a certificate in the chain does not allow what it was used for")
            }
            Self::AuthorityAsClient => {
                f.write_str("the certificate is an authority's own and cannot be used by a client")
            }
            Self::IssuerMayNot => {
                f.write_str("an issuer in the certificate chain is not allowed to issue it")
            }
            Self::NameNotAllowed => {
                f.write_str("an authority in the chain may not issue certificates for this name")
            }
            Self::MalformedName(what) => write!(f, "the certificate holds {what} that is malformed"),
            Self::TooManyNames => f.write_str("the certificate has more than 256 subject alternative names"),
            Self::SeveralSpiffeIds => f.write_str("the certificate has a SPIFFE id beside another URI name"),
            Self::UnknownCriticalExtension => {
                f.write_str("the certificate chain has a critical extension that is not understood")
            }
            Self::TooComplex => f.write_str("the certificate chain takes too many steps to verify"),
            Self::Malformed => f.write_str("the certificate chain is malformed"),
        }
    }
}

/// Judges a presented chain, leaf first, at an instant. The same function serves full handshakes, resumed sessions and verdicts
/// that may no longer be true.
///
/// # Errors
/// The reason for which the client is not authenticated.
pub fn judge(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    now: Timestamp,
) -> Result<Authenticated, Unauthenticated> {
    let Some((leaf, intermediates)) = chain.split_first() else { return Err(Unauthenticated::NoCertificate) };
    verify(leaf, intermediates, trust, now).map_err(Unauthenticated::Invalid)
}

/// Returns the first instant after `now` at which the verdict on this chain may change under the same trust bundle: a validity
/// begins or ends. A refusal is cached until then.
pub(crate) fn next_verdict_change(chain: &[CertificateDer<'_>], trust: &Trust, now: Timestamp) -> Timestamp {
    let dates = chain.iter().filter_map(|der| validity(der));
    let of_chain = dates.map(|(from, until)| [instant_of(from), instant_of(until)]);
    // The last second belongs to the validity, so the change comes one second later.
    let turns = of_chain
        .chain(trust.validities())
        .flat_map(|[from, until]| [from, until.saturating_add(SECOND).unwrap_or(until)]);
    turns.filter(|turn| *turn > now).min().unwrap_or(Timestamp::MAX)
}

fn verify(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    trust: &Trust,
    now: Timestamp,
) -> Result<Authenticated, Flaw> {
    let bytes = others.iter().fold(leaf.len(), |sum, der| sum.saturating_add(der.len()));
    if others.len() >= MAX_CERTIFICATES || bytes > MAX_CHAIN_BYTES {
        return Err(Flaw::TooLong);
    }
    let (certificate, parsed) = parse_leaf(leaf)?;
    let identity = names::of(&parsed, leaf)?;
    let judgement = Judgement { certificate, identity: &identity, trust, now };
    let leaf = Certificate { position: 0, der: leaf, parsed };
    let Verified { valid_until, path } = judgement.verify(leaf, others, &Budget::for_handshake())?;
    Ok(Authenticated { identity, path, valid_until })
}

/// Returns a flaw that neither another trust bundle nor another time can remove. Only for such a leaf TLS may skip the proof of
/// possession (DESIGN §2.1), because [`judge`] never makes an identity from it.
pub(crate) fn permanent_flaw(leaf: &CertificateDer<'_>) -> Option<Flaw> {
    parse_leaf(leaf).err()
}

/// Parses the leaf with webpki for the verification, and with the X.509 parser for its names.
fn parse_leaf<'c>(leaf: &'c CertificateDer<'_>) -> Result<(EndEntityCert<'c>, X509Certificate<'c>), Flaw> {
    let certificate = EndEntityCert::try_from(leaf).map_err(|error| match error {
        webpki::Error::UnsupportedCertVersion => Flaw::OldVersion,
        _ => Flaw::Unreadable,
    })?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Flaw::Unreadable)?;
    if !is_well_formed(leaf) {
        return Err(Flaw::Unreadable);
    }
    unacceptable_key(&parsed).map_or(Ok((certificate, parsed)), Err)
}

/// Returns a flaw for a key that is not accepted. RSA keys below 2048 bits are weak, and RSA keys above 8192 bits cost too much
/// work (denial of service). Algorithms are compared byte for byte, as webpki does when it verifies, so that no key is accepted
/// here that webpki refuses.
fn unacceptable_key(certificate: &X509Certificate<'_>) -> Option<Flaw> {
    let algorithm = key_algorithm(certificate.public_key().raw);
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) if algorithm == Some(alg_id::RSA_ENCRYPTION.as_ref()) => {
            let bits = rsa.modulus.iter().skip_while(|byte| **byte == 0).count().saturating_mul(8);
            match bits {
                ..2048 => Some(Flaw::UnacceptableKey("RSA below 2048 bits")),
                2048..=8192 => None,
                _ => Some(Flaw::UnacceptableKey("RSA above 8192 bits")),
            }
        }
        Ok(PublicKey::EC(point)) => {
            let known = CURVES.iter().find(|(curve, ..)| algorithm == Some(curve.as_ref()));
            let Some((_, length, verification)) = known else {
                return Some(Flaw::UnacceptableKey("a curve other than P-256, P-384 or P-521"));
            };
            // No client can prove possession of a key that is not on the curve. The check is here so that every tool reports
            // it.
            let point = point.data();
            let is_point = point.len() == *length && ParsedPublicKey::new(*verification, point).is_ok();
            (!is_point).then_some(Flaw::UnacceptableKey("it is no point on its curve"))
        }
        _ if algorithm == Some(alg_id::ED25519.as_ref()) => None,
        _ => Some(Flaw::UnacceptableKey("neither RSA, ECDSA nor Ed25519")),
    }
}

/// Returns the algorithm and its parameters in a SubjectPublicKeyInfo.
fn key_algorithm(info: &[u8]) -> Option<&[u8]> {
    let (_, info) = Any::from_der(info).ok()?;
    let (_, algorithm) = Any::from_der(info.data).ok()?;
    let is_sequence = |any: &Any<'_>| any.header.is_universal() && any.header.tag() == Tag::Sequence;
    (is_sequence(&info) && is_sequence(&algorithm)).then_some(algorithm.data)
}

/// A leaf with the trust bundle and the instant of its judgement.
struct Judgement<'j> {
    certificate: EndEntityCert<'j>,
    identity: &'j Identity,
    trust: &'j Trust,
    now: Timestamp,
}

/// Check of a path that webpki has verified.
type CheckPath<'l> = dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error> + 'l;

/// Result of the verification of a path.
struct Verified {
    /// Last instant at which the path is valid.
    valid_until: Timestamp,
    /// Positions of the certificates in the presented chain, leaf first.
    path: Box<[usize]>,
}

impl Judgement<'_> {
    /// Finds a valid path to an authority within the budget.
    fn verify<'c>(
        &self,
        leaf: Certificate<'c>,
        others: &'c [CertificateDer<'_>],
        budget: &Budget,
    ) -> Result<Verified, Flaw> {
        let paths = PathGraph::find(leaf, others, self.trust.valid_at(self.now)).map_err(|none| {
            // Without authorities webpki checks the leaf alone, and a flaw of the leaf helps the client more than
            // `unknown_issuer`.
            let own = self.webpki(accepted_algorithms(), &[], &[], None).err();
            own.filter(|flaw| *flaw != Flaw::UnknownIssuer).unwrap_or(none)
        })?;
        paths.search(budget, &mut |candidate| self.verify_candidate(candidate))
    }

    fn verify_candidate(&self, candidate: &Candidate<'_, '_>) -> Result<Verified, Flaw> {
        let (_, between) = candidate.certificates.split_first().ok_or(Flaw::Malformed)?;
        let between: Vec<_> = between.iter().map(|it| CertificateDer::from(it.der.as_ref())).collect();
        // webpki turns every error of `check_path` into one of its own, so the flaw is kept here.
        let (found, ends) = (RefCell::new(None), Cell::new(self.now));
        let check_path = |path: &VerifiedPath<'_>| match self.check_path(candidate, path) {
            Ok(until) => {
                ends.set(until);
                Ok(())
            }
            Err(flaw) => {
                found.borrow_mut().get_or_insert(flaw);
                Err(webpki::Error::ExtensionValueInvalid)
            }
        };
        let anchor = std::slice::from_ref(candidate.anchor);
        let verified = self.webpki(candidate.algorithms, anchor, &between, Some(&check_path));
        let path = candidate.certificates.iter().map(|certificate| certificate.position).collect();
        match verified {
            Ok(()) => Ok(Verified { valid_until: ends.get(), path }),
            Err(flaw) => Err(found.take().unwrap_or(flaw)),
        }
    }

    fn webpki(
        &self,
        algorithms: Algorithms<'_>,
        anchors: &[TrustAnchor<'_>],
        between: &[CertificateDer<'_>],
        check_path: Option<&CheckPath<'_>>,
    ) -> Result<(), Flaw> {
        let usage = match self.trust.usage {
            EkuPolicy::ClientAuthIfPresent => KeyUsage::client_auth(),
            EkuPolicy::ClientAuthRequired => KeyUsage::required(CLIENT_AUTH),
        };
        let time = unix_time(self.now);
        let verified =
            self.certificate.verify_for_usage(algorithms, anchors, between, time, usage, None, check_path);
        verified.map(|_| ()).map_err(|error| flaw(&error))
    }

    /// Makes the checks that webpki leaves to its caller, and returns the last instant at which the path is valid.
    fn check_path(&self, candidate: &Candidate<'_, '_>, path: &VerifiedPath<'_>) -> Result<Timestamp, Flaw> {
        let (identity, trust, now) = (self.identity, self.trust, self.now);
        let above_leaf =
            candidate.certificates.iter().skip(1).map(|it| CertificateDer::from(it.der.as_ref()));
        // webpki tries certificates that share a name in other orders as well. Each other order is a candidate of its own.
        if !path.intermediate_certificates().map(|it| it.der()).eq(above_leaf) {
            return Err(Flaw::UnknownIssuer);
        }
        if !candidate.certificates.iter().all(|certificate| is_well_formed(certificate.der)) {
            return Err(Flaw::Malformed);
        }
        let certificates: Vec<_> = candidate.certificates.iter().map(|it| &it.parsed).collect();
        if !key_usages_allow(&certificates, is_spiffe(identity)) {
            return Err(Flaw::WrongKeyUsage);
        }
        // Several trusted certificates may have the name and key of one authority.
        let anchors: Vec<_> = trust.authorities_of(path.anchor()).collect();
        let anchor = anchors.first().ok_or(Flaw::UnknownIssuer)?;
        if anchor.domain.as_ref().is_some_and(|domain| !has_id_in(identity, domain)) {
            return Err(Flaw::OtherTrustDomain);
        }
        if anchors.iter().all(|authority| authority.is_revoked) {
            return Err(Flaw::Revoked);
        }
        let anchor_ends = anchors.iter().map(|authority| authority.not_after).max().unwrap_or(now);
        let not_revoked = not_revoked_until(&certificates, &anchor.key, trust, now)?;
        Ok(certificates.iter().map(|it| end_of(it)).chain([anchor_ends, not_revoked]).min().unwrap_or(now))
    }
}

/// Returns true if the KeyUsage of every certificate allows its use (RFC 5280 §4.2.1.3). webpki does not check KeyUsage.
fn key_usages_allow(path: &[&X509Certificate<'_>], is_spiffe: bool) -> bool {
    let allows = |certificate: &X509Certificate<'_>, check: &dyn Fn(&Usages) -> bool| {
        certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| check(usage.value)))
    };
    // A leaf must not sign certificates (RFC 5280 §4.2.1.3), and the leaf of a SPIFFE id must not sign CRLs (X.509-SVID §4.3).
    let leaf = |usage: &Usages| {
        usage.digital_signature() && !usage.key_cert_sign() && !(is_spiffe && usage.crl_sign())
    };
    path.split_first().is_some_and(|(first, issuers)| {
        allows(first, &leaf) && issuers.iter().all(|issuer| allows(issuer, &Usages::key_cert_sign))
    })
}

/// Checks every certificate of a path, leaf first, against the CRLs. `anchor_key` is the key of the last issuer. The result is
/// the last instant at which none of the certificates counts as revoked.
fn not_revoked_until(
    path: &[&X509Certificate<'_>],
    anchor_key: &[u8],
    trust: &Trust,
    now: Timestamp,
) -> Result<Timestamp, Flaw> {
    let Some(revocation) = &trust.revocation else { return Ok(Timestamp::MAX) };
    let issuer_keys = path.iter().skip(1).map(|issuer| issuer.public_key().raw).chain([anchor_key]);
    let roles = std::iter::once(CertificateKind::Leaf).chain(std::iter::repeat(CertificateKind::Authority));
    let mut until = Timestamp::MAX;
    for ((certificate, key), role) in path.iter().zip(issuer_keys).zip(roles) {
        until = until.min(revocation.judge(certificate, key, role, now)?);
    }
    Ok(until)
}

fn is_spiffe(identity: &Identity) -> bool {
    identity.values(Attribute::Uri).any(|uri| uri.starts_with("spiffe:"))
}

fn has_id_in(identity: &Identity, domain: &TrustDomain) -> bool {
    identity.values(Attribute::Uri).any(|uri| domain.contains(uri))
}

/// Returns the end of the validity. A date beyond the range of [`Timestamp`] counts as [`Timestamp::MAX`].
fn end_of(certificate: &X509Certificate<'_>) -> Timestamp {
    instant_of(certificate.validity().not_after.timestamp())
}

fn instant_of(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)))
}

fn instant(time: UnixTime) -> Timestamp {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|second| Timestamp::from_second(second).ok())
        .unwrap_or(Timestamp::MAX)
}

fn flaw(error: &webpki::Error) -> Flaw {
    use webpki::Error;
    match error {
        Error::CertExpired { not_after, .. } => Flaw::Expired(instant(*not_after)),
        Error::CertNotValidYet { not_before, .. } => Flaw::NotYetValid(instant(*not_before)),
        Error::UnknownIssuer => Flaw::UnknownIssuer,
        Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => Flaw::BadSignature,
        Error::CertRevoked => Flaw::Revoked,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Flaw::NotForClients,
        Error::CaUsedAsEndEntity => Flaw::AuthorityAsClient,
        Error::EndEntityUsedAsCa | Error::PathLenConstraintViolated => Flaw::IssuerMayNot,
        Error::NameConstraintViolation => Flaw::NameNotAllowed,
        Error::UnsupportedCriticalExtension => Flaw::UnknownCriticalExtension,
        Error::UnsupportedCertVersion => Flaw::OldVersion,
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => Flaw::TooComplex,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Flaw::UnacceptableSignature,
        _ => Flaw::Malformed,
    }
}
