//! Where a file lies: on this machine, or on a file system whose calls may hang, since they wait for another machine or
//! for another program (NFS, FUSE). Such a call is made by a thread of a pool, never by a worker, and a request waits for
//! it no longer than [`PATIENCE`]. While a call hangs in a directory, no other one is made there.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Line;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::key::RESERVED;
use crate::outcome::BypassReason;
use crate::rt::blocking::{self, MOUNT_THREADS, Pool};
use crate::rt::lock::Lock;
use crate::rt::{Runtime, timeout};
use crate::sys::file::{self, Root};
use crate::sys::handover::{Disposer, HandedOver};

/// A call that takes longer has failed, and the request goes on without it.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The same for a job that reads whole files.
const LONG_PATIENCE: Duration = Duration::from_secs(60);
/// File systems that have threads of their own. Further ones share those of the last.
const MOST_LANES: usize = 16;

/// Where something lies.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this machine: calls may wait for its disks.
    Local,
    /// On a file system whose calls may hang.
    Remote {
        /// Its number.
        device: u64,
        /// The way there.
        way: Way,
    },
}

/// The way to a file system whose calls may hang: by which directory at the top, and by whose threads.
#[derive(Clone, Debug)]
pub struct Way {
    top: Arc<str>,
    lane: Arc<Lane>,
}

/// The threads for one file system.
#[derive(Debug)]
struct Lane {
    calls: Arc<Pool>,
    /// For bodies that clients have begun to get: they are not queued behind calls that hang.
    reads: Arc<Pool>,
}

/// What a thread of a pool is to do.
pub trait Job<T>: FnOnce() -> T + Send + 'static {}

impl<T, J: FnOnce() -> T + Send + 'static> Job<T> for J {}

impl Place {
    /// The place of something open, which this way has led to. Waits for the disk.
    pub(crate) fn of(open: &OwnedFd, way: &Way) -> Self {
        if !file::is_remote(open) {
            return Self::Local;
        }
        Self::Remote { device: file::info(open).map_or(0, |info| info.id.0), way: way.clone() }
    }

    /// The place of what is stored beside the tree.
    pub(crate) fn beside(root: &Root) -> Self {
        if root.is_remote() { Self::Remote { device: 0, way: Way::new(RESERVED, true) } } else { Self::Local }
    }

    /// May a call there hang?
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    /// Its device, if calls there may hang.
    pub(crate) fn device(&self) -> Option<u64> {
        match self {
            Self::Local => None,
            Self::Remote { device, .. } => Some(*device),
        }
    }

    /// Has a few bytes read there.
    pub async fn read<R: Runtime, T: Send + 'static>(&self, job: impl Job<T>) -> Result<T, BypassReason> {
        match self {
            Self::Local => waited::<R, _>(&blocking::SHORT_READS, PATIENCE, job).await,
            Self::Remote { way, .. } => way.run::<R, _>(PATIENCE, job).await,
        }
    }

    /// Has something written there, or done that may take its time.
    pub async fn work<R: Runtime, T: Send + 'static>(&self, job: impl Job<T>) -> Result<T, BypassReason> {
        match self {
            Self::Local => blocking::run(&blocking::DISK, job).await.map_err(|_| BypassReason::Disk),
            Self::Remote { way, .. } => way.run::<R, _>(PATIENCE, job).await,
        }
    }

    /// The same without waiting for it.
    pub(crate) fn start(&self, job: impl Job<()>) {
        match self {
            Self::Local => drop(blocking::start(&blocking::DISK, job)),
            Self::Remote { way, .. } => way.start(job),
        }
    }

    /// Has whole files read there, without waiting for it.
    pub fn start_reading(&self, job: impl Job<()>) {
        drop(blocking::start(self.reads(&blocking::READS), job));
    }

    /// Has whole files read there.
    pub async fn read_whole<R: Runtime, T: Send + 'static>(
        &self,
        job: impl Job<T>,
    ) -> Result<T, BypassReason> {
        match self {
            Self::Local => blocking::run(&blocking::READS, job).await.map_err(|_| BypassReason::Disk),
            Self::Remote { way, .. } => way.run::<R, _>(LONG_PATIENCE, job).await,
        }
    }

    /// Has a part of a body read there, within this time: by a thread of the pool on this machine, or of the file
    /// system's own. Whatever hangs there, what is in this machine's memory can still be read.
    pub async fn read_body<R: Runtime, T: Send + 'static>(
        &self,
        pool: &Arc<Pool>,
        patience: Duration,
        job: impl Job<T>,
    ) -> Result<T, BypassReason> {
        waited::<R, _>(self.reads(pool), patience, job).await
    }

    fn reads<'a>(&'a self, local: &'a Arc<Pool>) -> &'a Arc<Pool> {
        match self {
            Self::Local => local,
            Self::Remote { way, .. } => &way.lane.reads,
        }
    }
}

/// Runs a job on a pool, and waits this long for it.
pub async fn waited<R: Runtime, T: Send + 'static>(
    pool: &Arc<Pool>,
    patience: Duration,
    job: impl Job<T>,
) -> Result<T, BypassReason> {
    let ran = timeout::<R, _>(patience, blocking::run(pool, job)).await;
    ran.map_err(|_| BypassReason::DiskHangs)?.map_err(|_| BypassReason::Disk)
}

impl Way {
    /// By this path of a cache directory, all of which may be remote: what is mounted below one is mostly mounted at
    /// its top.
    pub(crate) fn new(path: &str, is_all_remote: bool) -> Self {
        let top = path.split('/').next().unwrap_or(path);
        Self { top: top.into(), lane: lane(if is_all_remote { "" } else { top }) }
    }

    /// Runs a job at the end of the way, and waits this long for it.
    pub async fn run<R: Runtime, T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl Job<T>,
    ) -> Result<T, BypassReason> {
        let (call, asked) = (self.call(job).ok_or(BypassReason::DiskHangs)?, Instant::now());
        // After that no request waits for it.
        let in_time = move || (asked.elapsed() <= patience).then(call);
        waited::<R, _>(&self.lane.calls, patience, in_time).await?.ok_or(BypassReason::DiskHangs)
    }

    pub(crate) fn start(&self, job: impl Job<()>) {
        self.call(job).into_iter().for_each(|call| drop(blocking::start(&self.lane.calls, call)));
    }

    /// The job, which is noted as under way while it runs; `None` where it would hang, or leave no thread to others.
    fn call<T>(&self, job: impl Job<T>) -> Option<impl Job<T>> {
        let way = self.clone();
        let call = || {
            let _under_way = UnderWay::begin(way);
            job()
        };
        (!self.hangs() && !self.lane.calls.is_full()).then_some(call)
    }

    /// Whether a call that went the same way hangs already, or so many that others need the remaining threads.
    fn hangs(&self) -> bool {
        let calls = CALLS.lock();
        let is_beside =
            |(way, since): &&(Way, Instant)| since.elapsed() > PATIENCE && Arc::ptr_eq(&way.lane, &self.lane);
        let hanging: Vec<_> = calls.iter().map(|(_, call)| call).filter(is_beside).collect();
        hanging.iter().any(|(way, _)| way.top == self.top) || hanging.len() >= MOUNT_THREADS / 2
    }
}

/// Calls that are under way, and since when: no more of them than the lanes have threads.
static CALLS: Lock<Slab<(Way, Instant)>> = Lock::new(Slab::new());

/// A call in [`CALLS`]. Taken out on drop.
struct UnderWay(usize);

impl UnderWay {
    fn begin(way: Way) -> Self {
        Self(CALLS.lock().insert((way, Instant::now())))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        CALLS.lock().try_remove(self.0);
    }
}

/// The threads for a file system of this name. Calls that hang take no threads of another file system.
fn lane(name: &str) -> Arc<Lane> {
    static LANES: Lock<Vec<(Box<str>, Arc<Lane>)>> = Lock::new(Vec::new());
    let mut lanes = LANES.lock();
    if let Some((_, lane)) = lanes.iter().find(|(known, _)| **known == *name) {
        return Arc::clone(lane);
    }
    match lanes.last() {
        Some((_, last)) if lanes.len() >= MOST_LANES => Arc::clone(last),
        Some(_) | None => {
            let lane =
                Arc::new(Lane { calls: Pool::start(MOUNT_THREADS), reads: Pool::start(MOUNT_THREADS) });
            lanes.push((name.into(), Arc::clone(&lane)));
            lane
        }
    }
}

/// Something open. Where calls may hang, a thread of its own closes it, since a close may write.
pub type Placed<T> = HandedOver<T, Place>;

impl<T: Send + 'static> Disposer<T> for Place {
    fn dispose(&self, value: T) {
        if let Self::Remote { device, .. } = self {
            close(*device, Box::new(value));
        }
    }
}

impl<T: AsFd + Send + 'static> AsFd for Placed<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

/// Drops it on a thread that is there for one device, as long as there is anything to close. What is queued there is
/// open: the queue is bounded by the descriptors.
fn close(device: u64, value: Box<dyn Any + Send>) {
    static LINES: Lock<BTreeMap<u64, Vec<Box<dyn Any + Send>>>> = Lock::new(BTreeMap::new());
    let lines = || LINES.lock();
    match lines().entry(device) {
        Line::Occupied(line) => return line.into_mut().push(value),
        Line::Vacant(place) => {
            place.insert(vec![value]);
        }
    }
    let work = move || {
        loop {
            let mut all = lines();
            let batch = all.get_mut(&device).map(std::mem::take).unwrap_or_default();
            if batch.is_empty() {
                all.remove(&device);
                return;
            }
            drop(all);
            drop(batch);
        }
    };
    if thread::Builder::new().name("closing".to_owned()).spawn(work).is_err() {
        // Late is better than never.
        let line = lines().remove(&device);
        drop(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn one_dead_file_system_has_no_thread_of_another() {
        let (one, other) = (Way::new("one/a", false), Way::new("two/a", false));
        assert!(Arc::ptr_eq(&one.lane, &Way::new("one/b", false).lane));
        assert!(!Arc::ptr_eq(&one.lane, &other.lane));
        assert!(Arc::ptr_eq(&Way::new("x/a", true).lane, &Way::new("y/a", true).lane));
    }

    #[test]
    fn what_lies_elsewhere_is_dropped_elsewhere_and_in_any_case() {
        struct Told(mpsc::Sender<thread::ThreadId>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(thread::current().id()).unwrap_or_default();
            }
        }
        let (told, dropped) = mpsc::channel();
        let way = Way::new("one/a", false);
        let remote = Place::Remote { device: 7, way };
        drop(Placed::new(Told(told.clone()), Place::Local));
        assert_eq!(dropped.recv().unwrap(), thread::current().id());
        for _ in 0..100 {
            drop(Placed::new(Told(told.clone()), remote.clone()));
        }
        for _ in 0..100 {
            assert_ne!(dropped.recv().unwrap(), thread::current().id());
        }
    }
}
