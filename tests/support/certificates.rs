//! A fresh PKI for each proxy, and every certificate that must not work.

use std::time::{Duration, SystemTime};

use rcgen::{
    DnType, ExtendedKeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::CertificateDer;
use sidegate::demo::pki::{self, Authority, Credential, Leaf};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub const CA_NAME: &str = "Clients of the test";

/// An authority that the proxy trusts, its server certificate, and the two clients that policies speak of.
pub struct Pki {
    pub ca: Authority,
    pub server: Credential,
    /// Valid, and allowed everything by the default policy.
    pub producer: Credential,
    /// Valid, and allowed nothing by the default policy but `GET /readable`.
    pub consumer: Credential,
}

impl Pki {
    pub fn new() -> Self {
        let ca = Authority::root(CA_NAME).unwrap();
        Self {
            server: ca.issue(&Leaf::server().unwrap()).unwrap(),
            producer: ca.issue(&producer()).unwrap(),
            consumer: ca.issue(&pki::consumer().unwrap()).unwrap(),
            ca,
        }
    }

    pub fn issue(&self, leaf: &Leaf) -> Credential {
        self.ca.issue(leaf).unwrap()
    }

    pub fn unknown_ca(&self) -> Credential {
        Authority::root("Unknown").unwrap().issue(&producer()).unwrap()
    }

    /// Of an authority that has the trusted one's name and another key.
    pub fn namesake_ca(&self) -> Credential {
        Authority::root(CA_NAME).unwrap().issue(&producer()).unwrap()
    }

    /// Self-signed, with the trusted authority's name as its own and its issuer's.
    pub fn copy_of_the_issuer_s_name(&self) -> Credential {
        Leaf::client("", "")
            .with(|params| params.distinguished_name = pki::authority(CA_NAME).distinguished_name)
            .self_signed()
            .unwrap()
    }

    pub fn expired(&self) -> Credential {
        self.issue(&producer().valid(SystemTime::now() - 2 * DAY, SystemTime::now() - DAY))
    }

    pub fn not_yet_valid(&self) -> Credential {
        self.issue(&producer().valid(SystemTime::now() + DAY, SystemTime::now() + 2 * DAY))
    }

    pub fn wrong_usage(&self) -> Credential {
        self.issue(
            &producer().with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        )
    }

    pub fn no_usage(&self) -> Credential {
        self.issue(&producer().with(|params| params.extended_key_usages.clear()))
    }

    /// The authority's own certificate, shown as if it were a client's.
    pub fn ca_as_leaf(&self) -> Credential {
        self.ca.as_credential()
    }

    /// An X.509 v1 certificate: no version field, no extensions, properly signed by the trusted authority.
    pub fn version_1(&self) -> Credential {
        resigned(&self.ca, &self.producer, |fields| {
            fields
                .iter()
                .copied()
                .filter(|field| !matches!(field[0], 0xa0 | 0xa3))
                .collect::<Vec<_>>()
                .concat()
        })
    }

    pub fn several_common_names(&self) -> Credential {
        // The same attribute under two keys of rcgen's map makes two of it.
        let second = DnType::CustomDnType(vec![2, 5, 4, 3]);
        self.issue(&producer().with(|params| params.distinguished_name.push(second, "report-consumer")))
    }

    pub fn nul_in_the_common_name(&self) -> Credential {
        self.issue(&producer().with(|params| {
            params.distinguished_name.push(DnType::CommonName, "order-producer\0.stranger.example");
        }))
    }

    pub fn two_spiffe_ids(&self) -> Credential {
        self.issue(&producer().uri("spiffe://shop.example/ns/reports/sa/consumer").unwrap())
    }
}

/// The names that the default policy allows everything.
pub fn producer() -> Leaf {
    pki::producer().unwrap()
}

/// A key that was made elsewhere, because no library here makes one so weak.
pub struct RsaPublicKey(Vec<u8>);

impl RsaPublicKey {
    /// From a SubjectPublicKeyInfo.
    pub fn of_der(info: &[u8]) -> Self {
        // Algorithm and key; the key's bit string begins with its number of unused bits.
        Self(elements(elements(info)[0].1)[1].1[1..].to_vec())
    }
}

impl PublicKeyData for RsaPublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

/// The same certificate with other fields, signed again; `change` gets the fields of its inner part, each whole.
pub fn resigned(ca: &Authority, credential: &Credential, change: impl Fn(&[&[u8]]) -> Vec<u8>) -> Credential {
    let outer = elements(elements(&credential.chain[0])[0].1);
    let inner: Vec<&[u8]> = elements(outer[0].1).into_iter().map(|(whole, _)| whole).collect();
    let signed = tlv(0x30, &change(&inner));
    let signature = ca.issuer().key().sign(&signed).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    let certificate = CertificateDer::from(tlv(0x30, &[&signed, outer[1].0, &bits].concat()));
    Credential { chain: vec![certificate], key: credential.key.clone_key() }
}

/// A CRL of the authority whose signed part is changed before it is signed: `change` gets its fields, each whole.
pub fn crl_of_fields(ca: &Authority, change: impl Fn(&[&[u8]]) -> Vec<u8>) -> Vec<u8> {
    let crl = ca.crl(&[], |_| {}).unwrap();
    let outer = elements(elements(&crl)[0].1);
    let fields: Vec<&[u8]> = elements(outer[0].1).into_iter().map(|(whole, _)| whole).collect();
    let signed = tlv(0x30, &change(&fields));
    let signature = ca.issuer().key().sign(&signed).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    tlv(0x30, &[&signed, outer[1].0, &bits].concat())
}

/// A CRL of the authority with one more critical extension: the last byte of its `id-ce`, and its value.
pub fn crl_with_extension(ca: &Authority, id: u8, value: &[u8]) -> Vec<u8> {
    crl_of_fields(ca, |fields| {
        let (last, before) = fields.split_last().unwrap();
        let known = elements(elements(last)[0].1)[0].1;
        let oid = [0x06, 0x03, 0x55, 0x1d, id];
        let extension = tlv(0x30, &[&oid, &[0x01, 0x01, 0xff][..], &tlv(0x04, value)].concat());
        let extensions = tlv(0xa0, &tlv(0x30, &[known, &extension].concat()));
        [&before.concat(), extensions.as_slice()].concat()
    })
}

/// The DER values that stand one after the other: each whole, and its content.
pub fn elements(mut der: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (header, length) = match der[1] {
            short @ 0..=0x7f => (2, usize::from(short)),
            0x81 => (3, usize::from(der[2])),
            _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        };
        found.push((&der[..header + length], &der[header..header + length]));
        der = &der[header + length..];
    }
    found
}

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let header = match length {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [header.as_slice(), content].concat()
}

mod tests {
    use super::*;

    #[test]
    fn the_version_1_certificate_is_one_and_is_properly_signed() {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let pki = Pki::new();
        let certificate = pki.version_1().chain.remove(0);
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert_eq!(parsed.version().0, 0);
        assert!(parsed.extensions().is_empty());
        assert!(parsed.subject().to_string().contains("order-producer"));
    }
}
