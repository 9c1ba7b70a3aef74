//! The transfer rate of one client: how long it may stand still, and how slow it may be.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::evictable::Evictable;
use crate::config::Limits;
use crate::error::{Error, Kind, Side};
use crate::rt::Runtime;
use crate::rt::stall::StallDetector;

/// What a client may take, and what it has taken. Only time in which we waited for this client
/// counts: one whose origin is slow is not slow itself.
#[derive(Debug)]
pub struct Rate {
    /// Without a byte of progress; also the time over which the rate is measured.
    pub stall_time: Duration,
    /// Bytes a second, 0 for any.
    least: u64,
    moved: Cell<u64>,
    /// How much of that when the client was last judged.
    judged: Cell<u64>,
    /// What the client had not taken when it was last judged.
    left: Cell<u64>,
    waited: Cell<Duration>,
    /// Where it waits to be evicted, if it has closed its side.
    evictable: Rc<Evictable>,
}

impl Rate {
    /// Nothing has been waited for yet.
    pub fn new(limits: &Limits, evictable: &Rc<Evictable>) -> Self {
        Self {
            stall_time: limits.stall_time,
            least: limits.min_rate,
            moved: Cell::new(0),
            judged: Cell::new(0),
            left: Cell::new(0),
            waited: Cell::new(Duration::ZERO),
            evictable: Rc::clone(evictable),
        }
    }

    /// The same for another direction, from its beginning.
    #[must_use]
    pub fn anew(&self) -> Self {
        let (moved, judged, left) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let (waited, evictable) = (Cell::new(Duration::ZERO), Rc::clone(&self.evictable));
        Self { stall_time: self.stall_time, least: self.least, moved, judged, left, waited, evictable }
    }

    /// Counts bytes that the client has taken or sent.
    pub fn moved(&self, count: usize) {
        self.moved.set(self.moved.get() + count as u64);
    }

    /// Waits until other clients need its place.
    pub async fn evicted(&self) {
        self.evictable.evicted().await;
    }

    /// All that it has taken or given.
    pub fn total(&self) -> u64 {
        self.moved.get()
    }

    /// Waits until the client's socket is `ready`: a timeout where nothing moves for too long, or
    /// where it moves too little for the time that was waited for it. `left` tells what of the bytes
    /// sent the client has not taken yet, where the system knows.
    pub async fn wait<R: Runtime>(
        &self,
        ready: impl Future<Output = io::Result<()>>,
        left: impl Fn() -> Option<u64>,
    ) -> Result<(), Error> {
        let mut ready = pin!(ready);
        let mut stall = StallDetector::new(self.stall_time);
        loop {
            let since = (self.least > 0).then(Instant::now);
            let waited = stall.wait::<R, _>(ready.as_mut(), &left).await;
            if let Some(since) = since {
                self.judge(since.elapsed(), &left)?;
            }
            if let Some(ready) = waited.map_err(Error::timeout(Side::Client))? {
                return ready.map_err(|error| Error::io(Side::Client, &error));
            }
        }
    }

    /// Judges over the stall time, then over the next. Bytes `left` have been sent, but not been taken.
    fn judge(&self, waited: Duration, left: impl Fn() -> Option<u64>) -> Result<(), Error> {
        let waited = self.waited.get() + waited;
        if waited < self.stall_time {
            self.waited.set(waited);
            return Ok(());
        }
        self.waited.set(Duration::ZERO);
        let left = left().unwrap_or(0);
        let moved = self.moved.get() - self.judged.replace(self.moved.get());
        let taken = (self.left.replace(left) + moved).saturating_sub(left);
        let due = u128::from(self.least) * waited.as_millis() / 1000;
        if u128::from(taken) < due {
            return Err(Error::with(Side::Client, Kind::Timeout, "below the least rate"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_judged_by_the_time_that_was_waited_for_it() {
        let limits = Limits { min_rate: 1_000, stall_time: Duration::from_secs(10), ..Limits::default() };
        let rate = Rate::new(&limits, &Rc::default());
        let judge = |secs, left| rate.judge(Duration::from_secs(secs), || left);
        rate.moved(11_000);
        assert!(judge(6, None).is_ok());
        assert!(judge(5, None).is_ok(), "11,000 bytes in 11 seconds");
        rate.moved(9_000);
        assert!(judge(9, None).is_ok(), "too early to tell");
        assert!(judge(1, None).is_err(), "9,000 bytes in 10 seconds");
        assert!(rate.anew().judge(Duration::from_secs(9), || None).is_ok());
    }

    #[test]
    fn bytes_that_wait_in_the_system_are_not_taken_yet() {
        let limits = Limits { min_rate: 1_000, stall_time: Duration::from_secs(10), ..Limits::default() };
        let rate = Rate::new(&limits, &Rc::default());
        let judge = |left| rate.judge(Duration::from_secs(10), || Some(left));
        rate.moved(100_000);
        assert!(judge(85_000).is_ok(), "15,000 bytes in 10 seconds");
        assert!(judge(75_000).is_ok(), "10,000 bytes of what had been sent before");
        rate.moved(50_000);
        assert!(judge(116_000).is_err(), "9,000 bytes, however many more have been sent");
    }
}
