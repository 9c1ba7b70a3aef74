//! A file as a list names it, by its size and checksum.

use std::io::{self, Read};
use std::os::fd::AsFd;

pub use super::index::Package;
use super::index::listing;
use crate::sys::file;

/// Whether a file of this size has the size and the checksum that a list names. One that cannot be read has not. Blocks.
pub fn is_right(listed: &Package, file: impl AsFd, size: u64) -> bool {
    let sum = listed
        .version
        .as_ref()
        .map(|version| (version, listing::sum(version.kind, Reader::new(file).take(size))));
    listed.size.is_none_or(|listed| listed == size)
        && sum.is_none_or(|(version, sum)| sum.is_ok_and(|sum| sum.is_none_or(|sum| sum.is_same(version))))
}

/// Reads a file from its beginning.
pub(crate) struct Reader<F> {
    file: F,
    at: u64,
}

impl<F> Reader<F> {
    pub(crate) fn new(file: F) -> Self {
        Self { file, at: 0 }
    }
}

impl<F: AsFd> Read for Reader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = file::read_at(&self.file, buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
