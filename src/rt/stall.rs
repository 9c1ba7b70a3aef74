//! Patience with a peer that is to take what was sent: how long it may take nothing at all.
//!
//! A socket turns writable only when a good part of its buffer is free (a third, on Linux), which a
//! slow peer may need long for. So the buffer itself is looked at while that is waited for.

use std::time::Duration;

/// Looks within the limit: a peer that takes nothing is given up that much later at most.
const LOOKS: u32 = 8;

/// One wait for a peer. It may be waited for until it is [over](Self::is_over).
#[derive(Debug)]
pub struct Stall {
    limit: Duration,
    /// What the peer had not taken at the last look.
    left: Option<u64>,
    /// Looks since it took something.
    idle: u32,
}

impl Stall {
    /// The peer may take nothing for as long as `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, left: None, idle: 0 }
    }

    /// Until the next look.
    pub fn step(&self) -> Duration {
        self.limit / LOOKS
    }

    /// A look: `left` bytes are not taken yet, where the system tells. Where it does not, nothing
    /// has been taken until the wait itself is over.
    pub fn is_over(&mut self, left: Option<u64>) -> bool {
        let before = std::mem::replace(&mut self.left, left);
        // The first look has nothing to compare with, and gives the benefit of the doubt.
        let took = left.is_some_and(|left| before.is_none_or(|before| left < before));
        self.idle = if took { 0 } else { self.idle + 1 };
        self.idle >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_until_over(mut left: impl FnMut(u32) -> Option<u64>) -> Option<u32> {
        let mut stall = Stall::new(Duration::from_secs(8));
        (1..=100).find(|&look| stall.is_over(left(look)))
    }

    #[test]
    fn one_that_takes_nothing_is_given_up_after_the_limit_and_an_eighth() {
        assert_eq!(looks_until_over(|_| Some(10)), Some(LOOKS + 1));
        assert_eq!(looks_until_over(|look| Some(if look < 20 { 10 } else { 9 })), Some(LOOKS + 1));
        assert_eq!(looks_until_over(|look| Some(u64::from(20 - look.min(20)))), Some(20 + LOOKS));
    }

    #[test]
    fn one_that_takes_a_byte_in_the_limit_is_waited_for() {
        assert_eq!(looks_until_over(|look| Some(1_000 - u64::from(look / LOOKS))), None);
    }

    #[test]
    fn where_the_system_does_not_tell_the_limit_holds() {
        assert_eq!(looks_until_over(|_| None), Some(LOOKS));
    }
}
