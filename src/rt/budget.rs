//! A bounded amount of something that all workers share, in shares that leave room for each other.
//!
//! Each share has a least, which nobody else can take, and a most, which it never exceeds. What lies
//! between is for who comes first. Who finds no room waits in the line of the share, in the order of
//! asking; tasks that can give back what they hold only for speed are told that somebody waits.
//!
//! Of a share for many clients no single one has all: each has at most `FAIR` times what is then left. One who
//! has that waits, and those behind him do not wait for him.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::remote_wake::{Waiter, Waiters};

/// What one client has of a share is at most so many times as much as is left for others.
const FAIR: usize = 3;

/// Whom an address stands for: with IPv6 one host has a whole network of 2^64 (RFC 4291 section 2.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Holder(NonZeroU64);

impl From<IpAddr> for Holder {
    fn from(address: IpAddr) -> Self {
        // An address of version 4 has the place of a network that nobody has, and so has what has none.
        let bits = match address.to_canonical() {
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
            IpAddr::V4(v4) => 0xffff << 32 | u64::from(v4.to_bits()),
        };
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

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
    /// Counts what was given back.
    freed: u64,
    /// Times that the system has refused more.
    alarms: u64,
    /// Who gives back when somebody waits.
    givers: Waiters,
}

#[derive(Debug)]
struct Holding {
    share: Share,
    used: usize,
    /// What of it counts for whom.
    held: HashMap<Holder, usize>,
    line: VecDeque<Turn>,
}

/// One who waits.
#[derive(Debug)]
struct Turn {
    number: u64,
    count: usize,
    holder: Option<Holder>,
    waiters: Waiters,
}

/// Something taken; free again when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    share: usize,
    count: usize,
    holder: Option<Holder>,
}

impl Budget {
    /// So much of it, in these shares. What the shares have at the least is theirs even where the whole is less.
    pub fn new(total: usize, shares: &[Share]) -> Arc<Self> {
        let holding =
            |&share: &Share| Holding { share, used: 0, held: HashMap::new(), line: VecDeque::new() };
        let shares = shares.iter().map(holding).collect();
        Arc::new(Self(Mutex::new(State {
            total,
            shares,
            clock: 0,
            freed: 0,
            alarms: 0,
            givers: Waiters::default(),
        })))
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
        self.try_take_for(share, count, None)
    }

    fn try_take_for(self: &Arc<Self>, share: usize, count: usize, holder: Option<Holder>) -> Option<Permit> {
        let mut state = self.state();
        state.is_open(share, count, holder).then(|| {
            state.shares[share].add(count, holder);
            Permit { budget: Arc::clone(self), share, count, holder }
        })
    }

    /// Takes so much, room or not: those who come next wait the longer.
    pub fn take_anyway(self: &Arc<Self>, share: usize, count: usize) -> Permit {
        self.state().shares[share].add(count, None);
        Permit { budget: Arc::clone(self), share, count, holder: None }
    }

    /// Takes so much, in the order of asking. The caller bounds the wait. An error outside of a worker.
    pub async fn take(self: &Arc<Self>, share: usize, count: usize) -> io::Result<Permit> {
        self.take_for(share, count, None).await
    }

    /// The same for one client, where there is one, who may not have all of it.
    pub async fn take_for(
        self: &Arc<Self>,
        share: usize,
        count: usize,
        holder: Option<Holder>,
    ) -> io::Result<Permit> {
        if let Some(permit) = self.try_take_for(share, count, holder) {
            return Ok(permit);
        }
        let waiter = Waiter::new()?;
        let number = self.state().line_up(share, count, holder);
        let waiting = Waiting { budget: self, share, number };
        poll_fn(|context| self.state().turn(share, waiting.number, &waiter, context)).await;
        drop(waiting);
        Ok(Permit { budget: Arc::clone(self), share, count, holder })
    }

    /// A number that changes whenever something is given back.
    pub fn freed(&self) -> u64 {
        self.state().freed
    }

    /// What the first in the line of this share waits for.
    pub fn next(&self, share: usize) -> Option<usize> {
        self.state().shares[share].line.front().map(|turn| turn.count)
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

impl Holding {
    fn add(&mut self, count: usize, holder: Option<Holder>) {
        self.used += count;
        if let Some(holder) = holder {
            *self.held.entry(holder).or_default() += count;
        }
    }

    fn remove(&mut self, count: usize, holder: Option<Holder>) {
        self.used = self.used.saturating_sub(count);
        if let Some(Entry::Occupied(mut held)) = holder.map(|holder| self.held.entry(holder)) {
            *held.get_mut() = held.get().saturating_sub(count);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }

    /// Does it leave enough for others if this one gets so much where there is so much `room`?
    fn is_fair(&self, count: usize, holder: Option<Holder>, room: usize) -> bool {
        let has = holder.and_then(|holder| self.held.get(&holder));
        has.is_none_or(|has| has.saturating_add(count) <= room.saturating_mul(FAIR))
    }
}

impl State {
    /// How much more this share may have.
    fn room(&self, share: usize) -> usize {
        let Holding { share: Share { least, most }, used, .. } = &self.shares[share];
        let others = self.shares.iter().enumerate().filter(|(number, _)| *number != share);
        let taken: usize = others.map(|(_, holding)| holding.used.max(holding.share.least)).sum();
        let left = self.total.saturating_sub(taken).min(*most).saturating_sub(*used);
        // Who has nothing may always have one thing, or a tiny budget would be none.
        left.max(least.saturating_sub(*used))
    }

    /// Is there so much, and nobody whose turn it is before?
    fn is_open(&self, share: usize, count: usize, holder: Option<Holder>) -> bool {
        let room = self.room(share);
        count <= room && self.shares[share].is_fair(count, holder, room) && self.first(share, room).is_none()
    }

    /// Whose turn it is where there is so much `room`: the first in the line who leaves enough for others.
    fn first(&self, share: usize, room: usize) -> Option<usize> {
        let Holding { line, .. } = &self.shares[share];
        let mut over = None;
        line.iter().position(|&Turn { count, holder, .. }| {
            // Many in a row may be of one client.
            let passed_over = holder.is_some() && holder == over;
            let is_fair = !passed_over && self.shares[share].is_fair(count, holder, room);
            if !is_fair {
                over = holder;
            }
            is_fair
        })
    }

    fn line_up(&mut self, share: usize, count: usize, holder: Option<Holder>) -> u64 {
        self.clock += 1;
        let number = self.clock;
        self.shares[share].line.push_back(Turn { number, count, holder, waiters: Waiters::default() });
        self.givers.wake_all();
        number
    }

    /// Takes what this one waits for, if it is his turn and there is room by now.
    fn turn(&mut self, share: usize, number: u64, waiter: &Waiter, context: &Context<'_>) -> Poll<()> {
        let room = self.room(share);
        let first = self.first(share, room);
        let holding = &mut self.shares[share];
        let is_his = |at: &usize| holding.line.get(*at).is_some_and(|turn| turn.number == number);
        if let Some(at) = first.filter(is_his)
            && holding.line.get(at).is_some_and(|turn| turn.count <= room)
            && let Some(Turn { count, holder, .. }) = holding.line.remove(at)
        {
            holding.add(count, holder);
            self.call();
            return Poll::Ready(());
        }
        if let Some(turn) = holding.line.iter_mut().find(|turn| turn.number == number) {
            turn.waiters.add(waiter, context);
        }
        // He may have been the one who was called, and be passed over by now.
        self.call();
        Poll::Pending
    }

    /// Wakes those whose turn it is, if there is room for them.
    fn call(&mut self) {
        for share in 0..self.shares.len() {
            if self.shares[share].line.is_empty() {
                continue;
            }
            let room = self.room(share);
            if let Some(first) = self.first(share, room)
                && let Some(turn) = self.shares[share].line.get_mut(first)
                && turn.count <= room
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
        Self { budget: Arc::clone(&self.budget), share: self.share, count, holder: self.holder }
    }

    /// Gives a part of it back.
    pub fn give_back(&mut self, count: usize) {
        drop(self.split_to(self.count.saturating_sub(count)));
    }

    /// Makes it so much more, if there is room; whether there was.
    pub fn try_grow(&mut self, count: usize) -> bool {
        let mut state = self.budget.state();
        let room = state.is_open(self.share, count, self.holder);
        if room {
            state.shares[self.share].add(count, self.holder);
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
        state.shares[self.share].remove(self.count, self.holder);
        let room = state.is_open(share, self.count, self.holder);
        let now = if room { share } else { self.share };
        state.shares[now].add(self.count, self.holder);
        self.share = now;
        state.call();
        room
    }

    /// Moves it to another share, room or not: what is held is held.
    pub fn move_to(&mut self, share: usize) {
        let mut state = self.budget.state();
        state.shares[self.share].remove(self.count, self.holder);
        state.shares[share].add(self.count, self.holder);
        self.share = share;
        state.call();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.shares[self.share].remove(self.count, self.holder);
        state.freed += 1;
        state.call();
    }
}

#[cfg(test)]
mod tests;
