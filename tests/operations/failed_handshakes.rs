//! Failed TLS handshakes: each has a cause in a metric and a line in the log, and no client that could be served fails.

use std::io::Write;
use std::net::TcpStream;

use sidegate::demo::pki::Credential;
use sidegate::handshake_failure::HandshakeFailure;

use crate::support::http1::Wire;
use crate::support::tls::{TLS_12, TLS_13};
use crate::support::{Backend, Client, Pki, Proxy, Setup, eventually};

/// A device of HTTP/1.0 may offer `http/1.0` alone.
#[test]
fn a_client_that_offers_only_http_1_0_is_served() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let pki = proxy.pki();
    for version in [TLS_12, TLS_13] {
        for offer in [&["http/1.0"][..], &["http/0.9", "http/1.0"], &[]] {
            let client = Client::new(pki, Some(&pki.producer), &[version]).alpn(offer);
            let mut connection = client.connect(proxy.address).unwrap();
            let answer = connection.ask("GET /events HTTP/1.0\r\n\r\n").unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{offer:?}");
            assert!(connection.is_closed());
        }
    }
    let newest = Client::presenting(pki, &pki.producer).alpn(&["http/1.0", "http/1.1"]);
    assert_eq!(newest.connect(proxy.address).unwrap().get("/events").unwrap().status, 200);
}

/// Returns a vector of TLS with a length of two bytes.
fn vector(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

/// Returns a record with a ClientHello (RFC 5246 §7.4.1.2).
fn hello(version: u16, suite: u16, group: u16, signature: u16) -> Vec<u8> {
    let extension = |kind: u16, content: &[u8]| [&kind.to_be_bytes(), vector(content).as_slice()].concat();
    let extensions = [
        extension(10, &vector(&group.to_be_bytes())),
        extension(11, &[1, 0]),
        extension(13, &vector(&signature.to_be_bytes())),
        extension(23, &[]),
    ];
    let body = [
        version.to_be_bytes().as_slice(),
        &[7; 32],
        &[0],
        &vector(&suite.to_be_bytes()),
        &[1, 0],
        &vector(&extensions.concat()),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1], vector(&handshake).as_slice()].concat()
}

const P_256: u16 = 0x0017;
const P_521: u16 = 0x0019;
const ECDSA_P256_SHA256: u16 = 0x0403;
const RSA_SHA256: u16 = 0x0401;
const ECDHE_ECDSA_AES_128_GCM: u16 = 0xc02b;
const RSA_AES_128_CBC: u16 = 0x002f;

/// Sends bytes and closes the connection once the server has answered or closed it.
fn send(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut wire = Wire::plain(proxy.address).unwrap();
    let source = wire.stream.local_addr().unwrap().to_string();
    wire.send(bytes).unwrap();
    let _ = wire.read_available();
    source
}

/// Sends bytes and closes the connection.
fn send_and_leave(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.write_all(bytes).unwrap();
    stream.local_addr().unwrap().to_string()
}

/// Completes the handshake as far as the client sees it, and waits for the reaction of the server.
fn attempt(proxy: &Proxy, client: &Client) -> String {
    if let Ok(mut connection) = client.connect(proxy.address) {
        let _ = connection.get("/events");
    }
    "127.0.0.1:".to_owned()
}

fn failed(proxy: &Proxy, cause: &str) -> f64 {
    let labels = [("result", "failed"), ("cause", cause)];
    proxy.admin.metrics().labelled("sidegate_handshakes_total", &labels)
}

#[test]
fn each_cause_of_a_failed_handshake_is_counted_and_is_a_line_of_the_log() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("log.level", "debug").start();
    let good = hello(0x0303, ECDHE_ECDSA_AES_128_GCM, P_256, ECDSA_P256_SHA256);
    let pki = proxy.pki();
    let stolen = Credential { chain: pki.producer.chain.clone(), key: pki.consumer.key.clone_key() };
    let stolen = proxy.client(&stolen);
    let other_protocols = proxy.producer().alpn(&["http/0.9", "spdy/3.1"]);
    // A client of another PKI does not know the server's authority.
    let of_another_pki = Client::anonymous(&Pki::new());
    // An alert of the client: an internal error.
    let given_up = [good.as_slice(), &[21, 3, 3, 0, 2, 2, 80]].concat();
    type Attempt<'a> = (&'a str, Box<dyn Fn(&Proxy) -> String + 'a>);
    let sending = |bytes: Vec<u8>| Box::new(move |proxy: &Proxy| send(proxy, &bytes));
    let leaving = |bytes: Vec<u8>| Box::new(move |proxy: &Proxy| send_and_leave(proxy, &bytes));
    let attempts: Vec<Attempt<'_>> = vec![
        ("version", sending(hello(0x0302, ECDHE_ECDSA_AES_128_GCM, P_256, ECDSA_P256_SHA256))),
        ("cipher", sending(hello(0x0303, RSA_AES_128_CBC, P_256, ECDSA_P256_SHA256))),
        ("group", sending(hello(0x0303, ECDHE_ECDSA_AES_128_GCM, P_521, ECDSA_P256_SHA256))),
        ("signature", sending(hello(0x0303, ECDHE_ECDSA_AES_128_GCM, P_256, RSA_SHA256))),
        ("alpn", Box::new(|proxy| attempt(proxy, &other_protocols))),
        ("proof", Box::new(|proxy| attempt(proxy, &stolen))),
        ("server_certificate_refused", Box::new(|proxy| attempt(proxy, &of_another_pki))),
        ("client_alert", sending(given_up)),
        ("not_tls", sending(b"\0\x01\x02 something else that is long enough for a record".to_vec())),
        // The record has a ServerHello.
        ("protocol", sending(vec![22, 3, 3, 0, 4, 2, 0, 0, 0])),
        ("closed_after_certificate", sending(good.clone())),
        ("closed", leaving(good[..20].to_vec())),
        ("silent", leaving(Vec::new())),
    ];
    for (cause, attempt) in &attempts {
        let source = attempt(&proxy);
        let line = proxy.process.log_where(cause, |line| line["cause"] == *cause);
        assert!(line["source"].as_str().unwrap().starts_with(&source), "{line}");
        let message = line["message"].as_str().unwrap();
        assert!(message.starts_with("TLS handshake failed: "), "{line}");
        assert_eq!(line["level"], if *cause == "silent" { "DEBUG" } else { "WARN" }, "{line}");
        eventually(cause, || failed(&proxy, cause), |count| *count == 1.0);
    }
    let all: f64 = proxy.admin.metrics().labelled("sidegate_handshakes_total", &[("result", "failed")]);
    assert_eq!(all, f64::from(u32::try_from(attempts.len()).unwrap()));
    let mut tried: Vec<&str> = attempts.iter().map(|(cause, _)| *cause).collect();
    tried.push("internal");
    assert_eq!(tried, HandshakeFailure::ALL.map(HandshakeFailure::name), "a cause of each kind was tried");
    assert!(backend.received().is_empty());
}

/// Strangers can fail as often as they like; a line about another cause is still written.
#[test]
fn lines_about_one_cause_are_few_and_hide_no_other_cause() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("workers", 1).start();
    for _ in 0..200 {
        send(&proxy, b"\0\x01\x02 something else that is long enough for a record");
    }
    eventually("the failures", || failed(&proxy, "not_tls"), |count| *count == 200.0);
    attempt(&proxy, &proxy.producer().alpn(&["http/0.9"]));
    let is_alpn = |line: &serde_json::Value| line["cause"] == "alpn";
    proxy.process.log_where("the other cause", is_alpn);
    let lines = proxy.process.log().matches(r#""cause":"not_tls""#).count();
    // Five at once, and then one every ten seconds.
    assert!((5..=9).contains(&lines), "{lines} lines");
}

/// The runbook says of each cause what to do.
#[test]
fn every_cause_is_in_the_runbook() {
    let runbook = include_str!("../../deploy/RUNBOOK.md");
    for cause in HandshakeFailure::ALL {
        assert!(runbook.contains(&format!("\n| `{}` | ", cause.name())), "{}", cause.name());
    }
}
