//! The in-progress file: created, locked, filled, then renamed or removed.
//!
//! Whoever holds the lock of the file that has the in-progress name owns the fill. A file without
//! a living holder is stale: a fill goes on with it if it has a record to go by and the origin says
//! that it is the same file still; else it is unlinked and made anew, never written over, since a
//! reader of an earlier fill may still be served from it. Between opening and locking the name may
//! have gone to another file, so the two are compared after the lock is had.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::fill::Fill;
use super::fingerprint::Fingerprint;
use super::place::{Place, Placed};
use super::resume_record::{Record, ResumeJournal};
use super::tree::{Directory, Tree, is_beyond};
use crate::http::identity::Identity;
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::Runtime;
use crate::rt::budget::Permit;
use crate::sys::file::{self, Info, Kind, Locked, Reach};
use crate::sys::is_exhausted;

/// Races lost against other processes before giving up on storing.
const ATTEMPTS: usize = 16;

/// Times that the way to a directory is walked which others may just have taken away.
const WALKS: usize = 2;

/// A file being filled. On a file system that may hang it is closed by another thread.
pub type Partial = Placed<InProgress>;

/// The same. Unlinked on drop unless it got its final name, or is left for a later fill.
#[derive(Debug)]
pub struct InProgress {
    tree: Arc<Tree>,
    directory: Directory,
    key: Key,
    /// The final name, in the same directory.
    name: String,
    file: Arc<Placed<Locked>>,
    /// Device and inode.
    id: (u64, u64),
    notes: Arc<ResumeJournal>,
    /// Where directories were made for it, how many bytes of the path named others: the entries of those made need
    /// syncing too, and without the file they are removed.
    there: Option<usize>,
    /// Not to be unlinked: it has its final name, or is left.
    stays: bool,
    /// The directory's share of the descriptors.
    held: Option<Permit>,
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

impl InProgress {
    /// Creates and locks the in-progress file of `key`, and the directories above it. `None` where that takes more
    /// `reach`.
    pub(crate) fn begin(tree: &Arc<Tree>, key: &Key, reach: Reach) -> Result<Option<Partial>, BypassReason> {
        let (path, mut made) = (key.parent(), None);
        let mut known = match tree.known(path, reach) {
            Ok(known) => known,
            Err(_) => return Ok(None),
        };
        let mut walks = 0;
        loop {
            let directory = match known.take() {
                Some(known) => known,
                None => match tree.open_or_make(path, reach) {
                    Ok((directory, there)) => {
                        walks += 1;
                        made = made.or(there);
                        directory
                    }
                    Err(error) if is_beyond(&error, reach) => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        return Err(BypassReason::Below);
                    }
                    Err(error) => return Err(why_not(&error)),
                },
            };
            match acquire(&directory, &key.in_progress()) {
                Ok(acquired) => return Ok(Some(Self::new(tree, directory, key, acquired, made))),
                // The directory may be gone by now: the way to it is walked again.
                Err(BypassReason::Disk) if walks < WALKS => {}
                Err(why) => {
                    tree.remove_made(path, made, &directory);
                    return Err(why);
                }
            }
        }
    }

    fn new(
        tree: &Arc<Tree>,
        directory: Directory,
        key: &Key,
        (file, info): (Locked, Info),
        there: Option<usize>,
    ) -> Partial {
        let place = directory.to().clone();
        let file = Arc::new(Placed::new(file, place.clone()));
        let partial = Self {
            tree: Arc::clone(tree),
            directory,
            key: key.clone(),
            name: key.file_name().to_owned(),
            notes: Arc::new(ResumeJournal::new(&file, &tree.durability)),
            file,
            id: info.id,
            there,
            stays: false,
            held: None,
        };
        Partial::new(partial, place)
    }

    /// Takes over what a fill of `key` from `url` has left, if that can be resumed. What cannot stays, for
    /// [`Self::begin`] to replace. May wait for the disk.
    pub(crate) fn take_over(tree: &Arc<Tree>, key: &Key, url: &[u8]) -> Option<LeftOver> {
        let directory = tree.open(key.parent(), Reach::Anywhere).ok()?;
        let (file, info) = file::lock_named(&*directory, &key.in_progress()).ok()?;
        // With another name it may be somebody's copy, which is not to change.
        if info.links != 1 {
            return None;
        }
        let record = Record::read(&file).filter(|record| record.url == url && record.mark.holds(&file))?;
        let stored = record.trusted(info.size, tree.durability.boot.as_deref());
        if stored == 0 {
            return None;
        }
        if stored < info.size {
            // Written in another run of the system, and locked: no client is served from it.
            file::truncate(&file, stored).ok()?;
        }
        // Which of the directories were made for it is not known any more, nor whether they were synced.
        let partial = Self::new(tree, directory, key, (file, info), Some(0));
        let record = Record { synced: record.synced.min(stored), ..record };
        partial.notes.describe(record.clone(), true);
        Some(LeftOver { partial, record, stored })
    }

    /// Says what the file is going to be, so that a later fill can go on with it.
    pub fn describe(&self, url: Vec<u8>, content_type: Vec<u8>, identity: Identity) {
        let mark = Fingerprint::default();
        self.notes.describe(Record { boot: None, synced: 0, mark, url, content_type, identity }, false);
    }

    /// The way to the file's record.
    pub fn notes(&self) -> &Arc<ResumeJournal> {
        &self.notes
    }

    /// Leaves the file with its `stored` bytes for a later fill, if that can use it. Who reads it goes on
    /// to do so. May wait for the disk.
    pub fn leave(&mut self, stored: u64) {
        self.stays = expect_size(&self.file, stored).is_ok() && self.notes.leave(stored);
        if self.stays {
            // What cannot be unlocked is so when the last reader is through.
            drop(file::unlock(&self.file));
        }
    }

    /// Holds the descriptors that were taken for it: its own goes with the fill, whose followers may read it for
    /// longer.
    pub fn hold(&mut self, naming: Option<Permit>, fill: &Fill) {
        self.held = naming.map(|mut held| {
            fill.hold(held.split_to(1));
            held
        });
    }

    /// It is to get this name in its directory instead of its own.
    pub fn name_as(&mut self, place: &Key) {
        place.file_name().clone_into(&mut self.name);
    }

    /// The file, to write and to serve from.
    pub fn file(&self) -> &Arc<Placed<Locked>> {
        &self.file
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        self.file.to()
    }

    /// Its device and inode, which the whole file will have too.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// The device it lies on.
    pub(crate) fn device(&self) -> u64 {
        self.id.0
    }

    /// The directory it lies in: its device and inode, and its path. One that cannot be asked is nobody's.
    pub(crate) fn own_directory(&self) -> ((u64, u64), &str, &OwnedFd) {
        let id = file::info(&**self.directory).map_or((0, 0), |info| info.id);
        (id, self.key.parent(), &self.directory)
    }

    /// First step of a commit: the origin's date (seconds since 1970) for the complete file, or where there is none a date
    /// that tells it from any that is written later, if it `is_told_by_date`. An error if it has not got the `size` it was
    /// written with, because somebody else was at it.
    pub(crate) fn set_date(&self, size: u64, modified: Option<u64>, is_told_by_date: bool) -> io::Result<()> {
        expect_size(&self.file, size)?;
        self.notes.close();
        match modified {
            Some(secs) => file::set_modified(&*self.file, secs),
            None if is_told_by_date => file::set_modified_now(&*self.file),
            None => Ok(()),
        }
    }

    /// Third step, once the file is on stable storage: its final name.
    pub(crate) fn rename(&mut self) -> io::Result<()> {
        if !self.still_named() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the in-progress file was taken away"));
        }
        file::rename(&*self.directory, &self.key.in_progress(), &self.name)?;
        self.stays = true;
        Ok(())
    }

    /// Takes the name back, if it has not gone to another file.
    pub(crate) fn take_back(&self) {
        if file::is_named(&*self.directory, &self.name, self.id) {
            // What cannot be unlinked is there like any file that was there before.
            drop(file::unlink(&*self.directory, &self.name));
        }
    }

    /// The paths of the directories whose sync is the last step of a commit: its own, then those above it, where some
    /// of them were made for it.
    pub(crate) fn directories(&self) -> Vec<&str> {
        let path = self.key.parent();
        let above = path.rmatch_indices('/').map(|(end, _)| &path[..end]).chain([""]);
        [path].into_iter().chain(above.filter(|_| self.there.is_some())).collect()
    }

    /// Opens a directory of the same cache. Blocks.
    pub(crate) fn open_beside(&self, path: &str) -> io::Result<OwnedFd> {
        self.tree.root.open_directory(path)
    }

    fn still_named(&self) -> bool {
        file::is_named(&*self.directory, &self.key.in_progress(), self.id)
    }
}

/// An error if the file has not got the `size` that was written to it: somebody else was at it. To be
/// asked before each write, since one behind the end of a file that was cut leaves a hole, and nothing
/// tells later. A look costs less than a microsecond, and in the moment between it and the write a cut
/// still goes unseen: the lock binds only those who ask for it, and a file that is open for appending,
/// which would have no such moment, takes no splice(2).
pub fn expect_size(file: &Locked, size: u64) -> io::Result<()> {
    if file::info(file)?.size == size {
        return Ok(());
    }
    Err(io::Error::other("the in-progress file was changed by somebody else"))
}

/// Leaves the file with its `stored` bytes for a later fill, by a thread of a pool. What cannot be left goes.
pub async fn leave<R: Runtime>(mut partial: Partial, stored: u64) {
    let place = partial.place().clone();
    place.work::<R, _>(move || partial.leave(stored)).await.unwrap_or_default();
}

/// Writes behind the `stored` bytes of the file, if it has just these. May wait for the disk.
pub fn append(file: &Locked, bytes: &[u8], stored: u64) -> io::Result<()> {
    expect_size(file, stored).and_then(|()| file::write_at(file, bytes, stored))
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if !self.stays && self.still_named() {
            // What cannot be unlinked is stale from now on and is replaced by the next fill.
            drop(file::unlink(&*self.directory, &self.key.in_progress()));
            self.tree.remove_made(self.key.parent(), self.there, &self.directory);
        }
    }
}

/// The in-progress file of this name, created and locked.
fn acquire(directory: &OwnedFd, name: &str) -> Result<(Locked, Info), BypassReason> {
    for _ in 0..ATTEMPTS {
        match file::create_new(directory, name) {
            Ok(file) => {
                let created = lock_created(directory, name, file)?;
                // Nobody else gives it another name, but it may have been taken for stale before it was locked.
                if created.1.links > 0 {
                    return Ok(created);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => reclaim(directory, name)?,
            Err(error) => return Err(why_not(&error)),
        }
    }
    Err(BypassReason::HeldElsewhere)
}

fn lock_created(directory: &OwnedFd, name: &str, file: OwnedFd) -> Result<(Locked, Info), BypassReason> {
    let locked = file::lock(file).map_err(|error| {
        if file::is_held(&error) {
            return BypassReason::HeldElsewhere;
        }
        // A file system without locks: nothing of ours stays behind.
        drop(file::unlink(directory, name));
        BypassReason::Disk
    })?;
    let info = file::info(&locked).map_err(|error| why_not(&error))?;
    Ok((locked, info))
}

/// Removes what has the name of an in-progress file, unless a fill of another process holds it.
fn reclaim(directory: &OwnedFd, name: &str) -> Result<(), BypassReason> {
    let opened = match file::open_existing(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => file::open_foreign(directory, name),
        opened => opened,
    };
    let removed = match opened {
        Ok(file) => {
            let locked = match file::lock(file) {
                Err(error) if file::is_held(&error) => return Err(BypassReason::HeldElsewhere),
                locked => locked.map_err(|error| why_not(&error))?,
            };
            let id = file::info(&locked).map_err(|error| why_not(&error))?.id;
            // Locked until it is removed. A name that has gone to another file by then is looked at again.
            if file::is_named(directory, name, id) { file::unlink(directory, name) } else { Ok(()) }
        }
        // Taken away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Of another user, who lets nobody read it: not even whether a fill goes on in it can be seen.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => file::unlink(directory, name),
        Err(error) if is_exhausted(&error) => return Err(BypassReason::Descriptors),
        // A link, a socket or an empty directory belongs to no fill.
        Err(_) => match file::info_at(directory, name).map(|info| info.kind) {
            Ok(Kind::Other) => file::unlink(directory, name),
            Ok(Kind::Directory) => file::remove_directory(directory, name),
            Ok(Kind::File) | Err(_) => return Err(BypassReason::Disk),
        },
    };
    removed.map_err(|error| why_not(&error))
}

/// Why nothing can be stored after this error.
fn why_not(error: &io::Error) -> BypassReason {
    if is_exhausted(error) { BypassReason::Descriptors } else { BypassReason::Disk }
}
