//! Comparison of Sidegate's verdicts with `openssl verify`, for certificates that openssl makes and for generated bad
//! certificates, which are correctly signed and have one wrong field or byte. No certificate causes a panic, and no
//! certificate is valid here that openssl refuses, except for the reasons in [`DIFFERENCES`].

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use rcgen::{CustomExtension, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sidegate::demo::pki::{Authority, Credential, pem};
use sidegate::identity::{EkuPolicy, Flaw, Trust, TrustFile, TrustSources, Unauthenticated, judge};
use tempfile::TempDir;

use crate::support::certificates::{crl_of_fields, producer, resigned, tlv};
use crate::support::{generated, is_missing};

/// Refusals of openssl that Sidegate does not follow: a part of the message, and the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "authority and subject key identifier mismatch",
        "key identifiers help to find an issuer (RFC 5280 §4.2.1.1); the signature proves the issuer",
    ),
    (
        "authority and issuer serial number mismatch",
        "a serial number in authorityKeyIdentifier also only helps to find an issuer",
    ),
    (
        "unable to get local issuer certificate",
        "openssl finds no issuer by a key identifier that does not match",
    ),
    ("unable to get certificate CRL", "openssl finds no CRL by a key identifier that does not match"),
    ("Different CRL scope", "openssl compares more of a distribution point than its names"),
    (
        "CRL is not yet valid",
        "clocks differ a little, and a CRL from the future is the newest CRL of its issuer",
    ),
];

/// A folder for openssl, with a root and an intermediate below it.
struct Comparison {
    folder: TempDir,
    root: Authority,
    below: Authority,
}

impl Comparison {
    fn new() -> Self {
        let root = Authority::root("root").unwrap();
        let below = root.intermediate("below").unwrap();
        let comparison = Self { folder: tempfile::tempdir().unwrap(), root, below };
        comparison.write("root.pem", &pem("CERTIFICATE", comparison.root.certificate()));
        comparison
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn trust(&self, crls: Option<&str>) -> Result<Trust, String> {
        let crl = |text: &str| vec![TrustFile { name: "crl.pem".into(), bytes: text.into(), place: None }];
        let root = pem("CERTIFICATE", self.root.certificate());
        let sources = TrustSources {
            crls: crls.map(crl),
            ..TrustSources::from_authorities("root.pem", root.as_bytes(), EkuPolicy::ClientAuthIfPresent)
        };
        let built = Trust::build(&sources, Timestamp::now());
        built.map(|(trust, _)| trust).map_err(|problems| problems[0].message.clone())
    }

    /// Returns the objection of openssl to a chain; `None` if the chain is valid.
    fn objection(&self, chain: &[CertificateDer<'_>], crls: Option<&str>) -> Option<String> {
        let texts: Vec<String> = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        self.write("leaf.pem", &texts[0]);
        self.write("untrusted.pem", &texts[1..].concat());
        // openssl refuses an empty file.
        let mut arguments = if texts.len() > 1 { vec!["-untrusted", "untrusted.pem"] } else { Vec::new() };
        if let Some(crls) = crls {
            self.write("crl.pem", crls);
            arguments.extend(["-crl_check_all", "-CRLfile", "crl.pem"]);
        }
        objection(self.folder.path(), "root.pem", &arguments)
    }

    /// Compares the verdict of Sidegate on a chain with that of openssl; returns the verdict.
    fn compare(
        &self,
        chain: &[CertificateDer<'_>],
        crls: Option<&str>,
    ) -> Result<&'static str, TestCaseError> {
        let Ok(trust) = self.trust(crls) else { return Ok("configuration refused") };
        match judge(chain, &trust, Timestamp::now()) {
            Err(Unauthenticated::Invalid(flaw)) => Ok(flaw.name()),
            Err(Unauthenticated::NoCertificate) => Ok("no certificate"),
            Ok(_) => match self.objection(chain, crls) {
                None => Ok("valid"),
                Some(objection) if DIFFERENCES.iter().any(|(part, _)| objection.contains(part)) => {
                    Ok("a known difference")
                }
                Some(objection) => {
                    let chain: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
                    let tried = format!("{chain}{}", crls.unwrap_or_default());
                    Err(TestCaseError::fail(format!("valid here, but openssl says:\n{objection}\n{tried}")))
                }
            },
        }
    }
}

fn objection(folder: &Path, trusted: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl")
        .args(["verify", "-purpose", "sslclient", "-no-CApath", "-no-CAstore", "-CAfile", trusted])
        .args(arguments)
        .arg("leaf.pem")
        .current_dir(folder)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(message)
}

fn has_openssl() -> bool {
    !is_missing("openssl", Command::new("openssl").arg("version"))
}

/// One wrong byte, a missing or repeated piece, or two exchanged bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index, u8),
    Repeat(Index, u8),
    Swap(Index, Index),
}

impl Mutation {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            6 => (any::<Index>(), 1_u8..).prop_map(|(at, mask)| Self::Flip(at, mask)),
            1 => (any::<Index>(), 1_u8..40).prop_map(|(at, length)| Self::Cut(at, length)),
            1 => (any::<Index>(), 1_u8..40).prop_map(|(at, length)| Self::Repeat(at, length)),
            1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Self::Swap(a, b)),
        ]
    }

    fn of(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let end = |at: usize, length: u8| (at + usize::from(length)).min(bytes.len());
        match self {
            Self::Flip(at, mask) => {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            Self::Cut(at, length) => {
                let at = at.index(bytes.len());
                drop(bytes.drain(at..end(at, *length)));
            }
            Self::Repeat(at, length) => {
                let at = at.index(bytes.len());
                let piece = bytes[at..end(at, *length)].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Swap(a, b) => {
                let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
                bytes.swap(a, b);
            }
        }
        bytes
    }
}

/// Changes one field of a list of DER values, or a part of it.
fn mutated(fields: &[&[u8]], which: Index, mutation: &Mutation) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = fields.iter().map(|field| field.to_vec()).collect();
    let field = which.get(&fields).clone();
    let position = which.index(fields.len());
    fields[position] = mutation.of(field);
    fields.concat()
}

/// Returns a client certificate with many kinds of names and extensions.
fn with_many_extensions(ca: &Authority) -> Credential {
    let points = tlv(0x30, &tlv(0x30, &tlv(0xa0, &tlv(0xa0, &tlv(0x86, b"http://crl.example/1")))));
    let leaf = producer().with(|params| {
        params.subject_alt_names.push(SanType::DnsName("a.example".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("a@example".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 31], points));
    });
    ca.issue(&leaf).unwrap()
}

#[test]
fn no_leaf_with_a_wrong_field_is_valid_only_here() {
    if !has_openssl() {
        return;
    }
    let comparison = Comparison::new();
    let whole = with_many_extensions(&comparison.below);
    assert_eq!(comparison.compare(&whole.chain, None).unwrap(), "valid");
    generated::run(300, &(any::<Index>(), Mutation::any()), |(which, mutation)| {
        let mut bad = resigned(&comparison.below, &whole, |fields| mutated(fields, which, &mutation)).chain;
        bad.push(whole.chain[1].clone());
        comparison.compare(&bad, None).map(|_| ())
    });
}

#[test]
fn no_intermediate_with_a_wrong_field_is_valid_only_here() {
    if !has_openssl() {
        return;
    }
    let comparison = Comparison::new();
    let whole = comparison.below.issue(&producer()).unwrap();
    let below =
        Credential { chain: vec![comparison.below.certificate().clone()], key: whole.key.clone_key() };
    generated::run(300, &(any::<Index>(), Mutation::any()), |(which, mutation)| {
        let bad = resigned(&comparison.root, &below, |fields| mutated(fields, which, &mutation));
        let chain = [whole.chain[0].clone(), bad.chain[0].clone()];
        comparison.compare(&chain, None).map(|_| ())
    });
}

#[test]
fn no_chain_is_valid_only_here_with_a_wrong_field_of_a_crl() {
    if !has_openssl() {
        return;
    }
    let comparison = Comparison::new();
    let leaf = with_many_extensions(&comparison.root);
    let revoked = comparison.root.issue(&producer()).unwrap();
    let good = pem("X509 CRL", &comparison.root.crl(&[&revoked.chain[0]], |_| {}).unwrap());
    assert_eq!(comparison.compare(&leaf.chain, Some(&good)).unwrap(), "valid");
    assert_eq!(comparison.compare(&revoked.chain, Some(&good)).unwrap(), "revoked");
    generated::run(300, &(any::<Index>(), Mutation::any()), |(which, mutation)| {
        let crl = crl_of_fields(&comparison.root, |fields| mutated(fields, which, &mutation));
        comparison.compare(&leaf.chain, Some(&pem("X509 CRL", &crl))).map(|_| ())
    });
}

#[test]
fn changed_bytes_are_never_valid_and_cause_no_panic() {
    let comparison = Comparison::new();
    let whole = with_many_extensions(&comparison.below);
    let crl = comparison.root.crl(&[&whole.chain[0]], |_| {}).unwrap();
    let trust = comparison.trust(None).unwrap();
    let mutations = proptest::collection::vec(Mutation::any(), 1..4);
    generated::run(2_000, &(mutations, any::<bool>()), |(mutations, intermediate)| {
        let changed = |der: &[u8]| {
            mutations.iter().fold(der.to_vec(), |der, mutation| match der.is_empty() {
                true => der,
                false => mutation.of(der),
            })
        };
        let mut chain = whole.chain.clone();
        let place = &mut chain[usize::from(intermediate)];
        let bytes = changed(place);
        let same = bytes == place.as_ref();
        *place = bytes.into();
        let verdict = judge(&chain, &trust, Timestamp::now());
        prop_assert!(same || verdict.is_err(), "the signature of a certificate does not fit other bytes");
        let bytes = changed(&crl);
        let same = bytes == crl;
        let built = comparison.trust(Some(&String::from_utf8_lossy(&pem("X509 CRL", &bytes).into_bytes())));
        // A CRL of an unknown authority is ignored; it does not replace a missing CRL of a known authority.
        let accepts = |trust: Trust| judge(&whole.chain, &trust, Timestamp::now()).is_ok();
        prop_assert!(same || !built.is_ok_and(accepts), "the signature of a CRL does not fit other bytes");
        Ok(())
    });
}

/// A folder in which openssl makes certificates.
struct OpensslFolder(TempDir);

impl OpensslFolder {
    fn openssl(&self, line: &str) {
        let output = Command::new("sh").args(["-ec", line]).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.0.path().join(format!("{name}.pem"))).unwrap()
    }

    /// Makes `NAME.key` and `NAME.pem`, signed by an issuer of the folder or self-signed.
    fn make(&self, name: &str, key: &str, issuer: Option<&str>, extensions: &str) {
        fs::write(self.0.path().join("ext.cnf"), format!("[e]\n{extensions}\n")).unwrap();
        self.openssl(&format!("openssl genpkey {key} -out {name}.key"));
        self.openssl(&format!("openssl req -new -key {name}.key -subj /O=Shop/CN={name} -out {name}.csr"));
        let signer = match issuer {
            Some(issuer) => format!("-CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial"),
            None => format!("-signkey {name}.key"),
        };
        self.openssl(&format!(
            "openssl x509 -req -in {name}.csr {signer} -days 2 -extfile ext.cnf -extensions e -out {name}.pem"
        ));
    }

    /// Returns the verdict of Sidegate on a chain, and the objection of openssl.
    fn verdicts(&self, root: &str, chain: &[&str]) -> (Result<(), Flaw>, Option<String>) {
        let text = fs::read(self.0.path().join(format!("{root}.pem"))).unwrap();
        let sources = TrustSources::from_authorities("root", &text, EkuPolicy::ClientAuthIfPresent);
        let (trust, _) = Trust::build(&sources, Timestamp::now()).unwrap();
        let ders: Vec<_> = chain.iter().map(|name| self.certificate(name)).collect();
        let ours = match judge(&ders, &trust, Timestamp::now()) {
            Ok(_) => Ok(()),
            Err(Unauthenticated::Invalid(flaw)) => Err(flaw),
            Err(Unauthenticated::NoCertificate) => unreachable!(),
        };
        let others: String = ders.iter().skip(1).map(|der| pem("CERTIFICATE", der)).collect();
        fs::write(self.0.path().join("leaf.pem"), pem("CERTIFICATE", &ders[0])).unwrap();
        fs::write(self.0.path().join("untrusted.pem"), others).unwrap();
        let arguments: &[&str] = if ders.len() > 1 { &["-untrusted", "untrusted.pem"] } else { &[] };
        (ours, objection(self.0.path(), &format!("{root}.pem"), arguments))
    }

    #[track_caller]
    fn assert_valid(&self, root: &str, chain: &[&str]) {
        assert_eq!(self.verdicts(root, chain), (Ok(()), None), "{chain:?}");
    }
}

const CA: &str =
    "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash";
const CLIENT: &str =
    "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nsubjectAltName=DNS:a.example";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

#[test]
fn strong_keys_of_openssl_are_valid_and_weak_ones_are_refused() {
    if !has_openssl() {
        return;
    }
    let folder = OpensslFolder(tempfile::tempdir().unwrap());
    let kinds = [
        ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("p256", P256),
        ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
        ("ed25519", "-algorithm ED25519"),
    ];
    for (kind, key) in kinds {
        let [root, below, leaf] = ["root", "below", "leaf"].map(|role| format!("{kind}-{role}"));
        folder.make(&root, key, None, CA);
        folder.make(&below, key, Some(&root), CA);
        folder.make(&leaf, key, Some(&below), CLIENT);
        folder.assert_valid(&root, &[&leaf, &below]);
    }
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";
    folder.make("pss-signed", P256, Some("rsa-root"), CLIENT);
    folder.openssl(&format!(
        "openssl x509 -req -in pss-signed.csr -CA rsa-root.pem -CAkey rsa-root.key -days 2 -sha256 {pss} \
         -extfile ext.cnf -extensions e -out pss-signed.pem"
    ));
    folder.assert_valid("rsa-root", &["pss-signed"]);
    // rustls does not support a key that is restricted to PSS (id-RSASSA-PSS), so no TLS client here could prove its
    // possession.
    folder.make("pss-key", "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", Some("p256-root"), CLIENT);
    let (sidegate, openssl) = folder.verdicts("p256-root", &["pss-key"]);
    assert!(
        matches!(sidegate, Err(Flaw::UnacceptableKey(_))) && openssl.is_none(),
        "{sidegate:?} {openssl:?}"
    );
    // openssl accepts these weak keys at its lowest security level.
    folder.make("weak", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024", Some("p256-root"), CLIENT);
    assert!(matches!(folder.verdicts("p256-root", &["weak"]).0, Err(Flaw::UnacceptableKey(_))));
    folder.openssl(
        "openssl x509 -req -in p256-leaf.csr -CA p256-root.pem -CAkey p256-root.key -days 2 -sha1 -extfile ext.cnf \
         -extensions e -out sha1.pem",
    );
    assert_eq!(folder.verdicts("p256-root", &["sha1"]).0, Err(Flaw::UnacceptableSignature));
}

#[test]
fn chains_of_step_ca_and_spire_are_valid() {
    if !has_openssl() {
        return;
    }
    let folder = OpensslFolder(tempfile::tempdir().unwrap());
    // step-ca: a root with path length 1, an intermediate with path length 0, and certificates for clients and servers.
    let limited =
        |length: u8| format!("{},pathlen:{length}\n{}", "basicConstraints=critical,CA:true", &CA[34..]);
    let both = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n\
                subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName=DNS:laptop.example";
    folder.make("step-root", P256, None, &limited(1));
    folder.make("step-below", P256, Some("step-root"), &limited(0));
    folder.make("step-leaf", P256, Some("step-below"), both);
    folder.assert_valid("step-root", &["step-leaf", "step-below"]);
    folder.make("too-deep", P256, Some("step-below"), CA);
    folder.make("deep-leaf", P256, Some("too-deep"), both);
    let (sidegate, openssl) = folder.verdicts("step-root", &["deep-leaf", "too-deep", "step-below"]);
    assert!(sidegate.is_err() && openssl.is_some(), "{sidegate:?}");
    // SPIRE: every authority has the id of its trust domain, and the client certificate has no useful subject.
    let domain = format!("{CA}\nsubjectAltName=URI:spiffe://shop.example");
    let svid = "keyUsage=critical,digitalSignature,keyEncipherment,keyAgreement\nextendedKeyUsage=serverAuth,clientAuth\n\
                basicConstraints=critical,CA:false\nsubjectAltName=URI:spiffe://shop.example/ns/orders/sa/producer";
    folder.make("spire-root", P256, None, &domain);
    folder.make("spire-below", P256, Some("spire-root"), &domain);
    folder.make("spire-leaf", P256, Some("spire-below"), svid);
    folder.assert_valid("spire-root", &["spire-leaf", "spire-below"]);
    let (ours, _) = folder.verdicts("step-root", &["spire-leaf", "spire-below"]);
    assert_eq!(ours, Err(Flaw::UnknownIssuer));
    // openssl does not check for two ids in one certificate.
    let two = format!("{svid},URI:spiffe://shop.example/b");
    folder.make("two-ids", P256, Some("spire-below"), &two);
    assert_eq!(folder.verdicts("spire-root", &["two-ids", "spire-below"]).0, Err(Flaw::SeveralSpiffeIds));
}

#[test]
fn a_crl_of_openssl_is_accepted() {
    if !has_openssl() {
        return;
    }
    let folder = OpensslFolder(tempfile::tempdir().unwrap());
    folder.make("root", P256, None, CA);
    for name in ["kept", "lost"] {
        folder.make(name, P256, Some("root"), CLIENT);
    }
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=1\ncrl_extensions=x\n\
                  [x]\nauthorityKeyIdentifier=keyid\n";
    fs::write(folder.0.path().join("ca.cnf"), config).unwrap();
    folder.openssl(": > index.txt; echo 01 > number");
    let ca = "openssl ca -config ca.cnf -cert root.pem -keyfile root.key";
    folder.openssl(&format!(
        "{ca} -revoke lost.pem -crl_reason keyCompromise 2>&1; {ca} -gencrl -out crl.pem 2>&1"
    ));
    let read = |name: &str| fs::read(folder.0.path().join(name)).unwrap();
    let crl = TrustFile { name: "crl.pem".to_owned(), bytes: read("crl.pem"), place: None };
    let sources = TrustSources {
        crls: Some(vec![crl]),
        ..TrustSources::from_authorities("root.pem", &read("root.pem"), EkuPolicy::ClientAuthIfPresent)
    };
    let (trust, _) = Trust::build(&sources, Timestamp::now()).unwrap();
    let verdict = |name| judge(&[folder.certificate(name)], &trust, Timestamp::now());
    assert!(verdict("kept").is_ok());
    assert_eq!(verdict("lost").map(|_| ()), Err(Unauthenticated::Invalid(Flaw::Revoked)));
}
