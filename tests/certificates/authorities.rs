//! Files of authorities: only a certificate of an authority adds one, and a removed CA is no longer trusted, also if its CRL is
//! left behind (DESIGN §2.1; RFC 5280 §4.2.1.9, §6.1.1).

use std::fs;

use jiff::Timestamp;
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
use sidegate::demo::pki::{Authority, Credential, Leaf, pem};
use sidegate::identity::{EkuPolicy, Trust, TrustSources};

use crate::support::certificates::{producer, resigned};
use crate::support::proxy::run;
use crate::support::{Backend, Proxy, Setup, backend_listeners};

fn without_usage(is_ca: IsCa) -> Leaf {
    Leaf::client("Shop", "lost-laptop").with(|params| {
        params.key_usages.clear();
        params.is_ca = is_ca;
    })
}

fn text(credential: &Credential) -> String {
    pem("CERTIFICATE", &credential.chain[0])
}

/// Returns the code of the only diagnostic about a file with this certificate and a CA; `Err` for an error, `Ok` for a
/// warning or no diagnostic.
#[track_caller]
fn code_of(credential: &Credential) -> Result<Option<&'static str>, &'static str> {
    let ca = Authority::root("beside").unwrap();
    let file = pem("CERTIFICATE", ca.certificate()) + &text(credential);
    let sources =
        TrustSources::from_authorities("ca/all.pem", file.as_bytes(), EkuPolicy::ClientAuthIfPresent);
    let named = |diagnostics: &[sidegate::diagnostic::Diagnostic]| {
        assert_eq!(diagnostics.len(), 1, "{diagnostics:#?}");
        assert!(diagnostics[0].message.contains("`ca/all.pem`"), "{}", diagnostics[0]);
        assert!(diagnostics[0].help.is_some());
        diagnostics[0].code.name()
    };
    match Trust::build(&sources, Timestamp::now()) {
        Ok((_, warnings)) if warnings.is_empty() => Ok(None),
        Ok((_, warnings)) => Ok(Some(named(&warnings))),
        Err(problems) => Err(named(&problems)),
    }
}

#[test]
fn only_a_certificate_of_an_authority_is_accepted_as_an_authority() {
    let ca = Authority::root("ca").unwrap();
    let below = |is_ca| ca.issue(&without_usage(is_ca)).unwrap();
    let unconstrained = || IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(code_of(&below(unconstrained())), Ok(None));
    assert_eq!(code_of(&below(IsCa::NoCa)), Err("no-authority"));
    assert_eq!(code_of(&below(IsCa::ExplicitNoCa)), Err("no-authority"));
    let signs = |leaf: Leaf| leaf.with(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let issue = |leaf: &Leaf| code_of(&ca.issue(leaf).unwrap());
    assert_eq!(issue(&signs(without_usage(IsCa::NoCa))), Err("no-authority"), "keyUsage alone");
    let does_not_sign = without_usage(unconstrained())
        .with(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert_eq!(issue(&does_not_sign), Err("no-authority"));
}

#[test]
fn a_self_signed_certificate_is_accepted_as_an_authority_unless_it_denies_that() {
    let own = |is_ca| code_of(&without_usage(is_ca).self_signed().unwrap());
    assert_eq!(own(IsCa::Ca(BasicConstraints::Unconstrained)), Ok(None));
    assert_eq!(own(IsCa::NoCa), Ok(Some("self-signed-anchor")));
    assert_eq!(own(IsCa::ExplicitNoCa), Err("no-authority"));
    // A certificate with equal subject and issuer names is not self-signed without its own signature.
    let ca = Authority::root("ca").unwrap();
    let named_alike = without_usage(IsCa::NoCa).with(|params| {
        params.distinguished_name = sidegate::demo::pki::authority("ca").distinguished_name;
    });
    assert_eq!(code_of(&ca.issue(&named_alike).unwrap()), Err("no-authority"));
}

#[test]
fn a_root_of_x509_version_1_is_accepted() {
    let ca = Authority::root("old root").unwrap();
    let version_1 = resigned(&ca, &ca.as_credential(), |fields| {
        let kept: Vec<_> = fields.iter().copied().filter(|field| !matches!(field[0], 0xa0 | 0xa3)).collect();
        kept.concat()
    });
    assert_eq!(code_of(&version_1), Ok(None));
}

fn in_a_folder(backend: &str) -> Setup {
    let setup = Setup::new(backend).set("tls.client_ca", "ca/");
    fs::create_dir(setup.path("ca")).unwrap();
    fs::rename(setup.path("client-ca.crt"), setup.path("ca/ca.crt")).unwrap();
    setup
}

/// `openssl x509 -req` makes a `tls.crt` without extensions; it must not be mistaken for the CA beside it.
#[test]
fn a_client_certificate_among_the_cas_is_reported_at_start_on_reload_and_by_the_tools() {
    let backend = Backend::ok();
    let setup = in_a_folder(&backend.url());
    let leaf = text(&setup.pki.issue(&without_usage(IsCa::NoCa)));
    fs::write(setup.path("ca/tls.crt"), &leaf).unwrap();
    let parts = ["ca/tls.crt", "CN=lost-laptop", "basicConstraints", "take that certificate out of"];
    let config = setup.write();
    let (config, file) = (config.to_str().unwrap(), setup.path("server.crt"));
    let (file, folder) = (file.to_str().unwrap(), setup.path("ca"));
    for arguments in [
        &["run", "--config", config][..],
        &["doctor", "--config", config],
        &["cert", file, "--ca", folder.to_str().unwrap()],
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "`{part}` is not in {}", finished.stderr);
        }
    }
    fs::remove_file(setup.path("ca/tls.crt")).unwrap();
    let proxy = setup.start();
    fs::write(proxy.setup.path("ca/tls.crt"), &leaf).unwrap();
    let refused = proxy.admin.refused_reload().to_string();
    assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
    fs::remove_file(proxy.setup.path("ca/tls.crt")).unwrap();
    fs::write(proxy.setup.path("ca/own.crt"), text(&without_usage(IsCa::NoCa).self_signed().unwrap()))
        .unwrap();
    let applied = proxy.admin.reload().to_string();
    for part in ["self-signed-anchor", "ca/own.crt", "can make a certificate for any client"] {
        assert!(applied.contains(part), "`{part}` is not in {applied}");
    }
}

#[test]
fn the_authorities_of_the_backend_follow_the_same_rules() {
    let ca = Authority::root("backends").unwrap();
    let server = |is_ca: IsCa| Leaf::server().unwrap().with(|params| params.is_ca = is_ca);
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let setup = Setup::new("https://127.0.0.1:9").set("backend.tls.ca", "backend-ca.crt");
        fs::write(setup.path("backend-ca.crt"), text(&ca.issue(&server(is_ca)).unwrap())).unwrap();
        let finished = setup.run();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        for part in [
            "no-authority",
            "backend-ca.crt",
            "CN=localhost",
            "take that certificate out of `backend.tls.ca`",
        ] {
            assert!(finished.stderr.contains(part), "`{part}` is not in {}", finished.stderr);
        }
    }
}

/// An operator of such a backend has no other certificate to configure than the one of the backend.
#[test]
fn a_self_signed_backend_is_reached_with_a_warning() {
    let backend = Backend::ok();
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let own = Leaf::server().unwrap().with(|params| params.is_ca = is_ca).self_signed().unwrap();
        let front = backend_listeners::listen_tls(
            backend_listeners::server_config(&own, None, "http/1.1"),
            backend.address,
        );
        let setup = Setup::new(&format!("https://127.0.0.1:{}", front.port()))
            .set("backend.tls.ca", "backend.crt")
            .set("backend.tls.server_name", "localhost");
        fs::write(setup.path("backend.crt"), text(&own)).unwrap();
        let mut proxy = setup.start();
        assert_eq!(proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap().text(), "ok");
        let log = proxy.process.log();
        assert!(log.contains("self-signed-anchor") && log.contains("backend.crt"), "{log}");
        assert!(
            proxy.admin.reload().to_string().contains("self-signed-anchor"),
            "a reload repeats the warning"
        );
    }
}

fn verdict(proxy: &Proxy, credential: &Credential) -> String {
    proxy.client(credential).connect(proxy.address).unwrap().get("/events").unwrap().verdict()
}

#[test]
fn a_removed_ca_is_not_trusted_although_its_crl_is_left_behind() {
    let backend = Backend::ok();
    let setup = in_a_folder(&backend.url()).set("tls.crl", "crl/");
    let second = Authority::root("Removed").unwrap();
    fs::create_dir(setup.path("crl")).unwrap();
    fs::write(setup.path("crl/first.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    fs::write(setup.path("crl/second.crl"), pem("X509 CRL", &second.crl(&[], |_| {}).unwrap())).unwrap();
    fs::write(setup.path("ca/second.crt"), pem("CERTIFICATE", second.certificate())).unwrap();
    let client = second.issue(&producer()).unwrap();
    let mut proxy = setup.start();
    assert_eq!(verdict(&proxy, &client), "200");

    fs::remove_file(proxy.setup.path("ca/second.crt")).unwrap();
    let attempt = proxy.admin.reload().to_string();
    assert_eq!(verdict(&proxy, &client), "401 invalid_certificate");
    assert_eq!(verdict(&proxy, &proxy.pki().producer), "200");
    let parts = ["crl-of-unknown-ca", "crl/second.crl", "CN=Removed", "remove its CRL too"];
    let status = proxy.admin.status().to_string();
    let config = proxy.setup.write();
    let doctor = run(&["doctor", "--config", config.to_str().unwrap()]).stdout;
    for part in parts {
        assert!(attempt.contains(part) && status.contains(part), "`{part}` is not in {attempt} or {status}");
        assert!(doctor.contains(part) || part == parts[0], "`{part}` is not in {doctor}");
    }
    let is_warning = |line: &serde_json::Value| line["code"] == parts[0] && line["level"] == "WARN";
    proxy.process.log_where("the warning", is_warning);

    // A restart reads the same files.
    let mut setup = Setup::new(&backend.url());
    std::mem::swap(&mut setup, &mut proxy.setup);
    drop(proxy);
    let mut proxy = setup.start();
    assert_eq!(verdict(&proxy, &client), "401 invalid_certificate");
    assert_eq!(verdict(&proxy, &proxy.pki().producer), "200");
    let log = proxy.process.log();
    assert!(parts.iter().all(|part| log.contains(part)), "{log}");

    // An unreadable CRL may be a needed one, so the reload is refused.
    fs::write(proxy.setup.path("crl/second.crl"), "half").unwrap();
    assert!(proxy.admin.refused_reload().to_string().contains("bad-crl"));
}
