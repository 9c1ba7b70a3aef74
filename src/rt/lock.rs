//! A mutex without poisoning: a panic while it is held ends one task, and what it guards is still used by the others.

use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

/// A [`Mutex`] that is never poisoned.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Guards this value.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits until no other thread holds it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        unpoisoned(self.0.lock())
    }
}

/// What is guarded, whether or not a thread has panicked while it held the lock; for a condition variable, too.
pub fn unpoisoned<T>(guarded: LockResult<T>) -> T {
    guarded.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_it_is_held_locks_nobody_out() {
        let lock = Lock::new(1);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| {
                let _held = lock.lock();
                std::panic::resume_unwind(Box::new("ended while it was held"));
            });
            held.join().unwrap_err();
        });
        assert_eq!(*lock.lock(), 1);
    }
}
