//! Looking a name up without waiting for the disk on the loop.

use std::sync::Arc;

use super::Shared;
use crate::outcome::Why;
use crate::rt::blocking;
use crate::store::Found;

/// What the cache has at this relative path. At once where the system knows it from memory, else by
/// a thread of the pool: reading a directory or an inode would stop every other client's transfer.
pub async fn find(shared: &Arc<Shared>, path: &str) -> Found {
    if let Some(found) = shared.store.look_up_cached(path) {
        return found;
    }
    let (theirs, path) = (Arc::clone(shared), path.to_owned());
    let looked = blocking::run(&blocking::READS, move || theirs.store.look_up(&path)).await;
    looked.unwrap_or(Found::Unusable(Why::Disk))
}
