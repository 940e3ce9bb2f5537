//! An HTTP/1.1 connection at rest. hyper keeps some 20 KiB for each connection, between requests as well; a connection
//! without a request for a moment therefore drops hyper and keeps its stream alone. The next byte brings a new hyper.
//!
//! A connection rests only between two messages: if a body was not read to its end, the next byte would be taken for the
//! first of a request. [`Lines`](super::lines::Lines) knows, which reads all bytes; hyper does not tell.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::closing::{Input, close};
use super::drive::{End, Http};
use super::stream::ClientStream;
use crate::forward::discard::Discard;
use crate::stop::StopSignal;

/// Time without a request until a connection rests. It is longer than a client takes between two requests of a series, and
/// not longer than that: of memory that many new connections hold at once, the allocator does not give everything back.
pub(super) const AFTER: Duration = Duration::from_millis(150);

/// The stream of a connection at rest.
pub(super) struct Resting {
    pub(super) io: ClientStream,
    /// No new request is to be served.
    finished: bool,
}

impl Resting {
    pub(super) const fn new(io: ClientStream) -> Self {
        Self { io, finished: false }
    }

    /// Ends the connection without another request.
    pub(super) async fn end(self, end: End, stop: &StopSignal) {
        let stream = self.io.into_parts().stream;
        if end == End::Served {
            close(stream, Input::Read, Discard::NONE, stop).await;
        }
    }
}

impl Http for Resting {
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.finished {
            return Poll::Ready(End::Served);
        }
        // A few bytes are enough to be woken; the others stay in TLS and the socket.
        let mut first = [0; 64];
        let mut read = ReadBuf::new(&mut first);
        let end = std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut read));
        Poll::Ready(match (end, read.filled()) {
            (Err(_), _) => End::Cut,
            (Ok(()), []) => End::Served,
            (Ok(()), first) => {
                self.io.unread(first);
                End::Woken
            }
        })
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}
