//! Identity of a client: the names in its certificate, and the judgement that decides whether the certificate is valid. Pure.
//!
//! [`judge`] is the only function that turns a presented chain into an [`Identity`] or refuses the chain (DESIGN §2.1). The
//! proxy calls it after each handshake, also after a resumed one, and again when a verdict may no longer be true.

mod client_key;
mod der;
mod description;
mod judgement;
mod names;
mod paths;
mod revocation;
mod signature;
mod trust;

use std::fmt;

pub use client_key::ClientKey;
pub use description::{Description, Presented};
pub use judgement::{Authenticated, Flaw, Unauthenticated, judge};
pub(crate) use judgement::{next_verdict_change, permanent_flaw};
pub use revocation::MissingCrl;
pub use signature::first_not_issued_by_next;
pub use trust::{
    EkuPolicy, Expiry, ExpiryKind, NotAuthority, NotAuthorityReason, Trust, TrustDomain, TrustDomainPin,
    TrustFile, TrustSources, check_authority,
};

/// Kind of value in a certificate. Its name is a key of `match` in a policy, and a value of `identity_headers.custom` in the
/// configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// The whole distinguished name of the subject, as RFC 4514 writes it.
    Subject,
    /// `CN` of the subject.
    CommonName,
    /// `O` of the subject.
    Organization,
    /// `OU` of the subject.
    OrganizationalUnit,
    /// `C` of the subject.
    Country,
    /// `L` of the subject.
    Locality,
    /// `ST` of the subject.
    State,
    /// The certificate's serial number, in lower-case hexadecimal without leading zeros.
    Serial,
    /// A DNS subject alternative name, in lower case, without a trailing dot.
    Dns,
    /// A URI subject alternative name, unchanged.
    Uri,
    /// An e-mail subject alternative name, unchanged.
    Email,
    /// An IP address subject alternative name, in canonical text.
    Ip,
    /// The issuer: its whole distinguished name (RFC 4514) and its common name are two values of this attribute.
    Issuer,
    /// SHA-256 of the certificate, lower-case hexadecimal.
    Fingerprint,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hexadecimal.
    PublicKey,
}

impl Attribute {
    /// All attributes, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Subject,
        Self::CommonName,
        Self::Organization,
        Self::OrganizationalUnit,
        Self::Country,
        Self::Locality,
        Self::State,
        Self::Serial,
        Self::Dns,
        Self::Uri,
        Self::Email,
        Self::Ip,
        Self::Issuer,
        Self::Fingerprint,
        Self::PublicKey,
    ];

    /// Returns the key under which policies and configurations name the attribute.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::CommonName => "common_name",
            Self::Organization => "organization",
            Self::OrganizationalUnit => "organizational_unit",
            Self::Country => "country",
            Self::Locality => "locality",
            Self::State => "state",
            Self::Serial => "serial",
            Self::Dns => "dns",
            Self::Uri => "uri",
            Self::Email => "email",
            Self::Ip => "ip",
            Self::Issuer => "issuer",
            Self::Fingerprint => "fingerprint",
            Self::PublicKey => "public_key",
        }
    }

    /// Returns the attribute with this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attribute| attribute.name() == name)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names and fingerprints of a client. For a connection only [`judge`] makes an identity; [`Identity::from_attributes`] and
/// [`Identity::from_certificate`] make one for tools that answer questions about policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Values in the order of their attributes, so that a search finds all values of one attribute side by side.
    attributes: Box<[(Attribute, Box<str>)]>,
}

impl Identity {
    /// Makes an identity from values that no certificate proves: for `policy explain --client`, policy tests and benchmarks.
    pub fn from_attributes(attributes: impl IntoIterator<Item = (Attribute, String)>) -> Self {
        let mut attributes: Vec<(Attribute, Box<str>)> =
            attributes.into_iter().map(|(attribute, value)| (attribute, value.into_boxed_str())).collect();
        attributes.sort();
        attributes.dedup();
        Self { attributes: attributes.into_boxed_slice() }
    }

    /// Reads the names in a certificate without a judgement: for `policy explain --cert`.
    ///
    /// # Errors
    /// The flaw that makes the names unusable, as [`judge`] would find it.
    pub fn from_certificate(der: &[u8]) -> Result<Self, Flaw> {
        names::read(der)
    }

    /// Returns every value of an attribute.
    pub fn values(&self, attribute: Attribute) -> impl Iterator<Item = &str> {
        let start = self.attributes.partition_point(|(a, _)| *a < attribute);
        self.attributes
            .iter()
            .skip(start)
            .take_while(move |(a, _)| *a == attribute)
            .map(|(_, value)| &**value)
    }

    /// Returns the value of an attribute if the attribute has exactly one.
    pub fn single(&self, attribute: Attribute) -> Option<&str> {
        let mut values = self.values(attribute);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }
}
