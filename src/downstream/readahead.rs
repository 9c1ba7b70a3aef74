//! Bodies whose bytes may not be in memory: a thread of the pool reads them before sendfile(2)
//! does, one window ahead of it, so that the disk never stops a worker.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Side};
use crate::rt::blocking::{self, Running};
use crate::rt::{Runtime, timeout};
use crate::sys::cache::{self, Residency};
use crate::sys::file;

/// Bytes checked, read and sent as one. With the next one that makes two in memory for each client.
pub const WINDOW: u64 = 1024 * 1024;
/// How long bytes found in memory, or sent from there, count as still there.
pub const FRESH: Duration = Duration::from_secs(1);
/// Bytes read on the loop where the system does not say what is in memory: reading them from there costs about as much
/// as a change of threads.
const UNKNOWN_AT_ONCE: u64 = 64 * 1024;
/// Pause before another attempt to read a window when the queue of the pool is full.
const LINE_FULL: Duration = Duration::from_millis(5);

/// Bytes read at a time where they go to the client from our memory: they wait there for one that takes nothing.
pub const PIECE: usize = 128 * 1024;

/// Up to `most` bytes of the file, at least one.
pub fn piece(from: &impl AsFd, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; most];
    let count = file::fill_from(from, &mut piece, at)?;
    piece.truncate(count);
    if count == 0 { Err(io::Error::other("the file became shorter")) } else { Ok(piece) }
}

/// What the caller knows of a span's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heat {
    /// In memory: written, read or sent from there at most [`FRESH`] ago. Costs no call.
    Warm,
    /// Nothing: every window is checked.
    Unknown,
}

/// Is a span of `count` bytes to be read by the pool first?
fn off_loop(residency: Residency, count: u64) -> bool {
    match residency {
        Residency::Cached => false,
        Residency::Cold => true,
        Residency::Unknown => count > UNKNOWN_AT_ONCE,
    }
}

/// May the bytes of `file` from `first` to `end` be read on the loop?
pub fn is_warm(file: &impl AsFd, first: u64, end: u64) -> bool {
    !off_loop(cache::residency(file, first, end), end.saturating_sub(first))
}

/// Reads what is in memory at `offset` of a small file: `WouldBlock` where that takes the disk. A
/// system that does not know reads it in any case.
pub fn read_now(file: &impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    match cache::read_cached(file, buffer, offset) {
        Err(error)
            if error.kind() == io::ErrorKind::Unsupported && buffer.len() as u64 <= UNKNOWN_AT_ONCE =>
        {
            file::read_at(file, buffer, offset)
        }
        read => read,
    }
}

/// The windows of one span, in order.
pub struct Windows<'a, F> {
    /// The pool reads it through the same descriptor.
    file: &'a Arc<F>,
    /// The end of the span.
    end: u64,
    /// Up to here the file was checked.
    seen: u64,
    /// The job that reads what lies before `seen`.
    job: Option<Running<io::Result<()>>>,
}

impl<'a, F: AsFd + Send + Sync + 'static> Windows<'a, F> {
    /// The windows of `file` from `first` to `end`.
    pub fn new(file: &'a Arc<F>, first: u64, end: u64) -> Self {
        Self { file, end, seen: first, job: None }
    }

    /// Returns the end of the window at `first`, once it is in memory, and has the next one read
    /// meanwhile. A disk that does not answer within `patience` has failed.
    pub async fn ready<R: Runtime>(&mut self, first: u64, patience: Duration) -> Result<u64, Error> {
        let window = self.end.min(first + WINDOW);
        if self.seen < window && !self.look(window) {
            let place = async {
                while !self.look(window) {
                    R::sleep(LINE_FULL).await;
                }
            };
            timeout::<R, _>(patience, place).await.map_err(Error::timeout(Side::Disk))?;
        }
        if let Some(job) = self.job.take() {
            let read = timeout::<R, _>(patience, job.result()).await;
            read.map_err(Error::timeout(Side::Disk))?.and_then(|read| read).map_err(disk)?;
        }
        let next = self.end.min(window + WINDOW);
        if window < next {
            self.look(next);
        }
        Ok(window)
    }

    /// Looks at the file from where that ended last to `end`, and starts a job to read it if need
    /// be. False if the pool can take none now.
    fn look(&mut self, end: u64) -> bool {
        let first = self.seen;
        if !is_warm(&**self.file, first, end) {
            let is_short = end - first <= UNKNOWN_AT_ONCE;
            let pool = if is_short { &blocking::SHORT_READS } else { &blocking::READS };
            if pool.is_full() {
                return false;
            }
            let file = Arc::clone(self.file);
            let read = move || cache::bring(&*file, first, end);
            self.job = Some(blocking::start(pool, read));
        }
        self.seen = end;
        true
    }
}

/// The disk refused; never one of the client's errors, whatever the number.
fn disk(error: io::Error) -> Error {
    Error::with(Side::Disk, Kind::Io, error)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;
    use crate::rt::poll::{self, Portable};

    const SIZE: u64 = 4 * WINDOW + 5;
    const PATIENCE: Duration = Duration::from_secs(20);

    fn written() -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; usize::try_from(SIZE).unwrap()]).unwrap();
        file.sync_all().unwrap();
        Arc::new(file)
    }

    #[cfg(target_os = "linux")]
    fn evict(file: &File) {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }

    fn on_a_loop<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
        poll::run(|| async {
            timeout::<Portable, _>(PATIENCE, test()).await.unwrap();
        })
        .unwrap();
    }

    #[test]
    fn what_is_not_in_memory_is_read_off_the_loop() {
        assert!(!off_loop(Residency::Cached, u64::MAX));
        assert!(off_loop(Residency::Cold, 1));
        assert!(!off_loop(Residency::Unknown, UNKNOWN_AT_ONCE));
        assert!(off_loop(Residency::Unknown, UNKNOWN_AT_ONCE + 1));
    }

    #[test]
    fn windows_follow_each_other_to_the_end_of_the_span() {
        on_a_loop(|| async {
            let file = written();
            let mut windows = Windows::new(&file, 10, SIZE);
            let mut ends = vec![10];
            while ends[ends.len() - 1] < SIZE {
                ends.push(windows.ready::<Portable>(ends[ends.len() - 1], PATIENCE).await.unwrap());
            }
            assert_eq!(ends, [10, WINDOW + 10, 2 * WINDOW + 10, 3 * WINDOW + 10, SIZE]);
        });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_cold_window_costs_a_job_and_a_warm_one_none() {
        on_a_loop(|| async {
            let file = written();
            let mut windows = Windows::new(&file, 0, SIZE);
            let found = cache::residency(&*file, 0, WINDOW);
            if found == Residency::Unknown {
                eprintln!("SKIPPED: nobody can tell what is in memory here");
                return;
            }
            assert_eq!(found, Residency::Cached, "just written");
            assert!(windows.look(WINDOW));
            assert!(windows.job.is_none(), "a job for a warm window");
            evict(&file);
            if cache::residency(&*file, 0, WINDOW) != Residency::Cold {
                eprintln!("SKIPPED: the files of this directory cannot be cold");
                return;
            }
            let mut windows = Windows::new(&file, 0, SIZE);
            assert!(windows.look(WINDOW));
            assert!(windows.job.is_some(), "no job for a cold window");
            assert_eq!(windows.ready::<Portable>(0, PATIENCE).await.unwrap(), WINDOW);
            assert_eq!(cache::residency(&*file, 0, WINDOW), Residency::Cached);
            assert_eq!(windows.seen, 2 * WINDOW, "the next window was looked at");
        });
    }

    #[test]
    fn a_file_that_became_shorter_is_no_error_here() {
        on_a_loop(|| async {
            let file = written();
            file.set_len(10).unwrap();
            let mut windows = Windows::new(&file, 0, SIZE);
            // The send that follows finds nothing, and says so.
            assert_eq!(windows.ready::<Portable>(0, PATIENCE).await.unwrap(), WINDOW);
            assert_eq!(windows.ready::<Portable>(WINDOW, PATIENCE).await.unwrap(), 2 * WINDOW);
        });
    }
}
