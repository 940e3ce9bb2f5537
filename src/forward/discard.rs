//! The rest of an upload that was answered early: it is read and discarded within bounds, so that the client reads the answer
//! and not a reset (DESIGN §5). Many clients read nothing until they have sent everything. The rest is never read as a request.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

/// The part of a request's body that may still come after its answer (`limits.http.discard`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Most bytes that the client may still send.
    pub bytes: u64,
    /// Time in which the client may still send them.
    pub time: Duration,
}

/// Bytes after which a pause is made, so that discarding leaves the worker to clients whose requests are served.
pub const BURST: u64 = 512 * 1024;
/// The pause after each burst: no client can have more than 512 KiB in 2 ms discarded.
pub const PAUSE: Duration = Duration::from_millis(2);

impl Discard {
    /// The budget of a body that has come to its end.
    pub const NONE: Self = Self { bytes: 0, time: Duration::ZERO };

    /// Discards the rest of a body in the background. Bytes beyond the budget end the body: with a reset of the stream (HTTP/2),
    /// or with the connection (HTTP/1.1).
    pub fn in_background(self, body: Incoming) {
        if body.is_end_stream() {
            return;
        }
        // Outside of a runtime the connection has ended already.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(self.time, drain(body, self.bytes)));
        }
    }
}

async fn drain(mut body: Incoming, bytes: u64) {
    let (mut left, mut burst) = (bytes, BURST);
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
        match burst.checked_sub(length) {
            Some(rest) => burst = rest,
            None => {
                sleep(PAUSE).await;
                burst = BURST;
            }
        }
    }
}
