//! Gives complete files their final names: in batches, on one thread, while no client waits for it.
//!
//! The order for each file: set the origin's date, sync data and attributes, rename, sync the directory. The disk's flush
//! is most of the cost of a small file, and one flush serves the whole batch.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar};
use std::thread;
use std::time::{Duration, Instant};

use super::inflight::Permit;
use super::partial::Partial;
use super::room::{Room, Rooms};
use crate::rt::lock::{Lock, unpoisoned};
use crate::sys::file::{self, Info};
use crate::sys::process::step_back;

/// After a batch of at least `MANY` files the next one waits for more files, since flushes are the cost then: for a
/// part of the time that the last batch took, within these bounds, and only while there is plenty of room. A lone file
/// is named at once.
const MANY: usize = 4;
const GATHER_PART: u32 = 4;
const GATHER: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// A file system whose sync takes longer than `SLOW` is written to by other programs as well. For `APART` after that,
/// files are synced one by one, if that is quicker for the batch.
const SLOW: Duration = Duration::from_secs(1);
const APART: Duration = Duration::from_secs(60);
/// Time per file of a batch when each is synced by itself, several at a time, until it has been measured.
const EACH: Duration = Duration::from_millis(5);
/// Parent directories that are open at a time.
const PARENTS: usize = 32;

/// Called with the outcome, on the committing thread.
pub type Report = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A complete file, on its way to its final name.
pub struct Whole {
    /// The permit to lead: until the file has its name, requests find the fill.
    pub permit: Permit,
    /// The file.
    pub partial: Partial,
    /// Its length in bytes.
    pub size: u64,
    /// The origin's date, in seconds since 1970.
    pub modified: Option<u64>,
    /// Its room in the queue; given back when it has its name.
    pub room: Room,
    /// stat of the file after its date was set.
    pub dated: Option<Info>,
    /// Called at the end.
    pub report: Report,
}

impl Whole {
    /// Gives the file its date, and its head where one goes with it.
    fn date(&mut self) -> io::Result<()> {
        let kept = self.permit.fill().kept();
        self.partial.set_date(self.size, self.modified, kept.is_some())?;
        if let Some(kept) = kept {
            let info = file::info(&**self.partial.file())?;
            kept.write(self.permit.key(), &**self.partial.file(), &info);
            self.dated = Some(info);
        }
        Ok(())
    }

    /// Gives it its name, unless the origin has another file of that name by now.
    fn name(&mut self) -> io::Result<()> {
        let superseded = || Err(io::Error::other("the origin has another one by now"));
        if self.permit.fill().is_superseded() {
            return superseded();
        }
        self.note_unsafe();
        self.partial.rename()?;
        self.note_unsafe();
        // A request that superseded it between the check and the rename has found no file to remove.
        if self.permit.fill().is_superseded() {
            self.partial.take_back();
            return superseded();
        }
        Ok(())
    }

    /// An unsafe request that came after the head was written has found no stored file to invalidate: the head is
    /// written once more, so that the next request sees that it must validate.
    fn note_unsafe(&self) {
        if self.permit.fill().is_invalid()
            && let (Some(kept), Some(info)) = (self.permit.fill().kept(), &self.dated)
        {
            kept.write(self.permit.key(), &**self.partial.file(), info);
        }
    }

    /// Keeps the head in memory, once the file has its name.
    fn remember(&self) {
        let Some(info) = &self.dated else { return };
        let note = || {
            if let Some(kept) = self.permit.fill().kept() {
                kept.remember(self.permit.key(), &**self.partial.file(), info);
            }
        };
        note();
        // An unsafe request meanwhile still invalidates it.
        if self.permit.fill().is_invalid() {
            note();
        }
    }

    /// Frees the key: only from now on requests look for the stored file.
    fn end(self, outcome: io::Result<()>) {
        drop(self.partial);
        drop(self.permit);
        drop(self.room);
        (self.report)(outcome);
    }
}

/// The queue to the committing thread.
#[derive(Debug)]
pub struct Committer {
    line: Arc<Line>,
    /// Bounds the queue. Without room a fill waits before it begins.
    pub rooms: Arc<Rooms>,
    durable: bool,
}

#[derive(Default)]
struct Line {
    state: Lock<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Whole>,
    closed: bool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Line").field("waiting", &self.state.lock().waiting.len()).finish_non_exhaustive()
    }
}

impl Committer {
    /// With room for `most` files in the queue. Without `durable` nothing is synced.
    pub(crate) fn new(most: usize, durable: bool) -> Self {
        Self { line: Arc::default(), rooms: Rooms::new(most), durable }
    }

    /// Starts the thread.
    pub(crate) fn start(&self) -> io::Result<()> {
        let (line, rooms, durable) = (Arc::clone(&self.line), Arc::clone(&self.rooms), self.durable);
        let work = move || work(&line, &rooms, durable);
        thread::Builder::new().name("committer".to_owned()).spawn(work).map(drop)
    }

    /// Adds a file to the queue. Does not wait.
    pub fn add(&self, whole: Whole) {
        let mut state = self.line.state.lock();
        state.waiting.push(whole);
        let first = state.waiting.len() == 1;
        drop(state);
        if first || self.rooms.is_scarce() {
            self.line.more.notify_one();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.line.state.lock().closed = true;
        self.line.more.notify_one();
    }
}

fn work(line: &Line, rooms: &Rooms, durable: bool) {
    step_back();
    let mut pace = Pace::default();
    loop {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = unpoisoned(line.more.wait_while(line.state.lock(), idle));
        if waited.waiting.is_empty() {
            return;
        }
        let gathering = |state: &mut State| !state.closed && !rooms.is_scarce();
        let gathered = line.more.wait_timeout_while(waited, pace.gather(), gathering);
        let batch = mem::take(&mut unpoisoned(gathered).0.waiting);
        let (count, begun) = (batch.len(), Instant::now());
        let flush = match (durable, pace.together(count, begun)) {
            (false, _) => Flush::Never,
            (true, true) => Flush::Together,
            (true, false) => Flush::Apart,
        };
        // A panic ends this batch only.
        drop(catch_unwind(AssertUnwindSafe(|| commit(batch, flush))));
        pace.note(count, flush != Flush::Apart, begun.elapsed());
    }
}

/// How the disk keeps up.
#[derive(Debug)]
struct Pace {
    /// The last batch, and what it took.
    count: usize,
    took: Duration,
    /// A slow sync of a whole file system: how long it took, and until when that counts.
    slow: Option<(Duration, Instant)>,
    /// Time per file when each is synced by itself.
    each: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { count: 0, took: Duration::ZERO, slow: None, each: EACH }
    }
}

impl Pace {
    /// How long the next batch waits for others.
    fn gather(&self) -> Duration {
        let (least, most) = GATHER;
        if self.count < MANY { Duration::ZERO } else { (self.took / GATHER_PART).clamp(least, most) }
    }

    /// Whether a batch of `count` files is to be synced together.
    fn together(&self, count: usize, now: Instant) -> bool {
        let apart = self.each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        self.slow.is_none_or(|(took, until)| now > until || apart > took)
    }

    fn note(&mut self, count: usize, together: bool, took: Duration) {
        (self.count, self.took) = (count, took);
        if together {
            self.slow = (took > SLOW).then(|| (took, Instant::now() + APART));
        } else if count >= MANY {
            self.each = took / u32::try_from(count).unwrap_or(u32::MAX);
        }
    }
}

/// How files are brought to stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    /// By a sync of all of their file system.
    Together,
    /// One by one.
    Apart,
    /// Not at all: a power cut may lose them.
    Never,
}

/// Gives the files of a batch their names.
pub(crate) fn commit(batch: Vec<Whole>, flush: Flush) {
    let mut dated = keep(batch, Whole::date);
    dated.sort_by_key(|whole| whole.partial.device());
    let files = dated.iter().map(|whole| (whole.partial.device(), whole.partial.file().as_fd()));
    let mut synced = sync(files, flush).into_iter();
    let named = keep(dated, |whole| synced.next().unwrap_or(Ok(())).and_then(|()| whole.name()));
    let failed = sync_directories(&named, flush);
    for whole in named {
        let error = whole.partial.directories().into_iter().find_map(|path| failed.get(path));
        let outcome = error.map_or(Ok(()), |kind| Err(io::Error::from(*kind)));
        whole.remember();
        whole.end(outcome);
    }
}

/// Syncs the directories of the files, and those in which directories were made for them, each once: the errors, by
/// their paths.
fn sync_directories(named: &[Whole], flush: Flush) -> HashMap<String, io::ErrorKind> {
    let mut failed = HashMap::new();
    let Some(Whole { partial: first, .. }) = named.first().filter(|_| flush != Flush::Never) else {
        return failed;
    };
    let mut own: Vec<_> = named.iter().map(|whole| whole.partial.own_directory()).collect();
    own.sort_unstable_by_key(|(id, ..)| *id);
    own.dedup_by_key(|(id, ..)| *id);
    let own = own.into_iter().map(|((device, _), path, directory)| (device, path, directory.as_fd()));
    sync_each(&own.collect::<Vec<_>>(), flush, &mut failed);
    let mut above: Vec<_> = named.iter().flat_map(|whole| whole.partial.directories().split_off(1)).collect();
    above.sort_unstable();
    above.dedup();
    for paths in above.chunks(PARENTS) {
        let mut opened = Vec::with_capacity(paths.len());
        for path in paths {
            match first.open_beside(path).and_then(|file| Ok((file::info(&file)?.id.0, file))) {
                Ok((device, file)) => opened.push((device, *path, file)),
                Err(error) => drop(failed.insert((*path).to_owned(), error.kind())),
            }
        }
        opened.sort_by_key(|(device, ..)| *device);
        sync_each(&opened, flush, &mut failed);
    }
    failed
}

/// Syncs directories, each with its device and its path.
fn sync_each(
    directories: &[(u64, &str, impl AsFd)],
    flush: Flush,
    failed: &mut HashMap<String, io::ErrorKind>,
) {
    let outcomes = sync(directories.iter().map(|(device, _, file)| (*device, file.as_fd())), flush);
    for ((_, path, _), outcome) in directories.iter().zip(outcomes) {
        if let Err(error) = outcome {
            failed.insert((*path).to_owned(), error.kind());
        }
    }
}

/// Takes a step with each file: those that did not fail.
fn keep(batch: Vec<Whole>, mut step: impl FnMut(&mut Whole) -> io::Result<()>) -> Vec<Whole> {
    let mut kept = Vec::with_capacity(batch.len());
    for mut whole in batch {
        match step(&mut whole) {
            Ok(()) => kept.push(whole),
            Err(error) => whole.end(Err(error)),
        }
    }
    kept
}

/// Syncs the files of each device together. There may be several devices, since links and mounts inside the cache
/// directory may lead to others.
fn sync<'a>(files: impl Iterator<Item = (u64, BorrowedFd<'a>)>, flush: Flush) -> Vec<io::Result<()>> {
    let files: Vec<_> = files.collect();
    if flush == Flush::Never {
        return files.iter().map(|_| Ok(())).collect();
    }
    let mut outcomes = Vec::with_capacity(files.len());
    for group in files.chunk_by(|(one, _), (other, _)| one == other) {
        let group: Vec<_> = group.iter().map(|(_, file)| *file).collect();
        outcomes.extend(file::sync_many(&group, flush == Flush::Together));
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_wait_for_others_as_long_as_flushes_take_and_a_lone_file_for_nobody() {
        let mut pace = Pace::default();
        assert_eq!(pace.gather(), Duration::ZERO);
        for (count, took, gather) in [(3, 400, 0), (100, 1, 2), (100, 200, 50), (100, 5_000, 100)] {
            pace.note(count, true, Duration::from_millis(took));
            assert_eq!(pace.gather(), Duration::from_millis(gather));
        }
    }

    #[test]
    fn files_are_synced_apart_only_where_a_sync_of_all_has_taken_longer() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert!(pace.together(5, now));
        pace.note(5, true, SLOW * 2);
        assert!(!pace.together(5, now) && pace.together(1_000, now));
        // Measured: it costs more than was thought.
        pace.note(10, false, SLOW * 10);
        assert!(pace.together(5, now));
        pace.note(5, true, Duration::ZERO);
        assert!(pace.together(1, now));
        pace.note(5, true, SLOW * 20);
        assert!(!pace.together(5, now) && pace.together(5, now + APART * 2));
    }
}
