//! The backend over its own socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::*;

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(backend: &Backend) -> Self {
        let stream = TcpStream::connect(backend.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, request: &str) {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The head of an answer, in lower case.
    fn head(&mut self) -> String {
        let lines: Vec<_> =
            std::iter::repeat_with(|| self.line()).take_while(|line| !line.is_empty()).collect();
        lines.join("\n").to_lowercase()
    }

    fn ask(&mut self, request: &str) -> (String, String) {
        self.send(request);
        let head = self.head();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn publish(&mut self, body: &str) -> (String, String) {
        self.ask(&format!("POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    fn read(&mut self, target: &str) -> (String, String) {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }
}

fn start() -> Backend {
    Backend::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

#[test]
fn what_is_published_is_read_on_the_same_connection() {
    let backend = start();
    let mut client = Client::connect(&backend);
    let (head, body) = client.publish(r#"{"order":42}"#);
    assert!(head.starts_with("http/1.1 201") && head.contains("location: /events/1"), "{head}");
    assert_eq!(body, r#"{"id":1}"#);
    client.publish("plain text");
    let (_, one) = client.read("/events/1");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&one).unwrap()["data"]["order"], 42);
    let (_, list) = client.read("/events?after=1&limit=5");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["data"], "plain text");
}

#[test]
fn wrong_requests_get_clear_answers() {
    let backend = start();
    for (request, status) in [
        ("GET /events/7 HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("GET /events/seven HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /events?limit=many HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("DELETE /events/1 HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("PUT /events HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", "413"),
        ("GET /events/stream HTTP/1.1\r\nHost: a\r\nLast-Event-ID: x\r\n\r\n", "400"),
    ] {
        let (head, body) = Client::connect(&backend).ask(request);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{request} -> {head}");
        assert!(body.contains("\"detail\""), "{request} -> {body}");
    }
}

#[test]
fn a_chunked_event_beyond_the_bound_is_refused_too() {
    let backend = start();
    let mut client = Client::connect(&backend);
    client.send("POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(&format!("10001\r\n{}\r\n0\r\n\r\n", "x".repeat(0x10001)));
    assert!(client.head().starts_with("http/1.1 413"));
}

#[test]
fn a_stream_resumes_after_the_last_event_and_goes_on_with_new_ones() {
    let backend = start();
    let mut publisher = Client::connect(&backend);
    publisher.publish("1");
    publisher.publish("2");
    let mut reader = Client::connect(&backend);
    reader.send("GET /events/stream HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1\r\n\r\n");
    assert!(reader.head().contains("content-type: text/event-stream"));
    let mut ids = std::iter::repeat_with(|| reader.line())
        .filter_map(|line| Some(line.strip_prefix("id: ")?.to_owned()));
    assert_eq!(ids.next().unwrap(), "2");
    publisher.publish("3");
    assert_eq!(ids.next().unwrap(), "3");
}

#[test]
fn a_reader_that_does_not_read_is_dropped_and_does_not_delay_others() {
    let backend = start();
    let mut slow = Client::connect(&backend);
    slow.send("GET /events/stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    slow.head();
    let mut publisher = Client::connect(&backend);
    let body = "x".repeat(60 * 1024);
    for _ in 0..600 {
        publisher.publish(&body);
    }
    let mut rest = Vec::new();
    // The stream ends, well or not, before all was delivered.
    let _ = slow.0.read_to_end(&mut rest);
    assert!(rest.len() < 600 * body.len(), "{}", rest.len());
}

#[test]
fn stopped_it_refuses_and_started_again_it_serves_on_the_same_port() {
    let backend = start();
    let address = backend.address();
    let mut client = Client::connect(&backend);
    client.publish("1");
    backend.stop();
    assert_eq!(client.line(), "");
    assert!(TcpStream::connect(address).is_err());
    let again = Backend::start(address).unwrap();
    assert!(Client::connect(&again).publish("1").0.starts_with("http/1.1 201"));
}
