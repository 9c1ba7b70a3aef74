//! A stored response, wherever it lies.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use crate::cache::Entry;
use crate::cache::memory::StoredBody;
use crate::cache::place::Place;
use crate::http::caching::stored::StoredHead;
use crate::proxy::lent::{LentFile, Shelf};
use crate::sys::file::Info;

/// A stored answer.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    pub(crate) head: Arc<StoredHead>,
    pub(crate) body: Body,
    /// When the origin vouched for it, if that was in this process's time.
    pub(crate) checked: Option<Instant>,
}

/// Where its body is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    File(Arc<Entry>),
    /// Beside the tree: it may be one of several variants.
    Document(Arc<Entry>),
    /// Either of them, opened for a moment at a time.
    LentFile(Shelf, Arc<LentFile>),
    /// In memory, or where a client that takes nothing has it from.
    StoredBody(StoredBody),
}

impl Body {
    /// Its file, open. `None`: it is in memory, or not there any more. May wait for the disk.
    pub(crate) fn open(&self) -> Option<Arc<Entry>> {
        match self {
            Self::File(entry) | Self::Document(entry) => Some(Arc::clone(entry)),
            Self::LentFile(_, lent) => lent.open().ok().map(Arc::new),
            Self::StoredBody(_) => None,
        }
    }

    /// Where its file lies.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::File(entry) | Self::Document(entry) => entry.place().clone(),
            Self::LentFile(_, lent) => lent.place().clone(),
            Self::StoredBody(_) => Place::Local,
        }
    }

    /// What its file was, if it is one of the tree.
    pub(crate) fn of_tree(&self) -> Option<&Info> {
        match self {
            Self::File(entry) => Some(&entry.info),
            Self::LentFile(Shelf::Tree, lent) => Some(&lent.info),
            Self::LentFile(Shelf::Sidecars, _) | Self::Document(_) | Self::StoredBody(_) => None,
        }
    }
}

impl StoredResponse {
    pub(crate) fn size(&self) -> u64 {
        match &self.body {
            Body::File(entry) | Body::Document(entry) => entry.info.size,
            Body::LentFile(_, lent) => lent.info.size,
            Body::StoredBody(stock) => stock.count(),
        }
    }

    /// Can the origin be asked whether it is still the same? Of a file without a head only a date in whole seconds may
    /// be the origin's: with a fraction it is that of the fetch, or of a copy.
    pub(crate) fn can_be_vouched_for(&self) -> bool {
        let is_whole = |info: &Info| {
            let since = info.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.subsec_nanos() == 0
        };
        match &self.body {
            Body::File(entry) if self.head.is_unknown() => is_whole(&entry.info),
            Body::LentFile(Shelf::Tree, lent) if self.head.is_unknown() => is_whole(&lent.info),
            Body::File(_) | Body::Document(_) | Body::LentFile(..) | Body::StoredBody(_) => {
                self.head.has_validator()
            }
        }
    }

    /// Did the origin vouch for it after this moment?
    pub(crate) fn is_checked_since(&self, moment: Instant) -> bool {
        self.checked.is_some_and(|checked| checked > moment)
    }
}
