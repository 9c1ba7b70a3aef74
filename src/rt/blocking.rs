//! A small pool of threads for work that may wait: the disk, the resolver.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock};
use std::thread;

use async_task::{Runnable, Task};

use super::lock::{Lock, unpoisoned};
use crate::sys::process;

/// Threads of a pool.
const THREADS: usize = 4;
/// Jobs that may wait in the queue of a pool.
const QUEUE: usize = 4096;

/// The threads for one kind of work. Each kind has its own, so that a dead resolver does not hold up the disk.
pub struct Pool {
    /// Threads that could be started; with none of them jobs run where they are submitted.
    threads: AtomicUsize,
    jobs: Lock<VecDeque<Runnable>>,
    more: Condvar,
}

/// Work that changes the disk, and waits for it.
pub static DISK: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::start(THREADS));
/// Reads that may wait for the disk: no fsync is before them in the queue.
pub static READS: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::start(THREADS));
/// Look-ups, and short reads, which must not wait behind hundreds of long ones.
pub static SHORT_READS: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::start(THREADS));
/// Threads for one file system on which a call may never return.
pub const MOUNT_THREADS: usize = 8;
/// Work that waits for the resolver.
pub static RESOLVER: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::start(THREADS));

/// Writing sidecars: one at a time, so that the last version of a path stays.
pub static DOCUMENTS: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::start(1));
/// Moving bytes to the disk that clients do not take: what waits for their memory does not wait for an fsync.
pub static ASIDE: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::start(THREADS));
/// Reading package indexes: long work that no request waits for, one at a time.
pub static INDEXES: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::start(1));

impl std::fmt::Debug for Pool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pool").field("waiting", &self.jobs.lock().len()).finish_non_exhaustive()
    }
}

/// A job that runs, or waits in the queue. It runs to its end even if this is dropped.
pub struct Running<T>(Option<Task<thread::Result<T>>>);

/// Starts `job` on a pool. With a full queue it runs at once, on this thread: late is better than lost.
pub fn start<T: Send + 'static>(pool: &Arc<Pool>, job: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let pool = Arc::clone(pool);
    let job = async move { catch_unwind(AssertUnwindSafe(job)) };
    let (job, result) = async_task::spawn(job, move |job| pool.submit(job));
    job.schedule();
    Running(Some(result))
}

/// Runs `job` on a pool and waits for its result, see [`start`].
pub async fn run<T: Send + 'static>(
    pool: &Arc<Pool>,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    start(pool, job).result().await
}

impl<T> Running<T> {
    /// Waits for the result of the job.
    pub async fn result(mut self) -> io::Result<T> {
        let result = match &mut self.0 {
            Some(result) => result.await.ok(),
            None => None,
        };
        result.ok_or_else(|| io::Error::other("a job on the pool panicked"))
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(result) = self.0.take() {
            result.detach();
        }
    }
}

impl Pool {
    /// Whether the queue is full. Callers with an alternative check this first.
    pub fn is_full(&self) -> bool {
        self.jobs.lock().len() >= QUEUE
    }

    fn submit(&self, job: Runnable) {
        let mut jobs = self.jobs.lock();
        if self.threads.load(Ordering::Relaxed) == 0 || jobs.len() >= QUEUE {
            drop(jobs);
            job.run();
            return;
        }
        jobs.push_back(job);
        self.more.notify_one();
    }

    /// A pool with `count` threads.
    pub fn start(count: usize) -> Arc<Self> {
        let (threads, jobs, more) = (AtomicUsize::new(0), Lock::default(), Condvar::new());
        let pool = Arc::new(Self { threads, jobs, more });
        for number in 0..count {
            let theirs = Arc::clone(&pool);
            let thread = thread::Builder::new().name(format!("blocking-{number}"));
            if thread.spawn(move || theirs.work()).is_ok() {
                pool.threads.fetch_add(1, Ordering::Relaxed);
            }
        }
        pool
    }

    fn work(&self) {
        process::step_back();
        loop {
            let waited = self.more.wait_while(self.jobs.lock(), |jobs| jobs.is_empty());
            let job = unpoisoned(waited).pop_front();
            job.map(Runnable::run);
        }
    }
}
