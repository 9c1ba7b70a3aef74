//! Files without a name for bodies that memory has no room for: those that slow clients do not take, and responses that
//! are too long for memory. One file holds many of them.
//!
//! Nothing of them is left when the process ends, however that happens. Each place in a file is written once: sendfile(2)
//! gives a socket the pages themselves, so a client that has not read them yet would see later writes. So a long file is
//! replaced by a new one, and is closed when no body in it is read any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::place::{Place, Placed};
use super::temporary::{Temporary, directory};
use crate::fd_budget::{Descriptors, Purpose};
use crate::rt::blocking;
use crate::rt::budget::Permit;
use crate::rt::lock::Lock;
use crate::sys::file::{self, Reach, Root};

/// Bytes of one file, if there is a descriptor for another.
const LONG: u64 = 64 * 1024 * 1024;

/// The files, of which the last one is being filled.
#[derive(Debug)]
pub struct Shelf {
    root: Arc<Root>,
    /// Each file but the first takes one of these.
    descriptors: OnceLock<Descriptors>,
    /// See [`Self::lately`].
    lately: AtomicU64,
    current: Lock<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    file: Arc<Placed<Nameless>>,
    /// Where the next body begins.
    end: u64,
}

/// A file without a name.
#[derive(Debug)]
pub struct Nameless {
    file: OwnedFd,
    _held: Option<Permit>,
}

impl AsFd for Nameless {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A body in such a file.
#[derive(Debug)]
pub struct Aside {
    shelf: Arc<Shelf>,
    /// Taken on drop.
    file: Option<Arc<Placed<Nameless>>>,
    first: u64,
    /// Bytes written so far.
    count: u64,
}

impl Shelf {
    /// No file is there yet.
    pub(crate) fn new(root: &Arc<Root>) -> Self {
        let (descriptors, lately) = (OnceLock::new(), AtomicU64::new(0));
        Self { root: Arc::clone(root), descriptors, lately, current: Lock::default() }
    }

    /// Gives it descriptors for more than one file.
    pub fn draw_on(&self, descriptors: &Descriptors) {
        drop(self.descriptors.set(descriptors.clone()));
    }

    /// Bytes written since [`Self::forget`]: about as many are free in memory.
    pub fn lately(&self) -> u64 {
        self.lately.load(Ordering::Relaxed)
    }

    /// Resets [`Self::lately`] to 0.
    pub fn forget(&self) {
        self.lately.store(0, Ordering::Relaxed);
    }

    /// Writes a whole body, see [`Self::begin`].
    pub fn put(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Aside> {
        let mut aside = self.begin(bytes.len() as u64)?;
        aside.append(bytes)?;
        Ok(aside)
    }

    /// Reserves a place that was never written to, for a body of up to `most` bytes. May wait for the disk.
    pub fn begin(self: &Arc<Self>, most: u64) -> io::Result<Aside> {
        let spare = self.descriptors.get().and_then(|descriptors| descriptors.try_take(Purpose::File, 1));
        let mut current = self.current.lock();
        let is_due = current.as_ref().is_none_or(|current| current.end >= LONG && spare.is_some());
        if is_due {
            let file = Nameless { file: self.create()?, _held: spare };
            let file = Arc::new(Placed::new(file, Place::Local));
            *current = Some(Current { file, end: 0 });
        }
        let Some(current) = &mut *current else { return Err(io::ErrorKind::NotFound.into()) };
        let (file, first) = (Arc::clone(&current.file), current.end);
        current.end += most;
        Ok(Aside { shelf: Arc::clone(self), file: Some(file), first, count: 0 })
    }

    fn create(&self) -> io::Result<OwnedFd> {
        if self.root.is_remote() {
            // No request is to wait for another machine because of a silent client.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (directory, _) = self.root.make_directory(&directory(), None, Reach::Anywhere)?;
        // The drop removes its name.
        Temporary::create(&directory)?.file().try_clone()
    }

    /// Takes out the file that is being filled, if no body is in it.
    fn take_idle(&self) -> Option<Current> {
        self.current.lock().take_if(|current| Arc::strong_count(&current.file) == 1)
    }
}

impl Aside {
    /// Bytes written so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The same place, for one more reader.
    pub fn reader(&self) -> Self {
        let (shelf, file) = (Arc::clone(&self.shelf), self.file.clone());
        Self { shelf, file, first: self.first, count: self.count }
    }

    /// Appends to the body, within its place. May wait for the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &self.file {
            file::write_at(&**file, bytes, self.first + self.count)?;
            self.count += bytes.len() as u64;
            self.shelf.lately.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads the body. May wait for the disk.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.count).map_err(|_| io::ErrorKind::OutOfMemory)?];
        if let Some(file) = &self.file {
            file::read_exact_at(&**file, &mut bytes, self.first)?;
        }
        Ok(bytes)
    }

    /// The file, and where in it the body begins.
    pub fn place(&self) -> Option<(&Arc<Placed<Nameless>>, u64)> {
        self.file.as_ref().map(|file| (file, self.first))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let (shelf, file) = (Arc::clone(&self.shelf), self.file.take());
        // The close of a long file without a name waits for the disk.
        drop(blocking::start(&blocking::ASIDE, move || {
            drop(file);
            drop(shelf.take_idle());
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(place: &tempfile::TempDir) -> Arc<Shelf> {
        Arc::new(Shelf::new(&Arc::new(Root::open(place.path()).unwrap())))
    }

    fn is_same(one: &Aside, other: &Aside) -> bool {
        Arc::ptr_eq(one.place().unwrap().0, other.place().unwrap().0)
    }

    #[test]
    fn what_was_put_aside_is_there_and_its_file_has_no_name() {
        let place = tempfile::tempdir().unwrap();
        let shelf = shelf(&place);
        let (one, other) = (shelf.put(b"one").unwrap(), shelf.put(b"other").unwrap());
        assert_eq!((one.read().unwrap(), other.read().unwrap()), (b"one".to_vec(), b"other".to_vec()));
        let inside = place.path().join(directory());
        assert_eq!(std::fs::read_dir(inside).unwrap().count(), 0);
        assert_eq!(file::info(&**one.place().unwrap().0).unwrap().links, 0);
        assert_eq!(shelf.lately(), 8);
        shelf.forget();
        assert_eq!(shelf.lately(), 0);
    }

    #[test]
    fn no_place_is_used_twice_and_without_a_descriptor_for_another_a_file_becomes_longer() {
        let place = tempfile::tempdir().unwrap();
        let shelf = shelf(&place);
        let long = shelf.begin(LONG).unwrap();
        let next = shelf.put(b"next").unwrap();
        drop(long);
        let other = shelf.put(b"other").unwrap();
        assert!(is_same(&next, &other));
        assert_eq!((next.first, other.first), (LONG, LONG + 4));
        drop((next, other));
        while shelf.current.lock().is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_disk_that_cannot_be_written_to_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(crate::key::RESERVED), b"a file in its place").unwrap();
        shelf(&place).put(b"one").unwrap_err();
    }
}
