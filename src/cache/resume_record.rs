//! What an in-progress file says of itself, so that a later fill may go on with it: in an attribute
//! of the file, which goes where the file goes. Where files have none, no fill goes on after a restart.
//!
//! After a crash of ours every byte that was written is in the file. After one of the system only what
//! was synced before is sure to be: the record says how much that is, and in which run of the system it
//! was made.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fingerprint::Fingerprint;
use super::place::Placed;
use crate::http::identity::Identity;
use crate::http::is_text_byte;
use crate::rt::lock::Lock;
use crate::sys::file::{self, Locked};

/// Bytes of the longest record: with more than that ext4 has no room for it in an attribute.
pub const MAX_ATTRIBUTE: usize = 3 * 1024;

/// The attribute's name.
const NAME: &CStr = c"user.fs-caching-server.partial";
/// The first line: a record of another form is none.
const FORM: &[u8] = b"1";
/// A file that has less is begun anew as cheaply.
pub const WORTH: u64 = 1024 * 1024;
/// Written between two syncs of a file that is being filled: what a power cut may cost.
const SYNC_EVERY: u64 = 64 * 1024 * 1024;

/// The record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The run of the system that wrote it, where it has a name.
    pub boot: Option<String>,
    /// So many bytes are on stable storage.
    pub synced: u64,
    /// Bytes that are there if it is still the file that was written.
    pub mark: Fingerprint,
    /// The URL that was asked, as the origin has it.
    pub url: Vec<u8>,
    /// Content-Type: an answer that only gives the rest need not repeat it.
    pub content_type: Vec<u8>,
    /// What proves that the rest is of the same file.
    pub identity: Identity,
}

impl Record {
    /// `None` where that is more than an attribute takes, or would not be read.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let lines = self.lines();
        (Self::decode(&lines).as_ref() == Some(self)).then_some(lines)
    }

    /// `None` for what [`Self::encode`] does not write: no record has two forms.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_ATTRIBUTE {
            return None;
        }
        let record = Self::of_lines(bytes)?;
        (record.identity.is_proof() && record.lines() == bytes).then_some(record)
    }

    /// One line each.
    fn lines(&self) -> Vec<u8> {
        let Identity { etag, modified, length, coding, source } = &self.identity;
        [
            FORM,
            self.boot.as_deref().unwrap_or_default().as_bytes(),
            self.synced.to_string().as_bytes(),
            self.mark.at.to_string().as_bytes(),
            self.mark.digest.to_string().as_bytes(),
            length.map(|length| length.to_string()).unwrap_or_default().as_bytes(),
            etag.as_deref().unwrap_or_default(),
            modified.as_deref().unwrap_or_default(),
            coding,
            source.as_deref().unwrap_or_default(),
            &self.content_type,
            &self.url,
        ]
        .join(&b'\n')
    }

    /// What the lines say, in whatever form.
    fn of_lines(bytes: &[u8]) -> Option<Self> {
        let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
        let [form, boot, synced, at, digest, length, etag, modified, coding, source, content_type, url] =
            lines[..]
        else {
            return None;
        };
        if form != FORM || !lines.concat().into_iter().all(is_text_byte) {
            return None;
        }
        let number = |line: &[u8]| std::str::from_utf8(line).ok()?.parse::<u64>().ok();
        let some = |line: &[u8]| (!line.is_empty()).then(|| line.to_vec());
        let identity = Identity {
            etag: some(etag),
            modified: some(modified),
            length: if length.is_empty() { None } else { Some(number(length)?) },
            coding: coding.to_vec(),
            source: some(source),
        };
        Some(Self {
            boot: some(boot).map(String::from_utf8).transpose().ok()?,
            synced: number(synced)?,
            mark: Fingerprint { at: number(at)?, digest: number(digest)? },
            url: url.to_vec(),
            content_type: content_type.to_vec(),
            identity,
        })
    }

    /// How many of the `size` bytes in the file are sure to be the ones that were written, in the run
    /// `boot` of the system.
    pub fn trusted(&self, size: u64, boot: Option<&str>) -> u64 {
        let same_run = boot.is_some() && self.boot.as_deref() == boot;
        let sure = if same_run { size } else { size.min(self.synced) };
        if self.identity.length.is_some_and(|length| size > length) { 0 } else { sure }
    }

    /// The lines to write, with what is known of the first `stored` bytes now. An error if the file is not to be
    /// resumed: what is in memory may not be what a later fill finds.
    fn noted(
        &mut self,
        stored: u64,
        synced: Option<io::Result<()>>,
        mark: io::Result<Fingerprint>,
    ) -> io::Result<Vec<u8>> {
        let is_synced = synced.transpose()?.is_some();
        if is_synced {
            self.synced = stored;
        }
        // One behind what is synced would be lost with a power cut, and all the rest with it.
        if is_synced || self.mark.at == 0 {
            self.mark = mark?;
        } else {
            mark?;
        }
        self.encode().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads that of a file.
    pub fn read(file: &impl AsFd) -> Option<Self> {
        Self::decode(&file::attribute(file, NAME, MAX_ATTRIBUTE).ok().flatten()?)
    }
}

/// What all records of a cache directory share.
#[derive(Debug)]
pub struct Durability {
    /// Files are brought to stable storage.
    pub sync: bool,
    /// This run of the system.
    pub boot: Option<String>,
    /// One long file at a time is synced while it grows: the pool has other work.
    syncing: AtomicBool,
}

impl Durability {
    /// In this run of the system.
    pub fn new(sync: bool, boot: Option<String>) -> Self {
        Self { sync, boot, syncing: AtomicBool::new(false) }
    }
}

/// The record of one file that is being filled, on its way to the file.
#[derive(Debug)]
pub struct ResumeJournal {
    file: Arc<Placed<Locked>>,
    keeping: Arc<Durability>,
    /// Held while the attribute is changed, which may take for ever.
    writing: Lock<()>,
    /// Never held while the disk is waited for: workers look at it.
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    /// None: the file is not to be gone on with.
    record: Option<Record>,
    /// The file has it.
    written: bool,
    /// It is time to write it, whatever has been stored since.
    due: bool,
    /// Bytes in the file when it was last synced, or that was tried.
    synced: u64,
}

impl ResumeJournal {
    /// Nothing is known of the file yet.
    pub fn new(file: &Arc<Placed<Locked>>, keeping: &Arc<Durability>) -> Self {
        let state = Lock::new(State { record: None, written: false, due: false, synced: 0 });
        Self { file: Arc::clone(file), keeping: Arc::clone(keeping), writing: Lock::new(()), state }
    }

    /// What is to be said of the file, once it is worth it; `written` if it says something already.
    /// What is described already stays so.
    pub fn describe(&self, record: Record, written: bool) {
        let mut state = self.state.lock();
        if state.record.is_none() {
            let record = Record { boot: self.keeping.boot.clone(), ..record };
            *state = State { synced: record.synced, record: Some(record), written, due: true };
        }
    }

    /// With `stored` bytes in the file: writes the record if it is time, on the pool.
    pub fn look(self: &Arc<Self>, stored: u64) {
        if stored < WORTH {
            return;
        }
        let mut state = self.state.lock();
        if state.record.is_none() {
            return;
        }
        let long_since = self.keeping.sync && stored.saturating_sub(state.synced) >= SYNC_EVERY;
        let sync = long_since && !self.keeping.syncing.swap(true, Ordering::AcqRel);
        if sync {
            state.synced = stored;
        }
        if !std::mem::take(&mut state.due) && !sync {
            return;
        }
        drop(state);
        let notes = Arc::clone(self);
        self.file.to().start(move || notes.note(stored, sync));
    }

    /// Writes the record, after a sync if there is to be one. Waits for the disk.
    pub(crate) fn note(&self, stored: u64, sync: bool) {
        // Not with the state locked: the worker that stores the file looks at it.
        let synced = sync.then(|| file::sync_data(&*self.file));
        if sync {
            self.keeping.syncing.store(false, Ordering::Release);
        }
        if self.state.lock().record.is_none() {
            return;
        }
        let mark = Fingerprint::of(&*self.file, stored);
        let _writing = self.writing.lock();
        let value = match &mut self.state.lock().record {
            Some(record) => record.noted(stored, synced, mark),
            None => return,
        };
        match value.and_then(|value| file::set_attribute(&*self.file, NAME, &value)) {
            Ok(()) => self.state.lock().written = true,
            Err(_) => self.forget(),
        }
    }

    /// From now on the file says nothing of itself. May wait for the disk.
    pub fn close(&self) {
        let _writing = self.writing.lock();
        self.forget();
    }

    /// The same for who writes.
    fn forget(&self) {
        let mut state = self.state.lock();
        state.record = None;
        let was_written = std::mem::take(&mut state.written);
        drop(state);
        if was_written {
            // Where this fails it stays: it counts for nothing in a file with its final name.
            drop(file::remove_attribute(&*self.file, NAME));
        }
    }

    /// Nothing more is written to the file, which has `stored` bytes: does it say enough for another fill to
    /// go on with it? May wait for the disk.
    pub fn leave(&self, stored: u64) -> bool {
        if stored >= WORTH && !self.state.lock().written {
            self.note(stored, false);
        }
        let _writing = self.writing.lock();
        let mut state = self.state.lock();
        // The file is another fill's from now on: a job of the pool that comes late has nothing to say.
        state.record = None;
        state.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::place::Place;
    use proptest::prelude::*;

    fn record() -> Record {
        Record {
            boot: Some("one".to_owned()),
            synced: 500,
            mark: Fingerprint { at: 700, digest: 77 },
            url: b"http://h/x.tgz?a=1".to_vec(),
            content_type: b"text/plain".to_vec(),
            identity: Identity {
                etag: Some(b"\"a\"".to_vec()),
                modified: Some(b"Sun, 06 Nov 1994 08:49:37 GMT".to_vec()),
                length: Some(1_000),
                coding: Vec::new(),
                source: Some(b"http://mirror/x".to_vec()),
            },
        }
    }

    #[test]
    fn a_record_reads_back() {
        let dated = Identity { etag: None, ..record().identity };
        let chunked = Identity { length: None, modified: None, ..record().identity };
        let direct = Identity { source: None, ..record().identity };
        for identity in [record().identity, dated, chunked, direct] {
            for boot in [Some("one".to_owned()), None] {
                let record = Record { boot, identity: identity.clone(), ..record() };
                assert_eq!(Record::decode(&record.encode().unwrap()), Some(record));
            }
        }
    }

    #[test]
    fn what_is_no_record() {
        let good = record().encode().unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        for bad in [
            String::new(),
            "1".to_owned(),
            text.replacen('1', "2", 1),
            text.replace("500", "x"),
            text.replace("500", "+500"),
            text.replace("500", "0500"),
            text.replace("1000", "01000"),
            text.replace("one", "o\rne"),
            text.replace("text/plain", "text/\0"),
            text.replace("\"a\"", "W/\"a\"").replace("1000", ""),
            text.replace("\"a\"", "W/\"a\"").replace("Sun, 06 Nov 1994 08:49:37 GMT", ""),
            text.replace("1000", "x"),
            text.replace("\"a\"", "").replace("1000", ""),
            text.replace("\"a\"", "").replace("Sun, 06 Nov 1994 08:49:37 GMT", ""),
            text.replace("\"a\"", "").replace("Sun, 06 Nov 1994 08:49:37 GMT", "soon"),
            format!("{text}\n"),
            format!("{text}{}", "x".repeat(MAX_ATTRIBUTE)),
        ] {
            assert_eq!(Record::decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Record { url: vec![b'x'; MAX_ATTRIBUTE], ..record() }.encode(), None);
        for url in [&b"a\nb"[..], b"a\rb"] {
            assert_eq!(Record { url: url.to_vec(), ..record() }.encode(), None);
        }
    }

    #[test]
    fn after_a_power_cut_only_what_was_synced_is_trusted() {
        assert_eq!(record().trusted(900, Some("one")), 900);
        assert_eq!(record().trusted(900, Some("two")), 500);
        assert_eq!(record().trusted(300, Some("two")), 300);
        assert_eq!(record().trusted(900, None), 500);
        let nameless = Record { boot: None, ..record() };
        assert_eq!(nameless.trusted(900, None), 500);
        assert_eq!(nameless.trusted(900, Some("one")), 500);
        // More than the whole: somebody else was at it.
        assert_eq!(record().trusted(1_001, Some("one")), 0);
        let unsynced = Record { synced: 0, ..record() };
        assert_eq!((unsynced.trusted(900, Some("two")), unsynced.trusted(900, Some("one"))), (0, 900));
    }

    #[test]
    fn a_file_says_how_much_of_it_is_synced_until_it_is_closed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(900).unwrap();
        if file::set_attribute(&file, NAME, b"probe").is_err() {
            eprintln!("SKIPPED: no extended attributes in the directory of temporary files");
            return;
        }
        let file = Arc::new(Placed::new(file::lock(file.into()).unwrap(), Place::Local));
        let keeping = Arc::new(Durability::new(true, Some("here".to_owned())));
        let notes = ResumeJournal::new(&file, &keeping);
        notes.note(100, false);
        assert!(!notes.state.lock().written, "nothing is known of it yet");
        notes.describe(Record { synced: 0, mark: Fingerprint::default(), ..record() }, false);
        notes.note(100, false);
        let written = |synced, at| {
            let mark = Fingerprint::of(&*file, at).unwrap();
            Record { boot: Some("here".to_owned()), synced, mark, ..record() }
        };
        assert_eq!(Record::read(&*file), Some(written(0, 100)));
        notes.note(700, true);
        assert_eq!(Record::read(&*file), Some(written(700, 700)));
        notes.describe(Record { synced: 5, ..record() }, false);
        assert!(
            notes.state.lock().written && Record::read(&*file) == Some(written(700, 700)),
            "it is described already"
        );
        notes.close();
        // A job of the pool may come late.
        notes.note(900, true);
        assert_eq!(file::attribute(&*file, NAME, MAX_ATTRIBUTE).unwrap(), None);
        assert!(!notes.state.lock().written);
    }

    #[test]
    fn a_record_too_long_for_an_attribute_is_not_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        let file = Arc::new(Placed::new(file::lock(file.into()).unwrap(), Place::Local));
        let notes = ResumeJournal::new(&file, &Arc::new(Durability::new(true, None)));
        notes.describe(Record { url: vec![b'x'; MAX_ATTRIBUTE], ..record() }, false);
        notes.note(100, false);
        assert!(!notes.state.lock().written);
        assert_eq!(Record::read(&*file), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), Some(bytes));
            }
        }
    }
}
