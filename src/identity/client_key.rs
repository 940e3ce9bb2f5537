//! Which client a certificate is one of: the same for all certificates that a client has one after the other.

use aws_lc_rs::digest;

use super::{Attribute, Identity};

/// Names of an identity that stay when its certificate is renewed, as one value: the SPIFFE id where there is one, otherwise
/// the issuer's name, the subject and all alternative names, and the public key where there is no name at all. Serial number,
/// dates and key change with a renewal, and with them neither what a client may take nor what it has taken.
///
/// The issuer belongs to it because two authorities may each give the same name to a client of their own: with one budget for
/// both, one of them could use up the other's. The issuer counts by its name and not by its key, so that an authority whose own
/// certificate was renewed or cross-signed still names the same clients. A SPIFFE id says its authority itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey([u8; 32]);

/// Names of a client that has no SPIFFE id.
const NAMES: [Attribute; 5] =
    [Attribute::Subject, Attribute::Dns, Attribute::Uri, Attribute::Email, Attribute::Ip];

impl ClientKey {
    /// The key of the client that has this identity.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let spiffe_id = identity.values(Attribute::Uri).find(|uri| uri.starts_with("spiffe://"));
        if let Some(id) = spiffe_id {
            return Self::hashed(std::iter::once((Attribute::Uri, id)));
        }
        let of = |attribute: Attribute| identity.values(attribute).map(move |value| (attribute, value));
        let mut names = NAMES.into_iter().flat_map(of).peekable();
        match names.peek() {
            Some(_) => Self::hashed(of(Attribute::Issuer).chain(names)),
            None => Self::hashed(of(Attribute::Issuer).chain(of(Attribute::PublicKey))),
        }
    }

    /// Lengths included, so that no two lists of names share one.
    fn hashed<'n>(names: impl Iterator<Item = (Attribute, &'n str)>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for (attribute, name) in names {
            for part in [attribute.name(), name] {
                context.update(&part.len().to_be_bytes());
                context.update(part.as_bytes());
            }
        }
        // SHA-256 has 32 bytes.
        Self(context.finish().as_ref().try_into().unwrap_or_default())
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
    fn a_renewed_certificate_is_of_the_same_client() {
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
    fn a_name_that_another_authority_gives_is_of_another_client() {
        let of = |issuer| key(&[(Attribute::Subject, "CN=app"), (Attribute::Issuer, issuer)]);
        assert_ne!(of("CN=A"), of("CN=B"));
        // A name that moves from the issuer to the subject is another name.
        assert_ne!(of("CN=app"), key(&[(Attribute::Subject, "CN=app")]));
        let id = (Attribute::Uri, "spiffe://shop.example/orders");
        assert_eq!(key(&[id, (Attribute::Issuer, "CN=A")]), key(&[id, (Attribute::Issuer, "CN=B")]));
        let unnamed = |issuer| key(&[(Attribute::PublicKey, "aa"), (Attribute::Issuer, issuer)]);
        assert_ne!(unnamed("CN=A"), unnamed("CN=B"));
    }

    #[test]
    fn a_spiffe_id_alone_says_who_it_is() {
        let id = (Attribute::Uri, "spiffe://shop.example/orders");
        assert_eq!(key(&[id, (Attribute::Subject, "CN=1")]), key(&[id, (Attribute::Subject, "CN=2")]));
        assert_ne!(key(&[id]), key(&[(Attribute::Uri, "spiffe://shop.example/reports")]));
        let other = |subject| key(&[(Attribute::Uri, "https://a"), (Attribute::Subject, subject)]);
        assert_ne!(other("CN=1"), other("CN=2"));
    }

    #[test]
    fn names_do_not_run_into_each_other_and_a_key_stands_in_for_none() {
        assert_ne!(
            key(&[(Attribute::Dns, "a"), (Attribute::Dns, "bc")]),
            key(&[(Attribute::Dns, "ab"), (Attribute::Dns, "c")])
        );
        assert_ne!(key(&[(Attribute::PublicKey, "aa")]), key(&[(Attribute::PublicKey, "bb")]));
    }
}
