//! Connections that idle: a descriptor and a few words each, no task and no buffer. One task of
//! the worker waits for all of them on a poller of their own, where the system lets a poller be
//! waited for; elsewhere each goes on waiting in its own task, among the [`WaitingConnections`].

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

use super::connection_limit::ConnectionGuard;
use super::idlers::{ToldToGo, WaitingConnections};
use crate::rt::{Runtime, Socket};
use crate::sys::clock;
use crate::sys::poller::{self, Registered};

/// The list is looked at so many times within the idle limit: a connection is closed late by that much.
const LOOKS: u32 = 16;

/// Of so many idle connections one is closed, and one more, when there is no room for a new one.
const ROOM: usize = 64;

/// A connection between two requests.
pub(super) struct Idle {
    /// Its socket.
    pub(super) fd: OwnedFd,
    /// The client's address.
    pub(super) peer: IpAddr,
    /// Its place among those that the worker takes.
    pub(super) counted: Option<ConnectionGuard>,
}

struct Parked {
    socket: Registered,
    peer: IpAddr,
    counted: Option<ConnectionGuard>,
    ends: Duration,
}

/// One worker's idle connections.
pub(super) struct Parking {
    poller: Option<Rc<Poller>>,
    /// Readable while something has come on one of them; taken by the task that watches.
    ready: RefCell<Option<OwnedFd>>,
    parked: RefCell<Slab<Parked>>,
    /// Those that could not be parked.
    idlers: WaitingConnections,
    /// Somebody waits for a place, and nobody idles.
    wanted: Cell<bool>,
    limit: Duration,
}

impl Parking {
    /// Nobody yet; a connection is closed after `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        let (poller, ready) = poller::waitable().map(|(poller, ready)| (Rc::new(poller), ready)).unzip();
        let (ready, parked, idlers) =
            (RefCell::new(ready), RefCell::default(), WaitingConnections::default());
        Self { poller, ready, parked, idlers, wanted: Cell::new(false), limit }
    }

    /// Is there room at all on this system?
    pub(super) fn is_open(&self) -> bool {
        self.poller.is_some()
    }

    /// Takes a connection in. One that cannot be waited for is closed, as it may be at any time.
    pub(super) fn park(&self, idle: Idle) {
        let Some(poller) = &self.poller else { return };
        let mut parked = self.parked.borrow_mut();
        let place = parked.vacant_entry();
        let socket = Registered::new(poller, idle.fd, place.key());
        let armed = socket.and_then(|socket| {
            socket.arm(Event::readable(place.key()), PollMode::Oneshot)?;
            Ok(socket)
        });
        if let Ok(socket) = armed {
            let ends = clock::steady() + self.limit;
            place.insert(Parked { socket, peer: idle.peer, counted: idle.counted, ends });
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.parked.borrow().len()
    }

    /// What waits in a task of its own goes when this says so.
    pub(super) fn told_to_go(&self) -> ToldToGo<'_> {
        self.idlers.told_to_go()
    }

    /// Closes some of those that have idled for longest; false if there is none. Those in tasks of their
    /// own have gone only after a turn of the loop.
    pub(super) fn make_room(&self) -> bool {
        let idlers = self.idlers.len();
        if idlers > 0 {
            self.idlers.dismiss(idlers / ROOM + 1);
            return true;
        }
        let mut parked = self.parked.borrow_mut();
        let mut ends: Vec<Duration> = parked.iter().map(|(_, parked)| parked.ends).collect();
        if ends.is_empty() {
            return false;
        }
        // Several at a time: the look through all of them is what costs.
        let last = ends.len() / ROOM;
        let (_, last, _) = ends.select_nth_unstable(last);
        let last = *last;
        parked.retain(|_, parked| parked.ends > last);
        true
    }

    /// Is there nobody to close, so that one that has just been answered is to go?
    pub(super) fn want_a_place(&self, wanted: bool) {
        self.wanted.set(wanted);
    }

    /// Is it this one, which has just been answered?
    pub(super) fn is_place_wanted(&self) -> bool {
        self.wanted.take()
    }

    /// Closes all of them.
    pub(super) fn clear(&self) {
        drop(self.parked.take());
    }

    /// Hands those back to `wake` on which something has come, for as long as the worker lives.
    pub(super) async fn watch<R: Runtime>(&self, wake: impl Fn(Idle)) -> io::Result<()> {
        let (Some(poller), Some(ready)) = (&self.poller, self.ready.take()) else { return Ok(()) };
        let ready = R::socket(ready)?;
        let mut events = Events::new();
        loop {
            ready.readable().await?;
            events.clear();
            poller.wait(&mut events, Some(Duration::ZERO))?;
            for event in events.iter() {
                let parked = self.parked.borrow_mut().try_remove(event.key);
                if let Some(Parked { socket, peer, counted, .. }) = parked
                    && let Ok(fd) = socket.as_fd().try_clone_to_owned()
                {
                    wake(Idle { fd, peer, counted });
                }
            }
        }
    }

    /// Closes those that have idled for too long, again and again.
    pub(super) async fn sweep<R: Runtime>(&self) {
        loop {
            R::sleep((self.limit / LOOKS).max(Duration::from_millis(10))).await;
            let now = clock::steady();
            self.parked.borrow_mut().retain(|_, parked| parked.ends > now);
        }
    }
}
