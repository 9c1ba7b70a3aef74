//! Room for complete files that wait for their names: a bounded number over all workers, and a queue of the fills that
//! wait for room (backpressure).

use std::sync::Arc;

use crate::rt::budget::{Budget, Holder, Permit, Share};

/// The room of one committer.
#[derive(Debug)]
pub struct Rooms {
    most: usize,
    budget: Arc<Budget>,
}

/// Room for one file; given back on drop.
pub type Room = Permit;

impl Rooms {
    /// Room for `most` files, at least for one.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self { most, budget: Budget::new(most, &[Share { least: 0, most }]) })
    }

    /// Takes room in the order of the calls, on behalf of a client or of none. The caller bounds the wait.
    pub async fn take(&self, client: Option<Holder>) -> Room {
        self.budget.take(0, 1, client).await
    }

    /// Takes room beyond the bound for a file that is complete already: later fills wait longer.
    pub fn take_anyway(&self) -> Room {
        self.budget.take_anyway(0, 1)
    }

    /// Whether one more file would find room at once.
    pub(crate) fn has_room(&self) -> bool {
        self.budget.used().iter().sum::<usize>() < self.most
    }

    /// Whether half of it or more is taken: the committer is not to wait for more files.
    pub(crate) fn is_scarce(&self) -> bool {
        self.budget.used().iter().sum::<usize>() >= self.most.div_ceil(2)
    }

    /// A number that changes whenever room is given back.
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
