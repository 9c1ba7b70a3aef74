//! A semaphore with shares: a bounded amount of something that all workers share.
//!
//! Each share has a least amount, which no other share can take, and a most, which it never exceeds. What lies
//! between is for the first request that takes it. A request that finds no room waits in the queue of the share; room
//! that becomes free is granted in the order of asking. Tasks that hold something only for speed are woken as soon as a
//! request waits, and give it back.
//!
//! No single client has all of a share for many clients: each has at most `FAIR` times what is then left. Its further
//! requests wait, and those of other clients pass them.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;

use super::lock::Lock;
use super::remote_wake::{Waiter, Waiters};

/// What one client has of a share is at most this many times what is left for others.
const FAIR: usize = 3;

/// The client that an address stands for: with IPv6 one host has a whole network of 2^64 (RFC 4291 section 2.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Holder(NonZeroU64);

impl From<IpAddr> for Holder {
    fn from(address: IpAddr) -> Self {
        // An address of version 4 has the number of a network that nobody has, and so has a network without a number.
        let bits = match address.to_canonical() {
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
            IpAddr::V4(v4) => 0xffff << 32 | u64::from(v4.to_bits()),
        };
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

/// The bounds of one share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// This amount is never given to other shares.
    pub least: usize,
    /// The share never has more.
    pub most: usize,
}

/// The amount, and what is taken of it.
#[derive(Debug)]
pub struct Budget(Lock<State>);

#[derive(Debug)]
struct State {
    total: usize,
    shares: Vec<Holding>,
    /// Counts the requests that have waited.
    clock: u64,
    /// Counts what was given back.
    freed: u64,
    /// Times that the system has refused more.
    alarms: u64,
    /// Tasks that give back when a request waits.
    givers: Waiters,
}

#[derive(Debug)]
struct Holding {
    share: Share,
    used: usize,
    /// The part of it that counts for each client.
    held: HashMap<Holder, usize>,
    queue: VecDeque<Waiting>,
}

/// What is taken, or asked for.
#[derive(Clone, Copy, Debug)]
struct Claim {
    share: usize,
    count: usize,
    holder: Option<Holder>,
}

/// A request in a queue. It has left the queue when its claim is granted.
#[derive(Debug)]
struct Waiting {
    number: u64,
    claim: Claim,
    waiters: Waiters,
}

/// Something taken; free again when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    claim: Claim,
    /// The number in the queue, which is never 0, until the claim is granted.
    waiting: Option<NonZeroU64>,
}

impl Budget {
    /// An amount in these shares. The least of each share is its own even where the whole is less.
    pub fn new(total: usize, shares: &[Share]) -> Arc<Self> {
        let holding =
            |&share: &Share| Holding { share, used: 0, held: HashMap::new(), queue: VecDeque::new() };
        let shares = shares.iter().map(holding).collect();
        let state = State { total, shares, clock: 0, freed: 0, alarms: 0, givers: Waiters::default() };
        Arc::new(Self(Lock::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    fn permit(self: &Arc<Self>, claim: Claim) -> Permit {
        Permit { budget: Arc::clone(self), claim, waiting: None }
    }

    /// The amount that each share has now.
    pub fn used(&self) -> Vec<usize> {
        self.state().shares.iter().map(|holding| holding.used).collect()
    }

    /// The bounds of the shares.
    pub fn shares(&self) -> Vec<Share> {
        self.state().shares.iter().map(|holding| holding.share).collect()
    }

    /// Takes `count` of a share, if there is room and no request waits for it.
    pub fn try_take(self: &Arc<Self>, share: usize, count: usize) -> Option<Permit> {
        self.try_take_for(share, count, None)
    }

    fn try_take_for(self: &Arc<Self>, share: usize, count: usize, holder: Option<Holder>) -> Option<Permit> {
        let claim = Claim { share, count, holder };
        self.state().try_add(claim).then(|| self.permit(claim))
    }

    /// Takes `count`, room or not: the next requests wait the longer.
    pub fn take_anyway(self: &Arc<Self>, share: usize, count: usize) -> Permit {
        let claim = Claim { share, count, holder: None };
        self.state().add(claim);
        self.permit(claim)
    }

    /// Takes `count` in the order of asking: for a client, which may not have all of the share, or for none. The caller
    /// bounds the wait.
    pub async fn take(self: &Arc<Self>, share: usize, count: usize, holder: Option<Holder>) -> Permit {
        let claim = Claim { share, count, holder };
        let number = self.state().enqueue(claim);
        // Dropped before the end, it leaves the queue, or gives back what was granted.
        let mut permit = self.permit(claim);
        permit.waiting = NonZeroU64::new(number);
        let waiter = Waiter::new();
        poll_fn(|context| match self.state().waiting(share, number) {
            Some(waiting) => {
                waiting.waiters.add(&waiter, context);
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
        permit.waiting = None;
        permit
    }

    /// A number that changes whenever something is given back.
    pub fn freed(&self) -> u64 {
        self.state().freed
    }

    /// The amount that the first request in the queue of this share waits for.
    pub fn next(&self, share: usize) -> Option<usize> {
        self.state().shares[share].queue.front().map(|waiting| waiting.claim.count)
    }

    /// The system has refused more than it should have: all that is held only for speed is to be given back.
    pub fn alarm(&self) {
        let mut state = self.state();
        state.alarms += 1;
        state.givers.wake_all();
    }

    /// Waits until a request waits, or the number of alarms is not `heard` any more. Returns that number.
    pub async fn wanted(&self, heard: u64, waiter: &Waiter) -> u64 {
        poll_fn(|context| {
            let mut state = self.state();
            if state.alarms != heard || state.shares.iter().any(|holding| !holding.queue.is_empty()) {
                return Poll::Ready(state.alarms);
            }
            state.givers.add(waiter, context);
            Poll::Pending
        })
        .await
    }

    /// The amount that all waiting requests ask for.
    pub fn missing(&self) -> usize {
        let state = self.state();
        state.shares.iter().flat_map(|holding| &holding.queue).map(|waiting| waiting.claim.count).sum()
    }
}

impl State {
    fn add(&mut self, Claim { share, count, holder }: Claim) {
        let holding = &mut self.shares[share];
        holding.used += count;
        if let Some(holder) = holder {
            *holding.held.entry(holder).or_default() += count;
        }
    }

    fn remove(&mut self, Claim { share, count, holder }: Claim) {
        let holding = &mut self.shares[share];
        holding.used = holding.used.saturating_sub(count);
        if let Some(holder) = holder
            && let Some(held) = holding.held.get_mut(&holder)
        {
            *held = held.saturating_sub(count);
            if *held == 0 {
                holding.held.remove(&holder);
            }
        }
    }

    /// Takes it if there is room, and no request that comes before.
    fn try_add(&mut self, claim: Claim) -> bool {
        let room = self.room(claim.share);
        let is_open =
            claim.count <= room && self.is_fair(claim, room) && self.first(claim.share, room).is_none();
        if is_open {
            self.add(claim);
        }
        is_open
    }

    /// What this share may have beside what it has.
    fn room(&self, share: usize) -> usize {
        let Holding { share: Share { least, most }, used, .. } = &self.shares[share];
        let others = self.shares.iter().enumerate().filter(|(number, _)| *number != share);
        let taken: usize = others.map(|(_, holding)| holding.used.max(holding.share.least)).sum();
        let left = self.total.saturating_sub(taken).min(*most).saturating_sub(*used);
        // A share may always have its least, or a tiny budget would be none.
        left.max(least.saturating_sub(*used))
    }

    /// Is enough left for other clients if this claim is granted where there is this `room`?
    fn is_fair(&self, claim: Claim, room: usize) -> bool {
        let has = claim.holder.and_then(|holder| self.shares[claim.share].held.get(&holder));
        has.is_none_or(|has| has.saturating_add(claim.count) <= room.saturating_mul(FAIR))
    }

    /// The place of the first request in the queue whose claim is fair where there is this `room`.
    fn first(&self, share: usize, room: usize) -> Option<usize> {
        let mut passed_over = None;
        self.shares[share].queue.iter().position(|waiting| {
            // Many in a row may be of one client.
            let holder = waiting.claim.holder;
            let is_next = (holder.is_none() || holder != passed_over) && self.is_fair(waiting.claim, room);
            passed_over = holder;
            is_next
        })
    }

    fn enqueue(&mut self, claim: Claim) -> u64 {
        self.clock += 1;
        let number = self.clock;
        self.shares[claim.share].queue.push_back(Waiting { number, claim, waiters: Waiters::default() });
        self.grant();
        if self.waiting(claim.share, number).is_some() {
            self.givers.wake_all();
        }
        number
    }

    fn waiting(&mut self, share: usize, number: u64) -> Option<&mut Waiting> {
        self.shares[share].queue.iter_mut().find(|waiting| waiting.number == number)
    }

    /// Takes a request out of its queue; false if its claim has been granted.
    fn leave(&mut self, share: usize, number: u64) -> bool {
        let queue = &mut self.shares[share].queue;
        let place = queue.iter().position(|waiting| waiting.number == number);
        place.and_then(|place| queue.remove(place)).is_some()
    }

    /// Grants the claims of the next requests, as far as there is room for them.
    fn grant(&mut self) {
        for share in 0..self.shares.len() {
            while let Some(claim) = self.next(share) {
                self.add(claim);
            }
        }
    }

    /// Takes the next request out of its queue, if there is room for its claim.
    fn next(&mut self, share: usize) -> Option<Claim> {
        let room = self.room(share);
        let at = self.first(share, room)?;
        let queue = &mut self.shares[share].queue;
        if queue.get(at)?.claim.count > room {
            return None;
        }
        let mut next = queue.remove(at)?;
        next.waiters.wake_all();
        Some(next.claim)
    }
}

impl Permit {
    /// Takes all but `left` out of it.
    pub fn split_to(&mut self, left: usize) -> Self {
        let count = self.claim.count.saturating_sub(left);
        self.claim.count -= count;
        self.budget.permit(Claim { count, ..self.claim })
    }

    /// Gives a part of it back.
    pub fn give_back(&mut self, count: usize) {
        drop(self.split_to(self.claim.count.saturating_sub(count)));
    }

    /// Makes it larger by `count`, if there is room; whether there was.
    pub fn try_grow(&mut self, count: usize) -> bool {
        let grown = self.budget.state().try_add(Claim { count, ..self.claim });
        if grown {
            self.claim.count += count;
        }
        grown
    }

    /// Moves it to another share, if there is room; whether there was.
    pub fn try_move(&mut self, share: usize) -> bool {
        self.change(share, State::try_add)
    }

    /// Moves it to another share, room or not: what is held is held.
    pub fn move_to(&mut self, share: usize) {
        self.change(share, |state, claim| {
            state.add(claim);
            true
        });
    }

    fn change(&mut self, share: usize, add: impl FnOnce(&mut State, Claim) -> bool) -> bool {
        if share == self.claim.share {
            return true;
        }
        let mut state = self.budget.state();
        state.remove(self.claim);
        let moved = Claim { share, ..self.claim };
        let is_moved = add(&mut state, moved);
        if is_moved {
            self.claim = moved;
        } else {
            state.add(self.claim);
        }
        state.grant();
        is_moved
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        if !self.waiting.is_some_and(|number| state.leave(self.claim.share, number.get())) {
            state.remove(self.claim);
            state.freed += 1;
        }
        state.grant();
    }
}

#[cfg(test)]
mod tests;
