//! Reading ahead: an answer of the backend is read while the client takes nothing, up to a bound, so that the place in flight
//! and the connection to the backend are free once the backend has done its part.
//!
//! hyper asks for the next part of an answer only while an HTTP/2 client has opened a window for it. A client that opens none
//! would hold a place for each of its streams. The task of each stream therefore reads the answer itself while hyper waits.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use parking_lot::{Mutex, MutexGuard};

use super::exchange::AnswerReader;

/// Most bytes that are read ahead of one answer.
pub(super) const MOST: usize = 64 * 1024;

/// Most bytes of all answers of a worker that are read ahead. Beyond them, the next answers keep their places in flight until
/// their clients have read them.
const MOST_OF_WORKER: usize = 4 * 1024 * 1024;

/// Bytes of answers that wait for their clients, counted per worker.
#[derive(Debug, Default)]
pub(super) struct ReadAhead(AtomicUsize);

impl ReadAhead {
    /// `true` if more may be read ahead. One part of each answer may go beyond the bound.
    pub(super) fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= MOST_OF_WORKER
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// An answer that hyper and the reading ahead share, both in the task of the answer's stream.
#[derive(Debug, Clone)]
pub(super) struct SharedReading(Arc<Mutex<AnswerReader>>);

impl SharedReading {
    pub(super) fn reading(&self) -> MutexGuard<'_, AnswerReader> {
        // Both owners belong to one task: the lock is always free.
        self.0.lock()
    }
}

/// State of the running task, by which an answer finds out whether the task reads ahead.
enum Slot {
    /// The task does not read ahead: hyper asks for an HTTP/1.1 client's answer as long as there is room in a buffer.
    Closed,
    Open,
    Filled(SharedReading),
}

thread_local! {
    static SLOT: Cell<Slot> = const { Cell::new(Slot::Closed) };
}

/// Shares the answer with the running task if that task is one of [`Streams`]; otherwise the answer stays where it is.
pub(super) fn lend(own: &mut Option<AnswerReader>) -> Option<SharedReading> {
    match SLOT.replace(Slot::Closed) {
        Slot::Open => {
            let shared = SharedReading(Arc::new(Mutex::new(own.take()?)));
            SLOT.set(Slot::Filled(shared.clone()));
            Some(shared)
        }
        other => {
            SLOT.set(other);
            None
        }
    }
}

/// Executor for the streams of an HTTP/2 connection: each runs in a task of its own that reads ahead.
#[derive(Clone, Debug)]
pub struct Streams;

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(reading_ahead(stream));
    }
}

async fn reading_ahead<F: Future>(stream: F) {
    let mut stream = pin!(stream);
    let mut ahead = None;
    poll_fn(|cx| {
        let polled = lending(&mut ahead, || stream.as_mut().poll(cx));
        if polled.is_pending()
            && let Some(shared) = &ahead
        {
            read_ahead(&mut shared.reading(), cx);
        }
        polled.map(drop)
    })
    .await;
}

/// Polls; an answer that is shared during the poll is kept in `ahead`.
fn lending<T>(ahead: &mut Option<SharedReading>, does: impl FnOnce() -> T) -> T {
    if ahead.is_some() {
        return does();
    }
    SLOT.set(Slot::Open);
    let done = does();
    if let Slot::Filled(shared) = SLOT.replace(Slot::Closed) {
        *ahead = Some(shared);
    }
    done
}

fn read_ahead(reading: &mut AnswerReader, cx: &mut Context<'_>) {
    // hyper waits for the backend itself, and its waker is registered.
    if reading.is_awaited() {
        return;
    }
    while reading.has_room() && reading.poll_ahead(cx).is_ready() {}
}
