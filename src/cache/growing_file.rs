//! What the followers of a fill read while it grows.

use std::mem;
use std::sync::Arc;

use super::aside::Aside;
use super::memory::MemoryBody;
use super::place::Placed;
use crate::rt::lock::Lock;
use crate::sys::file::Locked;

/// Where the bytes of a fill are while they arrive.
#[derive(Debug)]
pub enum GrowingFile {
    /// In the in-progress file, which gets its name when it is whole.
    Named(Arc<Placed<Locked>>),
    /// In a file without a name: the response is stored in memory or beside the tree when it is whole.
    Nameless(Aside),
    /// In memory, where the disk takes nothing.
    Memory(Arc<GrowingBytes>),
}

impl GrowingFile {
    /// The in-progress file, if it is one.
    pub fn named(&self) -> Option<&Arc<Placed<Locked>>> {
        match self {
            Self::Named(file) => Some(file),
            Self::Nameless(_) | Self::Memory(_) => None,
        }
    }
}

/// The bytes of a body that is being received.
#[derive(Debug, Default)]
pub struct GrowingBytes(Lock<Bytes>);

#[derive(Debug)]
enum Bytes {
    Growing(Vec<u8>),
    Whole(MemoryBody),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Growing(Vec::new())
    }
}

impl GrowingBytes {
    /// Makes room for so many bytes.
    pub fn reserve(&self, count: usize) {
        if let Bytes::Growing(bytes) = &mut *self.0.lock() {
            bytes.reserve_exact(count);
        }
    }

    /// Adds these bytes.
    pub fn append(&self, piece: &[u8]) {
        if let Bytes::Growing(bytes) = &mut *self.0.lock() {
            bytes.extend_from_slice(piece);
        }
    }

    /// All the bytes that are here; only their receiver has them from here.
    pub fn take(&self) -> Vec<u8> {
        match &mut *self.0.lock() {
            Bytes::Growing(bytes) => mem::take(bytes),
            Bytes::Whole(_) => Vec::new(),
        }
    }

    /// There are no more: what they have become.
    pub fn complete(&self, lend: impl FnOnce(Vec<u8>) -> MemoryBody) -> MemoryBody {
        let mut state = self.0.lock();
        let body = match mem::take(&mut *state) {
            Bytes::Growing(bytes) => lend(bytes),
            Bytes::Whole(body) => body,
        };
        *state = Bytes::Whole(body.clone());
        body
    }

    /// A copy of the bytes from `first` on: up to `most` of them.
    pub fn copy(&self, first: u64, most: u64) -> Vec<u8> {
        let part = |bytes: &[u8]| {
            let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes[at(first)..at(first.saturating_add(most))].to_vec()
        };
        match &*self.0.lock() {
            Bytes::Growing(bytes) => part(bytes),
            Bytes::Whole(body) => part(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_copied_as_far_as_they_are_there() {
        let bytes = GrowingBytes::default();
        bytes.append(b"abc");
        bytes.append(b"def");
        for (first, most, copied) in [(0, 4, &b"abcd"[..]), (4, 9, b"ef"), (6, 1, b""), (9, u64::MAX, b"")] {
            assert_eq!(bytes.copy(first, most), copied);
        }
        assert_eq!((bytes.take(), bytes.copy(0, 9)), (b"abcdef".to_vec(), Vec::new()));
    }
}
