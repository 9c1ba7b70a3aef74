//! A file of which nobody knows yet whether it is the right one: followers get its end once that is known.

use std::future::poll_fn;
use std::task::Poll;

use super::{Fill, NoFile, Phase};
use crate::error::Error;
use crate::rt::remote_wake::Waiter;

/// Whether the whole file is the right one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Verdict {
    /// Any file is.
    #[default]
    NotNeeded,
    /// Not known yet: its last byte is kept back.
    Pending,
    /// The same, but its followers get the end of it in any case.
    PendingAnyway,
    /// It is not, and its followers have all of it.
    Unfit,
}

impl Verdict {
    pub(crate) fn keeps_back(self) -> bool {
        matches!(self, Self::Pending | Self::PendingAnyway)
    }
}

impl Fill {
    /// Leader, before the answer: followers get the end of the file only once it is complete.
    pub fn keep_back(&self) {
        self.state.lock().verdict = Verdict::Pending;
    }

    /// Followers get the end of the file even if it is not the right one, which gets no name then. Without effect once
    /// that is known.
    pub fn give_anyway(&self) {
        let mut state = self.state.lock();
        if state.verdict == Verdict::Pending && matches!(state.phase, Phase::Growing(_)) {
            state.verdict = Verdict::PendingAnyway;
        }
    }

    /// Leader: the whole file is not the right one.
    pub fn end_unfit(&self, error: Error) {
        let mut state = self.state.lock();
        if state.verdict == Verdict::PendingAnyway {
            state.complete();
            state.verdict = Verdict::Unfit;
        }
        drop(state);
        self.end(NoFile::Failed(error));
    }

    /// Whether all of it is there for its followers only: it is not the right file.
    pub fn is_unfit(&self) -> bool {
        self.state.lock().verdict == Verdict::Unfit
    }

    /// Waits until nothing of it is kept back any more. An error: there will be no whole file.
    pub async fn proven(&self, waiter: &Waiter) -> Result<(), NoFile> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            match &state.phase {
                Phase::Ended(how) => Poll::Ready(Err(how.clone())),
                Phase::Asking | Phase::Growing(_) if state.verdict.keeps_back() => {
                    state.readers.add(waiter, context);
                    Poll::Pending
                }
                Phase::Asking | Phase::Growing(_) | Phase::Whole(_) => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}
