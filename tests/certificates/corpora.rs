//! Public collections of unusual certificates, C2SP/x509-limbo and Netflix' BetterTLS: no certificate is accepted that must be
//! refused, no certificate causes a panic, and every needless refusal is listed here with its reason.
//!
//! The collections are not part of the repository; the tests look for them in `../shared/certcases` and skip without them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use sidegate::demo::pki::Credential;
use sidegate::identity::{EkuPolicy, Trust, TrustFile, TrustSources, Unauthenticated, judge};

use crate::support::proxy::run;
use crate::support::{Backend, Proxy, Setup};

/// Certificates that are valid by the collections and refused by Sidegate, each with the reason.
const NEEDLESS_REFUSALS: &[(&str, &str)] = &[
    ("limbo/rfc5280::nc::nc-permits-email-domain", EMAIL),
    ("limbo/rfc5280::nc::nc-permits-email-exact", EMAIL),
    ("limbo/rfc5280::nc::nc-permits-email-literal-asterisk-exact-match", EMAIL),
    ("limbo/rfc5280::nc::nc-permits-email-literal-double-asterisk", EMAIL),
    ("limbo/rfc5280::nc::nc-permits-email-literal-mid-asterisk", EMAIL),
];
const EMAIL: &str = "webpki refuses an e-mail name below any name constraint on e-mail names";

struct CorpusCase {
    id: String,
    roots: String,
    chain: Vec<CertificateDer<'static>>,
    chain_text: String,
    key: Option<PrivateKeyDer<'static>>,
    at: Option<Timestamp>,
    crls: String,
    expect: String,
}

impl CorpusCase {
    fn read(value: &Value) -> Self {
        let text = |key: &str| -> String {
            let parts = value[key].as_array().unwrap();
            parts.iter().map(|part| format!("{}\n", part.as_str().unwrap().trim_end())).collect()
        };
        let chain_text = text("chain");
        let chain = CertificateDer::pem_slice_iter(chain_text.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = value["key"].as_str().and_then(|key| PrivateKeyDer::from_pem_slice(key.as_bytes()).ok());
        #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970, written as 1704067200.0")]
        let at = value["time"].as_f64().map(|seconds| Timestamp::from_second(seconds as i64).unwrap());
        Self {
            id: value["id"].as_str().unwrap().to_owned(),
            roots: text("roots"),
            chain,
            chain_text,
            key,
            at,
            crls: text("crls"),
            expect: value["expect"].as_str().unwrap().to_owned(),
        }
    }

    fn sources(&self) -> TrustSources {
        let crl = TrustFile { name: "crl.pem".to_owned(), bytes: self.crls.clone().into(), place: None };
        TrustSources {
            crls: (!self.crls.is_empty()).then(|| vec![crl]),
            ..TrustSources::from_authorities(
                "roots.pem",
                self.roots.as_bytes(),
                EkuPolicy::ClientAuthIfPresent,
            )
        }
    }

    /// Returns the verdict of the library: `valid`, the name of the flaw, or the refusal of the configuration.
    fn verdict(&self) -> String {
        let now = self.at.unwrap_or_else(Timestamp::now);
        match Trust::build(&self.sources(), now) {
            Err(problems) => format!("configuration refused: {}", problems[0].message),
            Ok((trust, _)) => match judge(&self.chain, &trust, now) {
                Ok(_) => "valid".to_owned(),
                Err(Unauthenticated::Invalid(flaw)) => flaw.name().to_owned(),
                Err(Unauthenticated::NoCertificate) => "no certificate".to_owned(),
            },
        }
    }

    /// Returns the verdict of the command: `valid`, the name of the flaw, or the refusal of the configuration.
    fn verdict_of_the_command(&self, folder: &Path) -> String {
        let file = |name: &str, text: &str| -> String {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name).display().to_string()
        };
        let mut arguments = vec!["cert".to_owned(), file("chain.pem", &self.chain_text)];
        arguments.extend(["--ca".to_owned(), file("roots.pem", &self.roots)]);
        if !self.crls.is_empty() {
            arguments.extend(["--crl".to_owned(), file("crl.pem", &self.crls)]);
        }
        let at = self.at.map(|at| format!("@{}", at.as_second()));
        arguments.extend(at.into_iter().flat_map(|at| ["--at".to_owned(), at]));
        arguments.extend(["--format".to_owned(), "json".to_owned()]);
        let finished = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        match finished.code {
            Some(0 | 1) => {
                let json: Value = serde_json::from_str(&finished.stdout).unwrap();
                assert_eq!(json["verdict"] == "valid", finished.code == Some(0), "{}: {finished:?}", self.id);
                json["reason"].as_str().unwrap_or("valid").to_owned()
            }
            Some(2) => "configuration refused".to_owned(),
            _ => panic!("{}: {finished:?}", self.id),
        }
    }

    fn is_needless_refusal(&self) -> bool {
        NEEDLESS_REFUSALS.iter().any(|(id, _)| *id == self.id)
    }
}

fn cases(name: &str) -> Option<Vec<CorpusCase>> {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/certcases")
        .join(name)
        .with_extension("json.gz");
    if !file.exists() {
        eprintln!("skipped: {} is not there", file.display());
        return None;
    }
    let output = Command::new("gzip").arg("-dc").arg(&file).output().unwrap();
    let corpus: Value = serde_json::from_slice(&output.stdout).unwrap();
    Some(corpus["cases"].as_array().unwrap().iter().map(CorpusCase::read).collect())
}

/// Compares the verdicts with the expected ones, and prints the score.
#[track_caller]
fn assert_expected(what: &str, verdicts: &[(&CorpusCase, String)]) {
    let mut wrong = Vec::new();
    let mut passed = 0;
    for (case, verdict) in verdicts {
        let accepted = verdict == "valid";
        match case.expect.as_str() {
            "reject" if accepted => wrong.push(format!("falsely accepted: {}", case.id)),
            "accept" if !accepted && !case.is_needless_refusal() => {
                wrong.push(format!("falsely refused: {} ({verdict})", case.id));
            }
            "accept" if accepted && case.is_needless_refusal() => {
                wrong.push(format!("accepted now, so it must leave the list: {}", case.id));
            }
            "accept" if !accepted => {}
            _ => passed += 1,
        }
    }
    eprintln!("{what}: {passed} of {} as expected", verdicts.len());
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn the_judgement_and_the_command_agree_with_the_corpora() {
    for corpus in ["limbo", "bettertls"] {
        let Some(cases) = cases(corpus) else { return };
        let verdicts: Vec<_> = cases.iter().map(|case| (case, case.verdict())).collect();
        assert_expected(corpus, &verdicts);
        let folder = tempfile::tempdir().unwrap();
        for (case, verdict) in &verdicts {
            let of_command = case.verdict_of_the_command(folder.path());
            assert!(
                verdict.starts_with(&of_command),
                "{}: `sidegate cert` says {of_command}, the library {verdict}",
                case.id
            );
        }
    }
}

#[test]
fn a_live_proxy_agrees_with_the_corpora() {
    const ANYONE: &str = r#"version: 1
permissions: { everything: ["* /**"] }
clients: [{ name: anyone, match: { any: true }, permissions: [everything] }]
"#;
    let backend = Backend::ok();
    for corpus in ["limbo", "bettertls"] {
        let Some(cases) = cases(corpus) else { return };
        let now: Vec<&CorpusCase> =
            cases.iter().filter(|case| case.at.is_none() && case.key.is_some()).collect();
        // Each bundle of roots has its own proxy, because the roots of one case could make another case valid.
        let mut by_trust: BTreeMap<(&str, &str), Vec<&CorpusCase>> = BTreeMap::new();
        for case in &now {
            by_trust.entry((&case.roots, &case.crls)).or_default().push(case);
        }
        let mut verdicts = Vec::new();
        let mut unusable = BTreeSet::new();
        for ((roots, crls), cases) in by_trust {
            let mut setup = Setup::new(&backend.url()).policy(ANYONE);
            fs::write(setup.path("client-ca.crt"), roots).unwrap();
            if !crls.is_empty() {
                fs::write(setup.path("crl.pem"), crls).unwrap();
                setup = setup.set("tls.crl", "crl.pem");
            }
            if cases[0].verdict().starts_with("configuration refused") {
                assert_eq!(setup.run().code, Some(2), "{}", cases[0].id);
                verdicts.extend(cases.iter().map(|case| (*case, "configuration refused".to_owned())));
                continue;
            }
            let proxy = setup.start();
            for case in cases {
                match presented(case, &proxy) {
                    Some(verdict) => verdicts.push((case, verdict)),
                    None => _ = unusable.insert(&case.id),
                }
            }
            assert_eq!(proxy.admin.get("/livez").status, 200);
        }
        if !unusable.is_empty() {
            eprintln!("{corpus}: the test client cannot sign with the keys of {unusable:?}");
        }
        assert_expected(&format!("{corpus}, live"), &verdicts);
    }
}

/// Returns the answer of the proxy to a client with this certificate; `None` if rustls cannot use the key.
fn presented(case: &CorpusCase, proxy: &Proxy) -> Option<String> {
    let key = case.key.as_ref().unwrap();
    default_provider().key_provider.load_private_key(key.clone_key()).ok()?;
    let credential = Credential { chain: case.chain.clone(), key: key.clone_key() };
    let answer =
        proxy.client(&credential).connect(proxy.address).and_then(|mut connection| connection.get("/events"));
    Some(match answer {
        Ok(answer) if answer.status == 200 => "valid".to_owned(),
        Ok(answer) => answer.verdict(),
        Err(error) => format!("no answer: {error}"),
    })
}
