//! Every Unix: a reactor, timers and a task queue for one thread on the crate `polling`
//! (epoll on Linux, event ports on illumos). A socket's two directions share one registration, so
//! each arming names both that are awaited, and what fires for one wakes both: the other arms again.
//!
//! Interest in writing is oneshot: arm once, fires once, arm again. So is interest in reading on
//! event ports; epoll keeps it armed, since a connection that waits for its next request would only
//! arm it again, at the cost of a system call a request.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use async_task::Runnable;
use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

use super::lock::Lock;
use super::{ReadyListener, Runtime, Socket, TimedOut, timeout};
use crate::sys::poller::Registered;
use crate::sys::{socket, would_block};

/// Tasks run between two polls of the descriptors, so that busy tasks starve no socket. A poll takes no more descriptors
/// than that: one that is ready and not yet read would be reported again, and its interest taken away and set again, at
/// two system calls a request.
const TASKS_PER_TURN: NonZeroUsize = NonZeroUsize::new(64).unwrap();

thread_local! {
    static REACTOR: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// What is ready to run. Wakers add to it from any thread.
struct Queue {
    poller: Arc<Poller>,
    tasks: Lock<VecDeque<Runnable>>,
    /// The worker's own future is to be polled.
    is_main_ready: AtomicBool,
    /// The loop waits for descriptors, or is about to.
    is_waiting: AtomicBool,
}

impl Queue {
    fn push(&self, task: Runnable) {
        self.tasks.lock().push_back(task);
        self.end_wait();
    }

    /// Ends a wait that began before something was added.
    fn end_wait(&self) {
        if self.is_waiting.load(Ordering::SeqCst) {
            // Fails only where the descriptor of the poller does, and so does the wait.
            drop(self.poller.notify());
        }
    }

    /// Notes that a wait begins. Returns whether there is nothing to run before.
    fn begin_wait(&self) -> bool {
        self.is_waiting.store(true, Ordering::SeqCst);
        self.tasks.lock().is_empty() && !self.is_main_ready.load(Ordering::SeqCst)
    }
}

/// Wakes the worker's own future.
impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        self.is_main_ready.store(true, Ordering::SeqCst);
        self.end_wait();
    }
}

struct Reactor {
    sources: RefCell<Slab<Source>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_timer: Cell<u64>,
    queue: Arc<Queue>,
    /// Tasks to wake after the next poll of the descriptors.
    later: RefCell<Vec<Waker>>,
}

/// The tasks that wait for a descriptor, and the events since.
struct Source {
    fd: Rc<Registered>,
    read: Direction,
    write: Direction,
    /// Interest in reading that stays armed.
    reading: bool,
}

#[derive(Default)]
struct Direction {
    waker: Option<Waker>,
    fired: bool,
}

impl Direction {
    fn wake(&mut self, fired: bool) {
        if let Some(waker) = self.waker.take() {
            self.fired = fired;
            waker.wake();
        }
    }
}

impl Source {
    fn fire(&mut self, event: Event) {
        if self.reading && self.read.waker.is_none() {
            // No task reads now: the event would fire in every turn. A registration that cannot be
            // changed belongs to a descriptor that is about to be closed.
            self.reading = false;
            drop(self.fd.arm(Event::none(event.key), PollMode::Oneshot));
        }
        self.read.wake(event.readable);
        self.write.wake(event.writable);
    }

    /// Makes sure that what is awaited now will fire.
    fn arm(&mut self, key: usize) -> io::Result<()> {
        let mut interest = Event::none(key);
        interest.readable = self.read.waker.is_some();
        interest.writable = self.write.waker.is_some();
        let stays = !interest.writable && self.fd.can_stay_armed();
        if stays && self.reading {
            return Ok(());
        }
        self.reading = stays;
        self.fd.arm(interest, if stays { PollMode::Level } else { PollMode::Oneshot })
    }
}

/// Runs a worker to its end on this thread.
pub fn run<F: Future>(worker: impl FnOnce() -> F) -> io::Result<F::Output> {
    let queue = Arc::new(Queue {
        poller: Arc::new(Poller::new()?),
        tasks: Lock::default(),
        is_main_ready: AtomicBool::new(true),
        is_waiting: AtomicBool::new(false),
    });
    let reactor = Rc::new(Reactor {
        sources: RefCell::default(),
        timers: RefCell::default(),
        next_timer: Cell::new(0),
        queue: Arc::clone(&queue),
        later: RefCell::default(),
    });
    REACTOR.set(Some(Rc::clone(&reactor)));
    let waker = Waker::from(Arc::clone(&queue));
    let mut worker = pin!(worker());
    let mut events = Events::with_capacity(TASKS_PER_TURN);
    loop {
        if queue.is_main_ready.swap(false, Ordering::SeqCst)
            && let Poll::Ready(output) = worker.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return Ok(output);
        }
        reactor.run_tasks();
        reactor.turn(&mut events)?;
    }
}

impl Reactor {
    fn here() -> io::Result<Rc<Self>> {
        REACTOR.with_borrow(Clone::clone).ok_or_else(|| io::Error::other("no event loop on this thread"))
    }

    fn run_tasks(&self) {
        for _ in 0..TASKS_PER_TURN.get() {
            let Some(task) = self.queue.tasks.lock().pop_front() else {
                return;
            };
            task.run();
        }
    }

    /// Waits for descriptors and timers; only checks them when there is something to run.
    fn turn(&self, events: &mut Events) -> io::Result<()> {
        let next =
            self.timers.borrow().keys().next().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let later = self.later.take();
        let is_idle = later.is_empty() && self.queue.begin_wait();
        events.clear();
        let waited = self.queue.poller.wait(events, if is_idle { next } else { Some(Duration::ZERO) });
        self.queue.is_waiting.store(false, Ordering::Relaxed);
        match waited {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(_) | Err(_) => {}
        }
        for event in events.iter() {
            if let Some(source) = self.sources.borrow_mut().get_mut(event.key) {
                source.fire(event);
            }
        }
        self.fire_timers();
        later.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn fire_timers(&self) {
        let mut timers = self.timers.borrow_mut();
        if timers.is_empty() {
            return;
        }
        let later = timers.split_off(&(Instant::now(), u64::MAX));
        for (_, waker) in std::mem::replace(&mut *timers, later) {
            waker.wake();
        }
    }
}

/// The portable backend.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Runtime for Portable {
    type Socket = PollSocket;
    type Listener = ReadyListener<Self>;
    const RECEIVES_AHEAD: bool = false;

    fn spawn(task: impl Future<Output = ()> + 'static) {
        let Ok(reactor) = Reactor::here() else { return };
        let queue = Arc::clone(&reactor.queue);
        let (runnable, task) = async_task::spawn_local(task, move |task| queue.push(task));
        runnable.schedule();
        task.detach();
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> {
        Sleep { at: Instant::now() + time, id: None }
    }

    /// Not by the queue of tasks alone: many tasks run between two polls of the descriptors.
    fn yield_now() -> impl Future<Output = ()> {
        let mut waited = false;
        poll_fn(move |context| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            match Reactor::here() {
                Ok(reactor) => reactor.later.borrow_mut().push(context.waker().clone()),
                Err(_) => context.waker().wake_by_ref(),
            }
            Poll::Pending
        })
    }

    fn socket(fd: OwnedFd) -> io::Result<PollSocket> {
        let reactor = Reactor::here()?;
        let mut sources = reactor.sources.borrow_mut();
        let place = sources.vacant_entry();
        let key = place.key();
        let fd = Rc::new(Registered::new(&reactor.queue.poller, fd, key)?);
        let (read, write) = (Direction::default(), Direction::default());
        place.insert(Source { fd: Rc::clone(&fd), read, write, reading: false });
        drop(sources);
        Ok(PollSocket { fd, key, reactor })
    }

    fn listener(fd: OwnedFd) -> io::Result<ReadyListener<Self>> {
        ReadyListener::new(fd)
    }
}

struct Sleep {
    at: Instant,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        if let Ok(reactor) = Reactor::here() {
            let id = self.id.unwrap_or_else(|| reactor.next_timer.replace(reactor.next_timer.get() + 1));
            self.id = Some(id);
            reactor.timers.borrow_mut().insert((self.at, id), context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(id), Ok(reactor)) = (self.id, Reactor::here()) {
            reactor.timers.borrow_mut().remove(&(self.at, id));
        }
    }
}

/// A descriptor registered with this thread's reactor.
pub struct PollSocket {
    fd: Rc<Registered>,
    key: usize,
    reactor: Rc<Reactor>,
}

impl AsFd for PollSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PollSocket {
    async fn wait(&self, direction: fn(&mut Source) -> &mut Direction) -> io::Result<()> {
        poll_fn(|context| {
            let mut sources = self.reactor.sources.borrow_mut();
            let Some(source) = sources.get_mut(self.key) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            if std::mem::take(&mut direction(source).fired) {
                return Poll::Ready(Ok(()));
            }
            direction(source).waker = Some(context.waker().clone());
            match source.arm(self.key) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }
}

impl Socket for PollSocket {
    fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.wait(|source| &mut source.read)
    }

    async fn receive(&mut self, mut buffer: Vec<u8>, patience: Duration) -> (io::Result<usize>, Vec<u8>) {
        buffer.resize(buffer.capacity(), 0);
        let received = loop {
            match timeout::<Portable, _>(patience, self.readable()).await {
                Err(TimedOut) => break Err(io::ErrorKind::TimedOut.into()),
                Ok(Err(error)) => break Err(error),
                Ok(Ok(())) => {}
            }
            match socket::recv(self, &mut buffer) {
                // Woken for nothing.
                Err(error) if would_block(&error) => {}
                received => break received,
            }
        };
        buffer.truncate(*received.as_ref().unwrap_or(&0));
        (received, buffer)
    }

    fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.wait(|source| &mut source.write)
    }
}

impl Drop for PollSocket {
    fn drop(&mut self) {
        self.reactor.sources.borrow_mut().try_remove(self.key);
    }
}
