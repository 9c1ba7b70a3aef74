//! Ticks of an event loop: what a tick works on had come in before it began, so what is looked up
//! once in a tick is new enough for all of it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Runtime;

/// Counts the ticks of one thread's loop in which somebody asks.
#[derive(Debug, Default)]
pub struct Ticks(Rc<State>);

#[derive(Debug, Default)]
struct State {
    number: Cell<u64>,
    /// Somebody has asked in this tick.
    asked: Cell<bool>,
    counter: RefCell<Option<Waker>>,
}

impl Ticks {
    /// Starts to count, on a task of its own.
    pub fn start<R: Runtime>() -> Self {
        let state = Rc::new(State::default());
        let theirs = Rc::clone(&state);
        R::spawn(poll_fn(move |context| {
            theirs.asked.set(false);
            theirs.number.set(theirs.number.get() + 1);
            *theirs.counter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        }));
        Self(state)
    }

    /// The number of this tick; never 0 once the loop runs. The first who asks puts the counter
    /// behind all tasks that have been woken: the number holds at most until the last of them has
    /// had its turn.
    pub fn current(&self) -> u64 {
        if !self.0.asked.replace(true)
            && let Some(waker) = &*self.0.counter.borrow()
        {
            waker.wake_by_ref();
        }
        self.0.number.get()
    }
}
