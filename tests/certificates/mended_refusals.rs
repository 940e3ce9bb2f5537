//! The end of a refusal: no 401 outlives its cause on an open connection (DESIGN §2.2). The connection is judged again by each
//! new generation, or its next 401 ends it.

use std::fs;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use sidegate::demo::pki::{Authority, Credential, pem};

use crate::support::certificates::{DAY, producer};
use crate::support::http2::Http2;
use crate::support::tls::Tls;
use crate::support::{Backend, Proxy, Setup, eventually};

const INVALID: &str = "401 invalid_certificate";

/// Open connections of one client, by HTTP/1.1 and by HTTP/2.
struct Open {
    http1: Tls,
    http2: Http2,
}

impl Open {
    fn by(proxy: &Proxy, credential: &Credential) -> Self {
        let client = proxy.client(credential);
        Self {
            http1: client.connect(proxy.address).unwrap(),
            http2: Http2::connect(&client, proxy.address).unwrap(),
        }
    }

    fn verdicts(&mut self) -> [String; 2] {
        [self.http1.get("/events").unwrap().verdict(), self.http2.get("/events").unwrap().verdict()]
    }

    #[track_caller]
    fn assert_verdict(&mut self, expected: &str, when: &str) {
        assert_eq!(self.verdicts(), [expected, expected], "{when}");
    }
}

/// Puts these authorities in force.
fn trust(proxy: &Proxy, authorities: &[&CertificateDer<'_>]) {
    let pem: String = authorities.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
    fs::write(proxy.setup.path("client-ca.crt"), pem).unwrap();
    proxy.admin.reload();
}

/// A proxy that does not trust the authority of its clients.
fn proxy_without_authority(backend: &Backend) -> (Proxy, Authority) {
    let other = Authority::root("Another").unwrap();
    let setup = Setup::new(&backend.url());
    fs::write(setup.path("client-ca.crt"), pem("CERTIFICATE", other.certificate())).unwrap();
    (setup.start(), other)
}

/// Returns a chain of five certificates, which is judged beside the worker's thread.
fn long_chain(ca: &Authority) -> Credential {
    let below = (0..4).fold(None, |above: Option<Authority>, number| {
        Some(above.as_ref().unwrap_or(ca).intermediate(&format!("below {number}")).unwrap())
    });
    let credential = below.unwrap().issue(&producer()).unwrap();
    assert_eq!(credential.chain.len(), 5);
    credential
}

#[test]
fn a_refused_connection_is_served_as_soon_as_its_authority_is_back_and_refused_as_soon_as_it_is_gone() {
    let backend = Backend::ok();
    let (proxy, other) = proxy_without_authority(&backend);
    let ca = proxy.pki().ca.certificate().clone();
    let below = proxy.pki().ca.intermediate("below").unwrap();
    for credential in
        [proxy.pki().producer.clone(), below.issue(&producer()).unwrap(), long_chain(&proxy.pki().ca)]
    {
        let length = credential.chain.len();
        trust(&proxy, &[other.certificate()]);
        let mut open = Open::by(&proxy, &credential);
        open.assert_verdict(INVALID, &format!("{length} certificates, without the authority"));
        open.assert_verdict(INVALID, &format!("{length} certificates, and the connection stays open"));
        trust(&proxy, &[other.certificate(), &ca]);
        open.assert_verdict("200", &format!("{length} certificates, with the authority"));
        trust(&proxy, &[other.certificate()]);
        open.assert_verdict(INVALID, &format!("{length} certificates, without the authority again"));
        // An identity that ends on a connection ends the connection as well.
        assert!(open.http1.is_closed());
        open.http2.assert_ends_in_order();
    }
}

/// A reload without an authority refuses its clients; the next one brings the authority back before they ask.
#[test]
fn a_client_whose_authority_was_missing_for_one_reload_is_served_on_its_open_connection() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (ca, other) = (proxy.pki().ca.certificate().clone(), Authority::root("Another").unwrap());
    let mut open = Open::by(&proxy, &proxy.pki().producer);
    open.assert_verdict("200", "before");
    // A request in progress has the connection judged at each reload, and not only at its next request.
    let busy = proxy.http2();
    let exchange = busy.open(crate::support::http2::request("POST", "/events", &[]), false).unwrap();
    backend.wait_for(2);
    trust(&proxy, &[other.certificate()]);
    trust(&proxy, &[&ca]);
    open.assert_verdict("200", "after");
    drop(exchange);
}

/// Such a chain is not kept: 1,000 strangers could hold 64 MiB. The connection ends with its next 401, and a new one is served.
#[test]
fn a_refusal_of_a_large_chain_ends_its_connection_at_the_next_generation() {
    let backend = Backend::ok();
    let (proxy, other) = proxy_without_authority(&backend);
    let ca = proxy.pki().ca.certificate().clone();
    let mut large = proxy.pki().producer.clone();
    large.chain.extend((0..24).map(|_| Authority::root("Unrelated").unwrap().certificate().clone()));
    assert!(large.chain.iter().map(|der| der.len()).sum::<usize>() > 8 * 1024);
    let mut open = Open::by(&proxy, &large);
    for _ in 0..3 {
        open.assert_verdict(INVALID, "the verdict is true, so the connection stays open");
    }
    trust(&proxy, &[other.certificate(), &ca]);
    let answer = open.http1.get("/events").unwrap();
    assert_eq!((answer.verdict().as_str(), answer.header("connection")), (INVALID, Some("close")));
    assert!(open.http1.is_closed());
    assert_eq!(open.http2.get("/events").unwrap().verdict(), INVALID);
    open.http2.assert_ends_in_order();
    Open::by(&proxy, &large).assert_verdict("200", "a new connection");
}

#[test]
fn a_refusal_for_an_old_crl_ends_with_the_next_crl() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("tls.crl", "ca.crl");
    let old = setup.pki.ca.crl(&[], |params| {
        params.this_update = (SystemTime::now() - 2 * DAY).into();
        params.next_update = (SystemTime::now() - DAY).into();
    });
    fs::write(setup.path("ca.crl"), old.unwrap()).unwrap();
    let proxy = setup.start();
    let mut open = Open::by(&proxy, &proxy.pki().producer);
    open.assert_verdict(INVALID, "the CRL is past its `nextUpdate`");
    fs::write(proxy.setup.path("ca.crl"), proxy.pki().ca.crl(&[], |_| {}).unwrap()).unwrap();
    proxy.admin.reload();
    open.assert_verdict("200", "the next CRL");
}

#[test]
fn a_refusal_before_the_validity_of_a_certificate_ends_when_the_validity_begins() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let begin = SystemTime::now() + Duration::from_secs(3);
    let mut open = Open::by(&proxy, &proxy.pki().issue(&producer().valid(begin, begin + DAY)));
    open.assert_verdict(INVALID, "too early");
    eventually("the beginning", || open.verdicts(), |verdicts| *verdicts == ["200", "200"]);
    // `notBefore` has whole seconds, so the certificate may be valid up to one second before `begin`.
    assert!(SystemTime::now() >= begin - Duration::from_secs(1), "too early");
}

/// Only a new handshake can bring a certificate.
#[test]
fn a_connection_without_a_certificate_stays_refused_and_open() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let ca = proxy.pki().ca.certificate().clone();
    let (mut http1, http2) = (
        proxy.anonymous().connect(proxy.address).unwrap(),
        Http2::connect(&proxy.anonymous(), proxy.address).unwrap(),
    );
    for _ in 0..3 {
        assert_eq!(http1.get("/events").unwrap().verdict(), "401 not_authenticated");
        assert_eq!(http2.get("/events").unwrap().verdict(), "401 not_authenticated");
        trust(&proxy, &[&ca, Authority::root("One more").unwrap().certificate()]);
    }
}
