//! Bounds of HTTP itself.

use http::{Request, Version};

use crate::forward::discard::Discard;

/// Bounds of HTTP itself (`limits.http`).
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Most bytes of a request's headers: its head in HTTP/1.1, its header list (RFC 9113 §6.5.2) in HTTP/2.
    pub header_bytes: usize,
    /// Most header fields of a request.
    pub headers: usize,
    /// HTTP/2: most streams at once.
    pub streams: u32,
    /// HTTP/2: most streams that the client has reset and whose requests have not ended yet (CVE-2023-44487).
    pub pending_resets: usize,
    /// HTTP/2: most resets that a client may provoke from Sidegate within a minute (CVE-2025-8671).
    pub provoked_resets: usize,
    /// The part of a request's body that is read and discarded after an early answer.
    pub discard: Discard,
}

impl HttpLimits {
    /// `true` if the headers of a request are within the bounds. HTTP/1.1 enforces the bounds while it reads the headers.
    pub fn allow<B>(&self, request: &Request<B>) -> bool {
        request.version() != Version::HTTP_2
            || (request.headers().len() <= self.headers && header_list_size(request) <= self.header_bytes)
    }
}

/// The size of the header list as RFC 9113 §6.5.2 counts it, without the pseudo-header fields: the target has a bound of its
/// own.
fn header_list_size<B>(request: &Request<B>) -> usize {
    request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}
