//! Certificates that a client presents beside its own cost others nothing: no time, no memory and no verdict (DESIGN §2.1, §2.4).

use std::fs;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::CustomExtension;
use rustls::pki_types::CertificateDer;
use sidegate::demo::pki::{Authority, Credential, pem};

use crate::support::certificates::producer;
use crate::support::http2::Http2;
use crate::support::tls::{TLS_12, TLS_13};
use crate::support::{Backend, Client, Proxy, Setup, eventually};

/// An authority's certificate of about so many bytes, which has nothing to do with anybody else's.
fn unrelated(bytes: usize) -> CertificateDer<'static> {
    let root = Authority::root("Unrelated").unwrap();
    let mut params = sidegate::demo::pki::authority("Unrelated too");
    let oid = [1, 3, 6, 1, 4, 1, 1, 1];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![0; bytes - 400])];
    root.intermediate_of(params).unwrap().certificate().clone()
}

/// The same credential with another unrelated certificate each time, so that no two chains are the same.
fn with_more(credential: &Credential, bytes: usize) -> Credential {
    let mut with_more = credential.clone();
    with_more.chain.push(unrelated(bytes));
    with_more
}

fn verdict(proxy: &Proxy, client: &Client) -> String {
    let answer = client.connect(proxy.address).and_then(|mut connection| connection.get("/events"));
    answer.map_or_else(|error| error.to_string(), |answer| answer.verdict())
}

/// Certificates of 60 KB, ever different ones, 8,192 of which a worker once remembered.
#[test]
fn what_is_remembered_of_certificates_is_bounded_in_bytes() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let (known, stranger) = (proxy.pki().producer.clone(), proxy.pki().unknown_ca());
    let present = |credential: &Credential, count: usize| {
        for _ in 0..count {
            verdict(&proxy, &proxy.client(&with_more(credential, 60_000)));
        }
    };
    // Buffers of the allocator and of TLS are there from here on.
    present(&known, 50);
    present(&stranger, 50);
    let before = proxy.process.resident_memory();
    present(&known, 300);
    let of_known = proxy.process.resident_memory().saturating_sub(before);
    assert!(of_known < 6 << 20, "{} KiB more of a client", of_known >> 10);
    present(&stranger, 300);
    let of_all = proxy.process.resident_memory().saturating_sub(before);
    assert!(of_all < 6 << 20, "{} KiB more of both", of_all >> 10);
}

/// Open connections hold the path that was verified, and nothing else of what was presented: they share it.
#[test]
fn whatever_is_presented_beside_the_path_a_client_is_the_same_and_the_backend_is_told_the_path() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("identity_headers.client_cert_chain", true);
    let between = setup.pki.ca.intermediate("Between").unwrap();
    let credential = between.issue(&producer()).unwrap();
    let proxy = setup.start();
    for _ in 0..3 {
        let presented = with_more(&credential, 2_000);
        assert_eq!(verdict(&proxy, &proxy.client(&presented)), "200");
        let mut reversed = presented.clone();
        reversed.chain[1..].reverse();
        assert_eq!(verdict(&proxy, &proxy.client(&reversed)), "200");
    }
    let path = format!(":{}:", STANDARD.encode(&credential.chain[1]));
    for received in backend.wait_for(6) {
        assert_eq!(received.header("client-cert-chain"), [path.as_str()]);
    }
}

/// TLS takes 64 KiB of certificates; a ticket for a session with so many of them would be longer than it can say.
#[test]
fn a_chain_of_every_size_that_tls_takes_gets_its_answer() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    let size = |credential: &Credential| credential.chain.iter().map(|der| der.len()).sum::<usize>();
    let sizes: [usize; 6] = [30_000, 48_000, 50_000, 60_000, 65_000, 65_100];
    // The records of TLS 1.3 leave less of the 64 KiB that rustls takes in.
    for (version, more) in [(TLS_12, &[65_350, 65_400, 65_450][..]), (TLS_13, &[])] {
        for bytes in sizes.iter().chain(more).copied() {
            for (own, expected) in [(&pki.producer, "200"), (&pki.unknown_ca(), "401 invalid_certificate")] {
                // Signatures differ in length by a few bytes.
                let around = size(&with_more(own, bytes)) - bytes;
                let presented = with_more(own, bytes - around);
                let client = Client::new(pki, Some(&presented), &[version]);
                for _ in 0..2 {
                    assert_eq!(verdict(&proxy, &client), expected, "{} bytes, {version:?}", size(&presented));
                }
            }
        }
    }
}

#[test]
fn a_session_of_an_ordinary_chain_is_resumed_and_one_of_a_very_long_chain_is_not() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for (bytes, resumed) in [(1_000, true), (30_000, true), (60_000, false)] {
        let client = proxy.client(&with_more(&proxy.pki().producer, bytes));
        let again = || {
            let mut connection = client.connect(proxy.address).unwrap();
            (connection.get("/events").unwrap().verdict(), connection.is_resumed())
        };
        assert_eq!(again().0, "200");
        assert_eq!(again(), ("200".to_owned(), resumed), "{bytes}");
    }
}

/// A refusal is remembered for no longer than it is true.
#[test]
fn a_certificate_becomes_valid_although_its_refusal_was_remembered() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let start = SystemTime::now() + Duration::from_secs(3);
    let leaf = producer().valid(start, start + Duration::from_secs(3_600));
    let credential = proxy.pki().issue(&leaf);
    let (whole, resuming) = (|| proxy.client(&credential), proxy.client(&credential));
    for client in [&whole(), &whole(), &resuming, &resuming] {
        assert_eq!(verdict(&proxy, client), "401 invalid_certificate");
    }
    eventually("its beginning", || verdict(&proxy, &whole()), |verdict| verdict == "200");
    assert_eq!(verdict(&proxy, &resuming), "200");
    let connection = Http2::connect(&whole(), proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
}

/// A refusal is remembered under its own trust bundle alone, and so is the opposite.
#[test]
fn what_was_remembered_ends_with_the_trust_bundle() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let newcomer = Authority::root("Newcomer").unwrap();
    let credential = with_more(&newcomer.issue(&producer()).unwrap(), 1_000);
    let file = proxy.setup.path("client-ca.crt");
    let ours = fs::read_to_string(&file).unwrap();
    for (bundle, expected) in [
        (ours.clone(), "401 invalid_certificate"),
        (ours.clone() + &pem("CERTIFICATE", newcomer.certificate()), "200"),
        (ours, "401 invalid_certificate"),
    ] {
        fs::write(&file, bundle).unwrap();
        proxy.admin.reload();
        for _ in 0..2 {
            assert_eq!(verdict(&proxy, &proxy.client(&credential)), expected);
        }
    }
}

/// CPU time of a handshake, for chains that honest clients have: alone, with the root, in a crowd of others' certificates.
#[test]
fn honest_chains_and_crowds_cost_little_fresh_and_resumed() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    let deep = pki.ca.intermediate("a").unwrap().intermediate("b").unwrap().intermediate("c").unwrap();
    let deep = deep.issue(&producer()).unwrap();
    let mut crowd = deep.clone();
    crowd.chain.extend((0..59).map(|_| unrelated(900)));
    let mut strangers = pki.unknown_ca();
    strangers.chain.extend((0..60).map(|_| unrelated(900)));
    for (what, credential, expected) in [
        ("a deep chain", &deep, "200"),
        ("a deep chain in a crowd", &crowd, "200"),
        ("a crowd of strangers", &strangers, "401 invalid_certificate"),
    ] {
        let resuming = proxy.client(credential);
        for client in [proxy.client(credential), resuming.clone(), resuming] {
            let before = proxy.process.cpu();
            assert_eq!(verdict(&proxy, &client), expected, "{what}");
            let cost = proxy.process.cpu() - before;
            // TLS, HTTP and the answer included, in a build without optimisation.
            assert!(cost < Duration::from_millis(60), "{what}: {cost:?}");
        }
    }
}
