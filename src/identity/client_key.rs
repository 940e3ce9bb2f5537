//! Key of a client, which stays the same when the certificate of the client is renewed.

use super::{Attribute, Identity};
use crate::digest::{Digest, sha256_of_parts};

/// Digest of the names of an identity that a renewal keeps: the SPIFFE id if there is one; otherwise the issuer's name, the
/// subject and all alternative names; the issuer's name and the public key if the certificate has no name. A renewal changes
/// the serial number, the dates and the key, so limits and what a client has used of them must not depend on these.
///
/// The issuer's name is included because two authorities may give the same name to two clients. With one budget for both, one
/// client could use up the budget of the other. The issuer's key is not included, so that the clients of an authority keep
/// their budgets when the certificate of the authority is renewed or cross-signed. A SPIFFE id contains its trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(Digest);

/// Attributes that name a client without a SPIFFE id.
const NAMES: [Attribute; 5] =
    [Attribute::Subject, Attribute::Dns, Attribute::Uri, Attribute::Email, Attribute::Ip];

impl ClientKey {
    /// Returns the key of the client with this identity.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let spiffe_id = identity.values(Attribute::Uri).find(|uri| uri.starts_with("spiffe://"));
        if let Some(id) = spiffe_id {
            return Self::digest(std::iter::once((Attribute::Uri, id)));
        }
        let of = |attribute: Attribute| identity.values(attribute).map(move |value| (attribute, value));
        let mut names = NAMES.into_iter().flat_map(of).peekable();
        match names.peek() {
            Some(_) => Self::digest(of(Attribute::Issuer).chain(names)),
            None => Self::digest(of(Attribute::Issuer).chain(of(Attribute::PublicKey))),
        }
    }

    fn digest<'n>(names: impl Iterator<Item = (Attribute, &'n str)>) -> Self {
        let parts = names.flat_map(|(attribute, name)| [attribute.name().as_bytes(), name.as_bytes()]);
        Self(sha256_of_parts(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(attributes: &[(Attribute, &str)]) -> ClientKey {
        let owned = attributes.iter().map(|(attribute, value)| (*attribute, (*value).to_owned()));
        ClientKey::of(&Identity::from_attributes(owned))
    }

    #[test]
    fn a_renewed_certificate_has_the_same_key() {
        let names = [(Attribute::Subject, "CN=orders"), (Attribute::Dns, "orders.example")];
        let with = |rest: &[(Attribute, &str)]| key(&[&names, rest].concat());
        let first =
            with(&[(Attribute::Serial, "01"), (Attribute::Issuer, "CN=A"), (Attribute::PublicKey, "aa")]);
        let renewed =
            with(&[(Attribute::Serial, "02"), (Attribute::Issuer, "CN=A"), (Attribute::PublicKey, "bb")]);
        assert_eq!(first, renewed);
        assert_ne!(first, with(&[(Attribute::Email, "orders@example")]));
        assert_ne!(first, key(&[(Attribute::Subject, "CN=orders")]));
    }

    #[test]
    fn the_same_name_from_two_authorities_has_two_keys() {
        let of = |issuer| key(&[(Attribute::Subject, "CN=app"), (Attribute::Issuer, issuer)]);
        assert_ne!(of("CN=A"), of("CN=B"));
        // The digest says which attribute a name belongs to.
        assert_ne!(of("CN=app"), key(&[(Attribute::Subject, "CN=app")]));
        let id = (Attribute::Uri, "spiffe://shop.example/orders");
        assert_eq!(key(&[id, (Attribute::Issuer, "CN=A")]), key(&[id, (Attribute::Issuer, "CN=B")]));
        let unnamed = |issuer| key(&[(Attribute::PublicKey, "aa"), (Attribute::Issuer, issuer)]);
        assert_ne!(unnamed("CN=A"), unnamed("CN=B"));
    }

    #[test]
    fn a_spiffe_id_alone_decides_the_key() {
        let id = (Attribute::Uri, "spiffe://shop.example/orders");
        assert_eq!(key(&[id, (Attribute::Subject, "CN=1")]), key(&[id, (Attribute::Subject, "CN=2")]));
        assert_ne!(key(&[id]), key(&[(Attribute::Uri, "spiffe://shop.example/reports")]));
        let other = |subject| key(&[(Attribute::Uri, "https://a"), (Attribute::Subject, subject)]);
        assert_ne!(other("CN=1"), other("CN=2"));
    }

    #[test]
    fn adjacent_names_are_separated_and_the_public_key_replaces_missing_names() {
        assert_ne!(
            key(&[(Attribute::Dns, "a"), (Attribute::Dns, "bc")]),
            key(&[(Attribute::Dns, "ab"), (Attribute::Dns, "c")])
        );
        assert_ne!(key(&[(Attribute::PublicKey, "aa")]), key(&[(Attribute::PublicKey, "bb")]));
    }
}
