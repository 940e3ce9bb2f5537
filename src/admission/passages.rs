//! The requests in flight, and the short queue of those that wait for a place among them: first come, first served, those of
//! high priority before the others.
//!
//! As long as nobody waits, a request costs one counter, and no lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Places;
use super::allowance::Reserve;
use crate::policy::Priority;

/// The queue's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Requests that may wait; 0: none.
    pub length: usize,
    /// How long each may wait; nothing: not at all.
    pub timeout: Duration,
}

/// The requests in flight, and those that wait.
#[derive(Debug)]
pub struct Passages {
    places: Places,
    queue: ArcSwap<Queue>,
    /// Written only while somebody waits.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

/// Who waits, by the order of arrival.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    high: BTreeMap<u64, Waiter>,
    normal: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    reserve: Reserve,
    call: oneshot::Sender<Passage>,
}

/// A place among the requests in flight. Once it is dropped, it is the place of whoever waits first.
#[derive(Debug)]
pub(super) struct Passage(Arc<Passages>);

/// A place, or the wait for one.
#[derive(Debug)]
pub(super) enum Turn {
    Now(Passage),
    Later(Waiting),
}

/// A place in the queue; whoever drops it has left.
#[derive(Debug)]
pub(super) struct Waiting {
    passages: Arc<Passages>,
    priority: Priority,
    number: u64,
    called: oneshot::Receiver<Passage>,
}

impl Passages {
    pub(super) fn new(most: usize, queue: Queue) -> Arc<Self> {
        Arc::new(Self {
            places: Places::new(most),
            queue: ArcSwap::from_pointee(queue),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
        })
    }

    /// Changes the bounds. Who waits already has its time; places that are free by this are given to those first.
    pub(super) fn set_limits(self: &Arc<Self>, most: usize, queue: Queue) {
        self.places.set_limit(most);
        self.queue.store(Arc::new(queue));
        self.call();
    }

    /// The places, to be counted.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// How many wait just now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How long somebody may wait, if there is a queue.
    pub(super) fn patience(&self) -> Duration {
        let queue = self.queue.load();
        if queue.length == 0 { Duration::ZERO } else { queue.timeout }
    }

    /// A place that is free, or else one in the queue, if that is not full.
    pub(super) fn enter(self: &Arc<Self>, priority: Priority, reserve: Reserve) -> Option<Turn> {
        // Nobody overtakes those who wait.
        if self.waiting.load(Ordering::SeqCst) == 0 && self.places.take(reserve) {
            return Some(Turn::Now(Passage(Arc::clone(self))));
        }
        self.line_up(priority, reserve)
    }

    fn line_up(self: &Arc<Self>, priority: Priority, reserve: Reserve) -> Option<Turn> {
        let mut line = self.line();
        // Said before the places are looked at: of a place that is given back meanwhile and somebody who comes, one sees
        // the other.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let is_first = line.high.is_empty() && (priority == Priority::High || line.normal.is_empty());
        let open = reserve.limit(self.queue.load().length);
        if is_first && self.places.take(reserve) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Some(Turn::Now(Passage(Arc::clone(self))));
        }
        if self.patience().is_zero() || line.high.len() + line.normal.len() >= open {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        let (call, called) = oneshot::channel();
        let number = line.next;
        line.next += 1;
        line.of(priority).insert(number, Waiter { reserve, call });
        Some(Turn::Later(Waiting { passages: Arc::clone(self), priority, number, called }))
    }

    /// Gives places that are free to those who wait first.
    fn call(self: &Arc<Self>) {
        while let Some(waiter) = self.next() {
            // Who leaves in this very moment drops its place, and that calls the next.
            let _ = waiter.call.send(Passage(Arc::clone(self)));
        }
    }

    /// The first who waits, with a place taken for it.
    fn next(&self) -> Option<Waiter> {
        let mut line = self.line();
        let line = if line.high.is_empty() { &mut line.normal } else { &mut line.high };
        let first = line.first_entry().filter(|first| self.places.take(first.get().reserve))?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(first.remove())
    }

    fn leave(&self, priority: Priority, number: u64) {
        if self.line().of(priority).remove(&number).is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it is held.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn of(&mut self, priority: Priority) -> &mut BTreeMap<u64, Waiter> {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.0.places.give_back();
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.call();
        }
    }
}

impl Waiting {
    /// Waits for its turn, for no longer than anybody may.
    pub(super) async fn turn(mut self) -> Option<Passage> {
        if let Ok(called) = timeout(self.passages.patience(), &mut self.called).await {
            return called.ok();
        }
        self.leave();
        // It may have been called while it left.
        self.called.try_recv().ok()
    }

    fn leave(&self) {
        self.passages.leave(self.priority, self.number);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave();
        // A first who leaves without its place may have been all that the next one waited for.
        if self.passages.waiting.load(Ordering::SeqCst) > 0 {
            self.passages.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const QUEUE: Queue = Queue { length: 4, timeout: Duration::from_secs(3600) };

    fn now(turn: Option<Turn>) -> Passage {
        match turn {
            Some(Turn::Now(passage)) => passage,
            other => panic!("{other:?}"),
        }
    }

    fn later(turn: Option<Turn>) -> Waiting {
        match turn {
            Some(Turn::Later(waiting)) => waiting,
            other => panic!("{other:?}"),
        }
    }

    fn normal(passages: &Arc<Passages>) -> Option<Turn> {
        passages.enter(Priority::Normal, Reserve::NONE)
    }

    fn is_called(waiting: &mut Waiting) -> Option<Passage> {
        waiting.called.try_recv().ok()
    }

    #[test]
    fn first_come_first_served() {
        let passages = Passages::new(1, QUEUE);
        let first = now(normal(&passages));
        let mut waiting: Vec<Waiting> = (0..4).map(|_| later(normal(&passages))).collect();
        assert!(normal(&passages).is_none(), "the queue is full");
        assert_eq!(passages.waiting(), 4);
        // The second goes away, and is not waited for.
        drop(waiting.remove(1));
        let mut holder = first;
        for mut next in waiting {
            assert!(is_called(&mut next).is_none());
            drop(holder);
            holder = is_called(&mut next).unwrap();
            assert_eq!(passages.places().used(), 1);
        }
        drop(holder);
        assert_eq!((passages.places().used(), passages.waiting()), (0, 0));
        now(normal(&passages));
    }

    #[test]
    fn who_is_called_and_gone_passes_its_place_on() {
        let passages = Passages::new(1, QUEUE);
        let first = now(normal(&passages));
        let (gone, mut next) = (later(normal(&passages)), later(normal(&passages)));
        drop(first);
        // Called, and dropped before it knew.
        drop(gone);
        assert!(is_called(&mut next).is_some());
        assert_eq!((passages.places().used(), passages.waiting()), (0, 0));
    }

    #[test]
    fn high_priority_comes_first_and_has_a_part_for_itself() {
        let passages = Passages::new(4, QUEUE);
        let reserve = Reserve::of(25);
        let usual = || passages.enter(Priority::Normal, reserve);
        let high = || passages.enter(Priority::High, Reserve::NONE);
        let mut held: Vec<Passage> = (0..3).map(|_| now(usual())).collect();
        let mut waiting: Vec<Waiting> = (0..3).map(|_| later(usual())).collect();
        assert!(usual().is_none(), "the last place of the queue is kept");
        let last = now(high());
        let mut urgent = later(high());
        assert!(high().is_none());
        drop(last);
        let urgent = is_called(&mut urgent).unwrap();
        drop(urgent);
        assert!(is_called(&mut waiting[0]).is_none(), "the last place is kept free");
        drop(held.pop());
        assert!(is_called(&mut waiting[0]).is_some());
        drop((waiting, held));
        assert_eq!((passages.places().used(), passages.waiting()), (0, 0));
    }

    #[test]
    fn without_a_queue_nobody_waits() {
        for queue in [Queue { length: 0, ..QUEUE }, Queue { timeout: Duration::ZERO, ..QUEUE }] {
            let passages = Passages::new(1, queue);
            let _first = now(normal(&passages));
            assert!(normal(&passages).is_none());
            assert_eq!(passages.patience(), Duration::ZERO);
        }
    }

    /// Many threads, few places: never more than there are, none lost, and nobody forgotten in the queue.
    #[test]
    fn any_interleaving_keeps_the_places_and_calls_everybody() {
        let passages = Passages::new(2, Queue { length: 100, timeout: Duration::from_secs(3600) });
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let passages = &passages;
                scope.spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    for round in 0..2000 {
                        let priority = if thread == 0 { Priority::High } else { Priority::Normal };
                        let held = match passages.enter(priority, Reserve::NONE).unwrap() {
                            Turn::Now(passage) => Some(passage),
                            // Some give up after a look.
                            Turn::Later(waiting) if round % 7 == 0 => {
                                let mut turn = pin!(waiting.turn());
                                let _enter = runtime.enter();
                                match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                                    Poll::Ready(passage) => passage,
                                    Poll::Pending => None,
                                }
                            }
                            Turn::Later(waiting) => Some(runtime.block_on(waiting.turn()).unwrap()),
                        };
                        assert!(passages.places().used() <= 2);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!((passages.places().used(), passages.waiting()), (0, 0));
    }
}
