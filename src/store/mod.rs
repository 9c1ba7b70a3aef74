//! The cache directory: finished files, and files in progress. Knows no sockets.

pub mod commit;
pub mod fill;
pub mod inflight;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod model;
pub mod pace;
pub mod partial;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::key::Key;
use crate::outcome::Why;
use crate::sys::file::{self, Info, Kind, Missing, Root};
use commit::Committer;
use inflight::Inflight;
use pace::Pace;
use partial::{Parents, Partial};

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
    parents: Parents,
}

/// A finished file, open for reading.
#[derive(Debug)]
pub struct Entry {
    /// The file.
    pub file: OwnedFd,
    /// What it was when it was opened.
    pub info: Info,
}

impl Entry {
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
    /// Opens the cache directory. With `pending` whole files that have no name yet, no more are
    /// begun. Blocks; for start-up only.
    pub fn open(path: &Path, pending: usize) -> io::Result<Self> {
        Ok(Self {
            root: Arc::new(Root::open(path)?),
            path: normalised(path),
            inflight: Arc::default(),
            committer: Committer::start(pending)?,
            pace: Arc::default(),
            parents: Parents::default(),
        })
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

    /// Opens what is there at this relative path ("" is the top). May wait for the disk.
    pub fn look_up(&self, path: &str) -> Found {
        found(self.root.open_file(named(path)))
    }

    /// The same where it takes no disk; `None` where it might.
    pub fn look_up_cached(&self, path: &str) -> Option<Found> {
        match self.root.open_file_cached(named(path)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            opened => Some(found(opened)),
        }
    }

    /// Removes the in-progress files of this process's fills, at its end.
    pub fn abandon_all(&self) {
        for (key, file) in self.inflight.begun() {
            let Ok(directory) = self.root.open_directory(key.parent()) else { continue };
            let name = key.in_progress();
            // Another process may have the name by now.
            let ours =
                file::info(&*file).and_then(|ours| Ok(ours.id == file::info_at(&directory, &name)?.id));
            if ours.unwrap_or(false) {
                drop(file::unlink(&directory, &name));
            }
        }
    }

    /// Creates and locks the in-progress file of `key`.
    pub fn begin(&self, key: &Key) -> Result<Partial, Why> {
        if self.committer.is_full() {
            return Err(Why::DiskBehind);
        }
        Partial::begin(&self.root, &self.parents, key)
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
            Kind::File => Found::File(Entry { file, info }),
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
