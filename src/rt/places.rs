//! A bounded number of places on one thread, and a line for those who wait for one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The places.
#[derive(Clone, Debug)]
pub struct Places(Rc<State>);

#[derive(Debug)]
struct State {
    free: Cell<usize>,
    line: RefCell<VecDeque<Rc<Turn>>>,
}

/// One who waits.
#[derive(Debug)]
struct Turn {
    waker: RefCell<Waker>,
    /// The place is his.
    granted: Cell<bool>,
    /// He has gone.
    left: Cell<bool>,
}

/// A place taken; free again when dropped.
#[derive(Debug)]
pub struct Place(Rc<State>);

impl Places {
    /// So many places, all free.
    pub fn new(count: usize) -> Self {
        Self(Rc::new(State { free: Cell::new(count), line: RefCell::default() }))
    }

    /// Takes a place, in the order of asking.
    pub async fn take(&self) -> Place {
        let state = &self.0;
        if state.free.get() > 0 {
            state.free.set(state.free.get() - 1);
            return Place(Rc::clone(state));
        }
        let mut waiting = Waiting { state: Rc::clone(state), turn: None };
        poll_fn(|context| match &waiting.turn {
            Some(turn) if turn.granted.get() => Poll::Ready(()),
            Some(turn) => {
                turn.waker.borrow_mut().clone_from(context.waker());
                Poll::Pending
            }
            None => {
                let (granted, left) = (Cell::new(false), Cell::new(false));
                let turn = Rc::new(Turn { waker: RefCell::new(context.waker().clone()), granted, left });
                state.line.borrow_mut().push_back(Rc::clone(&turn));
                waiting.turn = Some(turn);
                Poll::Pending
            }
        })
        .await;
        waiting.turn = None;
        Place(Rc::clone(state))
    }
}

/// Somebody in line; if he leaves before his turn is used, the next one has it.
struct Waiting {
    state: Rc<State>,
    turn: Option<Rc<Turn>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.left.set(true);
            if turn.granted.get() {
                self.state.release();
            }
        }
    }
}

impl State {
    fn release(&self) {
        loop {
            let next = self.line.borrow_mut().pop_front();
            match next {
                Some(turn) if turn.left.get() => {}
                Some(turn) => {
                    turn.granted.set(true);
                    turn.waker.borrow().wake_by_ref();
                    return;
                }
                None => return self.free.set(self.free.get() + 1),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn places_go_round_in_the_order_of_asking() {
        block_on(async {
            let places = Places::new(1);
            let first = places.take().await;
            let (mut second, mut third) = (pin!(places.take()), pin!(places.take()));
            assert!(poll_once(second.as_mut()).await.is_none());
            assert!(poll_once(third.as_mut()).await.is_none());
            drop(first);
            assert!(poll_once(third.as_mut()).await.is_none());
            let second = poll_once(second.as_mut()).await.unwrap();
            assert!(poll_once(third.as_mut()).await.is_none());
            drop(second);
            assert!(poll_once(third.as_mut()).await.is_some());
        });
    }

    #[test]
    fn who_leaves_the_line_takes_no_place() {
        block_on(async {
            let places = Places::new(1);
            let first = places.take().await;
            let mut last = pin!(places.take());
            {
                let (mut granted, mut waiting) = (pin!(places.take()), pin!(places.take()));
                assert!(poll_once(granted.as_mut()).await.is_none());
                assert!(poll_once(waiting.as_mut()).await.is_none());
                assert!(poll_once(last.as_mut()).await.is_none());
                drop(first);
            }
            drop(poll_once(last.as_mut()).await.unwrap());
            drop(poll_once(pin!(places.take())).await.unwrap());
        });
    }
}
