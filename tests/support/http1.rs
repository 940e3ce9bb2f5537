//! A client of HTTP/1.1 that sends the bytes of the test unchanged and keeps every part of an answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::DEADLINE;

/// A connection with a buffer of bytes that are read and not yet used.
#[derive(Debug)]
pub struct Wire<S> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl Wire<TcpStream> {
    /// Connects without TLS.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self::new(stream))
    }
}

impl<S: Read + Write> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends a request and reads the answer.
    pub fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.send(request)?;
        self.answer_to(request.split(' ').next().unwrap_or_default())
    }

    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    pub fn post(&mut self, target: &str, body: &str) -> io::Result<Answer> {
        let length = body.len();
        self.ask(&format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// Reads a complete answer to a request of this method; answers to HEAD have no body.
    pub fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.head()?;
        if method != "HEAD" && !matches!(answer.status, 204 | 304) {
            self.read_body(&mut answer)?;
        }
        Ok(answer)
    }

    /// Reads the head of the final answer, and collects the statuses of informational answers before it.
    pub fn head(&mut self) -> io::Result<Answer> {
        let mut informational = Vec::new();
        loop {
            let mut answer = Answer::of_head(&self.read_until(b"\r\n\r\n")?)?;
            if answer.status >= 200 || answer.status == 101 {
                answer.informational = informational;
                return Ok(answer);
            }
            informational.push(answer.status);
        }
    }

    fn read_body(&mut self, answer: &mut Answer) -> io::Result<()> {
        if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.read_line()?;
                let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(io::Error::other)?;
                if length == 0 {
                    return self.read_trailers(answer);
                }
                let chunk = self.read_exactly(length + 2)?;
                answer.body.extend_from_slice(&chunk[..length]);
            }
        }
        answer.body = match answer.header("content-length") {
            Some(length) => self.read_exactly(length.parse().map_err(io::Error::other)?)?,
            None => self.read_to_end()?,
        };
        Ok(())
    }

    fn read_trailers(&mut self, answer: &mut Answer) -> io::Result<()> {
        loop {
            let line = self.read_line()?;
            match line.split_once(": ") {
                Some((name, value)) => answer.trailers.push((name.to_lowercase(), value.to_owned())),
                None => return Ok(()),
            }
        }
    }

    /// Reads a line; the result has no CRLF.
    pub fn read_line(&mut self) -> io::Result<String> {
        let line = self.read_until(b"\r\n")?;
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    pub fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.take(at + end.len()));
            }
            self.fill_buffer()?;
        }
    }

    pub fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill_buffer()?;
        }
        Ok(self.take(length))
    }

    /// Waits for bytes and returns all that are there; empty at the end of the stream.
    pub fn read_available(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty()
            && let Err(error) = self.fill_buffer()
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            return Err(error);
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Reads to the end of the stream. A TLS stream may end without `close_notify`.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill_buffer() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the end of the connection; returns false if a byte or nothing comes before the read timeout.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty()
            && match self.fill_buffer() {
                Ok(()) => false,
                Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
    }

    fn fill_buffer(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended")),
            length => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Ok(())
            }
        }
    }
}

/// An answer of HTTP/1.1 or HTTP/2.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// Reason phrase of HTTP/1.1; empty for HTTP/2.
    pub phrase: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Statuses of the 1xx answers before this answer.
    pub informational: Vec<u16>,
}

impl Answer {
    fn of_head(head: &[u8]) -> io::Result<Self> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.trim_end().split("\r\n");
        let mut start = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
        let status =
            start.next().unwrap_or_default().parse().map_err(|_| io::Error::other(head.to_string()))?;
        let phrase = start.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self { status, phrase, headers, ..Self::default() })
    }

    /// Returns the value of a header; panics if the header has two values.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "two `{name}` in {self:?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the documented reason of a refusal; `None` for an answer of the backend.
    pub fn reason(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        Some(problem.get("reason")?.as_str()?.to_owned())
    }

    /// Returns status and reason, as the tables of the tests write them: `401 not_authenticated`, `200`.
    pub fn verdict(&self) -> String {
        match self.reason() {
            Some(reason) => format!("{} {reason}", self.status),
            None => self.status.to_string(),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.status, self.phrase)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", self.text().chars().take(2000).collect::<String>())
    }
}
