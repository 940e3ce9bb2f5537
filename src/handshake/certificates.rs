//! Choice of the server certificate: the first certificate for the requested name (SNI, RFC 6066 §3) whose kind of key the
//! client supports. The requirements on clients do not depend on the choice.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, pki_types::CertificateDer};

use crate::identity::{Attribute, Identity};

#[derive(Debug)]
pub(super) struct Certificates(Vec<Certificate>);

#[derive(Debug)]
struct Certificate {
    /// DNS names, in lower case.
    names: Box<[String]>,
    certified: Arc<CertifiedKey>,
}

impl Certificates {
    /// Takes the certificates in order. The first is for clients that ask for no name or for an unknown name.
    pub(super) fn new(all: Vec<CertifiedKey>) -> Self {
        Self(all.into_iter().map(Certificate::new).collect())
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let named = |kind: fn(&Certificate, &str) -> bool| {
            let name = name.as_deref();
            self.0.iter().filter(move |certificate| name.is_some_and(|name| kind(certificate, name)))
        };
        let in_order =
            named(Certificate::is_for).chain(named(Certificate::is_wildcard_for)).chain(self.0.iter());
        let usable = in_order.into_iter().find(|certificate| certificate.suits(schemes));
        // If the client supports no key, TLS itself reports it, so any certificate will do.
        usable.or(self.0.first()).map(|certificate| Arc::clone(&certificate.certified))
    }
}

impl Certificate {
    fn new(certified: CertifiedKey) -> Self {
        let names = certified.cert.first().map(names_of).unwrap_or_default();
        Self { names, certified: Arc::new(certified) }
    }

    fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Returns true if a wildcard covers the name: `*.shop.example` covers every name one label below `shop.example` (RFC 6125
    /// §6.4.3).
    fn is_wildcard_for(&self, name: &str) -> bool {
        let Some((_, parent)) = name.split_once('.') else { return false };
        self.names.iter().any(|own| own.strip_prefix("*.") == Some(parent))
    }

    fn suits(&self, schemes: &[SignatureScheme]) -> bool {
        self.certified.key.choose_scheme(schemes).is_some()
    }
}

/// Returns the DNS names of a certificate, in lower case; none if the certificate cannot be read.
pub(super) fn names_of(leaf: &CertificateDer<'_>) -> Box<[String]> {
    let identity = Identity::from_certificate(leaf).ok();
    let names = identity.iter().flat_map(|identity| identity.values(Attribute::Dns));
    names.map(str::to_ascii_lowercase).collect()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::pki::{Authority, Leaf};

    fn certificates(names: &[&[&str]]) -> Certificates {
        let ca = Authority::root("ca").unwrap();
        let certified = names.iter().map(|names| {
            let names = names.iter().map(|name| rcgen::SanType::DnsName((*name).try_into().unwrap()));
            let names: Vec<_> = names.collect();
            let leaf = Leaf::client("Shop", "server").with(|params| params.subject_alt_names = names);
            let credential = ca.issue(&leaf).unwrap();
            super::super::certified_key(credential.chain.clone(), credential.key.clone_key()).unwrap()
        });
        Certificates::new(certified.collect())
    }

    #[test]
    fn the_requested_name_decides_and_the_first_certificate_is_for_unknown_names() {
        let all = certificates(&[&["a.example"], &["*.b.example"], &["x.b.example", "c.example"]]);
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let chosen = |name: Option<&str>| {
            let chosen = all.choose(name, &schemes).unwrap();
            all.0.iter().position(|certificate| Arc::ptr_eq(&certificate.certified, &chosen)).unwrap()
        };
        for (name, expected) in [
            (None, 0),
            (Some("a.example"), 0),
            (Some("unknown.example"), 0),
            (Some("y.b.example"), 1),
            (Some("x.b.example"), 2),
            (Some("X.B.Example"), 2),
            (Some("c.example"), 2),
            (Some("b.example"), 0),
            (Some("y.x.b.example"), 0),
        ] {
            assert_eq!(chosen(name), expected, "{name:?}");
        }
        // A client that supports none of the keys gets a certificate as well.
        assert!(all.choose(Some("c.example"), &[SignatureScheme::RSA_PKCS1_SHA256]).is_some());
    }
}
