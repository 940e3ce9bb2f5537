//! The waker of a connection to the backend. It wakes the task that uses the connection at present, and not for what that
//! task does itself: hyper's two halves of a connection wake each other for each part of a body, which would cost every
//! answer one more turn of its task.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::{Mutex, MutexGuard};

/// The waker of a connection that goes from task to task.
pub(super) struct TaskWaker {
    shared: Arc<SharedTask>,
    waker: Waker,
}

#[derive(Default)]
struct SharedTask {
    task: Mutex<Option<Waker>>,
    silent: AtomicBool,
}

impl SharedTask {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock()
    }
}

impl Wake for SharedTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.silent.load(Ordering::Relaxed) {
            self.task().iter().for_each(Waker::wake_by_ref);
        }
    }
}

impl TaskWaker {
    pub(super) fn new() -> Self {
        let shared = Arc::new(SharedTask::default());
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// The context with which the connection is polled.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Sets the task that is woken from now on.
    pub(super) fn set_task(&self, task: &Waker) {
        let mut known = self.shared.task();
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    /// Forgets the task: from now on none is woken.
    pub(super) fn clear_task(&self) {
        *self.shared.task() = None;
    }

    /// Calls a function for which no task is woken.
    pub(super) fn without_waking<T>(&self, does: impl FnOnce() -> T) -> T {
        self.shared.silent.store(true, Ordering::Relaxed);
        let done = does();
        self.shared.silent.store(false, Ordering::Relaxed);
        done
    }
}

impl fmt::Debug for TaskWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskWaker").finish_non_exhaustive()
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
    fn the_present_task_is_woken_unless_it_causes_the_wake_itself() {
        let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let waker = TaskWaker::new();
        let kept = waker.context().waker().clone();
        waker.set_task(&Waker::from(Arc::clone(&first)));
        kept.wake_by_ref();
        waker.without_waking(|| kept.wake_by_ref());
        assert_eq!(first.0.load(Ordering::Relaxed), 1);
        waker.set_task(&Waker::from(Arc::clone(&second)));
        kept.wake_by_ref();
        waker.clear_task();
        kept.wake_by_ref();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (1, 1));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
    }
}
