//! Packages that the newest index contradicts: for a while, what is fetched of them must be what the index lists. A
//! mirror may have its indexes before its packages; what it sends until then goes to clients and is not stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::index::Package;
use crate::key::Key;
use crate::rt::lock::Lock;

/// How long after the index: mirrors that take one file after the other need minutes. Later, what the origin has is
/// stored whatever the index lists, since an index may be wrong for good.
const PATIENCE: Duration = Duration::from_secs(600);
/// Packages remembered, some 300 bytes each. With one more, those of the oldest indexes are forgotten.
const PACKAGES: usize = 4096;

/// What the indexes list of such packages.
#[derive(Debug, Default)]
pub struct ExpectedPackages {
    listed: Lock<HashMap<Key, (Arc<Package>, Instant)>>,
    /// Whether there is any, so that most fills need no lock.
    any: AtomicBool,
}

impl ExpectedPackages {
    /// An index that has just arrived lists this package, and the cache had another one.
    pub fn note(&self, key: Key, package: Package) {
        let (now, mut listed) = (Instant::now(), self.listed.lock());
        if listed.len() >= PACKAGES {
            listed.retain(|_, (_, since)| now.duration_since(*since) < PATIENCE);
        }
        if listed.len() >= PACKAGES {
            let mut times: Vec<Instant> = listed.values().map(|(_, since)| *since).collect();
            let (_, middle, _) = times.select_nth_unstable(PACKAGES / 2);
            let middle = *middle;
            listed.retain(|_, (_, since)| *since > middle);
        }
        listed.insert(key, (Arc::new(package), now));
        self.any.store(true, Ordering::Release);
    }

    /// What the index lists of the file with this key, if it was contradicted lately.
    pub fn of(&self, key: &Key) -> Option<Arc<Package>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let listed = self.listed.lock();
        let (package, since) = listed.get(key)?;
        (since.elapsed() < PATIENCE).then(|| Arc::clone(package))
    }

    /// The file that the index lists is there.
    pub fn settle(&self, key: &Key) {
        let mut listed = self.listed.lock();
        listed.remove(key);
        self.any.store(!listed.is_empty(), Ordering::Release);
    }
}
