//! How others read a request's target, as far as what they make of a path matters: each takes what is forwarded and says
//! which path the application behind it sees. Written down as rules here, so that millions of targets can be tried;
//! tests/attacks/one_reading.rs holds the rules against the programs themselves.

/// What an application sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Decoded, and made canonical where the reader does that.
    pub path: String,
    /// As it stands, without `?`; empty where there is none.
    pub query: String,
    /// A segment was taken for "here" or "up".
    pub climbs: bool,
    /// The start was taken for a host.
    pub elsewhere: bool,
}

/// `None` where it refuses.
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

/// Whole escapes decoded once; what is none stays.
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

/// The path state of <https://url.spec.whatwg.org/#path-state> for a scheme like `http`, then decoded.
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

/// `parseurl`, then `decodeURIComponent`, which takes UTF-8 alone.
fn express(target: &str) -> Option<Reading> {
    let (path, query) = split(target);
    if has_broken_escape(path) {
        return None;
    }
    let path = String::from_utf8(unquote(path)).ok()?;
    // Files are served from the path as the system reads it: Windows knows two slashes.
    let climbs = has_dots(&path, &['/', '\\']);
    Some(Reading { elsewhere: path.starts_with("//"), path, query: query.to_owned(), climbs })
}

/// RFC 2396 as Java has it: a strict parser, decoded by `getPath`.
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

/// Servlet 6.0 §3.5.2, with everything allowed that containers may refuse.
fn servlet(target: &str) -> Option<Reading> {
    let (path, query) = split(target);
    // First split, then cut parameters, then decode.
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

/// Whether a path holds a segment for "here" or "up", to whoever takes these for slashes.
pub fn has_dots(path: &str, slashes: &[char]) -> bool {
    path.split(slashes).any(|segment| segment == "." || segment == "..")
}
