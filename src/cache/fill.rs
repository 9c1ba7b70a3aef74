//! One file on its way from the origin: what its leader reports and its followers wait for.
//!
//! Life: *asking* (no head yet), *growing* (head known, bytes arrive), *whole* (every byte is in
//! the file; the rename may be yet to come), or *ended* without a whole file. Bytes never change
//! once they are announced. After a disk error the rest of the body passes through memory, one
//! piece at a time, each kept until every follower has it.

mod proof;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::error::{Error, Kind, Side};
use crate::fd_budget::is_only_read;
use crate::http::response::ResponseHead;
use crate::outcome::BypassReason;
use crate::rt::budget::Permit;
use crate::rt::lock::Lock;
use crate::rt::remote_wake::{Waiter, Waiters};
use crate::sys::file::Locked;

use super::metadata::NewHead;
use super::pieces::Pieces;
use super::place::Placed;
use proof::Verdict;

/// Requests that may go around one fill at a time. Each is one more for the origin.
const MOST_DETOURS: usize = 8;

/// The head of the origin's answer and the file that its body goes to.
#[derive(Debug)]
pub struct Answer {
    /// End-to-end fields, as every client of this fill gets them.
    pub head: ResponseHead,
    /// Bytes of the body, where the origin said so.
    pub length: Option<u64>,
    /// The origin's Last-Modified, in seconds since 1970.
    pub modified: Option<u64>,
    /// The file in progress.
    pub file: Arc<Placed<Locked>>,
    /// The head that the whole file gets, if it is one that is checked with the origin.
    pub kept: Option<NewHead>,
}

/// Why there is no file to follow.
#[derive(Clone, Debug)]
pub enum NoFile {
    /// The answer is not to be stored: ask the origin yourself.
    Declined(BypassReason),
    /// The file is there already: look again.
    Again,
    /// The fill failed, and so does the request.
    Failed(Error),
}

/// What a follower can send next.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The file has bytes up to this offset.
    Upto(u64),
    /// These bytes come next; they are in no file.
    Piece(Arc<Vec<u8>>, usize),
    /// There are no more; this many there were.
    End(u64),
    /// There will be no more.
    Broken(Error),
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Asking,
    Growing(Arc<Answer>),
    Whole(Arc<Answer>),
    Ended(NoFile),
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Bytes in the file.
    stored: u64,
    /// When the answer came, and how many bytes the file had then.
    begun: Option<(Instant, u64)>,
    /// After a disk error what comes behind the file; before that what was written last, where reading it may hang.
    pieces: Pieces,
    /// There has been such an error.
    is_unstored: bool,
    /// Positions of those who follow.
    followers: Slab<u64>,
    readers: Waiters,
    leader: Waiters,
    /// Its key is free again.
    left: bool,
    /// Whether the whole file is the right one.
    verdict: Verdict,
    /// The answer is to be checked before it is used by later requests.
    invalid: bool,
    /// The origin has another file of this name by now.
    superseded: bool,
    /// The file's share of the descriptors.
    held: Option<Permit>,
}

/// A fill in progress, shared between its leader and its followers on all workers.
#[derive(Debug, Default)]
pub struct Fill {
    state: Lock<State>,
    detours: AtomicUsize,
}

/// How far a fill has come, and how fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Bytes in the file.
    pub stored: u64,
    /// How many of them this fill has brought.
    pub gained: u64,
    /// The time since its answer came.
    pub took: Duration,
}

impl Pace {
    /// The time until the file has `count` more bytes, if it goes on like that.
    pub fn time_for(&self, count: u64) -> Duration {
        let nanos = self.took.as_nanos().saturating_mul(u128::from(count)) / u128::from(self.gained.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Fill {
    /// Leader: the answer is to be stored; its bytes will follow.
    pub fn announce(&self, answer: Answer) {
        let mut state = self.state.lock();
        state.phase = Phase::Growing(Arc::new(answer));
        state.begun = Some((Instant::now(), state.stored));
        state.readers.wake_all();
    }

    /// Leader: the file holds `stored` bytes now.
    pub fn advance(&self, stored: u64) {
        let mut state = self.state.lock();
        state.stored = stored;
        if let Phase::Growing(answer) = &state.phase
            && state.verdict.keeps_back()
            && answer.length == Some(stored)
        {
            state.stored = stored.saturating_sub(1);
        }
        state.readers.wake_all();
    }

    /// Leader: the file holds the whole body.
    pub fn complete(&self) {
        self.state.lock().complete();
    }

    /// Leader: there will be no whole file. A fill that is whole already stays so.
    pub fn end(&self, how: NoFile) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Asking | Phase::Growing(_)) {
            state.phase = Phase::Ended(how);
            state.readers.wake_all();
        }
    }

    /// Leader: gives the fill up if nobody follows it. Who comes from now on looks again.
    pub fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        let deserted = state.followers.is_empty() && matches!(state.phase, Phase::Growing(_));
        if deserted {
            state.phase = Phase::Ended(NoFile::Again);
            state.readers.wake_all();
        }
        deserted
    }

    /// Leader: these bytes come next, and are on their way to a file that may be gone: who follows has them from memory.
    /// False where nobody may have them yet.
    pub fn show(&self, bytes: Arc<Vec<u8>>) -> bool {
        let mut state = self.state.lock();
        if state.verdict.keeps_back() {
            return false;
        }
        let stored = state.stored;
        state.pieces.push(stored, bytes);
        let needed = state.followers.iter().map(|(_, position)| *position).min();
        state.pieces.keep_recent(needed.unwrap_or(u64::MAX));
        state.readers.wake_all();
        true
    }

    /// Leader: a disk error. Nobody comes to follow it any more.
    pub fn lose_file(&self) {
        self.state.lock().is_unstored = true;
    }

    /// Leader, after a disk error: hands over bytes that follow the file's, or those of the last
    /// piece, and waits until every follower has them. False when nobody is left to want them.
    pub async fn hand_over(&self, bytes: Vec<u8>, waiter: &Waiter) -> bool {
        let end = {
            let mut state = self.state.lock();
            let stored = state.stored;
            state.is_unstored = true;
            state.pieces.push(stored, Arc::new(bytes));
            state.readers.wake_all();
            state.pieces.end().unwrap_or(stored)
        };
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.followers.is_empty() {
                return Poll::Ready(false);
            }
            if state.followers.iter().all(|(_, position)| *position >= end) {
                state.pieces.keep_last();
                return Poll::Ready(true);
            }
            state.leader.add(waiter, context);
            Poll::Pending
        })
        .await
    }

    /// The in-progress file, once there is one.
    pub fn file(&self) -> Option<Arc<Placed<Locked>>> {
        match &self.state.lock().phase {
            Phase::Growing(answer) | Phase::Whole(answer) => Some(Arc::clone(&answer.file)),
            Phase::Asking | Phase::Ended(_) => None,
        }
    }

    /// The origin's date of the file, once the answer is known.
    pub fn modified(&self) -> Option<u64> {
        match &self.state.lock().phase {
            Phase::Growing(answer) | Phase::Whole(answer) => answer.modified,
            Phase::Asking | Phase::Ended(_) => None,
        }
    }

    /// The head that the whole file gets.
    pub fn kept(&self) -> Option<NewHead> {
        let state = self.state.lock();
        let (Phase::Growing(answer) | Phase::Whole(answer)) = &state.phase else { return None };
        let kept = answer.kept.clone()?;
        Some(if state.invalid { kept.invalidated() } else { kept })
    }

    /// An unsafe request has been there since it was begun: its answer is to be checked.
    pub fn invalidate(&self) {
        self.state.lock().invalid = true;
    }

    /// Whether [`Self::invalidate`] was called.
    pub fn is_invalid(&self) -> bool {
        self.state.lock().invalid
    }

    /// The origin has another file of this name by now: this one is to get no name.
    pub(crate) fn supersede(&self) {
        self.state.lock().superseded = true;
    }

    /// Has the origin another file of this name by now?
    pub fn is_superseded(&self) -> bool {
        self.state.lock().superseded
    }

    /// Bytes of the whole file, where the origin has said so.
    pub fn length(&self) -> Option<u64> {
        match &self.state.lock().phase {
            Phase::Growing(answer) | Phase::Whole(answer) => answer.length,
            Phase::Asking | Phase::Ended(_) => None,
        }
    }

    /// Does the file hold the whole body?
    pub fn is_whole(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Whole(_))
    }

    /// Holds the descriptor of the file for as long as anybody may read it.
    pub(crate) fn hold(&self, file: Permit) {
        self.state.lock().held = Some(file);
    }

    /// Its key is free: whoever comes now finds the file, or nothing.
    pub(crate) fn leave(&self) {
        let mut state = self.state.lock();
        state.left = true;
        // Who still follows it reads a file, and holds no place that a fill could have.
        state.held.iter_mut().for_each(is_only_read);
        state.readers.wake_all();
    }

    /// Waits until its key is free.
    pub async fn left(&self, waiter: &Waiter) {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.left {
                return Poll::Ready(());
            }
            state.readers.add(waiter, context);
            Poll::Pending
        })
        .await;
    }

    /// Waits for the answer.
    pub async fn answer(&self, waiter: &Waiter) -> Result<Arc<Answer>, NoFile> {
        poll_fn(|context| self.state.lock().answer(waiter, context)).await
    }

    /// Follows the file from byte `first` on. The position counts from now, so that nothing passes
    /// by while the answer is waited for.
    pub fn follow(self: &Arc<Self>, first: u64) -> Result<Follower, NoFile> {
        let mut state = self.state.lock();
        if state.is_unstored {
            return Err(NoFile::Declined(BypassReason::Disk));
        }
        let id = state.followers.insert(first);
        drop(state);
        Ok(Follower { fill: Arc::clone(self), id })
    }
}

impl State {
    fn complete(&mut self) {
        if let Phase::Growing(answer) = &self.phase {
            let answer = Arc::clone(answer);
            if self.verdict.keeps_back() && !self.is_unstored && answer.length == Some(self.stored + 1) {
                self.stored += 1;
            }
            self.phase = Phase::Whole(answer);
        }
        self.readers.wake_all();
    }

    fn answer(&mut self, waiter: &Waiter, context: &Context<'_>) -> Poll<Result<Arc<Answer>, NoFile>> {
        match &self.phase {
            Phase::Asking => {
                self.readers.add(waiter, context);
                Poll::Pending
            }
            Phase::Growing(answer) | Phase::Whole(answer) => Poll::Ready(Ok(Arc::clone(answer))),
            Phase::Ended(how) => Poll::Ready(Err(how.clone())),
        }
    }

    fn progress(&mut self, position: u64) -> Option<Progress> {
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
            Phase::Whole(_) => Some(Progress::End(self.pieces.end().unwrap_or(self.stored))),
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
    /// Everything before `position` has been sent: waits for what comes there.
    pub async fn next(&self, position: u64, waiter: &Waiter) -> Progress {
        poll_fn(|context| {
            let mut state = self.fill.state.lock();
            if let Some(known) = state.followers.get_mut(self.id) {
                *known = position;
            }
            state.leader.wake_all();
            match state.progress(position) {
                Some(progress) => Poll::Ready(progress),
                None => {
                    state.readers.add(waiter, context);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Follower {
    /// How the fill gets on.
    pub fn pace(&self) -> Pace {
        let state = self.fill.state.lock();
        let (begun, had) = state.begun.unwrap_or_else(|| (Instant::now(), state.stored));
        Pace { stored: state.stored, gained: state.stored.saturating_sub(had), took: begun.elapsed() }
    }

    /// Bytes of the whole file, once all of them are in it.
    pub fn size(&self) -> Option<u64> {
        let state = self.fill.state.lock();
        (matches!(state.phase, Phase::Whole(_)) && !state.is_unstored).then_some(state.stored)
    }

    /// The right to ask the origin for some of the bytes beside the fill, unless enough do so already.
    pub fn detour(&self) -> Option<RangeBypass> {
        let detours = &self.fill.detours;
        let more = |count: usize| (count < MOST_DETOURS).then_some(count + 1);
        let taken = detours.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| RangeBypass(Arc::clone(&self.fill)))
    }
}

/// A request that goes around its fill. Its place is given up on drop.
#[derive(Debug)]
pub struct RangeBypass(Arc<Fill>);

impl Drop for RangeBypass {
    fn drop(&mut self) {
        self.0.detours.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        state.followers.try_remove(self.id);
        state.leader.wake_all();
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
        let taken: Vec<_> = (0..MOST_DETOURS).map(|at| followers[at % 2].detour().unwrap()).collect();
        assert!(followers[0].detour().is_none());
        drop(taken);
        assert!(followers[1].detour().is_some());
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
