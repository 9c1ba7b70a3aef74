//! Room for whole files that wait for their names: a bounded number over all workers, and a line for the fills that
//! wait for it.

use std::io;
use std::sync::Arc;

use crate::rt::budget::{Budget, Holder, Permit, Share};

/// All of it.
#[derive(Debug)]
pub struct Rooms {
    most: usize,
    budget: Arc<Budget>,
}

/// Room for one file; free again when dropped.
pub type Room = Permit;

impl Rooms {
    /// Room for `most` files, and for one at least.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self { most, budget: Budget::new(most, &[Share { least: 0, most }]) })
    }

    /// Takes room in the order of asking, for this client or for nobody. The caller bounds the wait.
    pub async fn take(&self, client: Option<Holder>) -> io::Result<Room> {
        self.budget.take_for(0, 1, client).await
    }

    /// Takes it for a file that is whole already and holds what it holds: those who come next wait the longer.
    pub fn take_anyway(&self) -> Room {
        self.budget.take_anyway(0, 1)
    }

    /// Would one more find room at once?
    pub(crate) fn has_room(&self) -> bool {
        self.budget.used().iter().sum::<usize>() < self.most
    }

    /// So much is taken that half of it or more is in use: those who work at it are not to wait for more.
    pub(crate) fn is_scarce(&self) -> bool {
        self.budget.used().iter().sum::<usize>() >= self.most.div_ceil(2)
    }

    /// A number that changes whenever room becomes free: the line moves.
    pub fn freed(&self) -> u64 {
        self.budget.freed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_anyway_counts() {
        let rooms = Rooms::new(2);
        assert!(!rooms.is_scarce());
        let first = rooms.take_anyway();
        assert!(rooms.is_scarce());
        let more = [rooms.take_anyway(), rooms.take_anyway()];
        assert!(rooms.budget.try_take(0, 1).is_none());
        let before = rooms.freed();
        drop(more);
        assert!(rooms.freed() != before && rooms.budget.try_take(0, 1).is_some());
        drop(first);
        assert!(!rooms.is_scarce());
    }

    #[test]
    fn there_is_room_for_one_at_the_least() {
        assert!(Rooms::new(0).budget.try_take(0, 1).is_some());
    }
}
