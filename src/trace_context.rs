//! Which trace a request belongs to: W3C Trace Context, `traceparent`.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that says it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What belongs to it; of no use without.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A place in a trace: the trace, a span of it, and whether it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 32],
    span: SpanId,
    flags: [u8; 2],
}

/// The name of a span: 16 lower-case hexadecimal digits.
pub type SpanId = [u8; 16];

impl TraceContext {
    /// What the headers say. Two that say it say nothing, and neither does what is none (§4.3).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let only = all.next().filter(|_| all.next().is_none())?;
        Self::parse(only.as_bytes())
    }

    /// A trace that begins with a request carries its id, so that logs and traces find each other.
    #[must_use]
    pub fn begin(request_id: &str, sampled: bool) -> Option<Self> {
        let trace = *request_id.as_bytes().first_chunk::<32>()?;
        let span = *trace.last_chunk::<16>()?;
        Some(Self { trace, span, flags: if sampled { *b"01" } else { *b"00" } })
    }

    /// `00-<trace>-<span>-<flags>` (§3.2). Of a later version what is known of this one is read (§3.2.4).
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

    /// The same trace, at another span.
    #[must_use]
    pub const fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }

    /// Its digits.
    #[must_use]
    pub fn trace(&self) -> &str {
        digits(&self.trace)
    }

    /// The span.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        self.span
    }

    /// The span's digits.
    #[must_use]
    pub fn span(&self) -> &str {
        digits(&self.span)
    }

    /// Whether whoever began it records it.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        matches!(self.flags[1], b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f')
    }

    /// As a header.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        let text = [&b"00-"[..], &self.trace, b"-", &self.span, b"-", &self.flags].concat();
        HeaderValue::try_from(text).ok()
    }
}

fn is_hexadecimal(part: &[u8]) -> bool {
    part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Only ever made of hexadecimal digits.
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
    fn a_valid_one_is_read_and_written_as_it_was() {
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
    fn what_is_none_says_nothing() {
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
