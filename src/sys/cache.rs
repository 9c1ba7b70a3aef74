//! The page cache: what it holds of a file, and bringing in the rest.

use std::io;
use std::os::fd::AsFd;

use super::file::read_at;

/// Whether bytes of a file lie in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Residency {
    /// They do: reading them does not wait for the disk.
    Cached,
    /// Some do not, or are still on their way.
    Cold,
    /// Not known to this system, or of this file system.
    Unknown,
}

/// Bytes asked for at once by [`bring`]: the system reads ahead of that, in pages as large as it
/// chooses. (With posix_fadvise(2) it takes small ones: measured, a third slower, and each later count of
/// them costs twenty times as much.)
const CHUNK: usize = 64 * 1024;

/// Reads the bytes from `first` to `end` and forgets them; they are in the page cache then. An end
/// of the file before `end` is no error. Waits for the disk.
pub fn bring(file: &impl AsFd, first: u64, end: u64) -> io::Result<()> {
    if pass_over(file, first, end)? { Ok(()) } else { read_through(file, first, end) }
}

/// The same by copying.
fn read_through(file: &impl AsFd, first: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = first;
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        match read_at(file, &mut buffer[..most], at)? {
            0 => break,
            n => at += n as u64,
        }
    }
    Ok(())
}

#[cfg(linux_calls)]
use linux::pass_over;
#[cfg(linux_calls)]
pub use linux::{prepare, read_cached, residency};

#[cfg(not(linux_calls))]
use blind::pass_over;
#[cfg(not(linux_calls))]
pub use blind::{prepare, read_cached, residency};

/// Systems that do not say what they hold in memory.
#[cfg(not(linux_calls))]
mod blind {
    use super::{AsFd, Residency, io};

    /// Never known here.
    pub fn residency(_file: &impl AsFd, _first: u64, _end: u64) -> Residency {
        Residency::Unknown
    }

    /// Always `Unsupported` here.
    pub fn read_cached(_file: &impl AsFd, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing to open.
    pub fn prepare() {}

    pub(super) fn pass_over(_file: &impl AsFd, _first: u64, _end: u64) -> io::Result<bool> {
        Ok(false)
    }
}

#[cfg(linux_calls)]
mod linux {
    use std::ffi::c_long;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::errno::Errno;
    use nix::fcntl::OFlag;
    use nix::sys::sendfile::sendfile64;
    use nix::sys::stat::Mode;
    use rustix::io::{ReadWriteFlags, preadv2};

    use super::super::transfer::is_unsupported;
    use super::super::{retry, would_block};
    use super::{AsFd, Residency, io};

    /// cachestat(2), the same number on every architecture that Rust runs Linux on; Linux 6.5.
    const SYS_CACHESTAT: c_long = 451;
    /// Up to this many bytes are judged by their last one: they were read in one go.
    const SMALL: u64 = 16 * 1024;
    /// Distance of the bytes that are tried where pages cannot be counted: not above the amount
    /// that the system usually reads ahead (128 KiB).
    const STEP: u64 = 64 * 1024;
    /// The kernel has no cachestat: no use in asking again.
    static NO_CACHESTAT: AtomicBool = AtomicBool::new(false);

    /// Tells whether the bytes from `first` to `end` are in the page cache; those behind the end of
    /// the file are not. Two calls at most where cachestat(2) is allowed, else one every 64 KiB.
    pub fn residency(file: &impl AsFd, first: u64, end: u64) -> Residency {
        if end.saturating_sub(first) <= SMALL {
            return tried(file, end.saturating_sub(1));
        }
        match all_present(file, first, end) {
            Ok(false) => Residency::Cold,
            // A page that is being read counts as present: the last page shows it, which is read last.
            Ok(true) => match tried(file, end - 1) {
                Residency::Cold => Residency::Cold,
                Residency::Cached | Residency::Unknown => Residency::Cached,
            },
            // ENOSYS; EPERM for a file one neither owns nor may write; EOPNOTSUPP for huge pages.
            Err(_) => sampled(file, first, end),
        }
    }

    /// Reads what the page cache has at `offset`; `WouldBlock` if that is nothing, `Unsupported` if
    /// that is not known (preadv2(2), RWF_NOWAIT). 0 is the end of the file.
    pub fn read_cached(file: &impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut parts = [io::IoSliceMut::new(buffer)];
        match retry(|| preadv2(file, &mut parts, offset, ReadWriteFlags::NOWAIT)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            read => read,
        }
    }

    static NOWHERE: LazyLock<Option<OwnedFd>> = LazyLock::new(|| {
        nix::fcntl::open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()
    });

    /// Opens what cannot be opened any more once the process is fenced. For start-up only.
    pub fn prepare() {
        LazyLock::force(&NOWHERE);
    }

    /// Has the kernel move the bytes to nowhere, which takes them into the page cache uncopied:
    /// measured, a fifth of the processor's time that reading them takes, and faster. False where
    /// it cannot.
    pub(super) fn pass_over(file: &impl AsFd, first: u64, end: u64) -> io::Result<bool> {
        let Some(nowhere) = &*NOWHERE else { return Ok(false) };
        let offset = |at| libc::off64_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput);
        let (mut at, end) = (offset(first)?, offset(end)?);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX);
            match retry(|| sendfile64(nowhere, file, Some(&mut at), count)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_unsupported(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Is every page from `first` to `end` in the page cache, or on its way there?
    pub(super) fn all_present(file: &impl AsFd, first: u64, end: u64) -> io::Result<bool> {
        /// `struct cachestat_range`.
        #[repr(C)]
        struct Range {
            offset: u64,
            length: u64,
        }
        /// `struct cachestat`.
        #[repr(C)]
        #[derive(Default)]
        struct Counts {
            cached: u64,
            dirty: u64,
            writeback: u64,
            evicted: u64,
            recently_evicted: u64,
        }
        if NO_CACHESTAT.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let range = Range { offset: first, length: end - first };
        let mut counts = Counts::default();
        let no_flags: libc::c_uint = 0;
        // SAFETY: both pointers are to live values of the layouts that cachestat(2) documents.
        let result = unsafe {
            libc::syscall(
                SYS_CACHESTAT,
                file.as_fd().as_raw_fd(),
                &raw const range,
                &raw mut counts,
                no_flags,
            )
        };
        match Errno::result(result) {
            Ok(_) => Ok(counts.cached >= pages(first, end)),
            Err(errno) => {
                NO_CACHESTAT.fetch_or(errno == Errno::ENOSYS, Ordering::Relaxed);
                Err(errno.into())
            }
        }
    }

    /// Pages that the bytes from `first` to `end` touch.
    fn pages(first: u64, end: u64) -> u64 {
        let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        let size = size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096);
        end.div_ceil(size) - first / size
    }

    /// The same by trying a byte every [`STEP`], and the last.
    pub(super) fn sampled(file: &impl AsFd, first: u64, end: u64) -> Residency {
        let steps = usize::try_from(STEP).unwrap_or(usize::MAX);
        for at in (first..end).step_by(steps).chain([end - 1]) {
            match tried(file, at) {
                Residency::Cached => {}
                other @ (Residency::Cold | Residency::Unknown) => return other,
            }
        }
        Residency::Cached
    }

    /// Whether one byte can be read without waiting. If not, the kernel begins to read its page.
    fn tried(file: &impl AsFd, at: u64) -> Residency {
        match read_cached(file, &mut [0], at) {
            Ok(_) => Residency::Cached,
            Err(error) if would_block(&error) => Residency::Cold,
            Err(_) => Residency::Unknown,
        }
    }
}

#[cfg(linux_calls)]
#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::linux::{all_present, sampled};
    use super::*;
    use crate::sys::would_block;

    const SIZE: u64 = 3 * 1024 * 1024 + 17;

    fn written(size: u64) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; usize::try_from(size).unwrap()]).unwrap();
        file
    }

    /// Drops the file's pages; false, and a word, where the file system keeps them in any case.
    fn evicted(file: &File) -> bool {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        file.sync_all().unwrap();
        let drop_pages = || posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        drop_pages();
        let cold = read_cached(file, &mut [0], 0).is_err_and(|error| would_block(&error));
        if !cold {
            eprintln!("SKIPPED: the files of this directory cannot be cold, or nobody can tell");
            return false;
        }
        // That look has started a read-ahead, whose pages come in a moment.
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            drop_pages();
        }
        true
    }

    #[test]
    fn cold_is_told_from_warm() {
        let file = written(SIZE);
        assert_ne!(residency(&file, 0, SIZE), Residency::Cold);
        if !evicted(&file) {
            return;
        }
        for (first, end) in [(0, SIZE), (0, 1), (SIZE - 1, SIZE), (70_000, 2_000_000)] {
            assert_eq!(residency(&file, first, end), Residency::Cold, "{first} to {end}");
        }
        bring(&file, 0, SIZE).unwrap();
        for (first, end) in [(0, SIZE), (0, 1), (SIZE - 1, SIZE), (70_000, 2_000_000)] {
            assert_eq!(residency(&file, first, end), Residency::Cached, "{first} to {end}");
        }
    }

    #[test]
    fn cold_is_told_from_warm_where_pages_cannot_be_counted() {
        let file = written(SIZE);
        if !evicted(&file) {
            return;
        }
        assert_eq!(sampled(&file, 0, SIZE), Residency::Cold);
        bring(&file, SIZE - 1, SIZE).unwrap();
        assert_eq!(sampled(&file, 0, SIZE), Residency::Cold);
        bring(&file, 0, SIZE).unwrap();
        assert_eq!(sampled(&file, 0, SIZE), Residency::Cached);
        assert_eq!(sampled(&file, SIZE - 1, SIZE), Residency::Cached);
    }

    #[test]
    fn a_hole_in_the_middle_is_counted() {
        let file = written(SIZE);
        if !evicted(&file) {
            return;
        }
        bring(&file, 0, 1).unwrap();
        bring(&file, SIZE - 1, SIZE).unwrap();
        // What the system read ahead by itself may be all of it: then there is no hole to see.
        match all_present(&file, 0, SIZE) {
            Ok(present) => assert_eq!(residency(&file, 0, SIZE) == Residency::Cached, present),
            Err(error) => eprintln!("SKIPPED: no cachestat here ({error})"),
        }
    }

    #[test]
    fn what_is_cached_is_read_at_once_and_the_rest_never() {
        let file = written(SIZE);
        let mut buffer = [0; 100];
        assert_ne!(read_cached(&file, &mut buffer, SIZE - 10).ok(), Some(0));
        if evicted(&file) {
            assert!(would_block(&read_cached(&file, &mut buffer, 5).unwrap_err()));
            bring(&file, 0, SIZE).unwrap();
            assert_eq!(read_cached(&file, &mut buffer, SIZE - 10).unwrap(), 10);
            assert_eq!(buffer[..10], [7; 10]);
            assert_eq!(read_cached(&file, &mut buffer, SIZE).unwrap(), 0);
        }
    }

    #[test]
    fn both_ways_of_bringing_a_file_in_bring_all_of_it() {
        let file = written(SIZE);
        for way in [
            |file: &File| assert!(pass_over(file, 100, SIZE).unwrap()),
            |file: &File| {
                read_through(file, 100, SIZE).unwrap();
            },
        ] {
            if !evicted(&file) {
                return;
            }
            way(&file);
            assert_eq!(residency(&file, 0, SIZE), Residency::Cached);
        }
    }

    #[test]
    fn bringing_more_than_there_is_ends_at_the_end() {
        let file = written(10);
        for first in [5, 500] {
            bring(&file, first, 1_000_000).unwrap();
            read_through(&file, first, 1_000_000).unwrap();
        }
    }
}
