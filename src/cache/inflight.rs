//! The table of fills in progress: one leader for each key, over all workers (request collapsing).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fill::{Fill, NoFile};
use super::place::Placed;
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::lock::Lock;
use crate::sys::file::Locked;

/// The fills by their keys.
#[derive(Debug)]
pub struct Inflight {
    /// The most fills at a time.
    most: usize,
    fills: Lock<HashMap<Key, Arc<Fill>>>,
    /// Counts the fills that have left the table.
    endings: AtomicU64,
}

/// What a request finds in the table.
#[derive(Debug)]
pub enum Turn {
    /// No fill of this key is in progress: the caller leads one.
    Lead(Permit),
    /// The fill in progress.
    Follow(Arc<Fill>),
    /// As many fills as may be are in progress.
    Full,
}

/// The right to lead a fill. Dropped before its end, it fails the fill.
#[derive(Debug)]
pub struct Permit {
    table: Arc<Inflight>,
    key: Key,
    fill: Arc<Fill>,
}

impl Default for Inflight {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Inflight {
    /// An empty table with room for `most` fills.
    pub fn new(most: usize) -> Self {
        Self { most, fills: Lock::default(), endings: AtomicU64::default() }
    }

    /// Joins the fill of `key`, or starts it.
    pub fn enter(self: &Arc<Self>, key: &Key) -> Turn {
        let mut fills = self.fills.lock();
        let is_full = fills.len() >= self.most;
        match fills.entry(key.clone()) {
            Entry::Occupied(entry) => Turn::Follow(Arc::clone(entry.get())),
            Entry::Vacant(_) if is_full => Turn::Full,
            Entry::Vacant(entry) => {
                let fill = Arc::new(Fill::default());
                entry.insert(Arc::clone(&fill));
                Turn::Lead(Permit { table: Arc::clone(self), key: key.clone(), fill })
            }
        }
    }

    /// The fill of `key`, if there is one.
    pub fn get(&self, key: &Key) -> Option<Arc<Fill>> {
        self.fills.lock().get(key).cloned()
    }

    /// Frees the key of a fill that `is_other` finds to be of another file than the origin has by now: its followers get
    /// all of it, but the file gets no name. Whether there was such a fill.
    pub fn supersede(&self, key: &Key, is_other: impl Fn(&Fill) -> bool) -> bool {
        let mut fills = self.fills.lock();
        let Some(fill) = fills.get(key).filter(|fill| is_other(fill)).cloned() else { return false };
        self.remove(&mut fills, key);
        // Before the caller removes the stored file: a commit at the same moment sees it.
        fill.supersede();
        true
    }

    fn remove(&self, fills: &mut HashMap<Key, Arc<Fill>>, key: &Key) {
        // Before the key is free, so that its next leader sees it.
        self.endings.fetch_add(1, Ordering::Release);
        fills.remove(key);
    }

    /// A number that changes whenever a fill ends. A look-up that found nothing is still valid if the number is the one
    /// read before it.
    pub fn endings(&self) -> u64 {
        self.endings.load(Ordering::Acquire)
    }

    /// The keys and in-progress files of fills that have one.
    pub fn begun(&self) -> Vec<(Key, Arc<Placed<Locked>>)> {
        self.fills
            .lock()
            .iter()
            .filter_map(|(key, fill)| Some((key.clone(), Arc::clone(fill.announced()?.file.named()?))))
            .collect()
    }
}

impl Permit {
    /// The fill this permit is for.
    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The response is not to be stored: each waiting request asks the origin itself.
    pub fn decline(self, why: BypassReason) {
        self.leave();
        self.fill.end(NoFile::Declined(why));
    }

    /// The file is there already: waiting requests look it up once more.
    pub fn withdraw(self) {
        self.leave();
        self.fill.end(NoFile::Again);
    }

    /// The origin has failed: waiting requests fail in the same way.
    pub fn fail(self, error: Error) {
        self.leave();
        self.fill.end(NoFile::Failed(error));
    }

    /// Frees the key: later requests look the file up, followers go on.
    pub fn leave(&self) {
        let mut fills = self.table.fills.lock();
        if fills.get(&self.key).is_some_and(|fill| Arc::ptr_eq(fill, &self.fill)) {
            self.table.remove(&mut fills, &self.key);
            self.fill.leave();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave();
        self.fill.end(NoFile::Failed(Error::new(Side::Proxy, Kind::Abandoned)));
    }
}
