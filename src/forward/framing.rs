//! The framing of the backend's answers, made anew. A backend may frame an answer oddly: as long as every parser that follows
//! RFC 9112 finds the same end, the answer goes on in one clean form. Where two parsers could find different ends, a client
//! or a cache behind Sidegate might take a part of the answer for another answer (response splitting), so the answer is
//! refused. The table in `deploy/README.md` has each form.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version};

use crate::client_headers::strip_connection;
use crate::refusal::ResponseFlaw;

/// Bounds on an answer's headers (`backend.max_response_headers`, `backend.max_response_header_bytes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Most header fields.
    pub headers: usize,
    /// Most bytes: of the head in HTTP/1.1, of the header list (RFC 9113 §6.5.2) in HTTP/2.
    pub header_bytes: usize,
}

/// The use of a connection of HTTP/1.1 after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    Reusable,
    /// The backend may send more for this answer than its framing says, or frames requests differently.
    Closes,
}

/// Checks the framing of an answer and rewrites it in its clean form. (`Transfer-Encoding` is stripped later, with the other
/// headers of the connection.)
pub(super) fn make_anew<B>(
    response: &mut Response<B>,
    limits: &AnswerLimits,
) -> Result<Afterwards, ResponseFlaw> {
    let (status, version) = (response.status(), response.version());
    let headers = response.headers_mut();
    if headers.len() > limits.headers {
        return Err(ResponseFlaw::TooManyHeaders);
    }
    let has_coding = check_coding(headers, version)?;
    let length = content_length(headers)?;
    if has_coding && length.is_some() {
        return Err(ResponseFlaw::TwoFramings);
    }
    let has_framed_body = match status {
        // These never have a body, nor a length (RFC 9110 §8.6).
        StatusCode::NO_CONTENT | StatusCode::SWITCHING_PROTOCOLS => {
            headers.remove(header::CONTENT_LENGTH);
            has_coding || length.is_some_and(|length| length > 0)
        }
        // Has no body either. Its length would be that of another answer, and hyper passes it on over HTTP/2 only.
        StatusCode::NOT_MODIFIED => {
            headers.remove(header::CONTENT_LENGTH);
            has_coding
        }
        _ => false,
    };
    // On a connection of HTTP/1.0 hyper writes requests of HTTP/1.0, which cannot carry a body of unknown length.
    let is_old = version == Version::HTTP_10;
    Ok(if has_framed_body || is_old { Afterwards::Closes } else { Afterwards::Reusable })
}

/// Removes what would frame a message from an interim answer, which has no body (RFC 9110 §8.6), and from trailers (§6.5.1).
pub fn strip_framing(headers: &mut HeaderMap) {
    strip_connection(headers);
    headers.remove(header::CONTENT_LENGTH);
}

/// Returns true if the answer has a transfer coding that Sidegate and every other parser read alike: `chunked` alone, or
/// `identity` alone, which is none and ends with the connection.
fn check_coding(headers: &HeaderMap, version: Version) -> Result<bool, ResponseFlaw> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(false) };
    let is_known =
        ["chunked", "identity"].iter().any(|known| coding.as_bytes().eq_ignore_ascii_case(known.as_bytes()));
    match codings.next() {
        None if is_known && version != Version::HTTP_10 => Ok(true),
        _ => Err(ResponseFlaw::TransferEncoding),
    }
}

/// Reads the length, and rewrites `Content-Length` if it is not one plain number. A list of equal lengths is one length (RFC
/// 9110 §8.6).
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, ResponseFlaw> {
    let mut fields = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = fields.next() else { return Ok(None) };
    if fields.next().is_none()
        && let Some(length) = plain_number(first.as_bytes())
    {
        return Ok(Some(length));
    }
    let fields = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(number);
    let length = lengths.next().flatten().ok_or(ResponseFlaw::ContentLength)?;
    if lengths.any(|other| other != Some(length)) {
        return Err(ResponseFlaw::ContentLength);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(Some(length))
}

/// Reads a number that is written as Sidegate itself would write it.
fn plain_number(text: &[u8]) -> Option<u64> {
    let is_padded = text.len() > 1 && text.starts_with(b"0");
    number(text).filter(|_| !is_padded && text.first().is_some_and(u8::is_ascii_digit))
}

/// Reads a number with white space around it and zeros before it, as RFC 9110 allows. There is no sign.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AnswerLimits = AnswerLimits { headers: 5, header_bytes: 1000 };

    fn read(
        status: u16,
        version: Version,
        fields: &[(&'static str, &str)],
    ) -> Result<(Afterwards, Vec<String>), ResponseFlaw> {
        let mut response = Response::builder().status(status).version(version);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let mut response = response.body(()).unwrap();
        let afterwards = make_anew(&mut response, &LIMITS)?;
        let lengths = response.headers().get_all(header::CONTENT_LENGTH).iter();
        Ok((afterwards, lengths.map(|length| length.to_str().unwrap().to_owned()).collect()))
    }

    #[test]
    fn lengths_that_agree_become_one_plain_number() {
        for fields in [
            &[("content-length", "2")][..],
            &[("content-length", "2, 2")],
            &[("content-length", "2"), ("content-length", "2")],
            &[("content-length", "02")],
            &[("content-length", "2,\t002 ,2")],
        ] {
            let (afterwards, lengths) = read(200, Version::HTTP_11, fields).unwrap();
            assert_eq!((afterwards, lengths), (Afterwards::Reusable, vec!["2".to_owned()]), "{fields:?}");
        }
        for length in ["", ",", "2,", "2, 3", "+2", "-2", "2 2", "0x2", "2.0", "18446744073709551616"] {
            for status in [200, 204, 304] {
                let refused = read(status, Version::HTTP_11, &[("content-length", length)]);
                assert_eq!(refused.unwrap_err(), ResponseFlaw::ContentLength, "{length:?}");
            }
        }
    }

    #[test]
    fn only_chunks_or_the_end_of_the_connection_frame_an_answer_without_a_length() {
        for coding in ["chunked", "Chunked", "identity"] {
            assert!(read(200, Version::HTTP_11, &[("transfer-encoding", coding)]).is_ok(), "{coding}");
        }
        for coding in
            ["gzip, chunked", "gzip", "chunked, chunked", "chunked,", ", chunked", "", "chunked;a=b"]
        {
            let refused = read(200, Version::HTTP_11, &[("transfer-encoding", coding)]);
            assert_eq!(refused.unwrap_err(), ResponseFlaw::TransferEncoding, "{coding}");
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(read(200, Version::HTTP_11, &twice).unwrap_err(), ResponseFlaw::TransferEncoding);
        assert_eq!(read(200, Version::HTTP_10, &twice[..1]).unwrap_err(), ResponseFlaw::TransferEncoding);
        let both = [("transfer-encoding", "chunked"), ("content-length", "2")];
        assert_eq!(read(200, Version::HTTP_11, &both).unwrap_err(), ResponseFlaw::TwoFramings);
    }

    #[test]
    fn a_connection_is_not_used_again_after_a_body_that_may_not_be_or_an_old_version() {
        use Afterwards::{Closes, Reusable};
        let after = |status, version, fields| read(status, version, fields).unwrap();
        let (length, none, chunked) =
            ([("content-length", "2")], [("content-length", "0")], [("transfer-encoding", "chunked")]);
        assert_eq!(after(204, Version::HTTP_11, &length), (Closes, vec![]));
        assert_eq!(after(204, Version::HTTP_11, &none), (Reusable, vec![]));
        assert_eq!(after(204, Version::HTTP_11, &chunked), (Closes, vec![]));
        assert_eq!(after(304, Version::HTTP_11, &length), (Reusable, vec![]));
        assert_eq!(after(304, Version::HTTP_11, &chunked), (Closes, vec![]));
        assert_eq!(after(200, Version::HTTP_10, &length), (Closes, vec!["2".to_owned()]));
    }

    #[test]
    fn header_fields_are_counted() {
        let fields = [("set-cookie", "a=1"); 6];
        assert!(read(200, Version::HTTP_2, &fields[1..]).is_ok());
        assert_eq!(read(200, Version::HTTP_2, &fields).unwrap_err(), ResponseFlaw::TooManyHeaders);
    }
}
