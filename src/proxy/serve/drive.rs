//! Driving a connection: orders first, then HTTP, then the frames that were gathered, then deadlines.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::io::AsyncRead;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep};

use super::outbox::{FrameStream, Gathering, Outbox};
use super::{Responding, resting};
use crate::forward::{JoinedStreams, Streams};
use crate::protocol::Protocol;
use crate::proxy::reply::{Ending, Reply};
use crate::proxy::session::{Deadline, Phase, Reason, RequestGuard, Session, Situation};
use crate::stop::{Order, StopSignal};
use crate::telemetry::Done;

/// Time between the order to finish and the end of a connection on which nothing is in progress.
const CLOSING: Duration = Duration::from_secs(1);
/// Time without a request after which an HTTP/2 connection that is to end says GOAWAY.
const REST: Duration = Duration::from_millis(50);
/// Time after which such a connection no longer needs to rest, because its client always has another request.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Time for requests in progress to end after their client's identity has lapsed; then the connection is cut.
const LAPSED: Duration = Duration::from_millis(300);

/// The way in which a connection, or its present protocol, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// HTTP has ended; the stream can still be closed in order.
    Served,
    /// The connection is cut.
    Cut,
    /// No request has come for a while.
    Rested,
    /// Bytes of a request have come to a connection at rest.
    Woken,
}

/// A protocol on a connection, as the driver sees it.
pub(super) trait Http: Unpin {
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End>;
    /// Has no new request served.
    fn finish(&mut self);
    /// `true` if the connection can rest: give its buffers back while no request comes.
    const RESTS: bool = false;
    /// Tells the peer, if the protocol can, that the connection ends because it asks too much: its answers are not read, or
    /// most of its frames are errors.
    fn end_for_excess(&mut self, _: &mut Context<'_>) {}
    /// The request with which the protocol began, after a switch of protocols.
    fn request(&self) -> Option<&RequestGuard> {
        None
    }
}

impl<I, S> Http for hyper::server::conn::http1::Connection<I, S>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = Reply, Future = Responding> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const RESTS: bool = true;

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // hyper ends once the last answer is written out: the stream below does not close for it.
        Pin::new(self).poll(cx).map(|end| if end.is_ok() { End::Served } else { End::Cut })
    }

    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// HTTP/2 with its outbox.
pub(super) struct Http2<I, S>
where
    S: HttpService<Incoming, ResBody = Reply, Future = Responding>,
{
    pub(super) http: hyper::server::conn::http2::Connection<TokioIo<Gathering<I>>, S, Streams>,
    pub(super) outbox: Outbox<I>,
}

impl<I, S> Http for Http2<I, S>
where
    I: AsyncRead + FrameStream,
    S: HttpService<Incoming, ResBody = Reply, Future = Responding> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let served = Pin::new(&mut self.http).poll(cx);
        let sent = self.outbox.poll_send(cx);
        // The resets of this turn are counted when they are sent.
        if self.outbox.has_too_many_resets() {
            self.end_for_excess(cx);
            return Poll::Ready(End::Cut);
        }
        if matches!(sent, Poll::Ready(Err(_))) {
            return Poll::Ready(End::Cut);
        }
        served.map(|end| if end.is_ok() { End::Served } else { End::Cut })
    }

    fn finish(&mut self) {
        Pin::new(&mut self.http).graceful_shutdown();
    }

    fn end_for_excess(&mut self, cx: &mut Context<'_>) {
        self.outbox.append(&ENHANCE_YOUR_CALM);
        // If the socket takes nothing, the frame would not be read either.
        let _ = self.outbox.poll_send(cx);
    }
}

/// GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 §6.8, §7). The last stream is the largest number possible: which requests were
/// seen is not known here, so no request is said to be unseen.
const ENHANCE_YOUR_CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// A connection after a switch of protocols. The other protocol cannot be asked to end; it has time until the drain timeout.
pub(super) struct Switched {
    pub(super) joined: JoinedStreams,
    pub(super) ending: Ending,
}

impl Http for Switched {
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        Pin::new(&mut self.joined).poll(cx).map(|()| End::Cut)
    }

    fn finish(&mut self) {}

    fn request(&self) -> Option<&RequestGuard> {
        Some(self.ending.request())
    }
}

/// A future that serves a connection until its protocol ends, and gives the protocol back.
pub(super) struct Drive<H> {
    http: Option<H>,
    session: Arc<Session>,
    /// The next look at the deadlines. It is set ahead of any deadline, so that a request moves no timer.
    next_look: Pin<Box<Sleep>>,
    /// Number of judgements of the peer when the timer was set.
    judgements: u32,
    finishing: bool,
    /// The first look at which an HTTP/2 connection was to end.
    winding_down: Option<Instant>,
    /// Requests are in progress whose client's identity has lapsed.
    lapsed: bool,
    has_waker: bool,
    /// An answer was unread at the last look.
    unread: bool,
}

impl<H: Http> Drive<H> {
    pub(super) fn of(http: H, session: &Arc<Session>) -> Self {
        let first = Instant::now() + time_to_next_look(session, H::RESTS);
        Self {
            http: Some(http),
            session: Arc::clone(session),
            next_look: Box::pin(tokio::time::sleep_until(first)),
            judgements: session.peer.judgements(),
            finishing: false,
            winding_down: None,
            lapsed: false,
            has_waker: false,
            unread: false,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.has_waker {
            self.session.stop.set_waker(cx.waker());
            self.has_waker = true;
        }
        loop {
            if self.session.stop.includes(Order::Close) {
                return Poll::Ready(End::Cut);
            }
            if self.session.stop.take_review() && self.check_identity() {
                return Poll::Ready(self.end_for_identity());
            }
            // HTTP/2 may hold frames of an answer that has ended; they leave before a GOAWAY.
            if self.session.protocol == Protocol::Http1 {
                self.obey();
            }
            let Some(http) = &mut self.http else { return Poll::Ready(End::Cut) };
            if http.request().is_some_and(RequestGuard::is_withdrawn) {
                return Poll::Ready(End::Cut);
            }
            if let Poll::Ready(end) = http.poll_serve(cx) {
                return Poll::Ready(end);
            }
            if self.session.has_hopelessly_many_unread() {
                return Poll::Ready(self.end_for_unread(cx));
            }
            // The answer to a request of this turn may have ended the connection.
            if !self.finishing
                && let Some(wait) = self.time_to_finish()
            {
                if wait.is_zero() {
                    self.obey();
                    continue;
                }
                self.look_within(wait);
            }
            self.follow_identity();
            // Deadlines hold as well for a task that has more to read than its turn allows.
            if pin!(unconstrained(self.next_look.as_mut())).poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.check_identity() {
                return Poll::Ready(self.end_for_identity());
            }
            if !self.lapsed
                && let Some(end) = self.check_deadlines(cx)
            {
                return Poll::Ready(end);
            }
        }
    }

    /// Returns the time after which no new request is to be served, if nothing happens before; `None` without an order to
    /// finish, or while one cannot be obeyed. HTTP/1.1 says so in the header of the answer in progress. HTTP/2 sends GOAWAY, at
    /// which common clients drop what is in progress: it waits until every answer is written out and the connection has rested
    /// for a moment, because a client's next request is often on its way when it reads an answer.
    fn time_to_finish(&mut self) -> Option<Duration> {
        let (stop, session) = (&self.session.stop, &self.session);
        if session.protocol == Protocol::Http1 || !stop.includes(Order::WindDown) {
            return stop.includes(Order::Finish).then_some(Duration::ZERO);
        }
        if stop.includes(Order::FinishNow) {
            return Some(Duration::ZERO);
        }
        let (situation, now) = (session.situation(), Instant::now());
        let since = *self.winding_down.get_or_insert(now);
        let has_order = stop.includes(Order::Finish);
        match situation.phase {
            _ if has_order && !situation.delays_shutdown() => Some(Duration::ZERO),
            _ if !situation.is_at_rest() => None,
            Phase::Idle(_) if now >= since + LONGEST_WAIT => Some(Duration::ZERO),
            Phase::Idle(rest) => Some((rest + REST).saturating_duration_since(now)),
            _ if session.activity.is_new() => has_order.then_some(Duration::ZERO),
            _ => Some(Duration::ZERO),
        }
    }

    /// Sets the timer ahead, if it is set to a later time.
    fn look_within(&mut self, wait: Duration) {
        let tick = Instant::now() + wait;
        if tick < self.next_look.deadline() {
            self.next_look.as_mut().reset(tick);
        }
    }

    /// Obeys an order to finish.
    fn obey(&mut self) {
        if !self.finishing
            && self.time_to_finish().is_some_and(|wait| wait.is_zero())
            && let Some(http) = &mut self.http
        {
            self.finishing = true;
            http.finish();
            self.next_look.as_mut().reset(Instant::now() + CLOSING);
        }
    }

    /// Sets the timer anew if the client was judged again: its identity may last for a shorter time than before.
    fn follow_identity(&mut self) {
        let judgements = self.session.peer.judgements();
        if judgements == self.judgements {
            return;
        }
        self.judgements = judgements;
        let wait = time_to_next_look(&self.session, H::RESTS);
        self.look_within(wait);
    }

    /// Returns `true` if requests are still in progress a moment after their client's identity has lapsed. New requests get
    /// 401 meanwhile; earlier ones have that moment to end.
    fn check_identity(&mut self) -> bool {
        let had_lapsed = self.lapsed;
        self.lapsed = !self.session.situation().is_at_rest() && self.session.review();
        if self.lapsed {
            self.next_look.as_mut().reset(Instant::now() + LAPSED);
        }
        had_lapsed && self.lapsed
    }

    /// Returns the end of the connection if a deadline has passed or the connection may rest. Otherwise sets the timer anew.
    fn check_deadlines(&mut self, cx: &mut Context<'_>) -> Option<End> {
        let now = Instant::now();
        let tick = now + time_to_next_look(&self.session, H::RESTS);
        let situation = self.situation();
        let deadline = situation.deadline(&self.session.services.live.load().client_timeouts);
        let past = deadline.filter(|deadline| deadline.at <= now);
        if self.session.is_aged() && !self.session.stop.includes(Order::WindDown) {
            self.session.stop.send(Order::WindDown);
        }
        let is_over = past.is_some() || situation.is_at_rest() || !situation.delays_shutdown();
        let next = match (deadline, past) {
            (_, Some(Deadline { reason: Reason::Unread, .. })) => {
                return Some(self.end_for_unread(cx));
            }
            _ if self.finishing && is_over => return Some(End::Cut),
            (Some(deadline), _) if self.finishing => deadline.at.min(now + CLOSING),
            (None, _) if self.finishing => now + CLOSING,
            (_, Some(_)) => {
                self.session.stop.send(Order::Finish);
                return None;
            }
            _ if H::RESTS && self.session.activity.is_quiet_for(resting::AFTER, now) => {
                return Some(End::Rested);
            }
            // A phase that begins meanwhile may have less time than the present one.
            (Some(deadline), None) => deadline.at.min(tick),
            (None, None) => tick,
        };
        self.next_look.as_mut().reset(next);
        None
    }

    /// The facts that decide the deadline. A client that has just read the end of an answer is idle from now on.
    fn situation(&mut self) -> Situation {
        let situation = self.session.situation();
        let was_unread = std::mem::replace(&mut self.unread, situation.unread_since.is_some());
        if was_unread && !self.unread {
            self.session.activity.restart_idle();
            return self.session.situation();
        }
        situation
    }

    /// Ends the connection because the client's identity has lapsed and requests are still in progress.
    fn end_for_identity(&self) -> End {
        self.session.close_by_us(Done::Withdrawn);
        End::Cut
    }

    /// Ends the connection because its client does not read.
    fn end_for_unread(&mut self, cx: &mut Context<'_>) -> End {
        tracing::debug!(source = %self.session.peer.address, "the client does not read its answers");
        self.session.close_by_us(Done::Unread);
        if let Some(http) = &mut self.http {
            http.end_for_excess(cx);
        }
        End::Cut
    }
}

/// Time until a deadline can pass, the client's identity can expire, or rest can begin.
fn time_to_next_look(session: &Session, rests: bool) -> Duration {
    let shortest = session.services.live.load().client_timeouts.shortest();
    let timeout = if rests { shortest.min(resting::AFTER) } else { shortest };
    let identity = session.peer.time_left(Timestamp::now());
    let timeout = session.time_to_age().map_or(timeout, |left| timeout.min(left));
    // An identity is valid until the end of its last millisecond.
    identity.map_or(timeout, |left| timeout.min(left + Duration::from_millis(1)))
}

impl<H: Http> Future for Drive<H> {
    type Output = (End, Option<H>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = std::task::ready!(self.poll_end(cx));
        Poll::Ready((end, self.http.take()))
    }
}

/// Runs a future that comes before the first request. `None` if an order to finish comes first: no request was begun yet.
pub(super) async fn until_finished<F: Future>(stop: &StopSignal, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        stop.set_waker(cx.waker());
        if stop.includes(Order::Finish) {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
