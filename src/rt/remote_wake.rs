//! Waking tasks across cores. A waker never leaves its thread: what crosses is a token, put into the
//! other worker's queue, whose task looks the waker up and wakes it there.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use slab::Slab;

use super::{Runtime, Socket};

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// What a worker knows of its own waiters.
struct Local {
    queue: Arc<WakeQueue>,
    slots: Slab<Slot>,
}

/// A place where one [`Waiter`] sleeps.
#[derive(Default)]
struct Slot {
    waker: Option<Waker>,
    /// A token for this slot is on somebody's list or on its way here.
    armed: bool,
    /// The waiter is gone; the slot is free once the token has come.
    abandoned: bool,
}

/// The wakes that other threads ask one worker for.
#[derive(Debug)]
struct WakeQueue {
    tokens: Mutex<Vec<usize>>,
    /// A byte written here makes the worker look.
    wake_pipe: UnixStream,
}

impl WakeQueue {
    fn push(&self, token: usize) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push(token);
        if tokens.len() == 1 {
            // A full pipe means that the worker has been woken already.
            drop((&self.wake_pipe).write(&[1]));
        }
    }
}

/// Makes this thread's queue and starts the task that empties it. Once per worker, first of all.
pub fn start<R: Runtime>() -> io::Result<()> {
    let (wake_pipe, woken) = UnixStream::pair()?;
    wake_pipe.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let queue = Arc::new(WakeQueue { tokens: Mutex::default(), wake_pipe });
    LOCAL.set(Some(Local { queue: Arc::clone(&queue), slots: Slab::new() }));
    let ready = R::socket(OwnedFd::from(woken.try_clone()?))?;
    R::spawn(async move {
        while ready.readable().await.is_ok() {
            // The pipe before the queue: a token that is pushed in between is written again.
            while matches!((&woken).read(&mut [0; 64]), Ok(1..)) {}
            let tokens = std::mem::take(&mut *queue.tokens.lock().unwrap_or_else(PoisonError::into_inner));
            tokens.into_iter().for_each(wake);
        }
    });
    Ok(())
}

/// Wakes the waiter behind a token, on its own thread.
fn wake(token: usize) {
    let waker = LOCAL.with_borrow_mut(|local| {
        let slots = &mut local.as_mut()?.slots;
        let slot = slots.get_mut(token)?;
        slot.armed = false;
        if slot.abandoned {
            slots.remove(token);
            return None;
        }
        slot.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A task's place to sleep until a [`Waiters`] list is woken, on whatever thread that happens.
#[derive(Debug)]
pub struct Waiter {
    token: usize,
    queue: Arc<WakeQueue>,
    /// Waiters belong to the thread that made them.
    _local: std::marker::PhantomData<*const ()>,
}

impl Waiter {
    /// A waiter of this thread; an error outside of a worker.
    pub fn new() -> io::Result<Self> {
        LOCAL.with_borrow_mut(|local| {
            let local = local.as_mut().ok_or_else(|| io::Error::other("no worker runs on this thread"))?;
            let token = local.slots.insert(Slot::default());
            Ok(Self { token, queue: Arc::clone(&local.queue), _local: std::marker::PhantomData })
        })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        LOCAL.with_borrow_mut(|local| {
            let Some(local) = local else { return };
            if let Some(slot) = local.slots.get_mut(self.token) {
                if slot.armed {
                    slot.abandoned = true;
                    slot.waker = None;
                } else {
                    local.slots.remove(self.token);
                }
            }
        });
    }
}

/// Who is to be woken when something changes. Lives inside the lock that guards the something.
#[derive(Debug, Default)]
pub struct Waiters(Vec<(Arc<WakeQueue>, usize)>);

impl Waiters {
    /// Puts a waiter on the list, to wake the task behind `context`.
    pub fn add(&mut self, waiter: &Waiter, context: &Context<'_>) {
        let fresh = LOCAL.with_borrow_mut(|local| {
            let slot = local.as_mut().and_then(|local| local.slots.get_mut(waiter.token))?;
            slot.waker = Some(context.waker().clone());
            Some(!std::mem::replace(&mut slot.armed, true))
        });
        if fresh == Some(true) {
            self.0.push((Arc::clone(&waiter.queue), waiter.token));
        }
    }

    /// Wakes everyone on the list and clears it.
    pub fn wake_all(&mut self) {
        for (queue, token) in self.0.drain(..) {
            let is_here =
                |local: &Option<Local>| local.as_ref().is_some_and(|local| Arc::ptr_eq(&local.queue, &queue));
            if LOCAL.with_borrow(is_here) { wake(token) } else { queue.push(token) }
        }
    }
}
