//! Fairness among transfers: how much one may move before others get their turn. Much while large transfers have a
//! worker to themselves, little while it sends small responses too, which would wait for every quantum.

use std::cell::Cell;

/// Bytes moved without a wait while small responses are sent. More would show in how long they
/// take; less would cost a large transfer more turns than it is worth.
const SMALL_QUANTUM: u64 = 128 * 1024;
/// The same while there are none.
const LARGE_QUANTUM: u64 = 1024 * 1024;
/// A response up to this size is small.
const SMALL: u64 = 64 * 1024;

thread_local! {
    static QUANTUM: Cell<u64> = const { Cell::new(SMALL_QUANTUM) };
}

/// Notes a response of `bytes` on this thread.
pub fn note_response(bytes: u64) {
    if bytes <= SMALL {
        QUANTUM.set(SMALL_QUANTUM);
    }
}

/// Bytes that a transfer may move until it lets others run.
pub fn quantum() -> u64 {
    QUANTUM.get()
}

/// Whether small responses are sent too.
pub fn is_contended() -> bool {
    QUANTUM.get() < LARGE_QUANTUM
}

/// Notes that a transfer has let others run. With no small response among them the next quantum is larger.
pub fn yielded() {
    QUANTUM.set((QUANTUM.get() * 2).min(LARGE_QUANTUM));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quanta_grow_until_a_small_response_is_sent() {
        assert_eq!(quantum(), SMALL_QUANTUM);
        (0..9).for_each(|_| yielded());
        assert_eq!(quantum(), LARGE_QUANTUM);
        note_response(SMALL + 1);
        assert_eq!(quantum(), LARGE_QUANTUM);
        note_response(0);
        assert_eq!(quantum(), SMALL_QUANTUM);
    }
}
