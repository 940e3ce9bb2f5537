//! Verification of the signatures of certificates and CRLs with a known key.

use std::sync::LazyLock;

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use x509_parser::der_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate};

/// List of signature algorithms; each fits one kind of key.
pub(super) type Algorithms<'a> = &'a [&'a dyn SignatureVerificationAlgorithm];

/// Returns the accepted signature algorithms, which are all those of the provider.
pub(super) fn accepted_algorithms() -> Algorithms<'static> {
    // A new provider allocates its lists, so one is kept.
    static ACCEPTED: LazyLock<WebPkiSupportedAlgorithms> =
        LazyLock::new(|| aws_lc_rs::default_provider().signature_verification_algorithms);
    ACCEPTED.all
}

/// The three parts of a certificate or a CRL (RFC 5280 §4.1, §5.1): signed content, algorithm and signature.
pub(super) struct Signed<'a> {
    content: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// Reason for which a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureFlaw {
    /// The signature was not made with this key.
    Wrong,
    /// The algorithm is not accepted, or does not fit this kind of key.
    Unacceptable,
}

impl<'a> Signed<'a> {
    /// Splits a certificate or a CRL; `None` if it is malformed.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (_, outer) = Any::from_der(der).ok()?;
        let (after_content, _) = Any::from_der(outer.data).ok()?;
        let content = outer.data.get(..outer.data.len().checked_sub(after_content.len())?)?;
        let (after_algorithm, algorithm) = Any::from_der(after_content).ok()?;
        let (_, bits) = Any::from_der(after_algorithm).ok()?;
        // A signature has whole bytes, so the number of unused bits is 0.
        let signature = bits.data.strip_prefix(&[0])?;
        Some(Self { content, algorithm: algorithm.data, signature })
    }

    /// Verifies the signature with the key of this SubjectPublicKeyInfo.
    pub(super) fn verify(&self, key: &[u8]) -> Result<(), SignatureFlaw> {
        self.verify_with(accepted_algorithms(), key)
    }

    /// Verifies the signature with one of these algorithms.
    pub(super) fn verify_with(&self, known: Algorithms<'_>, key: &[u8]) -> Result<(), SignatureFlaw> {
        let info = SubjectPublicKeyInfoDer::from(key);
        let key = RawPublicKeyEntity::try_from(&info).map_err(|_| SignatureFlaw::Unacceptable)?;
        let mut flaw = SignatureFlaw::Unacceptable;
        // Several algorithms share one identifier: the same hash with different curves.
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

/// Returns the position of the first certificate in a chain that was not issued by the next certificate.
#[must_use]
pub fn first_not_issued_by_next(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let issued = |certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>| {
        let (Ok((_, below)), Ok((_, above))) =
            (X509Certificate::from_der(certificate), X509Certificate::from_der(issuer))
        else {
            return false;
        };
        below.issuer().as_raw() == above.subject().as_raw()
            && Signed::parse(certificate).is_some_and(|signed| signed.verify(above.public_key().raw).is_ok())
    };
    chain.iter().zip(chain.iter().skip(1)).position(|(certificate, issuer)| !issued(certificate, issuer))
}
