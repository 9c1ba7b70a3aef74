//! One core: its event loop, its context, and the connections it accepts.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::{or, pending, zip};

use super::connection::{BUSY, Connection};
use super::connection_limit::{ConnectionGuard, ConnectionLimits};
use super::parking::Parking;
use super::startup_barrier::Readiness;
use crate::downstream::buffers::Buffers;
use crate::observe::log::Lane;
use crate::proxy::exchange::{Context, Shared};
use crate::proxy::fetch::splice::Pipes;
use crate::proxy::open_files::ReadyFiles;
use crate::route::Classes;
use crate::rt::engine::{Engine, Main, remedy};
use crate::rt::notify::Notify;
use crate::rt::remote_wake::Waiter;
use crate::rt::tick::Ticks;
use crate::rt::{Listener, ReadyListener, Runtime, spawn_guarded};
use crate::stop::Busy;
use crate::sys::{self, process, socket};
use crate::upstream::{Trust, Upstream};

/// Pause after an accept that failed for want of descriptors or memory, and while the connection limit is reached.
const BACK_OFF: Duration = Duration::from_millis(20);
/// How often idle connections to the origin are pruned, and free memory is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Free memory is returned when this many more connections have become idle,
const MANY: usize = 500;
/// or when this many more bytes that clients did not take have gone to the disk.
const MUCH: u64 = 1024 * 1024;

/// What every worker is started with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The event loop.
    pub engine: Engine,
    /// The authorities for https.
    pub trust: Option<Trust>,
    /// The limits of client connections, over all workers.
    pub limits: Arc<ConnectionLimits>,
    /// Where a worker reports that it is ready.
    pub readiness: Readiness,
    /// The listening sockets belong to a service manager.
    pub inherited: bool,
}

/// One worker that is to be started.
#[derive(Debug)]
pub struct Start {
    /// What it has in common with the others.
    pub plan: Plan,
    /// Its listening socket.
    pub listener: OwnedFd,
    /// The processor that it is bound to.
    pub cpu: Option<usize>,
    /// Held until the last connection is accepted: the process does not end before.
    pub busy: Busy,
}

/// Runs one worker on this thread, for as long as the process lives.
pub fn run(start: Start) -> Result<(), String> {
    if let Some(cpu) = start.cpu {
        process::pin_to(cpu)
            .map_err(|error| format!("cannot run on processor {cpu} (--pin-cpus): {error}"))?;
    }
    let (engine, log) = (start.plan.engine.clone(), Arc::clone(&start.plan.shared.log));
    engine.run(start, |why| log.debug(format_args!("engine of one worker: {why}")))?
}

impl Main for Start {
    type Output = Result<(), String>;

    async fn run<R: Runtime>(self) -> Self::Output {
        let Self { plan, listener, busy, .. } = self;
        let failed = |error: std::io::Error| format!("cannot start a worker: {error}{}", remedy(&error));
        let worker = Rc::new(Worker {
            context: Rc::new(context::<R>(&plan)),
            parking: Parking::new(plan.shared.config.limits.idle_time.saturating_sub(BUSY)),
            limits: plan.limits,
            listener: listener.try_clone().map_err(failed)?,
        });
        R::spawn(housekeeping(Rc::clone(&worker)));
        R::spawn(watch_parked(Rc::clone(&worker)));
        R::spawn(give_way(Rc::clone(&worker)));
        // They open their descriptors in their first turn.
        R::yield_now().await;
        if plan.inherited {
            let listener = ReadyListener::<R>::new(listener).map_err(failed)?;
            R::spawn(accept_inherited(Rc::clone(&worker), listener));
        } else {
            let listener = R::listener(listener).map_err(failed)?;
            R::spawn(accept(Rc::clone(&worker), listener));
        }
        plan.readiness.wait_for_all();
        plan.shared.stop.wait().await;
        if !plan.inherited {
            worker.close();
        }
        worker.context.closing.notify_all();
        worker.parking.clear();
        // Connections whose accept has completed but not been seen yet are served first.
        R::yield_now().await;
        drop(busy);
        // Transfers continue; the process ends when there are none, or at the end of the drain timeout.
        pending().await
    }
}

fn context<R: Runtime>(plan: &Plan) -> Context<R> {
    let (config, descriptors) = (&plan.shared.config, &plan.shared.descriptors);
    let (files, ticks) = (config.limits.files, Ticks::start::<R>());
    Context {
        shared: Arc::clone(&plan.shared),
        upstream: Rc::new(Upstream::new(config, plan.trust.clone(), descriptors.clone())),
        classes: Classes {
            immutable: config.pattern.clone(),
            revalidate: config.revalidate.as_ref().map(|class| class.pattern.clone()),
            rules: config.rules.clone(),
        },
        pipes: Pipes::new(descriptors.clone()),
        closing: Notify::default(),
        files: ReadyFiles::new(files, descriptors.files, config.cache_status, ticks),
        scratch: RefCell::default(),
        head_bytes: Cell::default(),
        buffers: Buffers::default(),
        lines: Lane::open(&plan.shared.log),
    }
}

/// A worker's context, and its connections.
struct Worker<R: Runtime> {
    context: Rc<Context<R>>,
    parking: Parking,
    limits: Arc<ConnectionLimits>,
    /// Where clients wait to be accepted.
    listener: OwnedFd,
}

impl<R: Runtime> Worker<R> {
    /// While the connection limit is reached: closes idle connections if a client waits to be accepted; false if
    /// there are none. After `BUSY` without any, a connection is closed behind its response: clients that ask
    /// again at once would keep their places for ever. `full_since` holds that time between calls.
    fn make_room(&self, full_since: &mut Option<Instant>) -> bool {
        if !socket::has_waiting(&self.listener) {
            *full_since = None;
            self.parking.is_place_wanted.set(false);
        } else if self.parking.make_room() {
            return true;
        } else if full_since.get_or_insert_with(Instant::now).elapsed() >= BUSY {
            self.parking.is_place_wanted.set(true);
        }
        false
    }

    /// Serves the connections that the system has accepted already, then stops listening.
    fn close(self: &Rc<Self>) {
        while let Ok((socket, peer)) = socket::accept(&self.listener) {
            if let Ok(socket) = R::socket(socket) {
                self.start(socket, self.limits.admit(peer), true);
            }
        }
        socket::stop_listening(&self.listener);
    }

    /// Starts to serve a connection that was just accepted, unless its client has reached its limit.
    fn admit(self: &Rc<Self>, socket: R::Socket, peer: IpAddr) {
        let guard = self.limits.admit(peer);
        if !guard.over_limit {
            return self.start(socket, guard, true);
        }
        let worker = Rc::clone(self);
        spawn_guarded::<R>(guard, async move {
            Connection::new(&worker.context, &worker.parking, socket, peer).refuse().await;
        });
    }

    /// Starts a task for a connection, and parks it afterwards. `first`: it has had no request yet.
    fn start(self: &Rc<Self>, socket: R::Socket, guard: ConnectionGuard, first: bool) {
        let (worker, busy) = (Rc::clone(self), self.context.shared.stop.busy());
        spawn_guarded::<R>(busy, async move {
            let mut connection = Connection::new(&worker.context, &worker.parking, socket, guard.peer);
            if connection.serve(first).await
                && !worker.context.shared.stop.is_asked()
                && let Ok(fd) = connection.client.socket.as_fd().try_clone_to_owned()
            {
                worker.parking.park(fd, guard);
            }
        });
    }
}

/// Accepts connections until the stop.
async fn accept<R: Runtime>(worker: Rc<Worker<R>>, mut listener: impl Listener<R::Socket>) {
    let shared = &worker.context.shared;
    let mut full_since = None;
    while !shared.stop.is_asked() {
        if worker.limits.is_full() {
            if worker.make_room(&mut full_since) {
                R::yield_now().await;
            } else {
                R::sleep(BACK_OFF).await;
            }
            continue;
        }
        match listener.accept().await {
            Ok((socket, peer)) => worker.admit(socket, peer),
            Err(_) if shared.stop.is_asked() => {}
            Err(error) => {
                shared.log.debug(format_args!("accept failed: {error}"));
                if sys::is_exhausted(&error) {
                    shared.descriptors.budget().alarm();
                }
                R::sleep(BACK_OFF).await;
            }
        }
    }
}

/// The same from a socket that the service manager keeps open: at the stop it is left alone, and the clients that
/// wait there are those of the next process.
async fn accept_inherited<R: Runtime>(worker: Rc<Worker<R>>, listener: ReadyListener<R>) {
    let closing = Rc::clone(&worker);
    or(accept(worker, listener), closing.context.closing.notified()).await;
}

/// Serves parked connections again when they become readable.
async fn watch_parked<R: Runtime>(worker: Rc<Worker<R>>) {
    let wake = |fd: OwnedFd, guard: ConnectionGuard| {
        if let Ok(socket) = R::socket(fd) {
            worker.start(socket, guard, false);
        }
    };
    let watched = zip(worker.parking.watch::<R>(wake), worker.parking.sweep::<R>()).await;
    if let (Err(error), ()) = watched {
        worker.context.shared.log.debug(format_args!("cannot monitor idle connections: {error}"));
    }
}

/// Closes what is open only for speed, whenever a request waits for a descriptor.
async fn give_way<R: Runtime>(worker: Rc<Worker<R>>) {
    let (context, budget) = (&worker.context, worker.context.shared.descriptors.budget());
    let waiter = Waiter::new();
    let mut heard = 0;
    loop {
        let alarms = budget.wanted(heard, &waiter).await;
        let missing = if alarms == heard { budget.missing() } else { usize::MAX };
        if alarms != heard {
            context.shared.packages.sets.close_idle();
        }
        heard = alarms;
        context.upstream.clear();
        context.pipes.clear();
        context.files.give_way(missing);
        R::sleep(BACK_OFF).await;
    }
}

/// Prunes what is open only for speed. Returns free memory to the system when connections have become idle, or
/// bodies have gone to the disk: they held far more of it before.
async fn housekeeping<R: Runtime>(worker: Rc<Worker<R>>) {
    let (context, aside) = (&worker.context, &worker.context.shared.store.aside);
    let (mut idle, mut before, mut trimmed) = (0, 0, 0);
    loop {
        R::sleep(HOUSEKEEPING).await;
        context.upstream.prune();
        context.pipes.prune();
        context.files.prune();
        let (parked, lately) = (worker.parking.len(), aside.lately());
        let has_much = lately.saturating_sub(trimmed) >= MUCH;
        // The last of those bodies are freed by now.
        let is_calm = lately > 0 && lately == before;
        before = lately;
        if parked > idle + MANY || has_much || is_calm {
            process::give_back_memory();
            trimmed = lately;
            if is_calm {
                aside.forget();
                trimmed = 0;
            }
            idle = parked;
        }
        idle = idle.min(parked);
    }
}
