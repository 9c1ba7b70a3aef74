//! A notification for the tasks of one thread, given once and for good, such as that of a stop.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// Wakes all tasks that wait for it. Waiting costs no lock and no system call.
#[derive(Debug, Default)]
pub struct Notify {
    is_set: Cell<bool>,
    waiters: RefCell<Slab<Waker>>,
}

impl Notify {
    /// Wakes all tasks that wait; later waits end at once.
    pub fn notify_all(&self) {
        self.is_set.set(true);
        for waker in self.waiters.take().drain() {
            waker.wake();
        }
    }

    /// Waits for the notification. May be dropped.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, index: None }
    }
}

/// See [`Notify::notified`].
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
    index: Option<usize>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.notify.is_set.get() {
            self.index = None;
            return Poll::Ready(());
        }
        let mut waiters = self.notify.waiters.borrow_mut();
        match self.index.and_then(|index| waiters.get_mut(index)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                let index = waiters.insert(context.waker().clone());
                drop(waiters);
                self.index = Some(index);
            }
        }
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            self.notify.waiters.borrow_mut().try_remove(index);
        }
    }
}
