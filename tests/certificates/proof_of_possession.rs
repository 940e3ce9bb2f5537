//! A certificate is worth nothing without its key: who cannot prove that it holds the key never gets an answer that
//! depends on what the certificate says (DESIGN §2.1).

use sidegate::demo::pki::Credential;

use crate::support::http2::Http2;
use crate::support::tls::{TLS_12, TLS_13};
use crate::support::{Backend, Client, Proxy};

/// Case 20.
#[test]
fn the_wrong_key_never_gets_an_identity() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    let key = pki.consumer.key.clone_key();
    for (name, certificate) in
        [("producer", pki.producer.clone()), ("expired", pki.expired()), ("unknown CA", pki.unknown_ca())]
    {
        let stolen = Credential { chain: certificate.chain, key: key.clone_key() };
        for version in [TLS_12, TLS_13] {
            let client = Client::new(pki, Some(&stolen), &[version]);
            for attempt in ["first", "second, with what the first left in the session store"] {
                let http1 =
                    client.connect(proxy.address).and_then(|mut connection| connection.get("/events"));
                assert!(http1.is_err(), "{name} {version:?} {attempt}: {http1:?}");
                let http2 =
                    Http2::connect(&client, proxy.address).and_then(|connection| connection.get("/events"));
                assert!(http2.is_err(), "{name} {version:?} {attempt}: {http2:?}");
            }
        }
    }
    assert!(backend.received().is_empty());
}

/// It can never become valid, so nothing is lost by not checking its key (its signature cannot be read at all).
#[test]
fn a_certificate_that_nothing_could_make_valid_gets_its_401_with_any_key() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    let stolen = Credential { chain: pki.version_1().chain, key: pki.consumer.key.clone_key() };
    for version in [TLS_12, TLS_13] {
        let client = Client::new(pki, Some(&stolen), &[version]);
        let answer = client.connect(proxy.address).unwrap().get("/events").unwrap();
        assert_eq!(answer.verdict(), "401 invalid_certificate");
    }
}
