//! Trace of a request: the headers `traceparent` and `tracestate` of W3C Trace Context. Section numbers are those of that
//! document.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header with the trace and the span.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Header with data of vendors; it has no meaning without `traceparent`.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Context of a request: its trace, the current span, and whether the trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 32],
    span: SpanId,
    flags: [u8; 2],
}

/// Identifier of a span: 16 lower-case hexadecimal digits.
pub(crate) type SpanId = [u8; 16];

impl TraceContext {
    /// Reads `traceparent`; `None` if the header is missing, repeated or malformed (§4.3).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let only = all.next().filter(|_| all.next().is_none())?;
        Self::parse(only.as_bytes())
    }

    /// Starts a trace. Its identifier is the id of the request, so that logs and traces can be joined.
    #[must_use]
    pub fn begin(request_id: &str, sampled: bool) -> Option<Self> {
        let trace = *request_id.as_bytes().first_chunk::<32>()?;
        let span = *trace.last_chunk::<16>()?;
        Some(Self { trace, span, flags: if sampled { *b"01" } else { *b"00" } })
    }

    /// Parses `00-<trace>-<span>-<flags>` (§3.2). Of a later version the fields of this version are read (§3.2.4).
    fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_first_chunk::<2>()?;
        let (trace, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<32>()?;
        let (span, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<2>()?;
        let is_whole = rest.is_empty() || (version != b"00" && rest.starts_with(b"-"));
        let are_digits = [&version[..], trace, span, flags].into_iter().all(is_hexadecimal);
        let is_something = |id: &[u8]| id.iter().any(|digit| *digit != b'0');
        (is_whole && are_digits && version != b"ff" && is_something(trace) && is_something(span))
            .then_some(Self { trace: *trace, span: *span, flags: *flags })
    }

    /// Returns the same trace at another span.
    #[must_use]
    pub const fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }

    /// Returns the digits of the trace identifier.
    #[must_use]
    pub fn trace(&self) -> &str {
        digits(&self.trace)
    }

    /// Returns the span.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        self.span
    }

    /// Returns the digits of the span identifier.
    #[must_use]
    pub fn span(&self) -> &str {
        digits(&self.span)
    }

    /// Returns true if the sender may have recorded the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        matches!(self.flags[1], b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f')
    }

    /// Returns the value of `traceparent`.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        let text = [&b"00-"[..], &self.trace, b"-", &self.span, b"-", &self.flags].concat();
        HeaderValue::try_from(text).ok()
    }
}

fn is_hexadecimal(part: &[u8]) -> bool {
    part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Identifiers consist of hexadecimal digits, so the default is never used.
fn digits(part: &[u8]) -> &str {
    std::str::from_utf8(part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn of(values: &[String]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        TraceContext::of(&headers)
    }

    #[test]
    fn a_valid_header_is_read_and_written_unchanged() {
        for flags in ["00", "01", "03"] {
            let text = format!("00-{TRACE}-b7ad6b7169203331-{flags}");
            let read = of(std::slice::from_ref(&text)).unwrap();
            assert_eq!(read.header().unwrap(), text.as_str());
            assert_eq!(read.is_sampled(), flags != "00");
        }
        let later = of(&[format!("01-{TRACE}-b7ad6b7169203331-01-more")]).unwrap();
        assert_eq!((later.trace(), later.span()), (TRACE, "b7ad6b7169203331"));
    }

    #[test]
    fn malformed_and_repeated_headers_are_ignored() {
        let (zeros, span) = ("0".repeat(32), "b7ad6b7169203331");
        let upper = TRACE.to_uppercase();
        for text in [
            format!("00-{zeros}-{span}-01"),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{upper}-{span}-01"),
            format!("ff-{TRACE}-{span}-01"),
            format!("00-{TRACE}-{span}-01-more"),
            format!("00-{TRACE}-{span}-0g"),
            format!("00-{TRACE}-{span}"),
            format!("01-{TRACE}-{span}-01more"),
            String::new(),
        ] {
            assert_eq!(of(std::slice::from_ref(&text)), None, "{text}");
        }
        let good = format!("00-{TRACE}-{span}-01");
        assert_eq!(of(&[good.clone(), good]), None);
    }
}
