//! Stored responses that lie beside the tree, so that the next process has them too: to paths that no file can have, and
//! the last of several variants.
//!
//! Each is a file in the reserved directory, named after its path, whose head is stored as that of any other file
//! ([`super::metadata`]). The least recently written is removed first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Entry;
use super::memory::StoredBody;
use super::metadata::{CachedMetadata, MetadataStore};
use super::place::Place;
use super::recency::{Recency, Weighed, Weight};
use super::temporary::{self, Temporary, directory};
use crate::http::caching::stored::StoredHead;
use crate::key::Key;
use crate::rt::blocking;
use crate::rt::lock::Lock;
use crate::sys::file::{self, Kind, Root};

/// The most sidecars.
const MOST: u64 = 4096;
/// Bytes of all of them.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of one body.
const LONGEST: usize = 8 * 1024 * 1024;
/// Bytes that may wait for the disk; beyond that responses are not written.
const WAITING: usize = 32 * 1024 * 1024;
/// Bytes of a file's name (the usual NAME_MAX).
const NAME_BYTES: usize = 255;
/// First byte of the name of a complete one.
const WHOLE: &str = "=";

/// The sidecars of one cache directory.
#[derive(Debug)]
pub struct Sidecars {
    root: Arc<Root>,
    metadata: Arc<MetadataStore>,
    /// Whether they are synced before they get their names.
    sync: bool,
    waiting: AtomicUsize,
    table: Lock<Table>,
}

/// Names and lengths of the files, the least recently written first.
type Table = Recency<String, FileSize>;

/// Length of a file in bytes.
#[derive(Debug)]
struct FileSize(u64);

impl Weighed<String> for FileSize {
    fn weight(&self, _: &String) -> Weight {
        [1, 0, self.0]
    }
}

fn table() -> Table {
    Recency::new([MOST, u64::MAX, MOST_BYTES])
}

impl Sidecars {
    /// Lists those of earlier processes. Blocks; for start-up only.
    pub(crate) fn open(root: &Arc<Root>, metadata: &Arc<MetadataStore>, sync: bool) -> Self {
        let (root, metadata) = (Arc::clone(root), Arc::clone(metadata));
        // A directory that is missing or cannot be read has none.
        let table = Lock::new(listed(&root).unwrap_or_else(|_| table()));
        Self { root, metadata, sync, waiting: AtomicUsize::new(0), table }
    }

    /// Whether there is one of this key. Does not wait for the disk.
    pub fn has(&self, key: &Key) -> bool {
        let table = self.table.lock();
        !table.is_empty() && name(key).is_some_and(|name| table.of(&name).next().is_some())
    }

    /// The one of this key, with its head. May wait for the disk.
    pub fn read(&self, key: &Key) -> Option<(Entry, CachedMetadata)> {
        let file = self.root.open_file(&format!("{}/{}", directory(), name(key)?)).ok()?;
        let info = file::info(&file).ok().filter(|info| info.kind == Kind::File)?;
        // A file of this name whose head names another key is none of this.
        let known =
            self.metadata.known(key, &info).unwrap_or_else(|| self.metadata.read_own(key, &file, &info));
        known.head.is_some().then_some((Entry::new(file, info, Place::beside(&self.root)), known))
    }

    /// Has a response written in the place of the one before; one that cannot be a sidecar removes that. Does not wait.
    pub fn put(self: &Arc<Self>, key: &Key, head: &Arc<StoredHead>, body: &StoredBody) {
        let Some(name) = name(key) else { return };
        let count = usize::try_from(body.count()).unwrap_or(usize::MAX);
        if head.status != 200 || count > LONGEST || self.waiting.load(Ordering::Relaxed) > WAITING {
            return self.forget(key);
        }
        let (key, head, body) = (key.clone(), Arc::clone(head), body.clone());
        self.waiting.fetch_add(count, Ordering::Relaxed);
        self.start(move |sidecars| {
            let written = match &body {
                StoredBody::Memory(bytes) => sidecars.write(&key, &name, &head, bytes),
                StoredBody::Aside(aside) => {
                    aside.read().and_then(|bytes| sidecars.write(&key, &name, &head, &bytes))
                }
            };
            if written.is_err() {
                sidecars.remove(&name);
            }
            sidecars.waiting.fetch_sub(count, Ordering::Relaxed);
        });
    }

    /// Has the one of this key removed, since a newer response is stored. Does not wait.
    pub fn forget(self: &Arc<Self>, key: &Key) {
        let Some(name) = self.name_in_use(key) else { return };
        self.start(move |sidecars| sidecars.remove(&name));
    }

    /// Has the one of this key validated before it is used again. Does not wait.
    pub fn invalidate(self: &Arc<Self>, key: &Key) {
        self.change(key, |head| Some(head.invalidated()));
    }

    /// Replaces the head, if the one of this key is the same response. Does not wait.
    pub fn update(self: &Arc<Self>, key: &Key, new: &Arc<StoredHead>) {
        let new = Arc::clone(new);
        self.change(key, move |head| {
            let same = head.variant == new.variant && head.etag() == new.etag();
            same.then(|| StoredHead::clone(&new))
        });
    }

    fn change(
        self: &Arc<Self>,
        key: &Key,
        to: impl FnOnce(&StoredHead) -> Option<StoredHead> + Send + 'static,
    ) {
        if self.name_in_use(key).is_none() {
            return;
        }
        let key = key.clone();
        self.start(move |sidecars| {
            let Some((Entry { file, info, .. }, CachedMetadata { head: Some(head), .. })) =
                sidecars.read(&key)
            else {
                return;
            };
            let Some(head) = to(&head).map(Arc::new) else { return };
            // After an error it is valid as long as this process remembers it.
            drop(sidecars.metadata.write(&key, &file, &info, &head));
            sidecars.metadata.remember_if_unchanged(
                &key,
                &file,
                &info,
                CachedMetadata { head: Some(head), checked: None },
            );
        });
    }

    /// Runs a job after those that were started before it.
    fn start(self: &Arc<Self>, job: impl FnOnce(&Self) + Send + 'static) {
        let sidecars = Arc::clone(self);
        drop(blocking::start(&blocking::DOCUMENTS, move || job(&sidecars)));
    }

    /// The name of one that is there, or that waits to be written.
    fn name_in_use(&self, key: &Key) -> Option<String> {
        (self.waiting.load(Ordering::Relaxed) > 0 || self.has(key)).then(|| name(key)).flatten()
    }

    fn write(&self, key: &Key, name: &str, head: &StoredHead, body: &[u8]) -> io::Result<()> {
        let directory = Temporary::write(&self.root, &directory(), name, |file| {
            file::write_at(file, body, 0)?;
            self.metadata.write(key, file, &file::info(file)?, head)?;
            if self.sync { file::sync(file) } else { Ok(()) }
        })?;
        let gone = self.table.lock().put(name.to_owned(), FileSize(body.len() as u64));
        gone.iter().for_each(|(name, _)| drop(file::unlink(&directory, name)));
        Ok(())
    }

    fn remove(&self, name: &str) {
        self.table.lock().take(&name.to_owned(), |_| true);
        if let Ok(directory) = self.root.open_directory(&directory()) {
            drop(file::unlink(&directory, name));
        }
    }
}

/// Lists what is there, the oldest first, and removes incomplete files and what is over the limits.
fn listed(root: &Root) -> io::Result<Table> {
    temporary::remove_left_overs(root, &directory());
    let directory = root.open_directory(&directory())?;
    let mut whole = Vec::new();
    file::entries(&directory, |name, kind| {
        if kind == Kind::File && name.starts_with(WHOLE) {
            whole.extend(
                file::info_at(&directory, name).map(|info| (info.modified, name.to_owned(), info.size)),
            );
        }
        true
    })?;
    whole.sort();
    let mut table = table();
    let gone = whole.into_iter().flat_map(|(_, name, size)| table.put(name, FileSize(size)));
    gone.for_each(|(name, _)| drop(file::unlink(&directory, &name)));
    Ok(table)
}

/// The key as one file name, different for each key. `None` for keys that are too long, and for targets with a query,
/// since a client can make any number of those.
fn name(key: &Key) -> Option<String> {
    let name = format!("{WHOLE}{}", key.as_str().replace('%', "%25").replace('/', "%2F"));
    (name.len() <= NAME_BYTES && !key.has_query()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn open(place: &TempDir) -> Arc<Sidecars> {
        let root = Arc::new(Root::open(place.path()).unwrap());
        let metadata = Arc::new(MetadataStore::new(&root));
        Arc::new(Sidecars::open(&root, &metadata, true))
    }

    fn key(path: &str) -> Key {
        Key::resource(path.as_bytes(), None)
    }

    fn write(sidecars: &Sidecars, path: &str, body: &[u8]) {
        let head = StoredHead::unknown(7, "text/x");
        sidecars.write(&key(path), &name(&key(path)).unwrap(), &head, body).unwrap();
    }

    fn names(place: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(place.path().join(directory())).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_document_is_found_again_by_the_next_process() {
        let place = tempfile::tempdir().unwrap();
        assert!(!open(&place).has(&key("/a/")));
        write(&open(&place), "/a/", b"first");
        write(&open(&place), "/a/", b"body");
        let sidecars = open(&place);
        assert!(sidecars.has(&key("/a/")) && !sidecars.has(&key("/a")));
        let (entry, known) = sidecars.read(&key("/a/")).unwrap();
        assert_eq!((entry.info.size, known.head.unwrap().modified()), (4, Some(7)));
        sidecars.remove("=%2Fa%2F");
        assert!(!sidecars.has(&key("/a/")) && sidecars.read(&key("/a/")).is_none());
        assert!(!open(&place).has(&key("/a/")));
    }

    #[test]
    fn what_was_cut_short_or_changed_is_no_document() {
        let place = tempfile::tempdir().unwrap();
        write(&open(&place), "/a/", b"body");
        fs::write(place.path().join(directory()).join("=%2Fa%2F"), b"bo").unwrap();
        fs::write(place.path().join(directory()).join("=%2Fb%2F"), b"no head").unwrap();
        // Nor is that of another, whatever its name.
        write(&open(&place), "/c/", b"body");
        fs::rename(
            place.path().join(directory()).join("=%2Fc%2F"),
            place.path().join(directory()).join("=%2Fd%2F"),
        )
        .unwrap();
        let sidecars = open(&place);
        assert!(sidecars.read(&key("/a/")).is_none());
        assert!(sidecars.read(&key("/b/")).is_none());
        assert!(sidecars.read(&key("/d/")).is_none());
        assert_eq!(names(&place), ["=%2Fa%2F", "=%2Fb%2F", "=%2Fd%2F"]);
    }

    #[test]
    fn no_two_paths_have_one_name() {
        let named = |path| name(&key(path));
        assert_eq!(named("/").unwrap(), "=%2F");
        assert_ne!(named("/a%2Fb"), named("/a/b"));
        assert_ne!(named("/a/"), named("/a"));
        assert_ne!(named("/a%2F"), named("/a/"));
        assert_eq!(name(&Key::resource(b"/a/", Some(b"b"))), None);
        let long = "x".repeat(NAME_BYTES);
        assert_eq!(named(&long), None);
        assert!(named(&long[1..]).is_some());
    }
}
