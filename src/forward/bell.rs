//! The bell of a connection to the backend: it wakes the task that uses the connection just now. That task drives the
//! connection by itself, and what it does there it need not be woken for: hyper's two ends of a connection wake each
//! other for each part of a body, which would cost every answer one more turn of its task, for nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::{Mutex, MutexGuard};

/// A waker of its own for a connection that goes from task to task.
pub(super) struct Bell {
    rope: Arc<Rope>,
    waker: Waker,
}

#[derive(Default)]
struct Rope {
    task: Mutex<Option<Waker>>,
    muffled: AtomicBool,
}

impl Rope {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock()
    }
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.muffled.load(Ordering::Relaxed) {
            self.task().iter().for_each(Waker::wake_by_ref);
        }
    }
}

impl Bell {
    pub(super) fn new() -> Self {
        let rope = Arc::new(Rope::default());
        Self { waker: Waker::from(Arc::clone(&rope)), rope }
    }

    /// What to drive the connection by.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// From here on it wakes this task.
    pub(super) fn wakes(&self, task: &Waker) {
        let mut known = self.rope.task();
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    /// From here on it wakes nobody, and keeps nobody's task.
    pub(super) fn wakes_nobody(&self) {
        *self.rope.task() = None;
    }

    /// Does something for which nobody is to be woken.
    pub(super) fn muffled<T>(&self, does: impl FnOnce() -> T) -> T {
        self.rope.muffled.store(true, Ordering::Relaxed);
        let done = does();
        self.rope.muffled.store(false, Ordering::Relaxed);
        done
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_whoever_uses_it_now_unless_that_is_who_does_it() {
        let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let bell = Bell::new();
        let kept = bell.context().waker().clone();
        bell.wakes(&Waker::from(Arc::clone(&first)));
        kept.wake_by_ref();
        bell.muffled(|| kept.wake_by_ref());
        assert_eq!(first.0.load(Ordering::Relaxed), 1);
        bell.wakes(&Waker::from(Arc::clone(&second)));
        kept.wake_by_ref();
        bell.wakes_nobody();
        kept.wake_by_ref();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (1, 1));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
    }
}
