//! Complete files of an index set that wait for the others, to get their names together.
//!
//! Each lies beside the file whose place it is to take, under a name that no request can have. It is removed if the others
//! do not come. One that a killed process has left is removed as an in-progress file (`sweep`).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::Store;
use super::place::Way;
use crate::key::Key;
use crate::rt::blocking;
use crate::sys::file::{self, Reach, Root};

/// A complete file that waits for its name. Removed on drop, unless it has that.
#[derive(Debug)]
pub struct Spare {
    root: Arc<Root>,
    /// Where it lies.
    pub place: Key,
    /// The name that it is to get.
    key: Key,
}

impl Store {
    /// The file at `place`, beside that of `key`.
    pub fn spare(&self, key: &Key, place: Key) -> Spare {
        Spare { root: Arc::clone(&self.tree.root), place, key: key.clone() }
    }

    /// Gives them their names, one after the other. After an error those before it have theirs. Blocks.
    pub fn name(&self, spares: &[Arc<Spare>]) -> io::Result<()> {
        for Spare { place, key, .. } in spares.iter().map(|spare| &**spare) {
            file::rename(&self.tree.root.open_directory(key.parent())?, place.file_name(), key.file_name())?;
        }
        if !self.tree.durability.sync {
            return Ok(());
        }
        let parents: BTreeSet<&str> = spares.iter().map(|spare| spare.key.parent()).collect();
        parents.into_iter().try_for_each(|parent| file::sync(&self.tree.root.open_directory(parent)?))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let (root, place) = (Arc::clone(&self.root), self.place.clone());
        // No other file has this name.
        let remove = |root: &Root, place: &Key, reach| {
            let directory = root.open_directory_by(place.parent(), reach)?;
            file::unlink(&directory, place.file_name())
        };
        let here = move || {
            let removed = remove(&root, &place, Reach::Here);
            if removed.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                let way = Way::new(place.as_str(), root.is_remote());
                way.start(move || remove(&root, &place, Reach::Anywhere).unwrap_or_default());
            }
        };
        drop(blocking::start(&blocking::DISK, here));
    }
}
