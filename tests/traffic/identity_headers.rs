//! The backend learns the client's identity from its certificate alone: every header that could claim one is stripped first
//! (DESIGN §5).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::certificates::producer;
use crate::support::proxy::forwarded;
use crate::support::{Backend, Setup};

#[test]
fn headers_that_claim_identity_are_stripped_in_every_spelling() {
    let spoofed = [
        "X-Forwarded-Client-Cert",
        "x-forwarded-client-cert",
        "X_Forwarded_Client_Cert",
        "Client-Cert",
        "client_cert",
        "Client.Cert",
        "Client-Cert-Chain",
        "X-SSL-Client-DN",
        "X-Ssl-Cert",
        "X_SSL_Verified",
        "X-Client-Name",
        "x-client_id",
        "X.Client.Id",
        "X-Remote-User",
        "X_Remote_User",
        "X.Remote.User",
        "x-remote_user",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Uri",
        "X-Forwarded-Prefix",
        "X-Envoy-Original-Path",
        "X-Real-IP",
        "X-Forwarded-Path",
        "X_Forwarded_Uri",
        "X-Envoy-Decorator-Operation",
        "X-Original-Uri",
        "Remote-User",
        "SSL_CLIENT_VERIFY",
        "Content_Length",
        "Transfer_Encoding",
    ];
    let fields: String = spoofed.iter().map(|name| format!("{name}: spoofed\r\n")).collect();
    for connection in ["keep-alive", "Client-Cert, X-Client-Name, X-Forwarded-For"] {
        let received = forwarded(&format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n{fields}\r\n"
        ));
        assert!(!received.head.contains("spoofed"), "{}", received.head);
        assert_eq!(received.header("client-cert").len(), 1, "set after the stripping: {}", received.head);
    }
}

#[test]
fn identity_headers_are_set_from_the_certificate() {
    let backend = Backend::ok();
    let custom =
        json!({ "X-Client-Name": "common_name", "X-Client-Mail": "email", "X-Team": "organization" });
    let proxy = Setup::new(&backend.url()).set("identity_headers.custom", custom).start();
    let spoof = "X-Client-Mail: a@b\r\nX-Team: Admins\r\nX_Team: Admins\r\n";
    proxy.connect().ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{spoof}\r\n")).unwrap();
    let received = backend.wait_for(1).remove(0);
    let leaf = STANDARD.encode(&proxy.pki().producer.chain[0]);
    assert_eq!(received.header("client-cert"), [format!(":{leaf}:")]);
    assert_eq!(received.header("x-client-name"), ["order-producer"]);
    assert_eq!(received.header("x-team"), ["Shop"]);
    assert!(received.header("x_team").is_empty());
    assert!(received.header("x-client-mail").is_empty(), "the certificate has no e-mail: {}", received.head);
}

#[test]
fn identity_headers_are_stripped_even_if_they_are_not_set() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("identity_headers.client_cert", false).start();
    let spoof = "Client-Cert: :AAAA:\r\nX-Forwarded-Client-Cert: Subject=\"CN=admin\"\r\n";
    proxy.connect().ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{spoof}\r\n")).unwrap();
    let received = backend.wait_for(1).remove(0);
    assert!(received.header("client-cert").is_empty(), "{}", received.head);
    assert!(received.header("x-forwarded-client-cert").is_empty(), "{}", received.head);
}

/// RFC 9440 §2.3.
#[test]
fn the_chain_is_forwarded_if_configured() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("identity_headers.client_cert_chain", true);
    let intermediate = setup.pki.ca.intermediate("Between").unwrap();
    let credential = intermediate.issue(&producer()).unwrap();
    let proxy = setup.start();
    let spoof = "GET / HTTP/1.1\r\nHost: localhost\r\nClient-Cert-Chain: :AAAA:\r\n\r\n";
    proxy.client(&credential).connect(proxy.address).unwrap().ask(spoof).unwrap();
    proxy.connect().ask(spoof).unwrap();
    let received = backend.wait_for(2);
    let chain: Vec<_> =
        credential.chain[1..].iter().map(|der| format!(":{}:", STANDARD.encode(der))).collect();
    assert_eq!(received[0].header("client-cert-chain"), [chain.join(", ")]);
    assert!(received[1].header("client-cert-chain").is_empty(), "a leaf alone: {}", received[1].head);
}

#[test]
fn the_identity_header_of_envoy_is_set_if_configured() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("identity_headers.xfcc", true).start();
    let spoof = "X-Forwarded-Client-Cert: Subject=\"CN=admin\"\r\n";
    proxy.connect().ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{spoof}\r\n")).unwrap();
    let received = backend.wait_for(1).remove(0);
    let [value] = received.header("x-forwarded-client-cert")[..] else { panic!("{}", received.head) };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &proxy.pki().producer.chain[0]);
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(value.starts_with(&format!("Hash={hash};")), "{value}");
    assert!(value.contains("URI=spiffe://shop.example/ns/orders/sa/producer"), "{value}");
    assert!(value.contains("CN=order-producer") && !value.contains("admin"), "{value}");
}
