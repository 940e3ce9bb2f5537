//! The target of a request: method, path and query made canonical, or refused. Pure.
//!
//! What is judged here is what is forwarded: a [`Target`] keeps the very bytes of the path and query that it was
//! parsed from, and everything that two parsers could read differently is refused (DESIGN §5).

use http::Method;
use http::uri::PathAndQuery;

/// A method, a path and a query that have one reading only.
#[derive(Clone, Debug)]
pub struct Target {
    method: Method,
    path_and_query: PathAndQuery,
    /// The segments after percent-decoding; `None` where the path has no escape and its own bytes serve.
    decoded: Option<Box<[Box<[u8]>]>>,
}

impl Target {
    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path as it was sent and will be forwarded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query.path()
    }

    /// The query as it was sent and will be forwarded, without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.query()
    }

    /// The path's segments, decoded once. `/` has none; a trailing slash makes a last, empty one.
    pub fn segments(&self) -> Segments<'_> {
        match &self.decoded {
            Some(decoded) => Segments::Decoded(decoded.iter()),
            None => Segments::Raw { rest: self.path().strip_prefix('/').filter(|rest| !rest.is_empty()) },
        }
    }
}

/// The decoded segments of a path, first to last.
#[derive(Clone, Debug)]
pub enum Segments<'a> {
    /// The path's own bytes, cut at the slashes.
    Raw {
        /// What is left of the path, without its leading slash.
        rest: Option<&'a str>,
    },
    /// Segments that had to be decoded.
    Decoded(std::slice::Iter<'a, Box<[u8]>>),
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Raw { rest } => {
                let text = (*rest)?;
                let (segment, after) = match text.split_once('/') {
                    Some((segment, after)) => (segment, Some(after)),
                    None => (text, None),
                };
                *rest = after;
                Some(segment.as_bytes())
            }
            Self::Decoded(segments) => segments.next().map(|segment| &**segment),
        }
    }
}
