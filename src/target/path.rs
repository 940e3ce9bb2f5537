//! Path of a target: every byte is checked once, and only a path with escapes is decoded.
//!
//! An accepted ambiguous form is still checked under the readings of other parsers: a path that any of them could read with a
//! dot segment or as an authority stays refused (path traversal).

use std::str;

use super::{AllowedForms, Ambiguity, Decoded, PathForm};

/// Kind of a byte in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteKind {
    Plain,
    Slash,
    Dot,
    Escape,
    Semicolon,
    Backslash,
    Invalid,
}

/// Returns the kind of a byte. The unreserved characters, sub-delims, ":" and "@" of RFC 3986 §3.3 are plain.
pub(super) const fn byte_kind(byte: u8) -> ByteKind {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => ByteKind::Plain,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => ByteKind::Plain,
        b'/' => ByteKind::Slash,
        b'.' => ByteKind::Dot,
        b'%' => ByteKind::Escape,
        b';' => ByteKind::Semicolon,
        b'\\' => ByteKind::Backslash,
        _ => ByteKind::Invalid,
    }
}

/// Returns the decoded segments; `None` if the path has no escape.
pub(super) fn read(path: &str, allowed: AllowedForms) -> Result<Option<Decoded>, Ambiguity> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Ambiguity::NoPath);
    }
    let (mut has_escape, mut has_lenient_form) = (false, false);
    let mut before = ByteKind::Invalid;
    let mut dot_starts_segment = false;
    for byte in bytes {
        let kind = byte_kind(*byte);
        match kind {
            ByteKind::Plain => {}
            ByteKind::Slash if before == ByteKind::Slash && !allowed.has(PathForm::EmptySegments) => {
                return Err(Ambiguity::EmptySegment);
            }
            ByteKind::Slash => has_lenient_form |= before == ByteKind::Slash,
            ByteKind::Dot => dot_starts_segment |= before == ByteKind::Slash,
            ByteKind::Escape => has_escape = true,
            ByteKind::Semicolon if allowed.has(PathForm::Semicolon) => has_lenient_form = true,
            ByteKind::Semicolon => return Err(Ambiguity::Semicolon),
            ByteKind::Backslash if allowed.has(PathForm::Backslash) => has_lenient_form = true,
            ByteKind::Backslash => return Err(Ambiguity::Backslash),
            ByteKind::Invalid => return Err(Ambiguity::InvalidByte(*byte)),
        }
        before = kind;
    }
    if dot_starts_segment && path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Ambiguity::DotSegment);
    }
    if has_escape {
        return segments(path)
            .map(|(segment, at)| decode_segment(segment, at, allowed))
            .collect::<Result<_, _>>()
            .map(Some);
    }
    if has_lenient_form {
        segments(path).try_for_each(|(segment, at)| check_pieces(segment.as_bytes(), at, allowed))?;
    }
    Ok(None)
}

/// Position of a segment in its path.
#[derive(Clone, Copy)]
struct Position {
    is_first: bool,
    is_last: bool,
}

fn segments(path: &str) -> impl Iterator<Item = (&str, Position)> {
    let mut rest = path.strip_prefix('/');
    let mut is_first = true;
    std::iter::from_fn(move || {
        let text = rest?;
        let (segment, after) = match text.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (text, None),
        };
        rest = after;
        let at = Position { is_first, is_last: after.is_none() };
        is_first = false;
        Some((segment, at))
    })
}

fn decode_segment(segment: &str, at: Position, allowed: AllowedForms) -> Result<Box<[u8]>, Ambiguity> {
    let decoded = decode(segment.as_bytes(), Level::First, allowed)?;
    check_segment(&decoded, at, allowed)?;
    // A backend may decode a second time, so the result is checked as well.
    if allowed.has(PathForm::DoubleEncoding) && decoded.contains(&b'%') {
        check_segment(&decode(&decoded, Level::Second, allowed)?, at, allowed)?;
    }
    Ok(decoded.into_boxed_slice())
}

/// Number of the decoding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    First,
    /// A `%` that starts no escape is a literal `%`: it was written as `%25`.
    Second,
}

fn decode(segment: &[u8], level: Level, allowed: AllowedForms) -> Result<Vec<u8>, Ambiguity> {
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (decoded, after) = match parse_escape(after) {
            Ok(escape) => escape,
            Err(_) if level == Level::Second => (b'%', after),
            Err(broken) => return Err(broken),
        };
        check_decoded(decoded, allowed)?;
        out.push(decoded);
        rest = after;
    }
    // The decoded bytes are searched, because each byte of a second escape may itself have been written as an escape.
    let encoded_again =
        || out.windows(3).any(|bytes| matches!(bytes, [b'%', digits @ ..] if parse_escape(digits).is_ok()));
    if (level == Level::Second || !allowed.has(PathForm::DoubleEncoding)) && encoded_again() {
        return Err(Ambiguity::DoubleEncoding);
    }
    Ok(out)
}

fn check_decoded(byte: u8, allowed: AllowedForms) -> Result<(), Ambiguity> {
    match byte {
        b'/' if !allowed.has(PathForm::EncodedSlash) => Err(Ambiguity::EncodedSlash),
        b'\\' if !allowed.has(PathForm::Backslash) => Err(Ambiguity::EncodedSlash),
        0..=0x1f | 0x7f => Err(Ambiguity::ControlCharacter),
        _ => Ok(()),
    }
}

fn check_segment(segment: &[u8], at: Position, allowed: AllowedForms) -> Result<(), Ambiguity> {
    // An encoded `;` begins a parameter for parsers that decode before they split.
    if !allowed.has(PathForm::Semicolon) && segment.contains(&b';') {
        return Err(Ambiguity::Semicolon);
    }
    match str::from_utf8(segment) {
        // C1 control characters, encoded as UTF-8.
        Ok(text) if text.chars().any(char::is_control) => return Err(Ambiguity::ControlCharacter),
        Ok(_) => {}
        Err(_) if !allowed.has(PathForm::NonUtf8) || is_overlong(segment) => return Err(Ambiguity::NotUtf8),
        Err(_) if String::from_utf8_lossy(segment).chars().any(char::is_control) => {
            return Err(Ambiguity::ControlCharacter);
        }
        Err(_) => {}
    }
    check_pieces(segment, at, allowed)
}

/// Returns true for an overlong encoding: old decoders read `%C0%AF` as a slash.
fn is_overlong(segment: &[u8]) -> bool {
    segment
        .windows(2)
        .any(|pair| matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]))
}

/// Checks a segment under the reading of parsers that split it at decoded slashes and cut each piece at its `;`.
fn check_pieces(segment: &[u8], at: Position, allowed: AllowedForms) -> Result<(), Ambiguity> {
    let mut pieces = segment.split(|byte| matches!(byte, b'/' | b'\\')).peekable();
    let mut start = at.is_first;
    while let Some(piece) = pieces.next() {
        let name = piece.split(|byte| *byte == b';').next().unwrap_or_default();
        let end = at.is_last && pieces.peek().is_none();
        match name {
            b"." | b".." => return Err(Ambiguity::DotSegment),
            // URL parsers read `//host` at the start as an authority, so it is refused under every setting.
            b"" if !end && (start || !allowed.has(PathForm::EmptySegments)) => {
                return Err(Ambiguity::EmptySegment);
            }
            _ => start = false,
        }
    }
    Ok(())
}

/// Returns the byte of two hexadecimal digits, and the rest.
pub(super) fn parse_escape(bytes: &[u8]) -> Result<(u8, &[u8]), Ambiguity> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let [high, low, rest @ ..] = bytes else { return Err(Ambiguity::BrokenEscape) };
    match (digit(*high), digit(*low)) {
        (Some(high), Some(low)) => Ok((high << 4 | low, rest)),
        _ => Err(Ambiguity::BrokenEscape),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AllowedForms, Ambiguity, PathForm, Target, TargetRules};

    fn parse(path: &str, forms: &[PathForm]) -> Result<Vec<Vec<u8>>, Ambiguity> {
        let allowed = forms.iter().fold(AllowedForms::NONE, |allowed, form| allowed.with(*form));
        let target =
            Target::from_text(&format!("GET {path}"), TargetRules { allowed, ..TargetRules::STRICT })?;
        assert_eq!(target.path_and_query().as_str(), path, "forwarded as it was judged");
        Ok(target.segments().map(<[u8]>::to_vec).collect())
    }

    /// A path, the accepted forms, and the segments.
    type Case = (&'static str, &'static [PathForm], &'static [&'static [u8]]);

    #[test]
    fn an_accepted_form_is_a_byte_of_its_segment() {
        use PathForm::*;
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
    fn an_accepted_form_allows_no_dot_segment_no_authority_no_control_character_and_no_other_form() {
        use Ambiguity::{
            ControlCharacter, DotSegment, DoubleEncoding as Twice, EmptySegment, EncodedSlash as Slash,
            InvalidByte, NotUtf8,
        };
        use PathForm::*;
        let cases: [(&str, &[PathForm], Ambiguity); 33] = [
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
                &[
                    EncodedSlash,
                    Backslash,
                    DoubleEncoding,
                    EmptySegments,
                    PathForm::Semicolon,
                    NonUtf8,
                    RawQuery,
                ],
                InvalidByte(b'|'),
            ),
        ];
        for (path, forms, expected) in cases {
            assert_eq!(parse(path, forms), Err(expected), "{path}");
        }
        assert_eq!(parse("/a%ff%C2%85", &[NonUtf8]), Err(ControlCharacter));
    }
}
