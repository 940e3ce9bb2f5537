//! Signatures over certificates and CRLs, checked with a key that is known already.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use webpki::RawPublicKeyEntity;
use x509_parser::der_parser::asn1_rs::Any;
use x509_parser::prelude::FromDer;

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
        let info = SubjectPublicKeyInfoDer::from(key);
        let key = RawPublicKeyEntity::try_from(&info).map_err(|_| SignatureFlaw::Unacceptable)?;
        let mut flaw = SignatureFlaw::Unacceptable;
        // One identifier stands for several pairs of hash and curve.
        let known = aws_lc_rs::default_provider().signature_verification_algorithms.all;
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
