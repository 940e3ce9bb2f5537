//! The reading of `METHODS PATH`.

use http::Method;

use super::{Glob, Methods, Path, Segment, Variable, method_bit};
use crate::identity::Attribute;
use crate::policy::host::HostPattern;
use crate::policy::pattern::{SyntaxError, is_capture_name};

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
