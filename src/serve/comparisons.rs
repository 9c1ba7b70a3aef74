//! Comparisons of new package indexes with what the cache has (see [`super::rebuilt`]) that have not ended. A client
//! that has such an index must not get a package that is about to be dropped: files beneath the index's base wait.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::rebuilt;
use super::{Exchange, lookup};
use crate::http::request::Method;
use crate::route::{self, Route};
use crate::rt::mailbox::{Waiter, Waiters};
use crate::rt::{Runtime, timeout};
use crate::store::Found;

/// So long does a request wait for comparisons; then it is answered with what there is.
const PATIENCE: Duration = Duration::from_secs(10);

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
pub struct Mark {
    all: Arc<Comparisons>,
    base: String,
}

impl Comparisons {
    /// Another one has begun: for files in this directory or below it ("" is the top).
    pub fn mark(all: &Arc<Self>, base: &str) -> Mark {
        let mut state = all.state();
        state.bases.push(base.to_owned());
        all.count.store(state.bases.len(), Ordering::Release);
        Mark { all: Arc::clone(all), base: base.to_owned() }
    }

    /// Are there any? Costs a hit next to nothing.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Waits until none is left that concerns the file of this path.
    async fn ended(&self, path: &str, waiter: &Waiter) {
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

impl Drop for Mark {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if let Some(at) = state.bases.iter().position(|base| *base == self.base) {
            state.bases.swap_remove(at);
        }
        self.all.count.store(state.bases.len(), Ordering::Release);
        state.waiters.wake_all();
    }
}

/// Waits, if this request is for a file that the cache has and a comparison may drop. What is not there need not wait.
pub async fn wait<R: Runtime>(exchange: &Exchange<'_, R>) {
    let shared = &exchange.context.shared;
    if !matches!(exchange.request.method, Method::Get | Method::Head) {
        return;
    }
    let Route::Cache(key) = route::decide(exchange.request, &exchange.context.classes) else { return };
    // An index by the name of its checksum is no package.
    if !shared.comparisons.state().concern(key.as_str()) || rebuilt::is_index(shared, &key) {
        return;
    }
    if !matches!(lookup::find::<R>(shared, key.as_str()).await, Found::File(_)) {
        return;
    }
    let Ok(waiter) = Waiter::new() else { return };
    exchange.log.debug(format_args!("{} waits for a new index to be compared", shared.store.display(&key)));
    // In time or not, the request goes on.
    timeout::<R, _>(PATIENCE, shared.comparisons.ended(key.as_str(), &waiter)).await.unwrap_or_default();
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
