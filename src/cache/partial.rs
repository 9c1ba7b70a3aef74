//! The in-progress file: created, locked, filled, then renamed or removed.
//!
//! The process that holds the lock of the file with the in-progress name owns the fill. A file that no process holds is
//! stale: a fill resumes it if it has a record and the origin's validator is still the same. Else it is unlinked and
//! created again, never overwritten, since a follower of an earlier fill may still be served from it. Between open and
//! lock the name may go to another file, so the two are compared after the lock.

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

/// Times that a directory is opened or made which other processes may remove meanwhile.
const WALKS: usize = 2;

/// A file being filled. On a file system that may hang it is closed by another thread.
pub type Partial = Placed<InProgress>;

/// The same. Unlinked on drop unless it has its final name, or is left for a later fill.
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
    journal: Arc<ResumeJournal>,
    /// If directories were made for it: how many bytes of the path named those that were there before. The new ones are
    /// synced with the file, and removed without it.
    there: Option<usize>,
    /// Not to be unlinked: it has its final name, or is left.
    stays: bool,
    /// The directory's share of the descriptors.
    held: Option<Permit>,
}

/// The file of a fill that was interrupted, for a later fill to resume. Removed on drop, unless it is left once more.
#[derive(Debug)]
pub struct LeftOver {
    /// The file, locked.
    pub partial: Partial,
    /// Its record.
    pub record: Record,
    /// Its length in bytes; at least one.
    pub stored: u64,
}

impl InProgress {
    /// Creates and locks the in-progress file of `key`, and the directories above it. `None` where that takes more
    /// `reach`.
    pub(crate) fn begin(tree: &Arc<Tree>, key: &Key, reach: Reach) -> Result<Option<Partial>, BypassReason> {
        let (path, mut made) = (key.parent(), None);
        let Ok(mut known) = tree.known(path, reach) else { return Ok(None) };
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
                // The directory may be removed by now: it is opened or made again.
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
            journal: Arc::new(ResumeJournal::new(&file, &tree.durability)),
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
        // With another name it may be a user's copy, which must not change.
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
        partial.journal.describe(record.clone(), true);
        Some(LeftOver { partial, record, stored })
    }

    /// Describes the complete file in the record, so that a later fill can resume it.
    pub fn describe(&self, url: Vec<u8>, content_type: Vec<u8>, identity: Identity) {
        let mark = Fingerprint::default();
        self.journal.describe(Record { boot: None, synced: 0, mark, url, content_type, identity }, false);
    }

    /// The journal that writes the file's record.
    pub fn journal(&self) -> &Arc<ResumeJournal> {
        &self.journal
    }

    /// Leaves the file with its `stored` bytes for a later fill, if that can resume it. Followers still read it. May wait
    /// for the disk.
    pub fn leave(&mut self, stored: u64) {
        self.stays = expect_size(&self.file, stored).is_ok() && self.journal.leave(stored);
        if self.stays {
            // After an error it is unlocked when the last follower has read it.
            drop(file::unlock(&self.file));
        }
    }

    /// Holds the descriptors that were taken for it: that of the file goes to the fill, whose followers may read it for
    /// longer.
    pub fn hold(&mut self, naming: Option<Permit>, fill: &Fill) {
        self.held = naming.map(|mut held| {
            fill.hold(held.split_to(1));
            held
        });
    }

    /// Gives it another final name, in the same directory.
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

    /// Its directory: device and inode, path, and the directory. After an error of stat device and inode are 0.
    pub(crate) fn own_directory(&self) -> ((u64, u64), &str, &OwnedFd) {
        let id = file::info(&**self.directory).map_or((0, 0), |info| info.id);
        (id, self.key.parent(), &self.directory)
    }

    /// First step of a commit: sets the origin's date (seconds since 1970). Where there is none, and the file
    /// `is_told_by_date` from later ones, sets a date that no other file has. An error if it has not the `size` that was
    /// written, because another program has changed it.
    pub(crate) fn set_date(&self, size: u64, modified: Option<u64>, is_told_by_date: bool) -> io::Result<()> {
        expect_size(&self.file, size)?;
        self.journal.close();
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

    /// Removes its name, if that has not gone to another file.
    pub(crate) fn take_back(&self) {
        if file::is_named(&*self.directory, &self.name, self.id) {
            // After an error it stays, like any file that was there before.
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

/// An error if the file has not the `size` that was written to it: another program has changed it. To be called before
/// each write, since a write behind the end of a truncated file leaves a hole that nothing shows later. The call takes
/// less than a microsecond. A change between it and the write is not seen: the lock is advisory, and splice(2) takes no
/// file that is open for appending.
pub fn expect_size(file: &Locked, size: u64) -> io::Result<()> {
    if file::info(file)?.size == size {
        return Ok(());
    }
    Err(io::Error::other("the in-progress file was changed by somebody else"))
}

/// Leaves the file with its `stored` bytes for a later fill, on a thread of a pool; removes it if that fails.
pub async fn leave<R: Runtime>(mut partial: Partial, stored: u64) {
    let place = partial.place().clone();
    place.work::<R, _>(move || partial.leave(stored)).await.unwrap_or_default();
}

/// Appends to the `stored` bytes of the file, if these are all that it has. May wait for the disk.
pub fn append(file: &Locked, bytes: &[u8], stored: u64) -> io::Result<()> {
    expect_size(file, stored).and_then(|()| file::write_at(file, bytes, stored))
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if !self.stays && self.still_named() {
            // After an error it is stale from now on, and the next fill replaces it.
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
                // Another process may have unlinked it as stale before it was locked.
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
        // A file system without locks: the new file is removed.
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
            // Locked until it is removed. If the name has gone to another file, the next attempt reclaims that.
            if file::is_named(directory, name, id) { file::unlink(directory, name) } else { Ok(()) }
        }
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Another user's, without the right to read it: whether it is locked cannot be found out.
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
