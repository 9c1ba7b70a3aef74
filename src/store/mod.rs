//! The cache directory: finished files, and files in progress. Knows no sockets.

pub mod commit;
pub mod documents;
pub mod fill;
pub mod heads;
pub mod inflight;
pub mod mark;
pub mod memory;
pub mod pace;
pub mod partial;
pub mod record;
pub mod room;
pub mod sets;
#[cfg(test)]
mod simulation;
pub mod spare;
mod sweep;
mod temporary;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::key::Key;
use crate::outcome::Why;
use crate::rt::budget::Permit;
use crate::sys::file::{self, Info, Kind, Missing, Root};
use crate::sys::process;
use commit::Committer;
use documents::Documents;
use heads::Heads;
use inflight::Inflight;
use memory::Memory;
use pace::Pace;
use partial::{LeftOver, Parents, Partial};
use record::{Keeping, Record};

/// Entries of a directory that are looked at when it is listed.
const LISTED: usize = 1 << 16;

/// The cache directory and the table of fills, shared by all workers.
#[derive(Debug)]
pub struct Store {
    root: Arc<Root>,
    /// As it is shown in logs.
    path: PathBuf,
    /// Fills in progress in this process.
    pub inflight: Arc<Inflight>,
    /// The way from whole to named.
    pub committer: Committer,
    /// Whether the disk keeps up.
    pub pace: Arc<Pace>,
    /// Heads of files that are checked with the origin.
    pub heads: Arc<Heads>,
    /// Answers that no file can stand for.
    pub memory: Memory,
    /// The last of them for each path, for the next process.
    pub documents: Arc<Documents>,
    parents: Parents,
    keeping: Arc<Keeping>,
}

/// What the store may take, and how it keeps.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Whole files that wait for their names; with so many the next ones wait before they are begun.
    pub pending: usize,
    /// Files that are being fetched.
    pub fills: Option<usize>,
    /// Bytes of answers that no file can stand for.
    pub memory: usize,
    /// Files are on stable storage before they get their names.
    pub sync: bool,
}

/// A finished file, open for reading.
#[derive(Debug)]
pub struct Entry {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// What it was when it was opened.
    pub info: Info,
    /// Its share of the descriptors, once it has one.
    pub held: Option<Permit>,
    /// It lies where a call may wait for another machine.
    pub is_remote: bool,
}

impl Entry {
    /// A file that has just been opened.
    pub fn new(file: OwnedFd, info: Info) -> Self {
        Self { file: Arc::new(file), info, held: None, is_remote: false }
    }

    /// Is it still the file it was, with a name? One that was replaced has none left. What this
    /// cannot see is a directory above it that was renamed.
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
    /// Something that is not to be served, nor to be replaced.
    Unusable(Why),
}

impl Store {
    /// Opens the cache directory, with these bounds. Starts no thread yet. Blocks; for start-up only.
    pub fn open(path: &Path, bounds: Bounds) -> io::Result<Self> {
        let root = Arc::new(Root::open(path)?);
        let heads = Arc::new(Heads::new(&root));
        Ok(Self {
            documents: Arc::new(Documents::open(&root, &heads, bounds.sync)),
            heads,
            memory: Memory::new(bounds.memory),
            root,
            path: normalised(path),
            inflight: Arc::new(Inflight::new(bounds.fills.unwrap_or(usize::MAX))),
            committer: Committer::new(bounds.pending, bounds.sync),
            pace: Arc::default(),
            parents: Parents::default(),
            keeping: Arc::new(Keeping::new(bounds.sync, process::boot_id())),
        })
    }

    /// Starts the thread that gives whole files their names.
    pub fn start(&self) -> io::Result<()> {
        self.committer.start()
    }

    /// Follows the cache directory's name, should it stand for another directory by now. Blocks;
    /// not for a worker.
    pub fn refresh(&self) -> io::Result<()> {
        let refreshed = self.root.refresh();
        // What was opened before may lie elsewhere by now.
        self.parents.forget();
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

    /// Opens what is there at this relative path ("" is the top). May wait for the disk, and for another machine.
    pub fn look_up(&self, path: &str) -> Found {
        match found(self.root.open_file(named(path))) {
            Found::File(entry) => Found::File(Entry { is_remote: file::is_remote(&entry.file), ..entry }),
            other @ (Found::Directory | Found::Absent | Found::Unusable(_)) => other,
        }
    }

    /// The same on the file system of the cache directory, which is this machine's: `None` where it takes another.
    pub fn look_up_here(&self, path: &str) -> Option<Found> {
        match self.root.open_file_here(named(path)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            opened => Some(found(opened)),
        }
    }

    /// The same where it takes no disk; `None` where it might.
    pub fn look_up_cached(&self, path: &str) -> Option<Found> {
        match self.root.open_file_cached(named(path)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            opened => Some(found(opened)),
        }
    }

    /// Removes the file of `key` if that is right for one of its size: how many bytes it had. Blocks.
    pub fn drop_if(&self, key: &Key, is_right: impl Fn(u64) -> bool) -> io::Result<Option<u64>> {
        let absent = |error: &io::Error| matches!(file::missing(error), Missing::Absent);
        let found = self.root.open_directory(key.parent()).and_then(|directory| {
            let info = file::info_at(&directory, key.file_name())?;
            let goes = info.kind == Kind::File && is_right(info.size);
            if goes {
                file::unlink(&directory, key.file_name())?;
            }
            Ok(goes.then_some(info.size))
        });
        if found.as_ref().is_err_and(absent) { Ok(None) } else { found }
    }

    /// Calls `each` with the files in the directory of this relative path ("" is the top), `LISTED` at most. What
    /// cannot be read is left out. Blocks.
    pub fn list(&self, path: &str, mut each: impl FnMut(&str, &Info)) {
        let opened =
            self.root.open_directory(path).and_then(|directory| Ok((directory.try_clone()?, directory)));
        let Ok((named, directory)) = opened else { return };
        let mut count = 0;
        drop(file::entries(directory, |name, kind| {
            if kind == Kind::File
                && let Ok(info) = file::info_at(&named, name)
            {
                each(name, &info);
            }
            count += 1;
            count < LISTED
        }));
    }

    /// Removes the in-progress files of this process's fills, at its end: those that no later fill
    /// could go on with.
    pub fn abandon_all(&self) {
        for (key, file) in self.inflight.begun() {
            let Ok(directory) = self.root.open_directory(key.parent()) else { continue };
            let name = key.in_progress();
            // Another process may have the name by now.
            let ours =
                file::info(&*file).and_then(|ours| Ok(ours.id == file::info_at(&directory, &name)?.id));
            if ours.unwrap_or(false) && Record::read(&file).is_none() {
                drop(file::unlink(&directory, &name));
            }
        }
    }

    /// Is there anything left of an earlier fill of `key`? One look at a directory that a look-up of
    /// the key itself has just read.
    pub fn has_left_over(&self, key: &Key) -> bool {
        let parent = key.parent();
        let open = || {
            let directory = Arc::new(self.root.open_directory(parent).ok()?);
            // The fill that is about to begin needs it too.
            self.parents.put(parent, &directory);
            Some(directory)
        };
        let directory = self.parents.get(parent).or_else(open);
        directory.is_some_and(|directory| file::info_at(&directory, &key.in_progress()).is_ok())
    }

    /// Takes over what an earlier fill of `key` from `url` has left, if this one can go on with it.
    /// May wait for the disk.
    pub fn left_over(&self, key: &Key, url: &[u8]) -> Option<LeftOver> {
        Partial::take_over(&self.root, &self.keeping, key, url)
    }

    /// Starts to remove in-progress files that nobody has touched for `age`, of paths that `is_cached`
    /// knows; `removed` is told of each. See `sweep`.
    pub fn start_sweeping(
        &self,
        age: Duration,
        is_cached: impl Fn(&str) -> bool + Send + 'static,
        removed: impl Fn(&str) + Send + 'static,
    ) -> io::Result<()> {
        sweep::start(Arc::clone(&self.root), age, is_cached, removed)
    }

    /// Creates and locks the in-progress file of `key`. Whoever begins one has room for it, see [`room`].
    pub fn begin(&self, key: &Key) -> Result<Partial, Why> {
        Partial::begin(&self.root, &self.parents, &self.keeping, key)
    }
}

/// The top has no name of its own.
fn named(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// What has been opened, or why it could not be.
fn found(opened: io::Result<OwnedFd>) -> Found {
    match opened.and_then(|file| Ok((file::info(&file)?, file))) {
        Ok((info, file)) => match info.kind {
            Kind::File => Found::File(Entry::new(file, info)),
            Kind::Directory => Found::Directory,
            Kind::Other => Found::Unusable(Why::NotRegular),
        },
        Err(error) => match file::missing(&error) {
            Missing::Absent => Found::Absent,
            Missing::Outside => Found::Unusable(Why::LeadsOutside),
            Missing::NotRegular => Found::Unusable(Why::NotRegular),
            Missing::Exhausted => Found::Unusable(Why::Descriptors),
            Missing::Refused => Found::Unusable(Why::Disk),
        },
    }
}

/// A path as the original's logs showed it: without `.`, and without what `..` takes back.
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
