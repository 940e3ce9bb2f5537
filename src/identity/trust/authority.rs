//! Certificates of authorities, told from those of clients and servers (RFC 5280 §4.2.1.3, §4.2.1.9). webpki takes every
//! certificate that it is given as a trust anchor for an authority, whatever the certificate says of itself.

use std::fmt;

use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use crate::identity::names::distinguished_name;
use crate::identity::signature::Signed;

/// A certificate that is no authority's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAuthority {
    /// The subject of the certificate; nothing if the certificate cannot be read.
    pub subject: Option<String>,
    /// Attribute that the certificate lacks.
    pub reason: NotAuthorityReason,
    /// The certificate is signed with its own key: the operator may have named it as a trust anchor (RFC 5280 §6.1.1 d).
    pub is_self_signed: bool,
}

/// Attribute that a certificate lacks to be an authority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAuthorityReason {
    /// The certificate cannot be read.
    Readable,
    /// A certificate of version 3 says nothing of being an authority.
    Constraints,
    /// The certificate says that it is none.
    Authority,
    /// The key may not sign certificates.
    CertSign,
}

impl NotAuthority {
    /// Whether the operator may name the certificate as a client CA all the same: self-signed, and not saying that it is none.
    pub(super) fn is_own_anchor(&self) -> bool {
        self.is_self_signed && self.reason == NotAuthorityReason::NoBasicConstraints
    }
}

impl fmt::Display for NotAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(subject) = &self.subject else {
            return f.write_str("it is not a readable X.509 certificate");
        };
        write!(f, "the certificate of `{subject}` ")?;
        f.write_str(match self.reason {
            NotAuthorityReason::Unreadable => "is not readable",
            NotAuthorityReason::NoBasicConstraints => {
                "has no basicConstraints, so it is a client's or a server's and no authority's"
            }
            NotAuthorityReason::NotCa => "is not an authority's (its basicConstraints say CA:FALSE)",
            NotAuthorityReason::NoCertSign => {
                "is not an authority's (its keyUsage does not allow it to sign certificates)"
            }
        })
    }
}

/// Checks that a certificate is an authority's. One of X.509 version 1, which could not say so, is taken for a root.
///
/// # Errors
/// Attribute that the certificate lacks.
pub fn check_authority(der: &[u8]) -> Result<(), NotAuthority> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
    let constraints = certificate.basic_constraints().map_err(|_| unreadable())?;
    let usage = certificate.key_usage().map_err(|_| unreadable())?;
    let reason = match constraints.map(|constraints| constraints.value.ca) {
        Some(false) => NotAuthorityReason::NotCa,
        _ if usage.is_some_and(|usage| !usage.value.key_cert_sign()) => NotAuthorityReason::NoCertSign,
        None if certificate.version() == X509Version::V3 => NotAuthorityReason::NoBasicConstraints,
        _ => return Ok(()),
    };
    Err(NotAuthority {
        subject: Some(distinguished_name(certificate.subject()).unwrap_or_default()),
        reason,
        is_self_signed: is_self_signed(der, &certificate),
    })
}

const fn unreadable() -> NotAuthority {
    NotAuthority { subject: None, reason: NotAuthorityReason::Unreadable, is_self_signed: false }
}

fn is_self_signed(der: &[u8], certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
        && Signed::of(der).is_some_and(|signed| signed.by(certificate.public_key().raw).is_ok())
}
