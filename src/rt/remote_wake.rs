//! Waking tasks from any thread. Both backends have wakers that may be called from another thread, which hands
//! the task to the thread that owns it.

use std::sync::Arc;
use std::task::{Context, Waker};

use super::lock::Lock;

/// Where one task waits for a [`Waiters`] list to be woken, on whatever thread that happens. The waker lies in
/// here, not in the list: dropped, it keeps no task in memory, and that on the thread of the task.
#[derive(Clone, Debug, Default)]
struct Slot(Arc<Lock<Option<Waker>>>);

impl Slot {
    fn take(&self) -> Option<Waker> {
        self.0.lock().take()
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
        drop(self.0.take());
    }
}

/// Tasks to wake when something changes. Lives inside the lock that guards the something.
#[derive(Debug, Default)]
pub struct Waiters(Vec<Slot>);

impl Waiters {
    /// Puts a waiter on the list, to wake the task behind `context`.
    pub fn add(&mut self, waiter: &Waiter, context: &Context<'_>) {
        if waiter.0.0.lock().replace(context.waker().clone()).is_none() {
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
            if let Some(waker) = slot.take() {
                waker.wake();
            }
        }
    }
}
