//! The secrets of clients are not written down: neither the log at any level, nor audit records, nor answers of the proxy
//! contain what a client sends (DESIGN §8).

use crate::support::backend::RefusingPort;
use crate::support::http2::{Http2, request};
use crate::support::{Backend, Proxy, Setup};

const SECRET: &str = "s3cr3t-t0k3n";

/// Sends requests with secrets in every place, and returns all answers.
fn send_secrets(proxy: &Proxy, path: &str) -> String {
    let fields = [
        ("authorization", format!("Bearer {SECRET}")),
        ("cookie", format!("session={SECRET}")),
        ("x-api-key", SECRET.to_owned()),
        ("proxy-authorization", format!("Basic {SECRET}")),
        ("x-client-name", SECRET.to_owned()),
    ];
    let path = format!("{path}?token={SECRET}");
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = SECRET.len();
    let mut answers = String::new();
    for client in [proxy.producer(), proxy.consumer(), proxy.anonymous()] {
        let mut connection = client.connect(proxy.address).unwrap();
        let answer = connection.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{SECRET}"
        ));
        answers += &format!("{:?}", answer.unwrap());
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let connection = Http2::connect(&client, proxy.address).unwrap();
        answers +=
            &format!("{:?}", connection.ask(request("POST", &path, &fields), SECRET.as_bytes()).unwrap());
    }
    answers
}

#[test]
fn no_secret_of_a_client_is_written_down() {
    let (backend, refusing) = (Backend::ok(), RefusingPort::new());
    for url in [backend.url(), refusing.url()] {
        let mut proxy = Setup::new(&url).set("log.level", "trace").start();
        let mut answers = send_secrets(&proxy, "/events");
        answers += &send_secrets(&proxy, "/a//b");
        proxy.process.signal("INT");
        assert_eq!(proxy.process.exit().code(), Some(0));
        let (log, audit) = (proxy.process.log(), proxy.process.rest_of_output());
        assert_eq!(audit.lines().count(), 12, "{audit}");
        for (what, text) in [("the log", &log), ("an audit record", &audit), ("an answer", &answers)] {
            assert!(!text.contains(SECRET), "{what}: {text}");
        }
        let key = proxy.pki().server.key.secret_der().to_vec();
        assert!(!log.as_bytes().windows(32).any(|window| window == &key[..32]), "the server's key");
    }
    // The backend gets the credentials of the client.
    assert_eq!(backend.received()[0].header("authorization"), [format!("Bearer {SECRET}")]);
}
