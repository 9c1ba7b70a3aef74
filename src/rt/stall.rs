//! Stalls: how long a peer may take nothing of the bytes sent.
//!
//! A socket becomes writable only when a good part of its buffer is free (a third, on Linux), for which a slow peer
//! may need long. So the buffer itself is checked during the wait.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::{Runtime, TimedOut, timeout};

/// Checks within the limit: the wait for a peer that takes nothing ends late by one of them at most.
const CHECKS: u32 = 8;

/// One wait for a peer, which may last until the peer stalls.
#[derive(Debug)]
pub struct StallDetector {
    limit: Duration,
    /// Bytes that the peer had not taken at the last check.
    untaken: Option<u64>,
    /// Checks since it took something.
    idle: u32,
}

impl StallDetector {
    /// The peer may take nothing for as long as `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, untaken: None, idle: 0 }
    }

    /// Waits until the peer is `ready` or the next check is due: then `None`, or an error if the peer has stalled.
    /// `untaken` is the number of bytes that the peer has not taken, where the system knows it; where it does not, the
    /// peer has taken nothing until it is ready.
    pub async fn wait<R: Runtime, T>(
        &mut self,
        ready: Pin<&mut impl Future<Output = T>>,
        untaken: impl FnOnce() -> Option<u64>,
    ) -> Result<Option<T>, TimedOut> {
        match timeout::<R, _>(self.limit / CHECKS, ready).await {
            Ok(ready) => Ok(Some(ready)),
            Err(late) if self.is_stalled(untaken()) => Err(late),
            Err(_) => Ok(None),
        }
    }

    fn is_stalled(&mut self, untaken: Option<u64>) -> bool {
        let before = std::mem::replace(&mut self.untaken, untaken);
        // The first check has nothing to compare with, and gives the benefit of the doubt.
        let took = untaken.is_some_and(|untaken| before.is_none_or(|before| untaken < before));
        self.idle = if took { 0 } else { self.idle + 1 };
        self.idle >= CHECKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks_until_stalled(mut untaken: impl FnMut(u32) -> Option<u64>) -> Option<u32> {
        let mut stall = StallDetector::new(Duration::from_secs(8));
        (1..=100).find(|&check| stall.is_stalled(untaken(check)))
    }

    #[test]
    fn one_that_takes_nothing_is_given_up_after_the_limit_and_an_eighth() {
        assert_eq!(checks_until_stalled(|_| Some(10)), Some(CHECKS + 1));
        assert_eq!(checks_until_stalled(|check| Some(if check < 20 { 10 } else { 9 })), Some(CHECKS + 1));
        assert_eq!(checks_until_stalled(|check| Some(u64::from(20 - check.min(20)))), Some(20 + CHECKS));
    }

    #[test]
    fn one_that_takes_a_byte_in_the_limit_is_waited_for() {
        assert_eq!(checks_until_stalled(|check| Some(1_000 - u64::from(check / CHECKS))), None);
    }

    #[test]
    fn where_the_system_does_not_tell_the_limit_holds() {
        assert_eq!(checks_until_stalled(|_| None), Some(CHECKS));
    }
}
