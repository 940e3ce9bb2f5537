//! Interim answers (1xx, RFC 9110 §15.2) on their way to an HTTP/1.1 client: written between what hyper writes, which
//! knows none but 100. HTTP/2 clients get none, for hyper shows no place to put them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::{HeaderMap, StatusCode};
use tokio::io::AsyncWrite;

/// A client that reads this slowly does without hints.
const MOST: usize = 16 * 1024;

/// What waits to be written before the answer itself.
#[derive(Debug)]
pub(super) struct Early {
    bytes: Mutex<Vec<u8>>,
    /// Looked at for each write; the bytes are only where there are some.
    waiting: AtomicBool,
    /// Whether all of the last answer is written: only then can something be put before the next.
    clean: AtomicBool,
}

impl Default for Early {
    fn default() -> Self {
        Self { bytes: Mutex::default(), waiting: false.into(), clean: true.into() }
    }
}

impl Early {
    /// An interim answer to the request that is being answered.
    pub(super) fn say(&self, status: StatusCode, headers: &HeaderMap) {
        if !self.clean.load(Ordering::Relaxed) {
            return;
        }
        let mut bytes = self.bytes();
        let before = bytes.len();
        encode(status, headers, &mut bytes);
        if bytes.len() > MOST {
            bytes.truncate(before);
        }
        self.waiting.store(!bytes.is_empty(), Ordering::Relaxed);
    }

    /// To be called before hyper's own bytes are written.
    pub(super) fn poll_write_to<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waiting.load(Ordering::Relaxed) {
            let mut bytes = self.bytes();
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

    /// Something of an answer was written, or all of it.
    pub(super) fn is_clean(&self, clean: bool) {
        self.clean.store(clean, Ordering::Relaxed);
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        // Nothing panics while it is held.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
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
