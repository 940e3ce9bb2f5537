//! A connection after a switch of protocols: bytes in both directions, until both sides have closed or nothing moves.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, Sleep, sleep};

use super::abandoned::Work;
use super::socket::Socket;
use crate::policy::TimeLimit;

/// The backend's side of a switched connection, with the guards of the exchange with which it began.
#[derive(Debug)]
pub struct Tunnel {
    socket: Socket,
    /// Bytes that the backend sent right after its agreement.
    said: Bytes,
    work: Work,
    /// The time limit of the route, if it has one.
    idle: Option<TimeLimit>,
}

impl Tunnel {
    pub(super) fn new(socket: Socket, said: Bytes, work: Work, idle: Option<TimeLimit>) -> Self {
        Self { socket, said, work, idle }
    }

    /// Joins the two sides. `idle` is the configured time limit. `said` are the bytes that the client sent after its request; the backend gets them only now.
    pub fn join<S>(self, client: S, said: Bytes, idle: Duration) -> JoinedStreams
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let idle = super::time_limit(self.idle, idle);
        let traffic = Arc::new(Traffic::default());
        let start = Instant::now();
        let mut client = Side { stream: client, said, traffic: Arc::clone(&traffic), start };
        let mut backend = Side { stream: self.socket, said: self.said, traffic: Arc::clone(&traffic), start };
        let copying =
            async move { copy_bidirectional(&mut client, &mut backend).await.map(|(_, down)| down) };
        JoinedStreams {
            copying: Box::pin(copying),
            traffic,
            start,
            idle,
            look: Box::pin(sleep(idle)),
            _work: self.work,
        }
    }
}

/// Both sides of a switched connection. The future ends when both have closed, one has failed, or nothing moved for too long.
pub struct JoinedStreams {
    copying: Pin<Box<dyn Future<Output = io::Result<u64>> + Send>>,
    traffic: Arc<Traffic>,
    start: Instant,
    idle: Duration,
    /// The next check whether anything has moved; a byte resets no timer.
    look: Pin<Box<Sleep>>,
    _work: Work,
}

/// The traffic in both directions.
#[derive(Debug, Default)]
struct Traffic {
    bytes: AtomicU64,
    /// Milliseconds from the start to the last byte.
    moved_last: AtomicU64,
}

impl JoinedStreams {
    /// Number of bytes so far, in both directions.
    pub fn bytes(&self) -> u64 {
        self.traffic.bytes.load(Ordering::Relaxed)
    }
}

impl Future for JoinedStreams {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.copying.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            std::task::ready!(self.look.as_mut().poll(cx));
            let moved_last = Duration::from_millis(self.traffic.moved_last.load(Ordering::Relaxed));
            let until = self.start + moved_last + self.idle;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            self.look.as_mut().reset(until);
        }
    }
}

/// One side. It first gives the bytes that were read before the switch, and notes what it reads.
struct Side<S> {
    stream: S,
    said: Bytes,
    traffic: Arc<Traffic>,
    start: Instant,
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = if self.said.has_remaining() {
            let length = self.said.len().min(buf.remaining());
            buf.put_slice(&self.said.split_to(length));
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        };
        let length = buf.filled().len() - before;
        if length > 0 {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.traffic.moved_last.store(now, Ordering::Relaxed);
            self.traffic.bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
