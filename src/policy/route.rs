//! Routes, as an author writes them: `METHODS PATH`, with conditions.

mod display;
mod parse;

use http::Method;

use super::RouteTimeouts;
use super::condition::{HeaderCondition, QueryCondition};
use super::host::HostPattern;
use crate::diagnostic::Place;
use crate::identity::Attribute;
pub(crate) use parse::parse;

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
    /// Time limits of the requests that the route grants.
    pub(crate) timeouts: RouteTimeouts,
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
            let Some(at) = memchr::memmem::find(rest, part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last)
    }
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
