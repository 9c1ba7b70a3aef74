//! Whether the disk keeps up with the writes. A write to a file ends in memory, until so many dirty pages wait for the
//! disk that the system makes the writers wait.

use std::time::{Duration, Instant};

use crate::rt::lock::Lock;

/// A write of one piece that took longer has waited for the disk: a copy in memory takes less than one millisecond.
const WAITED: Duration = Duration::from_millis(10);
/// Writes that waited, within `REMEMBERED` of each other, before the disk counts as slow: a single one may have waited
/// for the processor.
const OFTEN: u32 = 2;
/// The disk counts as slow for this long after the last write that waited.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The recent writes that waited for the disk.
#[derive(Debug, Default)]
pub struct Pace(Lock<Option<Waits>>);

#[derive(Clone, Copy, Debug)]
struct Waits {
    last: Instant,
    count: u32,
}

impl Pace {
    /// Whether a write may wait for the disk: then a thread of the pool makes it.
    pub fn is_slow(&self) -> bool {
        let waits = *self.0.lock();
        waits.is_some_and(|waits| waits.count >= OFTEN && waits.last.elapsed() < REMEMBERED)
    }

    /// Writes one piece, and measures the time.
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
