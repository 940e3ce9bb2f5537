//! HTTP/1.1 as bytes: what is sent is what the test wrote, and every part of the answer is kept.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::DEADLINE;

/// A connection and what was read of it beyond the last answer.
#[derive(Debug)]
pub struct Wire<S> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl Wire<TcpStream> {
    /// Without TLS.
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

    /// Sends a request and reads its answer.
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

    /// Reads an answer whole; the method decides whether it can have a body.
    pub fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.head()?;
        if method != "HEAD" && !matches!(answer.status, 204 | 304) {
            self.read_body(&mut answer)?;
        }
        Ok(answer)
    }

    /// Reads the head of the final answer, past the informational ones.
    pub fn head(&mut self) -> io::Result<Answer> {
        let mut informational = Vec::new();
        loop {
            let mut answer = Answer::of_head(&self.until(b"\r\n\r\n")?)?;
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
                let line = self.line()?;
                let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(io::Error::other)?;
                if length == 0 {
                    return self.read_trailers(answer);
                }
                let chunk = self.exactly(length + 2)?;
                answer.body.extend_from_slice(&chunk[..length]);
            }
        }
        answer.body = match answer.header("content-length") {
            Some(length) => self.exactly(length.parse().map_err(io::Error::other)?)?,
            None => self.rest()?,
        };
        Ok(())
    }

    fn read_trailers(&mut self, answer: &mut Answer) -> io::Result<()> {
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some((name, value)) => answer.trailers.push((name.to_lowercase(), value.to_owned())),
                None => return Ok(()),
            }
        }
    }

    /// A line without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let line = self.until(b"\r\n")?;
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    pub fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.take(at + end.len()));
            }
            self.more()?;
        }
    }

    pub fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more()?;
        }
        Ok(self.take(length))
    }

    /// What comes next, however much; nothing at the end of the stream.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty()
            && let Err(error) = self.more()
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

    /// Everything until the end of the stream; a stream that is cut without TLS's own end counts as ended.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the other side has ended the connection, without another byte.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty()
            && match self.more() {
                Ok(()) => false,
                Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
    }

    fn more(&mut self) -> io::Result<()> {
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

/// An answer of either version of HTTP.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// HTTP/1.1 only.
    pub phrase: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The statuses of the 1xx answers before it.
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

    /// The only value of a header.
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

    /// The documented reason of a refusal, of the sidecar's own making.
    pub fn reason(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        Some(problem.get("reason")?.as_str()?.to_owned())
    }

    /// Status and reason, as the tables of the promises write them: `401 not_authenticated`, `200`.
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
