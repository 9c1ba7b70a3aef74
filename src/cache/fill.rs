//! One file on its way from the origin: what its leader reports and its followers wait for.
//!
//! | phase | begins with | what a follower gets |
//! | --- | --- | --- |
//! | asking | the permit to lead | nothing: there is no response head yet |
//! | growing | [`Fill::announce`] | the head, and bytes as they are stored |
//! | whole | [`Fill::complete`] | all bytes and the end; the file may not have its name yet |
//! | unfit | [`Fill::end_unfit`] | the same; it is not the right file, and gets no name |
//! | ended | [`Fill::end`], [`Fill::abandon`] | the bytes announced before, then an error |
//!
//! Bytes never change once they are announced. After a disk error the rest of the body passes through memory, one
//! piece at a time, each kept until every follower has it.

mod follower;

pub use follower::{Follower, Pace, Progress, RangeBypass};

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use slab::Slab;

use crate::error::Error;
use crate::fd_budget::is_only_read;
use crate::http::response::ResponseHead;
use crate::outcome::BypassReason;
use crate::rt::budget::Permit;
use crate::rt::lock::Lock;
use crate::rt::remote_wake::{Waiter, Waiters};

use super::growing_file::GrowingFile;
use super::metadata::NewHead;
use super::pieces::Pieces;

/// The head of the origin's response, and the file that its body goes to.
#[derive(Debug)]
pub struct Answer {
    /// End-to-end fields, as every client of this fill gets them.
    pub head: ResponseHead,
    /// Bytes of the body, where the origin said so.
    pub length: Option<u64>,
    /// The origin's Last-Modified, in seconds since 1970.
    pub modified: Option<u64>,
    /// The file in progress.
    pub file: GrowingFile,
    /// The head that is stored with the whole file, if it is of the revalidated class.
    pub kept: Option<NewHead>,
}

/// Why there is no file to follow.
#[derive(Clone, Debug)]
pub enum NoFile {
    /// The response is not to be stored: each request asks the origin itself.
    Declined(BypassReason),
    /// The file may be there already: the request looks it up once more.
    Again,
    /// The fill failed, and so does the request.
    Failed(Error),
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Asking,
    Growing(Arc<Answer>),
    Whole(Arc<Answer>),
    Unfit(Arc<Answer>),
    Ended(NoFile),
}

/// Where followers have the bytes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Source {
    /// From the file, as they are stored.
    #[default]
    File,
    /// The same, but the last byte is kept back until the whole is proven to be right.
    FileUntilProven,
    /// The same, but followers get the last byte even if the whole is proven to be wrong.
    FileAnyway,
    /// From memory, after a disk error.
    Memory,
}

/// Whose the key of a fill is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum KeyState {
    /// The fill's: requests follow it.
    #[default]
    Taken,
    /// Free: requests find the stored file, or start another fill.
    Free,
    /// Free, since the origin has another file of this name: this one is to get no name.
    Superseded,
}

impl Source {
    fn keeps_back(self) -> bool {
        matches!(self, Self::FileUntilProven | Self::FileAnyway)
    }
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    source: Source,
    key: KeyState,
    /// Bytes in the file that followers may have.
    stored: u64,
    /// When the head came, and how many bytes the file had then.
    begun: Option<(Instant, u64)>,
    /// After a disk error the bytes behind the file's; before that the bytes written last, where reading may hang.
    pieces: Pieces,
    /// Positions of the followers.
    followers: Slab<u64>,
    /// Requests that go around the fill.
    bypasses: usize,
    readers: Waiters,
    leader: Waiters,
    /// The response is to be validated before later requests use it.
    is_invalid: bool,
    /// The file's share of the descriptors.
    held: Option<Permit>,
}

/// A fill in progress, shared between its leader and its followers on all workers.
#[derive(Debug, Default)]
pub struct Fill {
    state: Lock<State>,
}

/// What the leader reports.
impl Fill {
    /// Before [`Self::announce`]: followers get the end of the file only once it is complete.
    pub fn keep_back(&self) {
        self.state.lock().source = Source::FileUntilProven;
    }

    /// The response is to be stored; its bytes will follow.
    pub fn announce(&self, answer: Answer) {
        let mut state = self.state.lock();
        state.begun = Some((Instant::now(), state.stored));
        state.enter(Phase::Growing(Arc::new(answer)));
    }

    /// The file holds `stored` bytes now.
    pub fn advance(&self, stored: u64) {
        let mut state = self.state.lock();
        let is_end = state.answer().is_some_and(|answer| answer.length == Some(stored));
        let kept_back = u64::from(is_end && !state.is_whole() && state.source.keeps_back());
        state.stored = stored.saturating_sub(kept_back);
        state.readers.wake_all();
    }

    /// The file holds the whole body.
    pub fn complete(&self) {
        self.state.lock().complete(Phase::Whole);
    }

    /// The whole file is not the right one.
    pub fn end_unfit(&self, error: Error) {
        let mut state = self.state.lock();
        if state.source == Source::FileAnyway {
            state.complete(Phase::Unfit);
        }
        drop(state);
        self.end(NoFile::Failed(error));
    }

    /// There will be no whole file. A fill that is whole already stays so.
    pub fn end(&self, how: NoFile) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Asking | Phase::Growing(_)) {
            state.enter(Phase::Ended(how));
        }
    }

    /// Ends the fill if nobody follows it. Later requests look the file up once more.
    pub fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        let deserted = state.followers.is_empty() && matches!(state.phase, Phase::Growing(_));
        if deserted {
            state.enter(Phase::Ended(NoFile::Again));
        }
        deserted
    }

    /// These bytes come next, and are on their way to a file that may be gone: followers have them from memory. False
    /// where nobody may have them yet.
    pub fn show(&self, bytes: Arc<Vec<u8>>) -> bool {
        let mut state = self.state.lock();
        if state.source.keeps_back() {
            return false;
        }
        let stored = state.stored;
        state.pieces.push(stored, bytes);
        let needed = state.followers.iter().map(|(_, position)| *position).min();
        state.pieces.keep_recent(needed.unwrap_or(u64::MAX));
        state.readers.wake_all();
        true
    }

    /// A disk error: the fill takes no followers any more, and nothing is kept back from those it has.
    pub fn lose_file(&self) {
        let mut state = self.state.lock();
        state.source = Source::Memory;
        state.readers.wake_all();
    }

    /// After a disk error: hands over bytes that follow the file's, or those of the last piece, and waits until every
    /// follower has them. False when no follower is left.
    pub async fn hand_over(&self, bytes: Vec<u8>, waiter: &Waiter) -> bool {
        let end = {
            let mut state = self.state.lock();
            let stored = state.stored;
            state.source = Source::Memory;
            state.pieces.push(stored, Arc::new(bytes));
            state.readers.wake_all();
            state.pieces.end().unwrap_or(stored)
        };
        let have_all = |state: &mut State| {
            if state.followers.is_empty() {
                return Some(false);
            }
            let have_all = state.followers.iter().all(|(_, position)| *position >= end);
            have_all.then(|| state.pieces.keep_last()).map(|()| true)
        };
        self.wait(waiter, |state| &mut state.leader, have_all).await
    }

    /// Holds the descriptor of the file for as long as anybody may read it.
    pub(crate) fn hold(&self, file: Permit) {
        self.state.lock().held = Some(file);
    }

    /// Its key is free: later requests find the file, or nothing.
    pub(crate) fn leave(&self) {
        self.free_key(KeyState::Free);
    }

    /// The same, since the origin has another file of this name.
    pub(crate) fn supersede(&self) {
        self.free_key(KeyState::Superseded);
    }

    fn free_key(&self, key: KeyState) {
        let mut state = self.state.lock();
        state.key = key;
        // Its followers read a file, and hold no place that a fill could have.
        state.held.iter_mut().for_each(is_only_read);
        state.readers.wake_all();
    }
}

/// What is known of it.
impl Fill {
    /// The response, once its head is there.
    pub fn announced(&self) -> Option<Arc<Answer>> {
        self.state.lock().answer().cloned()
    }

    /// The head that is stored with the whole file.
    pub fn kept(&self) -> Option<NewHead> {
        let state = self.state.lock();
        let kept = state.answer()?.kept.clone()?;
        Some(if state.is_invalid { kept.invalidated() } else { kept })
    }

    /// An unsafe request has been made since the fill began: its response is to be validated before it is used.
    pub fn invalidate(&self) {
        self.state.lock().is_invalid = true;
    }

    /// Whether [`Self::invalidate`] was called.
    pub fn is_invalid(&self) -> bool {
        self.state.lock().is_invalid
    }

    /// Whether the origin has another file of this name.
    pub fn is_superseded(&self) -> bool {
        self.state.lock().key == KeyState::Superseded
    }

    /// From now on followers get the end of the file even if it is not the right one. Without effect once that is
    /// known.
    pub fn give_anyway(&self) {
        let mut state = self.state.lock();
        if state.source == Source::FileUntilProven && matches!(state.phase, Phase::Growing(_)) {
            state.source = Source::FileAnyway;
        }
    }

    /// Whether all of it is there for its followers only: it is not the right file.
    pub fn is_unfit(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Unfit(_))
    }

    /// Whether the file holds the whole body.
    pub fn is_whole(&self) -> bool {
        self.state.lock().is_whole()
    }

    /// Waits until its key is free.
    pub async fn left(&self, waiter: &Waiter) {
        self.read(waiter, |state| (state.key != KeyState::Taken).then_some(())).await;
    }

    /// Waits for the response head.
    pub async fn answer(&self, waiter: &Waiter) -> Result<Arc<Answer>, NoFile> {
        self.read(waiter, |state| match &state.phase {
            Phase::Asking => None,
            Phase::Growing(answer) | Phase::Whole(answer) | Phase::Unfit(answer) => {
                Some(Ok(Arc::clone(answer)))
            }
            Phase::Ended(how) => Some(Err(how.clone())),
        })
        .await
    }

    /// Waits until nothing of it is kept back any more. An error: there will be no whole file.
    pub async fn proven(&self, waiter: &Waiter) -> Result<(), NoFile> {
        self.read(waiter, |state| match &state.phase {
            Phase::Ended(how) => Some(Err(how.clone())),
            Phase::Asking | Phase::Growing(_) if state.source.keeps_back() => None,
            Phase::Asking | Phase::Growing(_) | Phase::Whole(_) | Phase::Unfit(_) => Some(Ok(())),
        })
        .await
    }

    async fn read<T>(&self, waiter: &Waiter, ready: impl FnMut(&mut State) -> Option<T>) -> T {
        self.wait(waiter, |state| &mut state.readers, ready).await
    }

    /// Waits on one of the two lists until `ready` has something.
    async fn wait<T>(
        &self,
        waiter: &Waiter,
        list: fn(&mut State) -> &mut Waiters,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if let Some(ready) = ready(&mut state) {
                return Poll::Ready(ready);
            }
            list(&mut state).add(waiter, context);
            Poll::Pending
        })
        .await
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.readers.wake_all();
    }

    fn is_whole(&self) -> bool {
        matches!(self.phase, Phase::Whole(_) | Phase::Unfit(_))
    }

    fn complete(&mut self, phase: fn(Arc<Answer>) -> Phase) {
        if let Phase::Growing(answer) = &self.phase {
            let answer = Arc::clone(answer);
            if self.source.keeps_back() {
                self.stored = answer.length.unwrap_or(self.stored);
            }
            self.enter(phase(answer));
        }
    }

    fn answer(&self) -> Option<&Arc<Answer>> {
        match &self.phase {
            Phase::Growing(answer) | Phase::Whole(answer) | Phase::Unfit(answer) => Some(answer),
            Phase::Asking | Phase::Ended(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::poll;

    #[test]
    fn a_disk_error_ends_the_wait_for_a_proof_that_will_not_come() {
        let waits = async {
            let (fill, waiter) = (Fill::default(), Waiter::new());
            fill.keep_back();
            let mut waiting = std::pin::pin!(fill.proven(&waiter));
            assert!(futures_lite::future::poll_once(&mut waiting).await.is_none());
            fill.lose_file();
            waiting.await.unwrap();
        };
        poll::run(|| waits).unwrap();
    }
}
