//! A small pool of threads for work that may wait: the disk, the resolver.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use super::mailbox::{Waiter, Waiters};

/// Threads of each pool.
const THREADS: usize = 4;
/// Jobs that may wait in line.
const QUEUE: usize = 4096;

type Job = Box<dyn FnOnce() + Send>;

/// One kind of work. Each has threads of its own, so that a dead resolver holds up no disk.
pub struct Pool {
    /// Threads that could be started; with none of them jobs run where they are submitted.
    threads: AtomicUsize,
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
}

/// Work that waits for the disk.
pub static DISK: LazyLock<Arc<Pool>> = LazyLock::new(Pool::start);
/// Work that waits for the resolver.
pub static RESOLVER: LazyLock<Arc<Pool>> = LazyLock::new(Pool::start);

/// What a job leaves behind (`None` inside: it panicked), and who waits for it.
struct Slot<T> {
    value: Option<Option<T>>,
    waiters: Waiters,
}

/// Runs `job` on a pool and waits for its result. The job runs to its end even if this future is
/// dropped. With too many in line it runs at once, on this thread: late is better than lost.
pub async fn run<T: Send + 'static>(
    pool: &Arc<Pool>,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let waiter = Waiter::new()?;
    let slot = Arc::new(Mutex::new(Slot { value: None, waiters: Waiters::default() }));
    let theirs = Arc::clone(&slot);
    pool.submit(Box::new(move || {
        let value = catch_unwind(AssertUnwindSafe(job)).ok();
        let mut slot = theirs.lock().unwrap_or_else(PoisonError::into_inner);
        slot.value = Some(value);
        slot.waiters.wake_all();
    }));
    poll_fn(|context| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.value.take() {
            Some(value) => Poll::Ready(value.ok_or_else(|| io::Error::other("a job on the pool panicked"))),
            None => {
                slot.waiters.add(&waiter, context);
                Poll::Pending
            }
        }
    })
    .await
}

impl Pool {
    /// Is the line full? Who can do without asks first.
    pub fn is_full(&self) -> bool {
        self.jobs().len() >= QUEUE
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, job: Job) {
        let mut jobs = self.jobs();
        if self.threads.load(Ordering::Relaxed) == 0 || jobs.len() >= QUEUE {
            drop(jobs);
            return job();
        }
        jobs.push_back(job);
        self.more.notify_one();
    }

    fn start() -> Arc<Self> {
        let (threads, jobs, more) = (AtomicUsize::new(0), Mutex::default(), Condvar::new());
        let pool = Arc::new(Self { threads, jobs, more });
        for number in 0..THREADS {
            let theirs = Arc::clone(&pool);
            let thread = std::thread::Builder::new().name(format!("blocking-{number}"));
            if thread.spawn(move || theirs.work()).is_ok() {
                pool.threads.fetch_add(1, Ordering::Relaxed);
            }
        }
        pool
    }

    fn work(&self) {
        loop {
            let idle = |jobs: &mut VecDeque<Job>| jobs.is_empty();
            let waited = self.more.wait_while(self.jobs(), idle);
            let job = waited.unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(job) = job {
                job();
            }
        }
    }
}
