//! A connection of HTTP/1.1 at rest. hyper keeps some 20 KiB for each connection, between requests as well; so one that has
//! been asked nothing for a moment gives hyper back, and keeps its stream alone. The next byte brings another one.
//!
//! Only between two messages: where a body was not read to its end, the next byte would be taken for a request's first.
//! [`Lines`](super::lines::Lines) knows, which reads all of it; hyper does not tell.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::close;
use super::drive::{End, Http};
use super::pulse::Felted;

/// How long nothing is asked until a connection rests: longer than a client takes between two requests of a series, and
/// no longer, for what a crowd of new connections has in hand for so long is not all given back by the allocator.
pub(super) const AFTER: Duration = Duration::from_millis(150);

/// The stream of a connection at rest.
pub(super) struct Resting {
    pub(super) io: Felted,
    /// No request is welcome any more.
    finished: bool,
}

impl Resting {
    pub(super) const fn new(io: Felted) -> Self {
        Self { io, finished: false }
    }

    /// Without another request.
    pub(super) async fn end(self, end: End) {
        let stream = self.io.into_parts().stream;
        if end == End::Served {
            close(stream, false).await;
        }
    }
}

impl Http for Resting {
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.finished {
            return Poll::Ready(End::Served);
        }
        // Enough to be woken by; the rest stays where it is.
        let mut first = [0; 64];
        let mut read = ReadBuf::new(&mut first);
        let end = std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut read));
        Poll::Ready(match (end, read.filled()) {
            (Err(_), _) => End::Cut,
            (Ok(()), []) => End::Served,
            (Ok(()), first) => {
                self.io.gives_back(first);
                End::Woken
            }
        })
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}
