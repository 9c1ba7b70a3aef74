//! The readers of a growing file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Fill, NoFile, Phase, Source, State};
use crate::error::{Error, Kind, Side};
use crate::outcome::BypassReason;
use crate::rt::remote_wake::Waiter;

/// Requests that may go around one fill at a time. Each is one more for the origin.
const MOST_BYPASSES: usize = 8;

/// What a follower can send next.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The file has bytes up to this offset.
    Upto(u64),
    /// These bytes come next, without as many at their beginning; they are in no file.
    Piece(Arc<Vec<u8>>, usize),
    /// There are no more; this many there were.
    End(u64),
    /// There will be no more.
    Broken(Error),
}

/// How far a fill has come, and how fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Bytes in the file.
    pub stored: u64,
    /// How many of them this fill has brought.
    pub gained: u64,
    /// The time since its response head came.
    pub took: Duration,
}

impl Pace {
    /// The time until the file has `count` more bytes, at the same pace.
    pub fn time_for(&self, count: u64) -> Duration {
        let nanos = self.took.as_nanos().saturating_mul(u128::from(count)) / u128::from(self.gained.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Fill {
    /// Follows the file from byte `first` on. The position counts from now, so that no bytes pass by while the
    /// response head is waited for.
    pub fn follow(self: &Arc<Self>, first: u64) -> Result<Follower, NoFile> {
        let mut state = self.state.lock();
        if state.source == Source::Memory {
            return Err(NoFile::Declined(BypassReason::Disk));
        }
        Ok(Follower { fill: Arc::clone(self), id: state.followers.insert(first) })
    }
}

impl State {
    fn progress(&self, position: u64) -> Option<Progress> {
        if let Some((piece, skip)) = self.pieces.find(position) {
            return Some(Progress::Piece(piece, skip));
        }
        let first = self.pieces.first().filter(|first| position < *first);
        if position < self.stored {
            return Some(Progress::Upto(first.map_or(self.stored, |first| first.min(self.stored))));
        }
        if first.is_some() {
            return Some(Progress::Broken(Error::with(Side::Disk, Kind::Io, "bytes that were not kept")));
        }
        match &self.phase {
            Phase::Asking | Phase::Growing(_) => None,
            Phase::Whole(_) | Phase::Unfit(_) => {
                Some(Progress::End(self.pieces.end().unwrap_or(self.stored)))
            }
            Phase::Ended(NoFile::Failed(error)) => Some(Progress::Broken(error.clone())),
            Phase::Ended(NoFile::Declined(_) | NoFile::Again) => {
                Some(Progress::Broken(Error::new(Side::Proxy, Kind::Abandoned)))
            }
        }
    }
}

/// One reader of a growing file. Its place is given up on drop.
#[derive(Debug)]
pub struct Follower {
    fill: Arc<Fill>,
    id: usize,
}

impl Follower {
    /// Everything before `position` has been sent: waits for the bytes there.
    pub async fn next(&self, position: u64, waiter: &Waiter) -> Progress {
        let progress = |state: &mut State| {
            state.followers.get_mut(self.id).into_iter().for_each(|known| *known = position);
            state.leader.wake_all();
            state.progress(position)
        };
        self.fill.read(waiter, progress).await
    }

    /// How the fill gets on.
    pub fn pace(&self) -> Pace {
        let state = self.fill.state.lock();
        let (begun, had) = state.begun.unwrap_or_else(|| (Instant::now(), state.stored));
        Pace { stored: state.stored, gained: state.stored.saturating_sub(had), took: begun.elapsed() }
    }

    /// Bytes of the whole file, once all of them are in it.
    pub fn size(&self) -> Option<u64> {
        let state = self.fill.state.lock();
        (state.is_whole() && state.source != Source::Memory).then_some(state.stored)
    }

    /// The right to ask the origin for some of the bytes beside the fill, unless enough requests do so already.
    pub fn bypass(&self) -> Option<RangeBypass> {
        let mut state = self.fill.state.lock();
        (state.bypasses < MOST_BYPASSES).then(|| {
            state.bypasses += 1;
            RangeBypass(Arc::clone(&self.fill))
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        state.followers.try_remove(self.id);
        state.leader.wake_all();
    }
}

/// A request that goes around its fill. Its place is given up on drop.
#[derive(Debug)]
pub struct RangeBypass(Arc<Fill>);

impl Drop for RangeBypass {
    fn drop(&mut self) {
        self.0.state.lock().bypasses -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_passed_by_and_were_not_kept_are_an_error_and_no_wait() {
        let mut state = State { stored: 10, ..State::default() };
        state.pieces.push(20, Arc::new(vec![7; 5]));
        assert!(matches!(state.progress(9), Some(Progress::Upto(10))));
        for position in [10, 19] {
            assert!(
                matches!(state.progress(position), Some(Progress::Broken(error)) if error.side == Side::Disk)
            );
        }
        assert!(matches!(state.progress(22), Some(Progress::Piece(_, 2))));
        assert!(state.progress(25).is_none());
    }

    #[test]
    fn places_beside_a_fill_are_given_back() {
        let fill = Arc::new(Fill::default());
        let followers = [fill.follow(0).unwrap(), fill.follow(0).unwrap()];
        let taken: Vec<_> = (0..MOST_BYPASSES).map(|at| followers[at % 2].bypass().unwrap()).collect();
        assert!(followers[0].bypass().is_none());
        drop(taken);
        assert!(followers[1].bypass().is_some());
    }

    #[test]
    fn a_pace_tells_when_more_will_be_there() {
        let pace = Pace { stored: 500, gained: 100, took: Duration::from_secs(2) };
        assert_eq!(pace.time_for(0), Duration::ZERO);
        assert_eq!(pace.time_for(50), Duration::from_secs(1));
        let none = Pace { gained: 0, ..pace };
        assert_eq!(none.time_for(u64::MAX), Duration::from_nanos(u64::MAX));
    }
}
