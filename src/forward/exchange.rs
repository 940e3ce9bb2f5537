//! One exchange with the backend: a request's body out, its answer's back.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::headers;
use super::link::Link;
use super::multiplex::Stream;
use super::pool::Pool;
use crate::admission::Guards;
use crate::client_headers::OwnName;
use crate::unread;

/// A request's body on its way to the backend: the client's, without the trailers that it may not set.
#[derive(Debug)]
pub struct Outgoing {
    /// Taken only when it is dropped.
    body: Option<Incoming>,
    /// Whether it comes on a stream of HTTP/2.
    by_stream: bool,
    upload: Option<Arc<Upload>>,
    /// Names that its trailers may not have beside the listed ones.
    own: Option<Arc<[OwnName]>>,
}

impl Outgoing {
    /// Of a request that came in that version of HTTP.
    pub(super) fn new(
        body: Incoming,
        version: Version,
        upload: Option<Arc<Upload>>,
        own: Option<Arc<[OwnName]>>,
    ) -> Self {
        Self { body: Some(body), by_stream: version == Version::HTTP_2, upload, own }
    }
}

/// Why a body breaks off.
#[derive(Debug)]
pub enum BrokenOff {
    /// Its connection or its framing did, or its stream was reset with an error.
    Http(hyper::Error),
    /// Its stream was reset before its end, and without an error. hyper takes that for an end (RFC 9113 §8.1 speaks of a
    /// reset after the end), and half a body would pass for a whole one.
    Reset,
    /// Nothing came of it for too long.
    Silent,
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Reset => f.write_str("the stream was reset before its end"),
            Self::Silent => f.write_str("nothing came of it for too long"),
        }
    }
}

impl std::error::Error for BrokenOff {}

/// The next part of a body, which is over only where it has come to its end.
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

/// The backend answered early, or not at all: what it did not read, nobody does.
impl Drop for Outgoing {
    fn drop(&mut self) {
        self.body.take().into_iter().for_each(unread::forget);
    }
}

/// How an upload moves: as long as it does, the backend is not late with its answer.
#[derive(Debug)]
pub(super) struct Upload {
    start: Instant,
    /// Milliseconds from the start to the last byte that moved.
    moved: AtomicU64,
    /// The backend would take more, and the client has not sent it yet.
    waits: AtomicBool,
}

impl Upload {
    /// Of a request that has a body.
    pub(super) fn of(body: &Incoming, start: Instant) -> Option<Arc<Self>> {
        (!body.is_end_stream())
            .then(|| Arc::new(Self { start, moved: AtomicU64::new(0), waits: AtomicBool::new(false) }))
    }

    pub(super) fn moved_last(&self) -> Instant {
        self.start + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    pub(super) fn waits_for_client(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    fn moves(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
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
        if let Some(upload) = &self.upload {
            upload.waits.store(frame.is_pending(), Ordering::Relaxed);
            if frame.is_ready() {
                upload.moves();
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

/// How an answer comes.
#[derive(Debug)]
pub(super) enum Carrier {
    /// Over a connection that nobody else uses meanwhile, and that goes back to the pool if it can be used again.
    Own(Link, Arc<Pool>),
    /// On a stream of a connection that has a driver of its own.
    Shared(#[expect(dead_code, reason = "held for what its drop gives back")] Stream),
    /// All of it is here.
    Done,
}

/// The body of the backend's answer. It drives the connection that it comes over, if that is its own, and keeps the
/// guards of its exchange until its end, however that comes.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    carrier: Carrier,
    silence: Silence,
    _guards: Guards,
}

/// How long the backend may say nothing in the middle of an answer.
#[derive(Debug)]
pub(super) struct Silence {
    pub(super) limit: Duration,
    /// What the client sends meanwhile is no silence: the backend may want all of it first.
    pub(super) upload: Option<Arc<Upload>>,
    /// Runs while it says nothing; most answers are there at once, and never need it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(super) const fn of(limit: Duration, upload: Option<Arc<Upload>>) -> Self {
        Self { limit, upload, timer: None }
    }

    /// Something was said.
    fn ends(&mut self) {
        self.timer = None;
    }

    /// Whether it has lasted for too long. The task that asks is woken when it has.
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
    pub(super) fn new(body: Incoming, carrier: Carrier, silence: Silence, guards: Guards) -> Self {
        let mut answer = Self { body, carrier, silence, _guards: guards };
        answer.release_at_end();
        answer
    }

    /// The next part of it.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let by_stream = matches!(self.carrier, Carrier::Shared(_));
        let Carrier::Own(link, _) = &mut self.carrier else {
            return poll_whole(&mut self.body, by_stream, cx);
        };
        // What is here first: looking for more costs more than that.
        let here = link.poll_here(&mut self.body);
        if here.is_ready() {
            return here;
        }
        link.drive(cx);
        link.poll_here(&mut self.body)
    }

    /// Gives the connection back as soon as the body has ended, if both sides of it are at rest then.
    fn release_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Carrier::Own(mut link, pool) = std::mem::replace(&mut self.carrier, Carrier::Done)
            && link.is_open()
        {
            pool.give_back(link);
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
        let this = &mut *self;
        let mut frame = this.poll_part(cx);
        if frame.is_ready() {
            this.silence.ends();
        } else if this.silence.poll_too_long(cx) {
            frame = Poll::Ready(Some(Err(BrokenOff::Silent)));
        }
        match &mut frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_connection(trailers);
                }
                this.release_at_end();
            }
            Poll::Ready(None) => this.release_at_end(),
            // A broken answer ends its connection with it.
            Poll::Ready(Some(Err(_))) => this.carrier = Carrier::Done,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
