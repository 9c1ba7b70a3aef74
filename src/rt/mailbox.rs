//! Waking tasks across cores. A waker never leaves its thread: what crosses is a token, dropped
//! into the other worker's mailbox, whose task looks the waker up and wakes it at home.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use slab::Slab;

use super::{Runtime, Socket};

thread_local! {
    static HOME: RefCell<Option<Home>> = const { RefCell::new(None) };
}

struct Home {
    mailbox: Arc<Mailbox>,
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

/// One worker's letter box. Any thread may post to it.
#[derive(Debug)]
struct Mailbox {
    letters: Mutex<Vec<usize>>,
    /// A byte written here makes the worker look.
    bell: UnixStream,
}

impl Mailbox {
    fn post(&self, token: usize) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(token);
        if letters.len() == 1 {
            // A full bell means that the worker has been rung already.
            drop((&self.bell).write(&[1]));
        }
    }
}

/// Opens this thread's mailbox and starts the task that empties it. Once per worker, first of all.
pub fn open<R: Runtime>() -> io::Result<()> {
    let (bell, ear) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ear.set_nonblocking(true)?;
    let mailbox = Arc::new(Mailbox { letters: Mutex::default(), bell });
    HOME.set(Some(Home { mailbox: Arc::clone(&mailbox), slots: Slab::new() }));
    let ready = R::socket(OwnedFd::from(ear.try_clone()?))?;
    R::spawn(async move {
        while ready.readable().await.is_ok() {
            // Empty the bell before the box: a letter posted in between rings again.
            while matches!((&ear).read(&mut [0; 64]), Ok(1..)) {}
            let letters =
                std::mem::take(&mut *mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner));
            letters.into_iter().for_each(deliver);
        }
    });
    Ok(())
}

/// Wakes the waiter behind a token, on its own thread.
fn deliver(token: usize) {
    let waker = HOME.with_borrow_mut(|home| {
        let slots = &mut home.as_mut()?.slots;
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
    mailbox: Arc<Mailbox>,
    /// Waiters belong to the thread that made them.
    _local: std::marker::PhantomData<*const ()>,
}

impl Waiter {
    /// A waiter of this thread; an error outside of a worker.
    pub fn new() -> io::Result<Self> {
        HOME.with_borrow_mut(|home| {
            let home = home.as_mut().ok_or_else(|| io::Error::other("no mailbox on this thread"))?;
            let token = home.slots.insert(Slot::default());
            Ok(Self { token, mailbox: Arc::clone(&home.mailbox), _local: std::marker::PhantomData })
        })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        HOME.with_borrow_mut(|home| {
            let Some(home) = home else { return };
            if let Some(slot) = home.slots.get_mut(self.token) {
                if slot.armed {
                    slot.abandoned = true;
                    slot.waker = None;
                } else {
                    home.slots.remove(self.token);
                }
            }
        });
    }
}

/// Who is to be woken when something changes. Lives inside the lock that guards the something.
#[derive(Debug, Default)]
pub struct Waiters(Vec<(Arc<Mailbox>, usize)>);

impl Waiters {
    /// Puts a waiter on the list, to wake the task behind `context`.
    pub fn add(&mut self, waiter: &Waiter, context: &Context<'_>) {
        let fresh = HOME.with_borrow_mut(|home| {
            let slot = home.as_mut().and_then(|home| home.slots.get_mut(waiter.token))?;
            slot.waker = Some(context.waker().clone());
            Some(!std::mem::replace(&mut slot.armed, true))
        });
        if fresh == Some(true) {
            self.0.push((Arc::clone(&waiter.mailbox), waiter.token));
        }
    }

    /// Wakes everyone on the list and clears it.
    pub fn wake_all(&mut self) {
        for (mailbox, token) in self.0.drain(..) {
            let here =
                HOME.with_borrow(|home| home.as_ref().is_some_and(|h| Arc::ptr_eq(&h.mailbox, &mailbox)));
            if here { deliver(token) } else { mailbox.post(token) }
        }
    }
}
