//! Deadlines of waits, coarse and cheap: a wait costs an entry of a list, and a check of the clock in every eighth of
//! the shortest limit ends those that last too long. Most waits are over long before, so a timer of the event loop for
//! each would mostly be set to be cancelled.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::Runtime;
use crate::sys::clock;

/// Checks of the list within the shortest limit; a wait ends late by one of them at most.
const CHECKS: u32 = 8;
/// The time between two checks, at the least and at the most.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));

thread_local! {
    static WAITS: RefCell<Waits> = RefCell::default();
}

#[derive(Default)]
struct Waits {
    entries: Slab<Entry>,
    /// The shortest limit seen on this thread.
    shortest: Option<Duration>,
    /// What the task that checks the list holds, for as long as it runs.
    checker: Weak<()>,
}

struct Entry {
    ends: Duration,
    waker: Waker,
    is_over: bool,
}

impl Waits {
    fn add(&mut self, limit: Duration, waker: &Waker) -> usize {
        if self.shortest.is_none_or(|shortest| limit < shortest) {
            // The task that checks the list now may sleep for longer than this limit.
            self.shortest = Some(limit);
            self.checker = Weak::new();
        }
        self.entries.insert(Entry { ends: clock::steady() + limit, waker: waker.clone(), is_over: false })
    }

    /// Wakes the tasks whose deadline has passed. Returns whether this checker is still needed.
    fn check(&mut self, checker: &Rc<()>) -> bool {
        let now = clock::steady();
        for (_, entry) in &mut self.entries {
            if !entry.is_over && entry.ends <= now {
                entry.is_over = true;
                entry.waker.wake_by_ref();
            }
        }
        !self.entries.is_empty() && self.checker.as_ptr() == Rc::as_ptr(checker)
    }
}

/// Ready once `limit` has passed since it was first polled.
pub(super) struct Deadline<R> {
    limit: Duration,
    entry: Option<usize>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Deadline<R> {
    /// Nothing is counted before the first poll.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, entry: None, runtime: PhantomData }
    }
}

impl<R: Runtime> Future for Deadline<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        WAITS.with_borrow_mut(|waits| {
            if let Some(entry) = self.entry.and_then(|entry| waits.entries.get_mut(entry)) {
                entry.waker.clone_from(context.waker());
                return if entry.is_over { Poll::Ready(()) } else { Poll::Pending };
            }
            self.entry = Some(waits.add(self.limit, context.waker()));
            if waits.checker.strong_count() == 0 {
                let checker = Rc::new(());
                waits.checker = Rc::downgrade(&checker);
                R::spawn(check::<R>(checker));
            }
            Poll::Pending
        })
    }
}

impl<R> Drop for Deadline<R> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            // Dropped behind the borrow: a waker may be the last to hold a task with other deadlines.
            let removed = WAITS.try_with(|waits| waits.borrow_mut().entries.try_remove(entry));
            drop(removed);
        }
    }
}

/// Checks the list for as long as it has entries, or until a shorter limit needs another checker.
async fn check<R: Runtime>(checker: Rc<()>) {
    loop {
        let shortest = WAITS.with_borrow(|waits| waits.shortest).unwrap_or(INTERVAL.1);
        R::sleep((shortest / CHECKS).clamp(INTERVAL.0, INTERVAL.1)).await;
        if !WAITS.with_borrow_mut(|waits| waits.check(&checker)) {
            return;
        }
    }
}
