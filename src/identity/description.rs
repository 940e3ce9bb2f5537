//! Description of a certificate for display. No decision uses it.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::names::{distinguished_name, hexadecimal, serial};
use crate::digest::sha256;

/// Fields of a certificate that are shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Distinguished name of the subject; empty if it is missing or malformed.
    pub subject: String,
    /// Distinguished name of the issuer; empty if it is malformed.
    pub issuer: String,
    /// First instant of the validity.
    pub not_before: Timestamp,
    /// Last instant of the validity.
    pub not_after: Timestamp,
    /// Kind of the public key: `ECDSA P-256`, `RSA 2048`, `Ed25519`.
    pub key: String,
}

impl Description {
    /// Reads the description of a certificate; `None` if the certificate cannot be read.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let instant = |second| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        Some(Self {
            subject: distinguished_name(certificate.subject()).unwrap_or_default(),
            issuer: distinguished_name(certificate.issuer()).unwrap_or_default(),
            not_before: instant(certificate.validity().not_before.timestamp()),
            not_after: instant(certificate.validity().not_after.timestamp()),
            key: key(&certificate),
        })
    }
}

/// The statements of a presented certificate about itself. They are not proven: they tell the certificates of refused clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Distinguished name of the subject; `None` if it is empty, malformed or unreadable.
    pub subject: Option<String>,
    /// Distinguished name of the issuer; `None` if it is empty, malformed or unreadable.
    pub issuer: Option<String>,
    /// Serial number, in lower-case hexadecimal without leading zeros; `None` if the certificate cannot be read.
    pub serial: Option<String>,
    /// SHA-256 of the certificate, lower-case hexadecimal.
    pub fingerprint: String,
}

impl Presented {
    /// Reads what can be read of a leaf. The work is linear in its length, which TLS bounds to 64 KiB.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let certificate = X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
        let certificate = certificate.as_ref();
        let name = |name| distinguished_name(name).ok().filter(|name| !name.is_empty());
        Self {
            subject: certificate.and_then(|certificate| name(certificate.subject())),
            issuer: certificate.and_then(|certificate| name(certificate.issuer())),
            serial: certificate.map(serial),
            fingerprint: hexadecimal(&sha256(der)),
        }
    }
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let info = certificate.public_key();
    let algorithm = info.algorithm.algorithm.to_id_string();
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(_)) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            let curve = curve.map(|oid| oid.to_id_string());
            match curve.as_deref() {
                Some("1.2.840.10045.3.1.7") => "ECDSA P-256".to_owned(),
                Some("1.3.132.0.34") => "ECDSA P-384".to_owned(),
                Some("1.3.132.0.35") => "ECDSA P-521".to_owned(),
                curve => format!("ECDSA {}", curve.unwrap_or("of no named curve")),
            }
        }
        _ if algorithm == "1.3.101.112" => "Ed25519".to_owned(),
        _ => algorithm,
    }
}
