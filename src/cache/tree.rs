//! The tree of cached files: its directories, opened, and made where they are missing.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::place::{Place, Placed, Way};
use super::resume_record::Durability;
use crate::key::IN_PROGRESS;
use crate::rt::lock::Lock;
use crate::sys::file::{self, Reach, Root};

/// A directory of the tree.
pub(crate) type Directory = Arc<Placed<OwnedFd>>;

/// The tree, and what all files in progress in it share.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Arc<Root>,
    pub(crate) durability: Arc<Durability>,
    /// The directory that a file was last begun in, with its path: the next one often goes there too.
    last: Lock<Option<(String, Directory)>>,
}

impl Tree {
    pub(crate) fn new(root: Arc<Root>, durability: Durability) -> Self {
        Self { root, durability: Arc::new(durability), last: Lock::default() }
    }

    /// The directory at `path`, as it was when it was last used. `WouldBlock` where it takes more `reach`.
    pub(crate) fn known(&self, path: &str, reach: Reach) -> io::Result<Option<Directory>> {
        let last = self.last.lock();
        let known = last.as_ref().filter(|(known, _)| known == path).map(|(_, directory)| directory);
        if reach == Reach::Here && known.is_some_and(|known| known.to().is_remote()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(known.cloned())
    }

    /// The same, opened if it is not known.
    pub(crate) fn open(&self, path: &str, reach: Reach) -> io::Result<Directory> {
        match self.known(path, reach)? {
            Some(known) => Ok(known),
            None => Ok(self.remember(path, self.root.open_directory_by(path, reach)?, reach)),
        }
    }

    /// Opens the directory at `path`, or makes it: also how many bytes of the path named what was there before, if
    /// some of it had to be made. `WouldBlock` where it takes more `reach`, `ResourceBusy` where a file in progress has
    /// the name of one of the directories.
    pub(crate) fn open_or_make(&self, path: &str, reach: Reach) -> io::Result<(Directory, Option<usize>)> {
        let (directory, there) = match self.root.open_directory_by(path, reach) {
            Ok(directory) => (directory, None),
            Err(error) if is_beyond(&error, reach) => return Err(error),
            Err(_) => {
                let (directory, there) = self.root.make_directory(path, Some(IN_PROGRESS), reach)?;
                (directory, Some(there))
            }
        };
        Ok((self.remember(path, directory, reach), there))
    }

    /// Removes directories that were made for a file, as [`Self::open_or_make`] says, where they are empty: an empty
    /// directory would stand in the way of a file of that name.
    pub(crate) fn remove_made(&self, path: &str, there: Option<usize>, directory: &Directory) {
        if let (Some(there), Ok(info)) = (there, file::info(&**directory)) {
            self.root.remove_empty(path, there, info.id);
        }
    }

    /// The name of the last directory may stand for another one by now.
    pub(crate) fn forget(&self) {
        *self.last.lock() = None;
    }

    fn remember(&self, path: &str, directory: OwnedFd, reach: Reach) -> Directory {
        let place = match reach {
            Reach::Here => Place::Local,
            Reach::Anywhere => Place::of(&directory, &Way::new(path, self.root.is_remote())),
        };
        let directory = Arc::new(Placed::new(directory, place));
        *self.last.lock() = Some((path.to_owned(), Arc::clone(&directory)));
        directory
    }
}

/// Does this error say that more reach is needed?
pub(crate) fn is_beyond(error: &io::Error, reach: Reach) -> bool {
    error.kind() == io::ErrorKind::WouldBlock && reach == Reach::Here
}
