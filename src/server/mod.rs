//! The life of the process: configuration to listening workers, and to a clean end.

pub mod connection;
pub mod connection_limit;
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
use crate::packages::tables::Tables;
use crate::proxy::exchange::Shared;
use crate::proxy::loops::Name;
use crate::proxy::recent_checks::Revalidated;
use crate::rt::engine::Engine;
use crate::sys::process::{self, SignalAction, Signals};
use crate::upstream::Trust;
use connection_limit::ConnectionLimits;
use listener::Listening;
use startup_barrier::Readiness;
use worker::{Plan, Start};

/// Time for the last log lines to be written.
const FLUSH_TIME: Duration = Duration::from_millis(500);
/// Time for unfinished files to be removed at the end.
const ABANDON_TIME: Duration = Duration::from_secs(5);
/// How often the workers and the cache directory are looked at.
const WATCH_TICK: Duration = Duration::from_millis(200);
/// How often the end of the last transfers is looked for.
const DRAIN_TICK: Duration = Duration::from_millis(20);

type Worker = JoinHandle<Result<(), String>>;

/// Runs the server until a signal stops it. An error is one line for stderr.
pub fn run(config: Config) -> Result<(), String> {
    let no_thread = |error: io::Error| format!("cannot start a thread: {error}");
    let signals = Signals::block().map_err(|error| format!("cannot block signals: {error}"))?;
    process::keep_memory();
    let (descriptors, count) = Descriptors::of_process(config.workers, &config.limits)?;
    // Privileges are dropped before the first thread, which would keep them. An error is reported below, in the
    // order of the log lines.
    let prepared = prepare(&config, count, descriptors.commits);
    let signals = signals.watch().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let log = Log::start(config.debug).map_err(|error| format!("cannot start the log: {error}"))?;
    log.debug(format_args!("starting server"));
    let engine = Engine::choose(config.io)?;
    log.debug(format_args!("engine: {}", engine.describe()));
    let trust = load_trust(&config, &log)?;
    let Prepared { store, cpus, mut listening, notices } = prepared?;
    store.start().map_err(no_thread)?;
    store.aside.draw_on(&descriptors);
    let store = Arc::new(store);
    let (stall_time, theirs) = (config.limits.stall_time, descriptors.clone());
    let cache = Arc::new(Cache { store: Arc::clone(&store), descriptors: theirs, stall_time });
    let redirects = config.follow_redirects.then(Name::unique);
    let limits = ConnectionLimits::new(descriptors.clients, config.limits.client_connections);
    let shared = Arc::new(Shared {
        config,
        store,
        cache,
        packages: Tables::default(),
        revalidated: Revalidated::default(),
        missing_nar: Mutex::default(),
        log: Arc::clone(&log),
        descriptors,
        stop: Arc::default(),
        redirects,
    });
    let sockets = mem::take(&mut listening.sockets);
    let (readiness, reports) = Readiness::new();
    let plan = Plan {
        shared: Arc::clone(&shared),
        engine,
        trust,
        limits: Arc::new(limits),
        readiness,
        inherited: listening.inherited,
    };
    let workers = start(sockets, &cpus, &plan)?;
    startup_barrier::wait(&reports, workers.len())?;
    announce(&shared.config, &listening, &log);
    for notice in notices {
        log.debug(format_args!("{notice}"));
    }
    plan.readiness.open();
    service_manager::ready();
    start_sweeping(&shared);
    let (watching, abandoned) = watch_directory(&shared).map_err(no_thread)?;
    let result = wait(&signals, workers, &shared, || reload(plan.trust.as_ref(), &log));
    drop(watching);
    log.end(FLUSH_TIME);
    abandoned.recv_timeout(ABANDON_TIME).unwrap_or_default();
    result
}

/// What needs the privileges that the process was started with.
struct Prepared {
    store: Store,
    cpus: Vec<usize>,
    listening: Listening,
    /// Log lines about the privileges dropped.
    notices: Vec<String>,
}

/// Opens the cache directory, listens, and drops privileges.
fn prepare(config: &Config, workers: usize, pending: usize) -> Result<Prepared, String> {
    let memory = config.revalidate.as_ref().map_or(0, |class| class.memory);
    let bounds = Bounds { pending, fills: config.limits.fills, memory, sync: config.fills.sync };
    let store = Store::open(&config.cache_dir, bounds)
        .map_err(|e| format!("cannot use cache directory {:?} (--cache-dir): {e}", config.cache_dir))?;
    let cpus = cpus(&config.pin)?;
    let listening = listener::open(&config.host, config.port, workers)?;
    Ok(Prepared { store, cpus, listening, notices: rights::drop_privileges(config)? })
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

/// The certificate authorities, if a server with https may be asked.
fn load_trust(config: &Config, log: &Log) -> Result<Option<Trust>, String> {
    let may_be_redirected = config.follow_redirects && cfg!(feature = "tls");
    if !config.origin.https && !may_be_redirected {
        return Ok(None);
    }
    let (trust, complaints) = Trust::load()?;
    log_complaints(complaints, log);
    Ok(Some(trust))
}

fn reload(trust: Option<&Trust>, log: &Log) {
    match trust.map(Trust::reload) {
        None => {}
        Some(Ok(complaints)) => {
            log.debug(format_args!("certificate authorities read again"));
            log_complaints(complaints, log);
        }
        Some(Err(error)) => log.debug(format_args!("certificate authorities kept as they were: {error}")),
    }
}

fn log_complaints(complaints: Vec<String>, log: &Log) {
    for complaint in complaints {
        log.debug(format_args!("certificate authorities: {complaint}"));
    }
}

fn cpus(pinning: &Pinning) -> Result<Vec<usize>, String> {
    let allowed = process::allowed_cpus();
    let list = match pinning {
        Pinning::Off => return Ok(Vec::new()),
        Pinning::Auto => return Ok(allowed),
        Pinning::List(list) => list.clone(),
    };
    list.iter().find(|cpu| !allowed.contains(cpu)).map_or(Ok(()), |cpu| {
        Err(format!("cannot run on processor {cpu} (--pin-cpus or FS_CACHE_PIN_CPUS): not one of ours"))
    })?;
    Ok(list)
}

/// Starts one worker for each socket, bound to the processors in turn.
fn start(sockets: Vec<OwnedFd>, cpus: &[usize], plan: &Plan) -> Result<Vec<Worker>, String> {
    let mut cpus = cpus.iter().copied().cycle();
    let spawn = |(number, listener)| {
        let start = Start { plan: plan.clone(), listener, cpu: cpus.next(), busy: plan.shared.stop.busy() };
        let readiness = plan.readiness.clone();
        let run = move || worker::run(start).inspect_err(|reason| readiness.report(Err(reason.clone())));
        let spawned = thread::Builder::new().name(format!("worker-{number}")).spawn(run);
        spawned.map_err(|error| format!("cannot start a worker: {error}"))
    };
    sockets.into_iter().enumerate().map(spawn).collect()
}

/// Starts to remove old partial files, if `--sweep-partials` is given. Nothing waits for it.
fn start_sweeping(shared: &Shared) {
    let Some(age) = shared.config.fills.sweep else { return };
    let (pattern, log) = (shared.config.pattern.clone(), Arc::clone(&shared.log));
    let removed = move |path: &str| log.debug(format_args!("removed {path} - untouched for long"));
    if let Err(error) = shared.store.start_sweeping(age, move |path| pattern.matches(path), removed) {
        shared.log.debug(format_args!("left-over files are not removed: {error}"));
    }
}

/// Opens the cache directory again when another has taken its place, until the sender is dropped; then removes the
/// partial files that no later fill could resume, and ends the receiver. Both may hang with the disk, so they have a
/// thread of their own; this one waits for signals. A lost directory is logged once.
fn watch_directory(shared: &Arc<Shared>) -> io::Result<(mpsc::Sender<()>, Receiver<()>)> {
    let (shared, (alive, ended), (done, abandoned)) = (Arc::clone(shared), mpsc::channel(), mpsc::channel());
    let watch = move || {
        let mut was_lost = false;
        while ended.recv_timeout(WATCH_TICK) == Err(RecvTimeoutError::Timeout) {
            let lost = shared.store.refresh().err();
            if let Some(error) = lost.as_ref().filter(|_| !was_lost) {
                let (path, error) = (shared.config.cache_dir.display(), process::error_text(error));
                shared.log.debug(format_args!("cache directory {path} is lost - {error}"));
            }
            was_lost = lost.is_some();
        }
        shared.store.abandon_all();
        drop(done);
    };
    thread::Builder::new().name("caretaker".to_owned()).spawn(watch).map(|_| (alive, abandoned))
}

/// Waits up to `limit` for a signal; a watcher that failed counts as a signal to stop.
fn told(signals: &Receiver<SignalAction>, limit: Duration) -> Option<SignalAction> {
    let told = signals.recv_timeout(limit);
    (told != Err(RecvTimeoutError::Timeout)).then(|| told.unwrap_or(SignalAction::Stop))
}

/// Waits for a signal to stop, or for a worker that has failed; then for transfers to finish, up to the drain
/// timeout. A second signal ends that at once.
fn wait(
    signals: &Receiver<SignalAction>,
    workers: Vec<Worker>,
    shared: &Shared,
    reload: impl Fn(),
) -> Result<(), String> {
    let ended = || workers.iter().any(JoinHandle::is_finished);
    while !ended() {
        match told(signals, WATCH_TICK) {
            Some(SignalAction::Stop) => break,
            Some(SignalAction::Reload) => reload(),
            None => {}
        }
    }
    let failed = ended();
    service_manager::stopping();
    shared.stop.ask();
    let deadline = Instant::now() + shared.config.limits.drain_time;
    let second = || told(signals, DRAIN_TICK) == Some(SignalAction::Stop);
    while !failed && shared.stop.is_busy() && Instant::now() < deadline && !second() {}
    let finished = workers.into_iter().find(JoinHandle::is_finished);
    finished.map_or(Ok(()), |worker| worker.join().unwrap_or_else(|_| Err("a worker failed".to_owned())))
}
