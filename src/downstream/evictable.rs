//! Connections that wait in tasks of their own: their head is incomplete, the client has closed its side, or this system
//! has no parking. When other clients wait for a place, those that have waited for longest are evicted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// One worker's, numbered in the order in which they began to wait.
#[derive(Debug, Default)]
pub struct Evictable {
    wakers: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

impl Evictable {
    /// Waits until this connection is evicted. May be dropped.
    pub async fn evicted(&self) {
        let entry = Entry(self, self.next.replace(self.next.get() + 1));
        self.wakers.borrow_mut().insert(entry.1, Waker::noop().clone());
        poll_fn(|context| match self.wakers.borrow_mut().get_mut(&entry.1) {
            Some(waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.wakers.borrow().len()
    }

    /// Evicts this many. They are gone after the next turn of the loop.
    pub fn evict(&self, count: usize) {
        let mut wakers = self.wakers.borrow_mut();
        std::iter::from_fn(|| wakers.pop_first()).take(count).for_each(|(_, waker)| waker.wake());
    }
}

/// The number of a connection; no longer on the list when dropped.
struct Entry<'a>(&'a Evictable, u64);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.wakers.borrow_mut().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn the_connection_that_has_waited_for_longest_is_evicted_first() {
        let evictable = Evictable::default();
        let mut all: Vec<_> = (0..5).map(|_| Box::pin(evictable.evicted())).collect();
        let mut gone = || all.iter_mut().map(|one| block_on(poll_once(one)).is_some()).collect::<Vec<_>>();
        assert_eq!(gone(), [false; 5]);
        evictable.evict(1);
        assert_eq!(gone(), [true, false, false, false, false]);
        drop(all.drain(..2));
        assert_eq!(evictable.count(), 3);
        let mut gone = || all.iter_mut().map(|one| block_on(poll_once(one)).is_some()).collect::<Vec<_>>();
        evictable.evict(2);
        assert_eq!(gone(), [true, true, false]);
        drop(all.drain(..2));
        evictable.evict(9);
        assert_eq!(all.iter_mut().map(|one| block_on(poll_once(one)).is_some()).collect::<Vec<_>>(), [true]);
        assert_eq!(evictable.count(), 0);
    }
}
