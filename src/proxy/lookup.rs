//! Looking a name up without waiting for the disk on the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::exchange::{Context, Exchange, Shared};
use super::lent::SMALL;
use crate::cache::place::{PATIENCE, Place};
use crate::cache::{Entry, Found, Store};
use crate::fd_budget::Purpose;
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::{Runtime, timeout};
use crate::sys::file;
use crate::upstream::EXHAUSTED;

/// A longer one waits so long for those that are open for speed only to give way.
const GIVE_WAY: Duration = Duration::from_millis(50);

/// What the cache has. A file has a descriptor to stay open if there is one; without it is to be [`super::lent`].
pub(crate) async fn look_up<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key) -> Found {
    let context = exchange.context;
    let descriptors = &context.shared.descriptors;
    let held = descriptors.try_take(Purpose::File, 1);
    let entry = match open(context, key).await {
        Found::File(entry) => entry,
        other @ (Found::Directory | Found::Absent | Found::Unusable(_)) => return other,
    };
    if held.is_some() || entry.info.size <= SMALL {
        return Found::File(Entry { held, ..entry });
    }
    drop(entry);
    let held = timeout::<R, _>(GIVE_WAY, descriptors.take(Purpose::File, 1)).await;
    let held = held.ok().and_then(Result::ok);
    match open(context, key).await {
        Found::File(entry) => Found::File(Entry { held, ..entry }),
        other @ (Found::Directory | Found::Absent | Found::Unusable(_)) => other,
    }
}

/// Looks; where the system has no descriptor left, once more when those that are only kept for speed have gone.
async fn open<R: Runtime>(context: &Context<R>, key: &Key) -> Found {
    let found = find::<R>(&context.shared, key.as_str()).await;
    if !matches!(found, Found::Unusable(BypassReason::Descriptors)) {
        return found;
    }
    exhausted(context).await;
    find::<R>(&context.shared, key.as_str()).await
}

/// The system has no descriptor left: all that is only kept for speed goes, here and at the other workers.
pub(crate) async fn exhausted<R: Runtime>(context: &Context<R>) {
    context.shared.sets.close_idle();
    context.shared.descriptors.budget().alarm();
    R::sleep(EXHAUSTED).await;
}

/// What the cache has at this relative path. At once where the system knows it from memory, else by
/// a thread of the pool: reading a directory or an inode would stop every other client's transfer.
///
/// A name that is nowhere is one that the system cannot know from memory, so a miss would always
/// pay for the hop (a third of all it costs). It does not as long as the directories prove to be
/// in memory: until one of them has waited. Neither is for another file system than that of the
/// cache directory: the server behind it may be dead.
pub async fn find<R: Runtime>(shared: &Arc<Shared>, path: &str) -> Found {
    let calm = CALM.holds();
    let at_once = if calm { look_up_here(&shared.store, path) } else { shared.store.look_up_cached(path) };
    if let Some(found) = at_once {
        return found;
    }
    if !calm {
        let (theirs, of) = (Arc::clone(shared), path.to_owned());
        let look = move || look_up_here(&theirs.store, &of);
        match Place::Local.read::<R, _>(look).await {
            Ok(Some(found)) => return found,
            Ok(None) => {}
            Err(why) => return Found::Unusable(why),
        }
    }
    elsewhere::<R>(shared, path).await
}

fn look_up_here(store: &Store, path: &str) -> Option<Found> {
    let begun = Instant::now();
    let found = store.look_up_here(path);
    CALM.note(begun.elapsed());
    found
}

/// The same on another file system. A file that cannot be read there is not to be served from there.
async fn elsewhere<R: Runtime>(shared: &Arc<Shared>, path: &str) -> Found {
    let (theirs, of) = (Arc::clone(shared), path.to_owned());
    let look = move || match theirs.store.look_up(&of) {
        Found::File(entry) if file::read_at(&*entry.file, &mut [0], 0).is_err() => {
            Found::Unusable(BypassReason::Disk)
        }
        found @ (Found::File(_) | Found::Directory | Found::Absent | Found::Unusable(_)) => found,
    };
    shared.store.way(path).run::<R, _>(PATIENCE, look).await.unwrap_or_else(Found::Unusable)
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
