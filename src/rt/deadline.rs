//! Bounds on waits, coarse and cheap: a wait costs a place in a list, and one look at the clock in
//! every eighth of the shortest limit ends those that last too long. Most waits are over long
//! before, so a timer of the event loop for each would mostly be set to be taken back.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::Runtime;

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
    ticking: bool,
}

struct Place {
    ends: Instant,
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
        let start = WAITS.with_borrow_mut(|waits| {
            if let Some(place) = self.place.and_then(|place| waits.places.get_mut(place)) {
                if place.over {
                    return Poll::Ready(());
                }
                place.waker.clone_from(context.waker());
                return Poll::Pending;
            }
            let place = Place { ends: Instant::now() + self.limit, waker: context.waker().clone(), over: false };
            self.place = Some(waits.places.insert(place));
            waits.shortest = Some(waits.shortest.map_or(self.limit, |shortest| shortest.min(self.limit)));
            Poll::Pending
        });
        if start.is_pending() && !WAITS.with_borrow_mut(|waits| std::mem::replace(&mut waits.ticking, true)) {
            let ticking = Ticking;
            R::spawn(async move {
                tick::<R>().await;
                drop(ticking);
            });
        }
        start
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
async fn tick<R: Runtime>() {
    loop {
        let shortest = WAITS.with_borrow(|waits| waits.shortest).unwrap_or(TICK.1);
        R::sleep((shortest / LOOKS).clamp(TICK.0, TICK.1)).await;
        let more = WAITS.with_borrow_mut(|waits| {
            let now = Instant::now();
            for (_, place) in &mut waits.places {
                if !place.over && place.ends <= now {
                    place.over = true;
                    place.waker.wake_by_ref();
                }
            }
            !waits.places.is_empty()
        });
        if !more {
            return;
        }
    }
}

/// The task is there; dropped with it, also when its event loop ends.
struct Ticking;

impl Drop for Ticking {
    fn drop(&mut self) {
        // Without a list nobody waits any more.
        WAITS.try_with(|waits| waits.borrow_mut().ticking = false).unwrap_or_default();
    }
}
