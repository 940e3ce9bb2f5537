//! Audit records of certificates: a refusal is explained by its record, and no certificate makes a record long or unreadable
//! (DESIGN §8).

use std::fs;
use std::time::{Duration, SystemTime};

use rcgen::{DnType, SanType};
use serde_json::{Value, json};
use sidegate::demo::pki::{Credential, Leaf};
use sidegate::identity::{Attribute, Flaw, Identity};

use crate::support::certificates::{DAY, producer};
use crate::support::http2::Http2;
use crate::support::schema::violations;
use crate::support::{Backend, Proxy, Setup, eventually};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../deploy/audit.schema.json")).unwrap()
}

/// Returns what a certificate says, as a record shows it.
fn presented(credential: &Credential) -> Value {
    let identity = Identity::from_certificate(&credential.chain[0]).unwrap();
    let first = |attribute| identity.values(attribute).max_by_key(|value| value.len());
    json!({
        "subject": first(Attribute::Subject),
        "issuer": first(Attribute::Issuer),
        "serial": first(Attribute::Serial),
        "fingerprint": first(Attribute::Fingerprint),
    })
}

fn counted(proxy: &Proxy, flaw: &str) -> f64 {
    proxy.admin.metrics().labelled("sidegate_invalid_certificates_total", &[("flaw", flaw)])
}

#[test]
fn the_record_of_an_invalid_certificate_has_its_flaw_and_what_was_presented() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    let invalid = [
        (Flaw::Expired(jiff::Timestamp::UNIX_EPOCH), pki.expired()),
        (Flaw::NotYetValid(jiff::Timestamp::UNIX_EPOCH), pki.not_yet_valid()),
        (Flaw::UnknownIssuer, pki.unknown_ca()),
        (Flaw::BadSignature, pki.same_named_ca()),
        (Flaw::NotForClients, pki.wrong_usage()),
        (Flaw::OldVersion, pki.version_1()),
    ];
    for (flaw, credential) in invalid {
        let client = proxy.client(&credential);
        client.connect(proxy.address).unwrap().get("/http1").unwrap();
        Http2::connect(&client, proxy.address).unwrap().get("/http2").unwrap();
        // Bytes that are no HTTP are a decision as well.
        client.connect(proxy.address).unwrap().ask("nonsense\r\n\r\n").unwrap();
        for path in ["/http1", "/http2", "-"] {
            let record = proxy.process.audit_where(path, |record| record["path"] == path);
            assert_eq!(record["flaw"], flaw.name(), "{record}");
            assert_eq!(record["presented"], presented(&credential), "{record}");
            assert_eq!((&record["client"], &record["identity"]), (&Value::Null, &Value::Null), "unproven");
            assert_eq!(violations(&schema(), &record), Vec::<String>::new());
        }
        assert_eq!(counted(&proxy, flaw.name()), 3.0, "{flaw}");
    }
    let decided = [("reason", "invalid_certificate")];
    let decided = proxy.admin.metrics().labelled("sidegate_decisions_total", &decided);
    assert_eq!(proxy.admin.metrics().value("sidegate_invalid_certificates_total"), decided);
}

#[test]
fn a_certificate_without_a_name_or_that_cannot_be_read_is_told_apart_by_its_fingerprint() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let malformed = proxy.pki().nul_in_the_common_name();
    let unreadable = Credential {
        chain: vec![b"no certificate at all".to_vec().into()],
        key: proxy.pki().producer.key.clone_key(),
    };
    let mut record = |credential: &Credential| {
        proxy.client(credential).connect(proxy.address).unwrap().get("/events").unwrap();
        proxy.process.audit_where("a refusal", |record| record["status"] == 401)
    };
    let of_malformed = record(&malformed);
    assert_eq!(of_malformed["flaw"], "malformed_name");
    assert_eq!(of_malformed["presented"]["subject"], Value::Null);
    assert_eq!(of_malformed["presented"]["issuer"], format!("CN={}", crate::support::certificates::CA_NAME));
    let of_unreadable = record(&unreadable);
    assert_eq!(of_unreadable["flaw"], "unreadable");
    let told = of_unreadable["presented"].as_object().unwrap();
    assert_eq!(told["fingerprint"].as_str().unwrap().len(), 64);
    assert!(["subject", "issuer", "serial"].iter().all(|name| told[*name].is_null()), "{told:?}");
    for record in [of_malformed, of_unreadable] {
        assert_eq!(violations(&schema(), &record), Vec::<String>::new());
    }
}

/// The certificate was valid at first: the records of both times show the same certificate.
#[test]
fn the_record_after_the_end_of_an_identity_has_the_flaw_and_the_certificate() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let (now, life) = (SystemTime::now(), Duration::from_secs(3));
    let credential = proxy.pki().issue(&producer().valid(now - DAY, now + life));
    let mut connection = proxy.client(&credential).connect(proxy.address).unwrap();
    let ask = || connection.get("/events").unwrap().status;
    eventually("the end of the identity", ask, |status| *status == 401);
    let before = proxy.process.audit_where("allowed", |record| record["decision"] == "allowed");
    assert_eq!((&before["presented"], &before["flaw"]), (&Value::Null, &Value::Null));
    let after = proxy.process.audit_where("refused", |record| record["status"] == 401);
    assert_eq!((&after["presented"], &after["flaw"]), (&presented(&credential), &json!("expired")));
    assert_eq!(after["presented"]["fingerprint"], before["identity"]["fingerprint"][0]);
}

#[test]
fn a_request_without_a_certificate_has_no_flaw() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    proxy.anonymous().connect(proxy.address).unwrap().get("/events").unwrap();
    let record = proxy.process.audit_where("a refusal", |record| record["status"] == 401);
    assert_eq!((&record["presented"], &record["flaw"]), (&Value::Null, &Value::Null));
    assert_eq!(proxy.admin.metrics().value("sidegate_invalid_certificates_total"), 0.0);
}

/// The runbook says of each flaw what causes it.
#[test]
fn every_flaw_is_in_the_runbook() {
    let runbook = include_str!("../../deploy/RUNBOOK.md");
    for flaw in Flaw::NAMES {
        assert!(runbook.contains(&format!("\n| `{flaw}` | ")), "{flaw}");
    }
}

/// Characters that JSON may hold as they are, and that a screen obeys or does not show.
const ODD: &str = "\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}\u{200b}\u{e0001}\r\n\t\"\\";

/// Returns a leaf with all that a record could have to hold: some 40 KB of names.
fn huge() -> Leaf {
    let odd = ODD.repeat(40);
    producer().with(|params| {
        params.distinguished_name.push(DnType::CommonName, odd.repeat(6));
        for (name, part) in [
            (DnType::OrganizationName, "o"),
            (DnType::OrganizationalUnitName, "u"),
            (DnType::LocalityName, "l"),
        ] {
            params.distinguished_name.push(name, format!("{part}{odd}"));
        }
        for number in 0..200 {
            let name = format!("n{number}.{}.example", "d".repeat(60));
            params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
            let email = format!("{}@{number}.example", "e".repeat(50));
            params.subject_alt_names.truncate(250);
            params.subject_alt_names.push(SanType::Rfc822Name(email.try_into().unwrap()));
        }
        params.subject_alt_names.truncate(250);
    })
}

/// Returns true if a screen shows everything of a line as it is.
fn is_plain(line: &str) -> bool {
    let odd = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
    };
    !line.chars().any(odd)
}

#[test]
fn no_certificate_and_no_request_makes_a_record_long_or_unreadable() {
    let backend = Backend::ok();
    let names: Vec<String> = (0..40).map(|number| format!("{}{number}", "entry".repeat(20))).collect();
    let entries: String = names
        .iter()
        .map(|name| {
            format!("  - name: {name}\n    match: {{ uri: \"spiffe://shop.example/ns/orders/sa/*\" }}\n    permissions: [everything]\n")
        })
        .collect();
    let policy = format!("version: 1\npermissions:\n  everything: [\"* /**\"]\nclients:\n{entries}");
    let setup = Setup::new(&backend.url()).set("log.audit_query", true).policy(&policy);
    let mut proxy = setup.start();
    let unknown = sidegate::demo::pki::Authority::root("Unknown").unwrap();
    let target = format!("/{}?{}", "p".repeat(5000), "q".repeat(5000));
    for (credential, status) in [(proxy.pki().issue(&huge()), 200), (unknown.issue(&huge()).unwrap(), 401)] {
        assert!(credential.chain[0].len() > 20_000);
        let mut connection = proxy.client(&credential).connect(proxy.address).unwrap();
        assert_eq!(connection.get(&target).unwrap().status, status);
        let line = proxy.process.line();
        assert!(line.len() < 8 * 1024, "{} bytes", line.len());
        assert!(is_plain(&line), "{line}");
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(violations(&schema(), &record), Vec::<String>::new());
        let start = |field: &Value, start: &str| {
            let text = field.as_str().unwrap();
            assert!(text.starts_with(start) && text.ends_with('…'), "{text}");
        };
        start(&record["path"], "/ppp");
        start(&record["query"], "qqq");
        match status {
            200 => {
                let identity = &record["identity"];
                start(&record["client"], "");
                assert!(identity.to_string().len() <= 4 * 1024, "{}", identity.to_string().len());
                assert_eq!(identity["uri"], json!(["spiffe://shop.example/ns/orders/sa/producer"]));
                assert_eq!(identity["fingerprint"][0].as_str().unwrap().len(), 64);
                for list in [&identity["dns"], &identity["email"], &record["grants"]] {
                    assert_eq!(
                        list.as_array().unwrap().last(),
                        Some(&json!("…")),
                        "what is left out is marked"
                    );
                }
            }
            _ => start(&record["presented"]["subject"], ""),
        }
        // The same certificate in the views of the admin listener.
        for path in ["/connections", "/status", "/api/now", "/api/refusals"] {
            let text = proxy.admin.get(path).text();
            assert!(is_plain(&text.replace('\n', "")), "{path}");
            assert!(text.len() < 64 * 1024, "{path}: {} bytes", text.len());
        }
        // A tool that reads records does not judge what is not whole.
        fs::write(proxy.setup.path("audit.log"), &line).unwrap();
        let policy = proxy.setup.path("policy.yaml");
        let replayed = crate::support::proxy::run(&[
            "policy",
            "replay",
            proxy.setup.path("audit.log").to_str().unwrap(),
            "--policy",
            policy.to_str().unwrap(),
        ]);
        assert_eq!(replayed.stdout, "decisions: 0 unchanged, 0 changed", "{replayed:?}");
    }
}
