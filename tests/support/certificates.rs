//! A fresh PKI for each proxy, and certificates that the proxy must refuse.

use std::time::{Duration, SystemTime};

use rcgen::{
    DnType, ExtendedKeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::CertificateDer;
use sidegate::demo::pki::{self, Authority, Credential, Leaf};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub const CA_NAME: &str = "Clients of the test";

/// An authority that the proxy trusts, the certificate of the proxy, and the two clients of the default policy.
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

    /// A certificate of an authority that has the name of the trusted authority and another key.
    pub fn same_named_ca(&self) -> Credential {
        Authority::root(CA_NAME).unwrap().issue(&producer()).unwrap()
    }

    /// A self-signed certificate whose subject and issuer are the name of the trusted authority.
    pub fn self_signed_as_the_issuer(&self) -> Credential {
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

    /// The certificate of the authority, presented as a client certificate.
    pub fn ca_as_leaf(&self) -> Credential {
        self.ca.as_credential()
    }

    /// An X.509 v1 certificate: no version field and no extensions, correctly signed by the trusted authority.
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
        // The map of rcgen has one value for each key; a custom key for the same attribute adds a second value.
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

/// Returns a client certificate with the names that the default policy allows everything.
pub fn producer() -> Leaf {
    pki::producer().unwrap()
}

/// A public key made by another tool, because no library here makes keys of such sizes.
pub struct RsaPublicKey(Vec<u8>);

impl RsaPublicKey {
    /// Takes the key out of a SubjectPublicKeyInfo.
    pub fn of_der(info: &[u8]) -> Self {
        // The second element is the key, a bit string. Its first byte is the number of unused bits.
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

/// Returns the certificate with other fields, signed again. `change` gets the fields of the signed part, each as DER.
pub fn resigned(ca: &Authority, credential: &Credential, change: impl Fn(&[&[u8]]) -> Vec<u8>) -> Credential {
    let outer = elements(elements(&credential.chain[0])[0].1);
    let inner: Vec<&[u8]> = elements(outer[0].1).into_iter().map(|(whole, _)| whole).collect();
    let signed = tlv(0x30, &change(&inner));
    let signature = ca.issuer().key().sign(&signed).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    let certificate = CertificateDer::from(tlv(0x30, &[&signed, outer[1].0, &bits].concat()));
    Credential { chain: vec![certificate], key: credential.key.clone_key() }
}

/// Returns a CRL of the authority with other fields. `change` gets the fields of the signed part, each as DER.
pub fn crl_of_fields(ca: &Authority, change: impl Fn(&[&[u8]]) -> Vec<u8>) -> Vec<u8> {
    let crl = ca.crl(&[], |_| {}).unwrap();
    let outer = elements(elements(&crl)[0].1);
    let fields: Vec<&[u8]> = elements(outer[0].1).into_iter().map(|(whole, _)| whole).collect();
    let signed = tlv(0x30, &change(&fields));
    let signature = ca.issuer().key().sign(&signed).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    tlv(0x30, &[&signed, outer[1].0, &bits].concat())
}

/// Returns a CRL of the authority with one more critical extension. `id` is the last byte of its `id-ce` identifier.
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

/// Splits concatenated DER values; returns each value and its content.
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

/// Returns a DER value of at most 64 KiB.
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
    fn the_version_1_certificate_has_version_1_and_no_extensions() {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let pki = Pki::new();
        let certificate = pki.version_1().chain.remove(0);
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert_eq!(parsed.version().0, 0);
        assert!(parsed.extensions().is_empty());
        assert!(parsed.subject().to_string().contains("order-producer"));
    }
}
