//! What is left of an upload that was answered early: read and forgotten within a small budget, so that the client
//! reads the answer and not a reset (DESIGN §5). Never read as a request.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How many bytes the client may still send,
pub const BYTES: u64 = 64 * 1024;
/// and for how long.
pub const TIME: Duration = Duration::from_secs(1);

/// Lets the client finish in the background. What is beyond the budget ends with the body: with a reset of its stream
/// (HTTP/2), or with its connection (HTTP/1.1).
pub fn forget(body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    // Outside of a runtime everything ends anyway.
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
