//! The cache as requests see it: names are looked up and files are begun without a wait for the disk on the event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::partial::{LeftOver, Partial};
use super::place::{PATIENCE, Place};
use super::{Entry, Found, Store};
use crate::fd_budget::{Descriptors, Purpose};
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::{Runtime, timeout};
use crate::sys::file;

/// A file up to this size is read at one go: it does without a descriptor to stay open where these are short.
pub const SMALL: u64 = 64 * 1024;
/// A request for a longer file waits this long for files that are open only for speed to give way.
const GIVE_WAY: Duration = Duration::from_millis(50);

/// The cache directory, with what the tasks that read it may take.
#[derive(Debug)]
pub struct Cache {
    /// The cache directory.
    pub store: Arc<Store>,
    /// How many files may be open.
    pub descriptors: Descriptors,
    /// A disk that does not answer for this long has failed.
    pub stall_time: Duration,
}

impl Cache {
    /// The file of this key. It has a descriptor to stay open if there is one; without it, see [`super::stored_file`].
    pub async fn look_up<R: Runtime>(&self, key: &Key) -> Found {
        let held = self.descriptors.try_take(Purpose::File, 1);
        let entry = match self.open::<R>(key).await {
            Found::File(entry) => entry,
            other @ (Found::Directory | Found::Absent | Found::Unusable(_)) => return other,
        };
        if held.is_some() || entry.info.size <= SMALL {
            return Found::File(Entry { held, ..entry });
        }
        drop(entry);
        let held = timeout::<R, _>(GIVE_WAY, self.descriptors.take(Purpose::File, 1)).await.ok();
        match self.open::<R>(key).await {
            Found::File(entry) => Found::File(Entry { held, ..entry }),
            other @ (Found::Directory | Found::Absent | Found::Unusable(_)) => other,
        }
    }

    /// Looks; where the system has no descriptor left, again after those that are open only for speed have gone.
    async fn open<R: Runtime>(&self, key: &Key) -> Found {
        let found = self.look_up_path::<R>(key.as_str()).await;
        if !matches!(found, Found::Unusable(BypassReason::Descriptors)) {
            return found;
        }
        self.descriptors.exhausted::<R>().await;
        self.look_up_path::<R>(key.as_str()).await
    }

    /// What the cache has at this relative path. At once where the system knows it from memory, else by
    /// a thread of the pool: reading a directory or an inode would stop every other client's transfer.
    ///
    /// A name that is nowhere is one that the system cannot know from memory, so a miss would always
    /// pay for the hop (a third of all it costs). It does not as long as the directories prove to be
    /// in memory: until one of them has waited. Neither is for another file system than that of the
    /// cache directory: the server behind it may be dead.
    pub async fn look_up_path<R: Runtime>(&self, path: &str) -> Found {
        let calm = CALM.holds();
        let at_once = if calm { look_up_here(&self.store, path) } else { self.store.look_up_cached(path) };
        if let Some(found) = at_once {
            return found;
        }
        if !calm {
            let (store, of) = (Arc::clone(&self.store), path.to_owned());
            match Place::Local.read::<R, _>(move || look_up_here(&store, &of)).await {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(why) => return Found::Unusable(why),
            }
        }
        self.look_up_elsewhere::<R>(path).await
    }

    /// The same on another file system. A file that cannot be read there is not to be served from there.
    async fn look_up_elsewhere<R: Runtime>(&self, path: &str) -> Found {
        let (store, of) = (Arc::clone(&self.store), path.to_owned());
        let look = move || match store.look_up(&of) {
            Found::File(entry) if file::read_at(&*entry.file, &mut [0], 0).is_err() => {
                Found::Unusable(BypassReason::Disk)
            }
            found @ (Found::File(_) | Found::Directory | Found::Absent | Found::Unusable(_)) => found,
        };
        self.store.way(path).run::<R, _>(PATIENCE, look).await.unwrap_or_else(Found::Unusable)
    }

    /// Begins to store a file; where the system has no descriptor left, again after those that are open only for speed
    /// have gone.
    pub async fn begin<R: Runtime>(&self, key: &Key) -> Result<Partial, BypassReason> {
        let begun = self.create::<R>(key).await;
        if !matches!(begun, Err(BypassReason::Descriptors)) {
            return begun;
        }
        self.descriptors.exhausted::<R>().await;
        self.create::<R>(key).await
    }

    /// At once on this machine, else by a thread that may wait for another.
    async fn create<R: Runtime>(&self, key: &Key) -> Result<Partial, BypassReason> {
        if let Some(begun) = self.store.begin_here(key)? {
            return Ok(begun);
        }
        let (store, of) = (Arc::clone(&self.store), key.clone());
        self.store.way(key.as_str()).run::<R, _>(PATIENCE, move || store.begin(&of)).await?
    }

    /// What an earlier fill of this key from `url` has left, if a fill can resume it.
    pub async fn left_over<R: Runtime>(&self, key: &Key, url: Vec<u8>) -> Option<LeftOver> {
        let has = self.store.has_left_over(key);
        if has == Some(false) {
            return None;
        }
        let (store, of) = (Arc::clone(&self.store), key.clone());
        let take = move || store.left_over(&of, &url);
        match has {
            Some(_) => Place::Local.work::<R, _>(take).await.ok().flatten(),
            None => self.store.way(key.as_str()).run::<R, _>(PATIENCE, take).await.ok().flatten(),
        }
    }
}

fn look_up_here(store: &Store, path: &str) -> Option<Found> {
    let begun = Instant::now();
    let found = store.look_up_here(path);
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
