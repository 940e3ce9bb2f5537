//! Exchanges whose client has left. The backend may go on working, so the place in flight stays taken until that work is
//! known to be over. Otherwise a client that takes its requests back as fast as it sends them would have the backend work on
//! any number of them at once.
//!
//! A backend that speaks HTTP/1.1 is told by the end of our side of the connection, as if the client itself had closed it:
//! servers that notice this stop, and close; others go on to their answer, and close after it. A backend that speaks HTTP/2
//! could be told by a reset of the stream, but then nothing ever tells when its work is over. The reset is therefore sent at
//! once only for a small part of all places (each of which stays taken until `backend.response_timeout` is over); for the
//! others it is sent once the answer begins.
//!
//! Some servers (aiohttp, Node.js, Tornado) close at once while their handlers go on to the end
//! (`findings/half-closed-clients.sh`). In front of these, [`ClientAbort::Ignore`] tells the backend nothing, and takes only
//! an answer for the end of the work.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::exchange::{Upload, UploadFailure};
use super::link::{Link, SendResult};
use super::multiplex::Stream;
use super::socket::Socket;
use crate::admission::Guards;

/// Most bytes that are read of an answer without a client. Then the connection is closed, which ends the work of a backend
/// that goes on writing.
const ANSWER: usize = 64 * 1024;

/// Notice that the backend gets when a client takes its request back (`backend.ignore_client_abort`, as nginx has it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAbort {
    /// The end of the connection, which is then taken for the end of the backend's work.
    Tell,
    /// No notice: the backend answers as if the client were there.
    Ignore,
}

/// The backend's work for one request: the guards that it holds, and the time that its answer may take.
#[derive(Debug)]
pub(super) struct Work {
    guards: Guards,
    asked: Instant,
    upload: Option<Arc<Upload>>,
    alone: Alone,
    abort: ClientAbort,
}

/// The time that the backend has for its work after the client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alone {
    /// The same time as with the client: it counts from the request, or from the last of its body.
    Until(Duration),
    /// This time, because the client would have waited without a limit.
    For(Duration),
}

impl Work {
    pub(super) fn begin(
        guards: Guards,
        upload: Option<Arc<Upload>>,
        asked: Instant,
        (alone, abort): (Alone, ClientAbort),
    ) -> Self {
        Self { guards, asked, upload, alone, abort }
    }

    /// The instant at which the answer has taken too long.
    fn due(&self) -> Instant {
        match self.alone {
            Alone::Until(response) => {
                self.upload.as_ref().map_or(self.asked, |upload| upload.moved_last()) + response
            }
            Alone::For(time) => Instant::now() + time,
        }
    }

    /// The instant at which the rest of an answer has taken too long, which is abandoned now.
    fn rest_due(&self) -> Instant {
        let (Alone::Until(time) | Alone::For(time)) = self.alone;
        Instant::now() + time
    }

    /// `true` if the request has a body.
    pub(super) fn has_body(&self) -> bool {
        self.upload.is_some()
    }

    /// `true` if the whole request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.is_sent())
    }

    /// The failure of the client's upload, if it failed. The connection to the backend has then failed because of the client,
    /// and the backend may work on what it has received.
    pub(super) fn upload_failure(&self) -> Option<UploadFailure> {
        self.upload.as_ref().and_then(|upload| upload.failure())
    }
}

/// The progress of an exchange when its client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Unanswered,
    /// The answer has begun. The backend learns of the end of our side at the latest when it writes next.
    Answering,
}

/// Keeps the place in flight until the backend has closed the connection, has answered, or has had its time.
pub(super) fn abandon(link: Link, work: Work, stage: Stage) {
    let due = match stage {
        Stage::Unanswered => work.due(),
        Stage::Answering => work.rest_due(),
    };
    let must_answer = work.abort == ClientAbort::Ignore && stage == Stage::Unanswered;
    let is_whole = work.is_sent();
    let socket = link.into_abandoned();
    let over = async move {
        let over = async {
            if must_answer && is_whole {
                return until_answered(socket).await;
            }
            // The rest of a cut request will not come, and only the end of our side says so. A response to that, such as 400
            // for half a body, is no answer to the request.
            let _ = until_closed(socket, stage).await;
            if must_answer {
                sleep_until(due).await;
            }
        };
        let _ = timeout_at(due, over).await;
    };
    spawn_until(due, over, work);
}

/// Keeps the place in flight of a stream to an HTTP/2 backend in the same way.
pub(super) fn abandon_stream(
    answer: impl Future<Output = SendResult> + Send + 'static,
    stream: Stream,
    mut work: Work,
) {
    let due = work.due();
    // A request that was never whole is reset by hyper, with the end of the client's stream.
    let is_cut = !work.is_sent();
    let is_cancelled = (is_cut || work.abort == ClientAbort::Tell) && work.guards.cancel();
    if is_cut || is_cancelled {
        drop((answer, stream));
        return spawn_until(due, sleep_until(due), work);
    }
    let answered = async move {
        let _ = timeout_at(due, answer).await;
        drop(stream);
    };
    spawn_until(due, answered, work);
}

/// Spawns a task that holds `work`. There are never more such tasks than places in flight. They end with their worker.
fn spawn_until(due: Instant, over: impl Future<Output = ()> + Send + 'static, work: Work) {
    if due <= Instant::now() {
        return;
    }
    // Outside of a runtime the connection has ended already.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            over.await;
            drop(work);
        });
    }
}

/// Ends our side, and waits for the backend to end its own.
async fn until_closed(mut socket: Socket, stage: Stage) -> io::Result<()> {
    socket.shutdown().await?;
    let mut buffer = [0; 2048];
    let mut left = ANSWER;
    loop {
        let read = socket.read(&mut buffer).await?;
        left = left.saturating_sub(read);
        // A socket that is closed with unread bytes is reset: the next write of the backend fails.
        if read == 0 || left == 0 || stage == Stage::Answering {
            return Ok(());
        }
    }
}

/// Waits for the beginning of an answer, or for the end of the connection, which is the backend's own.
async fn until_answered(mut socket: Socket) {
    let _ = socket.read(&mut [0; 1]).await;
}
