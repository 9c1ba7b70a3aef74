//! A bounded amount of something that all workers share, in shares that leave room for each other.
//!
//! Each share has a least, which nobody else can take, and a most, which it never exceeds. What lies
//! between is for who comes first. Who finds no room waits in the line of the share, in the order of
//! asking; tasks that can give back what they hold only for speed are told that somebody waits.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::mailbox::{Waiter, Waiters};

/// What one share may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// So much is never given to others.
    pub least: usize,
    /// More than this it never has.
    pub most: usize,
}

/// The amount, and who has how much of it.
#[derive(Debug)]
pub struct Budget(Mutex<State>);

#[derive(Debug)]
struct State {
    total: usize,
    shares: Vec<Holding>,
    /// Counts those who have waited.
    clock: u64,
    /// Times that the system has refused more.
    alarms: u64,
    /// Who gives back when somebody waits.
    givers: Waiters,
}

#[derive(Debug)]
struct Holding {
    share: Share,
    used: usize,
    line: VecDeque<Turn>,
}

/// One who waits.
#[derive(Debug)]
struct Turn {
    number: u64,
    count: usize,
    waiters: Waiters,
}

/// Something taken; free again when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    share: usize,
    count: usize,
}

impl Budget {
    /// So much of it, in these shares. What the shares have at the least is theirs even where the whole is less.
    pub fn new(total: usize, shares: &[Share]) -> Arc<Self> {
        let holding = |&share: &Share| Holding { share, used: 0, line: VecDeque::new() };
        let shares = shares.iter().map(holding).collect();
        Arc::new(Self(Mutex::new(State { total, shares, clock: 0, alarms: 0, givers: Waiters::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the shares have now.
    pub fn used(&self) -> Vec<usize> {
        self.state().shares.iter().map(|holding| holding.used).collect()
    }

    /// What the shares may have.
    pub fn shares(&self) -> Vec<Share> {
        self.state().shares.iter().map(|holding| holding.share).collect()
    }

    /// Takes so much, if there is room and nobody waits for it.
    pub fn try_take(self: &Arc<Self>, share: usize, count: usize) -> Option<Permit> {
        let mut state = self.state();
        let room = state.shares[share].line.is_empty() && state.has_room(share, count);
        room.then(|| {
            state.shares[share].used += count;
            Permit { budget: Arc::clone(self), share, count }
        })
    }

    /// Takes so much, in the order of asking. The caller bounds the wait. An error outside of a worker.
    pub async fn take(self: &Arc<Self>, share: usize, count: usize) -> io::Result<Permit> {
        if let Some(permit) = self.try_take(share, count) {
            return Ok(permit);
        }
        let waiter = Waiter::new()?;
        let waiting = Waiting { budget: self, share, number: self.state().line_up(share, count) };
        poll_fn(|context| self.state().turn(share, waiting.number, &waiter, context)).await;
        drop(waiting);
        Ok(Permit { budget: Arc::clone(self), share, count })
    }

    /// Says that the system has refused more than it should have: all that is held only for speed is to go.
    pub fn alarm(&self) {
        let mut state = self.state();
        state.alarms += 1;
        state.givers.wake_all();
    }

    /// Waits until somebody waits, or there are more alarms than so many `heard` before. How many there are now.
    pub async fn wanted(&self, heard: u64, waiter: &Waiter) -> u64 {
        poll_fn(|context| {
            let mut state = self.state();
            if state.alarms != heard || state.shares.iter().any(|holding| !holding.line.is_empty()) {
                return Poll::Ready(state.alarms);
            }
            state.givers.add(waiter, context);
            Poll::Pending
        })
        .await
    }

    /// How much more would have to be given back for those who wait.
    pub fn missing(&self) -> usize {
        let state = self.state();
        state.shares.iter().flat_map(|holding| &holding.line).map(|turn| turn.count).sum()
    }
}

impl State {
    fn has_room(&self, share: usize, count: usize) -> bool {
        let Holding { share: Share { least, most }, used, .. } = &self.shares[share];
        let after = used.saturating_add(count);
        // Who has nothing may always have one thing, or a tiny budget would be none.
        if after <= *least {
            return true;
        }
        let others = self.shares.iter().enumerate().filter(|(number, _)| *number != share);
        let taken: usize = others.map(|(_, holding)| holding.used.max(holding.share.least)).sum();
        after <= *most && taken.saturating_add(after) <= self.total
    }

    fn line_up(&mut self, share: usize, count: usize) -> u64 {
        self.clock += 1;
        let number = self.clock;
        self.shares[share].line.push_back(Turn { number, count, waiters: Waiters::default() });
        self.givers.wake_all();
        number
    }

    /// Takes what this one waits for, if it is the first in its line and there is room by now.
    fn turn(&mut self, share: usize, number: u64, waiter: &Waiter, context: &Context<'_>) -> Poll<()> {
        let first = self.shares[share].line.front().filter(|turn| turn.number == number);
        if let Some(count) = first.map(|turn| turn.count)
            && self.has_room(share, count)
        {
            self.shares[share].used += count;
            self.shares[share].line.pop_front();
            self.call();
            return Poll::Ready(());
        }
        if let Some(turn) = self.shares[share].line.iter_mut().find(|turn| turn.number == number) {
            turn.waiters.add(waiter, context);
        }
        Poll::Pending
    }

    /// Wakes those who are the first in their lines, if there is room for them.
    fn call(&mut self) {
        for share in 0..self.shares.len() {
            let count = self.shares[share].line.front().map(|turn| turn.count);
            if count.is_some_and(|count| self.has_room(share, count))
                && let Some(turn) = self.shares[share].line.front_mut()
            {
                turn.waiters.wake_all();
            }
        }
    }
}

/// Somebody in line; if he leaves, the next one is the first.
struct Waiting<'a> {
    budget: &'a Budget,
    share: usize,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let line = &mut state.shares[self.share].line;
        let place = line.iter().position(|turn| turn.number == self.number);
        if let Some(mut turn) = place.and_then(|place| line.remove(place)) {
            // Its place to sleep is free only when it has been woken.
            turn.waiters.wake_all();
            state.call();
        }
    }
}

impl Permit {
    /// Takes all but so much out of it.
    pub fn split_to(&mut self, left: usize) -> Self {
        let count = self.count.saturating_sub(left);
        self.count -= count;
        Self { budget: Arc::clone(&self.budget), share: self.share, count }
    }

    /// Gives a part of it back.
    pub fn give_back(&mut self, count: usize) {
        drop(self.split_to(self.count.saturating_sub(count)));
    }

    /// Makes it so much more, if there is room; whether there was.
    pub fn try_grow(&mut self, count: usize) -> bool {
        let mut state = self.budget.state();
        let room = state.shares[self.share].line.is_empty() && state.has_room(self.share, count);
        if room {
            state.shares[self.share].used += count;
            self.count += count;
        }
        room
    }

    /// Moves it to another share, if there is room; whether there was.
    pub fn try_move(&mut self, share: usize) -> bool {
        let mut state = self.budget.state();
        if share == self.share {
            return true;
        }
        state.shares[self.share].used -= self.count;
        let room = state.shares[share].line.is_empty() && state.has_room(share, self.count);
        let now = if room { share } else { self.share };
        state.shares[now].used += self.count;
        self.share = now;
        state.call();
        room
    }

    /// Moves it to another share, room or not: what is held is held.
    pub fn move_to(&mut self, share: usize) {
        let mut state = self.budget.state();
        state.shares[self.share].used -= self.count;
        state.shares[share].used += self.count;
        self.share = share;
        state.call();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let used = &mut state.shares[self.share].used;
        *used = used.saturating_sub(self.count);
        state.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::mailbox;
    use crate::rt::poll::{self, Portable};
    use futures_lite::future::poll_once;
    use proptest::prelude::*;
    use std::pin::pin;

    const A: usize = 0;
    const B: usize = 1;

    fn budget(total: usize) -> Arc<Budget> {
        Budget::new(total, &[Share { least: 2, most: 8 }, Share { least: 3, most: total }])
    }

    fn on_a_loop<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
        poll::run(|| async {
            mailbox::open::<Portable>().unwrap();
            test().await;
        })
        .unwrap();
    }

    #[test]
    fn a_share_leaves_the_others_their_least() {
        let budget = budget(10);
        let most = budget.try_take(A, 7).unwrap();
        assert!(budget.try_take(A, 1).is_none());
        let others = budget.try_take(B, 3).unwrap();
        assert!(budget.try_take(B, 1).is_none());
        drop(most);
        assert!(budget.try_take(B, 6).is_none());
        drop((budget.try_take(B, 5).unwrap(), others));
        assert_eq!(budget.used(), [0, 0]);
        assert!(budget.try_take(A, 9).is_none(), "more than its most");
    }

    #[test]
    fn a_tiny_budget_has_something_for_everybody() {
        let budget = budget(1);
        assert!(budget.try_take(A, 2).is_some() && budget.try_take(B, 3).is_some());
    }

    #[test]
    fn who_waits_is_served_in_the_order_of_asking_and_who_leaves_holds_up_nobody() {
        on_a_loop(|| async {
            let budget = budget(10);
            let all = budget.try_take(A, 7).unwrap();
            let mut first = pin!(budget.take(A, 3));
            let mut last = pin!(budget.take(A, 1));
            {
                let mut gone = pin!(budget.take(A, 7));
                assert!(poll_once(first.as_mut()).await.is_none());
                assert!(poll_once(gone.as_mut()).await.is_none());
                assert!(poll_once(last.as_mut()).await.is_none());
            }
            assert_eq!(budget.missing(), 4);
            drop(all);
            assert!(poll_once(last.as_mut()).await.is_none(), "out of turn");
            assert!(budget.try_take(A, 1).is_none(), "before those who wait");
            let first = poll_once(first.as_mut()).await.unwrap().unwrap();
            let last = poll_once(last.as_mut()).await.unwrap().unwrap();
            assert_eq!((budget.used(), budget.missing()), (vec![4, 0], 0));
            drop((first, last));
            assert_eq!(budget.used(), [0, 0]);
        });
    }

    #[test]
    fn a_permit_can_be_divided_and_change_its_share() {
        let budget = budget(10);
        let mut whole = budget.try_take(A, 3).unwrap();
        let mut part = whole.split_to(2);
        assert!(part.try_move(B));
        assert_eq!(budget.used(), [2, 1]);
        let rest = budget.try_take(B, 7).unwrap();
        assert!(!whole.try_move(B), "there is no room");
        whole.move_to(B);
        assert_eq!(budget.used(), [0, 10]);
        drop((whole, part, rest));
        assert_eq!(budget.used(), [0, 0]);
    }

    proptest! {
        #[test]
        fn never_more_than_there_is(takes in prop::collection::vec((0..2_usize, 1..6_usize, 0..4_usize), 0..80)) {
            let budget = budget(12);
            let mut held = Vec::new();
            for (share, count, drops) in takes {
                held.extend(budget.try_take(share, count));
                for _ in 0..drops.min(held.len()) {
                    held.swap_remove(0);
                }
                let (used, counted) = (budget.used(), held.iter().map(|permit| permit.count).sum::<usize>());
                prop_assert_eq!(used.iter().sum::<usize>(), counted);
                prop_assert!(used[A].max(2) + used[B].max(3) <= 12);
            }
        }
    }
}
