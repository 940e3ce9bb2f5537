//! Reading ahead: what the backend has answered is read while the client takes nothing, up to a bound, so that the place in
//! flight and the connection to the backend are free once the backend has done its part.
//!
//! HTTP/2 asks for the next part of an answer only while the client has opened a window for it. So a client that opens none
//! would hold a place for each of its streams. The task of each stream therefore looks after the answer itself wherever hyper
//! has left it waiting for the window.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use parking_lot::{Mutex, MutexGuard};

use super::exchange::Reading;

/// Bytes that are read ahead of one answer.
pub(super) const MOST: usize = 64 * 1024;

/// Bytes of all answers of a worker that were read and wait for their clients. Where there is no room left, the next answers
/// keep their places until they are taken.
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

/// An answer that two look after, both in the task of its stream: hyper, and whatever reads ahead of it.
#[derive(Debug, Clone)]
pub(super) struct Lent(Arc<Mutex<Reading>>);

impl Lent {
    pub(super) fn reading(&self) -> MutexGuard<'_, Reading> {
        // Both owners belong to one task: the lock is always free.
        self.0.lock()
    }
}

/// The place where an answer finds out whether its stream's task reads ahead.
enum Slot {
    /// No task reads ahead: an HTTP/1.1 client's answer is asked for as long as there is room in a buffer.
    Closed,
    Open,
    Filled(Lent),
}

thread_local! {
    static SLOT: Cell<Slot> = const { Cell::new(Slot::Closed) };
}

/// The answer, shared with the running task, if that task is one of [`Streams`]; otherwise the answer stays where it is.
pub(super) fn lend(own: &mut Option<Reading>) -> Option<Lent> {
    match SLOT.replace(Slot::Closed) {
        Slot::Open => {
            let lent = Lent(Arc::new(Mutex::new(own.take()?)));
            SLOT.set(Slot::Filled(lent.clone()));
            Some(lent)
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
            && let Some(lent) = &ahead
        {
            read_ahead(&mut lent.reading(), cx);
        }
        polled.map(drop)
    })
    .await;
}

/// The result of a poll; an answer that is lent during the poll is kept in `ahead`.
fn lending<T>(ahead: &mut Option<Lent>, does: impl FnOnce() -> T) -> T {
    if ahead.is_some() {
        return does();
    }
    SLOT.set(Slot::Open);
    let done = does();
    if let Slot::Filled(lent) = SLOT.replace(Slot::Closed) {
        *ahead = Some(lent);
    }
    done
}

fn read_ahead(reading: &mut Reading, cx: &mut Context<'_>) {
    // hyper waits for the backend by itself, and has said whom to wake.
    if reading.is_awaited() {
        return;
    }
    while reading.has_room() && reading.poll_ahead(cx).is_ready() {}
}
