//! Those who follow the events as they come.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, Interval, interval_at};

/// How many events a follower may lag behind before it is dropped: nobody waits for a slow reader.
const MAX_LAG: usize = 256;
/// A comment after a silence keeps what is between from taking the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Followers {
    queues: Vec<Sender<Bytes>>,
}

impl Followers {
    pub(super) fn send(&mut self, id: u64, event: &Bytes) {
        let message = render(id, event);
        // Who is gone or too slow loses its queue, and with it its stream.
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

/// The body of a stream: a greeting at once (so that the reader knows it is open), what was missed, then what comes.
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

/// JSON text has no line break of its own, so one `data:` line holds it.
fn render(id: u64, event: &Bytes) -> Bytes {
    let mut message = format!("id: {id}\ndata: ").into_bytes();
    message.extend_from_slice(event);
    message.extend_from_slice(b"\n\n");
    Bytes::from(message)
}
