//! The path of a target: every byte looked at once, decoded only where there is an escape.
//!
//! What a setting lets through is still held against the readings that others may have of it: a path that is a way
//! up, or the start of a host, in any of them stays refused.

use std::str;

use super::{Allowed, Ambiguity, Decoded, Form};

/// What a byte may be in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Slash,
    Dot,
    Escape,
    Semicolon,
    Backslash,
    Strange,
}

/// unreserved / sub-delims / ":" / "@" of RFC 3986 §3.3 are plain; the rest has a meaning, or none.
pub(super) const fn kind(byte: u8) -> Kind {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Kind::Plain,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => Kind::Plain,
        b'/' => Kind::Slash,
        b'.' => Kind::Dot,
        b'%' => Kind::Escape,
        b';' => Kind::Semicolon,
        b'\\' => Kind::Backslash,
        _ => Kind::Strange,
    }
}

/// The decoded segments, or nothing where the path's own bytes serve.
pub(super) fn read(path: &str, allowed: Allowed) -> Result<Option<Decoded>, Ambiguity> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Ambiguity::NoPath);
    }
    let (mut escapes, mut odd) = (false, false);
    let mut before = Kind::Strange;
    let mut dot_starts_segment = false;
    for byte in bytes {
        let kind = kind(*byte);
        match kind {
            Kind::Plain => {}
            Kind::Slash if before == Kind::Slash && !allowed.has(Form::EmptySegments) => {
                return Err(Ambiguity::EmptySegment);
            }
            Kind::Slash => odd |= before == Kind::Slash,
            Kind::Dot => dot_starts_segment |= before == Kind::Slash,
            Kind::Escape => escapes = true,
            Kind::Semicolon if allowed.has(Form::Semicolon) => odd = true,
            Kind::Semicolon => return Err(Ambiguity::Semicolon),
            Kind::Backslash if allowed.has(Form::Backslash) => odd = true,
            Kind::Backslash => return Err(Ambiguity::Backslash),
            Kind::Strange => return Err(Ambiguity::StrangeByte),
        }
        before = kind;
    }
    if dot_starts_segment && path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Ambiguity::DotSegment);
    }
    if escapes {
        return segments(path)
            .map(|(segment, at)| decode_segment(segment, at, allowed))
            .collect::<Result<_, _>>()
            .map(Some);
    }
    if odd {
        segments(path).try_for_each(|(segment, at)| check_pieces(segment.as_bytes(), at, allowed))?;
    }
    Ok(None)
}

/// Whether a segment is the path's first, and whether it is its last.
#[derive(Clone, Copy)]
struct At {
    start: bool,
    end: bool,
}

fn segments(path: &str) -> impl Iterator<Item = (&str, At)> {
    let mut rest = path.strip_prefix('/');
    let mut start = true;
    std::iter::from_fn(move || {
        let text = rest?;
        let (segment, after) = match text.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (text, None),
        };
        rest = after;
        let at = At { start, end: after.is_none() };
        start = false;
        Some((segment, at))
    })
}

fn decode_segment(segment: &str, at: At, allowed: Allowed) -> Result<Box<[u8]>, Ambiguity> {
    let decoded = decode(segment.as_bytes(), Level::First, allowed)?;
    check_segment(&decoded, at, allowed)?;
    // Who decodes a second time gets a path that must be no worse.
    if allowed.has(Form::DoubleEncoding) && decoded.contains(&b'%') {
        check_segment(&decode(&decoded, Level::Second, allowed)?, at, allowed)?;
    }
    Ok(decoded.into_boxed_slice())
}

/// How often an escape was decoded already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    First,
    /// A `%` that starts no escape is a `%`: it was written as `%25`.
    Second,
}

fn decode(segment: &[u8], level: Level, allowed: Allowed) -> Result<Vec<u8>, Ambiguity> {
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (decoded, after) = match escape(after) {
            Ok(escape) => escape,
            Err(_) if level == Level::Second => (b'%', after),
            Err(broken) => return Err(broken),
        };
        check_decoded(decoded, allowed)?;
        out.push(decoded);
        rest = after;
    }
    // Looked for in what came out: each of its three bytes may have been written as an escape of its own.
    let encoded_again =
        || out.windows(3).any(|bytes| matches!(bytes, [b'%', digits @ ..] if escape(digits).is_ok()));
    if (level == Level::Second || !allowed.has(Form::DoubleEncoding)) && encoded_again() {
        return Err(Ambiguity::DoubleEncoding);
    }
    Ok(out)
}

fn check_decoded(byte: u8, allowed: Allowed) -> Result<(), Ambiguity> {
    match byte {
        b'/' if !allowed.has(Form::EncodedSlash) => Err(Ambiguity::EncodedSlash),
        b'\\' if !allowed.has(Form::Backslash) => Err(Ambiguity::EncodedSlash),
        0..=0x1f | 0x7f => Err(Ambiguity::ControlCharacter),
        _ => Ok(()),
    }
}

fn check_segment(segment: &[u8], at: At, allowed: Allowed) -> Result<(), Ambiguity> {
    // An encoded `;` is a parameter to those who decode before they cut.
    if !allowed.has(Form::Semicolon) && segment.contains(&b';') {
        return Err(Ambiguity::Semicolon);
    }
    match str::from_utf8(segment) {
        // C1 controls, as UTF-8 writes them.
        Ok(text) if text.chars().any(char::is_control) => return Err(Ambiguity::ControlCharacter),
        Ok(_) => {}
        Err(_) if !allowed.has(Form::NonUtf8) || is_overlong(segment) => return Err(Ambiguity::NotUtf8),
        Err(_) if String::from_utf8_lossy(segment).chars().any(char::is_control) => {
            return Err(Ambiguity::ControlCharacter);
        }
        Err(_) => {}
    }
    check_pieces(segment, at, allowed)
}

/// Old decoders read `%C0%AF` as a slash: two or more bytes for what has one.
fn is_overlong(segment: &[u8]) -> bool {
    segment
        .windows(2)
        .any(|pair| matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]))
}

/// A segment as those read it who cut it at the slashes that it holds, and end a piece at its `;`.
fn check_pieces(segment: &[u8], at: At, allowed: Allowed) -> Result<(), Ambiguity> {
    let mut pieces = segment.split(|byte| matches!(byte, b'/' | b'\\')).peekable();
    let mut start = at.start;
    while let Some(piece) = pieces.next() {
        let name = piece.split(|byte| *byte == b';').next().unwrap_or_default();
        let end = at.end && pieces.peek().is_none();
        match name {
            b"." | b".." => return Err(Ambiguity::DotSegment),
            // `//host` at the start is an authority to a parser of URLs, whatever is allowed.
            b"" if !end && (start || !allowed.has(Form::EmptySegments)) => {
                return Err(Ambiguity::EmptySegment);
            }
            _ => start = false,
        }
    }
    Ok(())
}

/// The byte that two hexadecimal digits stand for, and what follows them.
pub(super) fn escape(bytes: &[u8]) -> Result<(u8, &[u8]), Ambiguity> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let [high, low, rest @ ..] = bytes else { return Err(Ambiguity::BrokenEscape) };
    match (digit(*high), digit(*low)) {
        (Some(high), Some(low)) => Ok((high << 4 | low, rest)),
        _ => Err(Ambiguity::BrokenEscape),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Allowed, Ambiguity, Form, Rules, Target};

    fn parse(path: &str, forms: &[Form]) -> Result<Vec<Vec<u8>>, Ambiguity> {
        let allowed = forms.iter().fold(Allowed::NONE, |allowed, form| allowed.with(*form));
        let target = Target::of_text(&format!("GET {path}"), Rules { allowed, ..Rules::STRICT })?;
        assert_eq!(target.path_and_query().as_str(), path, "forwarded as it was judged");
        Ok(target.segments().map(<[u8]>::to_vec).collect())
    }

    /// A path, the settings, and its segments.
    type Case = (&'static str, &'static [Form], &'static [&'static [u8]]);

    #[test]
    fn what_a_setting_lets_through_is_a_byte_of_its_segment() {
        use Form::*;
        let cases: [Case; 14] = [
            ("/a%2Fb/c", &[EncodedSlash], &[b"a/b", b"c"]),
            ("/a\\b", &[Backslash], &[b"a\\b"]),
            ("/a%5cb", &[Backslash], &[b"a\\b"]),
            ("/a%252Eb", &[DoubleEncoding], &[b"a%2Eb"]),
            ("/a%252Fb", &[DoubleEncoding, EncodedSlash], &[b"a%2Fb"]),
            ("/%2541%25zz", &[DoubleEncoding], &[b"%41%zz"]),
            ("/a//b", &[EmptySegments], &[b"a", b"", b"b"]),
            ("/a//", &[EmptySegments], &[b"a", b"", b""]),
            ("/https:%2F%2Fa", &[EncodedSlash, EmptySegments], &[b"https://a"]),
            ("/events;v=1/x", &[Semicolon], &[b"events;v=1", b"x"]),
            ("/;jsessionid=1", &[Semicolon], &[b";jsessionid=1"]),
            ("/a%3Bb", &[Semicolon], &[b"a;b"]),
            ("/caf%E9", &[NonUtf8], &[b"caf\xe9"]),
            ("/a%2F", &[EncodedSlash], &[b"a/"]),
        ];
        for (path, forms, segments) in cases {
            assert_eq!(parse(path, forms).unwrap(), segments, "{path}");
            assert!(parse(path, &[]).is_err(), "{path}: refused without the setting");
        }
    }

    #[test]
    fn a_setting_lets_through_no_way_up_no_authority_no_control_and_nothing_else() {
        use Ambiguity::{
            ControlCharacter, DotSegment, DoubleEncoding as Twice, EmptySegment, EncodedSlash as Slash,
            NotUtf8, StrangeByte,
        };
        use Form::*;
        let cases: [(&str, &[Form], Ambiguity); 33] = [
            ("/a%2F..%2Fb", &[EncodedSlash], DotSegment),
            ("/a%2F.", &[EncodedSlash], DotSegment),
            ("/%2e%2e%2Fa", &[EncodedSlash], DotSegment),
            ("/a%2F%2Fb", &[EncodedSlash], EmptySegment),
            ("/%2Fadmin", &[EncodedSlash, EmptySegments], EmptySegment),
            ("/a%5Cb", &[EncodedSlash], Slash),
            ("/a\\..\\b", &[Backslash], DotSegment),
            ("/a%5C..", &[Backslash], DotSegment),
            ("/\\admin", &[Backslash, EmptySegments], EmptySegment),
            ("/a\\/b", &[Backslash], EmptySegment),
            ("/a%2Fb", &[Backslash], Slash),
            ("/%252e%252e/a", &[DoubleEncoding], DotSegment),
            ("/a%252F..", &[DoubleEncoding], Slash),
            ("/a%252F..", &[DoubleEncoding, EncodedSlash], DotSegment),
            ("/a%255C..", &[DoubleEncoding, EncodedSlash], Slash),
            ("/a%2500", &[DoubleEncoding], ControlCharacter),
            ("/a%250d%250a", &[DoubleEncoding], ControlCharacter),
            ("/a%25252e", &[DoubleEncoding], Twice),
            ("/%25%32%65%25%32e/a", &[], Twice),
            ("/%25%32%65%25%32e/a", &[DoubleEncoding], DotSegment),
            ("/%25%32%35%34%31", &[DoubleEncoding], Twice),
            ("/a%25ff", &[DoubleEncoding], NotUtf8),
            ("/a%253Bb", &[DoubleEncoding], Ambiguity::Semicolon),
            ("//admin", &[EmptySegments], EmptySegment),
            ("///", &[EmptySegments], EmptySegment),
            ("/a//../b", &[EmptySegments], DotSegment),
            ("/admin;/..;/x", &[Semicolon], DotSegment),
            ("/.;x/a", &[Semicolon], DotSegment),
            ("/;x/admin", &[Semicolon, EmptySegments], EmptySegment),
            ("/a%c0%af", &[NonUtf8], NotUtf8),
            ("/%c0%ae%c0%ae/a", &[NonUtf8], NotUtf8),
            ("/a%ff%00", &[NonUtf8], ControlCharacter),
            (
                "/a|b",
                &[EncodedSlash, Backslash, DoubleEncoding, EmptySegments, Form::Semicolon, NonUtf8],
                StrangeByte,
            ),
        ];
        for (path, forms, expected) in cases {
            assert_eq!(parse(path, forms), Err(expected), "{path}");
        }
        assert_eq!(parse("/a%ff%C2%85", &[NonUtf8]), Err(ControlCharacter));
    }
}
