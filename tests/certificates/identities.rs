//! Certificates that are accepted or refused, in addition to those of the promise `order_of_refusals` (DESIGN §2.1).

use std::process::Command;

use rcgen::{
    ExtendedKeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use sidegate::demo::pki::{self, Authority, Credential, pem};

use crate::support::certificates::{RsaPublicKey, producer};
use crate::support::{Backend, Client, Proxy, Setup, is_missing};

#[track_caller]
fn verdict(proxy: &Proxy, credential: &Credential) -> String {
    let mut connection = proxy.client(credential).connect(proxy.address).unwrap();
    connection.get("/events").unwrap().verdict()
}

#[test]
fn every_usual_kind_of_key_is_accepted() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        let credential = proxy.pki().issue(&producer().key(algorithm));
        assert_eq!(verdict(&proxy, &credential), "200", "{algorithm:?}");
    }
}

#[test]
fn a_chain_is_accepted_with_its_intermediates_and_refused_without_them() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let below = proxy.pki().ca.intermediate("a").unwrap().intermediate("b").unwrap();
    let mut credential = below.issue(&producer()).unwrap();
    assert_eq!(verdict(&proxy, &credential), "200");
    credential.chain.truncate(1);
    assert_eq!(verdict(&proxy, &credential), "401 invalid_certificate");
}

/// Case 5: an issuer that is not a CA.
#[test]
fn a_certificate_that_is_not_an_authority_cannot_issue() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let not_an_authority = proxy.pki().ca.intermediate_of({
        let mut params = pki::authority("not an authority");
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params
    });
    let credential = not_an_authority.unwrap().issue(&producer()).unwrap();
    assert_eq!(verdict(&proxy, &credential), "401 invalid_certificate");
}

/// Case 4: extended key usage.
#[test]
fn another_extended_key_usage_is_refused_and_an_absent_one_follows_the_setting() {
    let backend = Backend::ok();
    for (required, of_none) in [(false, "200"), (true, "401 invalid_certificate")] {
        let setup = Setup::new(&backend.url()).set("tls.require_client_auth_eku", required);
        let proxy = setup.start();
        let with = |usages: Vec<ExtendedKeyUsagePurpose>| {
            proxy.pki().issue(&producer().with(|params| params.extended_key_usages = usages.clone()))
        };
        use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, EmailProtection, ServerAuth};
        for usages in [vec![EmailProtection], vec![ServerAuth], vec![CodeSigning, ServerAuth]] {
            assert_eq!(verdict(&proxy, &with(usages.clone())), "401 invalid_certificate", "{usages:?}");
        }
        assert_eq!(verdict(&proxy, &with(vec![ServerAuth, ClientAuth])), "200");
        assert_eq!(verdict(&proxy, &proxy.pki().no_usage()), of_none, "required: {required}");
    }
}

/// Cases 14 and 16: NUL in a name, and several common names.
#[test]
fn ambiguous_names_give_no_rights() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).policy(
        r#"version: 1
permissions:
  everything: ["* /**"]
clients:
  - name: by-common-name
    match: { common_name: "order-producer*" }
    permissions: [everything]
"#,
    );
    let proxy = setup.start();
    assert_eq!(verdict(&proxy, &proxy.pki().producer), "200", "one common name matches");
    assert_eq!(verdict(&proxy, &proxy.pki().several_common_names()), "403 insufficient_permissions");
    assert_eq!(verdict(&proxy, &proxy.pki().nul_in_the_common_name()), "401 invalid_certificate");
}

#[test]
fn every_authority_of_a_bundle_is_trusted() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url());
    let second = Authority::root("second").unwrap();
    let both = [setup.pki.ca.certificate(), second.certificate()].map(|ca| pem("CERTIFICATE", ca)).concat();
    std::fs::write(setup.path("client-ca.crt"), both).unwrap();
    let proxy = setup.start();
    assert_eq!(verdict(&proxy, &second.issue(&producer()).unwrap()), "200");
    assert_eq!(verdict(&proxy, &proxy.pki().producer), "200");
}

/// Cases 11 and 12: limits of chains and names.
#[test]
fn a_chain_or_a_certificate_that_is_too_long_is_refused() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut long = proxy.pki().producer.clone();
    long.chain.extend(std::iter::repeat_n(proxy.pki().ca.certificate().clone(), 70));
    assert_eq!(verdict(&proxy, &long), "401 invalid_certificate", "a long chain");
    let names =
        (0..300).try_fold(producer(), |leaf, number| leaf.uri(&format!("https://shop.example/{number}")));
    let with_many_names = proxy.pki().issue(&names.unwrap());
    assert_eq!(verdict(&proxy, &with_many_names), "401 invalid_certificate", "many names");
}

/// Case 27: the server name (SNI).
#[test]
fn the_server_name_never_changes_the_authentication_of_clients() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for name in ["127.0.0.1", "LOCALHOST", "localhost.", "unknown.example", "a.localhost"] {
        for host in ["localhost", "elsewhere.example"] {
            let ask = |client: Client| {
                let mut connection =
                    client.without_server_verification().connect_as(proxy.address, name).unwrap();
                connection.ask(&format!("GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap().verdict()
            };
            assert_eq!(ask(proxy.anonymous()), "401 not_authenticated", "{name}");
            let expired = proxy.client(&proxy.pki().expired());
            assert_eq!(ask(expired), "401 invalid_certificate", "{name}");
            assert_eq!(ask(proxy.producer()), "200", "{name}");
        }
    }
    assert_eq!(backend.received().len(), 10);
}

/// Case 28: a TLS 1.2 connection is never negotiated again, so the identity of its client cannot change.
#[test]
fn renegotiation_is_refused() {
    if is_missing("openssl", Command::new("openssl").arg("version")) {
        return;
    }
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    // `R` alone on a line asks openssl to renegotiate.
    let script = format!("printf 'R\\n' | openssl s_client -tls1_2 -connect {} 2>&1", proxy.address);
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output_text.contains("RENEGOTIATING"), "{output_text}");
    assert!(output_text.contains("no renegotiation"), "{output_text}");
    assert!(backend.received().is_empty());
    assert_eq!(verdict(&proxy, &proxy.pki().producer), "200");
}

/// Case 10: an RSA key of 1024 bits.
#[test]
fn a_weak_key_is_refused() {
    if is_missing("openssl", Command::new("openssl").arg("version")) {
        return;
    }
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let folder = proxy.setup.folder.path();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    openssl(&["genrsa", "-out", "weak.key", "1024"]);
    let public = RsaPublicKey::of_der(&openssl(&["rsa", "-in", "weak.key", "-pubout", "-outform", "DER"]));
    let certificate = proxy.pki().ca.certify(&producer(), &public).unwrap();
    std::fs::write(folder.join("weak.crt"), pem("CERTIFICATE", &certificate)).unwrap();
    let address = proxy.address.to_string();
    let script = format!(
        "printf 'GET /events HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | openssl s_client \
         -quiet -connect {address} -cert weak.crt -key weak.key -cipher DEFAULT@SECLEVEL=0 2>&1"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.contains("HTTP/1.1 401 Unauthorized"), "{answer}");
    assert!(answer.contains("\"reason\":\"invalid_certificate\""), "{answer}");
}
