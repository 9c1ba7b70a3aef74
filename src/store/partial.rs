//! The in-progress file: created, locked, filled, then renamed or removed.
//!
//! Whoever holds the lock of the file that has the in-progress name owns the fill. A file without
//! a living holder is stale: a fill goes on with it if it has a record to go by and the origin says
//! that it is the same file still; else it is unlinked and made anew, never written over, since a
//! reader of an earlier fill may still be served from it. Between opening and locking the name may
//! have gone to another file, so the two are compared after the lock is had.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{Keeping, Notes, Record};
use crate::http::identity::Identity;
use crate::key::Key;
use crate::outcome::Why;
use crate::sys::file::{self, Kind, Locked, Root};

/// Races lost against other processes before giving up on storing.
const ATTEMPTS: usize = 16;

/// A file being filled. Unlinked on drop unless it got its final name, or is left for a later fill.
#[derive(Debug)]
pub struct Partial {
    root: Arc<Root>,
    directory: Arc<OwnedFd>,
    /// Directories were made for it: their entries need syncing too.
    new_parents: Option<String>,
    in_progress: String,
    name: String,
    file: Arc<Locked>,
    /// Device and inode.
    id: (u64, u64),
    notes: Arc<Notes>,
    left: bool,
    done: bool,
}

/// What a fill that was cut short has left: a later one may go on with it. Removed on drop, unless it
/// is left once more.
#[derive(Debug)]
pub struct LeftOver {
    /// The file, locked.
    pub partial: Partial,
    /// What it says of itself.
    pub record: Record,
    /// Its bytes; at least one.
    pub stored: u64,
}

impl Partial {
    /// Creates and locks the in-progress file of `key`, and the directories above it.
    pub(super) fn begin(
        root: &Arc<Root>,
        parents: &Parents,
        keeping: &Arc<Keeping>,
        key: &Key,
    ) -> Result<Self, Why> {
        let (parent, in_progress) = (key.parent(), key.in_progress());
        let known = parents.get(parent).and_then(|directory| match acquire(&directory, &in_progress) {
            // It may be gone by now: the way to it is walked again.
            Err(Why::Disk) => None,
            acquired => Some((directory, false, acquired)),
        });
        let (directory, made, acquired) = match known {
            Some(known) => known,
            None => {
                let (directory, made) = open_or_make(root, parent)?;
                parents.put(parent, &directory);
                let acquired = acquire(&directory, &in_progress);
                (directory, made, acquired)
            }
        };
        let mut partial = Self::around(root, directory, keeping, key, acquired?);
        partial.new_parents = made.then(|| parent.to_owned());
        Ok(partial)
    }

    fn around(
        root: &Arc<Root>,
        directory: Arc<OwnedFd>,
        keeping: &Arc<Keeping>,
        key: &Key,
        (file, id): (Locked, (u64, u64)),
    ) -> Self {
        let file = Arc::new(file);
        Self {
            root: Arc::clone(root),
            directory,
            new_parents: None,
            in_progress: key.in_progress(),
            name: key.file_name().to_owned(),
            notes: Arc::new(Notes::new(&file, keeping)),
            file,
            id,
            left: false,
            done: false,
        }
    }

    /// Takes over what a fill of `key` from `url` has left, if it can be gone on with. What cannot
    /// stays, for [`Self::begin`] to replace. May wait for the disk.
    pub(super) fn take_over(
        root: &Arc<Root>,
        keeping: &Arc<Keeping>,
        key: &Key,
        url: &[u8],
    ) -> Option<LeftOver> {
        let directory = Arc::new(root.open_directory(key.parent()).ok()?);
        let opened = file::open_existing(&directory, &key.in_progress()).ok()?;
        let locked = file::lock(opened).ok()?;
        let info = file::info(&locked).ok()?;
        // With another name it may be somebody's copy, which is not to change.
        if info.kind != Kind::File || info.links != 1 {
            return None;
        }
        let record = Record::read(&locked).filter(|record| record.url == url)?;
        let stored = record.trusted(info.size, keeping.boot.as_deref());
        let mut partial = Self::around(root, directory, keeping, key, (locked, info.id));
        // From here on a way out must not remove it.
        partial.left = true;
        if stored == 0 || !partial.still_named() {
            return None;
        }
        if stored < info.size {
            // Of another run of the system, and locked: nobody is served from it.
            file::truncate(&*partial.file, stored).ok()?;
        }
        partial.left = false;
        let record = Record { synced: record.synced.min(stored), ..record };
        partial.notes.describe(record.clone(), true);
        Some(LeftOver { partial, record, stored })
    }

    /// Says what the file is going to be, so that a later fill can go on with it.
    pub fn describe(&self, url: Vec<u8>, content_type: Vec<u8>, identity: Identity) {
        self.notes.describe(Record { boot: None, synced: 0, url, content_type, identity }, false);
    }

    /// The way to the file's record.
    pub fn notes(&self) -> &Arc<Notes> {
        &self.notes
    }

    /// Leaves the file with its `stored` bytes for a later fill, if that can use it. Who reads it goes on
    /// to do so. May wait for the disk.
    pub fn leave(mut self, stored: u64) {
        self.left = self.notes.leave(stored);
        if self.left {
            // What cannot be unlocked is so when the last reader is through.
            drop(file::unlock(&self.file));
        }
    }

    /// The file, to write and to serve from.
    pub fn file(&self) -> &Arc<Locked> {
        &self.file
    }

    /// The device it lies on.
    pub(super) fn device(&self) -> u64 {
        self.id.0
    }

    /// The directory it lies in.
    pub(super) fn directory(&self) -> &Arc<OwnedFd> {
        &self.directory
    }

    /// First step of a commit: the origin's date (seconds since 1970) for the complete file. An
    /// error if it has not got the `size` it was written with, because somebody else was at it.
    pub(super) fn set_date(&self, size: u64, modified: Option<u64>) -> io::Result<()> {
        if file::info(&*self.file)?.size != size {
            return Err(io::Error::other("the in-progress file was changed by somebody else"));
        }
        self.notes.close();
        modified.map_or(Ok(()), |secs| file::set_modified(&*self.file, secs))
    }

    /// Third step, once the file is on stable storage: its final name.
    pub(super) fn rename(&mut self) -> io::Result<()> {
        if !self.still_named() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the in-progress file was taken away"));
        }
        file::rename(&self.directory, &self.in_progress, &self.name)?;
        self.done = true;
        Ok(())
    }

    /// Last step, beside the sync of its directory: that of the directories made for it. Blocks.
    pub(super) fn sync_new_parents(&self) -> io::Result<()> {
        let Some(path) = &self.new_parents else {
            return Ok(());
        };
        for (end, _) in path.rmatch_indices('/').chain([(0, "")]) {
            let directory = self.root.open_directory(&path[..end])?;
            // Each by itself: they may lie on another file system.
            file::sync_many(&[directory.as_fd()], false).into_iter().collect::<io::Result<()>>()?;
        }
        Ok(())
    }

    fn still_named(&self) -> bool {
        file::info_at(&self.directory, &self.in_progress).is_ok_and(|named| named.id == self.id)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done && !self.left && self.still_named() {
            // What cannot be unlinked is stale from now on and is replaced by the next fill.
            drop(file::unlink(&self.directory, &self.in_progress));
        }
    }
}

/// The directory that a file was last begun in, kept open: the next one often goes there too.
#[derive(Debug, Default)]
pub(super) struct Parents(Mutex<Option<(String, Arc<OwnedFd>)>>);

impl Parents {
    fn last(&self) -> MutexGuard<'_, Option<(String, Arc<OwnedFd>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, path: &str) -> Option<Arc<OwnedFd>> {
        self.last().as_ref().filter(|(known, _)| known == path).map(|(_, directory)| Arc::clone(directory))
    }

    pub(super) fn put(&self, path: &str, directory: &Arc<OwnedFd>) {
        *self.last() = Some((path.to_owned(), Arc::clone(directory)));
    }

    /// Its name may stand for another directory by now.
    pub(super) fn forget(&self) {
        *self.last() = None;
    }
}

/// The directory, and whether it had to be made.
fn open_or_make(root: &Root, path: &str) -> Result<(Arc<OwnedFd>, bool), Why> {
    let (directory, made) = match root.open_directory(path) {
        Ok(directory) => (directory, false),
        Err(_) => (root.make_directory(path).map_err(|_| Why::Disk)?, true),
    };
    Ok((Arc::new(directory), made))
}

/// The file, locked, and its device and inode.
fn acquire(directory: &OwnedFd, name: &str) -> Result<(Locked, (u64, u64)), Why> {
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
            Err(_) if is_fresh => {
                // A file system without locks: nothing of ours stays behind.
                drop(file::unlink(directory, name));
                return Err(Why::Disk);
            }
            result => result.map_err(|_| Why::Disk)?,
        };
        let mine = file::info(&locked).map_err(|_| Why::Disk)?;
        // Ours had this name; nobody gives it another, but it may have been taken for stale.
        if is_fresh && mine.links > 0 {
            return Ok((locked, mine.id));
        }
        if is_fresh || !file::info_at(directory, name).is_ok_and(|named| named.id == mine.id) {
            continue;
        }
        // Stale and ours alone: away with it, and once more from the start.
        file::unlink(directory, name).map_err(|_| Why::Disk)?;
    }
    Err(why)
}
