//! The cause for which an answer of the backend is not HTTP. hyper tells only that it is not; an operator needs to know which
//! line of the backend's answer to look at.

use std::error::Error;

use crate::refusal::ResponseFlaw;

/// `true` if an exchange failed because of what the backend answered, and not because the connection ended.
pub(super) fn is_of_response(error: &hyper::Error) -> bool {
    let of_http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_parse()
        // A violation that this side has found; a reset or GOAWAY of the backend's own is the end of the exchange.
        || of_http2.is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR))
}

/// Finds the cause in the head of an answer of HTTP/1.1 that could not be parsed. hyper has taken the head out of its buffer
/// before it looks at the framing, which it then names in its error.
pub(super) fn of_head(error: &hyper::Error, head: &[u8]) -> ResponseFlaw {
    let text = error.to_string();
    if text.contains("content-length") {
        ResponseFlaw::ContentLength
    } else if text.contains("transfer-encoding") {
        ResponseFlaw::TransferEncoding
    } else if error.is_parse_too_large() {
        ResponseFlaw::TooManyHeaders
    } else {
        of_bytes(head).unwrap_or(ResponseFlaw::Other)
    }
}

/// Finds the first line that is not HTTP; `None` if every line by itself is.
fn of_bytes(head: &[u8]) -> Option<ResponseFlaw> {
    match head {
        // A record of TLS: an alert or a handshake, of version 3.x (RFC 8446 §5.1).
        [0x15 | 0x16, 3, ..] => return Some(ResponseFlaw::Tls),
        // The SETTINGS frame with which a server of HTTP/2 begins (RFC 9113 §3.4).
        [0, _, _, 4, 0, 0, 0, 0, 0, ..] => return Some(ResponseFlaw::OtherVersion),
        _ => {}
    }
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status_line = lines.find(|line| !line.is_empty())?;
    if !status_line.starts_with(b"HTTP/1.") {
        let is_other = status_line.starts_with(b"HTTP/");
        return Some(if is_other { ResponseFlaw::OtherVersion } else { ResponseFlaw::StatusLine });
    }
    let mut lengths = Vec::new();
    let flaw = lines.take_while(|line| !line.is_empty()).find_map(|line| of_line(line, &mut lengths));
    let differ = || lengths.iter().any(|length| Some(length) != lengths.first());
    flaw.or_else(|| differ().then_some(ResponseFlaw::ContentLength))
}

/// Finds the flaw of one header line. `lengths` collects the values of `Content-Length`.
fn of_line<'h>(line: &'h [u8], lengths: &mut Vec<&'h [u8]>) -> Option<ResponseFlaw> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Some(ResponseFlaw::FoldedHeader);
    }
    let colon = line.iter().position(|byte| *byte == b':');
    let Some((name, rest)) = colon.and_then(|colon| line.split_at_checked(colon)) else {
        return Some(ResponseFlaw::HeaderName);
    };
    let (name, value) = (name.trim_ascii_end(), rest.get(1..).unwrap_or_default().trim_ascii());
    if http::HeaderName::from_bytes(name).is_err() {
        return Some(ResponseFlaw::HeaderName);
    }
    if http::HeaderValue::from_bytes(value).is_err() {
        return Some(ResponseFlaw::HeaderValue);
    }
    if name.eq_ignore_ascii_case(b"content-length") {
        let parts = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        lengths.extend(parts.clone());
        let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        return (!parts.into_iter().all(is_number)).then_some(ResponseFlaw::ContentLength);
    }
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let has_other_coding = name.eq_ignore_ascii_case(b"transfer-encoding") && !is_chunked(value);
    has_other_coding.then_some(ResponseFlaw::TransferEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_is_not_http_is_found() {
        use ResponseFlaw as Flaw;
        for (head, expected) in [
            ("\x15\x03\x03\0\x02\x02\x46", Some(Flaw::Tls)),
            ("\0\0\x12\x04\0\0\0\0\0", Some(Flaw::OtherVersion)),
            ("HTTP/2 200\r\n\r\n", Some(Flaw::OtherVersion)),
            ("220 mail.shop.example ESMTP\r\n", Some(Flaw::StatusLine)),
            ("<html>", Some(Flaw::StatusLine)),
            ("HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\n\r\n", Some(Flaw::FoldedHeader)),
            ("HTTP/1.1 200 OK\n\tX-A: one\n\n", Some(Flaw::FoldedHeader)),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Some(Flaw::HeaderName)),
            ("HTTP/1.1 200 OK\r\nX (A): 1\r\n\r\n", Some(Flaw::HeaderName)),
            ("HTTP/1.1 200 OK\r\nX-A: \x01\r\n\r\n", Some(Flaw::HeaderValue)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", Some(Flaw::ContentLength)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n", Some(Flaw::ContentLength)),
            ("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n", Some(Flaw::ContentLength)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Some(Flaw::TransferEncoding)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n: body", None),
            ("", None),
        ] {
            assert_eq!(of_bytes(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn every_cause_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> =
            ResponseFlaw::ALL.into_iter().map(ResponseFlaw::name).collect();
        assert_eq!(names.len(), ResponseFlaw::ALL.len());
    }
}
