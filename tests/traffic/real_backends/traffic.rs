//! The same request is sent directly and through Sidegate, and the answers are compared. The tables say what may differ, and
//! why.

use std::io::{self, Read, Write};

use bytes::Bytes;
use http::Request;
use serde_json::Value;

use super::servers::Server;
use crate::support::http1::Wire;
use crate::support::http2::Http2;
use crate::support::{Answer, Proxy};

/// Headers of an answer that belong to its connection or to its time.
const CONNECTION_HEADERS: [(&str, &str); 4] = [
    ("connection", "belongs to one connection (RFC 9110 §7.6.1)"),
    ("keep-alive", "belongs to one connection"),
    ("transfer-encoding", "the proxy frames the body anew, and HTTP/2 has its own framing"),
    ("date", "the time went on"),
];

/// Headers that differ in an echo, because the forwarded request has more headers.
const ECHO_HEADERS: [(&str, &str); 2] =
    [("content-length", "the echo is longer"), ("etag", "the echo differs")];

/// Headers of a request that Sidegate replaces when it forwards the request.
const REPLACED_HEADERS: [(&str, &str); 5] = [
    ("connection", "belongs to one connection"),
    ("transfer-encoding", "the proxy frames the body anew"),
    ("content-length", "the proxy frames the body anew: a body in HTTP/2 may have no length"),
    ("expect", "is answered by Sidegate, which asks for the body when the server takes it"),
    ("te", "belongs to one connection; only `trailers` is forwarded"),
];

/// Headers that Sidegate adds (DESIGN §5).
const ADDED_HEADERS: [&str; 8] = [
    "client-cert",
    "forwarded",
    "traceparent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// A request, before it has a version of HTTP.
#[derive(Clone)]
pub struct Ask {
    pub method: &'static str,
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

/// The body of a request and how it is framed in HTTP/1.1.
#[derive(Clone)]
pub enum Body {
    None,
    Whole(Bytes),
    Chunked(Bytes),
    /// A body that is sent when the server asks for it (`Expect: 100-continue`).
    Expected(Bytes),
    /// A length without a body: the answer comes before the request has ended.
    Announced(usize),
}

impl Ask {
    pub fn new(method: &'static str, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: Vec::new(), body: Body::None }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Asserts that the answer through Sidegate has the status, headers, body and trailers of the direct answer, except for
    /// `lawful` headers.
    #[track_caller]
    pub fn assert_same(&self, way: &str, direct: &Answer, through: &Answer, lawful: &[(&str, &str)]) {
        let what = format!("{way} {} {} {:?}", self.method, self.target, self.headers);
        let lawful = [lawful, if self.target.starts_with("/echo/") { &ECHO_HEADERS } else { &[] }].concat();
        assert_eq!(through.status, direct.status, "{what}:\n{through:?}");
        assert_eq!(headers_of(through, &lawful), headers_of(direct, &lawful), "{what}");
        assert_eq!(through.trailers, direct.trailers, "{what}");
        if let (Some(mut expected), Some(mut got)) = (request_of(direct), request_of(through)) {
            remove_expected_differences(&what, &mut expected, &mut got);
            assert_eq!(got, expected, "{what}: the server was asked something else");
        } else if body_of(through) != body_of(direct) {
            // The bodies may have megabytes, so only their lengths are shown.
            let (direct, through) = (direct.body.len(), through.body.len());
            panic!("{what}: {direct} bytes direct, {through} bytes through, not the same");
        }
    }

    /// Returns the head in HTTP/1.
    pub fn head(&self, version: &str) -> String {
        let mut head = format!("{} {} {version}\r\nHost: localhost\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Body::None => {}
            Body::Whole(body) => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
            Body::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Body::Expected(body) => {
                head.push_str(&format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len()));
            }
            Body::Announced(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        }
        head + "\r\n"
    }

    /// Sends the request over HTTP/1.1, and reads the answer.
    pub fn send(&self, wire: &mut Wire<impl Read + Write>) -> io::Result<Answer> {
        wire.send(self.head("HTTP/1.1"))?;
        match &self.body {
            Body::None | Body::Announced(_) => {}
            Body::Whole(body) => wire.send(body)?,
            Body::Chunked(body) => {
                // The size of the chunks fits no buffer of a server.
                for chunk in body.chunks(10_007) {
                    wire.send(format!("{:x}\r\n", chunk.len()))?;
                    wire.send([chunk, b"\r\n"].concat())?;
                }
                wire.send("0\r\n\r\n")?;
            }
            Body::Expected(body) => {
                let interim = wire.read_until(b"\r\n\r\n")?;
                assert!(interim.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&interim));
                wire.send(body)?;
            }
        }
        wire.answer_to(self.method)
    }

    /// Sends the request over HTTP/2, and reads the answer.
    pub fn send_http2(&self, connection: &Http2) -> io::Result<Answer> {
        let mut request =
            Request::builder().method(self.method).uri(format!("https://localhost{}", self.target));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let (length, body) = match &self.body {
            Body::None => (None, None),
            Body::Whole(body) | Body::Expected(body) => (Some(body.len()), Some(body)),
            Body::Chunked(body) => (None, Some(body)),
            Body::Announced(length) => (Some(*length), None),
        };
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(()).unwrap();
        match &self.body {
            Body::None => connection.ask(request, b""),
            Body::Announced(_) => connection.open(request, false)?.answer_before_end(),
            _ => connection.open(request, false)?.finish_with(body.cloned().unwrap_or_default()),
        }
    }
}

/// The ways of a request to a server: directly and through Sidegate.
pub struct Ways<'a> {
    pub server: &'a Server,
    pub proxy: &'a Proxy,
}

impl Ways<'_> {
    /// Sends a request on each way, and compares the answers.
    #[track_caller]
    pub fn compare(&self, ask: &Ask) -> Answer {
        self.compare_except(ask, &[])
    }

    /// Compares the answers, except for more headers that may differ, each for a reason.
    #[track_caller]
    pub fn compare_except(&self, ask: &Ask, lawful: &[(&str, &str)]) -> Answer {
        let what = format!("{} {} {:?}", ask.method, ask.target, ask.headers);
        let direct = self.server.connect().and_then(|mut wire| ask.send(&mut wire));
        let direct = direct.unwrap_or_else(|error| panic!("direct {what}: {error}"));
        let http1 =
            self.proxy.producer().connect(self.proxy.address).and_then(|mut wire| ask.send(&mut wire));
        let http1 = http1.unwrap_or_else(|error| panic!("HTTP/1.1 {what}: {error}"));
        assert_eq!(http1.phrase, direct.phrase, "{what}");
        let http2 = Http2::connect(&self.proxy.producer(), self.proxy.address)
            .and_then(|connection| ask.send_http2(&connection));
        let http2 = http2.unwrap_or_else(|error| panic!("HTTP/2 {what}: {error}"));
        ask.assert_same("HTTP/1.1", &direct, &http1, lawful);
        ask.assert_same("HTTP/2", &direct, &http2, lawful);
        direct
    }
}

/// Asserts that the forwarded request has the headers that Sidegate adds, and removes the headers that may differ.
fn remove_expected_differences(what: &str, direct: &mut Value, through: &mut Value) {
    for name in ADDED_HEADERS {
        assert!(through["headers"].as_object_mut().unwrap().remove(name).is_some(), "{what}: no {name}");
    }
    for (name, _) in REPLACED_HEADERS {
        direct["headers"].as_object_mut().unwrap().remove(name);
        through["headers"].as_object_mut().unwrap().remove(name);
    }
}

/// Returns the body of an echo; `None` for other answers.
fn request_of(answer: &Answer) -> Option<Value> {
    let echo: Value = serde_json::from_slice(&answer.body).ok()?;
    echo.get("sha256").is_some().then_some(echo)
}

fn headers_of(answer: &Answer, lawful: &[(&str, &str)]) -> Vec<(String, String)> {
    let boundary = boundary_of(answer);
    let compared = |name: &str| !CONNECTION_HEADERS.iter().chain(lawful).any(|(except, _)| *except == name);
    let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| compared(name)).cloned().collect();
    for (_, value) in &mut headers {
        *value = value.replace(&boundary, "BOUNDARY");
    }
    headers.sort();
    headers
}

fn body_of(answer: &Answer) -> Vec<u8> {
    match boundary_of(answer) {
        boundary if boundary == NO_BOUNDARY => answer.body.clone(),
        boundary => answer.text().replace(&boundary, "BOUNDARY").into_bytes(),
    }
}

/// A value that no header can have.
const NO_BOUNDARY: &str = "\r\n";

/// Returns the boundary of a multipart answer, which differs in every answer.
fn boundary_of(answer: &Answer) -> String {
    let content_type = answer.headers.iter().find(|(name, _)| name == "content-type");
    let boundary = content_type.and_then(|(_, value)| value.split_once("boundary="));
    boundary.map_or(NO_BOUNDARY, |(_, boundary)| boundary).to_owned()
}
