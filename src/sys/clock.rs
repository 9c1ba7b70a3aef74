//! Clocks that are read on every request, so the coarse ones where a system has them: a few
//! milliseconds behind, and much cheaper (clock_gettime(2)).

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
const WALL: ClockId = ClockId::CLOCK_REALTIME_COARSE;
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::CLOCK_MONOTONIC_COARSE;
#[cfg(not(target_os = "linux"))]
const WALL: ClockId = ClockId::CLOCK_REALTIME;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::CLOCK_MONOTONIC;

/// Seconds since 1970; 0 on a host whose clock is set before that.
pub fn unix_secs() -> u64 {
    clock_gettime(WALL).ok().and_then(|time| u64::try_from(time.tv_sec()).ok()).unwrap_or(0)
}

/// Time since some moment in the past; never goes backwards.
pub fn steady() -> Duration {
    clock_gettime(STEADY).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    #[test]
    fn the_wall_clock_tells_the_systems_time() {
        let exact = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(unix_secs().abs_diff(exact) <= 1);
    }

    #[test]
    fn the_steady_clock_goes_on() {
        let (start, watch) = (steady(), Instant::now());
        while steady() == start {
            assert!(watch.elapsed() < Duration::from_secs(10), "the clock stands still");
            std::hint::spin_loop();
        }
        assert!(steady() > start);
    }
}
