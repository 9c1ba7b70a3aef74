//! Does the disk keep up with what is written? Writes to files end in memory, until so much of it
//! is waiting for the disk that the system makes the writers wait.

use std::time::{Duration, Instant};

use crate::rt::lock::Lock;

/// A write of one piece that took longer has waited: from memory to memory it takes less than one.
const WAITED: Duration = Duration::from_millis(10);
/// So many that waited, within `REMEMBERED` of each other, are the disk; one may be the processor's,
/// which had others to serve.
const OFTEN: u32 = 2;
/// For so long after the last of them writes are expected to wait. They are still looked at, so this
/// goes on for as long as they do.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What the writes of late have shown.
#[derive(Debug, Default)]
pub struct Pace(Lock<Option<Waits>>);

#[derive(Clone, Copy, Debug)]
struct Waits {
    last: Instant,
    count: u32,
}

impl Pace {
    /// May a write have to wait? Then it is not for a worker's own thread.
    pub fn is_slow(&self) -> bool {
        let waits = *self.0.lock();
        waits.is_some_and(|waits| waits.count >= OFTEN && waits.last.elapsed() < REMEMBERED)
    }

    /// Writes one piece, and sees how long that takes.
    pub fn measured<T>(&self, write: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = write();
        if begun.elapsed() > WAITED {
            self.note(Instant::now());
        }
        result
    }

    fn note(&self, now: Instant) {
        let mut waits = self.0.lock();
        let before = waits.filter(|waits| now.duration_since(waits.last) < REMEMBERED);
        *waits = Some(Waits { last: now, count: before.map_or(1, |waits| waits.count.saturating_add(1)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_slow_after_two_waits_that_are_not_far_apart() {
        let pace = Pace::default();
        let long_ago = Instant::now().checked_sub(REMEMBERED * 2).unwrap();
        pace.measured(|| ());
        assert!(!pace.is_slow());
        pace.note(long_ago);
        pace.note(Instant::now());
        assert!(!pace.is_slow(), "the first of these two is forgotten");
        pace.note(Instant::now());
        assert!(pace.is_slow());
    }
}
