//! One core: its event loop, its context, and the connections it takes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::{or, zip};

use super::connection::{self, BUSY};
use super::connection_limit::{ConnectionGuard, ConnectionLimits};
use super::parking::{Idle, Parking};
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
use crate::rt::{Listener, ReadyListener, Runtime, remote_wake, spawn_guarded};
use crate::stop::Busy;
use crate::sys::{self, process, socket};
use crate::upstream::{Trust, Upstream};

/// Pause after an accept that failed for want of descriptors or memory, and while the limit of
/// connections is reached.
const BACK_OFF: Duration = Duration::from_millis(20);
/// How often idle connections to the origin are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// So many more idle connections than last time are reason to look for free memory.
const MANY: usize = 500;
/// So many bytes are another that clients did not take, and that are on the disk now.
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
    /// Clients' connections, over all workers.
    pub guests: Arc<ConnectionLimits>,
    /// Where a worker tells that it has what it needs.
    pub arrival: Readiness,
}

/// Where a worker's connections come in.
#[derive(Debug)]
pub struct WorkerListener {
    /// Its listening socket.
    pub listener: OwnedFd,
    /// The socket belongs to a service manager.
    pub inherited: bool,
    /// Held until the last connection has been taken: the end waits for it from the start.
    pub busy: Busy,
}

/// Runs one worker on this thread, for as long as the process lives.
pub fn run(plan: &Plan, door: WorkerListener, cpu: Option<usize>) -> Result<(), String> {
    if let Some(cpu) = cpu {
        process::pin_to(cpu)
            .map_err(|error| format!("cannot run on processor {cpu} (--pin-cpus): {error}"))?;
    }
    let replaced = |why: &str| plan.shared.log.debug(format_args!("engine of one worker: {why}"));
    plan.engine.run(Serving { plan, door }, replaced)?
}

/// A worker's main task.
struct Serving<'a> {
    plan: &'a Plan,
    door: WorkerListener,
}

impl Main for Serving<'_> {
    type Output = Result<(), String>;

    fn run<R: Runtime>(self) -> impl Future<Output = Self::Output> {
        serve::<R>(self.plan, self.door)
    }
}

async fn serve<R: Runtime>(plan: &Plan, door: WorkerListener) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot start a worker: {error}{}", remedy(&error));
    let WorkerListener { listener, inherited, busy } = door;
    remote_wake::start::<R>().map_err(failed)?;
    let config = &plan.shared.config;
    let origin = Arc::new(config.origin.clone());
    let (limits, trust) = (config.limits.clone(), plan.trust.clone());
    let descriptors = &plan.shared.descriptors;
    let upstream = Upstream::new(origin, limits, trust, descriptors.clone(), config.offline);
    let context = Rc::new(Context {
        shared: Arc::clone(&plan.shared),
        upstream: Rc::new(upstream),
        classes: Classes {
            immutable: config.pattern.clone(),
            revalidate: config.revalidate.as_ref().map(|class| class.pattern.clone()),
            rules: config.rules.clone(),
        },
        pipes: Pipes::new(descriptors.clone()),
        closing: Notify::default(),
        files: ReadyFiles::new(
            config.limits.files,
            descriptors.files,
            config.cache_status,
            Ticks::start::<R>(),
        ),
        scratch: RefCell::default(),
        head_bytes: Cell::default(),
        buffers: Buffers::default(),
        lines: Lane::open(&plan.shared.log),
    });
    let closing = Rc::new(listener.try_clone().map_err(failed)?);
    let parking = Parking::new(config.limits.idle_time.saturating_sub(BUSY));
    let (guests, door) = (Arc::clone(&plan.guests), Rc::clone(&closing));
    let worker = Rc::new(Worker { context, parking, guests, door });
    R::spawn(housekeeping(Rc::clone(&worker)));
    R::spawn(watch_parked(Rc::clone(&worker)));
    R::spawn(give_way(Rc::clone(&worker)));
    // They take what they need in their first turn.
    R::yield_now().await;
    if inherited {
        let listener = ReadyListener::<R>::new(listener).map_err(failed)?;
        plan.arrival.arrive();
        R::spawn(accept_inherited(Rc::clone(&worker), listener));
    } else {
        let listener = R::listener(listener).map_err(failed)?;
        plan.arrival.arrive();
        R::spawn(accept(Rc::clone(&worker), listener));
    }
    plan.shared.stop.wait().await.map_err(failed)?;
    if !inherited {
        close::<R>(&worker, &closing);
    }
    worker.context.closing.notify_all();
    worker.parking.clear();
    // Connections whose accept has completed but not been seen yet are taken first.
    R::yield_now().await;
    drop(busy);
    // What is in flight goes on; the process ends when nothing is, or when its time is over.
    futures_lite::future::pending().await
}

/// A worker's context, and its connections that idle.
struct Worker<R: Runtime> {
    context: Rc<Context<R>>,
    parking: Parking,
    guests: Arc<ConnectionLimits>,
    /// Where clients wait to be accepted.
    door: Rc<OwnedFd>,
}

/// Takes connections until the program is to end.
async fn accept<R: Runtime>(worker: Rc<Worker<R>>, mut listener: impl Listener<R::Socket>) {
    let shared = &worker.context.shared;
    let mut crowd = AcceptBackpressure::default();
    while !shared.stop.is_asked() {
        if worker.guests.is_full() {
            match crowd.press(&worker) {
                Room::Made => R::yield_now().await,
                Room::None => R::sleep(BACK_OFF).await,
            }
            continue;
        }
        match listener.accept().await {
            Ok((socket, peer)) => admit(&worker, socket, peer),
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

/// Those who wait for a place, all places being taken.
#[derive(Default)]
struct AcceptBackpressure {
    /// Since when, nobody having idled for long enough to be closed.
    since: Option<Instant>,
}

/// What has come of looking for a place.
enum Room {
    Made,
    None,
}

impl AcceptBackpressure {
    /// Who waits comes before who has a place and asks for nothing; and, after a while, before who has just
    /// been answered: clients that ask again and again would keep their places for ever.
    fn press<R: Runtime>(&mut self, worker: &Worker<R>) -> Room {
        if !socket::has_waiting(&worker.door) {
            self.since = None;
            worker.parking.want_a_place(false);
        } else if worker.parking.make_room() {
            return Room::Made;
        } else if self.since.get_or_insert_with(Instant::now).elapsed() >= BUSY {
            worker.parking.want_a_place(true);
        }
        Room::None
    }
}

/// The same from a socket that others go on with: at the end it is left alone, and whoever waits
/// there is the next one's client.
async fn accept_inherited<R: Runtime>(worker: Rc<Worker<R>>, listener: ReadyListener<R>) {
    let until_closing = Rc::clone(&worker);
    or(accept(worker, listener), until_closing.context.closing.notified()).await;
}

/// Serves the connections that the system has accepted for us, then takes no more.
fn close<R: Runtime>(worker: &Rc<Worker<R>>, listener: &OwnedFd) {
    while let Ok((socket, peer)) = socket::accept(listener) {
        if let Ok(socket) = R::socket(socket) {
            start(worker, socket, peer, None, true);
        }
    }
    socket::stop_listening(listener);
}

/// Starts to serve a connection that was just accepted, unless its client has enough of them.
fn admit<R: Runtime>(worker: &Rc<Worker<R>>, socket: R::Socket, peer: IpAddr) {
    let guest = worker.guests.admit(peer);
    if !guest.over_limit {
        return start(worker, socket, peer, Some(guest), true);
    }
    let context = Rc::clone(&worker.context);
    spawn_guarded::<R>(guest, connection::refuse(context, socket, peer));
}

/// Starts to serve a connection; `fresh` is one that has just been made.
fn start<R: Runtime>(
    worker: &Rc<Worker<R>>,
    socket: R::Socket,
    peer: IpAddr,
    counted: Option<ConnectionGuard>,
    fresh: bool,
) {
    let busy = worker.context.shared.stop.busy();
    let worker = Rc::clone(worker);
    spawn_guarded::<R>(busy, async move {
        let serving = connection::serve(Rc::clone(&worker.context), socket, peer, fresh, &worker.parking);
        let stopping = || worker.context.shared.stop.is_asked();
        if let Some(socket) = serving.await.filter(|_| !stopping())
            && let Ok(fd) = socket.as_fd().try_clone_to_owned()
        {
            worker.parking.park(Idle { fd, peer, counted });
        }
    });
}

/// Goes on with parked connections as soon as something comes on them.
async fn watch_parked<R: Runtime>(worker: Rc<Worker<R>>) {
    let wake = |Idle { fd, peer, counted }: Idle| {
        if let Ok(socket) = R::socket(fd) {
            start(&worker, socket, peer, counted, false);
        }
    };
    let watched = zip(worker.parking.watch::<R>(wake), worker.parking.sweep::<R>()).await;
    if let (Err(error), ()) = watched {
        worker.context.shared.log.debug(format_args!("cannot monitor idle connections: {error}"));
    }
}

/// Closes what is open only for speed, for as long as somebody waits for a descriptor.
async fn give_way<R: Runtime>(worker: Rc<Worker<R>>) {
    let (context, descriptors) = (&worker.context, &worker.context.shared.descriptors);
    let Ok(waiter) = Waiter::new() else { return };
    let mut heard = 0;
    loop {
        let alarms = descriptors.budget().wanted(heard, &waiter).await;
        let missing = if alarms == heard { descriptors.budget().missing() } else { usize::MAX };
        if alarms != heard {
            context.shared.sets.close_idle();
        }
        heard = alarms;
        context.upstream.clear();
        context.pipes.clear();
        context.files.give_way(missing);
        R::sleep(BACK_OFF).await;
    }
}

async fn housekeeping<R: Runtime>(worker: Rc<Worker<R>>) {
    let context = &worker.context;
    let (mut idle, mut before, mut trimmed) = (0, 0, 0);
    loop {
        R::sleep(HOUSEKEEPING).await;
        context.upstream.prune();
        context.pipes.prune();
        context.files.prune();
        let parked = worker.parking.len();
        let aside = &context.shared.store.aside;
        let lately = aside.lately();
        let has_much = lately.saturating_sub(trimmed) >= MUCH;
        // What was put aside last has been freed by now.
        let is_calm = lately > 0 && lately == before;
        before = lately;
        if parked > idle + MANY || has_much || is_calm {
            // While they were busy, or took what they were sent, they had far more memory than they need now.
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
