//! The answer's body on its way to the client, and the record of the decision that ends with it.

mod ending;
mod recording;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::connection::{Maker, Part};
use crate::forward::{Answer, BrokenOff};

pub use ending::Ending;
pub use recording::Recording;

/// The body of an answer. While it lives the connection is busy; when it ends, however it ends, the decision is
/// recorded.
#[derive(Debug)]
pub struct Reply {
    body: Source,
    /// Of a switch of protocols the end is not here.
    ending: Option<Ending>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one, and a box would cost it an allocation"
)]
enum Source {
    /// The backend's, streamed.
    Forwarded(Answer),
    /// Our own, whole.
    Refused(Full<Bytes>),
}

/// Why an answer breaks off. The client sees a reset, or a body without its end.
#[derive(Debug)]
pub enum Broken {
    /// The backend's did.
    Backend(BrokenOff),
    /// The client may not have the rest.
    Withdrawn,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(error) => write!(f, "the backend's answer broke off: {error}"),
            Self::Withdrawn => f.write_str("the grant was withdrawn"),
        }
    }
}

impl std::error::Error for Broken {}

impl Reply {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let is_withdrawn = self.ending.as_ref().is_some_and(|ending| ending.busy.is_withdrawn());
        match &mut self.body {
            Source::Forwarded(_) if is_withdrawn => Poll::Ready(Some(Err(Broken::Withdrawn))),
            Source::Forwarded(answer) => Pin::new(answer).poll_frame(cx).map_err(Broken::Backend),
            Source::Refused(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    /// Ready while the connection may hold more of what its client does not read. Refusals are small, and are counted instead.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        match (&self.body, &self.ending) {
            (Source::Forwarded(_), Some(ending)) if !ending.busy.is_withdrawn() => ending.busy.poll_room(cx),
            _ => Poll::Ready(()),
        }
    }

    /// The next part, which from here on waits for its reader.
    fn hand_over(&mut self, bytes: Bytes) -> Part {
        let maker = match self.body {
            Source::Forwarded(_) => Maker::Backend,
            Source::Refused(_) => Maker::Sidegate,
        };
        match &mut self.ending {
            Some(ending) => {
                ending.moved(bytes.len() as u64);
                ending.busy.hand_over(bytes, maker)
            }
            None => Part::free(bytes),
        }
    }
}

impl Body for Reply {
    type Data = Part;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, Broken>>> {
        if self.poll_room(cx).is_pending() {
            // The place in flight is not held for as long as the client reads nothing.
            if let Source::Forwarded(answer) = &mut self.body {
                answer.read_ahead();
            }
            return Poll::Pending;
        }
        let frame = ready!(self.poll_source(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.hand_over(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Forwarded(answer) => answer.is_end_stream(),
            Source::Refused(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Forwarded(answer) => answer.size_hint(),
            Source::Refused(body) => body.size_hint(),
        }
    }
}
