//! Whole files get their final names: many at a time, by one thread, while nobody waits for it.
//!
//! The order of each: the origin's date is set, data and attributes are brought to stable storage,
//! the file is renamed, its directory is brought to stable storage. What a small file costs most is
//! the disk's own flush, and one flush does for all files that are whole by then.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::inflight::Permit;
use super::partial::Partial;
use crate::sys::file::{self, Info};
use crate::sys::process::step_back;

/// After a batch of at least `MANY` the next one waits for others to come: so many are being stored
/// that flushes are what costs. A lone file is named at once.
const GATHER: Duration = Duration::from_millis(10);
const MANY: usize = 4;
/// A file system that took longer to sync is being written to by others as well: for the time that
/// follows, files are synced one by one.
const SLOW: Duration = Duration::from_secs(1);
const APART: Duration = Duration::from_secs(60);

/// What is called with the outcome, on the committing thread.
pub type Report = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A file whose every byte has been written.
pub struct Whole {
    /// The right to its name: until the file has it, requests find the fill.
    pub permit: Permit,
    /// The file.
    pub partial: Partial,
    /// Its bytes.
    pub size: u64,
    /// The origin's date, in seconds since 1970.
    pub modified: Option<u64>,
    /// What the file was when it got that date; nothing yet.
    pub dated: Option<Info>,
    /// Told at the end.
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
        self.partial.rename()?;
        // Whoever said so between the look and the rename has found no file to remove.
        if self.permit.fill().is_superseded() {
            self.partial.take_back();
            return superseded();
        }
        Ok(())
    }

    /// Once it has its name: what goes with it is known without a look at the disk.
    fn remember(&self) {
        if let (Some(kept), Some(info)) = (self.permit.fill().kept(), &self.dated) {
            kept.remember(self.permit.key(), &**self.partial.file(), info);
        }
    }

    /// Requests stop to find the fill only now: before this the file had no name, or has none.
    fn end(self, outcome: io::Result<()>) {
        drop(self.partial);
        drop(self.permit);
        (self.report)(outcome);
    }
}

/// The way to the committing thread.
#[derive(Debug)]
pub struct Committer {
    line: Arc<Line>,
    /// Files in line after which no more are begun.
    most: usize,
    durable: bool,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Whole>,
    /// Files in line and at work.
    pending: usize,
    closed: bool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Line").field("pending", &self.state().pending).finish_non_exhaustive()
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Committer {
    /// With `most` files in line the disk is behind, and no more are to be begun. Without `durable`
    /// nothing is brought to stable storage before it is named.
    pub(super) fn new(most: usize, durable: bool) -> Self {
        Self { line: Arc::default(), most, durable }
    }

    /// Starts the thread.
    pub(super) fn start(&self) -> io::Result<()> {
        let (theirs, durable) = (Arc::clone(&self.line), self.durable);
        thread::Builder::new().name("committer".to_owned()).spawn(move || work(&theirs, durable)).map(drop)
    }

    /// Puts a file in line. Does not wait.
    pub fn add(&self, whole: Whole) {
        let mut state = self.line.state();
        state.pending += 1;
        state.waiting.push(whole);
        let first = state.waiting.len() == 1;
        drop(state);
        if first {
            self.line.more.notify_one();
        }
    }

    /// Is the disk so far behind that no more is to be stored?
    pub fn is_full(&self) -> bool {
        self.line.state().pending >= self.most
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.line.state().closed = true;
        self.line.more.notify_one();
    }
}

fn work(line: &Line, durable: bool) {
    step_back();
    let (mut apart_until, mut count) = (None, 0);
    loop {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = line.more.wait_while(line.state(), idle).unwrap_or_else(PoisonError::into_inner);
        if waited.waiting.is_empty() {
            return;
        }
        drop(waited);
        if count >= MANY {
            thread::sleep(GATHER);
        }
        let batch = mem::take(&mut line.state().waiting);
        count = batch.len();
        let begun = Instant::now();
        let together = apart_until.is_none_or(|until| begun > until);
        // A bug that makes one batch panic is its own end only.
        let work = || if durable { commit(batch, together) } else { name_only(batch) };
        drop(catch_unwind(AssertUnwindSafe(work)));
        if begun.elapsed() > SLOW {
            apart_until = Some(Instant::now() + APART);
        }
        line.state().pending -= count;
    }
}

fn commit(batch: Vec<Whole>, together: bool) {
    let mut dated = keep(batch, Whole::date);
    dated.sort_by_key(|whole| whole.partial.device());
    let mut synced =
        sync(dated.iter().map(|whole| (whole.partial.device(), whole.partial.file().as_fd())), together)
            .into_iter();
    let named = keep(dated, |whole| synced.next().unwrap_or(Ok(())).and_then(|()| whole.name()));
    let mut directories: Vec<(u64, &Arc<OwnedFd>)> = Vec::new();
    for whole in &named {
        let directory = whole.partial.directory();
        if !directories.iter().any(|(_, known)| Arc::ptr_eq(known, directory)) {
            directories.push((whole.partial.device(), directory));
        }
    }
    let outcomes: Vec<_> =
        sync(directories.iter().map(|(device, directory)| (*device, directory.as_fd())), together);
    let failed: Vec<_> = directories
        .iter()
        .zip(outcomes)
        .filter_map(|((_, directory), outcome)| Some((Arc::clone(directory), outcome.err()?)))
        .collect();
    for whole in named {
        let mine = failed.iter().find(|(directory, _)| Arc::ptr_eq(directory, whole.partial.directory()));
        let outcome = mine.map_or(Ok(()), |(_, error)| Err(io::Error::from(error.kind())));
        let outcome = outcome.and_then(|()| whole.partial.sync_new_parents());
        whole.remember();
        whole.end(outcome);
    }
}

/// The same without any sync: for whoever can do without what a power cut takes.
fn name_only(batch: Vec<Whole>) {
    let dated = keep(batch, Whole::date);
    for whole in keep(dated, Whole::name) {
        whole.remember();
        whole.end(Ok(()));
    }
}

/// Takes a step with each file; those that fail end here.
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

/// Syncs what lies on one device together: links and mounts inside the cache directory may lead to
/// several, whose files stand side by side here.
fn sync<'a>(files: impl Iterator<Item = (u64, BorrowedFd<'a>)>, together: bool) -> Vec<io::Result<()>> {
    let files: Vec<_> = files.collect();
    let mut outcomes = Vec::with_capacity(files.len());
    for group in files.chunk_by(|(one, _), (other, _)| one == other) {
        let group: Vec<_> = group.iter().map(|(_, file)| *file).collect();
        outcomes.extend(file::sync_many(&group, together));
    }
    outcomes
}

/// The same on the calling thread, for a model that leaves no order to chance.
#[cfg(test)]
pub(super) fn commit_here(batch: Vec<Whole>, together: bool) {
    commit(batch, together);
}
