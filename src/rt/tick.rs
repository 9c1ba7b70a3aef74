//! Ticks of an event loop. Where what a tick works on was received before it began, one look at a file in that
//! tick is new enough for all its requests.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Runtime;

/// Counts the ticks of one thread's loop in which somebody asks.
#[derive(Debug, Default)]
pub struct Ticks(Option<Rc<State>>);

/// When something was last looked at, in ticks.
#[derive(Debug, Default)]
pub struct Look(Cell<u64>);

#[derive(Debug, Default)]
struct State {
    number: Cell<u64>,
    /// Somebody has asked in this tick.
    asked: Cell<bool>,
    counter: RefCell<Option<Waker>>,
}

impl Ticks {
    /// Starts to count, on a task of its own, where there is use for it.
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

    /// Whether there was a look already that is new enough for what [`receive`](super::Socket::receive) has given in
    /// this tick. If not, the caller looks now.
    pub fn is_current(&self, look: &Look) -> bool {
        self.0.as_ref().is_some_and(|state| {
            let tick = state.current();
            look.0.replace(tick) == tick
        })
    }
}

impl State {
    /// The number of this tick; never 0 once the loop runs. The first who asks puts the counter
    /// behind all tasks that have been woken: the number holds at most until the last of them has
    /// had its turn.
    fn current(&self) -> u64 {
        if !self.asked.replace(true)
            && let Some(waker) = &*self.counter.borrow()
        {
            waker.wake_by_ref();
        }
        self.number.get()
    }
}
