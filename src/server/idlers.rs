//! Connections that wait in tasks of their own, since none can be parked or a head has begun and does not
//! end: told to go when others wait for a place, first those that have waited for longest.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// One worker's, numbered in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct WaitingConnections {
    wakers: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

impl WaitingConnections {
    /// Waits until it is this one's turn to go.
    pub(super) fn told_to_go(&self) -> ToldToGo<'_> {
        ToldToGo { idlers: self, number: None }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.wakers.borrow().len()
    }

    /// Tells so many of them to go, which they do in the next turn of the loop.
    pub(super) fn dismiss(&self, count: usize) {
        let mut wakers = self.wakers.borrow_mut();
        for _ in 0..count {
            let Some((_, waker)) = wakers.pop_first() else { return };
            waker.wake();
        }
    }
}

/// See [`WaitingConnections::told_to_go`].
#[derive(Debug)]
pub(super) struct ToldToGo<'a> {
    idlers: &'a WaitingConnections,
    /// Its waker is there under this number until it has been told.
    number: Option<u64>,
}

impl Future for ToldToGo<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let idlers = self.idlers;
        let mut wakers = idlers.wakers.borrow_mut();
        match self.number {
            Some(number) => match wakers.get_mut(&number) {
                Some(waker) => waker.clone_from(context.waker()),
                None => return Poll::Ready(()),
            },
            None => {
                let number = idlers.next.get();
                idlers.next.set(number + 1);
                wakers.insert(number, context.waker().clone());
                self.number = Some(number);
            }
        }
        Poll::Pending
    }
}

impl Drop for ToldToGo<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.idlers.wakers.borrow_mut().remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn who_has_idled_for_longest_goes_first() {
        let idlers = WaitingConnections::default();
        let mut all: Vec<_> = (0..5).map(|_| idlers.told_to_go()).collect();
        let gone = |all: &mut Vec<ToldToGo<'_>>| {
            all.iter_mut().map(|one| block_on(poll_once(one)).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(gone(&mut all), [false; 5]);
        drop(all.remove(1));
        assert_eq!(idlers.len(), 4);
        idlers.dismiss(2);
        assert_eq!(gone(&mut all), [true, true, false, false]);
        idlers.dismiss(9);
        assert_eq!((gone(&mut all), idlers.len()), (vec![true; 4], 0));
    }
}
