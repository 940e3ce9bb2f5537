//! A recorder of the present request's head on a connection of HTTP/1.1. hyper keeps nothing of a request that it has sent, and
//! a copy of the headers would cost every request several allocations. The recorded bytes cost a copy into a buffer of the
//! connection, and are read only if the request must be known again:
//!
//! - a kept connection was closed before a byte of the answer, and the request may be sent once more (RFC 9110 §9.2.2);
//! - an answer has more headers than hyper reads without an allocation, and is read a second time with more room.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Outgoing;
use super::socket::Socket;

/// Most bytes of a head that are recorded: the default of `limits.http.max_header_bytes` and the headers that Sidegate sets. A
/// request with a longer head is not sent again.
const MOST: usize = 96 * 1024;
const END: &[u8] = b"\r\n\r\n";

/// A socket that records the head of the present request.
#[derive(Debug)]
pub(super) struct Recorder {
    socket: Socket,
    /// Bytes written since the last byte was read, up to the end of the request's head.
    head: Vec<u8>,
    /// A byte was read since the last one was written.
    answered: bool,
    /// Bytes of an answer that are read a second time.
    again: Bytes,
    writes: Writes,
}

/// The treatment of what hyper writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    Sent,
    /// The request was sent before: what hyper writes now is dropped.
    Dropped,
    /// The request was sent before, and hyper has not written yet: bytes that hyper reads now would be no answer to it.
    NotYetDropped,
}

impl Recorder {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, head: Vec::new(), answered: true, again: Bytes::new(), writes: Writes::Sent }
    }

    /// Has an answer read again, whose request was written and whose first bytes were read already.
    pub(super) fn read_again(self, again: Bytes) -> Self {
        Self { again, writes: Writes::NotYetDropped, answered: true, ..self }
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Returns the present request if no byte of an answer came to it.
    pub(super) fn lost_request(&self) -> Option<Request<Outgoing>> {
        if self.answered { None } else { self.request() }
    }

    /// Returns the present request without its body; `None` if its head is not known.
    pub(super) fn request(&self) -> Option<Request<Outgoing>> {
        let end = self.head.windows(END.len()).position(|bytes| bytes == END)?;
        let mut lines = self.head.get(..end)?.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let mut start = lines.next()?.split(|byte| *byte == b' ');
        let mut request = Request::new(Outgoing::empty());
        *request.method_mut() = Method::from_bytes(start.next()?).ok()?;
        *request.uri_mut() = Uri::try_from(start.next()?).ok()?;
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            let value = value.strip_prefix(b":")?.trim_ascii_start();
            let value = HeaderValue::from_bytes(value).ok()?;
            request.headers_mut().append(HeaderName::from_bytes(name).ok()?, value);
        }
        Some(request)
    }

    /// Returns true if what hyper writes is dropped. hyper is woken by the first such write, to read the answer.
    fn drops_writes(&mut self, cx: &Context<'_>) -> bool {
        if self.writes == Writes::NotYetDropped {
            self.writes = Writes::Dropped;
            cx.waker().wake_by_ref();
        }
        self.writes == Writes::Dropped
    }

    /// Records bytes that were written. Behind the end of the head comes the body.
    fn record(&mut self, bytes: &[u8]) {
        if self.answered {
            self.answered = false;
            self.head.clear();
        }
        if self.head.len() < MOST && !self.head.ends_with(END) {
            self.head.extend_from_slice(bytes.get(..MOST).unwrap_or(bytes));
        }
    }
}

impl AsyncRead for Recorder {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.writes {
            Writes::Sent => {}
            Writes::NotYetDropped => return Poll::Pending,
            // The request has no body left, so the next write is another request.
            Writes::Dropped => self.writes = Writes::Sent,
        }
        if self.again.has_remaining() {
            let length = self.again.len().min(buf.remaining());
            buf.put_slice(&self.again.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.answered |= buf.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.drops_writes(cx) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buf));
        // Of a write that failed nothing was sent; the head is whole all the same.
        let length = *written.as_ref().unwrap_or(&buf.len());
        self.record(buf.get(..length).unwrap_or(buf));
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if self.drops_writes(cx) {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs));
        let mut left = *written.as_ref().unwrap_or(&all);
        for buf in bufs {
            let length = buf.len().min(left);
            self.record(buf.get(..length).unwrap_or(buf));
            left -= length;
        }
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
