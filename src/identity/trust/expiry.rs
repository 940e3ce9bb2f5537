//! Expiry of certificates and CRLs, and the time at which a warning about the expiry is due.

use jiff::{SignedDuration, Timestamp};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Trust;
use crate::diagnostic::{Code, Diagnostic};

/// Kind of an object that expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpiryKind {
    /// A certificate of the server.
    Server,
    /// A client CA.
    Ca,
    /// A CRL, which expires at its `nextUpdate`.
    Crl,
}

impl ExpiryKind {
    /// Returns the label in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Ca => "ca",
            Self::Crl => "crl",
        }
    }

    /// Returns the maximum time between the warning and the expiry.
    const fn notice(self) -> SignedDuration {
        const DAY: i64 = 24 * 60 * 60;
        match self {
            Self::Ca => SignedDuration::from_secs(30 * DAY),
            Self::Server | Self::Crl => SignedDuration::from_secs(7 * DAY),
        }
    }
}

/// An object that expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Kind of the object.
    pub kind: ExpiryKind,
    /// File with the object.
    pub file: String,
    /// Subject of a certificate, or issuer of a CRL.
    pub name: String,
    /// First instant of the validity.
    pub from: Timestamp,
    /// Last instant of the validity.
    pub until: Timestamp,
}

impl Expiry {
    /// Reads the expiry of a certificate; `None` if the certificate cannot be read.
    #[must_use]
    pub fn from_certificate(kind: ExpiryKind, file: &str, der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let instant = |second| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        Some(Self {
            kind,
            file: file.to_owned(),
            name: super::super::names::distinguished_name(certificate.subject()).unwrap_or_default(),
            from: instant(certificate.validity().not_before.timestamp()),
            until: instant(certificate.validity().not_after.timestamp()),
        })
    }

    /// Returns the time between the warning and the expiry: 30 days for a CA and 7 days for other kinds, but at most one
    /// fifth of the validity. A certificate that is valid for one day is renewed within the day and needs no earlier warning.
    #[must_use]
    pub fn notice(&self) -> SignedDuration {
        let fifth = self.until.duration_since(self.from) / 5;
        self.kind.notice().min(fifth).max(SignedDuration::ZERO)
    }

    /// Returns the instant from which a warning is due.
    #[must_use]
    pub fn warn_from(&self) -> Timestamp {
        self.until.saturating_sub(self.notice()).unwrap_or(self.until)
    }

    /// Returns the warning that is due at this instant, if any.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<Diagnostic> {
        if now < self.warn_from() {
            return None;
        }
        let Self { file, name, until, .. } = self;
        let verb = if now > *until { "expired" } else { "expires" };
        let (what, help) = match self.kind {
            ExpiryKind::Server => ("the server's certificate", "renew it; clients refuse an expired one"),
            ExpiryKind::Ca => (
                "the client CA",
                "put its successor beside it, and issue client certificates anew: those of an expired CA are refused",
            ),
            ExpiryKind::Crl => (
                "the CRL of",
                "fetch the next one; clients of its issuer are refused once it has expired (`tls.crl_grace` can put that off)",
            ),
        };
        let code = match self.kind {
            ExpiryKind::Crl if now > *until => Code::CrlExpired,
            _ => Code::Expiry,
        };
        Some(Diagnostic::warning(code, format!("{what} `{name}` (`{file}`) {verb} on {until}")).help(help))
    }
}

impl Trust {
    /// Returns the expiry of every authority and CRL, for metrics and warnings.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> {
        let authorities = self.authorities.iter().map(|authority| Expiry {
            kind: ExpiryKind::Ca,
            file: authority.file.to_string(),
            name: authority.name.to_string(),
            from: authority.not_before,
            until: authority.not_after,
        });
        let lists = self.revocation.iter().flat_map(|revocation| &revocation.lists);
        authorities.chain(lists.map(|list| Expiry {
            kind: ExpiryKind::Crl,
            file: list.file.to_string(),
            name: list.issuer.to_string(),
            from: list.this_update,
            until: list.next_update,
        }))
    }
}
