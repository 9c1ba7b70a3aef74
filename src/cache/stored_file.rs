//! A stored file: open, or opened for as long as it takes to read a piece where no descriptor is left to keep it open.
//!
//! So a request for a file never waits for those whose clients take their time, however many these are. Such files are
//! opened by the threads that read them and by nobody else, so no more than a few of them are open at a time.

use std::io;
use std::sync::Arc;

use super::lookup::{Cache, SMALL};
use super::place::Place;
use super::{Entry, Found};
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::rt::{Runtime, blocking};
use crate::sys::file::{self, Info};

/// Where a file has its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// In the tree.
    Tree,
    /// Beside the tree: it may be one of several variants.
    Sidecars,
}

/// A stored file, for a request.
#[derive(Clone, Debug)]
pub enum StoredFile {
    /// It stays open, and is counted, for as long as anybody has this.
    Open(Arc<Entry>),
    /// It is opened for a moment at a time.
    Lent(Arc<LentFile>),
}

/// A file by its name, and what it was.
#[derive(Clone, Debug)]
pub struct LentFile {
    cache: Arc<Cache>,
    key: Key,
    location: Location,
    place: Place,
    /// What it was when it was looked up.
    pub info: Info,
}

impl StoredFile {
    /// A file of this name that has just been opened. It stays open if it has a descriptor of its own.
    pub fn new(cache: &Arc<Cache>, key: &Key, location: Location, entry: impl Into<Arc<Entry>>) -> Self {
        let entry = entry.into();
        if entry.held.is_some() {
            return Self::Open(entry);
        }
        Self::Lent(Arc::new(LentFile::new(cache, key, location, &entry)))
    }

    /// What it was when it was opened.
    pub fn info(&self) -> &Info {
        match self {
            Self::Open(entry) => &entry.info,
            Self::Lent(lent) => &lent.info,
        }
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        match self {
            Self::Open(entry) => entry.place(),
            Self::Lent(lent) => &lent.place,
        }
    }

    /// Opens it, if it is not open and still what it was. May wait for the disk.
    pub fn open(&self) -> io::Result<Arc<Entry>> {
        match self {
            Self::Open(entry) => Ok(Arc::clone(entry)),
            Self::Lent(lent) => lent.open().map(Arc::new),
        }
    }

    /// Fills the buffer from this offset of the file on, as far as there is enough. May wait for the disk.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        file::fill_from(&*self.open()?.file, buffer, at)
    }
}

impl LentFile {
    /// The file of this name, which has just been opened. It may be closed.
    pub fn new(cache: &Arc<Cache>, key: &Key, location: Location, entry: &Entry) -> Self {
        let (cache, key, place) = (Arc::clone(cache), key.clone(), entry.place().clone());
        Self { cache, key, location, place, info: entry.info }
    }

    /// Opens it, if it is still what it was: the time of the inode's change does not count, as it changes with the
    /// stored head. May wait for the disk.
    pub fn open(&self) -> io::Result<Entry> {
        let store = &self.cache.store;
        let found = match self.location {
            Location::Tree => store.look_up(self.key.as_str()),
            Location::Sidecars => {
                store.sidecars.read(&self.key).map_or(Found::Absent, |(entry, _)| Found::File(entry))
            }
        };
        let is = |info: &Info| (info.id, info.size, info.modified);
        match found {
            Found::File(entry) if is(&entry.info) == is(&self.info) => Ok(entry),
            Found::File(_) | Found::Absent | Found::Directory => Err(io::ErrorKind::NotFound.into()),
            Found::Unusable(why) => Err(io::Error::other(why.as_str())),
        }
    }

    /// The cache that it is of.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Runs a job with the open file on a thread of a pool: one that reads up to `count` bytes. A disk that does not
    /// answer for a stall timeout has failed; where nothing but the head is read, sooner.
    pub async fn with<R: Runtime, T: Send + 'static>(
        &self,
        count: u64,
        job: impl FnOnce(Entry) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (lent, patience) = (self.clone(), self.cache.stall_time);
        let job = move || lent.open().and_then(job);
        let done = match count {
            0 => self.place.read::<R, _>(job).await,
            1..=SMALL => self.place.read_body::<R, _>(&blocking::SHORT_READS, patience, job).await,
            _ => self.place.read_body::<R, _>(&blocking::READS, patience, job).await,
        };
        let done = done.map_err(|why| Error::with(Side::Disk, Kind::Io, why.as_str()))?;
        done.map_err(|error| Error::with(Side::Disk, Kind::Io, error))
    }
}
