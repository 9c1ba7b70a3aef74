//! Bounds on waits, coarse and cheap: a wait costs a place in a list, and one look at the clock in
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

/// The list is looked at so many times within the shortest limit, and a wait ends late by that much.
const LOOKS: u32 = 8;
/// How often it is looked at, at most and at least.
const TICK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));

thread_local! {
    static WAITS: RefCell<Waits> = RefCell::default();
}

#[derive(Default)]
struct Waits {
    places: Slab<Place>,
    /// The shortest limit seen on this thread.
    shortest: Option<Duration>,
    /// The task that looks at the list; one whose number is not the last any more ends.
    ticker: u64,
    ticking: bool,
}

impl Waits {
    fn add(&mut self, limit: Duration, waker: &Waker) -> usize {
        let place = Place { ends: clock::steady() + limit, waker: waker.clone(), over: false };
        if self.shortest.is_none_or(|shortest| limit < shortest) {
            // The one that ticks now may sleep for longer than this limit.
            self.shortest = Some(limit);
            self.ticking = false;
        }
        self.places.insert(place)
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

struct Place {
    ends: Duration,
    waker: Waker,
    over: bool,
}

/// Ready once `limit` has passed since it was first polled.
pub(super) struct Late<R> {
    limit: Duration,
    place: Option<usize>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Late<R> {
    /// Nothing is counted before the first poll.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, place: None, runtime: PhantomData }
    }
}

impl<R: Runtime> Future for Late<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let over = WAITS.with_borrow_mut(|waits| {
            let Some(place) = self.place.and_then(|place| waits.places.get_mut(place)) else {
                self.place = Some(waits.add(self.limit, context.waker()));
                return false;
            };
            place.waker.clone_from(context.waker());
            place.over
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

impl<R> Drop for Late<R> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            // Out of the list first: a waker's own end may end other waits.
            let removed = WAITS.try_with(|waits| waits.borrow_mut().places.try_remove(place));
            drop(removed);
        }
    }
}

/// Ends what lasts too long, for as long as anything is waited for.
async fn tick<R: Runtime>(ticking: &Ticking) {
    loop {
        let shortest = WAITS.with_borrow(|waits| waits.shortest).unwrap_or(TICK.1);
        R::sleep((shortest / LOOKS).clamp(TICK.0, TICK.1)).await;
        let more = WAITS.with_borrow_mut(|waits| {
            let now = clock::steady();
            for (_, place) in &mut waits.places {
                if !place.over && place.ends <= now {
                    place.over = true;
                    place.waker.wake_by_ref();
                }
            }
            !waits.places.is_empty() && waits.ticker == ticking.0
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
