//! Authentication lasts only as long as it is true: a certificate that expires stops working at once, wherever its
//! connection is by then (DESIGN §2.2).

use std::time::{Duration, SystemTime};

use sidegate::demo::pki::Credential;

use crate::support::certificates::producer;
use crate::support::http2::{Http2, request, wait};
use crate::support::tls::TLS_12;
use crate::support::{Backend, Client, Proxy, eventually};

/// Certificates are true to the second; this leaves time for a handshake or two.
const LIFE: Duration = Duration::from_secs(3);

/// A certificate that is going to expire soon, and when.
fn mortal(proxy: &Proxy) -> (Credential, SystemTime) {
    let end = SystemTime::now() + LIFE;
    (proxy.pki().issue(&producer().valid(SystemTime::now() - LIFE, end)), end)
}

#[test]
fn on_a_connection_that_is_kept_alive() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (credential, end) = mortal(&proxy);
    let mut connection = proxy.client(&credential).connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    let verdict =
        eventually("its end", || connection.get("/events").unwrap().verdict(), |verdict| verdict != "200");
    assert_eq!(verdict, "401 invalid_certificate");
    // The second of `notAfter` itself is cut off in the certificate.
    assert!(SystemTime::now() >= end - Duration::from_secs(1), "too early");
    assert!(connection.is_closed(), "the connection ends with the identity that it was opened for");
}

#[test]
fn on_an_http2_connection() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (credential, _) = mortal(&proxy);
    let connection = Http2::connect(&proxy.client(&credential), proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    let verdict =
        eventually("its end", || connection.get("/events").unwrap().verdict(), |verdict| verdict != "200");
    assert_eq!(verdict, "401 invalid_certificate");
    connection.assert_ends_in_order();
}

#[test]
fn in_a_session_that_is_resumed() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (credential, _) = mortal(&proxy);
    for client in [proxy.client(&credential), Client::new(proxy.pki(), Some(&credential), &[TLS_12])] {
        let ask = || {
            let mut connection = client.connect(proxy.address).unwrap();
            (connection.get("/events").unwrap().verdict(), connection.is_resumed())
        };
        ask();
        let (verdict, is_resumed) = eventually("its end", ask, |(verdict, _)| verdict != "200");
        assert_eq!((verdict.as_str(), is_resumed), ("401 invalid_certificate", true));
    }
}

#[test]
fn in_a_stream_that_goes_on() {
    let backend = Backend::streaming();
    let proxy = Proxy::in_front_of(&backend.url());
    let (credential, end) = mortal(&proxy);
    let client = proxy.client(&credential);
    let mut http1 = client.connect(proxy.address).unwrap();
    http1.send("GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    http1.until(b"data: 1\n\n").unwrap();
    let http2 = Http2::connect(&client, proxy.address).unwrap();
    let (head, mut body, _) =
        http2.open(request("GET", "/events/stream", &[]), true).unwrap().head().unwrap();
    assert_eq!(head.status, 200);
    http1.rest().expect("the end of the stream");
    wait(async move { while body.data().await.is_some_and(|data| data.is_ok()) {} });
    let late = SystemTime::now().duration_since(end).unwrap_or_default();
    assert!(late < Duration::from_secs(5), "it ended {late:?} after its identity");
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
}
