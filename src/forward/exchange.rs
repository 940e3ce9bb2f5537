//! One exchange with the backend: the body of the request, and the body of the answer.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::abandoned::{self, Stage, Work};
use super::discard::Discard;
use super::link::Link;
use super::multiplex::Stream;
use super::pool::{self, Pool};
use super::read_ahead::{self, ReadAhead, SharedReading};
use super::{NoAnswer, framing, headers};
use crate::atomic_instant::AtomicInstant;
use crate::client_headers::StripPatterns;
use crate::refusal::ResponseFlaw;

/// A request's body on its way to the backend: the client's, without the trailers that it may not set.
#[derive(Debug)]
pub struct Outgoing {
    /// The client's body; `None` in a request that is sent again, and while this value is dropped.
    body: Option<Incoming>,
    /// The body comes on a stream of HTTP/2.
    by_stream: bool,
    upload: Option<Arc<Upload>>,
    /// Names that the trailers may not have, beside the listed ones.
    own: Option<StripPatterns>,
    /// The part of the body that may still come if the answer comes first.
    discard: Discard,
}

impl Outgoing {
    /// Returns the body of a request that came in that version of HTTP.
    pub(super) fn new(
        body: Incoming,
        version: Version,
        upload: Option<Arc<Upload>>,
        own: Option<StripPatterns>,
        discard: Discard,
    ) -> Self {
        Self { body: Some(body), by_stream: version == Version::HTTP_2, upload, own, discard }
    }
}

impl Outgoing {
    /// Returns the body of a request that has none.
    pub(super) const fn empty() -> Self {
        Self { body: None, by_stream: false, upload: None, own: None, discard: Discard::NONE }
    }
}

/// The reason why a body breaks off.
#[derive(Debug)]
pub enum BrokenOff {
    /// The connection or the framing failed, or the stream was reset with an error.
    Http(hyper::Error),
    /// The stream was reset before its end, and without an error. hyper takes that for an end (RFC 9113 §8.1 speaks of a
    /// reset after the end), so that half a body would pass for a whole one.
    Reset,
    /// The body was silent for too long.
    Silent,
    /// The client's upload failed, and the backend's answer with it.
    Upload,
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Reset => f.write_str("the stream was reset before its end"),
            Self::Silent => f.write_str("nothing came of it for too long"),
            Self::Upload => f.write_str("the client's upload failed"),
        }
    }
}

impl std::error::Error for BrokenOff {}

impl BrokenOff {
    /// The cause, if the backend's answer is not HTTP; `None` if the answer only ended too early.
    #[must_use]
    pub fn flaw(&self) -> Option<ResponseFlaw> {
        match self {
            Self::Http(error) if is_malformed(error) => Some(ResponseFlaw::Chunk),
            _ => None,
        }
    }
}

/// The way in which a client's upload failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum UploadFailure {
    /// The client left.
    Left = 1,
    /// The body is not framed as the request's headers announce.
    Malformed = 2,
}

impl UploadFailure {
    fn of(broken: &BrokenOff) -> Self {
        match broken {
            BrokenOff::Http(error) if is_malformed(error) => Self::Malformed,
            _ => Self::Left,
        }
    }
}

impl From<UploadFailure> for NoAnswer {
    fn from(failure: UploadFailure) -> Self {
        match failure {
            UploadFailure::Left => Self::ClientLeft,
            UploadFailure::Malformed => Self::MalformedBody,
        }
    }
}

/// `true` if the bytes of a body break its framing. hyper reports the end of the connection as an error of the body as well.
fn is_malformed(error: &hyper::Error) -> bool {
    let source = error.source();
    let of_http1 = source.and_then(|source| source.downcast_ref::<io::Error>());
    let of_http2 = source.and_then(|source| source.downcast_ref::<h2::Error>());
    of_http1.is_some_and(|error| matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData))
        || of_http2
            .is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR))
}

/// Polls for the next part of a body. `None` means that the body has come to its end.
pub(super) fn poll_whole(
    body: &mut Incoming,
    by_stream: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
    match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(None) if by_stream && !body.is_end_stream() => Poll::Ready(Some(Err(BrokenOff::Reset))),
        frame => frame.map_err(BrokenOff::Http),
    }
}

/// The backend answered early, or not at all: the rest of the body is discarded.
impl Drop for Outgoing {
    fn drop(&mut self) {
        self.body.take().into_iter().for_each(|body| self.discard.in_background(body));
    }
}

/// The progress of an upload: as long as it moves, the backend is not late with its answer.
#[derive(Debug)]
pub(super) struct Upload {
    start: Instant,
    /// The last byte that moved.
    moved: AtomicInstant,
    /// The backend would take more, and the client has not sent it yet.
    waits: AtomicBool,
    /// The whole body was passed on.
    sent: AtomicBool,
    /// The failure of the upload ([`UploadFailure`]); 0 for none.
    failure: AtomicU8,
}

impl Upload {
    /// Returns the upload of a request, if the request has a body.
    pub(super) fn of(body: &Incoming, start: Instant) -> Option<Arc<Self>> {
        let upload = || Self {
            start,
            moved: AtomicInstant::unset(),
            waits: false.into(),
            sent: false.into(),
            failure: 0.into(),
        };
        (!body.is_end_stream()).then(|| Arc::new(upload()))
    }

    pub(super) fn moved_last(&self) -> Instant {
        self.moved.get(self.start).unwrap_or(self.start)
    }

    pub(super) fn waits_for_client(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn failure(&self) -> Option<UploadFailure> {
        match self.failure.load(Ordering::Relaxed) {
            0 => None,
            malformed if malformed == UploadFailure::Malformed as u8 => Some(UploadFailure::Malformed),
            _ => Some(UploadFailure::Left),
        }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    fn note_progress(&self) {
        self.moved.set_now(self.start);
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let by_stream = self.by_stream;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = poll_whole(body, by_stream, cx);
        let is_sent = body.is_end_stream();
        if let Some(upload) = &self.upload {
            upload.waits.store(frame.is_pending(), Ordering::Relaxed);
            if frame.is_ready() {
                upload.note_progress();
                upload.sent.store(is_sent, Ordering::Relaxed);
                if let Poll::Ready(Some(Err(broken))) = &frame {
                    upload.failure.store(UploadFailure::of(broken) as u8, Ordering::Relaxed);
                }
            }
        }
        frame.map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                headers::strip_trailers(trailers, self.own.as_deref().unwrap_or_default());
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// The carrier of an answer.
#[derive(Debug)]
pub(super) enum Carrier {
    /// A connection of HTTP/1.1, which goes back to the pool if it can be used again.
    Own(Link, Arc<Pool>),
    /// A stream of HTTP/2, whose connection has a task of its own.
    Shared(#[expect(dead_code, reason = "held for what its drop gives back")] Stream),
    /// None any more: the whole answer was read.
    Done,
}

impl Carrier {
    /// Ends a connection of HTTP/1.1 with its present exchange.
    pub(super) fn close_afterwards(&mut self) {
        if let Self::Own(link, _) = self {
            link.close_afterwards();
        }
    }

    /// Follows what the backend says about the time for which it keeps the connection.
    pub(super) fn note_keep_alive(&mut self, keep_alive: &HeaderValue) {
        if let Self::Own(link, _) = self
            && let Some(limit) = pool::announced_limit(keep_alive)
        {
            link.limit_idle_time(limit);
        }
    }
}

/// The body of the backend's answer. hyper reads it, and so does the task of its stream once the answer is shared with that
/// task.
#[derive(Debug)]
pub struct Answer {
    own: Option<AnswerReader>,
    shared: Option<SharedReading>,
}

/// The reader of an answer. It drives the connection of HTTP/1.1 on which the answer comes, and holds the guards of the
/// backend's work until the answer ends, however it ends.
#[derive(Debug)]
pub(super) struct AnswerReader {
    body: Incoming,
    carrier: Carrier,
    silence: Silence,
    /// The backend's work; `None` once it has ended.
    work: Option<Work>,
    /// Counter of the bytes that wait for the client.
    unread: Arc<ReadAhead>,
    /// Parts that the client has not asked for yet.
    ahead: VecDeque<Frame<Bytes>>,
    bytes_ahead: usize,
    /// Length of the part that was passed on last: hyper keeps it while the client takes nothing.
    in_hand: usize,
    end: Option<Result<(), BrokenOff>>,
    /// hyper has asked for the next part, and waits for it.
    awaited: bool,
}

/// The time for which the backend may send nothing in the middle of an answer.
#[derive(Debug)]
pub(super) struct Silence {
    pub(super) limit: Duration,
    /// The upload, if any. While it moves there is no silence: the backend may want the whole upload first.
    pub(super) upload: Option<Arc<Upload>>,
    /// The timer, which runs while the backend is silent; most answers come at once and never need it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(super) const fn of(limit: Duration, upload: Option<Arc<Upload>>) -> Self {
        Self { limit, upload, timer: None }
    }

    /// Ends the silence.
    fn ends(&mut self) {
        self.timer = None;
    }

    /// `true` if the silence has lasted for too long. The task that asks is woken when it has.
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        while timer.as_mut().poll(cx).is_ready() {
            let moved = self.upload.as_ref().map(|upload| upload.moved_last() + limit);
            let Some(later) = moved.filter(|later| *later > Instant::now()) else { return true };
            timer.as_mut().reset(later);
        }
        false
    }
}

impl Answer {
    pub(super) fn new(
        body: Incoming,
        carrier: Carrier,
        silence: Silence,
        work: Work,
        unread: Arc<ReadAhead>,
    ) -> Self {
        Self { own: Some(AnswerReader::new(body, carrier, silence, work, unread)), shared: None }
    }

    /// Looks at the first part of an answer of unknown length, if that part came together with the headers.
    ///
    /// # Errors
    /// The part is malformed: the answer has not begun for the client, who can still be told.
    pub(super) fn look_at_first_part(&mut self) -> Result<(), ResponseFlaw> {
        self.own.as_mut().map_or(Ok(()), AnswerReader::look_at_first_part)
    }

    /// Has the stream's task read the rest of the answer ahead, because no part can be passed on now.
    pub fn read_ahead(&mut self) {
        if self.shared.is_none() {
            self.shared = read_ahead::lend(&mut self.own);
        }
    }

    fn look<T>(&self, at: impl FnOnce(&AnswerReader) -> T) -> Option<T> {
        match &self.shared {
            Some(shared) => Some(at(&shared.reading())),
            None => self.own.as_ref().map(at),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(shared) = &self.shared {
            return shared.reading().poll_next(cx);
        }
        let Some(own) = &mut self.own else { return Poll::Ready(None) };
        let part = own.poll_first(cx);
        if matches!(part, Poll::Ready(Some(Ok(_)))) && own.end.is_none() {
            // The client may take no more for now; then the rest is read by the stream's task.
            self.shared = read_ahead::lend(&mut self.own);
        }
        part
    }

    fn is_end_stream(&self) -> bool {
        self.look(AnswerReader::is_end_stream).unwrap_or(true)
    }

    fn size_hint(&self) -> SizeHint {
        self.look(AnswerReader::size_hint).unwrap_or_default()
    }
}

impl AnswerReader {
    fn new(body: Incoming, carrier: Carrier, silence: Silence, work: Work, unread: Arc<ReadAhead>) -> Self {
        let mut reading = Self {
            body,
            carrier,
            silence,
            work: Some(work),
            unread,
            ahead: VecDeque::new(),
            bytes_ahead: 0,
            in_hand: 0,
            end: None,
            awaited: false,
        };
        if reading.body.is_end_stream() {
            reading.ends();
            reading.settle();
        }
        reading
    }

    fn look_at_first_part(&mut self) -> Result<(), ResponseFlaw> {
        let Carrier::Own(link, _) = &self.carrier else { return Ok(()) };
        if self.end.is_some() || self.body.size_hint().exact().is_some() {
            return Ok(());
        }
        match link.poll_here(&mut self.body) {
            Poll::Ready(Some(Ok(frame))) => self.keep_ahead(frame),
            Poll::Ready(Some(Err(broken))) => return broken.flaw().map_or(Ok(()), Err),
            Poll::Ready(None) | Poll::Pending => {}
        }
        Ok(())
    }

    /// Polls for the next part before the answer is shared. An answer of unknown length may end right behind its first part:
    /// the end is looked for, so that a small answer is whole at once and costs no allocation.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let is_first = self.in_hand == 0;
        let part = self.poll_next(cx);
        if is_first
            && matches!(part, Poll::Ready(Some(Ok(_))))
            && self.end.is_none()
            && self.body.size_hint().exact().is_none()
        {
            let _ = self.poll_ahead(cx);
        }
        part
    }

    /// Polls for the next part, for the client.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.unread.give_back(std::mem::take(&mut self.in_hand));
        if let Some(frame) = self.ahead.pop_front() {
            self.in_hand = length(&frame);
            self.bytes_ahead -= self.in_hand;
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.end {
            None => {}
            Some(end) => return Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
        }
        let part = self.poll_part(cx);
        self.awaited = part.is_pending();
        if let Poll::Ready(Some(Ok(frame))) = &part {
            self.in_hand = length(frame);
            self.unread.add(self.in_hand);
        }
        self.settle();
        part
    }

    /// Reads the next part and keeps it until the client asks for it.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.poll_part(cx)) {
            Some(Ok(frame)) => self.keep_ahead(frame),
            Some(Err(broken)) => self.end = Some(Err(broken)),
            None => {}
        }
        self.settle();
        Poll::Ready(())
    }

    fn keep_ahead(&mut self, frame: Frame<Bytes>) {
        let length = length(&frame);
        self.bytes_ahead += length;
        self.unread.add(length);
        self.ahead.push_back(frame);
    }

    /// `true` if hyper asked in this turn and waits for the backend, which will wake it.
    pub(super) fn is_awaited(&mut self) -> bool {
        std::mem::take(&mut self.awaited)
    }

    /// `true` if more may be read ahead.
    pub(super) fn has_room(&self) -> bool {
        self.end.is_none() && self.bytes_ahead < read_ahead::MOST && self.unread.has_room()
    }

    /// Polls for the next part as the backend sends it. At the end, or after an error, the connection is released.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut part = self.poll_carrier(cx);
        if part.is_ready() {
            self.silence.ends();
        } else if self.silence.poll_too_long(cx) {
            part = Poll::Ready(Some(Err(BrokenOff::Silent)));
        }
        match &mut part {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    framing::strip_framing(trailers);
                }
                // Trailers end an answer: a client that takes none does not ask for what follows.
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.ends();
                }
            }
            Poll::Ready(None) => self.ends(),
            // A connection with a broken answer is not used again.
            Poll::Ready(Some(Err(broken))) => {
                if self.silence.upload.as_ref().is_some_and(|upload| upload.failure().is_some()) {
                    *broken = BrokenOff::Upload;
                }
                self.carrier = Carrier::Done;
                self.end = Some(Ok(()));
            }
            Poll::Pending => {}
        }
        part
    }

    fn poll_carrier(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let by_stream = matches!(self.carrier, Carrier::Shared(_));
        let Carrier::Own(link, _) = &mut self.carrier else {
            return poll_whole(&mut self.body, by_stream, cx);
        };
        // Parts that were read already come first: polling the connection costs more.
        let here = link.poll_here(&mut self.body);
        if here.is_ready() {
            return here;
        }
        link.drive(cx);
        link.poll_here(&mut self.body)
    }

    /// Notes the end of the backend's answer. The connection goes back to the pool if both of its halves are at rest.
    fn ends(&mut self) {
        self.end = Some(Ok(()));
        if let Carrier::Own(mut link, pool) = std::mem::replace(&mut self.carrier, Carrier::Done)
            && link.is_open()
        {
            pool.give_back(link);
        }
    }

    /// Gives the place in flight back at the end of the backend's answer. If too many bytes wait for their clients already,
    /// the place is kept until this client has read everything: memory stays bounded by the number of places.
    fn settle(&mut self) {
        if self.end.is_some() && self.unread.has_room() {
            self.work = None;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && matches!(self.end, Some(Ok(())))
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.bytes_ahead as u64),
            None => SizeHint::default(),
        }
    }
}

impl Drop for AnswerReader {
    fn drop(&mut self) {
        self.unread.give_back(self.in_hand + self.bytes_ahead);
        if let (Carrier::Own(link, _), Some(work)) =
            (std::mem::replace(&mut self.carrier, Carrier::Done), self.work.take())
        {
            abandoned::abandon(link, work, Stage::Answering);
        }
    }
}

fn length(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}
