//! The rest of an upload that was answered early: it is read and discarded within a small budget, so that the client reads
//! the answer and not a reset (DESIGN §5). It is never read as a request.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Most bytes that the client may still send.
pub const BYTES: u64 = 64 * 1024;
/// Time in which the client may still send them.
pub const TIME: Duration = Duration::from_secs(1);

/// Discards the rest of a body in the background. Bytes beyond the budget end the body: with a reset of the stream (HTTP/2),
/// or with the connection (HTTP/1.1).
pub fn in_background(body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    // Outside of a runtime the connection has ended already.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(timeout(TIME, drain(body)));
    }
}

async fn drain(mut body: Incoming) {
    let mut left = BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}
