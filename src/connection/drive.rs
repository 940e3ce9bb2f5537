//! Driving a connection: HTTP first, then what was gathered, then orders and time.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, Write};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep};

use super::deadline::{Because, Deadline, Situation};
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
    /// Tells the peer, if it can be told, that the connection ends because answers wait for it.
    fn end_for_unread(&mut self, _: &mut Context<'_>) {}
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
        // Its end comes once the last answer is out: the stream below does not close for it.
        Pin::new(self).poll(cx).map(|end| if end.is_ok() { End::Served } else { End::Cut })
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

    fn end_for_unread(&mut self, cx: &mut Context<'_>) {
        self.outbox.append(&TOO_MUCH_UNREAD);
        // Where the socket takes nothing, nobody reads it either.
        let _ = self.outbox.poll_send(cx);
    }
}

/// GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 §6.8, §7). The last stream is the largest number there is: which requests were
/// seen is not known here, so none is said to be unseen.
const TOO_MUCH_UNREAD: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

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
    /// An answer waited for its reader when that was last looked at.
    unread: bool,
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
            unread: false,
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
            if self.connection.waits_too_much() {
                return Poll::Ready(self.end_for_unread(cx));
            }
            // A request of this very turn may have asked for the connection's end.
            if !self.finishing && self.is_to_finish() {
                continue;
            }
            self.keep_up_with_identity();
            // Time passes for a task as well that has more to read than its turn allows.
            if pin!(unconstrained(self.look.as_mut())).poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.look_at_identity() {
                return Poll::Ready(End::Cut);
            }
            if !self.orphaned
                && let Some(end) = self.look_at_pulse(cx)
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
        self.orphaned = !self.connection.situation().is_at_rest() && self.connection.review();
        if self.orphaned {
            self.look.as_mut().reset(Instant::now() + LAST_WORDS);
        }
        was_orphaned && self.orphaned
    }

    /// Whether it has done nothing for so long that it ends, farewell included, or rests. Otherwise sets the timer anew.
    fn look_at_pulse(&mut self, cx: &mut Context<'_>) -> Option<End> {
        let now = Instant::now();
        let tick = now + time_to_look(&self.connection, H::RESTS);
        let situation = self.situation();
        let deadline = situation.deadline(&self.connection.worker.live.load().patience);
        let past = deadline.filter(|deadline| deadline.at <= now);
        let is_over = past.is_some() || situation.is_at_rest() || !situation.may_hold_up_an_end();
        let next = match (deadline, past) {
            (_, Some(Deadline { because: Because::NobodyReads, .. })) => {
                return Some(self.end_for_unread(cx));
            }
            _ if self.finishing && is_over => return Some(End::Cut),
            (Some(deadline), _) if self.finishing => deadline.at.min(now + FAREWELL),
            (None, _) if self.finishing => now + FAREWELL,
            (_, Some(_)) => {
                self.connection.leash.give(Order::Finish);
                return None;
            }
            _ if H::RESTS && self.connection.pulse.rests(now) => return Some(End::Rested),
            // What it begins meanwhile may be given less time than what it does now.
            (Some(deadline), None) => deadline.at.min(tick),
            (None, None) => tick,
        };
        self.look.as_mut().reset(next);
        None
    }

    /// The connection's situation. A client that has just read the last of an answer is idle from now on.
    fn situation(&mut self) -> Situation {
        let situation = self.connection.situation();
        let was_unread = std::mem::replace(&mut self.unread, situation.unread_since.is_some());
        if was_unread && !self.unread {
            self.connection.pulse.idle_anew();
            return self.connection.situation();
        }
        situation
    }

    /// Ends the connection because its client does not read.
    fn end_for_unread(&mut self, cx: &mut Context<'_>) -> End {
        tracing::debug!(source = %self.connection.peer.address, "the client does not read its answers");
        if let Some(http) = &mut self.http {
            http.end_for_unread(cx);
        }
        End::Cut
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
