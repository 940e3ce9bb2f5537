//! Signatures over certificates and CRLs, checked with a key that is known already.

use std::sync::LazyLock;

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use x509_parser::der_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Signature algorithms, each for one kind of key.
pub(super) type Algorithms<'a> = &'a [&'a dyn SignatureVerificationAlgorithm];

/// The signature algorithms of the provider, all of which are accepted.
pub(super) fn accepted() -> Algorithms<'static> {
    // Making a provider allocates its lists anew.
    static ACCEPTED: LazyLock<WebPkiSupportedAlgorithms> =
        LazyLock::new(|| aws_lc_rs::default_provider().signature_verification_algorithms);
    ACCEPTED.all
}

/// A certificate or a CRL, as what was signed, how, and the signature (RFC 5280 §4.1, §5.1).
pub(super) struct Signed<'a> {
    content: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureFlaw {
    /// It was not made with this key.
    Wrong,
    /// Its algorithm is not accepted, or not of this kind of key.
    Unacceptable,
}

impl<'a> Signed<'a> {
    pub(super) fn of(der: &'a [u8]) -> Option<Self> {
        let (_, outer) = Any::from_der(der).ok()?;
        let (after_content, _) = Any::from_der(outer.data).ok()?;
        let content = outer.data.get(..outer.data.len().checked_sub(after_content.len())?)?;
        let (after_algorithm, algorithm) = Any::from_der(after_content).ok()?;
        let (_, bits) = Any::from_der(after_algorithm).ok()?;
        // Every signature is whole bytes: no bit of the last one is left unused.
        let signature = bits.data.strip_prefix(&[0])?;
        Some(Self { content, algorithm: algorithm.data, signature })
    }

    /// Whether it was signed with the key of this SubjectPublicKeyInfo.
    pub(super) fn by(&self, key: &[u8]) -> Result<(), SignatureFlaw> {
        self.by_one_of(accepted(), key)
    }

    /// The same check with algorithms of the caller's own.
    pub(super) fn by_one_of(&self, known: Algorithms<'_>, key: &[u8]) -> Result<(), SignatureFlaw> {
        let info = SubjectPublicKeyInfoDer::from(key);
        let key = RawPublicKeyEntity::try_from(&info).map_err(|_| SignatureFlaw::Unacceptable)?;
        let mut flaw = SignatureFlaw::Unacceptable;
        // One identifier stands for several pairs of hash and curve.
        for candidate in known.iter().filter(|known| known.signature_alg_id().as_ref() == self.algorithm) {
            match key.verify_signature(*candidate, self.content, self.signature) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::InvalidSignatureForPublicKey) => flaw = SignatureFlaw::Wrong,
                Err(_) => {}
            }
        }
        Err(flaw)
    }
}

/// The position of the first certificate of a chain that the one after it did not issue.
#[must_use]
pub fn first_not_issued_by_next(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let issued = |certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>| {
        let (Ok((_, below)), Ok((_, above))) =
            (X509Certificate::from_der(certificate), X509Certificate::from_der(issuer))
        else {
            return false;
        };
        below.issuer().as_raw() == above.subject().as_raw()
            && Signed::of(certificate).is_some_and(|signed| signed.by(above.public_key().raw).is_ok())
    };
    chain.iter().zip(chain.iter().skip(1)).position(|(certificate, issuer)| !issued(certificate, issuer))
}
