//! Models of how other parsers read the target of a request: each takes a forwarded target and returns the path that the
//! application gets. The models allow millions of targets in a test; the promise `one_reading` compares them with the real
//! programs.

/// A target as an application gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Decoded path, in canonical form if the parser makes it canonical.
    pub path: String,
    /// Query as sent, without `?`; empty if absent.
    pub query: String,
    /// True if a segment was read as "." or "..".
    pub climbs: bool,
    /// True if the start was read as a host.
    pub elsewhere: bool,
}

/// Returns `None` if the parser refuses the target.
pub type Reader = fn(&str) -> Option<Reading>;

pub const READERS: [(&str, Reader); 5] = [
    ("WHATWG URL", whatwg),
    ("urllib of Python", urllib),
    ("Node with Express", express),
    ("java.net.URI", java_uri),
    ("servlets", servlet),
];

fn split(target: &str) -> (&str, &str) {
    let target = target.split('#').next().unwrap_or_default();
    target.split_once('?').unwrap_or((target, ""))
}

/// Decodes every complete escape once; incomplete escapes stay.
pub fn unquote(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits =
            after.get(..2).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn has_broken_escape(text: &str) -> bool {
    text.split('%').skip(1).any(|after| {
        !after.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    })
}

/// The path state of <https://url.spec.whatwg.org/#path-state> for a special scheme, then decoding.
fn whatwg(target: &str) -> Option<Reading> {
    let (path, query) = split(target);
    let is_slash = |byte: char| byte == '/' || byte == '\\';
    let elsewhere = path.starts_with(is_slash) && path[1..].starts_with(is_slash);
    let parts: Vec<&str> = path.strip_prefix(is_slash).unwrap_or(path).split(is_slash).collect();
    let mut segments: Vec<&str> = Vec::new();
    let mut climbs = false;
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        match part.to_lowercase().replace("%2e", ".").as_str() {
            "." | ".." => {
                climbs = true;
                if part.to_lowercase().replace("%2e", ".") == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    let path = lossy(unquote(&format!("/{}", segments.join("/"))));
    Some(Reading { path, query: query.to_owned(), climbs, elsewhere })
}

/// `urllib.parse`: `urlsplit`, then `unquote`.
fn urllib(target: &str) -> Option<Reading> {
    let (path, query) = split(target);
    let elsewhere = path.starts_with("//");
    let path = if elsewhere { path[2..].find('/').map_or("", |at| &path[2 + at..]) } else { path };
    let path = lossy(unquote(path));
    let climbs = has_dots(&path, &['/']);
    Some(Reading { path, query: query.to_owned(), climbs, elsewhere })
}

/// `parseurl`, then `decodeURIComponent`, which accepts only UTF-8.
fn express(target: &str) -> Option<Reading> {
    let (path, query) = split(target);
    if has_broken_escape(path) {
        return None;
    }
    let path = String::from_utf8(unquote(path)).ok()?;
    // The operating system reads the path of a file; on Windows `\` is also a separator.
    let climbs = has_dots(&path, &['/', '\\']);
    Some(Reading { elsewhere: path.starts_with("//"), path, query: query.to_owned(), climbs })
}

/// Java's strict parser of RFC 2396, decoded by `getPath`.
fn java_uri(target: &str) -> Option<Reading> {
    let (path, query) = split(target);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-!.~'()*%,;:$&+=?/[]@".contains(&byte);
    let in_path = |byte: u8| allowed(byte) && !b"?[]".contains(&byte);
    if !path.bytes().all(in_path) || !query.bytes().all(allowed) || has_broken_escape(target) {
        return None;
    }
    let elsewhere = path.starts_with("//");
    let path = lossy(unquote(path));
    Some(Reading { climbs: has_dots(&path, &['/']), path, query: query.to_owned(), elsewhere })
}

/// Servlet 6.0 §3.5.2, without the refusals that are optional for containers.
fn servlet(target: &str) -> Option<Reading> {
    let (path, query) = split(target);
    // The specification prescribes this order: split, remove parameters, decode.
    let segments: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .map(|segment| lossy(unquote(segment)))
        .collect();
    let climbs = segments.iter().any(|segment| segment == "." || segment == "..");
    let mut canonical: Vec<&str> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        match (segment.as_str(), at + 1 == segments.len()) {
            ("." | "", false) => {}
            ("..", _) => drop(canonical.pop()),
            ("." | "", true) => canonical.push(""),
            (segment, _) => canonical.push(segment),
        }
    }
    let path = format!("/{}", canonical.join("/"));
    Some(Reading { path, query: query.to_owned(), climbs, elsewhere: false })
}

/// Returns true if a path has a segment "." or ".." for a parser with these separators.
pub fn has_dots(path: &str, slashes: &[char]) -> bool {
    path.split(slashes).any(|segment| segment == "." || segment == "..")
}
