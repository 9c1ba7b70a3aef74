//! Clients' connections, counted over all workers and, if need be, for each client's address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rt::budget::Holder;

/// How many there are.
#[derive(Debug)]
pub struct ConnectionLimits {
    count: AtomicUsize,
    most: usize,
    /// Connections that each address may have.
    each: Option<usize>,
    by_address: Mutex<HashMap<Holder, usize>>,
}

impl ConnectionLimits {
    /// Room for `most` at a time, and for `each` address so many of them. Each worker waits for one
    /// that it has room for, so there may be as many more as there are other workers.
    pub fn new(most: usize, each: Option<usize>) -> Self {
        Self { count: AtomicUsize::new(0), most, each, by_address: Mutex::default() }
    }

    /// Is there no room for another?
    pub fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.most
    }

    /// Counts a connection from this address.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> ConnectionGuard {
        self.count.fetch_add(1, Ordering::Relaxed);
        let client = self.each.map(|_| address.into());
        let had = client.map_or(0, |client| {
            let mut by_address = self.by_address();
            let count = by_address.entry(client).or_default();
            *count += 1;
            *count - 1
        });
        ConnectionGuard {
            guests: Arc::clone(self),
            client,
            over_limit: self.each.is_some_and(|each| had >= each),
        }
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection; no longer counted when dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    guests: Arc<ConnectionLimits>,
    client: Option<Holder>,
    /// Its client had all it may have.
    pub over_limit: bool,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.guests.count.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        if let Entry::Occupied(mut count) = self.guests.by_address().entry(client) {
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
    fn each_client_has_its_own_count() {
        let guests = Arc::new(ConnectionLimits::new(4, Some(2)));
        let admit = |address: &str| guests.admit(address.parse().unwrap());
        let first = [admit("10.0.0.1"), admit("::ffff:10.0.0.1")];
        assert!(first.iter().all(|guest| !guest.over_limit));
        let third = admit("10.0.0.1");
        assert!(third.over_limit && !admit("10.0.0.2").over_limit && !guests.is_full());
        let network = [admit("2001:db8::1"), admit("2001:db8::2:0:0:1")];
        assert!(!network[1].over_limit && guests.is_full());
        assert!(admit("2001:db8::3").over_limit && !admit("2001:db8:0:1::1").over_limit);
        drop((first, third, network));
        assert!(!admit("10.0.0.1").over_limit);
        assert_eq!((guests.count.load(Ordering::Relaxed), guests.by_address().len()), (0, 0));
    }

    #[test]
    fn without_a_limit_nobody_is_told_apart() {
        let guests = Arc::new(ConnectionLimits::new(2, None));
        let all = [(); 3].map(|()| guests.admit("::1".parse().unwrap()));
        assert!(guests.is_full() && all.iter().all(|guest| !guest.over_limit));
        assert!(guests.by_address().is_empty());
    }
}
