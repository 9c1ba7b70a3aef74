//! Deadlines of waits, coarse and cheap: a wait costs an entry of a list, and one look at the clock in
//! every eighth of the shortest limit ends those that last too long. Most waits are over long
//! before, so a timer of the event loop for each would mostly be set to be taken back.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::Runtime;
use crate::sys::clock;

/// Checks of the list within the shortest limit; a wait ends late by one of them at most.
const CHECKS: u32 = 8;
/// The time between two checks, at the least and at the most.
const TICK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));

thread_local! {
    static WAITS: RefCell<Waits> = RefCell::default();
}

#[derive(Default)]
struct Waits {
    entries: Slab<Entry>,
    /// The shortest limit seen on this thread.
    shortest: Option<Duration>,
    /// The task that looks at the list; one whose number is not the last any more ends.
    ticker: u64,
    ticking: bool,
}

impl Waits {
    fn add(&mut self, limit: Duration, waker: &Waker) -> usize {
        let entry = Entry { ends: clock::steady() + limit, waker: waker.clone(), over: false };
        if self.shortest.is_none_or(|shortest| limit < shortest) {
            // The one that ticks now may sleep for longer than this limit.
            self.shortest = Some(limit);
            self.ticking = false;
        }
        self.entries.insert(entry)
    }

    /// The number of the task to start, if there is to be a new one.
    fn start(&mut self) -> Option<u64> {
        if std::mem::replace(&mut self.ticking, true) {
            return None;
        }
        self.ticker += 1;
        Some(self.ticker)
    }
}

struct Entry {
    ends: Duration,
    waker: Waker,
    over: bool,
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
        let over = WAITS.with_borrow_mut(|waits| {
            let Some(entry) = self.entry.and_then(|entry| waits.entries.get_mut(entry)) else {
                self.entry = Some(waits.add(self.limit, context.waker()));
                return false;
            };
            entry.waker.clone_from(context.waker());
            entry.over
        });
        if over {
            return Poll::Ready(());
        }
        if let Some(number) = WAITS.with_borrow_mut(Waits::start) {
            let ticking = Ticking(number);
            R::spawn(async move {
                tick::<R>(&ticking).await;
                drop(ticking);
            });
        }
        Poll::Pending
    }
}

impl<R> Drop for Deadline<R> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            // Out of the list first: a waker's own end may end other waits.
            let removed = WAITS.try_with(|waits| waits.borrow_mut().entries.try_remove(entry));
            drop(removed);
        }
    }
}

/// Ends what lasts too long, for as long as anything is waited for.
async fn tick<R: Runtime>(ticking: &Ticking) {
    loop {
        let shortest = WAITS.with_borrow(|waits| waits.shortest).unwrap_or(TICK.1);
        R::sleep((shortest / CHECKS).clamp(TICK.0, TICK.1)).await;
        let more = WAITS.with_borrow_mut(|waits| {
            let now = clock::steady();
            for (_, entry) in &mut waits.entries {
                if !entry.over && entry.ends <= now {
                    entry.over = true;
                    entry.waker.wake_by_ref();
                }
            }
            !waits.entries.is_empty() && waits.ticker == ticking.0
        });
        if !more {
            return;
        }
    }
}

/// The task is there; dropped with it, also when its event loop ends.
struct Ticking(u64);

impl Drop for Ticking {
    fn drop(&mut self) {
        // Without a list nobody waits any more.
        let ended = |waits: &RefCell<Waits>| {
            let mut waits = waits.borrow_mut();
            waits.ticking &= waits.ticker != self.0;
        };
        WAITS.try_with(ended).unwrap_or_default();
    }
}
