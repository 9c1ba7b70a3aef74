//! Bytes of a body that followers get from memory: those that are in no file, and those last written to a file on a file
//! system whose calls may hang.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes kept before the piece that is being written: a page that a write which hangs has begun cannot be read.
const RECENT: usize = 256 * 1024;
/// The most bytes kept of one body for followers that have not got them yet; beyond that they read the file.
const MOST: usize = 4 * 1024 * 1024;
/// The same of all bodies together.
const MOST_OF_ALL: usize = 64 * 1024 * 1024;

static ALL: AtomicUsize = AtomicUsize::new(0);

/// Consecutive pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<(u64, Arc<Vec<u8>>)>,
    bytes: usize,
}

impl Pieces {
    /// Adds the next piece; at position `first`, if no other is there.
    pub(crate) fn push(&mut self, first: u64, bytes: Arc<Vec<u8>>) {
        self.bytes += bytes.len();
        ALL.fetch_add(bytes.len(), Ordering::Relaxed);
        self.pieces.push_back((self.end().unwrap_or(first), bytes));
    }

    /// Drops the oldest pieces that no follower needs, or that there is no room for, but never the last one and the bytes
    /// just before it. Followers need all bytes from position `needed` on.
    pub(crate) fn keep_recent(&mut self, needed: u64) {
        while self.pieces.len() > 2
            && let (Some((at, first)), Some((_, last))) = (self.pieces.front(), self.pieces.back())
            && self.bytes > RECENT + last.len()
        {
            let is_needed = at + first.len() as u64 > needed;
            if is_needed && self.bytes <= MOST && ALL.load(Ordering::Relaxed) <= MOST_OF_ALL {
                return;
            }
            self.drop_first();
        }
    }

    /// Drops all but the last.
    pub(crate) fn keep_last(&mut self) {
        while self.pieces.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, piece)) = self.pieces.pop_front() {
            self.bytes -= piece.len();
            ALL.fetch_sub(piece.len(), Ordering::Relaxed);
        }
    }

    /// Where they begin.
    pub(crate) fn first(&self) -> Option<u64> {
        self.pieces.front().map(|(at, _)| *at)
    }

    /// Where they end.
    pub(crate) fn end(&self) -> Option<u64> {
        self.pieces.back().map(|(at, piece)| at + piece.len() as u64)
    }

    /// The piece with the byte at this position, and how many come before it.
    pub(crate) fn find(&self, position: u64) -> Option<(Arc<Vec<u8>>, usize)> {
        self.pieces.iter().find_map(|(at, piece)| {
            let skip = usize::try_from(position.checked_sub(*at)?).ok()?;
            (skip < piece.len()).then(|| (Arc::clone(piece), skip))
        })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        ALL.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_stay_and_those_that_are_needed_as_far_as_there_is_room() {
        let mut pieces = Pieces::default();
        assert_eq!((pieces.first(), pieces.end()), (None, None));
        let half = RECENT as u64 / 2;
        let add = |pieces: &mut Pieces, needed: u64| {
            pieces.push(10, Arc::new(vec![7; RECENT / 2]));
            pieces.keep_recent(needed);
        };
        (0..5).for_each(|_| add(&mut pieces, u64::MAX));
        assert_eq!((pieces.first(), pieces.end()), (Some(10 + 2 * half), Some(10 + 5 * half)));
        assert!(pieces.find(10 + 2 * half - 1).is_none() && pieces.find(10 + 5 * half).is_none());
        assert_eq!(pieces.find(10 + 4 * half + 1).unwrap().1, 1);
        (0..5).for_each(|_| add(&mut pieces, 10 + 3 * half));
        assert_eq!(pieces.first(), Some(10 + 3 * half));
        (0..100).for_each(|_| add(&mut pieces, 0));
        assert_eq!(pieces.end().unwrap() - pieces.first().unwrap(), MOST as u64);
        pieces.keep_last();
        assert_eq!(pieces.end().unwrap() - pieces.first().unwrap(), half);
    }
}
