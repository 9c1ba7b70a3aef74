//! Comparisons of new package indexes with what the cache has (see [`super::rebuilt`]) that have not ended. A client
//! that has such an index must not get a package that is about to be dropped: files beneath the index's base wait.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use crate::rt::remote_wake::{Waiter, Waiters};

/// Those that are waited for.
#[derive(Debug, Default)]
pub struct Comparisons {
    /// How many there are.
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The directories that they are about; one for each.
    bases: Vec<String>,
    waiters: Waiters,
}

/// One of them; it has ended when this is dropped.
#[derive(Debug)]
pub struct Comparison {
    all: Arc<Comparisons>,
    base: String,
}

/// One that will begin, once clients may have the whole of an index that is on its way.
#[derive(Debug)]
pub struct Pending {
    all: Arc<Comparisons>,
    base: String,
    mark: OnceLock<Comparison>,
}

impl Pending {
    /// For files in this directory or below it.
    pub fn new(all: &Arc<Comparisons>, base: String) -> Self {
        Self { all: Arc::clone(all), base, mark: OnceLock::new() }
    }

    /// What names in the index are relative to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its last byte may reach a client from now on: files beneath its base wait for the comparison, until this is
    /// dropped.
    pub fn mark(&self) {
        self.mark.get_or_init(|| Comparisons::mark(&self.all, &self.base));
    }

    /// With so many bytes stored, is it whole? Then its last byte is about to reach clients.
    pub fn note(&self, stored: u64, end: Option<u64>) {
        if end == Some(stored) {
            self.mark();
        }
    }
}

impl Comparisons {
    /// Another one has begun: for files in this directory or below it ("" is the top).
    pub fn mark(all: &Arc<Self>, base: &str) -> Comparison {
        let mut state = all.state();
        state.bases.push(base.to_owned());
        all.count.store(state.bases.len(), Ordering::Release);
        Comparison { all: Arc::clone(all), base: base.to_owned() }
    }

    /// Are there any? Costs a hit next to nothing.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Do any concern the file of this path?
    pub fn concern(&self, path: &str) -> bool {
        self.state().concern(path)
    }

    /// Waits until none is left that concerns the file of this path.
    pub async fn ended(&self, path: &str, waiter: &Waiter) {
        poll_fn(|context| {
            let mut state = self.state();
            if !state.concern(path) {
                return Poll::Ready(());
            }
            state.waiters.add(waiter, context);
            Poll::Pending
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn concern(&self, path: &str) -> bool {
        let is_beneath = |base: &str| {
            let below = path.strip_prefix(base);
            base.is_empty() || below.is_some_and(|below| below.starts_with('/'))
        };
        self.bases.iter().any(|base| is_beneath(base))
    }
}

impl Drop for Comparison {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if let Some(at) = state.bases.iter().position(|base| *base == self.base) {
            state.bases.swap_remove(at);
        }
        self.all.count.store(state.bases.len(), Ordering::Release);
        state.waiters.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beneath_the_base_are_concerned_until_the_last_comparison_has_ended() {
        let all = Arc::new(Comparisons::default());
        let concerns = |path: &str| all.state().concern(path);
        assert!(!all.any() && !concerns("debian/pool/a.deb"));
        let marks = [Comparisons::mark(&all, "debian"), Comparisons::mark(&all, "debian")];
        assert!(all.any() && concerns("debian/pool/a.deb") && !concerns("debian2/a.deb") && !concerns("x"));
        let [first, second] = marks;
        drop(first);
        assert!(concerns("debian/pool/a.deb"));
        drop(second);
        assert!(!all.any() && !concerns("debian/pool/a.deb"));
        let _top = Comparisons::mark(&all, "");
        assert!(concerns("a.deb") && concerns("x/a.deb"));
    }
}
