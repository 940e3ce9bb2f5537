//! The cost of judging valid chains, by the kind of their keys, their length and the configured CRLs.
//!
//! `cargo bench --bench judging` in this folder; `--save-baseline` and `--baseline` compare two builds.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot start reports it by panicking")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    RsaKeySize, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use sidegate::demo::pki::{authority, pem};
use sidegate::identity::{EkuPolicy, Trust, TrustFile, TrustSources, judge};

/// A certificate with the key that signs the certificates below it.
struct Signer {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn root(name: &str, key: KeyPair) -> Self {
        let params = authority(name);
        let der = params.self_signed(&key).unwrap().into();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, mut params: CertificateParams, key: KeyPair) -> Self {
        params.use_authority_key_identifier_extension = true;
        let der = params.signed_by(&key, &self.issuer).unwrap().into();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, key: KeyPair) -> CertificateDer<'static> {
        let mut params = authority("client");
        params.is_ca = rcgen::IsCa::NoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.sign(params, key).der
    }

    fn crl(&self) -> TrustFile {
        let (now, hour) = (std::time::SystemTime::now(), std::time::Duration::from_secs(3600));
        let params = CertificateRevocationListParams {
            this_update: (now - hour).into(),
            next_update: (now + hour).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).unwrap().der().to_vec();
        let certificate = pem("CERTIFICATE", &self.der).into_bytes();
        let bytes = [certificate, pem("X509 CRL", &crl).into_bytes()].concat();
        TrustFile { name: "ca.crl".to_owned(), bytes, place: None }
    }
}

fn trust(roots: &[&Signer], crls: Option<Vec<TrustFile>>) -> Trust {
    let roots: String = roots.iter().map(|root| pem("CERTIFICATE", &root.der)).collect();
    let sources = TrustSources {
        crls,
        ..TrustSources::from_authorities("ca.crt", roots.as_bytes(), EkuPolicy::ClientAuthIfPresent)
    };
    Trust::build(&sources, Timestamp::now()).unwrap().0
}

type MakeKey = fn() -> KeyPair;

const KINDS: [(&str, MakeKey); 7] = [
    ("P-256", p256),
    ("P-384", || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()),
    ("P-521", || KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap()),
    ("Ed25519", || KeyPair::generate_for(&PKCS_ED25519).unwrap()),
    ("RSA-2048", || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()),
    ("RSA-3072", || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap()),
    ("RSA-4096", || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096).unwrap()),
];

fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn judging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("judging");
    let mut judged = |name: String, chain: &[CertificateDer<'static>], trust: &Trust| {
        let now = Timestamp::now();
        group.bench_function(name, |bencher| bencher.iter(|| judge(black_box(chain), trust, now).unwrap()));
    };
    for (kind, key) in KINDS {
        let root = Signer::root("root", key());
        let upper = root.sign(authority("upper"), key());
        let lower = upper.sign(authority("lower"), key());
        let of_two = [upper.leaf(key()), upper.der.clone()];
        let of_three = [lower.leaf(key()), lower.der.clone(), upper.der.clone()];
        let plain = trust(&[&root], None);
        judged(format!("{kind}, 2 certificates"), &of_two, &plain);
        judged(format!("{kind}, 3 certificates"), &of_three, &plain);
        if kind == "P-256" {
            let revoking = trust(&[&root], Some(vec![root.crl(), upper.crl()]));
            judged("P-256, 2 certificates, CRLs".to_owned(), &of_two, &revoking);
            let with_root = [of_two.as_slice(), std::slice::from_ref(&root.der)].concat();
            judged("P-256, 2 certificates and the root".to_owned(), &with_root, &plain);
        }
    }
    let (old, new) = (Signer::root("old", p256()), Signer::root("new", p256()));
    let shared = p256();
    let copy = || KeyPair::try_from(shared.serialize_der()).unwrap();
    let (first, second) = (old.sign(authority("shared"), copy()), new.sign(authority("shared"), copy()));
    let pair = [first.leaf(p256()), first.der.clone(), second.der.clone()];
    judged("P-256, cross-signed, one authority known".to_owned(), &pair, &trust(&[&new], None));
    judged("P-256, cross-signed, both known".to_owned(), &pair, &trust(&[&old, &new], None));
    group.finish();
}

criterion_group!(benches, judging);
criterion_main!(benches);
