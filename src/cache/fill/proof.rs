//! A file of which nobody knows yet whether it is the right one: followers get its end once that is known.

use std::future::poll_fn;
use std::task::Poll;

use super::{Fill, NoFile, Phase};
use crate::rt::remote_wake::Waiter;

impl Fill {
    /// Leader, before the answer: followers get the end of the file only once it is complete.
    pub fn keep_back(&self) {
        self.state.lock().unproven = true;
    }

    /// Waits until nothing of it is kept back any more. An error: there will be no whole file.
    pub async fn proven(&self, waiter: &Waiter) -> Result<(), NoFile> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            match &state.phase {
                Phase::Ended(how) => Poll::Ready(Err(how.clone())),
                Phase::Asking | Phase::Growing(_) if state.unproven => {
                    state.readers.add(waiter, context);
                    Poll::Pending
                }
                Phase::Asking | Phase::Growing(_) | Phase::Whole(_) => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}
