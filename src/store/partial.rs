//! The in-progress file: created, locked, filled, then renamed or removed.
//!
//! Whoever holds the lock of the file that has the in-progress name owns the fill. A file without
//! a living holder is stale: it is unlinked and made anew, never truncated, since a reader of an
//! earlier fill may still be served from it. Between opening and locking the name may have gone to
//! another file, so the two are compared after the lock is had.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::key::Key;
use crate::outcome::Why;
use crate::sys::file::{self, Locked, Root};

/// Races lost against other processes before giving up on storing.
const ATTEMPTS: usize = 16;

/// A file being filled. Unlinked on drop unless committed.
#[derive(Debug)]
pub struct Partial {
    root: Arc<Root>,
    directory: OwnedFd,
    /// Directories were made for it: their entries need syncing too.
    new_parents: Option<String>,
    in_progress: String,
    name: String,
    file: Arc<Locked>,
    done: bool,
}

impl Partial {
    /// Creates and locks the in-progress file of `key`, and the directories above it.
    pub(super) fn begin(root: &Arc<Root>, key: &Key) -> Result<Self, Why> {
        let (directory, made) = match root.open_directory(key.parent()) {
            Ok(directory) => (directory, false),
            Err(_) => (root.make_directory(key.parent()).map_err(|_| Why::Disk)?, true),
        };
        let in_progress = key.in_progress();
        let file = acquire(&directory, &in_progress)?;
        Ok(Self {
            root: Arc::clone(root),
            directory,
            new_parents: made.then(|| key.parent().to_owned()),
            in_progress,
            name: key.file_name().to_owned(),
            file: Arc::new(file),
            done: false,
        })
    }

    /// The file, to write and to serve from.
    pub fn file(&self) -> &Arc<Locked> {
        &self.file
    }

    /// Gives the complete file its final name, with the origin's date (seconds since 1970) and
    /// synced to the disk. Blocks. On an error nothing is left behind; so too if the file has not
    /// got the `size` it was written with, because somebody else was at it.
    pub fn commit(mut self, size: u64, modified: Option<u64>) -> io::Result<()> {
        if file::info(&*self.file)?.size != size {
            return Err(io::Error::other("the in-progress file was changed by somebody else"));
        }
        if let Some(secs) = modified {
            file::set_modified(&*self.file, secs)?;
        }
        file::sync(self.file.as_fd())?;
        if !self.still_named() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the in-progress file was taken away"));
        }
        file::rename(&self.directory, &self.in_progress, &self.name)?;
        self.done = true;
        file::sync(self.directory.as_fd())?;
        self.sync_new_parents()
    }

    fn sync_new_parents(&self) -> io::Result<()> {
        let Some(path) = &self.new_parents else {
            return Ok(());
        };
        for (end, _) in path.rmatch_indices('/').chain([(0, "")]) {
            file::sync(self.root.open_directory(&path[..end])?.as_fd())?;
        }
        Ok(())
    }

    fn still_named(&self) -> bool {
        is_named(&self.directory, &self.in_progress, &*self.file)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done && self.still_named() {
            // What cannot be unlinked is stale from now on and is replaced by the next fill.
            drop(file::unlink(&self.directory, &self.in_progress));
        }
    }
}

fn is_named(directory: &OwnedFd, name: &str, file: &impl AsFd) -> bool {
    match (file::info(file), file::info_at(directory, name)) {
        (Ok(mine), Ok(theirs)) => mine.id == theirs.id,
        _ => false,
    }
}

fn acquire(directory: &OwnedFd, name: &str) -> Result<Locked, Why> {
    let mut why = Why::HeldElsewhere;
    for _ in 0..ATTEMPTS {
        let fresh = file::create_new(directory, name);
        let is_fresh = fresh.is_ok();
        let opened = match fresh {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                file::open_existing(directory, name)
            }
            result => result,
        };
        let opened = match opened {
            // Taken away in between; or the directory itself is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                why = Why::Disk;
                continue;
            }
            result => result.map_err(|_| Why::Disk)?,
        };
        let locked = match file::lock(opened) {
            Err(error) if file::is_held(&error) => return Err(Why::HeldElsewhere),
            result => result.map_err(|_| Why::Disk)?,
        };
        if !is_named(directory, name, &locked) {
            continue;
        }
        if is_fresh {
            return Ok(locked);
        }
        // Stale and ours alone: away with it, and once more from the start.
        file::unlink(directory, name).map_err(|_| Why::Disk)?;
    }
    Err(why)
}
