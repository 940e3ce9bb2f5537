//! The client's stream, between TLS and HTTP.
//!
//! Reads and writes are noted in the session's activity. hyper's own answers to what it cannot parse are withheld, so that a
//! documented answer can be given in their place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lines::Lines;
use super::outbox::FrameStream;
use super::oversized;
use super::window::ClientFrames;
use crate::handshake::Stream;
use crate::protocol::Protocol;
use crate::proxy::gate;
use crate::proxy::session::Session;
use crate::stop::Order;

/// The client's stream, whose reads and writes are noted, and on which hyper answers nothing by itself.
#[derive(Debug)]
pub(super) struct ClientStream {
    stream: Stream,
    session: Arc<Session>,
    /// The reader of lines; `None` in HTTP/2.
    lines: Option<Lines>,
    /// The reader of the client's frames, in HTTP/2.
    frames: ClientFrames,
    /// The search for answers that HTTP/2 has made by itself.
    search: oversized::Search,
    /// Most bytes of a request's headers.
    header_bytes: usize,
    /// The connection has ended because of a header list, and that is recorded.
    has_ended: bool,
    /// Number of requests that had begun when all answers to them were last known to be written whole.
    written_after: u32,
    /// The status of an answer of hyper's own that was withheld.
    withheld: Option<StatusCode>,
    /// Bytes that were read and are to be read once more.
    unread: Bytes,
    /// Bytes behind a request that asks for another protocol. They belong to that protocol, or are requests; they are read
    /// once the answer has told which.
    beyond: Bytes,
    /// The task that would read more, while nothing more is read.
    reader: Option<Waker>,
    /// Bytes that the socket had taken after the last write.
    taken: u64,
}

/// The parts of a stream on which HTTP has ended.
pub(super) struct StreamParts {
    pub(super) stream: Stream,
    /// The status that hyper would have answered with, if it could not parse the request.
    pub(super) unparsed: Option<StatusCode>,
    /// Bytes that were read behind a request that asked for another protocol.
    pub(super) beyond: Bytes,
}

impl ClientStream {
    pub(super) fn new(stream: Stream, session: Arc<Session>) -> Self {
        let lines = (session.protocol == Protocol::Http1).then(Lines::default);
        let taken = stream.write_progress().taken;
        let header_bytes = session.services.live.load().limits.header_bytes;
        Self {
            stream,
            session,
            lines,
            frames: ClientFrames::default(),
            search: oversized::Search::default(),
            header_bytes,
            has_ended: false,
            written_after: 0,
            withheld: None,
            unread: Bytes::new(),
            beyond: Bytes::new(),
            reader: None,
            taken,
        }
    }

    pub(super) fn into_parts(self) -> StreamParts {
        StreamParts { stream: self.stream, unparsed: self.withheld, beyond: self.beyond }
    }

    /// Has these bytes, which were read, read once more before anything else.
    pub(super) fn unread(&mut self, read: &[u8]) {
        self.unread = Bytes::copy_from_slice(read);
    }

    /// `true` if these bytes are an answer of hyper's own: no request has begun since the last answer was written whole.
    /// (hyper flushes only what it has written to the end, and an answer of its own ends the connection.)
    fn withholds(&mut self, bytes: &[u8]) -> bool {
        let activity = &self.session.activity;
        if !activity.is_at_rest() || activity.requests() != self.written_after {
            return false;
        }
        // A switched connection, and HTTP/2, write other bytes while no request is in progress.
        let status = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        self.withheld = self.withheld.or_else(|| StatusCode::from_bytes(status?).ok());
        self.withheld.is_some()
    }

    /// `true` while no more requests are read: answers to earlier requests wait for a full socket, and the connection has as
    /// many of these as it may. (Answers that wait for a window end the connection: only reading could open the window.)
    fn is_reading_paused(&self) -> bool {
        self.lines.is_none() && self.session.activity.is_blocked() && self.session.has_too_many_unread()
    }

    /// Reads, and looks at what was read: at lines in HTTP/1.1, at updates of the connection's window in HTTP/2.
    fn poll_read_http(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll_bytes(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if self.session.protocol == Protocol::Http2 {
            let opened = self.frames.read(read);
            self.session.open_window(opened);
        }
        let Some(lines) = self.lines.as_mut().filter(|_| !read.is_empty()) else {
            return Poll::Ready(Ok(()));
        };
        self.session.activity.note_read();
        if let Some(end) = lines.look(buf, before) {
            let beyond = buf.filled().get(end..).unwrap_or_default();
            self.beyond = [beyond, &self.beyond].concat().into();
            buf.set_filled(end);
        }
        self.session.activity.set_amid_message(!lines.end_with_a_message());
        Poll::Ready(Ok(()))
    }

    /// Reads what was kept from an earlier read, or the stream.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.beyond.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let kept = self.beyond.split_to(self.beyond.len().min(buf.remaining()));
        buf.put_slice(&kept);
        Poll::Ready(Ok(()))
    }

    /// `true` if the last request asks for another protocol, and its answer has not told yet whether that protocol follows.
    fn may_switch(&mut self) -> bool {
        let Some(lines) = self.lines.as_mut().filter(|lines| lines.may_switch()) else { return false };
        // A head that was read becomes a request a moment later; and until a switched connection ends, its request counts as
        // being answered.
        let activity = &self.session.activity;
        if activity.is_at_rest() && activity.requests() == lines.heads() {
            lines.go_on();
            activity.set_amid_message(!self.beyond.is_empty());
        }
        lines.may_switch()
    }

    /// Keeps what comes behind a request that asks for another protocol. hyper learns only of the end of the connection.
    fn poll_read_beyond(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reader = Some(cx.waker().clone());
        if !self.beyond.is_empty() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.beyond = Bytes::copy_from_slice(read);
        buf.set_filled(before);
        Poll::Pending
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.unread.is_empty() {
            let again = this.unread.split_to(this.unread.len().min(buf.remaining()));
            buf.put_slice(&again);
            return Poll::Ready(Ok(()));
        }
        if this.may_switch() {
            return this.poll_read_beyond(cx, buf);
        }
        if this.is_reading_paused() {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // In HTTP/2 these may be frames of any kind: a connection without requests is idle, whatever frames it sends.
        this.poll_read_http(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.withholds(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        self.noted(cx, |this, cx| {
            ready!(this.poll_interim(cx))?;
            Pin::new(&mut this.stream).poll_write(cx, buf)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.withholds(bufs.first().map_or(&[][..], |buf| buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        self.noted(cx, |this, cx| {
            ready!(this.poll_interim(cx))?;
            Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.noted(cx, Self::poll_flush_all)
    }

    /// HTTP/1.1 ends when everything is written out; its caller closes the stream afterwards.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.session.protocol {
            Protocol::Http1 => self.noted(cx, Self::poll_flush_all),
            Protocol::Http2 => self.noted(cx, |this, cx| Pin::new(&mut this.stream).poll_shutdown(cx)),
        }
    }
}

impl ClientStream {
    /// Writes the interim answers that wait, before hyper's own bytes.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let interim = &self.session.interim;
        ready!(interim.poll_write_to(&mut self.stream, cx))?;
        interim.set_between_answers(false);
        Poll::Ready(Ok(()))
    }

    fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &self.session;
        if session.activity.is_at_rest() {
            self.written_after = session.activity.requests();
            // The answer that declined a switch of protocols has ended: the bytes behind its request may be read.
            if self.lines.is_some() {
                self.reader.take().into_iter().for_each(Waker::wake);
            }
        }
        ready!(session.interim.poll_write_to(&mut self.stream, cx))?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        session.interim.set_between_answers(flushed.is_ready());
        flushed
    }

    /// Writes, and notes whether the socket had room.
    fn noted<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let wrote = write(self, cx);
        let written = self.stream.write_progress();
        self.session.activity.note_write(written.is_full, written.taken != self.taken);
        self.taken = written.taken;
        if !written.is_full && self.lines.is_none() {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        wrote
    }
}

impl FrameStream for ClientStream {
    /// Finds answers that HTTP/2 has made by itself to header lists that it does not take, and puts the documented ones in their
    /// place. Nothing is looked for while every head became a request.
    fn check(&mut self, frames: &mut Vec<u8>, from: usize) {
        let first = self.frames.take_first_new();
        let without_request = self.frames.heads().wrapping_sub(self.session.activity.accepted());
        let is_searched = self.search.update(first, without_request);
        let is_large = self.frames.block() > self.header_bytes;
        if !is_searched && !is_large {
            return;
        }
        let new = frames.get(from..).unwrap_or_default();
        let session = &self.session;
        if is_searched && let Some(replaced) = self.search.replace(new, || answer_oversized(session)) {
            frames.truncate(from);
            frames.extend_from_slice(&replaced);
        } else if !self.has_ended && oversized::end_connection(new, is_large) {
            self.has_ended = true;
            // No answer is sent: the connection has ended.
            let _ = gate::answer_oversized(&self.session);
        }
    }
}

/// Returns the answer to a header list that HTTP/2 does not take. The connection ends with an answer that has a body, because
/// HTTP/2 does not know that the body has used the client's window. While other requests are in progress, the answer has none.
fn answer_oversized(session: &Arc<Session>) -> Response<Bytes> {
    let is_alone = session.activity.is_at_rest() || !session.peer.is_authenticated();
    let answer = gate::answer_oversized(session);
    session.activity.note_accepted();
    if !is_alone {
        return oversized::without_body(answer);
    }
    session.stop.send(Order::WindDown);
    if session.has_window_for(answer.body().len()) { answer } else { oversized::without_body(answer) }
}
