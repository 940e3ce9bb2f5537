//! What a client keeps secret is written down nowhere: not in the log, however much it tells, not in audit records, and not in
//! answers of our own.

use crate::support::backend::Refusing;
use crate::support::http2::{Http2, request};
use crate::support::{Backend, Proxy, Setup};

const SECRET: &str = "s3cr3t-t0k3n";

fn ask(proxy: &Proxy, path: &str) -> String {
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
    let (backend, refusing) = (Backend::ok(), Refusing::new());
    for url in [backend.url(), refusing.url()] {
        let mut proxy = Setup::new(&url).set("log.level", "trace").start();
        let mut answers = ask(&proxy, "/events");
        answers += &ask(&proxy, "/a//b");
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
    // The backend gets what is its own.
    assert_eq!(backend.received()[0].header("authorization"), [format!("Bearer {SECRET}")]);
}
