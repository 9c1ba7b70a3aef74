//! The stored heads of files of the revalidated class: each in an extended attribute of its file, or, where the file
//! system refuses that, in a file of its own in a reserved directory.
//!
//! A head names the body that it belongs to and is valid only for that, so a file that another program has written has no
//! head. Those used recently are in memory.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use super::memory::head_bytes;
use super::recency::{Recency, Weighed, Weight};
use super::temporary::{self, Temporary};
use crate::http::caching::record::{self, BodyId, Record};
use crate::http::caching::stored::StoredHead;
use crate::key::{Key, RESERVED};
use crate::rt::lock::Lock;
use crate::sys::file::{self, Info, Root};

/// The attribute.
const ATTRIBUTE: &CStr = c"user.fs-caching-server.head";
/// Heads kept in memory.
const MOST: u64 = 4096;
/// Bytes of all of them: four times what heads of the usual length take.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What is known of a file's head.
#[derive(Clone, Debug)]
pub struct CachedMetadata {
    /// The head, if the file has one.
    pub head: Option<Arc<StoredHead>>,
    /// When the origin validated it, if this process has seen that.
    pub checked: Option<Instant>,
}

/// The heads of one cache directory.
#[derive(Debug)]
pub struct MetadataStore {
    root: Arc<Root>,
    lately: Lock<Lately>,
}

/// Heads of files that were used recently.
type Lately = Recency<Key, (Info, CachedMetadata)>;

impl Weighed<Key> for (Info, CachedMetadata) {
    fn weight(&self, key: &Key) -> Weight {
        let head = self.1.head.as_ref().map_or(0, |head| head_bytes(head));
        [1, (head + key.as_str().len() + size_of::<(Key, Self)>()) as u64, 0]
    }
}

impl MetadataStore {
    /// Knows no heads yet. Blocks; for start-up only.
    pub(crate) fn new(root: &Arc<Root>) -> Self {
        temporary::remove_left_overs(root, &directory());
        Self { root: Arc::clone(root), lately: Lock::new(Recency::new([MOST, MOST_BYTES, u64::MAX])) }
    }

    /// The head of a file that has not changed since, if it is in memory.
    pub fn known(&self, key: &Key, info: &Info) -> Option<CachedMetadata> {
        self.lately.lock().of(key).find(|(_, (of, _))| of == info).map(|(_, (_, known))| known.clone())
    }

    /// Reads the head of a file. May wait for the disk.
    pub fn read(&self, key: &Key, file: &impl AsFd, info: &Info) -> CachedMetadata {
        self.note_read(key, info, self.stored(key, file, info, OfWhom::SaysSoOrNothing))
    }

    /// The same for a file that may be another key's: its head must name the key.
    pub(crate) fn read_own(&self, key: &Key, file: &impl AsFd, info: &Info) -> CachedMetadata {
        self.note_read(key, info, self.stored(key, file, info, OfWhom::SaysSo))
    }

    fn note_read(&self, key: &Key, info: &Info, head: Option<StoredHead>) -> CachedMetadata {
        let known = CachedMetadata { head: head.map(Arc::new), checked: None };
        // A validation meanwhile is newer than the disk.
        let mut lately = self.lately.lock();
        match lately.of(key).next().map(|(_, told)| told) {
            Some((of, told)) if of == info => return told.clone(),
            Some((_, told)) if told.checked.is_some() => return known,
            Some(_) | None => {}
        }
        lately.put(key.clone(), (*info, known.clone()));
        known
    }

    fn stored(&self, key: &Key, file: &impl AsFd, info: &Info, whose: OfWhom) -> Option<StoredHead> {
        let body = body_id(info);
        let is_mine = |record: &Record| match &record.key {
            Some(of) => **of == *key.as_str().as_bytes(),
            None => whose == OfWhom::SaysSoOrNothing,
        };
        let attribute = file::attribute(file, ATTRIBUTE, record::MOST).ok().flatten();
        let within = attribute.and_then(|bytes| record::decode(&bytes));
        if let Some(record) = within {
            return (is_mine(&record) && record.body.is_copy_of(&body)).then_some(record.head);
        }
        let record = record::decode(&self.read_beside(key)?)?;
        (is_mine(&record) && record.body == body).then_some(record.head)
    }

    /// Stores the head of a file, for the body that it had at the time of `info`. May wait for the disk. After an error
    /// the next process does not have it.
    pub fn write(&self, key: &Key, file: &impl AsFd, info: &Info, head: &StoredHead) -> io::Result<()> {
        let bytes = record::encode(head, body_id(info), key.as_str().as_bytes());
        if file::set_attribute(file, ATTRIBUTE, &bytes).is_ok() {
            return Ok(());
        }
        // One that is there already would take precedence over the file beside it.
        drop(file::remove_attribute(file, ATTRIBUTE));
        self.write_beside(key, &bytes)
    }

    /// Keeps a head in memory, if the file still has the body that it had at the time of `info`.
    pub fn remember_if_unchanged(&self, key: &Key, file: &impl AsFd, info: &Info, known: CachedMetadata) {
        if let Ok(now) = file::info(file)
            && body_id(&now) == body_id(info)
        {
            self.remember(key, now, known);
        }
    }

    /// Keeps the head of a file in memory.
    fn remember(&self, key: &Key, info: Info, known: CachedMetadata) {
        self.lately.lock().put(key.clone(), (info, known));
    }

    fn read_beside(&self, key: &Key) -> Option<Vec<u8>> {
        let beside = self.root.open_file(&format!("{}/{}", directory(), name(key))).ok()?;
        let size =
            usize::try_from(file::info(&beside).ok()?.size).ok().filter(|size| *size <= record::MOST)?;
        let mut bytes = vec![0; size];
        file::read_exact_at(&beside, &mut bytes, 0).ok()?;
        Some(bytes)
    }

    fn write_beside(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        let write = |file: &OwnedFd| file::write_at(file, bytes, 0);
        Temporary::write(&self.root, &directory(), &name(key), write).map(drop)
    }
}

/// Whether the record of a head must name its key. Earlier versions did not write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OfWhom {
    SaysSo,
    SaysSoOrNothing,
}

/// The head of a file in progress, to be stored when it is complete.
#[derive(Clone, Debug)]
pub struct NewHead {
    /// The head.
    pub head: Arc<StoredHead>,
    /// When it was received.
    pub checked: Instant,
    /// Where it is stored.
    pub metadata: Arc<MetadataStore>,
}

impl NewHead {
    /// The same, to be validated before it is used.
    pub(crate) fn invalidated(self) -> Self {
        Self { head: Arc::new(self.head.invalidated()), ..self }
    }

    /// Stores it with the file, whose size and date are final. Without a head the file is revalidated, so an error costs
    /// one request at most.
    pub(crate) fn write(&self, key: &Key, file: &impl AsFd, info: &Info) {
        drop(self.metadata.write(key, file, info, &self.head));
    }

    /// Keeps it in memory, now that the file has its name.
    pub(crate) fn remember(&self, key: &Key, file: &impl AsFd, info: &Info) {
        let known = CachedMetadata { head: Some(Arc::clone(&self.head)), checked: Some(self.checked) };
        self.metadata.remember_if_unchanged(key, file, info, known);
    }
}

fn directory() -> String {
    format!("{RESERVED}/heads")
}

/// The name of a key's file, for keys of any length. Two keys may share a name: their records name them.
fn name(key: &Key) -> String {
    let salted = [key.as_str().as_bytes(), b"\0"].concat();
    format!("{:016x}{:016x}", record::sum(key.as_str().as_bytes()), record::sum(&salted).swap_bytes())
}

fn body_id(info: &Info) -> BodyId {
    let since = info.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos()));
    BodyId { inode: info.id.1, size: info.size, modified: nanos }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::decode;
    use std::fs::{self, File};

    fn key(path: &str) -> Key {
        decode(path.as_bytes()).unwrap().key.unwrap()
    }

    fn head() -> StoredHead {
        StoredHead::unknown(7, "text/x")
    }

    struct Place(tempfile::TempDir, Arc<Root>);

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = Arc::new(Root::open(directory.path()).unwrap());
            fs::write(directory.path().join("f"), b"body").unwrap();
            Self(directory, root)
        }

        fn metadata(&self) -> MetadataStore {
            MetadataStore::new(&self.1)
        }

        fn file(&self) -> (File, Info) {
            let file = File::open(self.0.path().join("f")).unwrap();
            let info = file::info(&file).unwrap();
            (file, info)
        }

        fn write(&self, head: &StoredHead) {
            let (file, info) = self.file();
            self.metadata().write(&key("/f"), &file, &info, head).unwrap();
        }

        fn read(&self) -> Option<Arc<StoredHead>> {
            let (file, info) = self.file();
            self.metadata().read(&key("/f"), &file, &info).head
        }
    }

    #[test]
    fn a_look_at_the_disk_does_not_make_a_check_forgotten() {
        let place = Place::new();
        let (metadata, file) = (MetadataStore::new(&place.1), place.file());
        let before = file::info(&file.0).unwrap();
        let told = CachedMetadata { head: Some(Arc::new(head())), checked: Some(Instant::now()) };
        metadata.remember_if_unchanged(&key("/a"), &file.0, &before, told.clone());
        // A reader who opened the file before that, or after it, comes late.
        let now = file::info(&file.0).unwrap();
        for seen in [Info { modified: UNIX_EPOCH, ..before }, before, now] {
            metadata.read(&key("/a"), &file.0, &seen);
            assert_eq!(metadata.known(&key("/a"), &now).and_then(|known| known.checked), told.checked);
        }
    }

    #[test]
    fn a_head_is_found_again_by_the_next_process() {
        let place = Place::new();
        assert!(place.read().is_none());
        place.write(&head());
        assert_eq!(place.read().unwrap().modified(), Some(7));
    }

    #[test]
    fn a_file_that_somebody_else_wrote_has_no_head() {
        let place = Place::new();
        place.write(&head());
        // In place: the attribute stays.
        fs::write(place.0.path().join("f"), b"other body").unwrap();
        assert!(place.read().is_none());
    }

    #[test]
    fn where_attributes_are_refused_the_head_lies_beside_the_tree_and_is_of_one_file_only() {
        let place = Place::new();
        let (file, info) = place.file();
        let bytes = record::encode(&head(), body_id(&info), b"f");
        place.metadata().write_beside(&key("/f"), &bytes).unwrap();
        assert_eq!(place.read().unwrap().modified(), Some(7));
        // A copy of the same size and date is another file.
        drop(file);
        let path = place.0.path().join("f");
        fs::copy(&path, place.0.path().join("g")).unwrap();
        File::open(place.0.path().join("g")).unwrap().set_modified(info.modified).unwrap();
        fs::rename(place.0.path().join("g"), &path).unwrap();
        assert_eq!((place.file().1.size, place.file().1.modified), (info.size, info.modified));
        assert!(place.read().is_none());
    }

    #[test]
    fn the_head_of_another_key_is_none_of_this() {
        let place = Place::new();
        place.write(&head());
        fs::rename(place.0.path().join("f"), place.0.path().join("g")).unwrap();
        let file = File::open(place.0.path().join("g")).unwrap();
        let info = file::info(&file).unwrap();
        assert!(place.metadata().read(&key("/g"), &file, &info).head.is_none());
        assert!(place.metadata().read(&key("/f"), &file, &info).head.is_some());
        // Nor beside the tree, should two keys have one name there.
        drop(file::remove_attribute(&file, ATTRIBUTE));
        let bytes = record::encode(&head(), body_id(&info), b"f");
        place.metadata().write_beside(&key("/g"), &bytes).unwrap();
        assert!(place.metadata().read(&key("/g"), &file, &info).head.is_none());
    }

    #[test]
    fn a_head_too_long_for_an_attribute_goes_beside_the_tree() {
        let place = Place::new();
        let mut long = head();
        long.fields.push(b"X", &vec![b'x'; 70_000]);
        place.write(&head());
        place.write(&long);
        assert_eq!(place.read().unwrap().fields.get("x").unwrap().len(), 70_000);
    }

    #[test]
    fn what_is_no_head_is_unknown() {
        let place = Place::new();
        if file::set_attribute(&place.file().0, ATTRIBUTE, b"nonsense").is_err() {
            eprintln!("SKIPPED: no attributes here");
            return;
        }
        place.metadata().write_beside(&key("/f"), b"nonsense").unwrap();
        assert!(place.read().is_none());
    }

    #[test]
    fn a_file_that_changes_while_its_head_is_written_has_none() {
        let place = Place::new();
        let (file, info) = place.file();
        fs::write(place.0.path().join("f"), b"other body").unwrap();
        let metadata = place.metadata();
        metadata.write(&key("/f"), &file, &info, &head()).unwrap();
        metadata.remember_if_unchanged(
            &key("/f"),
            &file,
            &info,
            CachedMetadata { head: Some(Arc::new(head())), checked: None },
        );
        assert!(metadata.known(&key("/f"), &place.file().1).is_none());
        assert!(place.read().is_none());
    }

    #[test]
    fn memory_holds_what_the_file_still_is() {
        let place = Place::new();
        let (metadata, (_, info)) = (place.metadata(), place.file());
        let known = CachedMetadata { head: Some(Arc::new(head())), checked: None };
        metadata.remember(&key("/f"), info, known);
        assert!(metadata.known(&key("/f"), &info).is_some());
        assert!(metadata.known(&key("/f"), &Info { size: 5, ..info }).is_none());
        assert!(metadata.known(&key("/g"), &info).is_none());
    }
}
