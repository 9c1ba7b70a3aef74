//! Bringing files to stable storage, many at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use super::super::retry;

/// Brings files and directories of one file system to stable storage, data and attributes: how
/// each fared. Waits for the disk. `together` allows to sync all of the file system for them, which
/// is cheaper unless others write much to it.
pub fn sync_many(files: &[BorrowedFd<'_>], together: bool) -> Vec<io::Result<()>> {
    #[cfg(target_os = "linux")]
    if together && let Some(results) = whole::sync(files) {
        return results;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = together;
    apart(files)
}

/// Threads that sync files at the same time: flushes of a disk are few for many that ask at once, and a file
/// system writes one journal for all of them.
const THREADS: usize = 16;

/// Each by itself, several at a time.
fn apart(files: &[BorrowedFd<'_>]) -> Vec<io::Result<()>> {
    let sync_each = |files: &[BorrowedFd<'_>]| -> Vec<io::Result<()>> { files.iter().map(sync).collect() };
    let share = files.len().div_ceil(THREADS).max(1);
    let mut shares = files.chunks(share);
    let mine = shares.next().unwrap_or_default();
    thread::scope(|scope| {
        let start = |theirs| (theirs, thread::Builder::new().spawn_scoped(scope, move || sync_each(theirs)));
        let others: Vec<_> = shares.map(start).collect();
        let mut outcomes = sync_each(mine);
        for (theirs, started) in others {
            // Without a thread, or with one that ended badly, this one does it.
            let theirs =
                started.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| sync_each(theirs));
            outcomes.extend(theirs);
        }
        outcomes
    })
}

/// Brings one file or directory to stable storage, data and attributes. Waits for the disk.
pub fn sync(file: &impl AsFd) -> io::Result<()> {
    retry(|| nix::unistd::fsync(file.as_fd()))
}

/// Brings the bytes written so far to stable storage, with the size of the file (fdatasync(2)). Waits for the disk.
pub fn sync_data(file: &impl AsFd) -> io::Result<()> {
    retry(|| nix::unistd::fdatasync(file.as_fd()))
}

/// The whole file system at once (syncfs(2)): one call, and one flush of the disk's cache, for any
/// number of small files.
#[cfg(target_os = "linux")]
mod whole {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::errno::Errno;
    use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, XFS_SUPER_MAGIC, fstatfs};

    use super::retry;

    /// Fewer files than this are synced one by one.
    const MANY: usize = 4;
    /// Where it is known to bring data and attributes of every file to the disk. Others may take
    /// the call and do less, such as file systems of a user's process (FUSE).
    const KNOWN: [FsType; 3] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC];

    /// How each file fared; `None` where each is to be synced by itself.
    pub(super) fn sync(files: &[BorrowedFd<'_>]) -> Option<Vec<io::Result<()>>> {
        let first = files.first().filter(|_| files.len() >= MANY)?;
        let known = fstatfs(first).is_ok_and(|system| KNOWN.contains(&system.filesystem_type()));
        // An error may be that of another file: syncing each file by itself shows whose.
        if !known || retry(|| nix::unistd::syncfs(first)).is_err() {
            return None;
        }
        Some(files.iter().map(|&file| written(file)).collect())
    }

    /// The error of an earlier write-back of this file, if there was one (kernels before 5.8 do not
    /// tell of it in syncfs).
    fn written(file: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: no memory is passed, and `file` is open for as long as the call takes.
        let call =
            || unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WAIT_BEFORE) };
        retry(|| Errno::result(call()).map(drop))
    }
}
