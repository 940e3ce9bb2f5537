//! Interim answers (1xx, RFC 9110 §15.2) on their way to an HTTP/1.1 client. They are written between what hyper writes,
//! which sends none but 100. HTTP/2 clients get none: hyper's server offers no way to send them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

/// Most bytes of interim answers that wait. A client that reads more slowly gets no further ones.
const MOST_BYTES: usize = 16 * 1024;

/// Interim answers that wait to be written before the final answer.
#[derive(Debug)]
pub(crate) struct InterimAnswers {
    bytes: Mutex<Vec<u8>>,
    /// Read at each write; the bytes are locked only if some wait.
    waiting: AtomicBool,
    /// The last answer is written to its end: only then can something be put before the next.
    between_answers: AtomicBool,
}

impl Default for InterimAnswers {
    fn default() -> Self {
        Self { bytes: Mutex::default(), waiting: false.into(), between_answers: true.into() }
    }
}

impl InterimAnswers {
    /// Queues an interim answer to the request that is being answered.
    pub(crate) fn push(&self, status: StatusCode, headers: &HeaderMap) {
        if !self.between_answers.load(Ordering::Relaxed) {
            return;
        }
        let mut bytes = self.bytes.lock();
        let before = bytes.len();
        encode(status, headers, &mut bytes);
        if bytes.len() > MOST_BYTES {
            bytes.truncate(before);
        }
        self.waiting.store(!bytes.is_empty(), Ordering::Relaxed);
    }

    /// Writes what waits. To be called before hyper's own bytes are written.
    pub(crate) fn poll_write_to<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waiting.load(Ordering::Relaxed) {
            let mut bytes = self.bytes.lock();
            while !bytes.is_empty() {
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, &bytes))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                bytes.drain(..written);
            }
            self.waiting.store(false, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    /// Notes whether the last answer is written to its end.
    pub(crate) fn set_between_answers(&self, between: bool) {
        self.between_answers.store(between, Ordering::Relaxed);
    }
}

fn encode(status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
    let phrase = status.canonical_reason().unwrap_or("Interim");
    out.extend_from_slice(format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).as_bytes());
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}
