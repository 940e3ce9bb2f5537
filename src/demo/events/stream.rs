//! Streams of events (server-sent events).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, Interval, interval_at};

/// Maximum number of events that a follower may lag behind. A slower follower is dropped, so that it does not delay others.
const MAX_LAG: usize = 256;
/// Interval of comments in an idle stream, so that proxies in between do not close it.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Followers {
    queues: Vec<Sender<Bytes>>,
}

impl Followers {
    pub(super) fn send(&mut self, id: u64, event: &Bytes) {
        let message = render(id, event);
        // A follower that left or is too slow loses its queue, which ends its stream.
        self.queues.retain(|queue| queue.try_send(message.clone()).is_ok());
    }

    pub(super) fn subscribe(&mut self, missed: Vec<(u64, Bytes)>) -> Subscription {
        let (queue, events) = channel(MAX_LAG);
        self.queues.retain(|queue| !queue.is_closed());
        self.queues.push(queue);
        Subscription {
            greeting: Some(Bytes::from_static(b": the stream is open\n")),
            missed: missed.into(),
            events,
            heartbeat: interval_at(Instant::now() + HEARTBEAT, HEARTBEAT),
        }
    }
}

/// Body of a stream: a comment that shows that the stream is open, then missed events, then new events.
#[derive(Debug)]
pub(super) struct Subscription {
    greeting: Option<Bytes>,
    missed: VecDeque<(u64, Bytes)>,
    events: Receiver<Bytes>,
    heartbeat: Interval,
}

impl Body for Subscription {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(greeting) = self.greeting.take() {
            return frame(greeting);
        }
        if let Some((id, event)) = self.missed.pop_front() {
            return frame(render(id, &event));
        }
        match self.events.poll_recv(context) {
            Poll::Ready(Some(message)) => frame(message),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.heartbeat.poll_tick(context));
                frame(Bytes::from_static(b":\n"))
            }
        }
    }
}

fn frame(bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
    Poll::Ready(Some(Ok(Frame::data(bytes))))
}

/// Returns the message of an event. JSON text has no line break, so one `data:` line suffices.
fn render(id: u64, event: &Bytes) -> Bytes {
    let mut message = format!("id: {id}\ndata: ").into_bytes();
    message.extend_from_slice(event);
    message.extend_from_slice(b"\n\n");
    Bytes::from(message)
}
