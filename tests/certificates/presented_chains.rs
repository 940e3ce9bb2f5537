//! Unrelated certificates in a presented chain: they cost other clients no time and no memory, and change no verdict (DESIGN
//! §2.1, §2.4).

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

/// Returns an unrelated certificate of an authority, of about this size in bytes.
fn unrelated(bytes: usize) -> CertificateDer<'static> {
    let root = Authority::root("Unrelated").unwrap();
    let mut params = sidegate::demo::pki::authority("Unrelated too");
    let oid = [1, 3, 6, 1, 4, 1, 1, 1];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![0; bytes - 400])];
    root.intermediate_of(params).unwrap().certificate().clone()
}

/// Returns the credential with one more certificate in its chain, a new and unrelated one at each call.
fn with_unrelated(credential: &Credential, bytes: usize) -> Credential {
    let mut presented = credential.clone();
    presented.chain.push(unrelated(bytes));
    presented
}

fn verdict(proxy: &Proxy, client: &Client) -> String {
    let answer = client.connect(proxy.address).and_then(|mut connection| connection.get("/events"));
    answer.map_or_else(|error| error.to_string(), |answer| answer.verdict())
}

/// The chains have 60 KB and are all different. A worker once kept 8,192 of them.
#[test]
fn the_cache_of_verdicts_is_bounded_in_bytes() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let (client, stranger) = (proxy.pki().producer.clone(), proxy.pki().unknown_ca());
    let present = |credential: &Credential, count: usize| {
        for _ in 0..count {
            verdict(&proxy, &proxy.client(&with_unrelated(credential, 60_000)));
        }
    };
    // These handshakes fill the buffers of the allocator and of TLS.
    present(&client, 50);
    present(&stranger, 50);
    let before = proxy.process.resident_memory();
    present(&client, 300);
    let of_client = proxy.process.resident_memory().saturating_sub(before);
    assert!(of_client < 6 << 20, "{} KiB more of a client", of_client >> 10);
    present(&stranger, 300);
    let of_all = proxy.process.resident_memory().saturating_sub(before);
    assert!(of_all < 6 << 20, "{} KiB more of both", of_all >> 10);
}

/// An open connection keeps only the verified path, which connections with the same path share.
#[test]
fn unrelated_certificates_change_neither_the_identity_nor_the_chain_for_the_backend() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("identity_headers.client_cert_chain", true);
    let between = setup.pki.ca.intermediate("Between").unwrap();
    let credential = between.issue(&producer()).unwrap();
    let proxy = setup.start();
    for _ in 0..3 {
        let presented = with_unrelated(&credential, 2_000);
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

/// TLS allows 64 KiB of certificates; the ticket of a session with so many certificates would exceed the maximum length
/// of a ticket.
#[test]
fn a_chain_of_every_size_that_tls_allows_gets_an_answer() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    let size = |credential: &Credential| credential.chain.iter().map(|der| der.len()).sum::<usize>();
    let sizes: [usize; 6] = [30_000, 48_000, 50_000, 60_000, 65_000, 65_100];
    // The records of TLS 1.3 use a part of the 64 KiB that rustls accepts.
    for (version, more) in [(TLS_12, &[65_350, 65_400, 65_450][..]), (TLS_13, &[])] {
        for bytes in sizes.iter().chain(more).copied() {
            for (own, expected) in [(&pki.producer, "200"), (&pki.unknown_ca(), "401 invalid_certificate")] {
                // The lengths of signatures differ by a few bytes.
                let around = size(&with_unrelated(own, bytes)) - bytes;
                let presented = with_unrelated(own, bytes - around);
                let client = Client::new(pki, Some(&presented), &[version]);
                for _ in 0..2 {
                    assert_eq!(verdict(&proxy, &client), expected, "{} bytes, {version:?}", size(&presented));
                }
            }
        }
    }
}

#[test]
fn the_session_of_a_usual_chain_is_resumed_and_that_of_a_very_long_chain_is_not() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for (bytes, resumed) in [(1_000, true), (30_000, true), (60_000, false)] {
        let client = proxy.client(&with_unrelated(&proxy.pki().producer, bytes));
        let again = || {
            let mut connection = client.connect(proxy.address).unwrap();
            (connection.get("/events").unwrap().verdict(), connection.is_resumed())
        };
        assert_eq!(again().0, "200");
        assert_eq!(again(), ("200".to_owned(), resumed), "{bytes}");
    }
}

/// A cached refusal is used only as long as it is right.
#[test]
fn a_certificate_becomes_valid_although_its_refusal_was_cached() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let start = SystemTime::now() + Duration::from_secs(3);
    let leaf = producer().valid(start, start + Duration::from_secs(3_600));
    let credential = proxy.pki().issue(&leaf);
    let (full, resuming) = (|| proxy.client(&credential), proxy.client(&credential));
    for client in [&full(), &full(), &resuming, &resuming] {
        assert_eq!(verdict(&proxy, client), "401 invalid_certificate");
    }
    eventually("the start of the validity", || verdict(&proxy, &full()), |verdict| verdict == "200");
    assert_eq!(verdict(&proxy, &resuming), "200");
    let connection = Http2::connect(&full(), proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
}

/// A cached verdict is used only under the trust bundle under which it was reached.
#[test]
fn cached_verdicts_end_with_the_trust_bundle() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let added = Authority::root("Added").unwrap();
    let credential = with_unrelated(&added.issue(&producer()).unwrap(), 1_000);
    let file = proxy.setup.path("client-ca.crt");
    let ours = fs::read_to_string(&file).unwrap();
    for (bundle, expected) in [
        (ours.clone(), "401 invalid_certificate"),
        (ours.clone() + &pem("CERTIFICATE", added.certificate()), "200"),
        (ours, "401 invalid_certificate"),
    ] {
        fs::write(&file, bundle).unwrap();
        proxy.admin.reload();
        for _ in 0..2 {
            assert_eq!(verdict(&proxy, &proxy.client(&credential)), expected);
        }
    }
}

/// CPU time of full handshakes and resumptions, for usual chains and for chains with many unrelated certificates.
#[test]
fn chains_with_and_without_unrelated_certificates_need_little_cpu() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    let deep = pki.ca.intermediate("a").unwrap().intermediate("b").unwrap().intermediate("c").unwrap();
    let deep = deep.issue(&producer()).unwrap();
    let mut with_others = deep.clone();
    with_others.chain.extend((0..59).map(|_| unrelated(900)));
    let mut strangers = pki.unknown_ca();
    strangers.chain.extend((0..60).map(|_| unrelated(900)));
    for (what, credential, expected) in [
        ("a deep chain", &deep, "200"),
        ("a deep chain with 59 unrelated certificates", &with_others, "200"),
        ("a chain of strangers with 60 unrelated certificates", &strangers, "401 invalid_certificate"),
    ] {
        let resuming = proxy.client(credential);
        for client in [proxy.client(credential), resuming.clone(), resuming] {
            let before = proxy.process.cpu();
            assert_eq!(verdict(&proxy, &client), expected, "{what}");
            let cost = proxy.process.cpu() - before;
            // The limit includes TLS and HTTP, in a build without optimisation.
            assert!(cost < Duration::from_millis(60), "{what}: {cost:?}");
        }
    }
}
