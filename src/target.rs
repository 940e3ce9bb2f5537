//! Target of a request: method, path and query. An ambiguous target is refused. Pure.
//!
//! A [`Target`] keeps the exact bytes of its path and query, so the backend gets what the policy judged. A target that two
//! parsers could read in two ways is refused (DESIGN §5). `http::Uri` accepts `\`, broken escapes and raw UTF-8, so each byte
//! is checked here.

mod path;

use std::fmt;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri, Version, header};

use path::{ByteKind, byte_kind, parse_escape};

/// Rules for targets (`paths.allow`, `limits.http.max_target_bytes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRules {
    /// Maximum length of path and query in bytes. The length is checked first.
    pub max_length: usize,
    /// Forms of paths that are accepted although they are ambiguous.
    pub allowed: AllowedForms,
}

impl TargetRules {
    /// No ambiguous form is accepted: the default, and the rules for the tests of a policy.
    pub const STRICT: Self = Self { max_length: 16 * 1024, allowed: AllowedForms::NONE };
    /// Every form is accepted that some configuration accepts: for audit records, whose targets were judged before.
    pub const LENIENT: Self = Self { max_length: usize::MAX, allowed: AllowedForms::ALL };
}

/// Form of a target that is ambiguous, but that a legacy backend or a usual client may need. If it is accepted, it is read as a
/// plain byte of its segment or of the query, or as an empty segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PathForm {
    /// `%2F` within a segment.
    EncodedSlash = 1,
    /// `\` and `%5C` within a segment.
    Backslash = 1 << 1,
    /// `%25` followed by two hexadecimal digits.
    DoubleEncoding = 1 << 2,
    /// `//`, but not at the start.
    EmptySegments = 1 << 3,
    /// `;` and `%3B`.
    Semicolon = 1 << 4,
    /// Escapes that are no UTF-8.
    NonUtf8 = 1 << 5,
    /// `|`, `^`, `` ` ``, `{` and `}` in the query.
    RawQuery = 1 << 6,
}

impl PathForm {
    /// All forms with their names in `paths.allow`.
    pub const ALL: [(&'static str, Self); 7] = [
        ("encoded_slash", Self::EncodedSlash),
        ("backslash", Self::Backslash),
        ("double_encoding", Self::DoubleEncoding),
        ("empty_segments", Self::EmptySegments),
        ("semicolon", Self::Semicolon),
        ("non_utf8", Self::NonUtf8),
        ("raw_query", Self::RawQuery),
    ];
}

/// A set of [`PathForm`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowedForms(u8);

impl AllowedForms {
    /// No form.
    pub const NONE: Self = Self(0);
    /// All forms.
    pub const ALL: Self = Self(u8::MAX);

    /// Returns the set with one more form.
    #[must_use]
    pub const fn with(self, form: PathForm) -> Self {
        Self(self.0 | form as u8)
    }

    const fn has(self, form: PathForm) -> bool {
        self.0 & form as u8 != 0
    }
}

/// A method, a path and a query that are not ambiguous.
#[derive(Clone, Debug)]
pub struct Target {
    method: Method,
    path_and_query: PathAndQuery,
    /// Segments after percent-decoding; `None` if the path has no escape.
    decoded: Option<Decoded>,
}

/// Segments after percent-decoding.
type Decoded = Box<[Box<[u8]>]>;

/// Reason for which a request is ambiguous. The text is sent to the client, which is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// The path and query are longer than `limits.http.max_target_bytes`.
    TooLong,
    /// The target does not start with a slash.
    NoPath,
    /// `%2F` or `%5C`.
    EncodedSlash,
    /// A backslash.
    Backslash,
    /// An encoded control character or NUL.
    ControlCharacter,
    /// An encoded control character in the query.
    ControlInQuery(u8),
    /// A byte outside the URI alphabet (RFC 3986).
    InvalidByte(u8),
    /// A `%` that starts no escape.
    BrokenEscape,
    /// `%25` followed by two hexadecimal digits.
    DoubleEncoding,
    /// Escapes that decode to no UTF-8.
    NotUtf8,
    /// A `.` or `..` segment, plain or encoded.
    DotSegment,
    /// An empty segment (`//`).
    EmptySegment,
    /// A `;` in the path.
    Semicolon,
    /// A method that is not written in capitals.
    InvalidMethod,
    /// A `Transfer-Encoding` that is more than `chunked`.
    InvalidFraming,
    /// A body whose bytes are not framed as the request's headers announce.
    BrokenBody,
    /// More than one `Content-Length`.
    SeveralLengths,
    /// No `Host`.
    NoHost,
    /// More than one `Host`.
    SeveralHosts,
    /// A `Host` or `:authority` that is malformed.
    MalformedHost,
    /// A `Host` that differs from `:authority` or from the target's own.
    OtherHost,
    /// A scheme that is neither `http` nor `https`.
    OtherScheme,
    /// A start or headers that are no HTTP/1.1.
    NotHttp,
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlInQuery(byte) => {
                return write!(f, "the query holds an encoded control character (%{byte:02X})");
            }
            Self::InvalidByte(byte @ 0x21..=0x7e) => {
                let byte = char::from(*byte);
                return write!(
                    f,
                    "the target holds a raw {byte} that must be percent-encoded (%{:02X})",
                    u32::from(byte)
                );
            }
            Self::InvalidByte(byte) => {
                return write!(
                    f,
                    "the target holds the raw byte 0x{byte:02X}, which must be percent-encoded"
                );
            }
            Self::TooLong => "the request's path and query are too long",
            Self::NoPath => "the request's target does not start with a slash",
            Self::EncodedSlash => "the path holds an encoded slash or backslash (%2F, %5C)",
            Self::Backslash => "the path holds a backslash",
            Self::ControlCharacter => "the target holds an encoded control character",
            Self::BrokenEscape => "the target holds a % that starts no escape",
            Self::DoubleEncoding => "the path is encoded twice (%25 followed by two hexadecimal digits)",
            Self::NotUtf8 => "the path's escapes are not UTF-8",
            Self::DotSegment => "the path holds a . or .. segment",
            Self::EmptySegment => "the path holds an empty segment (//)",
            Self::Semicolon => "the path holds a ; parameter",
            Self::InvalidMethod => "the method is not written in capital letters",
            Self::InvalidFraming => "the request's Transfer-Encoding is more than `chunked`",
            Self::BrokenBody => "the request's body is not framed as its headers announce (RFC 9112 §7.1)",
            Self::SeveralLengths => "the request has more than one Content-Length",
            Self::NoHost => "the request has no Host",
            Self::SeveralHosts => "the request has more than one Host",
            Self::MalformedHost => "the request's Host is malformed",
            Self::OtherHost => "the request names two different hosts",
            Self::OtherScheme => "the request's target is for another protocol than HTTP",
            Self::NotHttp => "the request's first line or headers are not HTTP/1.1 (RFC 9112)",
        })
    }
}

impl Target {
    /// Reads the target of a request.
    ///
    /// # Errors
    /// The reason for which the target is ambiguous.
    pub fn parse(method: &Method, uri: &Uri, rules: TargetRules) -> Result<Self, Ambiguity> {
        check_method(method)?;
        if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP) {
            return Err(Ambiguity::OtherScheme);
        }
        let path_and_query = uri.path_and_query().cloned().ok_or(Ambiguity::NoPath)?;
        Self::from_parts(method.clone(), path_and_query, rules)
    }

    /// Reads `METHOD /path?query`, as policy tests, the command line and audit records write it.
    ///
    /// # Errors
    /// The reason for which the target is ambiguous.
    pub fn from_text(text: &str, rules: TargetRules) -> Result<Self, Ambiguity> {
        let (method, target) = text.trim().split_once(' ').ok_or(Ambiguity::NoPath)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Ambiguity::InvalidMethod)?;
        check_method(&method)?;
        let target = target.trim_start();
        if target != "*" && !target.starts_with('/') {
            return Err(Ambiguity::NoPath);
        }
        let path_and_query = PathAndQuery::try_from(target)
            .map_err(|_| Ambiguity::InvalidByte(raw_byte(target.as_bytes()).unwrap_or(b' ')))?;
        Self::from_parts(method, path_and_query, rules)
    }

    fn from_parts(
        method: Method,
        path_and_query: PathAndQuery,
        rules: TargetRules,
    ) -> Result<Self, Ambiguity> {
        if path_and_query.as_str().len() > rules.max_length {
            return Err(Ambiguity::TooLong);
        }
        // `PathAndQuery` reads `?a` as `/?a`, but `?a` is not a valid target (RFC 9112 §3.2, RFC 9113 §8.3.1).
        if path_and_query.as_str().starts_with('?') {
            return Err(Ambiguity::NoPath);
        }
        let path = path_and_query.path();
        // `OPTIONS *` asks about the server as a whole; it is judged as `OPTIONS /`.
        if path == "*" && method == Method::OPTIONS {
            return Ok(Self { method, path_and_query, decoded: Some(Box::default()) });
        }
        let decoded = path::read(path, rules.allowed)?;
        if let Some(query) = path_and_query.query() {
            check_query(query, rules.allowed)?;
        }
        Ok(Self { method, path_and_query, decoded })
    }

    /// Returns the method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the path as it was sent and is forwarded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query.path()
    }

    /// Returns the query as it was sent and is forwarded, without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.query()
    }

    /// Returns path and query, byte for byte as they were sent, judged and forwarded.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.path_and_query
    }

    /// Returns the target in origin-form, without scheme and host, as the backend gets it.
    #[must_use]
    pub fn into_uri(self) -> Uri {
        Uri::from(self.path_and_query)
    }

    /// Returns the segments of the path, decoded once. `/` has no segment; a trailing slash makes a last, empty segment.
    pub fn segments(&self) -> Segments<'_> {
        match &self.decoded {
            Some(decoded) => Segments::Decoded(decoded.iter()),
            None => Segments::Raw { rest: self.path().strip_prefix('/').filter(|rest| !rest.is_empty()) },
        }
    }
}

impl std::str::FromStr for Target {
    type Err = Ambiguity;

    /// Reads `METHOD /path?query` by the strict rules. A policy must not depend on the rules of a configuration.
    fn from_str(text: &str) -> Result<Self, Ambiguity> {
        Self::from_text(text, TargetRules::STRICT)
    }
}

/// Decoded segments of a path, first to last.
#[derive(Clone, Debug)]
pub enum Segments<'a> {
    /// The bytes of the path, split at the slashes.
    Raw {
        /// Rest of the path, without its leading slash.
        rest: Option<&'a str>,
    },
    /// Segments of a path with escapes.
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

/// Checks `Transfer-Encoding`. Sidegate sets new framing, so another coding of the body would lose its name, and a repeated
/// `chunked` has no meaning (RFC 9112 §6.1). The HTTP parser checks the last coding alone.
///
/// # Errors
/// A coding other than `chunked`, or more than one.
pub fn check_framing(headers: &HeaderMap) -> Result<(), Ambiguity> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    (is_plain && codings.next().is_none()).then_some(()).ok_or(Ambiguity::InvalidFraming)
}

/// Checks `Content-Length` of HTTP/2, where frames say where the body ends. Nothing of a request is repaired, and a request that
/// names two lengths is not made one with one length. (In HTTP/1.1 a second one is never parsed.)
///
/// # Errors
/// More than one length.
pub fn check_lengths(version: Version, headers: &HeaderMap) -> Result<(), Ambiguity> {
    if version != Version::HTTP_2 || headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_none() {
        return Ok(());
    }
    Err(Ambiguity::SeveralLengths)
}

/// Returns the host of a request, which the backend gets as `Host`.
///
/// # Errors
/// The host is missing (except in HTTP/1.0), repeated or malformed, or `Host` and the target differ.
pub fn host<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>, Ambiguity> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(Ambiguity::SeveralHosts);
    }
    let named = match named {
        Some(value) => {
            Some(value.to_str().ok().filter(|host| is_host(host)).ok_or(Ambiguity::MalformedHost)?)
        }
        None => None,
    };
    let own = uri.authority().map(http::uri::Authority::as_str);
    if own.is_some_and(|own| !is_host(own)) {
        return Err(Ambiguity::MalformedHost);
    }
    match (named, own) {
        (Some(named), Some(own)) if !named.eq_ignore_ascii_case(own) => Err(Ambiguity::OtherHost),
        (Some(host), _) | (None, Some(host)) => Ok(Some(host)),
        (None, None) if version == Version::HTTP_10 => Ok(None),
        (None, None) => Err(Ambiguity::NoHost),
    }
}

/// Returns true for `uri-host [ ":" port ]` (RFC 9110 §7.2): a name or an address, without user, zone and escapes.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    host.is_none_or(|host| (1..=255).contains(&host.len()) && host.bytes().all(in_name))
        && port.is_none_or(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

/// Checks that a method is in capital letters. Methods are case-sensitive (RFC 9110 §9.1), but legacy backends fold case.
fn check_method(method: &Method) -> Result<(), Ambiguity> {
    let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let text = method.as_str().as_bytes();
    let starts_well = text.first().is_some_and(u8::is_ascii_uppercase);
    (starts_well && text.iter().all(|byte| good(*byte))).then_some(()).ok_or(Ambiguity::InvalidMethod)
}

/// Checks a query. The rules for paths do not apply, but a query must consist of URI bytes and complete escapes.
fn check_query(query: &str, allowed: AllowedForms) -> Result<(), Ambiguity> {
    let mut rest = query.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte_kind(*byte) {
            ByteKind::Plain | ByteKind::Slash | ByteKind::Dot | ByteKind::Semicolon => after,
            ByteKind::Escape => match parse_escape(after)? {
                (control @ (0..=0x1f | 0x7f), _) => return Err(Ambiguity::ControlInQuery(control)),
                (_, after) => after,
            },
            ByteKind::Invalid if matches!(byte, b'?' | b'[' | b']') => after,
            ByteKind::Invalid if is_sent_raw(*byte) && allowed.has(PathForm::RawQuery) => after,
            ByteKind::Backslash | ByteKind::Invalid => return Err(Ambiguity::InvalidByte(*byte)),
        };
    }
    Ok(())
}

/// Returns true for the bytes that the WHATWG URL Standard leaves unencoded in a query, and RFC 3986 does not. (A backslash is
/// one too, and stays refused: some servers take it for a slash.)
const fn is_sent_raw(byte: u8) -> bool {
    matches!(byte, b'|' | b'^' | b'`' | b'{' | b'}')
}

/// Returns the first byte of a target that no target may hold.
fn raw_byte(target: &[u8]) -> Option<u8> {
    let is_raw =
        |byte: &u8| byte_kind(*byte) == ByteKind::Invalid && !matches!(byte, b'?' | b'[' | b']' | b'#');
    target.iter().copied().find(is_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<String>, Ambiguity> {
        let target: Target = format!("GET {text}").parse()?;
        assert_eq!(target.path_and_query().as_str(), text.split('#').next().unwrap());
        Ok(target.segments().map(|segment| String::from_utf8(segment.to_vec()).unwrap()).collect())
    }

    #[test]
    fn segments_are_decoded_once_and_forwarded_unchanged() {
        assert_eq!(parse("/"), Ok(vec![]));
        assert_eq!(parse("/events"), Ok(vec!["events".into()]));
        assert_eq!(parse("/events/"), Ok(vec!["events".into(), String::new()]));
        assert_eq!(parse("/%65vents/a%20b?x=%2F/../"), Ok(vec!["events".into(), "a b".into()]));
        assert_eq!(parse("/a%2Cb/..c/d..%2e"), Ok(vec!["a,b".into(), "..c".into(), "d...".into()]));
    }

    #[test]
    fn a_raw_query_is_a_setting_that_changes_no_other_byte() {
        let allowed = AllowedForms::NONE.with(PathForm::RawQuery);
        let raw = |text: &str| Target::from_text(text, TargetRules { allowed, ..TargetRules::STRICT });
        let target = raw("GET /a?q={b|c^d`e}&f=%7B").unwrap();
        assert_eq!(target.query(), Some("q={b|c^d`e}&f=%7B"));
        for refused in
            ["/a?b=c\\d", "/a?b=\"c\"", "/a?<b>", "/a?b=%0A", "/a?b=\u{e9}", "/a?%z", "/a{b}", "/a|b"]
        {
            assert!(raw(&format!("GET {refused}")).is_err(), "{refused}");
        }
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        use Ambiguity::*;
        for (text, expected) in [
            ("//", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a/../b", DotSegment),
            ("/a/.", DotSegment),
            ("/%2e%2E/b", DotSegment),
            ("/.%2e/b", DotSegment),
            ("/a%2fb", EncodedSlash),
            ("/a%5Cb", EncodedSlash),
            ("/a\\b", Backslash),
            ("/a%00", ControlCharacter),
            ("/a%0d%0a", ControlCharacter),
            ("/a%7f", ControlCharacter),
            ("/a%C2%85", ControlCharacter),
            ("/a%zz", BrokenEscape),
            ("/a%2", BrokenEscape),
            ("/a%", BrokenEscape),
            ("/%252e%252e", DoubleEncoding),
            ("/%ff", NotUtf8),
            ("/a;b", Semicolon),
            ("/a%3Bb", Semicolon),
            ("/a|b", InvalidByte(b'|')),
            ("/a?%0a", ControlInQuery(b'\n')),
            ("/a?%z", BrokenEscape),
            ("/a?b={c}", InvalidByte(b'{')),
            ("/a?b=c\\d", InvalidByte(b'\\')),
            ("/a?b=\"c\"", InvalidByte(b'"')),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    /// `http` writes a slash before a lone query, which HTTP/2's `:path` can be.
    #[test]
    fn a_query_without_a_path_is_refused() {
        let uri = Uri::from(PathAndQuery::from_static("?a=1"));
        assert_eq!(Target::parse(&Method::GET, &uri, TargetRules::STRICT).err(), Some(Ambiguity::NoPath));
    }

    #[test]
    fn methods_are_capitals() {
        for bad in ["get /", "Get /", "-GET /", "G!T /"] {
            assert_eq!(bad.parse::<Target>().err(), Some(Ambiguity::InvalidMethod), "{bad}");
        }
        assert!("M-SEARCH /".parse::<Target>().is_ok());
    }

    #[test]
    fn valid_hosts_are_accepted_and_others_refused() {
        for good in ["a", "a.example:443", "10.0.0.1:80", "[::1]", "[::1]:8443"] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:99999",
            "u@a",
            "a/b",
            "a b",
            "[::1",
            "[fe80::1%25eth0]",
            "a:80:80",
            "a,b",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
