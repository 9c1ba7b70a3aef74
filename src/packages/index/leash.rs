//! A reader that ends when too much comes between two packages: what a parser holds in memory is never more.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// Bytes from one package to the next, or of what is passed over at a time. The list of files of the largest package
/// has some 5 MB.
const MOST: u64 = 16 << 20;

/// A source of bytes that may give `MOST` of them until the next package.
pub(crate) struct Leash<R> {
    source: R,
    left: Left,
}

/// How many bytes may come until the next package.
#[derive(Clone)]
pub(crate) struct Left(Rc<Cell<u64>>);

impl Left {
    /// A package has come, or what was passed over has ended.
    pub(crate) fn renew(&self) {
        self.0.set(MOST);
    }
}

impl<R> Leash<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, left: Left(Rc::new(Cell::new(MOST))) }
    }

    /// The way to tell that a package has come.
    pub(crate) fn left(&self) -> Left {
        self.left.clone()
    }

    fn count(&self, count: usize) -> io::Result<()> {
        let left = self.left.0.get().checked_sub(count as u64);
        self.left.0.set(left.ok_or_else(|| io::Error::other("one entry of the index is too large"))?);
        Ok(())
    }
}

impl<R: Read> Read for Leash<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.count(count)?;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Leash<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // Even what is looked at again and again ends.
        self.count(1)?;
        self.source.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.left.0.set(self.left.0.get().saturating_sub(count as u64));
        self.source.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_ends_and_packages_renew_it() {
        let mut leash = Leash::new(io::BufReader::new(io::repeat(b'x')));
        let left = leash.left();
        let mut piece = vec![0; 1 << 20];
        for _ in 0..40 {
            leash.read_exact(&mut piece).unwrap();
            left.renew();
        }
        assert!(io::copy(&mut leash, &mut io::sink()).is_err());
        left.renew();
        assert!(leash.read_until(b'y', &mut Vec::new()).is_err());
    }
}
