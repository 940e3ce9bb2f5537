//! The version of HTTP that a connection carries, on the client's side and on the backend's.

/// The version of HTTP that a connection carries. On the client's side ALPN decides; a client that negotiates none speaks
/// HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112): one exchange at a time.
    Http1,
    /// HTTP/2 (RFC 9113): many exchanges at once.
    Http2,
}

impl Protocol {
    /// The name in messages: `HTTP/1.1` or `HTTP/2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}
