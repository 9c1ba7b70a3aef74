//! Looking a name up without waiting for the disk on the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Shared;
use crate::outcome::Why;
use crate::rt::blocking;
use crate::store::{Found, Store};

/// What the cache has at this relative path. At once where the system knows it from memory, else by
/// a thread of the pool: reading a directory or an inode would stop every other client's transfer.
///
/// A name that is nowhere is one that the system cannot know from memory, so a miss would always
/// pay for the hop (a third of all it costs). It does not as long as the directories prove to be
/// in memory: until one of them has waited.
pub async fn find(shared: &Arc<Shared>, path: &str) -> Found {
    if CALM.holds() {
        return look_up(&shared.store, path);
    }
    if let Some(found) = shared.store.look_up_cached(path) {
        return found;
    }
    let (theirs, path) = (Arc::clone(shared), path.to_owned());
    let looked = blocking::run(&blocking::READS, move || look_up(&theirs.store, &path)).await;
    looked.unwrap_or(Found::Unusable(Why::Disk))
}

fn look_up(store: &Store, path: &str) -> Found {
    let begun = Instant::now();
    let found = store.look_up(path);
    CALM.note(begun.elapsed());
    found
}

/// Look-ups of all workers that went without waiting, since the last that did not.
struct Calm(AtomicU32);

static CALM: Calm = Calm(AtomicU32::new(CALM_AFTER));

/// So many in a row, and the next ones are done on the loop; one that waits there ends that.
const CALM_AFTER: u32 = 64;
/// A look-up that took longer has waited for the disk. One that is in memory takes a few
/// microseconds, and as much again where somebody renames in the same directory.
const AT_ONCE: Duration = Duration::from_micros(500);

impl Calm {
    fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= CALM_AFTER
    }

    fn note(&self, took: Duration) {
        if took > AT_ONCE {
            self.0.store(0, Ordering::Relaxed);
        } else if !self.holds() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_leave_the_pool_after_many_that_did_not_wait_and_come_back_after_one_that_did() {
        let calm = Calm(AtomicU32::new(0));
        for _ in 0..2 {
            for _ in 0..CALM_AFTER {
                assert!(!calm.holds());
                calm.note(AT_ONCE);
            }
            assert!(calm.holds());
            calm.note(Duration::ZERO);
            assert!(calm.holds());
            calm.note(AT_ONCE * 2);
        }
        assert!(!calm.holds());
    }
}
