//! Room for whole files that wait for their names: a bounded number over all workers, and a line for the fills that
//! wait for it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use crate::rt::mailbox::{Waiter, Waiters};

/// All of it.
#[derive(Debug)]
pub struct Rooms {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// How often room has become free.
    freed: u64,
    /// The number of the next one in line.
    next: u64,
    /// Those who wait, in the order of asking.
    line: BTreeMap<u64, Waiters>,
}

/// Room for one file; free again when dropped.
#[derive(Debug)]
pub struct Room(Arc<Rooms>);

impl Rooms {
    /// Room for `most` files, and for one at least.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room if there is some and nobody waits for it.
    pub fn try_take(self: &Arc<Self>) -> Option<Room> {
        let mut state = self.state();
        let is_free = state.taken < self.most && state.line.is_empty();
        state.taken += usize::from(is_free);
        is_free.then(|| Room(Arc::clone(self)))
    }

    /// Takes room in the order of asking. The caller bounds the wait.
    pub async fn take(self: &Arc<Self>, waiter: &Waiter) -> Room {
        if let Some(room) = self.try_take() {
            return room;
        }
        let id = self.join();
        let mut waiting = Waiting { rooms: self, id, is_done: false };
        poll_fn(|context| match self.state().line.get_mut(&id) {
            Some(waiters) => {
                waiters.add(waiter, context);
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
        waiting.is_done = true;
        Room(Arc::clone(self))
    }

    /// Takes it for a file that is whole already and holds what it holds: those who come next wait the longer.
    pub fn take_anyway(self: &Arc<Self>) -> Room {
        self.state().taken += 1;
        Room(Arc::clone(self))
    }

    /// So much is taken that half of it or more is in use: those who work at it are not to wait for more.
    pub(super) fn is_scarce(&self) -> bool {
        self.state().taken >= self.most.div_ceil(2)
    }

    /// A number that changes whenever room becomes free: the line moves.
    pub fn freed(&self) -> u64 {
        self.state().freed
    }

    fn join(&self) -> u64 {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.line.insert(id, Waiters::default());
        self.grant(&mut state);
        id
    }

    fn release(&self) {
        let mut state = self.state();
        state.taken -= 1;
        state.freed += 1;
        self.grant(&mut state);
    }

    /// Who is no longer in the line has room.
    fn grant(&self, state: &mut State) {
        while state.taken < self.most
            && let Some((_, mut waiters)) = state.line.pop_first()
        {
            state.taken += 1;
            waiters.wake_all();
        }
    }
}

/// Somebody in line; what he is given when he has gone is the next one's.
struct Waiting<'a> {
    rooms: &'a Rooms,
    id: u64,
    is_done: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let was_granted = !self.is_done && self.rooms.state().line.remove(&self.id).is_none();
        if was_granted {
            self.rooms.release();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_goes_round_in_the_order_of_asking_and_past_who_has_gone() {
        let rooms = Rooms::new(2);
        let (first, second) = (rooms.try_take().unwrap(), rooms.take_anyway());
        assert!(rooms.try_take().is_none() && rooms.is_scarce());
        let waiting = |id| Waiting { rooms: &rooms, id, is_done: false };
        let in_line = |id| rooms.state().line.contains_key(&id);
        let (gone, granted, last) = (rooms.join(), rooms.join(), rooms.join());
        drop(waiting(gone));
        drop(first);
        assert!(!in_line(granted) && in_line(last));
        // He leaves with what he was given: the next one has it.
        drop(waiting(granted));
        assert!(!in_line(last));
        let anyway = rooms.take_anyway();
        drop(second);
        assert!(rooms.try_take().is_none());
        drop(anyway);
        drop(waiting(last));
        assert!(rooms.try_take().is_some() && !rooms.is_scarce());
    }

    #[test]
    fn there_is_room_for_one_at_the_least() {
        assert!(Rooms::new(0).try_take().is_some());
    }
}
