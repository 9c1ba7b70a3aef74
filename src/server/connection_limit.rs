//! The limits of client connections: of all workers together, and of each client address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rt::budget::Holder;
use crate::rt::lock::Lock;

/// The connections that are open, and how many may be.
#[derive(Debug)]
pub struct ConnectionLimits {
    count: AtomicUsize,
    most: usize,
    /// Limit of each address.
    each: Option<usize>,
    by_address: Lock<HashMap<Holder, usize>>,
}

impl ConnectionLimits {
    /// At most `most` at once, and `each` of one address. Workers look before they accept, so each of them may
    /// exceed `most` by one.
    pub fn new(most: usize, each: Option<usize>) -> Self {
        Self { count: AtomicUsize::new(0), most, each, by_address: Lock::default() }
    }

    /// Whether `most` are open.
    pub fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.most
    }

    /// Counts a connection from this address.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> ConnectionGuard {
        self.count.fetch_add(1, Ordering::Relaxed);
        let over_limit = self.each.is_some_and(|each| {
            let mut by_address = self.by_address.lock();
            let count = by_address.entry(peer.into()).or_default();
            *count += 1;
            *count > each
        });
        ConnectionGuard { limits: Arc::clone(self), peer, over_limit }
    }
}

/// One connection; no longer counted when dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    limits: Arc<ConnectionLimits>,
    /// The client's address.
    pub peer: IpAddr,
    /// Its client has more than it may have.
    pub over_limit: bool,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.limits.count.fetch_sub(1, Ordering::Relaxed);
        if self.limits.each.is_none() {
            return;
        }
        let mut by_address = self.limits.by_address.lock();
        if let Entry::Occupied(mut count) = by_address.entry(self.peer.into()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address_and_by_ipv6_network() {
        let limits = Arc::new(ConnectionLimits::new(4, Some(2)));
        let admit = |address: &str| limits.admit(address.parse().unwrap());
        let first = [admit("10.0.0.1"), admit("::ffff:10.0.0.1")];
        assert!(first.iter().all(|guard| !guard.over_limit));
        let third = admit("10.0.0.1");
        assert!(third.over_limit && !admit("10.0.0.2").over_limit && !limits.is_full());
        let network = [admit("2001:db8::1"), admit("2001:db8::2:0:0:1")];
        assert!(!network[1].over_limit && limits.is_full());
        assert!(admit("2001:db8::3").over_limit && !admit("2001:db8:0:1::1").over_limit);
        drop((first, third, network));
        assert!(!admit("10.0.0.1").over_limit);
        assert_eq!((limits.count.load(Ordering::Relaxed), limits.by_address.lock().len()), (0, 0));
    }

    #[test]
    fn without_a_limit_addresses_are_not_counted() {
        let limits = Arc::new(ConnectionLimits::new(2, None));
        let all = [(); 3].map(|()| limits.admit("::1".parse().unwrap()));
        assert!(limits.is_full() && all.iter().all(|guard| !guard.over_limit));
        assert!(limits.by_address.lock().is_empty());
    }
}
