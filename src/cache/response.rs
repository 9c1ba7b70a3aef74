//! A stored response, wherever it lies.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use super::memory::StoredBody;
use super::place::Place;
use super::stored_file::{Location, StoredFile};
use crate::http::caching::stored::StoredHead;
use crate::sys::file::Info;

/// A stored response.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    /// Its head.
    pub head: Arc<StoredHead>,
    /// Its body.
    pub body: Body,
    /// When the origin validated it, if that was in this process's time.
    pub checked: Option<Instant>,
}

/// Where its body is.
#[derive(Clone, Debug)]
pub enum Body {
    /// In a file.
    File(Location, StoredFile),
    /// In memory, or where a client that takes nothing has it from.
    Memory(StoredBody),
}

impl Body {
    /// Where its file lies.
    pub fn place(&self) -> Place {
        match self {
            Self::File(_, file) => file.place().clone(),
            Self::Memory(_) => Place::Local,
        }
    }

    /// Its file, if that is one of the tree.
    pub fn in_tree(&self) -> Option<&StoredFile> {
        match self {
            Self::File(Location::Tree, file) => Some(file),
            Self::File(Location::Sidecars, _) | Self::Memory(_) => None,
        }
    }

    /// What that file was.
    pub fn of_tree(&self) -> Option<&Info> {
        self.in_tree().map(StoredFile::info)
    }
}

impl StoredResponse {
    /// Bytes of its body.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::File(_, file) => file.info().size,
            Body::Memory(stock) => stock.count(),
        }
    }

    /// Can the origin be asked whether it is still the same? Of a file without a head only a date in whole seconds may
    /// be the origin's: with a fraction it is that of the fetch, or of a copy.
    pub fn can_be_validated(&self) -> bool {
        match self.body.of_tree().filter(|_| self.head.is_unknown()) {
            Some(info) => info.modified.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos() == 0,
            None => self.head.has_validator(),
        }
    }

    /// Did the origin validate it after this moment?
    pub fn is_checked_since(&self, moment: Instant) -> bool {
        self.checked.is_some_and(|checked| checked > moment)
    }
}
