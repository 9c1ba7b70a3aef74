//! Stalls: how long a peer that is to take what was sent may take nothing at all.
//!
//! A socket turns writable only when a good part of its buffer is free (a third, on Linux), which a
//! slow peer may need long for. So the buffer itself is looked at while that is waited for.

use std::time::Duration;

/// Checks within the limit: a peer that takes nothing is given up that much later at most.
const CHECKS: u32 = 8;

/// One wait for a peer, which may last until it [is stalled](Self::is_stalled).
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

    /// The time until the next check.
    pub fn interval(&self) -> Duration {
        self.limit / CHECKS
    }

    /// A check: `untaken` bytes are left, where the system tells. Where it does not, nothing
    /// has been taken until the wait itself is over.
    pub fn is_stalled(&mut self, untaken: Option<u64>) -> bool {
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
