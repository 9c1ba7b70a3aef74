//! A stored response, wherever it lies.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use crate::cache::Entry;
use crate::cache::memory::Stock;
use crate::cache::place::Place;
use crate::http::caching::stored::StoredHead;
use crate::proxy::lent::{Lent, Shelf};
use crate::sys::file::Info;

/// A stored answer.
#[derive(Clone, Debug)]
pub struct Kept {
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
    Lent(Shelf, Arc<Lent>),
    /// In memory, or where a client that takes nothing has it from.
    Stock(Stock),
}

impl Body {
    /// Its file, open. `None`: it is in memory, or not there any more. May wait for the disk.
    pub(crate) fn open(&self) -> Option<Arc<Entry>> {
        match self {
            Self::File(entry) | Self::Document(entry) => Some(Arc::clone(entry)),
            Self::Lent(_, lent) => lent.open().ok().map(Arc::new),
            Self::Stock(_) => None,
        }
    }

    /// Where its file lies.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::File(entry) | Self::Document(entry) => entry.place().clone(),
            Self::Lent(_, lent) => lent.place().clone(),
            Self::Stock(_) => Place::Local,
        }
    }

    /// What its file was, if it is one of the tree.
    pub(crate) fn of_tree(&self) -> Option<&Info> {
        match self {
            Self::File(entry) => Some(&entry.info),
            Self::Lent(Shelf::Tree, lent) => Some(&lent.info),
            Self::Lent(Shelf::Documents, _) | Self::Document(_) | Self::Stock(_) => None,
        }
    }
}

impl Kept {
    pub(crate) fn size(&self) -> u64 {
        match &self.body {
            Body::File(entry) | Body::Document(entry) => entry.info.size,
            Body::Lent(_, lent) => lent.info.size,
            Body::Stock(stock) => stock.count(),
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
            Body::Lent(Shelf::Tree, lent) if self.head.is_unknown() => is_whole(&lent.info),
            Body::File(_) | Body::Document(_) | Body::Lent(..) | Body::Stock(_) => self.head.has_validator(),
        }
    }

    /// Did the origin vouch for it after this moment?
    pub(crate) fn is_checked_since(&self, moment: Instant) -> bool {
        self.checked.is_some_and(|checked| checked > moment)
    }
}
