//! Ticks of an event loop. Where the requests of a tick were received before it began, one check of a file in that tick
//! is new enough for all of them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Runtime;

/// Counts the ticks of one thread's loop in which a file is checked.
#[derive(Debug, Default)]
pub struct Ticks(Option<Rc<State>>);

/// The tick of the last check of a file.
#[derive(Debug, Default)]
pub struct LastCheck(Cell<u64>);

#[derive(Debug, Default)]
struct State {
    number: Cell<u64>,
    /// A file has been checked in this tick.
    asked: Cell<bool>,
    counter: RefCell<Option<Waker>>,
}

impl Ticks {
    /// Starts to count, in a task of its own, where requests are received ahead.
    pub fn start<R: Runtime>() -> Self {
        if !R::RECEIVES_AHEAD {
            return Self(None);
        }
        let state = Rc::new(State::default());
        let theirs = Rc::clone(&state);
        R::spawn(poll_fn(move |context| {
            theirs.asked.set(false);
            theirs.number.set(theirs.number.get() + 1);
            *theirs.counter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        }));
        Self(Some(state))
    }

    /// Whether a check in this tick is new enough for the bytes that [`receive`](super::Socket::receive) has returned in
    /// it. If not, the caller checks now.
    pub fn is_current(&self, last: &LastCheck) -> bool {
        self.0.as_ref().is_some_and(|state| {
            let tick = state.current();
            last.0.replace(tick) == tick
        })
    }
}

impl State {
    /// The number of this tick; never 0 once the loop runs. The first check wakes the counter, behind all tasks that have
    /// been woken: the number holds at most until the last of them has run.
    fn current(&self) -> u64 {
        if !self.asked.replace(true)
            && let Some(waker) = &*self.counter.borrow()
        {
            waker.wake_by_ref();
        }
        self.number.get()
    }
}
