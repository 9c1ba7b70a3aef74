//! The cache directory: stored responses, and files in progress. Knows no sockets.

pub mod aside;
pub mod claim;
pub mod commit;

pub mod fill;

pub mod fingerprint;
pub mod growing_file;
pub mod inflight;
pub mod lookup;
pub mod memory;
pub mod metadata;
pub mod pace;
pub mod partial;
mod pieces;
pub mod place;
mod recency;
pub mod response;
pub mod responses;
pub mod resume_record;
pub mod room;
pub mod sidecars;

#[cfg(test)]
mod simulation;
pub mod spare;
pub mod stored_file;
mod sweep;
mod temporary;
mod tree;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::budget::Permit;
use crate::rt::lock::Lock;
use crate::sys::file::{self, Info, Kind, Missing, Reach, Root};
use crate::sys::process;
use aside::Shelf;
use commit::Committer;
use inflight::Inflight;
use memory::Memory;
use metadata::MetadataStore;
use pace::Pace;
use partial::{InProgress, LeftOver, Partial};
use place::{Place, Placed, Way};
use resume_record::{Durability, Record};
use sidecars::Sidecars;
use tree::Tree;

/// The most entries of a directory that are listed.
const LISTED: usize = 1 << 16;

/// The cache directory and the table of fills, shared by all workers.
#[derive(Debug)]
pub struct Store {
    tree: Arc<Tree>,
    /// As logs show it.
    path: PathBuf,
    /// Fills in progress in this process.
    pub inflight: Arc<Inflight>,
    /// Gives complete files their names, on this machine.
    pub committer: Arc<Committer>,
    /// The same on file systems whose calls may hang, by their devices.
    remote: Lock<HashMap<u64, Arc<Committer>>>,
    pending: usize,
    /// Whether the disk keeps up.
    pub pace: Arc<Pace>,
    /// Heads of files of the revalidated class.
    pub metadata: Arc<MetadataStore>,
    /// Stored responses that no file can represent.
    pub memory: Arc<Memory>,
    /// Bodies that slow clients do not take.
    pub aside: Arc<Shelf>,
    /// The last response of each path in `memory`, for the next process.
    pub sidecars: Arc<Sidecars>,
}

/// The limits of the store, and its durability.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most complete files that wait for their names. Beyond that fills wait before they begin.
    pub pending: usize,
    /// The most fills at a time.
    pub fills: Option<usize>,
    /// Bytes of responses that no file can represent.
    pub memory: usize,
    /// Files are synced before they get their names.
    pub sync: bool,
}

/// A finished file, open for reading.
#[derive(Debug)]
pub struct Entry {
    /// The file.
    pub file: Arc<Placed<OwnedFd>>,
    /// stat of it when it was opened.
    pub info: Info,
    /// Its share of the descriptors, once it has one.
    pub held: Option<Permit>,
}

impl Entry {
    /// A file that has just been opened.
    pub fn new(file: OwnedFd, info: Info, place: Place) -> Self {
        Self { file: Arc::new(Placed::new(file, place)), info, held: None }
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        self.file.to()
    }

    /// Whether it has not changed and still has a name: a file that was replaced has none. A directory above it that was
    /// renamed is not seen.
    pub fn is_unchanged(&self) -> bool {
        file::info(&self.file).is_ok_and(|info| info == self.info && info.links > 0)
    }
}

/// What the cache has under a key.
#[derive(Debug)]
pub enum Found {
    /// A finished file.
    File(Entry),
    /// A directory.
    Directory,
    /// Nothing.
    Absent,
    /// A file that is neither to be served nor to be replaced.
    Unusable(BypassReason),
}

impl Store {
    /// Opens the cache directory, with these bounds. Starts no thread yet. Blocks; for start-up only.
    pub fn open(path: &Path, bounds: Bounds) -> io::Result<Self> {
        let root = Arc::new(Root::open(path)?);
        let metadata = Arc::new(MetadataStore::new(&root));
        Ok(Self {
            sidecars: Arc::new(Sidecars::open(&root, &metadata, bounds.sync)),
            metadata,
            memory: Arc::new(Memory::new(bounds.memory)),
            aside: Arc::new(Shelf::new(&root)),
            tree: Arc::new(Tree::new(root, Durability::new(bounds.sync, process::boot_id()))),
            path: normalised(path),
            inflight: Arc::new(Inflight::new(bounds.fills.unwrap_or(usize::MAX))),
            committer: Arc::new(Committer::new(bounds.pending, bounds.sync)),
            remote: Lock::default(),
            pending: bounds.pending,
            pace: Arc::default(),
        })
    }

    /// Starts the thread that gives complete files their names.
    pub fn start(&self) -> io::Result<()> {
        self.committer.start()
    }

    /// Opens the cache directory again, if its name stands for another directory by now. Blocks; not for a worker.
    pub fn refresh(&self) -> io::Result<()> {
        let refreshed = self.tree.root.refresh();
        self.tree.forget();
        refreshed
    }

    /// Where a key's file lies, for logs.
    pub fn display(&self, key: &Key) -> String {
        self.display_path(key.as_str())
    }

    /// Where a path relative to the cache directory lies, for logs.
    pub fn display_path(&self, path: &str) -> String {
        self.path.join(path).display().to_string()
    }

    /// Opens the file at this relative path ("" is the top). May wait for the disk, and for another machine.
    pub fn look_up(&self, path: &str) -> Found {
        found(self.tree.root.open_file(named(path)), |file| Place::of(file, &self.way(path)))
    }

    /// The same on the file system of the cache directory, if that is on this machine: `None` where it takes another.
    pub fn look_up_here(&self, path: &str) -> Option<Found> {
        found_here(self.tree.root.open_file_here(named(path)))
    }

    /// The same without the disk; `None` where it might be needed.
    pub fn look_up_cached(&self, path: &str) -> Option<Found> {
        found_here(self.tree.root.open_file_cached(named(path)))
    }

    /// Removes the file of `key` if `is_right` for its size: how many bytes it had. Blocks.
    pub fn drop_if(&self, key: &Key, is_right: impl Fn(u64) -> bool) -> io::Result<Option<u64>> {
        let drop_in = |directory: OwnedFd| {
            let info = file::info_at(&directory, key.file_name())?;
            let goes = info.kind == Kind::File && is_right(info.size);
            if goes {
                file::unlink(&directory, key.file_name())?;
            }
            Ok(goes.then_some(info.size))
        };
        match self.tree.root.open_directory(key.parent()).and_then(drop_in) {
            Err(error) if matches!(file::missing(&error), Missing::Absent) => Ok(None),
            dropped => dropped,
        }
    }

    /// Calls `each` with the files in the directory at this relative path ("" is the top), `LISTED` at most. Those that
    /// cannot be read are left out. Blocks.
    pub fn list(&self, path: &str, mut each: impl FnMut(&str, &Info)) {
        let Ok(directory) = self.tree.root.open_directory(path) else { return };
        let mut count = 0;
        drop(file::entries(&directory, |name, kind| {
            if kind == Kind::File
                && let Ok(info) = file::info_at(&directory, name)
            {
                each(name, &info);
            }
            count += 1;
            count < LISTED
        }));
    }

    /// Removes the in-progress files of this process's fills, at its end: those that no later fill can resume.
    pub fn abandon_all(&self) {
        for (key, file) in self.inflight.begun() {
            let Ok(directory) = self.tree.root.open_directory(key.parent()) else { continue };
            let name = key.in_progress();
            // Another process may have the name by now.
            let is_ours = file::info(&*file).is_ok_and(|ours| file::is_named(&directory, &name, ours.id));
            if is_ours && Record::read(&file).is_none() {
                drop(file::unlink(&directory, &name));
            }
        }
    }

    /// The way to what this path leads to on a file system whose calls may hang.
    pub fn way(&self, path: &str) -> Way {
        Way::new(path, self.tree.root.is_remote())
    }

    /// Whether an earlier fill of `key` has left a file. The look-up of the key has just read the directory, so this
    /// does not wait for the disk. `None` where it takes another machine.
    pub fn has_left_over(&self, key: &Key) -> Option<bool> {
        let directory = match self.tree.open(key.parent(), Reach::Here) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            opened => opened.ok(),
        };
        Some(directory.is_some_and(|directory| file::info_at(&*directory, &key.in_progress()).is_ok()))
    }

    /// Takes over the file that an earlier fill of `key` from `url` has left, if it can be resumed. May wait for the disk,
    /// and for another machine.
    pub fn left_over(&self, key: &Key, url: &[u8]) -> Option<LeftOver> {
        InProgress::take_over(&self.tree, key, url)
    }

    /// Starts to remove in-progress files that were not written to for `age`, of paths that `is_cached`; `removed` is
    /// called for each. See `sweep`.
    pub fn start_sweeping(
        &self,
        age: Duration,
        is_cached: impl Fn(&str) -> bool + Send + 'static,
        removed: impl Fn(&str) + Send + 'static,
    ) -> io::Result<()> {
        sweep::start(Arc::clone(&self.tree.root), age, is_cached, removed)
    }

    /// Creates and locks the in-progress file of `key`. The caller has taken [`room`] for it. `None` where it takes
    /// another machine.
    pub fn begin_here(&self, key: &Key) -> Result<Option<Partial>, BypassReason> {
        InProgress::begin(&self.tree, key, Reach::Here)
    }

    /// The same wherever that is. May wait for another machine.
    pub fn begin(&self, key: &Key) -> Result<Partial, BypassReason> {
        let partial = InProgress::begin(&self.tree, key, Reach::Anywhere)?.ok_or(BypassReason::Disk)?;
        // Files that wait for their names there hold descriptors.
        let is_full = partial.place().is_remote() && !self.committer(partial.place()).rooms.has_room();
        if is_full { Err(BypassReason::DiskBehind) } else { Ok(partial) }
    }

    /// Gives files at this place their names: each file system whose calls may hang has a thread of its own.
    pub fn committer(&self, place: &Place) -> Arc<Committer> {
        let Some(device) = place.device() else { return Arc::clone(&self.committer) };
        let mut remote = self.remote.lock();
        if let Some(committer) = remote.get(&device) {
            return Arc::clone(committer);
        }
        let committer = Arc::new(Committer::new(self.pending, self.tree.durability.sync));
        // Without a thread of its own it shares that of this machine.
        if committer.start().is_err() {
            return Arc::clone(&self.committer);
        }
        remote.insert(device, Arc::clone(&committer));
        committer
    }

    /// Where sidecars lie.
    pub fn beside(&self) -> Place {
        Place::beside(&self.tree.root)
    }
}

/// The top is named `.`
fn named(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// The same as [`found`] on this machine; `None` where that takes more than was allowed.
fn found_here(opened: io::Result<OwnedFd>) -> Option<Found> {
    let is_beyond = opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    (!is_beyond).then(|| found(opened, |_| Place::Local))
}

/// What was opened, and where it lies; or why it could not be.
fn found(opened: io::Result<OwnedFd>, place: impl FnOnce(&OwnedFd) -> Place) -> Found {
    match opened.and_then(|file| Ok((file::info(&file)?, file))) {
        Ok((info, file)) => match info.kind {
            Kind::File => {
                let place = place(&file);
                Found::File(Entry::new(file, info, place))
            }
            Kind::Directory => Found::Directory,
            Kind::Other => Found::Unusable(BypassReason::NotRegular),
        },
        Err(error) => match file::missing(&error) {
            Missing::Absent => Found::Absent,
            Missing::Outside => Found::Unusable(BypassReason::LeadsOutside),
            Missing::NotRegular => Found::Unusable(BypassReason::NotRegular),
            Missing::Exhausted => Found::Unusable(BypassReason::Descriptors),
            Missing::Refused => Found::Unusable(BypassReason::Disk),
        },
    }
}

/// A path as the logs of the original showed it: without `.`, and without the components that `..` takes back.
fn normalised(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            Component::ParentDir | Component::Normal(_) | Component::RootDir | Component::Prefix(_) => {
                plain.push(component);
            }
        }
    }
    plain
}
