//! Routes, as an author writes them: `METHODS PATH`, with conditions.

use std::fmt;

use http::Method;

use super::condition::{HeaderCondition, QueryCondition};
use super::host::HostPattern;
use super::pattern::{SyntaxError, is_capture_name};
use crate::diagnostic::Place;
use crate::identity::Attribute;

/// A route of a permission or deny rule: methods, a pattern of paths and conditions.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Text of the route, as its author wrote it.
    pub(crate) text: Box<str>,
    pub(crate) place: Place,
    pub(crate) methods: Methods,
    pub(crate) path: Path,
    /// Hosts, of which the request must name one; empty for any host.
    pub(crate) hosts: Box<[HostPattern]>,
    pub(crate) query: Box<[QueryCondition]>,
    pub(crate) headers: Box<[HeaderCondition]>,
    /// True if the route also permits the switch to WebSocket (`upgrade: websocket`).
    pub(crate) upgrade: bool,
}

/// The methods of a route: a bit for each well-known method, and the other methods by name. `GET` implies `HEAD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Methods {
    Any,
    Listed { known: u16, others: Box<[Method]> },
}

/// The well-known methods, in the order of their bits.
pub(crate) const KNOWN_METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::CONNECT,
    Method::TRACE,
];

/// Returns the bit of a well-known method.
pub(crate) fn method_bit(method: &Method) -> Option<u16> {
    // The order is the order of `KNOWN_METHODS`. A match on constants is faster than a search in the list, and every decision
    // runs it.
    Some(match *method {
        Method::GET => 1,
        Method::POST => 1 << 1,
        Method::PUT => 1 << 2,
        Method::DELETE => 1 << 3,
        Method::HEAD => 1 << 4,
        Method::OPTIONS => 1 << 5,
        Method::PATCH => 1 << 6,
        Method::CONNECT => 1 << 7,
        Method::TRACE => 1 << 8,
        _ => return None,
    })
}

/// The pattern of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Box<[Segment]>,
    /// True if the path ends with `**`, which matches any number of further segments.
    pub(crate) rest: bool,
}

/// The pattern of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// Exactly these bytes, percent-decoded.
    Literal(Box<[u8]>),
    /// A segment with `*`.
    Glob(Glob),
    /// Any segment that is not empty.
    Any,
    /// `{client.NAME}`: the value that the client's certificate gives to the name.
    Client(Variable),
}

/// The name in `{client.NAME}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Variable {
    Attribute(Attribute),
    Capture(Box<str>),
}

/// A pattern of one segment: literal parts with any bytes between each two. `*.txt` has an empty part and `.txt`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Glob(Box<[Box<[u8]>]>);

/// The most segments of a route's path. The walk recurses once for each segment, so that this limit bounds the stack.
const MAX_SEGMENTS: usize = 100;

/// Reads `METHODS PATH`.
pub(crate) fn parse(text: &str) -> Result<(Methods, Path), SyntaxError> {
    let trimmed = text.trim_end();
    let Some((methods, path)) = trimmed.split_once(' ') else {
        return Err(without_space(trimmed));
    };
    let before = methods.len() + 1 + (path.len() - path.trim_start().len());
    let methods = parse_methods(methods)?;
    Ok((methods, parse_path(path.trim_start(), before)?))
}

fn without_space(text: &str) -> SyntaxError {
    let wrong = SyntaxError::new(0, text.len(), format!("`{text}` is not a route"));
    match text.starts_with('/') {
        true => wrong.help(format!(
            "write the methods before the path, as in `GET {text}`, or `* {text}` for every method"
        )),
        false => wrong.help(
            host_before(text)
                .unwrap_or_else(|| "write methods, a space and a path, as in `GET /events/{id}`".to_owned()),
        ),
    }
}

/// Returns the help for a host, or a whole URL, where a path is expected.
fn host_before(text: &str) -> Option<String> {
    let (is_url, rest) = match text.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, text),
    };
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at_checked(at)?,
        None if is_url => (rest, "/"),
        None => return None,
    };
    let is_host = HostPattern::parse(host).is_ok() && (is_url || host.contains(['.', ':']));
    is_host.then(|| {
        format!("a route has no host; write the path `{path}` alone, and the host beside `route`, as `hosts: [\"{host}\"]`")
    })
}

fn parse_methods(text: &str) -> Result<Methods, SyntaxError> {
    if text == "*" {
        return Ok(Methods::Any);
    }
    let (mut bits, mut others) = (0, Vec::new());
    let mut start = 0;
    for name in text.split('|') {
        let end = start + name.len();
        match parse_method(name, start, end)? {
            Method::GET => bits |= GET_AND_HEAD,
            method => match method_bit(&method) {
                Some(bit) => bits |= bit,
                None => others.push(method),
            },
        }
        start = end + 1;
    }
    others.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    others.dedup();
    Ok(Methods::Listed { known: bits, others: others.into() })
}

const GET_AND_HEAD: u16 = 1 | 1 << 4;

fn parse_method(name: &str, start: usize, end: usize) -> Result<Method, SyntaxError> {
    let wrong = |message: String| SyntaxError::new(start, end, message);
    if name.is_empty() {
        return Err(
            wrong("a method is missing".to_owned()).help("join methods with a single `|`, as in `GET|POST`")
        );
    }
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(wrong(format!("`{name}` is not a method"))
            .help(format!("methods are written in capitals: `{}`", name.to_ascii_uppercase())));
    }
    if name.contains([',', '/']) {
        return Err(wrong(format!("`{name}` is not a method"))
            .help("join methods with `|`, as in `GET|POST /events`"));
    }
    Method::from_bytes(name.as_bytes()).map_err(|_| wrong(format!("`{name}` is not a method")))
}

fn parse_path(text: &str, before: usize) -> Result<Path, SyntaxError> {
    let Some(inner) = text.strip_prefix('/') else {
        return Err(SyntaxError::new(
            before,
            before + text.len(),
            format!("the path `{text}` does not start with `/`"),
        )
        .help(host_before(text).unwrap_or_else(|| format!("write `/{text}`"))));
    };
    if let Some(at) = text.find(char::is_whitespace) {
        return Err(SyntaxError::new(before + at, before + at + 1, "a space in a path")
            .help("write `%20` for a space; give each route its own line"));
    }
    if let Some(at) = text.find(['?', '#']) {
        return Err(SyntaxError::new(before + at, before + text.len(), "a route's path has no query and no fragment")
            .help("put conditions on the query under `query:`, as in `{ route: GET /reports, query: { format: [csv] } }`"));
    }
    let mut at = before + 1;
    let mut segments = Vec::new();
    let written: Vec<&str> = if inner.is_empty() { Vec::new() } else { inner.split('/').collect() };
    let last = written.len().saturating_sub(1);
    let mut rest = false;
    for (index, segment) in written.iter().enumerate() {
        let end = at + segment.len();
        match *segment {
            "**" if index == last => rest = true,
            "" if index != last => {
                return Err(SyntaxError::new(at - 1, end + 1, "an empty segment")
                    .help("no request with `//` in its path is forwarded; write a single `/`"));
            }
            segment => segments.push(parse_segment(segment, at, end)?),
        }
        at = end + 1;
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(SyntaxError::new(
            before,
            before + text.len(),
            format!("a path of more than {MAX_SEGMENTS} segments"),
        ));
    }
    Ok(Path { segments: segments.into(), rest })
}

fn parse_segment(text: &str, start: usize, end: usize) -> Result<Segment, SyntaxError> {
    let wrong = |message: &str| SyntaxError::new(start, end, message);
    if text == "*" {
        return Ok(Segment::Any);
    }
    if text.contains("**") {
        return Err(wrong("`**` stands for whole segments, and only at the end of a path")
            .help("use `*` within a segment and `{name}` for a whole one"));
    }
    if text.contains(['{', '}']) {
        return parse_braces(text, start, end);
    }
    if matches!(text, "." | "..") {
        return Err(wrong("`.` and `..` segments are never forwarded, so this route matches nothing"));
    }
    let mut parts = Vec::new();
    for part in text.split('*') {
        parts.push(decode(part, start, end)?);
    }
    match <[Box<[u8]>; 1]>::try_from(parts) {
        Ok([literal]) => Ok(Segment::Literal(literal)),
        Err(parts) => Ok(Segment::Glob(Glob(parts.into()))),
    }
}

fn parse_braces(text: &str, start: usize, end: usize) -> Result<Segment, SyntaxError> {
    let wrong = |message: String| SyntaxError::new(start, end, message);
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
        return Err(wrong(format!("`{text}`: braces stand for a whole segment"))
            .help("use `*` to match a part of a segment, as in `/reports/*.csv`"));
    };
    let name = inner.strip_prefix("client.");
    if !is_capture_name(name.unwrap_or(inner)) {
        return Err(wrong(format!("`{{{inner}}}` is not a name")).help(
            "a name is made of small letters, digits, `_` and `-`, as in `{id}` or `{client.tenant}`",
        ));
    }
    Ok(match name {
        None => Segment::Any,
        Some(name) => Segment::Client(match Attribute::from_name(name) {
            Some(attribute) => Variable::Attribute(attribute),
            None => Variable::Capture(name.into()),
        }),
    })
}

/// Decodes percent-escapes once, as the paths of requests are decoded. `%2A` stands for a literal `*`.
fn decode(text: &str, start: usize, end: usize) -> Result<Box<[u8]>, SyntaxError> {
    let wrong = |message: String| SyntaxError::new(start, end, message);
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let Some(value) = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) else {
            return Err(
                wrong("a `%` that starts no escape".to_owned()).help("write `%25` for a percent sign")
            );
        };
        decoded.push(value);
    }
    if let Some(never) = decoded.iter().find(|byte| **byte == b'/' || byte.is_ascii_control()) {
        return Err(wrong(format!(
            "an escaped `%{never:02X}` is never forwarded, so this route matches nothing"
        )));
    }
    Ok(decoded.into())
}

impl Glob {
    /// Returns the bytes that every matching segment starts with.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.0.first().map(|part| &**part).unwrap_or_default()
    }

    pub(crate) fn parts(&self) -> &[Box<[u8]>] {
        &self.0
    }

    pub(crate) fn matches(&self, segment: &[u8]) -> bool {
        let [first, middle @ .., last] = &*self.0 else { return false };
        let Some(mut rest) = segment.strip_prefix(&**first) else { return false };
        for part in middle {
            let Some(at) = find(rest, part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

impl Methods {
    /// Returns the methods by name; an empty list if the route is for any method.
    pub(crate) fn named(&self) -> Vec<Method> {
        let Self::Listed { known: bits, others } = self else { return Vec::new() };
        let known =
            KNOWN_METHODS.into_iter().filter(|method| method_bit(method).is_some_and(|bit| bits & bit != 0));
        known.chain(others.iter().cloned()).collect()
    }

    pub(crate) fn contains(&self, method: &Method) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { known: bits, others } => {
                method_bit(method).map_or_else(|| others.contains(method), |bit| bits & bit != 0)
            }
        }
    }
}

impl Route {
    /// Returns the names of the captures that the route uses.
    pub(crate) fn captures(&self) -> impl Iterator<Item = &str> {
        self.path.segments.iter().filter_map(|segment| match segment {
            Segment::Client(Variable::Capture(name)) => Some(&**name),
            _ => None,
        })
    }

    pub(crate) fn is_conditional(&self) -> bool {
        !self.hosts.is_empty() || !self.query.is_empty() || !self.headers.is_empty()
    }
}

impl Variable {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Attribute(attribute) => attribute.name(),
            Self::Capture(name) => name,
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(bytes) => encode(bytes, f),
            Self::Glob(glob) => {
                for (index, part) in glob.0.iter().enumerate() {
                    if index > 0 {
                        f.write_str("*")?;
                    }
                    encode(part, f)?;
                }
                Ok(())
            }
            Self::Any => f.write_str("*"),
            Self::Client(variable) => write!(f, "{{client.{}}}", variable.name()),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            write!(f, "/{segment}")?;
        }
        match (self.rest, self.segments.is_empty()) {
            (true, _) => f.write_str("/**"),
            (false, true) => f.write_str("/"),
            (false, false) => Ok(()),
        }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::Any {
            return f.write_str("*");
        }
        let methods = self.named();
        let implied = |method: &&Method| **method != Method::HEAD || !methods.contains(&Method::GET);
        for (index, method) in methods.iter().filter(implied).enumerate() {
            let bar = if index > 0 { "|" } else { "" };
            write!(f, "{bar}{method}")?;
        }
        Ok(())
    }
}

fn encode(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        match byte {
            b'*' | b'{' | b'}' | b'%' | b' ' | b'?' | b'#' | 0..=0x1f | 0x7f..=0xff => {
                write!(f, "%{byte:02X}")?
            }
            byte => write!(f, "{}", char::from(*byte))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_and_written_alike() {
        for (text, written) in [
            ("GET /events", "GET /events"),
            ("GET|POST /events/{id}", "GET|POST /events/*"),
            ("POST|GET /", "GET|POST /"),
            ("HEAD /a/", "HEAD /a/"),
            ("* /**", "* /**"),
            ("PURGE /a%20b/*.txt/a*b*c/**", "PURGE /a%20b/*.txt/a*b*c/**"),
            ("GET /t/{client.tenant}/{client.common_name}", "GET /t/{client.tenant}/{client.common_name}"),
            ("GET /%2A", "GET /%2A"),
        ] {
            let (methods, path) = parse(text).unwrap();
            assert_eq!(format!("{methods} {path}"), written);
        }
        assert!(parse("GET /").unwrap().0.contains(&Method::HEAD));
        assert!(!parse("POST /").unwrap().0.contains(&Method::HEAD));
    }

    #[test]
    fn malformed_routes_say_where_and_why() {
        for (text, start, message) in [
            ("/events", 0, "`/events` is not a route"),
            ("GET", 0, "`GET` is not a route"),
            ("get /events", 0, "`get` is not a method"),
            ("GET|post /events", 4, "`post` is not a method"),
            ("GET,POST /events", 0, "`GET,POST` is not a method"),
            ("GET||POST /events", 4, "a method is missing"),
            ("GET events", 4, "the path `events` does not start with `/`"),
            ("GET /a b", 6, "a space in a path"),
            ("GET /a?x=1", 6, "a route's path has no query and no fragment"),
            ("GET /a//b", 6, "an empty segment"),
            ("GET /a/**/b", 7, "`**` stands for whole segments, and only at the end of a path"),
            ("GET /info**", 5, "`**` stands for whole segments, and only at the end of a path"),
            ("GET /{id}.json", 5, "`{id}.json`: braces stand for a whole segment"),
            ("GET /{Id}", 5, "`{Id}` is not a name"),
            ("GET /a/../b", 7, "`.` and `..` segments are never forwarded, so this route matches nothing"),
            ("GET /%zz", 5, "a `%` that starts no escape"),
            ("GET /%2f", 5, "an escaped `%2F` is never forwarded, so this route matches nothing"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.start, error.message.as_str()), (start, message), "{text}");
        }
    }

    /// Case 50.
    #[test]
    fn globs_match_within_a_segment() {
        let matches = |pattern: &str, segment: &str| {
            let (_, path) = parse(&format!("GET /{pattern}")).unwrap();
            match &path.segments[0] {
                Segment::Glob(glob) => glob.matches(segment.as_bytes()),
                other => panic!("{other:?}"),
            }
        };
        assert!(matches("*.txt", "a.txt") && matches("*.txt", ".txt") && !matches("*.txt", "a.txt2"));
        assert!(matches("a*b*c", "abbc") && !matches("a*b*c", "acb") && !matches("ab*ba", "aba"));
        assert!(matches("info*", "information"));
    }
}
