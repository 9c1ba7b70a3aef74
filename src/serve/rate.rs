//! The patience with one client: how long it may stand still, and how slow it may be.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::error::{Error, Kind, Side};
use crate::rt::{Runtime, timeout};

/// What a client may take, and what it has taken. Only time in which we waited for this client
/// counts: one whose origin is slow is not slow itself.
#[derive(Debug)]
pub struct Rate {
    /// Without a byte of progress; also the time over which the rate is measured.
    pub stall_time: Duration,
    /// Bytes a second, 0 for any.
    least: u64,
    moved: Cell<u64>,
    waited: Cell<Duration>,
}

impl Rate {
    /// Nothing has been waited for yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            stall_time: limits.stall_time,
            least: limits.min_rate,
            moved: Cell::new(0),
            waited: Cell::new(Duration::ZERO),
        }
    }

    /// The same for another direction, from its beginning.
    #[must_use]
    pub fn anew(&self) -> Self {
        let (moved, waited) = (Cell::new(0), Cell::new(Duration::ZERO));
        Self { stall_time: self.stall_time, least: self.least, moved, waited }
    }

    /// The client has taken or given so many bytes.
    pub fn moved(&self, count: usize) {
        self.moved.set(self.moved.get() + count as u64);
    }

    /// Waits until the client's socket is `ready`: a timeout where that takes too long, or where its
    /// bytes are too few for the time that was waited for them.
    pub async fn wait<R: Runtime>(&self, ready: impl Future<Output = io::Result<()>>) -> Result<(), Error> {
        let since = (self.least > 0).then(Instant::now);
        let ready = timeout::<R, _>(self.stall_time, ready).await;
        ready.map_err(Error::timeout(Side::Client))?.map_err(|error| Error::io(Side::Client, &error))?;
        since.map_or(Ok(()), |since| self.judge(since.elapsed()))
    }

    /// Judges over the stall time, then begins anew.
    fn judge(&self, waited: Duration) -> Result<(), Error> {
        let waited = self.waited.get() + waited;
        if waited < self.stall_time {
            self.waited.set(waited);
            return Ok(());
        }
        self.waited.set(Duration::ZERO);
        let due = u128::from(self.least) * waited.as_millis() / 1000;
        if u128::from(self.moved.replace(0)) < due {
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
        let rate = Rate::new(&limits);
        let seconds = Duration::from_secs;
        rate.moved(11_000);
        assert!(rate.judge(seconds(6)).is_ok());
        assert!(rate.judge(seconds(5)).is_ok(), "11,000 bytes in 11 seconds");
        rate.moved(9_000);
        assert!(rate.judge(seconds(9)).is_ok(), "too early to tell");
        assert!(rate.judge(seconds(1)).is_err(), "9,000 bytes in 10 seconds");
        assert!(rate.anew().judge(seconds(9)).is_ok());
    }
}
