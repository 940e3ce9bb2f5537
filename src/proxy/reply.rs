//! The answer's body on its way to the client, and the record of the decision that ends with it.

mod ending;
mod recording;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::forward::{Answer, BrokenOff};
use crate::proxy::session::{Origin, Part};
use crate::refusal::ResponseFlaw;
use crate::telemetry::Done;

pub(crate) use ending::Ending;
pub(crate) use recording::Recording;

/// The body of an answer. While it lives the connection is busy; when it ends, however it ends, the decision is recorded.
#[derive(Debug)]
pub(crate) struct Reply {
    body: Content,
    /// `None` after a switch of protocols, whose end is the end of the other protocol.
    ending: Option<Ending>,
    /// The break of the answer, which hyper gets only after it has written out the parts before: otherwise a client whose
    /// answer breaks early would not even read that it has begun.
    broken: Option<ReplyBroken>,
}

/// An answer that is dropped at its end was passed on; before its end, the client has left or the answer broke off.
impl Drop for Reply {
    fn drop(&mut self) {
        if let (Content::Forwarded(answer), Some(ending)) = (&self.body, &mut self.ending)
            && answer.is_end_stream()
        {
            ending.set_complete();
        }
    }
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one, and a box would cost it an allocation"
)]
enum Content {
    /// The backend's answer, streamed.
    Forwarded(Answer),
    /// Sidegate's own answer, whole.
    Refused(Full<Bytes>),
}

/// The reason why an answer breaks off. The client sees a reset, or a body without its end.
#[derive(Debug)]
pub(crate) enum ReplyBroken {
    /// The backend's answer broke off.
    Backend(BrokenOff),
    /// The grant was withdrawn: the client may not have the rest.
    Withdrawn,
}

impl fmt::Display for ReplyBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(error) => write!(f, "the backend's answer broke off: {error}"),
            Self::Withdrawn => f.write_str("the grant was withdrawn"),
        }
    }
}

impl std::error::Error for ReplyBroken {}

impl ReplyBroken {
    const fn done(&self) -> Done {
        match self {
            // The client's upload failed, and the exchange with it.
            Self::Backend(BrokenOff::Upload) => Done::ClientLeft,
            Self::Backend(_) => Done::BrokenOff,
            Self::Withdrawn => Done::Withdrawn,
        }
    }

    fn flaw(&self) -> Option<ResponseFlaw> {
        match self {
            Self::Backend(broken) => broken.flaw(),
            Self::Withdrawn => None,
        }
    }
}

impl Reply {
    fn new(body: Content, ending: Ending) -> Self {
        Self { body, ending: Some(ending), broken: None }
    }

    /// The answer that agrees to a switch of protocols.
    fn empty() -> Self {
        Self { body: Content::Refused(Full::default()), ending: None, broken: None }
    }

    /// Adds bytes that were passed on to the client beside this body.
    fn add_bytes(&mut self, bytes: u64) {
        self.ending.iter_mut().for_each(|ending| ending.add_bytes(bytes));
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyBroken>>> {
        let is_withdrawn = self.ending.as_ref().is_some_and(|ending| ending.request.is_withdrawn());
        match &mut self.body {
            Content::Forwarded(_) if is_withdrawn => Poll::Ready(Some(Err(ReplyBroken::Withdrawn))),
            Content::Forwarded(answer) => Pin::new(answer).poll_frame(cx).map_err(ReplyBroken::Backend),
            Content::Refused(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    /// Ready while the connection may hold more of an answer that its client does not read. Refusals are small, and are
    /// counted instead.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        match (&self.body, &self.ending) {
            (Content::Forwarded(_), Some(ending)) if !ending.request.is_withdrawn() => {
                ending.request.poll_room(cx)
            }
            _ => Poll::Ready(()),
        }
    }

    /// Hands the next part over, which waits for the client to read it from here on.
    fn hand_over(&mut self, bytes: Bytes) -> Part {
        let origin = match self.body {
            Content::Forwarded(_) => Origin::Backend,
            Content::Refused(_) => Origin::Sidegate,
        };
        match &mut self.ending {
            Some(ending) => {
                ending.add_bytes(bytes.len() as u64);
                ending.request.hand_over(bytes, origin)
            }
            None => Part::uncounted(bytes),
        }
    }
}

impl Body for Reply {
    type Data = Part;
    type Error = ReplyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, ReplyBroken>>> {
        if let Some(broken) = self.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        if self.poll_room(cx).is_pending() {
            // The answer is read ahead, so that the place in flight is free although the client reads nothing.
            if let Content::Forwarded(answer) = &mut self.body {
                answer.read_ahead();
            }
            return Poll::Pending;
        }
        match ready!(self.poll_content(cx)) {
            None => Poll::Ready(None),
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame.map_data(|bytes| self.hand_over(bytes))))),
            Some(Err(broken)) => {
                self.ending.iter_mut().for_each(|ending| ending.set_broken(&broken));
                self.broken = Some(broken);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Content::Forwarded(answer) => answer.is_end_stream(),
            Content::Refused(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Forwarded(answer) => answer.size_hint(),
            Content::Refused(body) => body.size_hint(),
        }
    }
}
