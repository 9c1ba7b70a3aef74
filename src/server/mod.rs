//! The life of the process: configuration to listening workers, and to a clean end.

pub mod connection;
pub mod connection_limit;
mod idlers;
pub mod listener;
mod parking;
pub mod rights;
pub mod service_manager;
mod startup_barrier;
pub mod worker;

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use crate::cache::lookup::Cache;
use crate::cache::{Bounds, Store};
use crate::config::{Config, Pinning};
use crate::fd_budget::Descriptors;
use crate::observe::log::Log;
use crate::packages::contradicted::Contradicted;
use crate::packages::snapshot::table::Sets;
use crate::proxy::exchange::Shared;
use crate::proxy::loops::Name;
use crate::proxy::recent_checks::Revalidated;
use crate::rt::engine::Engine;
use crate::sys::process::{self, Signals, Told};
use crate::upstream::Trust;
use connection_limit::ConnectionLimits;
use listener::Listening;
use worker::{Plan, WorkerListener};

/// The log's last lines get this long to be written.
const FLUSH_TIME: Duration = Duration::from_millis(500);
/// So long unfinished files may take to be removed at the end.
const ABANDON_TIME: Duration = Duration::from_secs(5);
/// How often workers are looked after.
const LOOK: Duration = Duration::from_millis(200);
/// How often the end of the last transfers is looked for.
const DRAIN_TICK: Duration = Duration::from_millis(20);

type Worker = JoinHandle<Result<(), String>>;

/// Runs the server until it is told to stop. An error is one line for stderr.
pub fn run(config: Config) -> Result<(), String> {
    let signals = Signals::block().map_err(|error| format!("cannot block signals: {error}"))?;
    process::keep_memory();
    let (descriptors, count) = Descriptors::of_process(config.workers, &config.limits)?;
    // Rights are given up before the first thread, which would keep them. What goes wrong with it is
    // told in its turn.
    let landed = land(&config, count, descriptors.commits);
    let signals = signals.watch().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let log = Log::start(config.debug).map_err(|error| format!("cannot start the log: {error}"))?;
    log.debug(format_args!("starting server"));
    let engine = Engine::choose(config.io)?;
    log.debug(format_args!("engine: {}", engine.describe()));
    let trust = load_trust(&config, &log)?;
    let Landed { store, cpus, mut listening, said } = landed?;
    store.start().map_err(|error| format!("cannot start a thread: {error}"))?;
    store.aside.draw_on(&descriptors);
    let store = Arc::new(store);
    let (stall_time, theirs) = (config.limits.stall_time, descriptors.clone());
    let cache = Arc::new(Cache { store: Arc::clone(&store), descriptors: theirs, stall_time });
    let redirects = config.follow_redirects.then(Name::unique);
    let shared = Arc::new(Shared {
        config,
        store,
        cache,
        sets: Sets::default(),
        revalidated: Revalidated::default(),
        comparisons: Arc::default(),
        contradicted: Contradicted::default(),
        missing_nar: Mutex::default(),
        log: Arc::clone(&log),
        descriptors,
        stop: Arc::default(),
        redirects,
    });
    let (arrival, opening) = startup_barrier::of(listening.sockets.len());
    let plan = Plan {
        shared: Arc::clone(&shared),
        engine,
        trust,
        guests: Arc::new(ConnectionLimits::new(
            shared.descriptors.clients,
            shared.config.limits.client_connections,
        )),
        arrival,
    };
    let reload = || reload(plan.trust.as_ref(), &log);
    let doors = mem::take(&mut listening.sockets);
    let workers = start(doors, listening.inherited, &cpus, &plan)?;
    opening.wait()?;
    announce(&shared.config, &listening, &log);
    for line in said {
        log.debug(format_args!("{line}"));
    }
    opening.open();
    service_manager::ready();
    start_sweeping(&shared);
    let looking = start_looking_after(&shared).map_err(|error| format!("cannot start a thread: {error}"))?;
    let result = wait(&signals, workers, &shared, &reload);
    drop(looking);
    log.end(FLUSH_TIME);
    abandon_all(&shared);
    result
}

/// What took the rights we started with.
struct Landed {
    store: Store,
    cpus: Vec<usize>,
    listening: Listening,
    /// What there is to say of the rights given up.
    said: Vec<String>,
}

/// Opens the cache directory, listens, and gives up the rights that took.
fn land(config: &Config, workers: usize, pending: usize) -> Result<Landed, String> {
    let memory = config.revalidate.as_ref().map_or(0, |class| class.memory);
    let bounds = Bounds { pending, fills: config.limits.fills, memory, sync: config.fills.sync };
    let store = Store::open(&config.cache_dir, bounds)
        .map_err(|e| format!("cannot use cache directory {:?} (--cache-dir): {e}", config.cache_dir))?;
    let cpus = cpus(&config.pin)?;
    let listening = listener::open(&config.host, config.port, workers)?;
    Ok(Landed { store, cpus, listening, said: rights::give_up(config)? })
}

fn announce(config: &Config, listening: &Listening, log: &Log) {
    if listening.inherited {
        log.debug(format_args!("listening on http://{} (handed over)", listening.address));
    } else {
        log.debug(format_args!("listening on http://{}:{}", config.host, listening.address.port()));
    }
    log.debug(format_args!("proxying requests to {}", config.origin.url));
    log.debug(format_args!("caching matches of {}", config.pattern.display()));
    log.debug(format_args!("caching to {}", config.cache_dir.display()));
}

#[cfg(feature = "tls")]
fn load_trust(config: &Config, log: &Log) -> Result<Option<Trust>, String> {
    if !config.origin.https && !config.follow_redirects {
        return Ok(None);
    }
    let (trust, complaints) = Trust::load().map_err(|error| format!("cannot set up TLS: {error}"))?;
    for complaint in complaints {
        log.debug(format_args!("certificate authorities: {complaint}"));
    }
    Ok(Some(trust))
}

#[cfg(feature = "tls")]
fn reload(trust: Option<&Trust>, log: &Log) {
    let Some(trust) = trust else { return };
    match trust.reload() {
        Ok(complaints) => {
            log.debug(format_args!("certificate authorities read again"));
            for complaint in complaints {
                log.debug(format_args!("certificate authorities: {complaint}"));
            }
        }
        Err(error) => log.debug(format_args!("certificate authorities kept as they were: {error}")),
    }
}

#[cfg(not(feature = "tls"))]
fn reload(_: Option<&Trust>, _: &Log) {}

#[cfg(not(feature = "tls"))]
fn load_trust(config: &Config, _: &Log) -> Result<Option<Trust>, String> {
    if config.origin.https {
        return Err("this build has no TLS: an https URL needs the feature \"tls\"".to_owned());
    }
    Ok(None)
}

fn cpus(pinning: &Pinning) -> Result<Vec<usize>, String> {
    let allowed = process::allowed_cpus();
    match pinning {
        Pinning::Off => Ok(Vec::new()),
        Pinning::Auto => Ok(allowed),
        Pinning::List(list) => match list.iter().find(|cpu| !allowed.contains(cpu)) {
            None => Ok(list.clone()),
            Some(cpu) => Err(format!(
                "cannot run on processor {cpu} (--pin-cpus or FS_CACHE_PIN_CPUS): not one of ours"
            )),
        },
    }
}

fn start(doors: Vec<OwnedFd>, inherited: bool, cpus: &[usize], plan: &Plan) -> Result<Vec<Worker>, String> {
    let mut workers = Vec::new();
    for (number, listener) in doors.into_iter().enumerate() {
        let cpu = (!cpus.is_empty()).then(|| cpus[number % cpus.len()]);
        let plan = plan.clone();
        let door = WorkerListener { listener, inherited, busy: plan.shared.stop.busy() };
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        let spawned = thread.spawn(move || {
            worker::run(&plan, door, cpu).inspect_err(|reason| plan.arrival.fail(reason.clone()))
        });
        workers.push(spawned.map_err(|error| format!("cannot start a worker: {error}"))?);
    }
    Ok(workers)
}

/// Removes what was left unfinished long ago, if that is wished. Nothing waits for it.
fn start_sweeping(shared: &Shared) {
    let Some(age) = shared.config.fills.sweep else { return };
    let (pattern, log) = (shared.config.pattern.clone(), Arc::clone(&shared.log));
    let removed = move |path: &str| log.debug(format_args!("removed {path} - untouched for long"));
    if let Err(error) = shared.store.start_sweeping(age, move |path| pattern.matches(path), removed) {
        shared.log.debug(format_args!("left-over files are not removed: {error}"));
    }
}

/// Removes what no later fill could go on with. A disk that hangs does not keep the program from ending.
fn abandon_all(shared: &Arc<Shared>) {
    let (shared, (done, ended)) = (Arc::clone(shared), mpsc::channel::<()>());
    let abandon = move || {
        shared.store.abandon_all();
        drop(done);
    };
    if thread::Builder::new().spawn(abandon).is_ok() {
        ended.recv_timeout(ABANDON_TIME).unwrap_or_default();
    }
}

/// Sees to the cache directory for as long as the sender lives: on a thread of its own, since that may hang, and this
/// one is to hear of signals.
fn start_looking_after(shared: &Arc<Shared>) -> io::Result<mpsc::Sender<()>> {
    let (shared, (alive, ended)) = (Arc::clone(shared), mpsc::channel());
    let look = move || {
        let mut lost = false;
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            lost = look_after(&shared, lost);
        }
    };
    thread::Builder::new().name("caretaker".to_owned()).spawn(look).map(|_| alive)
}

/// Sees to the cache directory; true while it is lost, which is said once.
fn look_after(shared: &Shared, lost: bool) -> bool {
    let Err(error) = shared.store.refresh() else { return false };
    if !lost {
        let path = shared.config.cache_dir.display();
        shared.log.debug(format_args!("cache directory {path} is lost - {}", process::error_text(&error)));
    }
    true
}

/// Waits up to `limit` for a signal; a watcher that failed counts as one to stop.
fn told(signals: &Receiver<Told>, limit: Duration) -> Option<Told> {
    match signals.recv_timeout(limit) {
        Ok(told) => Some(told),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Told::Stop),
    }
}

/// Waits for a signal to stop, or for a worker that could not go on; then lets what is in flight
/// finish. A second signal ends that at once.
fn wait(
    signals: &Receiver<Told>,
    workers: Vec<Worker>,
    shared: &Shared,
    reload: &dyn Fn(),
) -> Result<(), String> {
    let ended = || workers.iter().any(JoinHandle::is_finished);
    while !ended() {
        match told(signals, LOOK) {
            Some(Told::Stop) => break,
            Some(Told::Reload) => reload(),
            None => {}
        }
    }
    let failed = ended();
    service_manager::stopping();
    shared.stop.ask();
    let limit = Instant::now() + shared.config.limits.drain_time;
    while !failed && shared.stop.is_busy() && Instant::now() < limit {
        if told(signals, DRAIN_TICK) == Some(Told::Stop) {
            break;
        }
    }
    let mut finished = workers.into_iter().filter(JoinHandle::is_finished);
    match finished.next().map(JoinHandle::join) {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err("a worker failed".to_owned()),
        None => Ok(()),
    }
}
