//! Revocation: a revoked certificate is refused, and so is a certificate whose revocation status is unknown (DESIGN §2.1;
//! cases 6 to 9 of `tests/attacks/README.md`). Most tests call the library, where time is an argument; the others run the
//! proxy.

use std::fs;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, CustomExtension,
    KeyUsagePurpose, PKCS_RSA_SHA256, SerialNumber,
};
use sidegate::demo::pki::{self, Authority, Credential, Leaf, pem};
use sidegate::diagnostic::Diagnostic;
use sidegate::identity::{
    Authenticated, EkuPolicy, Flaw, MissingCrl, Trust, TrustFile, TrustSources, Unauthenticated, judge,
};

use crate::support::admin::Admin;
use crate::support::certificates::{DAY, crl_of_fields, crl_with_extension, elements, producer, tlv};
use crate::support::proxy::Process;
use crate::support::{Backend, Proxy, Setup};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn sources(authorities: &[&Authority], crls: &[(&str, Vec<u8>)]) -> TrustSources {
    let pem: String = authorities.iter().map(|ca| pem("CERTIFICATE", ca.certificate())).collect();
    let file = |(name, bytes): &(&str, Vec<u8>)| TrustFile {
        name: (*name).to_owned(),
        bytes: bytes.clone(),
        place: None,
    };
    TrustSources {
        crls: Some(crls.iter().map(file).collect()),
        ..TrustSources::from_authorities("client-ca.crt", pem.as_bytes(), EkuPolicy::ClientAuthIfPresent)
    }
}

#[track_caller]
fn built(sources: &TrustSources) -> (Trust, Vec<Diagnostic>) {
    Trust::build(sources, Timestamp::now()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn verdict_at(trust: &Trust, credential: &Credential, now: Timestamp) -> Result<Authenticated, Flaw> {
    judge(&credential.chain, trust, now).map_err(|reason| match reason {
        Unauthenticated::Invalid(flaw) => flaw,
        Unauthenticated::NoCertificate => unreachable!(),
    })
}

#[track_caller]
fn assert_flaw(trust: &Trust, credential: &Credential, flaw: &Flaw) {
    assert_eq!(verdict_at(trust, credential, Timestamp::now()).map(|_| ()), Err(flaw.clone()));
}

#[track_caller]
fn assert_good(trust: &Trust, credential: &Credential) -> Authenticated {
    verdict_at(trust, credential, Timestamp::now()).unwrap_or_else(|flaw| panic!("{flaw}"))
}

/// Checks that the sources are refused with a diagnostic of this code, this text and a help.
#[track_caller]
fn assert_refused(sources: &TrustSources, code: &str, part: &str) {
    let problems = Trust::build(sources, Timestamp::now()).map(|_| ()).unwrap_err();
    let found = problems.iter().find(|problem| problem.code.name() == code && problem.message.contains(part));
    assert!(
        found.is_some_and(|problem| problem.help.is_some()),
        "`{code}: …{part}…` is not in {problems:#?}"
    );
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&str> {
    diagnostics.iter().map(|diagnostic| diagnostic.code.name()).collect()
}

fn issue(ca: &Authority) -> Credential {
    ca.issue(&producer()).unwrap()
}

/// Returns a client certificate with CRL distribution points, each with one URI.
fn at_points(uris: &[&str]) -> Leaf {
    let point = |uri: &&str| {
        // DistributionPoint { [0] { [0] { [6] uri } } }
        let name = tlv(0xa0, &tlv(0xa0, &tlv(0x86, uri.as_bytes())));
        tlv(0x30, &name)
    };
    let points = tlv(0x30, &uris.iter().map(point).collect::<Vec<_>>().concat());
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 31], points);
    producer().with(|params: &mut CertificateParams| params.custom_extensions.push(extension))
}

fn scoped(uri: &str, scope: Option<CrlScope>) -> Option<CrlIssuingDistributionPoint> {
    let distribution_point = CrlDistributionPoint { uris: vec![uri.to_owned()] };
    Some(CrlIssuingDistributionPoint { distribution_point, scope })
}

#[test]
fn case_6_a_revoked_leaf_or_intermediate_is_refused() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("tls.crl", "crl/");
    let (ca, below) = (&setup.pki.ca, setup.pki.ca.intermediate("below").unwrap());
    let withdrawn = setup.pki.ca.intermediate("withdrawn").unwrap();
    let (kept, lost) = (issue(&below), issue(&below));
    let of_withdrawn = issue(&withdrawn);
    let revoked = setup.pki.issue(&producer());
    fs::create_dir(setup.path("crl")).unwrap();
    let files = [
        ("ca.crl", ca.crl(&[&revoked.chain[0], withdrawn.certificate()], |_| {}).unwrap()),
        ("below.der", below.crl(&[&lost.chain[0]], |_| {}).unwrap()),
        ("withdrawn.pem", pem("X509 CRL", &withdrawn.crl(&[], |_| {}).unwrap()).into_bytes()),
        ("below.crt", pem("CERTIFICATE", below.certificate()).into_bytes()),
        ("withdrawn.cer", withdrawn.certificate().to_vec()),
    ];
    for (name, bytes) in files {
        fs::write(setup.path("crl").join(name), bytes).unwrap();
    }
    let proxy = setup.start();
    let verdict =
        |credential| proxy.client(credential).connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(verdict(&proxy.pki().producer).verdict(), "200");
    assert_eq!(verdict(&kept).verdict(), "200");
    for credential in [&revoked, &lost, &of_withdrawn] {
        let answer = verdict(credential);
        assert_eq!(answer.verdict(), "401 invalid_certificate");
        assert_eq!(answer.json()["detail"], Flaw::Revoked.to_string());
    }
}

#[test]
fn case_7_a_crl_past_its_next_update_refuses_after_the_grace_period() {
    let ca = Authority::root("ca").unwrap();
    let (client, revoked) = (issue(&ca), issue(&ca));
    let crl = ca.crl(&[&revoked.chain[0]], |_| {}).unwrap();
    let mut sources = sources(&[&ca], &[("ca.crl", crl)]);
    for grace in [0, 2] {
        sources.crl_grace = Duration::from_secs(grace * 60 * 60);
        let (trust, _) = built(&sources);
        let next_update = trust.expiries().last().unwrap().until;
        let ends = next_update + HOUR * i32::try_from(grace).unwrap();
        assert_eq!(assert_good(&trust, &client).valid_until, ends, "the verdict ends with the CRL");
        assert!(verdict_at(&trust, &client, ends).is_ok());
        let late = ends + SignedDuration::from_millis(1);
        assert_eq!(verdict_at(&trust, &client, late).map(|_| ()), Err(Flaw::RevocationOutdated));
        assert_eq!(
            verdict_at(&trust, &revoked, late).map(|_| ()),
            Err(Flaw::Revoked),
            "a revocation never ends"
        );
    }
}

#[test]
fn case_7_an_expired_crl_is_loaded_with_a_warning_and_refuses() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("tls.crl", "ca.crl");
    let yesterday = SystemTime::now() - DAY;
    let crl = setup.pki.ca.crl(&[], |crl| {
        crl.this_update = (yesterday - DAY).into();
        crl.next_update = yesterday.into();
    });
    fs::write(setup.path("ca.crl"), crl.unwrap()).unwrap();
    let mut proxy = setup.start();
    let log = proxy.process.log();
    assert!(log.contains("crl-expired") && log.contains("ca.crl"), "{log}");
    let answer = proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(answer.verdict(), "401 invalid_certificate");
    assert_eq!(answer.json()["detail"], Flaw::RevocationOutdated.to_string());
    let mut setup = Setup::new(&backend.url()).set("tls.crl", "ca.crl").set("tls.crl_grace", "48h");
    std::mem::swap(&mut setup.pki, &mut proxy.setup.pki);
    for name in ["ca.crl", "client-ca.crt", "server.crt", "server.key"] {
        fs::copy(proxy.setup.path(name), setup.path(name)).unwrap();
    }
    let proxy = setup.start();
    assert_eq!(proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap().verdict(), "200");
}

/// A CRL of an unknown authority is reported and has no other effect.
#[test]
fn case_7_a_crl_of_an_unknown_authority_is_a_warning() {
    let (ca, other) = (Authority::root("ca").unwrap(), Authority::root("Another authority").unwrap());
    let below = ca.intermediate("below").unwrap();
    let (revoked, good) = (issue(&ca), issue(&ca));
    let own = ("own.crl", ca.crl(&[&revoked.chain[0]], |_| {}).unwrap());
    let strange = ("other.crl", other.crl(&[&good.chain[0]], |_| {}).unwrap());
    let deep = ("below.pem", pem("X509 CRL", &below.crl(&[], |_| {}).unwrap()).into_bytes());
    let (trust, warnings) = built(&sources(&[&ca], &[strange, own, deep]));
    assert_eq!(codes(&warnings), ["crl-of-unknown-ca", "crl-of-unknown-ca"]);
    for (warning, parts) in
        warnings.iter().zip([["other.crl", "CN=Another authority"], ["below.pem", "CN=below"]])
    {
        assert!(parts.iter().all(|part| warning.message.contains(part)), "{warning}");
        assert!(warning.help.as_ref().unwrap().contains("its certificate"), "{warning}");
    }
    assert_good(&trust, &good);
    assert_flaw(&trust, &revoked, &Flaw::Revoked);
    assert_flaw(&trust, &issue(&below), &Flaw::RevocationUnknown);
    assert_flaw(&trust, &issue(&other), &Flaw::UnknownIssuer);
    assert!(!trust.expiries().any(|expiry| expiry.name.contains("Another")), "its expiry is not reported");
}

/// The intermediate of the client has a CRL, which cannot be checked without the certificate of the intermediate.
#[test]
fn case_7_crl_missing_allow_does_not_cover_a_crl_that_cannot_be_checked() {
    let ca = Authority::root("ca").unwrap();
    let (below, silent) = (ca.intermediate("below").unwrap(), ca.intermediate("silent").unwrap());
    let client = issue(&below);
    let own = ("own.crl", ca.crl(&[], |_| {}).unwrap());
    let deep = ("below.crl", below.crl(&[&client.chain[0]], |_| {}).unwrap());
    let mut sources = sources(&[&ca], &[own, deep]);
    sources.crl_missing = MissingCrl::Allow;
    let (trust, warnings) = built(&sources);
    assert_eq!(codes(&warnings), ["crl-of-unknown-ca"]);
    assert_flaw(&trust, &client, &Flaw::RevocationUnknown);
    assert_good(&trust, &issue(&silent));
}

/// A CA has a new key and its old name, and the CRL of the old key is still configured.
#[test]
fn case_7_a_crl_of_another_key_with_a_known_name_is_a_warning() {
    let (new, old) = (Authority::root("ca").unwrap(), Authority::root("ca").unwrap());
    let (client, own) = (issue(&new), ("own.crl", new.crl(&[], |_| {}).unwrap()));
    let left = ("left.crl", old.crl(&[&client.chain[0]], |_| {}).unwrap());
    let (trust, warnings) = built(&sources(&[&new], &[left.clone(), own.clone()]));
    assert_eq!(codes(&warnings), ["crl-of-unknown-ca"]);
    assert!(warnings[0].message.contains("left.crl") && warnings[0].message.contains("another key"));
    assert_good(&trust, &client);
    let mut alone = sources(&[&new], std::slice::from_ref(&left));
    assert_flaw(&built(&alone).0, &client, &Flaw::RevocationUnknown);
    alone.crl_missing = MissingCrl::Allow;
    assert_good(&built(&alone).0, &client);
}

/// Returns a root certificate of the same key and name, without the identifier of its key.
fn without_key_identifier(ca: &Authority) -> Vec<u8> {
    let whole = elements(elements(ca.certificate())[0].1);
    let fields = elements(whole[0].1);
    let extensions = elements(elements(fields.last().unwrap().1)[0].1);
    let identifier = [0x06, 0x03, 0x55, 0x1d, 0x0e];
    let kept: Vec<u8> = extensions
        .iter()
        .filter(|(_, content)| !content.starts_with(&identifier))
        .flat_map(|(whole, _)| *whole)
        .copied()
        .collect();
    let fields: Vec<u8> = fields[..fields.len() - 1].iter().flat_map(|field| field.0).copied().collect();
    let signed = tlv(0x30, &[fields, tlv(0xa3, &tlv(0x30, &kept))].concat());
    let signature = rcgen::SigningKey::sign(ca.issuer().key(), &signed).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    tlv(0x30, &[signed.as_slice(), whole[1].0, &bits].concat())
}

/// Returns a CRL without the identifier of the signing key.
fn without_authority_key_identifier(ca: &Authority) -> Vec<u8> {
    crl_of_fields(ca, |fields| {
        let number =
            tlv(0x30, &[&[0x06, 0x03, 0x55, 0x1d, 0x14][..], &[0x04, 0x03, 0x02, 0x01, 0x01]].concat());
        [&fields[..5].concat(), tlv(0xa0, &tlv(0x30, &number)).as_slice()].concat()
    })
}

/// A CA was replaced by another one of the same name, and its CRL was left behind. If such a CRL refused the files, the
/// removed CA would stay trusted. Without the identifiers of both keys the CRL could also be a damaged CRL of the new CA,
/// so certificates of the CA are refused.
#[test]
fn case_7_a_crl_of_another_key_without_key_identifiers_is_a_warning() {
    let (new, old) = (Authority::root("ca").unwrap(), Authority::root("ca").unwrap());
    let (client, own) = (issue(&new), new.crl(&[], |_| {}).unwrap());
    let (named, bare) = (new.certificate().to_vec(), without_key_identifier(&new));
    for (certificate, left) in [
        (&named, without_authority_key_identifier(&old)),
        (&bare, old.crl(&[&client.chain[0]], |_| {}).unwrap()),
        (&bare, without_authority_key_identifier(&old)),
    ] {
        let with = |crls: &[(&str, Vec<u8>)]| {
            let mut sources = sources(&[&new], crls);
            sources.authorities[0].bytes = pem("CERTIFICATE", certificate).into_bytes();
            sources
        };
        let (trust, warnings) = built(&with(&[("left.crl", left.clone()), ("own.crl", own.clone())]));
        assert_eq!(codes(&warnings), ["crl-of-unknown-ca"]);
        for part in ["left.crl", "CN=ca", "of this name, but signed by another key"] {
            assert!(warnings[0].message.contains(part), "{}", warnings[0]);
        }
        assert_good(&trust, &client);
        assert_flaw(&trust, &issue(&old), &Flaw::BadSignature);
        let mut alone = with(&[("left.crl", left.clone())]);
        for missing in [MissingCrl::Refuse, MissingCrl::Allow] {
            alone.crl_missing = missing;
            assert_flaw(&built(&alone).0, &client, &Flaw::RevocationUnknown);
        }
        assert_refused(&with(&[("cut.crl", left[..left.len() - 9].to_vec())]), "bad-crl", "cut.crl");
    }
}

#[test]
fn case_7_clients_of_an_issuer_without_a_crl_are_refused_unless_crl_missing_allows_them() {
    let (first, second) = (Authority::root("first").unwrap(), Authority::root("second").unwrap());
    let below = first.intermediate("below").unwrap();
    let crl = first.crl(&[], |_| {}).unwrap();
    let mut sources = sources(&[&first, &second], &[("first.crl", crl)]);
    let (trust, warnings) = built(&sources);
    assert_eq!(codes(&warnings), ["crl-missing"]);
    assert!(warnings[0].message.contains("CN=second"), "{}", warnings[0]);
    assert_good(&trust, &issue(&first));
    assert_flaw(&trust, &issue(&second), &Flaw::RevocationUnknown);
    assert_flaw(&trust, &issue(&below), &Flaw::RevocationUnknown);
    sources.crl_missing = MissingCrl::Allow;
    let (trust, warnings) = built(&sources);
    assert!(warnings.is_empty(), "{warnings:?}");
    for ca in [&first, &second, &below] {
        assert_good(&trust, &issue(ca));
    }
}

#[test]
fn crl_missing_allow_does_not_cover_a_configured_crl() {
    let ca = Authority::root("ca").unwrap();
    let shard = ca.crl(&[], |crl| crl.issuing_distribution_point = scoped("http://crl/1", None)).unwrap();
    let mut sources = sources(&[&ca], &[("ca.crl", shard)]);
    sources.crl_missing = MissingCrl::Allow;
    let (trust, _) = built(&sources);
    assert_good(&trust, &ca.issue(&at_points(&["http://crl/1"])).unwrap());
    let elsewhere = ca.issue(&at_points(&["http://crl/2"])).unwrap();
    assert_flaw(&trust, &elsewhere, &Flaw::RevocationUnknown);
    let late = trust.expiries().last().unwrap().until + HOUR;
    let covered = ca.issue(&at_points(&["http://crl/1"])).unwrap();
    assert_eq!(verdict_at(&trust, &covered, late).map(|_| ()), Err(Flaw::RevocationOutdated));
}

#[test]
fn case_8_every_crl_whose_scope_includes_a_certificate_counts() {
    let ca = Authority::root("ca").unwrap();
    let points = ["http://crl/1", "http://crl/2"];
    let revoked = ca.issue(&at_points(&points)).unwrap();
    let good = ca.issue(&at_points(&points)).unwrap();
    let without = ca.issue(&producer()).unwrap();
    let shard = |uri, lists: &[&Credential]| {
        let lists: Vec<_> = lists.iter().map(|credential| &credential.chain[0]).collect();
        ca.crl(&lists, |crl| crl.issuing_distribution_point = scoped(uri, None)).unwrap()
    };
    for order in [[0, 1], [1, 0]] {
        let mut files =
            [("1.crl", shard(points[0], &[])), ("2.crl", shard(points[1], &[&revoked, &without]))].map(Some);
        let files = order.map(|index| files[index].take().unwrap());
        let (trust, _) = built(&sources(&[&ca], &files));
        assert_flaw(&trust, &revoked, &Flaw::Revoked);
        assert_flaw(&trust, &without, &Flaw::Revoked);
        assert_good(&trust, &good);
    }
}

#[test]
fn a_crl_for_one_kind_of_certificate_does_not_cover_another_kind() {
    let ca = Authority::root("ca").unwrap();
    let below = ca.intermediate("below").unwrap();
    let (leaf, deep) = (issue(&ca), issue(&below));
    let of = |scope| ca.crl(&[], |crl| crl.issuing_distribution_point = scoped("http://crl", scope)).unwrap();
    let beside = [pem("CERTIFICATE", below.certificate()), pem("X509 CRL", &below.crl(&[], |_| {}).unwrap())];
    let beside = ("below.pem", beside.concat().into_bytes());
    let users = ("users.crl", of(Some(CrlScope::UserCertsOnly)));
    let authorities = ("authorities.crl", of(Some(CrlScope::CaCertsOnly)));
    let (trust, _) = built(&sources(&[&ca], &[users.clone(), beside.clone()]));
    assert_good(&trust, &leaf);
    assert_flaw(&trust, &deep, &Flaw::RevocationUnknown);
    let (trust, _) = built(&sources(&[&ca], &[authorities.clone(), beside.clone()]));
    assert_flaw(&trust, &leaf, &Flaw::RevocationUnknown);
    assert_good(&trust, &deep);
    let (trust, _) = built(&sources(&[&ca], &[users, authorities, beside]));
    assert_good(&trust, &leaf);
    assert_good(&trust, &deep);
}

#[test]
fn case_9_an_incomplete_crl_or_one_with_a_bad_bit_string_is_refused_without_a_panic() {
    let ca = Authority::root("ca").unwrap();
    // IssuingDistributionPoint { [0] { [0] { [6] uri } }, [3] reasons }
    let name = tlv(0xa0, &tlv(0xa0, &tlv(0x86, b"http://crl")));
    for reasons in [&[][..], &[0], &[7], &[9, 0], &[0, 0]] {
        let point = tlv(0x30, &[&name, tlv(0x83, reasons).as_slice()].concat());
        assert_refused(
            &sources(&[&ca], &[("a.crl", crl_with_extension(&ca, 28, &point))]),
            "bad-crl",
            "a.crl",
        );
    }
    let whole = ca.crl(&[&issue(&ca).chain[0]], |_| {}).unwrap();
    for length in 0..whole.len() {
        let cut = sources(&[&ca], &[("cut.crl", whole[..length].to_vec())]);
        assert!(Trust::build(&cut, Timestamp::now()).is_err(), "{length} bytes");
    }
    let text = pem("X509 CRL", &whole);
    for length in [0, 10, text.len() / 2, text.len() - 10] {
        let cut = sources(&[&ca], &[("cut.pem", text.as_bytes()[..length].to_vec())]);
        assert!(Trust::build(&cut, Timestamp::now()).is_err(), "{length} characters");
    }
}

#[test]
fn a_crl_is_accepted_by_its_signature_and_not_by_its_name() {
    let (ca, namesake) = (Authority::root("ca").unwrap(), Authority::root("ca").unwrap());
    let (client, other) = (issue(&ca), issue(&namesake));
    let forged = ("forged.crl", namesake.crl(&[], |_| {}).unwrap());
    let mut bytes = ca.crl(&[], |_| {}).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    assert_refused(&sources(&[&ca], &[("flipped.crl", bytes)]), "crl-signature", "wrong signature");
    // Two authorities of one name, as in a change of keys: each has a CRL of its own.
    let own = ("own.crl", ca.crl(&[&client.chain[0]], |_| {}).unwrap());
    let (trust, warnings) = built(&sources(&[&ca, &namesake], &[own.clone(), forged]));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_flaw(&trust, &client, &Flaw::Revoked);
    assert_good(&trust, &other);
    let (trust, _) = built(&sources(&[&ca, &namesake], &[own]));
    assert_flaw(&trust, &other, &Flaw::RevocationUnknown);
}

#[test]
fn a_crl_of_an_authority_that_may_not_sign_crls_is_refused() {
    let root = Authority::root("root").unwrap();
    let mut silent = pki::authority("silent");
    silent.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let silent = root.intermediate_of(silent).unwrap();
    // rcgen refuses to make such a CRL. So the root signs a CRL, and then the name and the signature are replaced by those of
    // the other.
    let crl = crl_of_fields(&root, |fields| {
        let name = elements(elements(elements(silent.certificate())[0].1)[0].1)[5].0;
        [fields[0], fields[1], name, fields[3], fields[4], fields[5]].concat()
    });
    let outer = elements(elements(&crl)[0].1);
    let signature = rcgen::SigningKey::sign(silent.issuer().key(), outer[0].0).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    let crl = tlv(0x30, &[outer[0].0, outer[1].0, &bits].concat());
    assert_refused(&sources(&[&root, &silent], &[("silent.crl", crl)]), "crl-signature", "keyUsage");
}

#[test]
fn an_unsupported_crl_is_refused_with_its_kind() {
    let ca = Authority::root("ca").unwrap();
    let point = |field: &[u8]| {
        let name = tlv(0xa0, &tlv(0xa0, &tlv(0x86, b"http://crl")));
        tlv(0x30, &[name.as_slice(), field].concat())
    };
    let version_1 = crl_of_fields(&ca, |fields| fields[1..5].concat());
    let no_next_update = crl_of_fields(&ca, |fields| [&fields[..4], &fields[5..]].concat().concat());
    for (crl, what) in [
        (crl_with_extension(&ca, 27, &[2, 1, 1]), "delta CRL"),
        (crl_with_extension(&ca, 28, &point(&[0x84, 1, 0xff])), "indirect CRL"),
        (crl_with_extension(&ca, 28, &point(&[0x83, 2, 1, 0x40])), "some reasons"),
        (crl_with_extension(&ca, 28, &tlv(0x30, &[0x81, 1, 0xff])), "distribution point"),
        (crl_with_extension(&ca, 99, &[5, 0]), "critical extension"),
        (version_1, "version 1"),
        (no_next_update, "nextUpdate"),
        (b"0 is how this text begins, as DER does".to_vec(), "no CRL in"),
        (b"nothing".to_vec(), "no CRL in"),
        (pem("X509 CRL", b"nothing").into_bytes(), "not a readable CRL"),
        (ca.certificate().to_vec(), ""),
    ] {
        if what.is_empty() {
            let (_, warnings) = built(&sources(&[&ca], &[("odd.crl", crl)]));
            assert_eq!(
                codes(&warnings),
                ["crl-missing"],
                "the certificate of a client CA beside the CRLs is allowed"
            );
        } else {
            assert_refused(&sources(&[&ca], &[("odd.crl", crl)]), "bad-crl", what);
        }
    }
}

#[test]
fn every_problem_is_reported_at_once_with_its_file() {
    let ca = Authority::root("ca").unwrap();
    let files = [
        ("good.crl", ca.crl(&[], |_| {}).unwrap()),
        ("delta.crl", crl_with_extension(&ca, 27, &[2, 1, 1])),
        ("stranger.crl", Authority::root("stranger").unwrap().crl(&[], |_| {}).unwrap()),
        ("none.pem", Vec::new()),
    ];
    let problems = Trust::build(&sources(&[&ca], &files), Timestamp::now()).map(|_| ()).unwrap_err();
    let text: String =
        problems.iter().map(|problem| problem.human(sidegate::diagnostic::Colour::Never)).collect();
    for file in ["delta.crl", "stranger.crl", "none.pem"] {
        assert!(text.contains(file), "{file}: {text}");
    }
    assert!(!text.contains("good.crl"), "{text}");
}

#[test]
fn the_newest_crl_of_an_issuer_counts_and_an_older_one_is_reported() {
    let ca = Authority::root("ca").unwrap();
    let (client, revoked) = (issue(&ca), issue(&ca));
    let older = ca.crl(&[&client.chain[0]], |crl| crl.this_update = (SystemTime::now() - 2 * DAY).into());
    let newer = ca.crl(&[&revoked.chain[0]], |_| {});
    let (older, newer) = (("older.crl", older.unwrap()), ("newer.crl", newer.unwrap()));
    for files in [[older.clone(), newer.clone()], [newer, older]] {
        let (trust, warnings) = built(&sources(&[&ca], &files));
        assert_eq!(codes(&warnings), ["crl-superseded"]);
        assert!(warnings[0].message.contains("older.crl"), "{}", warnings[0]);
        assert_good(&trust, &client);
        assert_flaw(&trust, &revoked, &Flaw::Revoked);
    }
}

#[test]
fn a_client_ca_that_a_crl_revokes_is_not_trusted() {
    let root = Authority::root("root").unwrap();
    let below = root.intermediate("below").unwrap();
    let crls = [pem("X509 CRL", &root.crl(&[below.certificate()], |_| {}).unwrap())];
    let crls = [crls.concat(), pem("X509 CRL", &below.crl(&[], |_| {}).unwrap())].concat();
    // The intermediate is trusted directly; the certificate of its root is only needed to check its CRL.
    let beside = [crls, pem("CERTIFICATE", root.certificate())].concat().into_bytes();
    let (trust, warnings) = built(&sources(&[&below], &[("all.pem", beside)]));
    assert_eq!(codes(&warnings), ["ca-revoked"]);
    assert_flaw(&trust, &issue(&below), &Flaw::Revoked);
}

#[test]
fn an_unused_certificate_beside_the_crls_is_reported() {
    let (ca, stranger) = (Authority::root("ca").unwrap(), Authority::root("stranger").unwrap());
    let text =
        [pem("X509 CRL", &ca.crl(&[], |_| {}).unwrap()), pem("CERTIFICATE", stranger.certificate())].concat();
    let (trust, warnings) = built(&sources(&[&ca], &[("all.pem", text.into_bytes())]));
    assert_eq!(codes(&warnings), ["unused-certificate"]);
    assert_good(&trust, &issue(&ca));
    assert_flaw(&trust, &issue(&stranger), &Flaw::UnknownIssuer);
}

#[test]
fn serial_numbers_are_compared_byte_by_byte() {
    let ca = Authority::root("ca").unwrap();
    for serial in [&[1][..], &[0x7f], &[0x80], &[1, 0], &[0xff; 20], &[0x7f; 20]] {
        let numbered =
            || producer().with(|params| params.serial_number = Some(SerialNumber::from_slice(serial)));
        let (revoked, other) = (ca.issue(&numbered()).unwrap(), issue(&ca));
        let (trust, _) =
            built(&sources(&[&ca], &[("ca.crl", ca.crl(&[&revoked.chain[0]], |_| {}).unwrap())]));
        assert_flaw(&trust, &revoked, &Flaw::Revoked);
        assert_good(&trust, &other);
    }
    let rsa = ca.issue(&producer().key(&PKCS_RSA_SHA256)).unwrap();
    let (trust, _) = built(&sources(&[&ca], &[("ca.crl", ca.crl(&[&rsa.chain[0]], |_| {}).unwrap())]));
    assert_flaw(&trust, &rsa, &Flaw::Revoked);
}

#[test]
fn every_expiry_is_reported_with_its_file() {
    let ca = Authority::root("ca").unwrap();
    let (trust, _) = built(&sources(&[&ca], &[("ca.crl", ca.crl(&[], |_| {}).unwrap())]));
    let reported: Vec<_> =
        trust.expiries().map(|expiry| (expiry.kind.name(), expiry.file, expiry.name)).collect();
    let name = || "CN=ca".to_owned();
    assert_eq!(reported, [("ca", "client-ca.crt".to_owned(), name()), ("crl", "ca.crl".to_owned(), name())]);
    let crl = trust.expiries().last().unwrap();
    assert_eq!(crl.warn_from(), crl.until - HOUR * 5, "a CRL of 25 hours is renewed within the day");
    assert!(crl.warning(crl.warn_from() - HOUR).is_none());
    assert_eq!(crl.warning(crl.warn_from()).unwrap().code.name(), "expiry");
    assert_eq!(crl.warning(crl.until + HOUR).unwrap().code.name(), "crl-expired");
    let ca = trust.expiries().next().unwrap();
    assert_eq!(ca.warn_from(), ca.until - HOUR * 24 * 18, "a fifth of three months comes before 30 days");
}

#[test]
fn metrics_show_the_remaining_time_of_certificates_and_crls() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("tls.crl", "ca.crl");
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    let proxy = setup.start();
    let text = proxy.admin.get("/metrics").text();
    let seconds = |metric: &str, kind: &str, file: &str| -> i64 {
        let labels = format!("{{kind=\"{kind}\",file=\"{}\"}} ", proxy.setup.path(file).display());
        let line = text.lines().find_map(|line| {
            line.strip_prefix("sidegate_certificate_")?.strip_prefix(metric)?.strip_prefix(labels.as_str())
        });
        line.unwrap_or_else(|| panic!("{labels}: {text}")).parse().unwrap()
    };
    let left = |kind: &str, file: &str| seconds("expiry_seconds", kind, file);
    let notice = |kind: &str, file: &str| seconds("notice_seconds", kind, file);
    let day = 24 * 60 * 60;
    assert_eq!(notice("crl", "ca.crl"), 5 * 60 * 60, "a fifth of 25 hours");
    assert_eq!(notice("server", "server.crt"), 6 * day + 720, "a fifth of 30 days and the hour before them");
    assert!((day - 60..=day).contains(&left("crl", "ca.crl")));
    assert!((30 * day - 60..=30 * day).contains(&left("server", "server.crt")));
    assert!((60 * day - 60..=60 * day).contains(&left("ca", "client-ca.crt")));
}

#[test]
fn an_empty_folder_or_a_missing_file_is_refused() {
    let setup = Setup::new("http://127.0.0.1:9").set("tls.crl", "crl/");
    let error_of = |setup: &Setup| {
        let finished = setup.run();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        finished.stderr
    };
    assert!(error_of(&setup).contains("cannot read"));
    fs::create_dir(setup.path("crl")).unwrap();
    fs::write(setup.path("crl").join("README"), "").unwrap();
    assert!(error_of(&setup).contains("there is no CRL in the folder"));
    let setup = setup.set("tls.crl_missing", "perhaps");
    assert!(error_of(&setup).contains("`refuse`"));
}

#[test]
fn without_the_setting_no_revocation_is_checked() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let client = issue(&proxy.pki().ca.intermediate("below").unwrap());
    let answer = proxy.client(&client).connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(answer.verdict(), "200");
}

/// A warning at the start is reported like a warning of a reload: in `/status`, on the page until it is corrected, and in
/// the log.
#[test]
fn warnings_at_the_start_are_in_the_status_and_in_the_log() {
    let backend = Backend::ok();
    for format in ["json", "text"] {
        let setup = Setup::new(&backend.url()).set("tls.crl", "crl/").set("log.format", format);
        fs::create_dir(setup.path("crl")).unwrap();
        fs::write(setup.path("crl/ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
        let removed = Authority::root("removed").unwrap();
        fs::write(setup.path("crl/removed.crl"), removed.crl(&[], |_| {}).unwrap()).unwrap();
        if format == "text" {
            let mut process = Process::spawn(&["run", "--config", setup.write().to_str().unwrap()]);
            let line = process.log_with(" WARN ");
            assert!(line.contains("crl-of-unknown-ca") && line.contains("removed.crl"), "{line}");
            continue;
        }
        let mut process = Process::spawn(&["run", "--config", setup.write().to_str().unwrap()]);
        let line = process.log_where("the warning", |line| line["code"] == "crl-of-unknown-ca");
        assert_eq!((&line["level"], &line["part"]), (&"WARN".into(), &"client_trust".into()), "{line}");
        let ready = process.log_where("ready", |line| line["message"] == "ready");
        let admin = Admin { address: ready["admin"].as_str().unwrap().parse().unwrap() };
        let state = |admin: Admin| {
            let part = &admin.status()["reload"]["parts"]["client_trust"];
            let codes: Vec<_> = part["diagnostics"]
                .as_array()
                .unwrap()
                .iter()
                .map(|diagnostic| diagnostic["code"].clone())
                .collect();
            (part["success"].clone(), codes)
        };
        assert_eq!(state(admin), (true.into(), vec!["crl-of-unknown-ca".into()]));
        assert!(admin.get("/api/trust").text().contains("crl-of-unknown-ca"));
        fs::remove_file(setup.path("crl/removed.crl")).unwrap();
        admin.reload();
        assert_eq!(state(admin), (true.into(), Vec::new()));
    }
}
