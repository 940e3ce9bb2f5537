//! Files are applied by parts: a mistake in one part does not keep another from coming into force, and each part keeps its
//! own last good state (DESIGN §2.2).

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sidegate::demo::pki::{Authority, Credential, Leaf, pem, producer};

use crate::support::proxy::POLICY;
use crate::support::{Backend, Proxy, Setup, eventually};

const TOKEN: &str = "0123456789abcdef";
const PARTS: [&str; 7] = [
    "configuration",
    "server_certificates",
    "client_trust",
    "policies",
    "shadow_policies",
    "backend_tls",
    "admin_token",
];

fn write_crl(setup: &Setup, revoked: &[&Credential]) {
    let revoked: Vec<_> = revoked.iter().map(|credential| &credential.chain[0]).collect();
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&revoked, |_| {}).unwrap()).unwrap();
}

/// A proxy with a CRL, a folder of client CAs that holds a second one, and a shadow policy.
fn proxy(backend: &Backend) -> (Proxy, Authority) {
    let setup = Setup::new(&backend.url())
        .set("tls.crl", "ca.crl")
        .set("tls.crl_missing", "allow")
        .set("tls.client_ca", "ca/")
        .set("shadow_policies", "next.yaml");
    fs::create_dir(setup.path("ca")).unwrap();
    fs::rename(setup.path("client-ca.crt"), setup.path("ca/first.crt")).unwrap();
    let second = Authority::root("second").unwrap();
    fs::write(setup.path("ca/second.crt"), pem("CERTIFICATE", second.certificate())).unwrap();
    fs::write(setup.path("next.yaml"), POLICY).unwrap();
    write_crl(&setup, &[]);
    (setup.start(), second)
}

fn verdict(proxy: &Proxy) -> String {
    proxy.connect().get("/events").unwrap().verdict()
}

fn part(proxy: &Proxy, name: &str) -> Value {
    proxy.admin.status()["reload"]["parts"][name].clone()
}

/// Returns the parts whose files are not in force, according to the metric.
fn failing_parts(proxy: &Proxy) -> Vec<&'static str> {
    let metrics = proxy.admin.metrics();
    let value = |part: &str| metrics.labelled("sidegate_reload_success", &[("part", part)]);
    PARTS.into_iter().filter(|part| value(part) < 1.0).collect()
}

fn rewrite(proxy: &Proxy, change: impl FnOnce(&mut Value)) {
    let mut config = proxy.setup.config.clone();
    change(&mut config);
    fs::write(proxy.setup.path("sidegate.yaml"), config.to_string()).unwrap();
}

#[test]
fn a_new_crl_certificate_and_authority_come_into_force_beside_a_broken_policy() {
    let backend = Backend::ok();
    let (mut proxy, second) = proxy(&backend);
    let of_second = second.issue(&producer().unwrap()).unwrap();
    let others = proxy.client(&of_second);
    let verdict_of_second = || others.connect(proxy.address).unwrap().get("/events").unwrap().verdict();
    assert_eq!((verdict(&proxy).as_str(), verdict_of_second().as_str()), ("200", "200"));
    fs::write(proxy.setup.path("policy.yaml"), POLICY.replace("[little]", "[littel]")).unwrap();
    let refused = eventually("the refusal", || part(&proxy, "policies"), |part| part["state"] == "refused");
    assert_eq!(refused["diagnostics"][0]["help"], "did you mean `little`?");
    assert_eq!(failing_parts(&proxy), ["policies"]);

    let start = Instant::now();
    write_crl(&proxy.setup, &[&proxy.pki().producer]);
    eventually("the CRL", || verdict(&proxy), |verdict| verdict == "401 invalid_certificate");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    fs::remove_file(proxy.setup.path("ca/second.crt")).unwrap();
    eventually("the authority's end", verdict_of_second, |verdict| verdict == "401 invalid_certificate");
    let next = proxy.pki().issue(&Leaf::server().unwrap());
    next.write(proxy.setup.folder.path(), "server").unwrap();
    let shown = || proxy.anonymous().connect(proxy.address).unwrap().server();
    eventually("the certificate", shown, |shown| *shown == *next.chain[0]);
    assert_eq!(failing_parts(&proxy), ["policies"]);
    proxy.process.log_where("the refusal", |line| {
        line["part"] == "policies" && line["message"].as_str().unwrap().starts_with("not reloaded")
    });
    proxy.process.log_where("the reload", |line| line["parts"] == "client_trust");
}

/// The parts, each with a file and broken content for it.
const BROKEN: [(&str, &str, &str); 5] = [
    ("configuration", "sidegate.yaml", "listen: nowhere"),
    ("server_certificates", "server.crt", "no certificate"),
    ("client_trust", "ca.crl", "no CRL"),
    ("policies", "policy.yaml", "version: 7"),
    ("shadow_policies", "next.yaml", "version: 7"),
];

#[test]
fn only_the_broken_part_is_refused_and_all_others_come_into_force() {
    let backend = Backend::ok();
    for (broken, file, text) in BROKEN {
        let (proxy, _) = proxy(&backend);
        let before = proxy.anonymous().connect(proxy.address).unwrap().server();
        let next = proxy.pki().issue(&Leaf::server().unwrap());
        next.write(proxy.setup.folder.path(), "server").unwrap();
        rewrite(&proxy, |config| config["limits"]["max_connections"] = json!(7));
        write_crl(&proxy.setup, &[&proxy.pki().consumer]);
        fs::write(proxy.setup.path("policy.yaml"), "version: 1\n").unwrap();
        fs::write(proxy.setup.path("next.yaml"), "version: 1\n").unwrap();
        fs::write(proxy.setup.path(file), text).unwrap();
        let answer = proxy.admin.post("/reload", "");
        assert_eq!(answer.status, if broken == "shadow_policies" { 200 } else { 422 }, "{broken}");
        let attempt = answer.json();
        for part in PARTS {
            let expected = if part == broken { "refused" } else { "applied" };
            assert_eq!(attempt["parts"][part], expected, "{part} beside {broken}: {attempt:#}");
        }
        let told = attempt["diagnostics"].as_array().unwrap();
        assert!(!told.is_empty() && told.iter().all(|problem| problem["part"] == broken), "{attempt:#}");
        assert_eq!(failing_parts(&proxy), [broken]);
        let is_in_force = |part: &str| part != broken;
        let consumer = proxy.consumer().connect(proxy.address).unwrap().get("/readable").unwrap().verdict();
        let expected = match (is_in_force("client_trust"), is_in_force("policies")) {
            (true, _) => "401 invalid_certificate",
            (false, true) => "403 insufficient_permissions",
            (false, false) => "200",
        };
        assert_eq!(consumer, expected, "beside {broken}");
        let expected = if is_in_force("policies") { "403 insufficient_permissions" } else { "200" };
        assert_eq!(verdict(&proxy), expected, "beside {broken}");
        let shown = proxy.anonymous().connect(proxy.address).unwrap().server();
        assert_eq!(shown == *next.chain[0], is_in_force("server_certificates"), "beside {broken}");
        assert_eq!(shown == before, !is_in_force("server_certificates"), "beside {broken}");
        let slots = proxy.admin.metrics().value("sidegate_slots_limit");
        assert!((slots - if is_in_force("configuration") { 7.0 } else { 1000.0 }).abs() < 0.1, "{broken}");
    }
}

#[test]
fn the_files_of_the_last_good_configuration_are_still_followed() {
    let backend = Backend::ok();
    let (proxy, _) = proxy(&backend);
    fs::write(proxy.setup.path("sidegate.yaml"), "policies: elsewhere.yaml\nlisten: nowhere\n").unwrap();
    eventually("the refusal", || failing_parts(&proxy), |failing| *failing == ["configuration"]);
    fs::write(proxy.setup.path("policy.yaml"), "version: 1\n# nothing\n").unwrap();
    eventually("the policy", || verdict(&proxy), |verdict| verdict == "403 insufficient_permissions");
    fs::remove_file(proxy.setup.path("sidegate.yaml")).unwrap();
    proxy.admin.refused_reload();
    write_crl(&proxy.setup, &[&proxy.pki().producer]);
    eventually("the CRL", || verdict(&proxy), |verdict| verdict == "401 invalid_certificate");
}

/// A configuration comes into force with its paths. A part that cannot be read at its new path keeps its whole last state.
#[test]
fn a_configuration_that_names_a_broken_file_leaves_that_part_as_it_was_until_it_is_mended() {
    let backend = Backend::ok();
    let (proxy, _) = proxy(&backend);
    write_crl(&proxy.setup, &[&proxy.pki().producer]);
    proxy.admin.reload();
    rewrite(&proxy, |config| {
        config["policies"] = json!("elsewhere.yaml");
        config["tls"]["crl"] = json!("elsewhere.crl");
        config["limits"]["max_connections"] = json!(7);
    });
    eventually("the refusal", || failing_parts(&proxy), |failing| *failing == ["client_trust", "policies"]);
    assert!((proxy.admin.metrics().value("sidegate_slots_limit") - 7.0).abs() < 0.1);
    assert_eq!(verdict(&proxy), "401 invalid_certificate", "the certificate is still revoked");
    let consumer = || proxy.consumer().connect(proxy.address).unwrap().get("/readable").unwrap().verdict();
    assert_eq!(consumer(), "200", "the last policy stays in force");
    // The old paths are no longer followed.
    fs::write(proxy.setup.path("policy.yaml"), "version: 1\n# nothing\n").unwrap();
    proxy.admin.refused_reload();
    assert_eq!(consumer(), "200");
    fs::write(proxy.setup.path("elsewhere.crl"), proxy.pki().ca.crl(&[], |_| {}).unwrap()).unwrap();
    eventually("the CRL", || verdict(&proxy), |verdict| verdict == "200");
    fs::write(proxy.setup.path("elsewhere.yaml"), "version: 1\n").unwrap();
    eventually("the policy", consumer, |verdict| verdict == "403 insufficient_permissions");
    assert!(failing_parts(&proxy).is_empty());
}

#[test]
fn a_new_token_that_cannot_be_read_lets_no_client_in() {
    let backend = Backend::ok();
    let (mut proxy, _) = proxy(&backend);
    rewrite(&proxy, |config| config["admin"]["token_file"] = json!("token"));
    proxy.process.log_where("the token's refusal", |line| line["part"] == "admin_token");
    let asked = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        proxy.admin.ask("GET", "/status", &header, "").status
    };
    assert_eq!((proxy.admin.get("/status").status, asked(TOKEN), asked("")), (401, 401, 401));
    fs::write(proxy.setup.path("token"), TOKEN).unwrap();
    eventually("the token", || asked(TOKEN), |status| *status == 200);
    assert_eq!(asked("another-token-of-16"), 401);
    // After a mistake the last good token stays in force.
    fs::write(proxy.setup.path("token"), "short").unwrap();
    eventually("the refusal", || failing_parts(&proxy), |failing| *failing == ["admin_token"]);
    assert_eq!(asked(TOKEN), 200);
}

#[test]
fn a_refused_part_is_reported_again_when_its_files_change() {
    let backend = Backend::ok();
    let (mut proxy, _) = proxy(&backend);
    let broken = POLICY.replace("[everything]", "[everythin]");
    let refused = || part(&proxy, "policies")["refused"].clone();
    for round in 1..=3 {
        // The mistake and its place are the same.
        fs::write(proxy.setup.path("policy.yaml"), format!("{broken}# {round}\n")).unwrap();
        eventually("the refusal", refused, |refused| *refused == round);
    }
    proxy.admin.refused_reload();
    proxy.admin.refused_reload();
    proxy.process.signal("INT");
    proxy.process.exit();
    let log = proxy.process.log();
    assert_eq!(log.matches("not reloaded").count(), 3, "{log}");
}
