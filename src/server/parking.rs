//! Idle connections, parked: a descriptor and a few words each, no task and no buffer. One task of the worker
//! waits for all of them on a poller of their own. Where the system has no poller that can be waited for, each
//! connection waits in its own task, as one of the [`Evictable`].

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

use super::connection_limit::ConnectionGuard;
use crate::downstream::evictable::Evictable;
use crate::rt::{Runtime, Socket};
use crate::sys::clock;
use crate::sys::poller::{self, Registered};

/// Sweeps within the idle limit: a connection is closed late by at most one of them.
const SWEEPS: u32 = 16;
/// For a new connection, one of this many idle ones is closed, and one more.
const ROOM: usize = 64;

struct Parked {
    socket: Registered,
    guard: ConnectionGuard,
    /// When it is closed.
    ends: Duration,
}

/// One worker's idle connections.
pub(super) struct Parking {
    poller: Option<Arc<Poller>>,
    /// Readable while a parked connection is; taken by the task that watches.
    ready: RefCell<Option<OwnedFd>>,
    parked: RefCell<Slab<Parked>>,
    /// Those that could not be parked.
    pub(super) evictable: Rc<Evictable>,
    /// A client waits for a place and no connection is idle: one is closed behind its next response.
    pub(super) is_place_wanted: Cell<bool>,
    limit: Duration,
}

impl Parking {
    /// No connections yet; each is closed after `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        let (poller, ready) = poller::waitable().map(|(poller, ready)| (Arc::new(poller), ready)).unzip();
        Self {
            poller,
            ready: RefCell::new(ready),
            parked: RefCell::default(),
            evictable: Rc::default(),
            is_place_wanted: Cell::default(),
            limit,
        }
    }

    /// Whether this system has parking.
    pub(super) fn is_open(&self) -> bool {
        self.poller.is_some()
    }

    /// Parks a connection. One that the poller refuses is closed, as it may be at any time.
    pub(super) fn park(&self, fd: OwnedFd, guard: ConnectionGuard) {
        let Some(poller) = &self.poller else { return };
        let mut parked = self.parked.borrow_mut();
        let entry = parked.vacant_entry();
        let armed = Registered::new(poller, fd, entry.key()).and_then(|socket| {
            socket.arm(Event::readable(entry.key()), PollMode::Oneshot)?;
            Ok(socket)
        });
        if let Ok(socket) = armed {
            entry.insert(Parked { socket, guard, ends: clock::steady() + self.limit });
        }
    }

    /// How many are parked.
    pub(super) fn len(&self) -> usize {
        self.parked.borrow().len()
    }

    /// Closes some of the connections that have been idle for longest; false if there is none. Those in tasks of
    /// their own are gone only after a turn of the loop.
    pub(super) fn make_room(&self) -> bool {
        let waiting = self.evictable.count();
        if waiting > 0 {
            self.evictable.evict(waiting / ROOM + 1);
            return true;
        }
        let mut parked = self.parked.borrow_mut();
        let mut ends: Vec<Duration> = parked.iter().map(|(_, parked)| parked.ends).collect();
        if ends.is_empty() {
            return false;
        }
        // Several at a time, because finding them reads the whole list.
        let oldest = ends.len() / ROOM;
        let last = *ends.select_nth_unstable(oldest).1;
        parked.retain(|_, parked| parked.ends > last);
        true
    }

    /// Closes all of them.
    pub(super) fn clear(&self) {
        drop(self.parked.take());
    }

    /// Hands connections back to `wake` when they become readable, for as long as the worker lives.
    pub(super) async fn watch<R: Runtime>(&self, wake: impl Fn(OwnedFd, ConnectionGuard)) -> io::Result<()> {
        let (Some(poller), Some(ready)) = (&self.poller, self.ready.take()) else { return Ok(()) };
        let ready = R::socket(ready)?;
        let mut events = Events::new();
        loop {
            ready.readable().await?;
            events.clear();
            poller.wait(&mut events, Some(Duration::ZERO))?;
            for event in events.iter() {
                let parked = self.parked.borrow_mut().try_remove(event.key);
                if let Some(Parked { socket, guard, .. }) = parked
                    && let Ok(fd) = socket.as_fd().try_clone_to_owned()
                {
                    wake(fd, guard);
                }
            }
        }
    }

    /// Closes connections that have been idle for too long, for as long as the worker lives.
    pub(super) async fn sweep<R: Runtime>(&self) {
        loop {
            R::sleep((self.limit / SWEEPS).max(Duration::from_millis(10))).await;
            let now = clock::steady();
            self.parked.borrow_mut().retain(|_, parked| parked.ends > now);
        }
    }
}
