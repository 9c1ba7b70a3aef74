//! One ring for everyone who listens on this thread, from then on for good.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// A bell of one thread. Listening to it costs no lock and no system call.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Cell<bool>,
    listeners: RefCell<Slab<Waker>>,
}

impl Bell {
    /// Wakes all who listen, and all who will.
    pub fn ring(&self) {
        self.rung.set(true);
        for waker in self.listeners.take().drain() {
            waker.wake();
        }
    }

    /// Waits for the ring.
    pub fn heard(&self) -> Heard<'_> {
        Heard { bell: self, place: None }
    }
}

/// See [`Bell::heard`].
#[derive(Debug)]
pub struct Heard<'a> {
    bell: &'a Bell,
    place: Option<usize>,
}

impl Future for Heard<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.bell.rung.get() {
            self.place = None;
            return Poll::Ready(());
        }
        let mut listeners = self.bell.listeners.borrow_mut();
        match self.place.and_then(|place| listeners.get_mut(place)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                let place = listeners.insert(context.waker().clone());
                drop(listeners);
                self.place = Some(place);
            }
        }
        Poll::Pending
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.bell.listeners.borrow_mut().try_remove(place);
        }
    }
}
