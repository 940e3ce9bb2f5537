//! The end of an identity: a certificate that expires stops working at once on every kind of connection (DESIGN §2.2).

use std::time::{Duration, SystemTime};

use sidegate::demo::pki::Credential;

use crate::support::certificates::producer;
use crate::support::http2::{Http2, request, wait};
use crate::support::proxy::POLICY;
use crate::support::tls::TLS_12;
use crate::support::{Backend, Client, Proxy, Setup, eventually};

/// Lifetime of the certificates. Their dates have whole seconds, so this leaves time for some handshakes.
const LIFE: Duration = Duration::from_secs(3);

/// Returns a certificate that expires soon, and the time of its expiry.
fn short_lived(proxy: &Proxy) -> (Credential, SystemTime) {
    let end = SystemTime::now() + LIFE;
    (proxy.pki().issue(&producer().valid(SystemTime::now() - LIFE, end)), end)
}

/// Case 23: a persistent connection of HTTP/1.1.
#[test]
fn an_identity_ends_on_a_persistent_connection() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (credential, end) = short_lived(&proxy);
    let mut connection = proxy.client(&credential).connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    let verdict = eventually(
        "the end of the identity",
        || connection.get("/events").unwrap().verdict(),
        |verdict| verdict != "200",
    );
    assert_eq!(verdict, "401 invalid_certificate");
    // `notAfter` has whole seconds, so the certificate may expire up to one second before `end`.
    assert!(SystemTime::now() >= end - Duration::from_secs(1), "too early");
    assert!(connection.is_closed(), "the connection ends with the identity that it was opened for");
}

/// Case 23: a connection of HTTP/2.
#[test]
fn an_identity_ends_on_an_http2_connection() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (credential, _) = short_lived(&proxy);
    let connection = Http2::connect(&proxy.client(&credential), proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    let verdict = eventually(
        "the end of the identity",
        || connection.get("/events").unwrap().verdict(),
        |verdict| verdict != "200",
    );
    assert_eq!(verdict, "401 invalid_certificate");
    connection.assert_ends_in_order();
}

/// Cases 22 and 24: the chain of a resumed session is judged again.
#[test]
fn an_identity_ends_in_a_resumed_session() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let (credential, _) = short_lived(&proxy);
    for client in [proxy.client(&credential), Client::new(proxy.pki(), Some(&credential), &[TLS_12])] {
        let ask = || {
            let mut connection = client.connect(proxy.address).unwrap();
            (connection.get("/events").unwrap().verdict(), connection.is_resumed())
        };
        ask();
        let (verdict, is_resumed) =
            eventually("the end of the identity", ask, |(verdict, _)| verdict != "200");
        assert_eq!((verdict.as_str(), is_resumed), ("401 invalid_certificate", true));
    }
}

#[test]
fn an_identity_ends_in_streams_and_sockets_in_progress() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            connection.wire.send(match request.head.starts_with("GET /live ") {
                true => {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                }
                false => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
            })?;
        }
        Ok(())
    });
    let socket = "\"* /**\"\n    - { route: GET /live, upgrade: websocket }";
    let proxy = Setup::new(&backend.url()).policy(&POLICY.replace("\"* /**\"", socket)).start();
    let (credential, end) = short_lived(&proxy);
    let client = proxy.client(&credential);
    let mut http1 = client.connect(proxy.address).unwrap();
    http1.send("GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    http1.read_until(b"data: 1\n\n").unwrap();
    let mut socket = client.connect(proxy.address).unwrap();
    socket
        .send("GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    socket.read_until(b"\r\n\r\n").unwrap();
    let http2 = Http2::connect(&client, proxy.address).unwrap();
    let (head, mut body, _) =
        http2.open(request("GET", "/events/stream", &[]), true).unwrap().head().unwrap();
    assert_eq!(head.status, 200);
    http1.read_to_end().expect("the end of the stream");
    socket.read_to_end().expect("the end of the socket");
    wait(async move { while body.data().await.is_some_and(|data| data.is_ok()) {} });
    let late = SystemTime::now().duration_since(end).unwrap_or_default();
    assert!(late < Duration::from_secs(5), "it ended {late:?} after its identity");
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
}

/// Returns a policy whose grant of the streams ends soon, and whose other grants stay.
fn short_lived_grant(end: jiff::Timestamp) -> String {
    format!(
        r#"version: 1
permissions:
  streams: [GET /events/stream, POST /events, {{ route: GET /live, upgrade: websocket }}]
  rest: [GET /events]
clients:
  - name: for-a-while
    match: {{ uri: "spiffe://shop.example/ns/orders/sa/*" }}
    permissions: [streams]
    when: {{ until: {end} }}
  - name: for-good
    match: {{ uri: "spiffe://shop.example/ns/orders/sa/*" }}
    permissions: [rest]
"#
    )
}

#[test]
fn an_exchange_in_progress_ends_with_its_grant_and_the_connection_stays() {
    let backend = Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            let answer = match head.split(' ').nth(1) {
                Some("/live") => {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                }
                Some("/events/stream") => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
                }
                // The body never ends, so the backend sends no answer.
                Some(_) if head.starts_with("POST") => continue,
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            connection.wire.send(answer)?;
        }
        Ok(())
    });
    let end = jiff::Timestamp::now() + LIFE;
    let proxy = Setup::new(&backend.url()).policy(&short_lived_grant(end)).start();
    let open = |request: &str| {
        let mut connection = proxy.producer().connect(proxy.address).unwrap();
        connection.send(request).unwrap();
        connection
    };
    let mut stream = open("GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.read_until(b"data: 1\n\n").unwrap();
    let mut socket =
        open("GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    socket.read_until(b"\r\n\r\n").unwrap();
    let mut upload = open("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let (head, mut body, _) =
        http2.open(request("GET", "/events/stream", &[]), true).unwrap().head().unwrap();
    assert_eq!(head.status, 200);

    assert!(
        !String::from_utf8_lossy(&stream.read_to_end().unwrap()).contains("\r\n0\r\n"),
        "no end of the body"
    );
    wait(async move { while body.data().await.is_some_and(|data| data.is_ok()) {} });
    assert!(socket.read_to_end().unwrap().is_empty());
    assert_eq!(upload.answer_to("POST").unwrap().verdict(), "403 insufficient_permissions");
    let late = jiff::Timestamp::now().duration_since(end);
    assert!(late > jiff::SignedDuration::ZERO, "it ended before its time");
    assert!(late < jiff::SignedDuration::from_secs(5), "it ended {late} after its grant");
    assert_eq!(http2.get("/events").unwrap().verdict(), "200", "the connection and the other grants stay");
    assert_eq!(http2.get("/events/stream").unwrap().verdict(), "403 insufficient_permissions");
}
