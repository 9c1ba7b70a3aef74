//! Packages that were built anew under their old name: when an index arrives that tells another size for one than it
//! has in the cache, it is dropped, and the next request fetches it.
//!
//! An index of a hundred thousand packages takes a second: a thread of its own reads it, one at a time.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Shared;
use crate::index::{self, Package};
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::preset::Form;
use crate::rt::blocking;
use crate::store::Found;
use crate::sys::file;

/// An index that tells how long packages are.
pub struct Index {
    shared: Arc<Shared>,
    key: Key,
    form: Form,
    /// What names in it are relative to.
    base: String,
    log: RequestLog,
}

impl Index {
    /// The index that `key` names, where it does.
    pub fn named(shared: &Arc<Shared>, key: &Key, log: &RequestLog) -> Option<Self> {
        if shared.config.rules.is_empty() {
            return None;
        }
        let path = format!("/{}", key.as_str());
        let (form, base) = shared.config.rules.sizes(&path)?;
        let (shared, key, log) = (Arc::clone(shared), key.clone(), log.clone());
        Some(Self { shared, key, form, base: base.to_owned(), log })
    }

    /// It has just got its name: compares all packages with it. Does not wait.
    pub fn compare_all(self) {
        if blocking::INDEXES.is_full() {
            let key = self.key.as_str();
            return self
                .log
                .debug(format_args!("{key} is not compared with packages - too many are waiting"));
        }
        // Nobody waits for its end.
        drop(blocking::start(&blocking::INDEXES, move || self.run()));
    }

    fn run(self) {
        // Not the one that arrived, if it has been replaced since: the newer one is right.
        let Found::File(entry) = self.shared.store.look_up(self.key.as_str()) else { return };
        let reader = Reader { file: entry.file, at: 0 };
        if let Err(error) = index::read(self.form, reader, |package| self.compare(&package)) {
            let path = self.shared.store.display(&self.key);
            self.log.debug(format_args!("{path} cannot be read as an index - {error}"));
        }
    }

    /// Drops the package's file if it is not as long as it should be.
    fn compare(&self, package: &Package) {
        let shared = &self.shared;
        // An index has no say over anything but packages beside it.
        let Some(key) = Key::beneath(&self.base, &package.name) else { return };
        if !shared.config.pattern.matches(&format!("/{}", key.as_str())) {
            return;
        }
        let (path, size) = (shared.store.display(&key), package.size);
        match shared.store.drop_other(&key, size) {
            Ok(None) => {}
            Ok(Some(had)) => {
                self.log.debug(format_args!("dropped {path} - {had} bytes, the index says {size}"));
            }
            Err(error) => self.log.debug(format_args!("failed to drop {path} - {error}")),
        }
    }
}

/// Reads a file from its beginning.
struct Reader {
    file: OwnedFd,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = file::read_at(&self.file, buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
