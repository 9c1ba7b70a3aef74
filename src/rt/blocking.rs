//! A small pool of threads for work that may wait: the disk, the resolver.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::Poll;

use super::mailbox::{Waiter, Waiters};

/// Threads of the pool.
const THREADS: usize = 4;
/// Jobs that may wait in line; one more is refused.
const QUEUE: usize = 65_536;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pool {
    /// Threads that could be started; with none of them jobs run where they are submitted.
    threads: AtomicUsize,
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
}

static POOL: OnceLock<Arc<Pool>> = OnceLock::new();

/// What a job leaves behind (`None` inside: it panicked), and who waits for it.
struct Slot<T> {
    value: Option<Option<T>>,
    waiters: Waiters,
}

/// Runs `job` on the pool and waits for its result. The job runs to its end even if this future
/// is dropped.
pub async fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let waiter = Waiter::new()?;
    let slot = Arc::new(Mutex::new(Slot { value: None, waiters: Waiters::default() }));
    let theirs = Arc::clone(&slot);
    submit(Box::new(move || {
        let value = catch_unwind(AssertUnwindSafe(job)).ok();
        let mut slot = theirs.lock().unwrap_or_else(PoisonError::into_inner);
        slot.value = Some(value);
        slot.waiters.wake_all();
    }))?;
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

fn submit(job: Job) -> io::Result<()> {
    let pool = POOL.get_or_init(start);
    if pool.threads.load(Ordering::Relaxed) == 0 {
        job();
        return Ok(());
    }
    let mut jobs = pool.jobs.lock().unwrap_or_else(PoisonError::into_inner);
    if jobs.len() >= QUEUE {
        return Err(io::Error::other("too many jobs wait for the disk"));
    }
    jobs.push_back(job);
    pool.more.notify_one();
    Ok(())
}

fn start() -> Arc<Pool> {
    let pool = Arc::<Pool>::default();
    for number in 0..THREADS {
        let theirs = Arc::clone(&pool);
        let thread = std::thread::Builder::new().name(format!("blocking-{number}"));
        if thread.spawn(move || work(&theirs)).is_ok() {
            pool.threads.fetch_add(1, Ordering::Relaxed);
        }
    }
    pool
}

fn work(pool: &Pool) {
    loop {
        let mut jobs = pool.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            match jobs.pop_front() {
                Some(job) => break job,
                None => jobs = pool.more.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(jobs);
        job();
    }
}
