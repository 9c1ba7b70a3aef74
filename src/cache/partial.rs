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
use super::parents::{Parents, is_beyond, open_or_make, placed, why_not};
use super::place::{Place, Placed};
use super::resume_record::{Durability, Record, ResumeJournal};
use crate::http::identity::Identity;
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::Runtime;
use crate::rt::budget::Permit;
use crate::sys::file::{self, Kind, Locked, Reach, Root};
use crate::sys::is_exhausted;

/// Races lost against other processes before giving up on storing.
const ATTEMPTS: usize = 16;

/// Times that the way to a directory is walked which others may just have taken away.
const WALKS: usize = 2;

/// A file being filled. Its end is no worker's business where it lies elsewhere.
pub type Partial = Placed<InProgress>;

/// The same. Unlinked on drop unless it got its final name, or is left for a later fill.
#[derive(Debug)]
pub struct InProgress {
    root: Arc<Root>,
    directory: Arc<Placed<OwnedFd>>,
    /// Directories were made for it: their entries need syncing too, and without it they go again.
    new_parents: Option<NewParents>,
    in_progress: String,
    name: String,
    file: Arc<Placed<Locked>>,
    /// Device and inode.
    id: (u64, u64),
    notes: Arc<ResumeJournal>,
    left: bool,
    done: bool,
    /// The directory's share of the descriptors.
    held: Option<Permit>,
}

/// Directories that were made for a file: those of `path` beyond its first `there` bytes.
#[derive(Debug)]
struct NewParents {
    path: String,
    there: usize,
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
    pub(crate) fn begin(
        root: &Arc<Root>,
        parents: &Parents,
        keeping: &Arc<Durability>,
        key: &Key,
        reach: Reach,
    ) -> Option<Result<Partial, BypassReason>> {
        match Self::begin_within(root, parents, keeping, key, reach) {
            Err(None) => None,
            Err(Some(why)) => Some(Err(why)),
            Ok(partial) => Some(Ok(partial)),
        }
    }

    fn begin_within(
        root: &Arc<Root>,
        parents: &Parents,
        keeping: &Arc<Durability>,
        key: &Key,
        reach: Reach,
    ) -> Result<Partial, Option<BypassReason>> {
        let (parent, in_progress) = (key.parent(), key.in_progress());
        let known = parents.get(parent);
        if known.as_ref().is_some_and(|known| is_beyond(reach, known)) {
            return Err(None);
        }
        let mut found = known.map(|known| (acquire(&known, &in_progress), known));
        let mut made = None;
        for _ in 0..WALKS {
            // It may be gone by now: the way to it is walked again.
            if let None | Some((Err(BypassReason::Disk), _)) = found {
                let (directory, there) = open_or_make(root, parent, reach)?;
                made = made.or(there);
                parents.put(parent, &directory);
                found = Some((acquire(&directory, &in_progress), directory));
            }
        }
        let (acquired, directory) = found.ok_or(Some(BypassReason::Disk))?;
        let new_parents = made.map(|there| NewParents { path: parent.to_owned(), there });
        let acquired = acquired.inspect_err(|_| remove_empty(root, &directory, new_parents.as_ref()))?;
        let mut partial = Self::around(root, directory, keeping, key, acquired);
        partial.new_parents = new_parents;
        Ok(partial)
    }

    fn around(
        root: &Arc<Root>,
        directory: Arc<Placed<OwnedFd>>,
        keeping: &Arc<Durability>,
        key: &Key,
        (file, id): (Locked, (u64, u64)),
    ) -> Partial {
        let place = directory.to().clone();
        let file = Arc::new(Placed::new(file, place.clone()));
        let partial = Self {
            root: Arc::clone(root),
            directory,
            new_parents: None,
            in_progress: key.in_progress(),
            name: key.file_name().to_owned(),
            notes: Arc::new(ResumeJournal::new(&file, keeping)),
            file,
            id,
            left: false,
            done: false,
            held: None,
        };
        Partial::new(partial, place)
    }

    /// Takes over what a fill of `key` from `url` has left, if it can be gone on with. What cannot
    /// stays, for [`Self::begin`] to replace. May wait for the disk.
    pub(crate) fn take_over(
        root: &Arc<Root>,
        keeping: &Arc<Durability>,
        key: &Key,
        url: &[u8],
    ) -> Option<LeftOver> {
        let directory = placed(root, key.parent(), root.open_directory(key.parent()).ok()?, Reach::Anywhere);
        let opened = file::open_existing(&directory, &key.in_progress()).ok()?;
        let locked = file::lock(opened).ok()?;
        let info = file::info(&locked).ok()?;
        // With another name it may be somebody's copy, which is not to change.
        if info.kind != Kind::File || info.links != 1 {
            return None;
        }
        let record =
            Record::read(&locked).filter(|record| record.url == url && record.mark.holds(&locked))?;
        let stored = record.trusted(info.size, keeping.boot.as_deref());
        let mut partial = Self::around(root, directory, keeping, key, (locked, info.id));
        // From here on a way out must not remove it.
        partial.left = true;
        if stored == 0 || !partial.still_named() {
            return None;
        }
        if stored < info.size {
            // Of another run of the system, and locked: nobody is served from it.
            file::truncate(&**partial.file, stored).ok()?;
        }
        partial.left = false;
        // Which of the directories were made for it nobody knows any more, nor whether they were synced.
        partial.new_parents = Some(NewParents { path: key.parent().to_owned(), there: 0 });
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
        self.left = expect_size(&self.file, stored).is_ok() && self.notes.leave(stored);
        if self.left {
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

    /// The directory it lies in.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
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
        file::rename(&self.directory, &self.in_progress, &self.name)?;
        self.done = true;
        Ok(())
    }

    /// Takes the name back, if it has not gone to another file.
    pub(crate) fn take_back(&self) {
        if file::info_at(&self.directory, &self.name).is_ok_and(|named| named.id == self.id) {
            // What cannot be unlinked is there like any file that was there before.
            drop(file::unlink(&self.directory, &self.name));
        }
    }

    /// The paths of the directories that directories were made in for it: their sync is the last step,
    /// beside that of its own.
    pub(crate) fn new_parents(&self) -> Vec<&str> {
        let Some(NewParents { path, .. }) = &self.new_parents else { return Vec::new() };
        path.rmatch_indices('/').map(|(end, _)| &path[..end]).chain([""]).collect()
    }

    /// Opens a directory of the same cache. Blocks.
    pub(crate) fn open_beside(&self, path: &str) -> io::Result<OwnedFd> {
        self.root.open_directory(path)
    }

    fn still_named(&self) -> bool {
        file::info_at(&self.directory, &self.in_progress).is_ok_and(|named| named.id == self.id)
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
        if !self.done && !self.left && self.still_named() {
            // What cannot be unlinked is stale from now on and is replaced by the next fill.
            drop(file::unlink(&self.directory, &self.in_progress));
            remove_empty(&self.root, &self.directory, self.new_parents.as_ref());
        }
    }
}

/// An empty directory would stand in the way of a file of that name.
fn remove_empty(root: &Root, directory: &OwnedFd, new: Option<&NewParents>) {
    if let Some(NewParents { path, there }) = new
        && let Ok(info) = file::info(directory)
    {
        root.remove_empty(path, *there, info.id);
    }
}

/// The file, locked, and its device and inode.
fn acquire(directory: &OwnedFd, name: &str) -> Result<(Locked, (u64, u64)), BypassReason> {
    let mut why = BypassReason::HeldElsewhere;
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
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_fresh => {
                file::open_foreign(directory, name)
            }
            result => result,
        };
        let opened = match opened {
            // Taken away in between; or the directory itself is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                why = BypassReason::Disk;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_fresh => {
                // Of another user, who lets nobody read it: not even whether a fill goes on in it can be seen.
                file::unlink(directory, name).map_err(|error| why_not(&error))?;
                continue;
            }
            Err(error) if is_exhausted(&error) => return Err(BypassReason::Descriptors),
            Err(_) if !is_fresh => {
                // A link, a socket or an empty directory: no fill of anybody's.
                match file::info_at(directory, name).map(|info| info.kind) {
                    Ok(Kind::Other) => file::unlink(directory, name),
                    Ok(Kind::Directory) => file::remove_directory(directory, name),
                    Ok(Kind::File) | Err(_) => return Err(BypassReason::Disk),
                }
                .map_err(|error| why_not(&error))?;
                continue;
            }
            result => result.map_err(|error| why_not(&error))?,
        };
        let locked = match file::lock(opened) {
            Err(error) if file::is_held(&error) => return Err(BypassReason::HeldElsewhere),
            Err(_) if is_fresh => {
                // A file system without locks: nothing of ours stays behind.
                drop(file::unlink(directory, name));
                return Err(BypassReason::Disk);
            }
            result => result.map_err(|error| why_not(&error))?,
        };
        let mine = file::info(&locked).map_err(|error| why_not(&error))?;
        // Ours had this name; nobody gives it another, but it may have been taken for stale.
        if is_fresh && mine.links > 0 {
            return Ok((locked, mine.id));
        }
        if is_fresh || !file::info_at(directory, name).is_ok_and(|named| named.id == mine.id) {
            continue;
        }
        // Stale and ours alone: away with it, and once more from the start.
        file::unlink(directory, name).map_err(|error| why_not(&error))?;
    }
    Err(why)
}
