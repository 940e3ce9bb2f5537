//! The outbox of an HTTP/2 connection: frames are gathered while the connection's task runs and are written together at the
//! end of the turn, so that one TLS record and one write carry the frames of many streams. Nothing is held back beyond the
//! turn.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::resets::ProvokedResets;
use crate::handshake::pieces;
use crate::proxy::services::SpareBuffer;

/// Bytes that one turn gathers before they are written out at once. With one more frame of the usual size they are still
/// fewer than the 64 KiB that TLS takes in one call, so that no small rest needs a record and a call of its own.
const FULL: usize = 47 * 1024;

/// The stream below an outbox.
pub(super) trait FrameStream: AsyncWrite + Unpin {
    /// Looks at whole frames before they are written: those from this position on.
    fn check(&mut self, frames: &mut Vec<u8>, from: usize);
}

/// The side of the connection's driver, which sends what was gathered.
#[derive(Debug)]
pub(super) struct Outbox<S>(Arc<Mutex<Gathered<S>>>);

/// The side of the HTTP implementation, which writes frames.
#[derive(Debug)]
pub(super) struct Gathering<S>(Arc<Mutex<Gathered<S>>>);

#[derive(Debug)]
struct Gathered<S> {
    stream: S,
    spare: Arc<SpareBuffer>,
    /// Frames in the lent buffer; without memory while there are none.
    frames: Vec<u8>,
    /// Bytes of the frames that were looked at.
    checked: usize,
    /// Bytes of the frames that are written already.
    written: usize,
    unflushed: bool,
    /// Resets among the frames.
    resets: ProvokedResets,
}

fn locked<S>(shared: &Mutex<Gathered<S>>) -> MutexGuard<'_, Gathered<S>> {
    // Both ends belong to one task: the lock is always free.
    shared.lock()
}

impl<S: FrameStream> Outbox<S> {
    /// `most_resets` is the number of resets that the client may provoke within a minute.
    pub(super) fn new(stream: S, spare: Arc<SpareBuffer>, most_resets: usize) -> (Self, Gathering<S>) {
        let gathered = Gathered {
            stream,
            spare,
            frames: Vec::new(),
            checked: 0,
            written: 0,
            unflushed: false,
            resets: ProvokedResets::new(most_resets),
        };
        let shared = Arc::new(Mutex::new(gathered));
        (Self(Arc::clone(&shared)), Gathering(shared))
    }

    /// `true` if the client has provoked more resets than it may.
    pub(super) fn has_too_many_resets(&self) -> bool {
        locked(&self.0).resets.are_too_many()
    }

    /// Adds a last frame behind those that HTTP has written. HTTP hands over whole frames, so the last frame splits none.
    pub(super) fn append(&self, frame: &[u8]) {
        let mut gathered = locked(&self.0);
        gathered.unflushed = true;
        gathered.frames.extend_from_slice(frame);
    }

    /// Sends everything at the end of a turn. `Pending` if the socket takes no more; the task is woken when it does.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = locked(&self.0);
        if gathered.frames.is_empty() && !gathered.unflushed {
            return Poll::Ready(Ok(()));
        }
        gathered.poll_send(cx)
    }
}

impl<S: FrameStream> Gathered<S> {
    /// Makes room for more frames.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frames.len() >= FULL {
            ready!(self.poll_send(cx))?;
        }
        if self.frames.is_empty() {
            self.frames = self.spare.lend(FULL);
        }
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.checked < self.frames.len() {
            self.stream.check(&mut self.frames, self.checked);
            self.resets.look(self.frames.get(self.checked..).unwrap_or_default());
            self.checked = self.frames.len();
        }
        while let Some(left) = self.frames.get(self.written..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        if !self.frames.is_empty() {
            self.spare.take_back(std::mem::take(&mut self.frames), 2 * FULL);
        }
        (self.checked, self.written) = (0, 0);
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: FrameStream> AsyncWrite for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut gathered = locked(&self.0);
        ready!(gathered.poll_room(cx))?;
        pieces::append(&mut gathered.frames, buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = locked(&self.0);
        ready!(gathered.poll_room(cx))?;
        let before = gathered.frames.len();
        for buf in bufs {
            pieces::append(&mut gathered.frames, buf);
        }
        Poll::Ready(Ok(gathered.frames.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: everything is flushed at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = locked(&self.0);
        ready!(gathered.poll_send(cx))?;
        Pin::new(&mut gathered.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut locked(&self.0).stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    impl FrameStream for DuplexStream {
        fn check(&mut self, _: &mut Vec<u8>, _: usize) {}
    }

    #[tokio::test]
    async fn frames_are_written_at_the_end_of_the_turn_in_order() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (outbox, mut gathering) = Outbox::new(near, Arc::default(), 1);
        gathering.write_all(b"one ").await.unwrap();
        gathering.flush().await.unwrap();
        gathering.write_all(b"two").await.unwrap();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, far.read_u8()).await.is_err());
        std::future::poll_fn(|cx| outbox.poll_send(cx)).await.unwrap();
        let mut read = [0; 7];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"one two");
    }

    #[tokio::test]
    async fn a_full_outbox_pushes_back() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (outbox, mut gathering) = Outbox::new(near, Arc::default(), 1);
        let sender = async {
            for _ in 0..100 {
                gathering.write_all(&[7; 16 * 1024]).await.unwrap();
                assert!(locked(&gathering.0).frames.len() <= FULL + 16 * 1024);
            }
            std::future::poll_fn(|cx| outbox.poll_send(cx)).await.unwrap();
            gathering.shutdown().await.unwrap();
        };
        let receiver = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = tokio::join!(sender, receiver);
        assert_eq!(all.len(), 100 * 16 * 1024);
    }
}
