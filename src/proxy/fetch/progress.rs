//! How far a file in progress is, and how its next bytes get into it.

use std::io;
use std::sync::Arc;

use crate::cache::fill::Fill;
use crate::cache::pace::Pace;
use crate::cache::partial::{Partial, append};
use crate::config::Abandon;
use crate::error::{Error, Kind, Side};
use crate::packages::comparisons::Pending;
use crate::rt::{Runtime, blocking, fairness};
use crate::sys::file;

/// What a body has stored when it counts as long.
const LONG: u64 = 32 * 1024 * 1024;

/// Where a body begins in its file.
#[derive(Clone, Copy, Default, Debug)]
pub struct Start {
    /// Bytes of the body that the file has already.
    pub skip: u64,
    /// Bytes in the file.
    pub stored: u64,
    /// Bytes of the whole, where that is known: the body must end there.
    pub end: Option<u64>,
}

impl Start {
    /// With `stored` bytes in the file, for a body that begins at `first`.
    pub fn at(stored: u64, first: u64, end: Option<u64>) -> Option<Self> {
        let fits = first <= stored && end.is_none_or(|end| stored <= end);
        fits.then(|| Self { skip: stored - first, stored, end })
    }
}

/// Why a body did not get into its file.
#[derive(Debug)]
pub enum Stop {
    /// The origin failed, or we did.
    Origin(Error),
    /// The disk refused; these bytes came and are not in the file.
    Disk(Vec<u8>, io::Error),
    /// Nobody wants them any more.
    Deserted,
}

/// A file in progress, and how far it is.
#[derive(Debug)]
pub struct Progress {
    fill: Arc<Fill>,
    /// The file.
    pub partial: Partial,
    /// Of an index: the comparison that will begin.
    pending: Option<Arc<Pending>>,
    pace: Arc<Pace>,
    abandon: Abandon,
    start: Start,
    stored: u64,
    turn_end: u64,
}

impl Progress {
    /// What is in the file from `start` may be had already.
    pub fn new(
        (pace, abandon): (&Arc<Pace>, Abandon),
        fill: &Arc<Fill>,
        partial: Partial,
        pending: Option<Arc<Pending>>,
        start: Start,
    ) -> Self {
        let (fill, pace) = (Arc::clone(fill), Arc::clone(pace));
        let turn_end = start.stored + fairness::quantum();
        Self { fill, partial, pending, pace, abandon, start, stored: start.stored, turn_end }
    }

    /// Goes on with a body that begins there.
    pub fn start(&mut self, start: Start) {
        (self.start, self.stored, self.turn_end) = (start, start.stored, start.stored + fairness::quantum());
    }

    /// Bytes in the file.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Are the next bytes of the body there already?
    pub fn skips(&self) -> bool {
        self.start.skip > 0
    }

    /// So many more are in it: followers may have them.
    pub fn advance(&mut self, count: usize) {
        self.stored += count as u64;
        self.pending.iter().for_each(|pending| pending.note(self.stored, self.start.end));
        self.fill.advance(self.stored);
    }

    /// How long the file is. An end before the one that was told: the origin errs, or the parts are not of one file.
    pub fn check_end(&self) -> Result<u64, Stop> {
        let is_early = self.start.skip > 0 || self.start.end.is_some_and(|end| self.stored < end);
        if is_early { Err(wrong_length()) } else { Ok(self.stored) }
    }

    /// Is it to be given up, since nobody follows it?
    pub fn is_deserted(&self) -> bool {
        let is_whole = self.start.end == Some(self.stored);
        !is_whole && self.abandon.applies(self.stored, self.start.end) && self.fill.abandon()
    }

    /// Is the next write for the pool? Not while the disk keeps up, since the pool costs more; but a
    /// long body will sooner or later find the disk behind, and then small requests would wait too.
    pub fn is_off_loop(&self) -> bool {
        self.pace.is_slow() || (self.stored >= LONG && fairness::is_contended())
    }

    /// Runs `write` with the file and the offset behind what is there, on this thread or on the
    /// pool, so that a worker never waits for the disk for long.
    pub async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&file::Locked, u64) -> T + Send + 'static,
    ) -> Result<T, Stop> {
        if !self.is_off_loop() {
            return Ok(self.pace.measured(|| write(self.partial.file(), self.stored)));
        }
        let (file, at, pace) = (Arc::clone(self.partial.file()), self.stored, Arc::clone(&self.pace));
        let written = blocking::run(&blocking::DISK, move || pace.measured(|| write(&file, at))).await;
        written.map_err(|error| Stop::Origin(Error::io(Side::Proxy, &error)))
    }

    /// May the file's disk be gone?
    pub fn is_remote(&self) -> bool {
        self.partial.place().is_remote()
    }

    /// Writes a piece behind what is there, less what is there already. It keeps its memory only.
    pub async fn store<R: Runtime>(&mut self, piece: &mut Vec<u8>) -> Result<(), Stop> {
        if self.start.skip > 0 {
            let skip = usize::try_from(self.start.skip).map_or(piece.len(), |skip| skip.min(piece.len()));
            self.start.skip -= skip as u64;
            piece.drain(..skip);
        }
        if self.start.end.is_some_and(|end| piece.len() as u64 > end - self.stored.min(end)) {
            return Err(wrong_length());
        }
        let bytes = std::mem::take(piece);
        if self.is_remote() {
            return self.store_elsewhere::<R>(bytes).await;
        }
        let write = move |file: &file::Locked, at| {
            let wrote = append(file, &bytes, at);
            (bytes, wrote)
        };
        let (bytes, wrote) = self.write(write).await?;
        if let Err(error) = wrote {
            return Err(Stop::Disk(bytes, error));
        }
        self.advance(bytes.len());
        *piece = bytes;
        Ok(())
    }

    /// The same where a write may never come back: who follows has the piece from memory, whatever becomes of the file.
    async fn store_elsewhere<R: Runtime>(&mut self, piece: Vec<u8>) -> Result<(), Stop> {
        let (bytes, at) = (Arc::new(piece), self.stored);
        self.pending.iter().for_each(|pending| pending.note(at + bytes.len() as u64, self.start.end));
        let is_shown = self.fill.show(Arc::clone(&bytes));
        let (file, theirs) = (Arc::clone(self.partial.file()), Arc::clone(&bytes));
        let wrote = self.partial.place().work::<R, _>(move || append(&file, &theirs, at)).await;
        wrote
            .map_err(|why| io::Error::other(why.as_str()))
            .and_then(|wrote| wrote)
            .map_err(|error| Stop::Disk(if is_shown { Vec::new() } else { bytes.to_vec() }, error))?;
        self.advance(bytes.len());
        Ok(())
    }

    /// Lets other tasks have their turn, once enough has been stored since the last time; ends the
    /// fetch if nobody wants it.
    pub async fn turn<R: Runtime>(&mut self) -> Result<(), Stop> {
        if self.is_deserted() {
            return Err(Stop::Deserted);
        }
        if self.stored >= self.turn_end {
            self.partial.journal().maybe_checkpoint(self.stored);
            R::yield_now().await;
            fairness::yielded();
            self.turn_end = self.stored + fairness::quantum();
        }
        Ok(())
    }
}

fn wrong_length() -> Stop {
    Stop::Origin(Error::with(Side::Origin, Kind::Protocol, "body length does not match Content-Length"))
}
