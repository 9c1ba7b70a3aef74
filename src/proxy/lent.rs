//! Stored files for which there is no descriptor to stay open: each is opened for as long as it takes to read a piece.
//!
//! So a request for a file never waits for those whose clients take their time, however many these are. Files are
//! opened by the threads that read them and by nobody else, so no more than a few of these are open at a time.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::deliver::silent;
use crate::cache::place::Place;
use crate::cache::{Entry, Found, Store};
use crate::downstream::client::Out;
use crate::downstream::readahead::{self, Heat, PIECE};
use crate::error::{Error, Kind, Side};
use crate::fd_budget::{Descriptors, Purpose};
use crate::key::Key;
use crate::rt::{Runtime, blocking};
use crate::sys::file::Info;

/// A file up to this size is read at one go: it does without a descriptor to stay open where these are short.
pub const SMALL: u64 = 64 * 1024;

/// Where a file has its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shelf {
    /// In the tree.
    Tree,
    /// Beside the tree.
    Sidecars,
}

/// Who lends: the cache, its share of the descriptors, and the patience with its disk.
pub trait Lender: Debug + Send + Sync {
    /// The files.
    fn store(&self) -> &Store;
    /// Who may keep how many of them open.
    fn descriptors(&self) -> &Descriptors;
    /// A disk that does not answer for so long has failed.
    fn stall_time(&self) -> Duration;
}

/// A file by its name, and what it was.
#[derive(Clone, Debug)]
pub struct LentFile {
    lender: Arc<dyn Lender>,
    key: Key,
    shelf: Shelf,
    place: Place,
    /// What it was when it was looked up.
    pub info: Info,
}

impl LentFile {
    /// The file of this name, which has just been opened. It may be closed.
    pub fn new<L: Lender + 'static>(lender: &Arc<L>, key: &Key, shelf: Shelf, entry: &Entry) -> Self {
        let (lender, key) = (Arc::<L>::clone(lender), key.clone());
        Self { lender, key, shelf, place: entry.place().clone(), info: entry.info }
    }

    /// Opens it, if it is still what it was: the time of the inode's change does not count, as it changes with the
    /// stored head. May wait for the disk.
    pub fn open(&self) -> io::Result<Entry> {
        let store = self.lender.store();
        let found = match self.shelf {
            Shelf::Tree => store.look_up(self.key.as_str()),
            Shelf::Sidecars => {
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

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Runs a job with the open file on a thread of a pool: one that reads up to `count` bytes. A disk that does not
    /// answer for a stall timeout has failed; where nothing but its head is read, sooner.
    pub async fn with<R: Runtime, T: Send + 'static>(
        &self,
        count: u64,
        job: impl FnOnce(Entry) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (lent, patience) = (self.clone(), self.lender.stall_time());
        let job = move || lent.open().and_then(job);
        let done = match count {
            0 => self.place.read::<R, _>(job).await,
            1..=SMALL => self.place.read_body::<R, _>(&blocking::SHORT_READS, patience, job).await,
            _ => self.place.read_body::<R, _>(&blocking::READS, patience, job).await,
        };
        let done = done.map_err(|why| Error::with(Side::Disk, Kind::Io, why.as_str()))?;
        done.map_err(|error| Error::with(Side::Disk, Kind::Io, error))
    }

    /// Sends the bytes from `first` to `end`. As soon as there is a descriptor for it to stay open, it does.
    pub async fn send<R: Runtime>(&self, out: &Out<'_, R>, first: u64, end: u64) -> Result<(), Error> {
        let mut at = first;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            if left > PIECE
                && let Some(held) = self.lender.descriptors().try_take(Purpose::File, 1)
            {
                let entry = self.with::<R, _>(0, Ok).await?;
                let entry = Entry { held: Some(held), ..entry };
                return out.send_file(&entry.file, at, end, Heat::Unknown).await;
            }
            let most = left.min(PIECE);
            let piece =
                self.with::<R, _>(most as u64, move |entry| readahead::piece(&*entry.file, at, most)).await?;
            let sent = silent::send_some(out, &piece).await?;
            at += sent as u64;
            if sent < piece.len() {
                // It is read again when the client takes more.
                drop(piece);
                out.writable().await?;
            }
        }
        Ok(())
    }

    /// Fills the buffer from this offset of the file on, as far as there is enough. May wait for the disk.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        readahead::fill(&*self.open()?.file, buffer, at)
    }
}

/// The lent form of an entry without a descriptor of its own.
pub fn lent<L: Lender + 'static>(
    lender: &Arc<L>,
    key: &Key,
    shelf: Shelf,
    entry: &Entry,
) -> Option<LentFile> {
    entry.held.is_none().then(|| LentFile::new(lender, key, shelf, entry))
}
