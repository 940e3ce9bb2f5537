//! The judgement: a presented chain, the trust bundle and an instant make an identity, or the reason why not.

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
use super::revocation::Role;
use super::signature::{Algorithms, accepted_algorithms};
use super::{Attribute, EkuPolicy, Identity, Trust, TrustDomain, names};

/// More certificates, or more bytes, than any real chain has; looked at before any expensive step.
const MAX_CERTIFICATES: usize = 64;
const MAX_CHAIN_BYTES: usize = 64 * 1024;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// DER of the extended key usage `clientAuth`, 1.3.6.1.5.5.7.3.2 (RFC 5280 §4.2.1.12).
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// The curves of the provider, and the length of an uncompressed point on each (RFC 5480 §2.1.1.1).
const CURVES: [(AlgorithmIdentifier, usize, &EcdsaVerificationAlgorithm); 3] = [
    (alg_id::ECDSA_P256, 65, &signature::ECDSA_P256_SHA256_ASN1),
    (alg_id::ECDSA_P384, 97, &signature::ECDSA_P384_SHA384_ASN1),
    (alg_id::ECDSA_P521, 133, &signature::ECDSA_P521_SHA512_ASN1),
];

/// A verdict in the client's favour: who it is, and until when that is true.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Who the client is.
    pub identity: Identity,
    /// The positions in the presented chain of the certificates that prove it, leaf first. The rest proves nothing.
    pub path: Box<[usize]>,
    /// The last instant at which the verdict is true: the earliest end of validity in the chain, and of its CRLs.
    pub valid_until: Timestamp,
}

/// A verdict against the client. Each answers 401 (DESIGN §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No certificate was presented.
    NoCertificate,
    /// A certificate was presented, and it has this flaw.
    Invalid(Flaw),
}

/// What is wrong with a presented chain. The text is for the client: it tells about the client's own certificate,
/// and nothing about us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Bytes that are no certificate.
    Unreadable,
    /// X.509 v1 or v2, which say nothing of what a certificate is for.
    OldVersion,
    /// More than 64 certificates or 64 KiB.
    TooLong,
    /// A key that is too small, too large, or of a kind that is not accepted.
    UnacceptableKey(&'static str),
    /// A signature algorithm that is not accepted.
    UnacceptableSignature,
    /// Not valid any more since this instant.
    Expired(Timestamp),
    /// Not valid before this instant.
    NotYetValid(Timestamp),
    /// No path to a configured authority.
    UnknownIssuer,
    /// A signature in the chain is wrong.
    BadSignature,
    /// It, or an issuer of it, was revoked.
    Revoked,
    /// No CRL says whether it was revoked.
    RevocationUnknown,
    /// The CRL that says whether it was revoked is too old to be believed.
    RevocationOutdated,
    /// Its authority may issue SPIFFE ids of another trust domain only.
    OtherTrustDomain,
    /// Its extended key usage is not for clients.
    NotForClients,
    /// Its key usage does not allow signatures, or an issuer's does not allow to sign certificates.
    WrongKeyUsage,
    /// A certificate authority's own certificate.
    AuthorityAsClient,
    /// An issuer in the chain is no authority, or signs further down than it may.
    IssuerMayNot,
    /// A name constraint of an authority forbids a name.
    NameNotAllowed,
    /// This part of its names is malformed.
    MalformedName(&'static str),
    /// More than 256 subject alternative names.
    TooManyNames,
    /// Two URI names where one is a SPIFFE id.
    SeveralSpiffeIds,
    /// A critical extension that is not understood.
    UnknownCriticalExtension,
    /// Verifying it takes more than any honest chain needs: ways to try, or names to hold to name constraints.
    TooComplex,
    /// Anything else that the verifier found.
    Malformed,
}

impl Flaw {
    /// The short stable name of its kind, for programs.
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
    /// Rank of a flaw of one path where others have other flaws, as webpki ranks what it finds: the path that came the farthest
    /// says the most.
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
            // Found on a path whose signatures and dates are good.
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

/// Judges a presented chain, leaf first, at an instant. Sans-I/O; the same function for every handshake, every
/// resumed session and every verdict that may have become untrue.
///
/// # Errors
/// Why the client is not authenticated.
pub fn judge(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    now: Timestamp,
) -> Result<Authenticated, Unauthenticated> {
    let Some((leaf, intermediates)) = chain.split_first() else { return Err(Unauthenticated::NoCertificate) };
    verify(leaf, intermediates, trust, now).map_err(Unauthenticated::Invalid)
}

/// The first instant after `now` at which a judgement of this chain could turn out otherwise under the same trust: dates are all
/// that changes by itself. A refusal is remembered for no longer.
pub(crate) fn next_verdict_change(chain: &[CertificateDer<'_>], trust: &Trust, now: Timestamp) -> Timestamp {
    let dates = chain.iter().filter_map(|der| validity(der));
    let of_chain = dates.map(|(from, until)| [instant_of(from), instant_of(until)]);
    // A certificate is valid up to and with its last second.
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
    let (certificate, parsed) = readable(leaf)?;
    let identity = names::of(&parsed, leaf)?;
    let judgement = Judgement { certificate, identity: &identity, trust, now };
    let leaf = Certificate { position: 0, der: leaf, parsed };
    let Verified { valid_until, path } = judgement.verify(leaf, others, &Budget::for_handshake())?;
    Ok(Authenticated { identity, path, valid_until })
}

/// The flaw of a leaf that no bundle and no clock could ever make valid, if it has one: it is the only kind for
/// which TLS needs no proof of possession (DESIGN §2.1), because [`judge`] never makes an identity of it.
pub(crate) fn permanent_flaw(leaf: &CertificateDer<'_>) -> Option<Flaw> {
    readable(leaf).err()
}

/// The leaf as webpki reads it, and whole.
fn readable<'c>(leaf: &'c CertificateDer<'_>) -> Result<(EndEntityCert<'c>, X509Certificate<'c>), Flaw> {
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

/// RSA below 2048 bits is weak and above 8192 a way to make us compute; curves are those of the provider. Algorithms are
/// compared byte for byte, as webpki compares them when it verifies: a key that it would not use is none.
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
            // Nobody can prove to have the key of what is no point; said here, it is said by every tool.
            let point = point.data();
            let is_point = point.len() == *length && ParsedPublicKey::new(*verification, point).is_ok();
            (!is_point).then_some(Flaw::UnacceptableKey("it is no point on its curve"))
        }
        _ if algorithm == Some(alg_id::ED25519.as_ref()) => None,
        _ => Some(Flaw::UnacceptableKey("neither RSA, ECDSA nor Ed25519")),
    }
}

/// The algorithm and its parameters, from a SubjectPublicKeyInfo.
fn key_algorithm(info: &[u8]) -> Option<&[u8]> {
    let (_, info) = Any::from_der(info).ok()?;
    let (_, algorithm) = Any::from_der(info.data).ok()?;
    let is_sequence = |any: &Any<'_>| any.header.is_universal() && any.header.tag() == Tag::Sequence;
    (is_sequence(&info) && is_sequence(&algorithm)).then_some(algorithm.data)
}

/// A leaf, and the trust and the instant that it is judged by.
struct Judgement<'j> {
    certificate: EndEntityCert<'j>,
    identity: &'j Identity,
    trust: &'j Trust,
    now: Timestamp,
}

/// A further verify at a path that webpki finds good.
type LookAtPath<'l> = dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error> + 'l;

/// A path that holds.
struct Verified {
    /// The last instant at which it does.
    valid_until: Timestamp,
    /// The positions of its certificates in the presented chain, leaf first.
    path: Box<[usize]>,
}

impl Judgement<'_> {
    /// Finds a path to an authority that holds, within the budget.
    fn verify<'c>(
        &self,
        leaf: Certificate<'c>,
        others: &'c [CertificateDer<'_>],
        budget: &Budget,
    ) -> Result<Verified, Flaw> {
        let paths = PathGraph::find(leaf, others, self.trust.valid_at(self.now)).map_err(|none| {
            // Without an authority webpki looks at the leaf alone, and what is wrong with it is more worth telling.
            let own = self.webpki(accepted_algorithms(), &[], &[], None).err();
            own.filter(|flaw| *flaw != Flaw::UnknownIssuer).unwrap_or(none)
        })?;
        paths.search(budget, &mut |candidate| self.verify_candidate(candidate))
    }

    fn verify_candidate(&self, candidate: &Candidate<'_, '_>) -> Result<Verified, Flaw> {
        let (_, between) = candidate.certificates.split_first().ok_or(Flaw::Malformed)?;
        let between: Vec<_> = between.iter().map(|it| CertificateDer::from(it.der.as_ref())).collect();
        // What was objected to here is more worth telling than what webpki makes of it.
        let (objection, ends) = (RefCell::new(None), Cell::new(self.now));
        let look_at = |path: &VerifiedPath<'_>| match self.check_path(candidate, path) {
            Ok(until) => {
                ends.set(until);
                Ok(())
            }
            Err(flaw) => {
                objection.borrow_mut().get_or_insert(flaw);
                Err(webpki::Error::ExtensionValueInvalid)
            }
        };
        let anchor = std::slice::from_ref(candidate.anchor);
        let verified = self.webpki(candidate.algorithms, anchor, &between, Some(&look_at));
        let path = candidate.certificates.iter().map(|certificate| certificate.position).collect();
        match verified {
            Ok(()) => Ok(Verified { valid_until: ends.get(), path }),
            Err(flaw) => Err(objection.take().unwrap_or(flaw)),
        }
    }

    fn webpki(
        &self,
        algorithms: Algorithms<'_>,
        anchors: &[TrustAnchor<'_>],
        between: &[CertificateDer<'_>],
        look_at: Option<&LookAtPath<'_>>,
    ) -> Result<(), Flaw> {
        let usage = match self.trust.usage {
            EkuPolicy::ClientAuthIfPresent => KeyUsage::client_auth(),
            EkuPolicy::ClientAuthRequired => KeyUsage::required(CLIENT_AUTH),
        };
        let time = unix_time(self.now);
        let verified =
            self.certificate.verify_for_usage(algorithms, anchors, between, time, usage, None, look_at);
        verified.map(|_| ()).map_err(|error| flaw(&error))
    }

    /// The checks that webpki leaves to its caller, on a path that it finds good.
    fn check_path(&self, candidate: &Candidate<'_, '_>, path: &VerifiedPath<'_>) -> Result<Timestamp, Flaw> {
        let (identity, trust, now) = (self.identity, self.trust, self.now);
        let above_leaf =
            candidate.certificates.iter().skip(1).map(|it| CertificateDer::from(it.der.as_ref()));
        // Where certificates share a name, webpki tries them in other orders too. Those are candidates of their own.
        if !path.intermediate_certificates().map(|it| it.der()).eq(above_leaf) {
            return Err(Flaw::UnknownIssuer);
        }
        if !candidate.certificates.iter().all(|certificate| is_well_formed(certificate.der)) {
            return Err(Flaw::Malformed);
        }
        let certificates: Vec<_> = candidate.certificates.iter().map(|it| &it.parsed).collect();
        if !usages_allow(&certificates, is_spiffe(identity)) {
            return Err(Flaw::WrongKeyUsage);
        }
        // One authority may be there with several certificates.
        let anchors: Vec<_> = trust.authorities_of(path.anchor()).collect();
        let anchor = anchors.first().ok_or(Flaw::UnknownIssuer)?;
        if anchor.domain.as_ref().is_some_and(|domain| !is_of(identity, domain)) {
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

/// KeyUsage where it is present (RFC 5280 §4.2.1.3): webpki does not verify at it.
fn usages_allow(path: &[&X509Certificate<'_>], is_spiffe: bool) -> bool {
    let allows = |certificate: &X509Certificate<'_>, check: &dyn Fn(&Usages) -> bool| {
        certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| check(usage.value)))
    };
    // What may sign certificates is an authority, which no leaf is (RFC 5280 §4.2.1.3); the leaf of a SPIFFE id does not
    // sign CRLs either (X.509-SVID §4.3).
    let leaf = |usage: &Usages| {
        usage.digital_signature() && !usage.key_cert_sign() && !(is_spiffe && usage.crl_sign())
    };
    path.split_first().is_some_and(|(first, issuers)| {
        allows(first, &leaf) && issuers.iter().all(|issuer| allows(issuer, &Usages::key_cert_sign))
    })
}

/// Asks the CRLs about every certificate of a path, leaf first, whose last issuer has this key.
fn not_revoked_until(
    path: &[&X509Certificate<'_>],
    anchor_key: &[u8],
    trust: &Trust,
    now: Timestamp,
) -> Result<Timestamp, Flaw> {
    let Some(revocation) = &trust.revocation else { return Ok(Timestamp::MAX) };
    let issuer_keys = path.iter().skip(1).map(|issuer| issuer.public_key().raw).chain([anchor_key]);
    let roles = std::iter::once(Role::Leaf).chain(std::iter::repeat(Role::Authority));
    let mut until = Timestamp::MAX;
    for ((certificate, key), role) in path.iter().zip(issuer_keys).zip(roles) {
        until = until.min(revocation.judge(certificate, key, role, now)?);
    }
    Ok(until)
}

fn is_spiffe(identity: &Identity) -> bool {
    identity.values(Attribute::Uri).any(|uri| uri.starts_with("spiffe:"))
}

fn is_of(identity: &Identity, domain: &TrustDomain) -> bool {
    identity.values(Attribute::Uri).any(|uri| domain.holds(uri))
}

/// The end of validity; a date that no calendar here can hold never comes.
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
