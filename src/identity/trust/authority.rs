//! The check that a certificate belongs to an authority and not to a client or a server (RFC 5280 §4.2.1.3, §4.2.1.9). webpki
//! accepts every certificate as a trust anchor, so without the check the key of one client could issue certificates.

use std::fmt;

use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use crate::identity::names::distinguished_name;
use crate::identity::signature::Signed;

/// Error for a certificate that does not belong to an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAuthority {
    /// Subject of the certificate; `None` if the certificate cannot be read.
    pub subject: Option<String>,
    /// Property that the certificate lacks.
    pub reason: NotAuthorityReason,
    /// True if the certificate is signed with its own key: the operator may have named it as a trust anchor (RFC 5280 §6.1.1
    /// d).
    pub is_self_signed: bool,
}

/// Property that a certificate lacks to belong to an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAuthorityReason {
    /// The certificate cannot be read.
    Unreadable,
    /// The certificate has version 3 and no `basicConstraints`.
    NoBasicConstraints,
    /// The `basicConstraints` say `CA:FALSE`.
    NotCa,
    /// The `keyUsage` does not allow the key to sign certificates.
    NoCertSign,
}

impl NotAuthority {
    /// Returns true if the operator may name the certificate as a client CA nevertheless: it is self-signed and does not deny
    /// that it is an authority.
    pub(super) fn may_be_anchor(&self) -> bool {
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

/// Checks that a certificate belongs to an authority. A certificate of X.509 version 1 has no extensions and counts as a root.
///
/// # Errors
/// The property that the certificate lacks.
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
        && Signed::parse(der).is_some_and(|signed| signed.verify(certificate.public_key().raw).is_ok())
}
