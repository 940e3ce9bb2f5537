//! The same request, sent to a server itself and through Sidegate in either version of HTTP, and what may differ.

use std::io::{self, Read, Write};

use bytes::Bytes;
use http::Request;
use serde_json::Value;

use super::servers::Server;
use crate::support::http1::Wire;
use crate::support::http2::Http2;
use crate::support::{Answer, Proxy};

/// What of an answer belongs to the connection it came over, or to the moment.
const OF_THE_HOP: [(&str, &str); 4] = [
    ("connection", "belongs to one connection (RFC 9110 §7.6.1)"),
    ("keep-alive", "belongs to one connection"),
    ("transfer-encoding", "framing is made anew, and HTTP/2 has its own"),
    ("date", "the clock went on"),
];

/// What of an answer is another where it tells of the request: there is more to tell.
const OF_AN_ECHO: [(&str, &str); 2] = [("content-length", "of a longer echo"), ("etag", "of another echo")];

/// What of a request is another when it was forwarded, beside what Sidegate says of the client.
const MADE_ANEW: [(&str, &str); 5] = [
    ("connection", "belongs to one connection"),
    ("transfer-encoding", "framing is made anew"),
    ("content-length", "framing is made anew: a body in HTTP/2 may have no length"),
    ("expect", "is answered by Sidegate, which asks for the body when the server takes it"),
    ("te", "belongs to one connection; only `trailers` goes on"),
];

/// What Sidegate says of the client and of the request (DESIGN §5).
const SAID: [&str; 8] = [
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
    /// Sent only when the server has asked for it (`Expect: 100-continue`).
    Expected(Bytes),
    /// A length is told, and nothing of it sent: the answer comes before the request has ended.
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

    /// Holds the answer that came through Sidegate against the one of the server itself: status, headers, body and
    /// trailers are the same, save what is named.
    #[track_caller]
    pub fn assert_same(&self, way: &str, direct: &Answer, through: &Answer, lawful: &[(&str, &str)]) {
        let what = format!("{way} {} {} {:?}", self.method, self.target, self.headers);
        let lawful = [lawful, if self.target.starts_with("/echo/") { &OF_AN_ECHO } else { &[] }].concat();
        assert_eq!(through.status, direct.status, "{what}:\n{through:?}");
        assert_eq!(headers_of(through, &lawful), headers_of(direct, &lawful), "{what}");
        assert_eq!(through.trailers, direct.trailers, "{what}");
        if let (Some(mut expected), Some(mut got)) = (request_of(direct), request_of(through)) {
            tell_apart(&what, &mut expected, &mut got);
            assert_eq!(got, expected, "{what}: the server was asked something else");
        } else if body_of(through) != body_of(direct) {
            // Megabytes of difference help nobody.
            let (direct, through) = (direct.body.len(), through.body.len());
            panic!("{what}: {direct} bytes direct, {through} bytes through, not the same");
        }
    }

    /// Its head in HTTP/1.
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

    /// Sends it and reads the answer.
    pub fn send(&self, wire: &mut Wire<impl Read + Write>) -> io::Result<Answer> {
        wire.send(self.head("HTTP/1.1"))?;
        match &self.body {
            Body::None | Body::Announced(_) => {}
            Body::Whole(body) => wire.send(body)?,
            Body::Chunked(body) => {
                // Chunks as a client cuts them, not as a server would like them.
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

    /// The same in HTTP/2.
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

/// The ways that a request can take to a server.
pub struct Ways<'a> {
    pub server: &'a Server,
    pub proxy: &'a Proxy,
}

impl Ways<'_> {
    /// Sends a request on each way, and holds the answers against each other.
    #[track_caller]
    pub fn compare(&self, ask: &Ask) -> Answer {
        self.compare_except(ask, &[])
    }

    /// The same where more headers may differ, each for a reason.
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

/// An echo tells what reached the application: the client's own headers, and beside them only what Sidegate says.
fn tell_apart(what: &str, direct: &mut Value, through: &mut Value) {
    for name in SAID {
        assert!(through["headers"].as_object_mut().unwrap().remove(name).is_some(), "{what}: no {name}");
    }
    for (name, _) in MADE_ANEW {
        direct["headers"].as_object_mut().unwrap().remove(name);
        through["headers"].as_object_mut().unwrap().remove(name);
    }
}

/// The body of an echo.
fn request_of(answer: &Answer) -> Option<Value> {
    let echo: Value = serde_json::from_slice(&answer.body).ok()?;
    echo.get("sha256").is_some().then_some(echo)
}

fn headers_of(answer: &Answer, lawful: &[(&str, &str)]) -> Vec<(String, String)> {
    let boundary = boundary_of(answer);
    let compared = |name: &str| !OF_THE_HOP.iter().chain(lawful).any(|(except, _)| *except == name);
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

/// What no header holds.
const NO_BOUNDARY: &str = "\r\n";

/// Each answer of several parts has a boundary of its own.
fn boundary_of(answer: &Answer) -> String {
    let content_type = answer.headers.iter().find(|(name, _)| name == "content-type");
    let boundary = content_type.and_then(|(_, value)| value.split_once("boundary="));
    boundary.map_or(NO_BOUNDARY, |(_, boundary)| boundary).to_owned()
}
