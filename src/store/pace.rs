//! Does the disk keep up with what is written? Writes to files end in memory, until so much of it
//! is waiting for the disk that the system makes the writers wait.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A write of one piece that took longer has waited: from memory to memory it takes less than one.
const WAITED: Duration = Duration::from_millis(10);
/// For so long after it writes are expected to wait. They are still looked at, so this goes on for
/// as long as they do.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What the writes of late have shown.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// May a write have to wait? Then it is not for a worker's own thread.
    pub fn is_slow(&self) -> bool {
        let waited = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waited.is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    /// Writes one piece, and sees how long that takes.
    pub fn measured<T>(&self, write: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = write();
        if begun.elapsed() > WAITED {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        result
    }
}
