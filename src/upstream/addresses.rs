//! The order in which the addresses of a name are tried (RFC 8305 section 4), and those that have not answered
//! lately.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::rt::lock::Lock;

/// Addresses of a name that are tried.
const MOST: usize = 8;
/// How long an address that did not answer is tried after the others.
const MEMORY: Duration = Duration::from_secs(300);
/// Addresses remembered; the oldest makes room for another.
const REMEMBERED: usize = 256;

/// Those of all workers, which need not find out each for itself.
static UNREACHABLE: Lock<Unreachable> = Lock::new(Unreachable(Vec::new()));

/// Addresses that did not answer, with the time, oldest first.
#[derive(Debug)]
struct Unreachable(Vec<(SocketAddr, Instant)>);

impl Unreachable {
    fn note(&mut self, address: SocketAddr, now: Instant) {
        self.forget(address);
        if self.0.len() >= REMEMBERED {
            self.0.remove(0);
        }
        self.0.push((address, now));
    }

    fn forget(&mut self, address: SocketAddr) {
        self.0.retain(|(known, _)| *known != address);
    }

    fn contains(&self, address: SocketAddr, now: Instant) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < MEMORY;
        self.0.iter().any(|(known, at)| *known == address && is_recent(at))
    }
}

/// Notes that this address refused, or let others overtake it.
pub(super) fn note(address: SocketAddr) {
    UNREACHABLE.lock().note(address, Instant::now());
}

/// Notes that it has answered.
pub(super) fn forget(address: SocketAddr) {
    UNREACHABLE.lock().forget(address);
}

/// The addresses to try, in order.
pub(super) fn in_order(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (now, known) = (Instant::now(), UNREACHABLE.lock());
    order(found, |address| known.contains(address, now))
}

/// Families take turns, in the system's order within each; those that did not answer are last.
fn order(found: Vec<SocketAddr>, is_dead: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
    let first_family = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut preferred, mut other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_family);
    let most = preferred.len().max(other.len());
    let (mut preferred, mut other) = (preferred.drain(..), other.drain(..));
    let mut all: Vec<SocketAddr> = Vec::new();
    for _ in 0..most {
        for address in [preferred.next(), other.next()].into_iter().flatten() {
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    all.sort_by_key(|address| is_dead(*address));
    all.truncate(MOST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn rfc8305_4_families_take_turns() {
        let dead = |_| false;
        for (found, tried) in [
            (&["[::1]:1", "[::2]:1", "1.1.1.1:1"][..], &["[::1]:1", "1.1.1.1:1", "[::2]:1"][..]),
            (&["1.1.1.1:1", "1.1.1.2:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]),
            (&["1.1.1.1:1", "1.1.1.1:1"], &["1.1.1.1:1"]),
            (&[], &[]),
        ] {
            assert_eq!(order(addresses(found), dead), addresses(tried));
        }
        let many: Vec<SocketAddr> =
            (0..20).map(|last| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, last], 1))).collect();
        let last = addresses(&["1.1.1.1:1"]);
        let tried = order([many, last.clone()].concat(), dead);
        assert_eq!((tried.len(), tried[1]), (MOST, last[0]), "more of one family do not hide the other");
    }

    #[test]
    fn the_dead_come_last_and_do_not_hide_the_living() {
        let found = addresses(&["1.1.1.1:1", "1.1.1.2:1", "[::1]:1"]);
        let tried = order(found.clone(), |address| address == found[0]);
        assert_eq!(tried, [found[2], found[1], found[0]]);
        let many: Vec<SocketAddr> = (0..9).map(|last| SocketAddr::from(([1, 1, 1, last], 1))).collect();
        assert_eq!(order(many.clone(), |address| address != many[8])[0], many[8]);
    }

    #[test]
    fn what_is_dead_is_forgotten_after_a_time_and_bounded() {
        let mut known = Unreachable(Vec::new());
        let now = Instant::now();
        let address = |port| SocketAddr::from(([1, 1, 1, 1], port));
        known.note(address(0), now);
        assert!(known.contains(address(0), now + MEMORY - Duration::from_secs(1)));
        assert!(!known.contains(address(0), now + MEMORY));
        assert!(!known.contains(address(1), now));
        known.note(address(0), now + MEMORY);
        assert!(known.contains(address(0), now + MEMORY));
        known.forget(address(0));
        assert!(!known.contains(address(0), now + MEMORY));
        for port in 0..1_000 {
            known.note(address(port), now);
        }
        assert_eq!(known.0.len(), REMEMBERED);
        assert!(known.contains(address(999), now) && !known.contains(address(0), now));
    }
}
