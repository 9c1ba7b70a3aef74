//! Every Unix: a reactor, timers and a task queue for one thread on the crate `polling`
//! (epoll on Linux, event ports on illumos). Interest is oneshot: arm once, fires once, arm again.
//! A socket's two directions share one registration, so each arming names both that are awaited,
//! and what fires for one wakes both: the other arms again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use async_task::Runnable;
use polling::{Event, Events, Poller};
use slab::Slab;

use super::{Listener, Runtime, Socket};
use crate::sys::poller::Registered;
use crate::sys::{socket, would_block};

/// Tasks run between two looks at the descriptors, so that busy tasks starve no socket.
const TASKS_PER_TURN: usize = 128;

thread_local! {
    static REACTOR: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

type Queue = Arc<Mutex<VecDeque<Runnable>>>;

struct Reactor {
    poller: Rc<Poller>,
    sources: RefCell<Slab<Source>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_timer: Cell<u64>,
    queue: Queue,
}

/// Who waits for a descriptor, and what has fired since.
#[derive(Default)]
struct Source {
    read: Direction,
    write: Direction,
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

/// Runs a worker to its end on this thread.
pub fn run<F: Future>(worker: impl FnOnce() -> F) -> io::Result<F::Output> {
    let reactor = Rc::new(Reactor {
        poller: Rc::new(Poller::new()?),
        sources: RefCell::default(),
        timers: RefCell::default(),
        next_timer: Cell::new(0),
        queue: Queue::default(),
    });
    REACTOR.set(Some(Rc::clone(&reactor)));
    let main = Arc::new(MainWaker(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&main));
    let mut worker = pin!(worker());
    let mut events = Events::new();
    loop {
        if main.0.swap(false, Ordering::Relaxed)
            && let Poll::Ready(output) = worker.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return Ok(output);
        }
        reactor.run_tasks();
        let idle = lock(&reactor.queue).is_empty() && !main.0.load(Ordering::Relaxed);
        reactor.turn(&mut events, idle)?;
    }
}

/// Wakes the worker's own future. Wakes come from this thread only (other cores go through the
/// mailbox), so a flag suffices.
struct MainWaker(AtomicBool);

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock(queue: &Queue) -> std::sync::MutexGuard<'_, VecDeque<Runnable>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reactor {
    fn here() -> io::Result<Rc<Self>> {
        REACTOR.with_borrow(Clone::clone).ok_or_else(|| io::Error::other("no event loop on this thread"))
    }

    fn run_tasks(&self) {
        for _ in 0..TASKS_PER_TURN {
            let Some(task) = lock(&self.queue).pop_front() else {
                return;
            };
            task.run();
        }
    }

    /// Waits for descriptors and timers; only looks when there is other work (`idle` is false).
    fn turn(&self, events: &mut Events, idle: bool) -> io::Result<()> {
        let next =
            self.timers.borrow().keys().next().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let wait = if idle { next } else { Some(Duration::ZERO) };
        events.clear();
        match self.poller.wait(events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(_) | Err(_) => {}
        }
        for event in events.iter() {
            if let Some(source) = self.sources.borrow_mut().get_mut(event.key) {
                source.read.wake(event.readable);
                source.write.wake(event.writable);
            }
        }
        self.fire_timers();
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
    type Listener = PollListener;

    fn spawn(task: impl Future<Output = ()> + 'static) {
        let Ok(reactor) = Reactor::here() else { return };
        let queue = Arc::clone(&reactor.queue);
        let schedule = move |task| lock(&queue).push_back(task);
        let (runnable, task) = async_task::spawn_local(task, schedule);
        runnable.schedule();
        task.detach();
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> {
        Sleep { at: Instant::now() + time, id: None }
    }

    fn turn() -> impl Future<Output = ()> {
        futures_lite::future::yield_now()
    }

    fn socket(fd: OwnedFd) -> io::Result<PollSocket> {
        let reactor = Reactor::here()?;
        let key = reactor.sources.borrow_mut().insert(Source::default());
        match Registered::new(&reactor.poller, fd, key) {
            Ok(fd) => Ok(PollSocket { fd, key, reactor }),
            Err(error) => {
                reactor.sources.borrow_mut().remove(key);
                Err(error)
            }
        }
    }

    fn listener(fd: OwnedFd) -> io::Result<PollListener> {
        Self::socket(fd).map(PollListener)
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
    fd: Registered,
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
            let mut interest = Event::none(self.key);
            interest.readable = source.read.waker.is_some();
            interest.writable = source.write.waker.is_some();
            match self.fd.arm(interest) {
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

    fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.wait(|source| &mut source.write)
    }
}

impl Drop for PollSocket {
    fn drop(&mut self) {
        self.reactor.sources.borrow_mut().try_remove(self.key);
    }
}

/// A listener accepted from when it is readable.
pub struct PollListener(PollSocket);

impl Listener<PollSocket> for PollListener {
    async fn accept(&self) -> io::Result<(PollSocket, IpAddr)> {
        loop {
            match socket::accept(&self.0) {
                Ok((fd, ip)) => return Ok((Portable::socket(fd)?, ip)),
                Err(error) if would_block(&error) => self.0.readable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}
