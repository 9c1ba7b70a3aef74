//! Comparisons of new package indexes with what the cache has (see [`super::rebuilt`]) that have not ended. A client
//! that has such an index must not get a package that is about to be dropped: files beneath the index's base wait.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use crate::rt::lock::Lock;
use crate::rt::remote_wake::{Waiter, Waiters};

/// Those that are waited for.
#[derive(Debug, Default)]
pub struct Comparisons {
    /// How many there are.
    count: AtomicUsize,
    state: Lock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The directories that they are about; one for each.
    bases: Vec<String>,
    waiters: Waiters,
}

/// One that begins once clients may have the whole of an index that is being fetched, and has ended when this is
/// dropped.
#[derive(Debug)]
pub struct Pending {
    all: Arc<Comparisons>,
    base: String,
    /// It has begun.
    is_marked: AtomicBool,
}

impl Pending {
    /// For files in this directory or below it ("" is the top).
    pub fn new(all: &Arc<Comparisons>, base: String) -> Self {
        Self { all: Arc::clone(all), base, is_marked: AtomicBool::new(false) }
    }

    /// What names in the index are relative to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its last byte may reach a client from now on: files beneath its base wait for the comparison, until this is
    /// dropped.
    pub fn mark(&self) {
        let mut state = self.all.state.lock();
        if !self.is_marked.swap(true, Ordering::Relaxed) {
            state.bases.push(self.base.clone());
            self.all.count.store(state.bases.len(), Ordering::Release);
        }
    }

    /// The same once it is whole, with these bytes `stored`: its last byte is about to reach clients.
    pub fn note(&self, stored: u64, end: Option<u64>) {
        if end == Some(stored) {
            self.mark();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !*self.is_marked.get_mut() {
            return;
        }
        let mut state = self.all.state.lock();
        if let Some(at) = state.bases.iter().position(|base| *base == self.base) {
            state.bases.swap_remove(at);
        }
        self.all.count.store(state.bases.len(), Ordering::Release);
        state.waiters.wake_all();
    }
}

impl Comparisons {
    /// Whether there are any. Costs a hit next to nothing.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether any concerns the file of this path.
    pub fn concern(&self, path: &str) -> bool {
        self.state.lock().concern(path)
    }

    /// Waits until none is left that concerns the file of this path.
    pub async fn ended(&self, path: &str, waiter: &Waiter) {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if !state.concern(path) {
                return Poll::Ready(());
            }
            state.waiters.add(waiter, context);
            Poll::Pending
        })
        .await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beneath_the_base_are_concerned_until_the_last_comparison_has_ended() {
        let all = Arc::new(Comparisons::default());
        let concerns = |path: &str| all.concern(path);
        let mark = |base: &str| {
            let pending = Pending::new(&all, base.to_owned());
            (0..2).for_each(|_| pending.mark());
            pending
        };
        assert!(!all.any() && !concerns("debian/pool/a.deb"));
        let marks = [mark("debian"), mark("debian")];
        assert!(all.any() && concerns("debian/pool/a.deb") && !concerns("debian2/a.deb") && !concerns("x"));
        let [first, second] = marks;
        drop(first);
        assert!(concerns("debian/pool/a.deb"));
        drop(second);
        assert!(!all.any() && !concerns("debian/pool/a.deb"));
        let _top = mark("");
        assert!(concerns("a.deb") && concerns("x/a.deb"));
    }
}
