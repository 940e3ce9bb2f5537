//! Driving a connection: HTTP first, then what was gathered, then orders and time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, Write};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::outbox::{Gathering, Outbox};
use super::{Busy, Connection, Serving, rest};
use crate::forward::{Joined, Streams};
use crate::handshake::Protocol;
use crate::leash::{Leash, Order};
use crate::reply::{Ending, Reply};
use hyper::body::Incoming;

/// After its farewell a connection that does nothing more is closed this soon.
const FAREWELL: Duration = Duration::from_secs(1);
/// What goes on for who stops being somebody has so much time to end; then even a stream is cut.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// HTTP came to its end; the stream can still be closed in order.
    Served,
    /// It was cut.
    Cut,
    /// It has not been asked anything for a while.
    Rested,
    /// It is asked something again.
    Woken,
}

/// One of the two HTTPs, as the driver sees it.
pub(super) trait Http: Unpin {
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End>;
    /// No new requests.
    fn finish(&mut self);
    /// Whether it gives its buffers back while nothing is asked.
    const RESTS: bool = false;
    /// The exchange that it began as, where HTTP is over and nothing but this can end it.
    fn exchange(&self) -> Option<&Busy> {
        None
    }
}

impl<I, S> Http for hyper::server::conn::http1::Connection<I, S>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = Reply, Future = Serving> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const RESTS: bool = true;

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.poll_without_shutdown(cx).map(|end| if end.is_ok() { End::Served } else { End::Cut })
    }

    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// HTTP/2 with its outbox.
pub(super) struct Http2<I, S>
where
    S: HttpService<Incoming, ResBody = Reply, Future = Serving>,
{
    pub(super) http: hyper::server::conn::http2::Connection<TokioIo<Gathering<I>>, S, Streams>,
    pub(super) outbox: Outbox<I>,
}

impl<I, S> Http for Http2<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = Reply, Future = Serving> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let served = Pin::new(&mut self.http).poll(cx);
        match self.outbox.poll_send(cx) {
            Poll::Ready(Err(_)) => return Poll::Ready(End::Cut),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        served.map(|end| if end.is_ok() { End::Served } else { End::Cut })
    }

    fn finish(&mut self) {
        Pin::new(&mut self.http).graceful_shutdown();
    }
}

/// After a switch of protocols. What is spoken there cannot be asked to end; it has until the drain timeout.
pub(super) struct Switched {
    pub(super) joined: Joined,
    pub(super) ending: Ending,
}

impl Http for Switched {
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        Pin::new(&mut self.joined).poll(cx).map(|()| End::Cut)
    }

    fn finish(&mut self) {}

    fn exchange(&self) -> Option<&Busy> {
        Some(self.ending.busy())
    }
}

/// A connection that is served until it ends; gives back what served it.
pub(super) struct Drive<H> {
    http: Option<H>,
    connection: Arc<Connection>,
    /// Looks at the pulse now and then; a request moves no timer.
    look: Pin<Box<Sleep>>,
    /// How often the client was judged when that timer was set.
    judgements: u32,
    finishing: bool,
    /// What goes on was begun by a client that is nobody any more.
    orphaned: bool,
    held: bool,
}

impl<H: Http> Drive<H> {
    pub(super) fn of(http: H, connection: &Arc<Connection>) -> Self {
        let first = Instant::now() + time_to_look(connection, H::RESTS);
        Self {
            http: Some(http),
            connection: Arc::clone(connection),
            look: Box::pin(tokio::time::sleep_until(first)),
            judgements: connection.peer.judgements(),
            finishing: false,
            orphaned: false,
            held: false,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.held {
            self.connection.leash.hold(cx.waker());
            self.held = true;
        }
        loop {
            if self.connection.leash.was_told(Order::Close) {
                return Poll::Ready(End::Cut);
            }
            if self.connection.leash.is_to_look() && self.look_at_identity() {
                return Poll::Ready(End::Cut);
            }
            self.obey();
            let Some(http) = &mut self.http else { return Poll::Ready(End::Cut) };
            if http.exchange().is_some_and(Busy::is_withdrawn) {
                return Poll::Ready(End::Cut);
            }
            if let Poll::Ready(end) = http.poll_serve(cx) {
                return Poll::Ready(end);
            }
            // A request of this very turn may have asked for the connection's end.
            if !self.finishing && self.is_to_finish() {
                continue;
            }
            self.keep_up_with_identity();
            if self.look.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.look_at_identity() {
                return Poll::Ready(End::Cut);
            }
            if !self.orphaned
                && let Some(end) = self.look_at_pulse()
            {
                return Poll::Ready(end);
            }
        }
    }

    /// Whether no request is welcome any more. A connection that winds down ends with its next answer: HTTP/1.1 says so
    /// in the answer's header, HTTP/2 once it has been asked anything.
    fn is_to_finish(&self) -> bool {
        let leash = &self.connection.leash;
        leash.was_told(Order::Finish)
            || (leash.was_told(Order::WindDown)
                && self.connection.protocol == Protocol::Http2
                && !self.connection.pulse.is_fresh())
    }

    fn obey(&mut self) {
        if !self.finishing
            && self.is_to_finish()
            && let Some(http) = &mut self.http
        {
            self.finishing = true;
            http.finish();
            self.look.as_mut().reset(Instant::now() + FAREWELL);
        }
    }

    /// Judged again, the client may be who it is for a shorter time than the timer was set for.
    fn keep_up_with_identity(&mut self) {
        let judgements = self.connection.peer.judgements();
        if judgements == self.judgements {
            return;
        }
        self.judgements = judgements;
        let tick = Instant::now() + time_to_look(&self.connection, H::RESTS);
        if tick < self.look.deadline() {
            self.look.as_mut().reset(tick);
        }
    }

    /// Whether something still goes on for a client that is nobody any more. What is asked anew gets its 401; what
    /// was begun before has a moment to end.
    fn look_at_identity(&mut self) -> bool {
        let was_orphaned = self.orphaned;
        self.orphaned = !self.connection.pulse.is_at_rest() && self.connection.review();
        if self.orphaned {
            self.look.as_mut().reset(Instant::now() + LAST_WORDS);
        }
        was_orphaned && self.orphaned
    }

    /// Whether it has done nothing for so long that it ends, farewell included, or rests. Otherwise sets the timer anew.
    fn look_at_pulse(&mut self) -> Option<End> {
        let now = Instant::now();
        let tick = now + time_to_look(&self.connection, H::RESTS);
        let deadline = self.connection.deadline();
        let is_past = deadline.is_some_and(|deadline| deadline <= now);
        let is_at_rest = self.connection.pulse.is_at_rest();
        let next = match deadline {
            Some(_) if self.finishing && (is_past || is_at_rest) => return Some(End::Cut),
            Some(_) if self.finishing => now + FAREWELL,
            Some(_) if is_past => {
                self.connection.leash.give(Order::Finish);
                return None;
            }
            Some(_) if H::RESTS && self.connection.pulse.rests(now) => return Some(End::Rested),
            // What it begins meanwhile may be given less time than what it does now.
            Some(deadline) => deadline.min(tick),
            None if self.finishing => now + FAREWELL,
            None => tick,
        };
        self.look.as_mut().reset(next);
        None
    }
}

/// When a time limit, or the client's identity, can be over, or rest begin.
fn time_to_look(connection: &Connection, rests: bool) -> Duration {
    let shortest = connection.worker.live.load().patience.shortest();
    let patience = if rests { shortest.min(rest::AFTER) } else { shortest };
    let identity = connection.peer.time_left(Timestamp::now());
    // It is true until the end of that instant.
    identity.map_or(patience, |left| patience.min(left + Duration::from_millis(1)))
}

impl<H: Http> Future for Drive<H> {
    type Output = (End, Option<H>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = std::task::ready!(self.poll_end(cx));
        Poll::Ready((end, self.http.take()))
    }
}

/// What comes before the first request, under a leash: `None` where it was to finish first, for nothing was asked yet.
pub(super) async fn until_finished<F: Future>(leash: &Leash, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        leash.hold(cx.waker());
        if leash.was_told(Order::Finish) {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
