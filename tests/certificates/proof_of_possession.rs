//! Proof of possession: a client that cannot prove that it has the private key never gets an answer that depends on the
//! contents of the certificate (DESIGN §2.1).

use sidegate::demo::pki::Credential;

use crate::support::http2::Http2;
use crate::support::tls::{TLS_12, TLS_13};
use crate::support::{Backend, Client, Proxy};

/// Case 20: a certificate of another client without its key.
#[test]
fn a_certificate_with_another_key_gives_no_identity() {
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
            for attempt in ["first", "second, with the session store of the first"] {
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

/// An X.509 v1 certificate can never become valid, so its proof of possession need not be checked; its signature cannot
/// be read at all.
#[test]
fn a_certificate_that_can_never_be_valid_gets_401_with_any_key() {
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
