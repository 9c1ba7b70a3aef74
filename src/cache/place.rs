//! Where a file lies: on this machine, or where a call may wait for another machine, or for another program, for as long
//! as it likes (NFS, FUSE). Such a call is no worker's: a thread of a pool makes it, and who asked waits no longer than
//! [`PATIENCE`]. A directory in which one hangs is left alone until that has ended.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Line;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::key::RESERVED;
use crate::outcome::BypassReason;
use crate::rt::blocking::{self, MOUNT_THREADS, Pool};
use crate::rt::lock::Lock;
use crate::rt::{Runtime, timeout};
use crate::sys::file::{self, Root};
use crate::sys::handover::{HandedOver, Undertaker};

/// A call that takes longer has failed, and the request goes on without it.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The same of a job that reads whole files.
const LONG_PATIENCE: Duration = Duration::from_secs(60);
/// File systems that have threads of their own. Those beyond share the last one's.
const MOST_LANES: usize = 16;

/// Where something lies.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this machine: calls may wait for its disks.
    Local,
    /// Elsewhere: calls may never come back.
    Remote(Arc<Remote>),
}

/// A place that may be gone.
#[derive(Debug)]
pub struct Remote {
    device: u64,
    way: Way,
}

/// The way there: by which directory, and by whose threads.
#[derive(Clone, Debug)]
pub struct Way {
    top: Box<str>,
    lane: Arc<Lane>,
}

/// The threads for one file system.
#[derive(Debug)]
struct Lane {
    calls: Arc<Pool>,
    /// Of bodies that clients have begun to get: they do not stand behind calls that hang.
    reads: Arc<Pool>,
}

impl Place {
    /// That of something open, which this way has led to. Waits for the disk.
    pub(crate) fn of(open: &OwnedFd, way: &Way) -> Self {
        if !file::is_remote(open) {
            return Self::Local;
        }
        let device = file::info(open).map_or(0, |info| info.id.0);
        Self::Remote(Arc::new(Remote { device, way: way.clone() }))
    }

    /// That of what is kept beside the tree.
    pub(crate) fn beside(root: &Root) -> Self {
        if root.is_remote() {
            Self::Remote(Arc::new(Remote { device: 0, way: Way::new(RESERVED, true) }))
        } else {
            Self::Local
        }
    }

    /// May a call there wait for ever?
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Its device, if that is remote.
    pub(crate) fn device(&self) -> Option<u64> {
        match self {
            Self::Local => None,
            Self::Remote(remote) => Some(remote.device),
        }
    }

    /// Has a few bytes read there.
    pub async fn read<R: Runtime, T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BypassReason> {
        match self {
            Self::Local => waited::<R, _>(&blocking::SHORT_READS, PATIENCE, job).await,
            Self::Remote(remote) => remote.way.run::<R, _>(PATIENCE, job).await,
        }
    }

    /// Has something written there, or done that may take its time.
    pub async fn work<R: Runtime, T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BypassReason> {
        match self {
            Self::Local => blocking::run(&blocking::DISK, job).await.map_err(|_| BypassReason::Disk),
            Self::Remote(remote) => remote.way.run::<R, _>(PATIENCE, job).await,
        }
    }

    /// The same without waiting for it.
    pub(crate) fn start(&self, job: impl FnOnce() + Send + 'static) {
        match self {
            Self::Local => drop(blocking::start(&blocking::DISK, job)),
            Self::Remote(remote) => remote.way.start(job),
        }
    }

    /// Has whole files read there, without waiting for it.
    pub fn start_reading(&self, job: impl FnOnce() + Send + 'static) {
        let pool = match self {
            Self::Local => &blocking::READS,
            Self::Remote(remote) => &remote.way.lane.reads,
        };
        drop(blocking::start(pool, job));
    }

    /// Has whole files read there.
    pub async fn read_whole<R: Runtime, T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BypassReason> {
        match self {
            Self::Local => blocking::run(&blocking::READS, job).await.map_err(|_| BypassReason::Disk),
            Self::Remote(remote) => remote.way.run::<R, _>(LONG_PATIENCE, job).await,
        }
    }

    /// Has a part of a body read there, with so much patience: by a thread of the pool on this machine, or of that place.
    /// Whatever hangs there, what is in this machine's memory can still be read.
    pub async fn read_body<R: Runtime, T: Send + 'static>(
        &self,
        pool: &Arc<Pool>,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BypassReason> {
        match self {
            Self::Local => waited::<R, _>(pool, patience, job).await,
            Self::Remote(remote) => waited::<R, _>(&remote.way.lane.reads, patience, job).await,
        }
    }
}

/// Runs a job on a pool, and waits so long for it.
pub async fn waited<R: Runtime, T: Send + 'static>(
    pool: &Arc<Pool>,
    patience: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BypassReason> {
    let ran = timeout::<R, _>(patience, blocking::run(pool, job)).await;
    ran.map_err(|_| BypassReason::DiskHangs)?.map_err(|_| BypassReason::Disk)
}

impl Way {
    /// By this path of a cache directory, all of which may be remote: what is mounted below one is mostly mounted at
    /// its top.
    pub(crate) fn new(path: &str, is_all_remote: bool) -> Self {
        let top = path.split('/').next().unwrap_or(path);
        let lane = lane(if is_all_remote { "" } else { top });
        Self { top: top.into(), lane }
    }

    /// Runs a job at the end of the way, and waits so long for it.
    pub async fn run<R: Runtime, T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BypassReason> {
        if self.is_to_be_feared() {
            return Err(BypassReason::DiskHangs);
        }
        let (way, asked) = (self.clone(), Instant::now());
        let job = move || {
            // Whoever asked has gone by now.
            if asked.elapsed() > patience {
                return Err(BypassReason::DiskHangs);
            }
            let _under_way = HANGING.begin(way);
            Ok(job())
        };
        waited::<R, _>(&self.lane.calls, patience, job).await?
    }

    pub(crate) fn start(&self, job: impl FnOnce() + Send + 'static) {
        if self.is_to_be_feared() {
            return;
        }
        let way = self.clone();
        drop(blocking::start(&self.lane.calls, move || {
            let _under_way = HANGING.begin(way);
            job();
        }));
    }

    fn is_to_be_feared(&self) -> bool {
        HANGING.is_to_be_feared(self) || self.lane.calls.is_full()
    }
}

/// The threads for a file system of this name. One that is dead keeps its own busy, and nobody else's.
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

/// Calls that are under way: no more of them than the lanes have threads.
struct Hanging(Lock<Vec<Arc<UnderWay>>>);

struct UnderWay {
    way: Way,
    since: Instant,
}

static HANGING: Hanging = Hanging(Lock::new(Vec::new()));

/// Ends it.
struct Begun(Arc<UnderWay>);

impl Hanging {
    /// Does one hang already that went the same way, or do so many that others need what threads are left?
    fn is_to_be_feared(&self, way: &Way) -> bool {
        let list = self.0.lock();
        let beside =
            |call: &&Arc<UnderWay>| call.since.elapsed() > PATIENCE && Arc::ptr_eq(&call.way.lane, &way.lane);
        let mut hanging = list.iter().filter(beside).peekable();
        hanging.peek().is_some()
            && (hanging.clone().any(|call| call.way.top == way.top) || hanging.count() >= MOUNT_THREADS / 2)
    }

    fn begin(&self, way: Way) -> Begun {
        let under_way = Arc::new(UnderWay { way, since: Instant::now() });
        self.0.lock().push(Arc::clone(&under_way));
        Begun(under_way)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        HANGING.0.lock().retain(|call| !Arc::ptr_eq(call, &self.0));
    }
}

/// Something open. What lies elsewhere is closed by a thread that nobody waits for, since that may write, and hang.
pub type Placed<T> = HandedOver<T, Place>;

impl<T: Send + 'static> Undertaker<T> for Place {
    fn bury(&self, value: T) {
        if let Self::Remote(remote) = self {
            close(remote.device, Box::new(value));
        }
    }
}

impl<T: AsFd + Send + 'static> AsFd for Placed<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

/// Drops it on a thread that is there for one device, as long as there is anything to close. What waits there is open:
/// the line is no longer than that of the descriptors.
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
        let remote = Place::Remote(Arc::new(Remote { device: 7, way }));
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
