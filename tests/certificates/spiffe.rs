//! SPIFFE ids of the X.509-SVID specification, and client CAs that are limited to their trust domains (DESIGN §2.1).

use std::fs;

use rcgen::KeyUsagePurpose;
use sidegate::demo::pki::{Authority, Leaf, pem};

use crate::support::{Backend, Setup};

fn svid(uri: &str) -> Leaf {
    Leaf::client("Shop", "svid").uri(uri).unwrap()
}

const ANYONE: &str = r#"version: 1
permissions: { everything: ["* /**"] }
clients: [{ name: anyone, match: { any: true }, permissions: [everything] }]
"#;

#[test]
fn an_authority_is_accepted_only_for_its_own_trust_domain() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).policy(ANYONE).set("tls.client_ca", "ca/").set(
        "tls.trust_domains",
        serde_json::json!({ "shop.pem": "shop.example", "partner.pem": "spiffe://partner.example" }),
    );
    let [shop, partner, open] = ["shop", "partner", "open"].map(|name| Authority::root(name).unwrap());
    fs::create_dir(setup.path("ca")).unwrap();
    for (name, ca) in [("shop.pem", &shop), ("partner.pem", &partner), ("open.pem", &open)] {
        fs::write(setup.path("ca").join(name), pem("CERTIFICATE", ca.certificate())).unwrap();
    }
    let below = partner.intermediate("below").unwrap();
    let proxy = setup.start();
    let verdict = |ca: &Authority, leaf: &Leaf| {
        let credential = ca.issue(leaf).unwrap();
        proxy.client(&credential).connect(proxy.address).unwrap().get("/").unwrap().verdict()
    };
    let [of_shop, of_partner] = ["spiffe://shop.example/a", "spiffe://partner.example/a"].map(svid);
    for (ca, leaf, expected) in [
        (&shop, &of_shop, "200"),
        (&partner, &of_partner, "200"),
        (&below, &of_partner, "200"),
        (&open, &of_shop, "200"),
        (&shop, &of_partner, "401 invalid_certificate"),
        (&partner, &of_shop, "401 invalid_certificate"),
        (&below, &of_shop, "401 invalid_certificate"),
        (&shop, &Leaf::client("Shop", "no id"), "401 invalid_certificate"),
        (&shop, &svid("https://shop.example/a"), "401 invalid_certificate"),
        (&shop, &svid("spiffe://shop.example.evil/a"), "401 invalid_certificate"),
        (&shop, &svid("spiffe://sub.shop.example/a"), "401 invalid_certificate"),
    ] {
        assert_eq!(verdict(ca, leaf), expected, "{leaf:?}");
    }
}

#[test]
fn a_certificate_with_a_spiffe_id_may_not_sign_and_its_id_has_a_path() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).policy(ANYONE).start();
    let verdict = |leaf: &Leaf| {
        let credential = proxy.pki().issue(leaf);
        proxy.client(&credential).connect(proxy.address).unwrap().get("/").unwrap().verdict()
    };
    let with = |usage| svid("spiffe://shop.example/a").with(|params| params.key_usages.push(usage));
    assert_eq!(verdict(&with(KeyUsagePurpose::KeyEncipherment)), "200");
    assert_eq!(verdict(&with(KeyUsagePurpose::KeyCertSign)), "401 invalid_certificate");
    assert_eq!(verdict(&with(KeyUsagePurpose::CrlSign)), "401 invalid_certificate");
    assert_eq!(verdict(&svid("spiffe://shop.example")), "401 invalid_certificate");
    let without = svid("spiffe://shop.example/a").with(|params| params.key_usages.clear());
    assert_eq!(verdict(&without), "200", "go-spiffe and others accept it too");
}

#[test]
fn a_trust_domain_of_an_unknown_file_or_of_one_ca_twice_is_refused() {
    let refused = |file: &str, domain: &str, parts: &[&str]| {
        let setup =
            Setup::new("http://127.0.0.1:9").set("tls.trust_domains", serde_json::json!({ file: domain }));
        let finished = setup.run();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
        }
    };
    refused("client-ca.cert", "shop.example", &["did you mean `client-ca.crt`?", "sidegate.yaml:"]);
    refused("client-ca.crt", "Shop.Example", &["`Shop.Example` is not a SPIFFE trust domain"]);

    let setup = Setup::new("http://127.0.0.1:9")
        .set("tls.client_ca", "ca/")
        .set("tls.trust_domains", serde_json::json!({ "a.pem": "a.example", "b.pem": "b.example" }));
    fs::create_dir(setup.path("ca")).unwrap();
    for name in ["a.pem", "b.pem"] {
        let text = pem("CERTIFICATE", setup.pki.ca.certificate());
        fs::write(setup.path("ca").join(name), text).unwrap();
    }
    let finished = setup.run();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("in two files with different trust domains"), "{}", finished.stderr);
}
