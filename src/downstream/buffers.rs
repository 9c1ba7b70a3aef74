//! Buffers for requests: lent to connections that are busy, so that one that idles holds none.

use std::cell::RefCell;

/// Bytes of one. Most requests are a third of it; a longer head is read in several steps.
const SIZE: usize = 2048;
/// Spare ones kept: as many as one turn of a busy loop lends.
const SPARE: usize = 256;

/// One worker's spare buffers.
#[derive(Debug, Default)]
pub struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer.
    pub fn lend(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SIZE))
    }

    /// Takes one back, whatever it holds. One that has grown is not kept.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.0.borrow_mut();
        if buffer.capacity() == SIZE && spare.len() < SPARE {
            buffer.clear();
            spare.push(buffer);
        }
    }
}
