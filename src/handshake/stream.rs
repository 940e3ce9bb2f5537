//! Stream of a connection after its handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::pieces::{self, PIECE};
use super::{SniffedSocket, WriteProgress};

/// Maximum number of pieces in one write: TLS accepts 64 KiB at once.
const MAX_PIECES: usize = 64 * 1024 / PIECE;

/// Stream of a connection after its handshake. TLS is on the heap, so that a move of the stream is cheap.
#[derive(Debug)]
pub(crate) struct Stream {
    tls: Box<TlsStream<SniffedSocket>>,
    /// True if the last read found no data, neither decrypted nor in the socket. HTTP reads at every poll, mostly in vain, so
    /// TLS is not called before the socket is readable.
    is_drained: bool,
    /// Error that followed the data of the last read; the next read returns it.
    deferred_error: Option<io::Error>,
}

impl Stream {
    pub(super) fn new(tls: TlsStream<SniffedSocket>) -> Self {
        Self { tls: Box::new(tls), is_drained: false, deferred_error: None }
    }

    /// Returns the socket below TLS.
    pub(crate) fn socket_mut(&mut self) -> &mut TcpStream {
        let (sniffed, _) = self.tls.get_mut();
        &mut sniffed.socket
    }

    /// Returns the progress of the writes to the socket. TLS buffers bytes that the socket has not accepted, so the results
    /// of writes to TLS do not show the progress.
    pub(crate) fn write_progress(&self) -> WriteProgress {
        let (sniffed, _) = self.tls.get_ref();
        sniffed.written
    }

    /// Reads from one record, and returns the number of bytes; 0 at the end of the stream.
    fn poll_record(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if self.is_drained {
            let (sniffed, _) = self.tls.get_ref();
            ready!(sniffed.socket.poll_read_ready(cx))?;
        }
        let mut tls = Pin::new(&mut self.tls);
        let here = tls.as_mut().poll_fill_buf(cx);
        self.is_drained = here.is_pending();
        let here = ready!(here)?;
        let taken = here.len().min(buf.remaining());
        here.get(..taken).unwrap_or_default().chunks(PIECE).for_each(|piece| buf.put_slice(piece));
        tls.consume(taken);
        Poll::Ready(Ok(taken))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.deferred_error.take() {
            return Poll::Ready(Err(error));
        }
        let mut taken = ready!(self.poll_record(cx, buf))?;
        // More records usually follow a large record.
        while taken > PIECE && buf.remaining() > 0 {
            taken = match self.poll_record(cx, buf) {
                Poll::Ready(Ok(taken)) => taken,
                Poll::Ready(Err(error)) => {
                    self.deferred_error = Some(error);
                    break;
                }
                Poll::Pending => break,
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match buf.len() {
            ..=PIECE => Pin::new(&mut self.tls).poll_write(cx, buf),
            _ => self.poll_write_vectored(cx, &[io::IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pieces = [io::IoSlice::new(&[]); MAX_PIECES];
        let pieces = pieces::cut(bufs, &mut pieces);
        Pin::new(&mut self.tls).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
