//! What one transfer may do before others get their turn: much while large transfers have a worker
//! to themselves, little while it answers small requests too, which would wait for every slice.

use std::cell::Cell;

/// Bytes moved without a wait while small requests are answered. More would show in how long they
/// take; less would cost a large transfer more turns than it is worth.
const LITTLE: u64 = 128 * 1024;
/// The same while there are none.
const MUCH: u64 = 1024 * 1024;
/// An answer up to this size is small.
const SMALL: u64 = 64 * 1024;

thread_local! {
    static SLICE: Cell<u64> = const { Cell::new(LITTLE) };
}

/// Notes an answer of `bytes` on this thread.
pub fn answered(bytes: u64) {
    if bytes <= SMALL {
        SLICE.set(LITTLE);
    }
}

/// Bytes that may be moved until the next turn.
pub fn slice() -> u64 {
    SLICE.get()
}

/// Are small requests answered too?
pub fn is_shared() -> bool {
    SLICE.get() < MUCH
}

/// Notes that a transfer has given others their turn. With no small request among them the next
/// slice is larger.
pub fn turned() {
    SLICE.set((SLICE.get() * 2).min(MUCH));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_grow_until_a_small_request_is_answered() {
        assert_eq!(slice(), LITTLE);
        (0..9).for_each(|_| turned());
        assert_eq!(slice(), MUCH);
        answered(SMALL + 1);
        assert_eq!(slice(), MUCH);
        answered(0);
        assert_eq!(slice(), LITTLE);
    }
}
