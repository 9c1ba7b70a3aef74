//! Waking tasks from any thread. Both backends have wakers that may be called from another thread, which hands
//! the task to the thread that owns it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// Where one task waits for a [`Waiters`] list to be woken, on whatever thread that happens. The waker lies in
/// here, not in the list: dropped, it keeps no task in memory, and that on the thread of the task.
#[derive(Clone, Debug, Default)]
struct Slot(Arc<Mutex<Option<Waker>>>);

impl Slot {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's entry for the list that it waits on, one at a time.
#[derive(Debug, Default)]
pub struct Waiter(Slot);

impl Waiter {
    /// An entry that is on no list yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let waker = self.0.waker().take();
        drop(waker);
    }
}

/// Tasks to wake when something changes. Lives inside the lock that guards the something.
#[derive(Debug, Default)]
pub struct Waiters(Vec<Slot>);

impl Waiters {
    /// Puts a waiter on the list, to wake the task behind `context`.
    pub fn add(&mut self, waiter: &Waiter, context: &Context<'_>) {
        if waiter.0.waker().replace(context.waker().clone()).is_none() {
            if self.0.len() == self.0.capacity() {
                // Entries whose waiter is gone would be many on a list that is woken once.
                self.0.retain(|slot| Arc::strong_count(&slot.0) > 1);
                self.0.reserve(self.0.len() + 1);
            }
            self.0.push(waiter.0.clone());
        }
    }

    /// Wakes every task on the list and clears it.
    pub fn wake_all(&mut self) {
        for slot in self.0.drain(..) {
            let waker = slot.waker().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
