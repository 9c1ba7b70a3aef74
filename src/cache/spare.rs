//! Whole files that wait for others, to get their names together with these.
//!
//! Each lies beside the file whose place it is to take, under a name of its own that no request can have. One that has
//! waited in vain is removed; one that a process leaves that is killed is a left-over in progress (`sweep`).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::Store;
use super::place::Way;
use crate::key::Key;
use crate::rt::blocking;
use crate::sys::file::{self, Reach, Root};

/// A whole file that waits. Removed on drop, unless it has got its name.
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

    /// Gives these their names, one after the other. After an error those before it have theirs. Blocks.
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
        // Under this name there is no other file.
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
