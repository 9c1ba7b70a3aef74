//! The record of an in-progress file, by which a later fill resumes it. It is an extended attribute of the file; without
//! those no fill is resumed after a restart.
//!
//! After a crash of the process every byte that was written is in the file. After a crash of the system only synced bytes
//! are sure to be: the record says how many these are, and which boot of the system wrote it.

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

/// The longest record, in bytes: ext4 has no room for a longer attribute.
pub const MAX_ATTRIBUTE: usize = 3 * 1024;

/// The attribute's name.
const NAME: &CStr = c"user.fs-caching-server.partial";
/// The first line: the version of the format. Others are ignored.
const FORM: &[u8] = b"1";
/// A shorter file is not worth a record: a new fetch is as cheap.
pub const WORTH: u64 = 1024 * 1024;
/// Bytes written between two syncs of a growing file: a power cut may lose so many.
const SYNC_EVERY: u64 = 64 * 1024 * 1024;

/// The record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The boot of the system that wrote it, where that has an id.
    pub boot: Option<String>,
    /// Bytes on stable storage.
    pub synced: u64,
    /// The fingerprint of the bytes that were written.
    pub mark: Fingerprint,
    /// The URL requested from the origin.
    pub url: Vec<u8>,
    /// Content-Type: a partial response (206) need not repeat it.
    pub content_type: Vec<u8>,
    /// The validators by which the rest is known to be of the same version.
    pub identity: Identity,
}

impl Record {
    /// `None` where it is too long for an attribute, or [`Self::decode`] would refuse it.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let lines = self.lines();
        (Self::decode(&lines).as_ref() == Some(self)).then_some(lines)
    }

    /// `None` for bytes that [`Self::encode`] does not write: each record has one form.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_ATTRIBUTE {
            return None;
        }
        let record = Self::of_lines(bytes)?;
        (record.identity.is_proof() && record.lines() == bytes).then_some(record)
    }

    /// One line for each field.
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

    /// The fields of the lines, also where [`Self::encode`] would write them otherwise.
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

    /// How many of the `size` bytes in the file are sure to be those that were written, if the system's boot id is `boot`.
    pub fn trusted(&self, size: u64, boot: Option<&str>) -> u64 {
        let same_boot = boot.is_some() && self.boot.as_deref() == boot;
        let sure = if same_boot { size } else { size.min(self.synced) };
        if self.identity.length.is_some_and(|length| size > length) { 0 } else { sure }
    }

    /// The lines to write, updated for the first `stored` bytes. An error if the file is not to be resumed: after a
    /// failed sync its bytes on the disk may be others than those in memory.
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
        // A fingerprint of bytes that are not synced would not match after a power cut.
        if is_synced || self.mark.at == 0 {
            self.mark = mark?;
        } else {
            mark?;
        }
        self.encode().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads the record of a file.
    pub fn read(file: &impl AsFd) -> Option<Self> {
        Self::decode(&file::attribute(file, NAME, MAX_ATTRIBUTE).ok().flatten()?)
    }
}

/// The durability of a cache directory, shared by all its journals.
#[derive(Debug)]
pub struct Durability {
    /// Whether files are synced.
    pub sync: bool,
    /// The boot id of the system.
    pub boot: Option<String>,
    /// Whether a growing file is being synced: one at a time, since the pool has other work.
    syncing: AtomicBool,
}

impl Durability {
    /// With this boot id.
    pub fn new(sync: bool, boot: Option<String>) -> Self {
        Self { sync, boot, syncing: AtomicBool::new(false) }
    }
}

/// Writes the record of one growing file.
#[derive(Debug)]
pub struct ResumeJournal {
    file: Arc<Placed<Locked>>,
    durability: Arc<Durability>,
    /// Held while the attribute is changed, which may hang.
    writing: Lock<()>,
    /// Never held during a wait for the disk: workers lock it.
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: the file is not to be resumed.
    record: Option<Record>,
    /// Whether the file has it.
    written: bool,
    /// Whether it is to be written at the next checkpoint.
    due: bool,
    /// Bytes in the file at the last sync, or attempt to sync.
    synced: u64,
}

impl ResumeJournal {
    /// The file has no record yet.
    pub fn new(file: &Arc<Placed<Locked>>, durability: &Arc<Durability>) -> Self {
        let state = Lock::new(State { record: None, written: false, due: false, synced: 0 });
        Self { file: Arc::clone(file), durability: Arc::clone(durability), writing: Lock::new(()), state }
    }

    /// Sets the record, which is written once the file is worth it; `written` if the file has it already. A record that
    /// is set stays.
    pub fn describe(&self, record: Record, written: bool) {
        let mut state = self.state.lock();
        if state.record.is_none() {
            let record = Record { boot: self.durability.boot.clone(), ..record };
            *state = State { synced: record.synced, record: Some(record), written, due: true };
        }
    }

    /// With `stored` bytes in the file: writes the record on the pool, if that is due.
    pub fn maybe_checkpoint(self: &Arc<Self>, stored: u64) {
        if stored < WORTH {
            return;
        }
        let mut state = self.state.lock();
        if state.record.is_none() {
            return;
        }
        let long_since = self.durability.sync && stored.saturating_sub(state.synced) >= SYNC_EVERY;
        let sync = long_since && !self.durability.syncing.swap(true, Ordering::AcqRel);
        if sync {
            state.synced = stored;
        }
        if !std::mem::take(&mut state.due) && !sync {
            return;
        }
        drop(state);
        let journal = Arc::clone(self);
        self.file.to().start(move || journal.checkpoint(stored, sync));
    }

    /// Writes the record, if need be after a sync. Waits for the disk.
    pub(crate) fn checkpoint(&self, stored: u64, sync: bool) {
        // Not with the state locked, since workers lock it.
        let synced = sync.then(|| file::sync_data(&*self.file));
        if sync {
            self.durability.syncing.store(false, Ordering::Release);
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

    /// Removes the record. May wait for the disk.
    pub fn close(&self) {
        let _writing = self.writing.lock();
        self.forget();
    }

    /// The same, with `writing` locked.
    fn forget(&self) {
        let mut state = self.state.lock();
        state.record = None;
        let was_written = std::mem::take(&mut state.written);
        drop(state);
        if was_written {
            // After an error it stays: no fill reads it in a file with its final name.
            drop(file::remove_attribute(&*self.file, NAME));
        }
    }

    /// Ends the journal of a file with `stored` bytes: whether a later fill can resume it. May wait for the disk.
    pub fn leave(&self, stored: u64) -> bool {
        if stored >= WORTH && !self.state.lock().written {
            self.checkpoint(stored, false);
        }
        let _writing = self.writing.lock();
        let mut state = self.state.lock();
        // The file belongs to another fill from now on: a late job of the pool must not write.
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
        let durability = Arc::new(Durability::new(true, Some("here".to_owned())));
        let journal = ResumeJournal::new(&file, &durability);
        journal.checkpoint(100, false);
        assert!(!journal.state.lock().written, "nothing is known of it yet");
        journal.describe(Record { synced: 0, mark: Fingerprint::default(), ..record() }, false);
        journal.checkpoint(100, false);
        let written = |synced, at| {
            let mark = Fingerprint::of(&*file, at).unwrap();
            Record { boot: Some("here".to_owned()), synced, mark, ..record() }
        };
        assert_eq!(Record::read(&*file), Some(written(0, 100)));
        journal.checkpoint(700, true);
        assert_eq!(Record::read(&*file), Some(written(700, 700)));
        journal.describe(Record { synced: 5, ..record() }, false);
        assert!(
            journal.state.lock().written && Record::read(&*file) == Some(written(700, 700)),
            "it is described already"
        );
        journal.close();
        // A job of the pool may come late.
        journal.checkpoint(900, true);
        assert_eq!(file::attribute(&*file, NAME, MAX_ATTRIBUTE).unwrap(), None);
        assert!(!journal.state.lock().written);
    }

    #[test]
    fn a_record_too_long_for_an_attribute_is_not_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        let file = Arc::new(Placed::new(file::lock(file.into()).unwrap(), Place::Local));
        let journal = ResumeJournal::new(&file, &Arc::new(Durability::new(true, None)));
        journal.describe(Record { url: vec![b'x'; MAX_ATTRIBUTE], ..record() }, false);
        journal.checkpoint(100, false);
        assert!(!journal.state.lock().written);
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
