//! The stop of the process: whether it has been asked for, and what is still in progress.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use crate::rt::lock::Lock;
use crate::rt::remote_wake::{Waiter, Waiters};

/// Asked for once, for every worker.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    waiters: Lock<Waiters>,
    busy: AtomicUsize,
}

impl Stop {
    /// Nothing new from now on.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.waiters.lock().wake_all();
    }

    /// Whether it has been asked for.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until it is asked for.
    pub async fn wait(&self) {
        let waiter = Waiter::new();
        poll_fn(|context| {
            self.waiters.lock().add(&waiter, context);
            // Checked after the waiter is on the list, which a later stop wakes.
            if self.asked.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Counts one connection, fill or listener until the result is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether anything is still in progress.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }
}

/// Something in progress, which the end of the process waits for.
#[derive(Debug)]
pub struct Busy(Arc<Stop>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
