//! `sidegate cert`: its output is the committed output for the certificates in the folder `certificate_tool`, and its verdict
//! is the verdict of the proxy.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use rcgen::{DnType, PKCS_ED25519, PKCS_RSA_SHA256, SanType, SerialNumber, date_time_ymd};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use sidegate::demo::pki::{self, Authority, Leaf, pem};

use crate::support::proxy::{command, run};
use crate::support::{Backend, Proxy, golden};

#[test]
fn the_output_is_the_committed_output() {
    golden::assert_as_committed("tests/certificates/certificate_tool", "tests/certificates/certificate_tool");
}

#[test]
fn a_chain_is_read_from_standard_input_and_single_certificates_from_der() {
    let proxy = Proxy::in_front_of(&Backend::ok().url());
    let (ca, leaf) = (proxy.setup.path("client-ca.crt"), &proxy.pki().producer.chain[0]);
    let mut process = command(&["cert", "-", "--ca", ca.to_str().unwrap(), "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(pem("CERTIFICATE", leaf).as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["verdict"]), (Some(0), &Value::from("valid")));
    fs::write(proxy.setup.path("leaf.der"), leaf).unwrap();
    let file = proxy.setup.path("leaf.der");
    let finished = run(&["cert", file.to_str().unwrap(), "--ca", ca.to_str().unwrap()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn the_verdict_of_the_tool_is_the_verdict_of_the_proxy() {
    let proxy = Proxy::in_front_of(&Backend::ok().url());
    let pki = proxy.pki();
    let ca = proxy.setup.path("client-ca.crt");
    for credential in [
        pki.producer.clone(),
        pki.no_usage(),
        pki.unknown_ca(),
        pki.same_named_ca(),
        pki.self_signed_as_the_issuer(),
        pki.expired(),
        pki.not_yet_valid(),
        pki.wrong_usage(),
        pki.ca_as_leaf(),
        pki.version_1(),
        pki.nul_in_the_common_name(),
        pki.two_spiffe_ids(),
    ] {
        credential.write(proxy.setup.folder.path(), "tried").unwrap();
        let file = proxy.setup.path("tried.crt");
        let arguments = ["cert", file.to_str().unwrap(), "--ca", ca.to_str().unwrap(), "--format", "json"];
        let finished = run(&arguments);
        let json: Value = serde_json::from_str(&finished.stdout).unwrap();
        let answer = proxy.client(&credential).connect(proxy.address).unwrap().get("/events").unwrap();
        match answer.status {
            401 => {
                assert_eq!((finished.code, &json["verdict"]), (Some(1), &Value::from("invalid")));
                assert_eq!(answer.json()["detail"], json["detail"]);
            }
            _ => assert_eq!((finished.code, &json["verdict"]), (Some(0), &Value::from("valid"))),
        }
    }
}

/// Writes the certificate files of the examples. Their keys are not kept.
#[test]
#[ignore = "writes new certificates for the examples, which changes every fingerprint"]
fn write_the_certificates_of_the_examples() {
    let authority = |name: &str| {
        let mut params = pki::authority(name);
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2036, 1, 1);
        params
    };
    // `Authority::root` sets its own dates. So the root of the examples is an intermediate, which is trusted directly.
    let root = Authority::root("unused").unwrap().intermediate_of(authority("Shop CA")).unwrap();
    let issuing = root.intermediate_of(authority("Shop issuing CA")).unwrap();
    write_example("ca.pem", pem("CERTIFICATE", root.certificate()));
    let revoked = write_leaves(&issuing);
    write_example("root.crl", example_crl(&root, &[]));
    let alone = example_crl(&issuing, &[&revoked]);
    write_example("issuing.crl", alone.clone() + &pem("CERTIFICATE", issuing.certificate()));
    write_example("issuing-alone.crl", alone);
}

fn write_example(name: &str, text: String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/certificate_tool");
    fs::write(folder.join(name), text).unwrap();
}

/// Writes the client certificates, each with its issuer; returns the certificate that is revoked.
fn write_leaves(issuing: &Authority) -> CertificateDer<'static> {
    let instant = |year| SystemTime::from(date_time_ymd(year, 1, 1));
    let issue = |leaf: Leaf, serial: u64| {
        let leaf = leaf
            .valid(instant(2026), instant(2028))
            .with(|params| params.serial_number = Some(SerialNumber::from(serial)));
        issuing.issue(&leaf).unwrap().chain
    };
    let certificates =
        |ders: &[CertificateDer<'_>]| -> String { ders.iter().map(|der| pem("CERTIFICATE", der)).collect() };
    let names = [
        SanType::DnsName("Orders.Shop.example".try_into().unwrap()),
        SanType::Rfc822Name("orders@shop.example".try_into().unwrap()),
        SanType::IpAddress([192, 0, 2, 7].into()),
    ];
    let client = Leaf::client("Shop", "order-service")
        .uri("spiffe://shop.example/ns/orders/sa/producer")
        .unwrap()
        .with(|params| params.subject_alt_names.extend(names.clone()));
    let client = issue(client, 0x1001);
    write_example("client.pem", certificates(&client[..2]));
    write_example("leaf-alone.pem", certificates(&client[..1]));
    let revoked = issue(Leaf::client("Shop", "lost-laptop").key(&PKCS_RSA_SHA256), 0x1002);
    write_example("revoked.pem", certificates(&revoked[..2]));
    let odd = Leaf::client("Shop", "unused").key(&PKCS_ED25519).with(|params| {
        params.distinguished_name.push(DnType::CommonName, "a,O=ops\r\n\u{1b}[31m");
        params.extended_key_usages.clear();
    });
    write_example("odd.pem", certificates(&issue(odd, 0x1003)[..2]));
    let nul = Leaf::client("Shop", "order-service\0.evil");
    write_example("nul.pem", certificates(&issue(nul, 0x1004)[..2]));
    revoked[0].clone()
}

fn example_crl(ca: &Authority, revoked: &[&CertificateDer<'_>]) -> String {
    let crl = ca.crl(revoked, |crl| {
        crl.this_update = date_time_ymd(2026, 11, 20);
        crl.next_update = date_time_ymd(2026, 12, 20);
        for entry in &mut crl.revoked_certs {
            entry.revocation_time = date_time_ymd(2026, 11, 19);
        }
    });
    pem("X509 CRL", &crl.unwrap())
}
