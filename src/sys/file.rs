//! Files: what they are, their names, locks and bytes. [`Root`] opens them by path.

mod attributes;
mod durable;
mod root;
mod walk;

pub use attributes::{attribute, remove_attribute, set_attribute};
pub use durable::{sync, sync_data, sync_many};
pub use root::{Missing, Reach, Root, is_remote, missing};
pub use walk::entries;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use rustix::fs::{FlockOperation, flock};

use super::retry;

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A FIFO, a device, a socket.
    Other,
}

/// The parts of stat(2) that a cache needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Last modification.
    pub modified: SystemTime,
    /// Last change of the inode (seconds and nanoseconds): of its bytes, its name or its mode.
    pub changed: (i64, i64),
    /// Names it has; none once it is deleted.
    pub links: u64,
    /// Device and inode: the identity of the file.
    pub id: (u64, u64),
}

impl Info {
    fn of(stat: &FileStat) -> Self {
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Directory,
            _ => Kind::Other,
        };
        #[allow(clippy::useless_conversion, reason = "the widths of these fields differ between systems")]
        let id = (u64::from(stat.st_dev), u64::from(stat.st_ino));
        #[allow(clippy::useless_conversion, reason = "as above")]
        let links = u64::from(stat.st_nlink);
        Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified(stat),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            links,
            id,
        }
    }
}

/// What a change of a file is dated by moves on at least so often: the tick of the system's clock (10 ms at the most),
/// twice. Linux dates more finely from 6.13 on, on some file systems.
const TICK: Duration = Duration::from_millis(20);
/// The same on a file system that keeps no fractions of seconds; some count every second one.
const COARSE_TICK: Duration = Duration::from_secs(3);

impl Info {
    /// Could the file be changed now without a trace in its dates? So it is for as long as the clock that they are taken
    /// from has not moved on since its last change: what is read of it at `now` proves nothing about later. The date
    /// meant is that of the inode, which nobody can set.
    pub fn is_racy(&self, now: SystemTime) -> bool {
        let (secs, nanos) = self.changed;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(u64::try_from(secs).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        // One far ahead is of a clock that was wrong then: the next change gets another.
        since.abs_diff(changed) < if nanos == 0 { COARSE_TICK } else { TICK }
    }
}

fn modified(stat: &FileStat) -> SystemTime {
    let nanos = Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    let secs = Duration::from_secs(stat.st_mtime.unsigned_abs());
    if stat.st_mtime >= 0 {
        SystemTime::UNIX_EPOCH + secs + nanos
    } else {
        SystemTime::UNIX_EPOCH - secs + nanos
    }
}

/// stat of an open file.
pub fn info(file: &impl AsFd) -> io::Result<Info> {
    Ok(Info::of(&fstat(file)?))
}

/// stat of a name in a directory; the name itself, should it be a link.
pub fn info_at(directory: &impl AsFd, name: &str) -> io::Result<Info> {
    Ok(Info::of(&fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?))
}

/// A file locked by this process (flock(2)) for as long as the value lives, or until [`unlock`]: the close
/// unlocks it.
#[derive(Debug)]
pub struct Locked(OwnedFd);

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reading a file that is being written is no access worth a date: each would cost an inode update.
#[cfg(target_os = "linux")]
const NO_ACCESS_TIME: OFlag = OFlag::O_NOATIME;
#[cfg(not(target_os = "linux"))]
const NO_ACCESS_TIME: OFlag = OFlag::empty();

/// Creates `name` for reading and writing, mode 0666 less the umask; fails if it exists.
pub fn create_new(directory: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    open_at(directory, name, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | NO_ACCESS_TIME)
}

/// Opens an existing file of this very name for reading and writing.
pub fn open_existing(directory: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    open_at(directory, name, OFlag::O_RDWR | OFlag::O_NONBLOCK)
}

/// Opens it for reading only: enough to lock it, where another user owns it.
pub fn open_foreign(directory: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    open_at(directory, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
}

fn open_at(directory: &impl AsFd, name: &str, flags: OFlag) -> io::Result<OwnedFd> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    retry(|| openat(directory, name, flags, Mode::from_bits_truncate(0o666)))
}

/// Locks the file; `WouldBlock` where another process holds the lock.
pub fn lock(file: OwnedFd) -> io::Result<Locked> {
    hold(&file)?;
    Ok(Locked(file))
}

/// The same for a file that stays open as long as it is to be locked.
pub fn hold(file: &impl AsFd) -> io::Result<()> {
    retry(|| flock(file, FlockOperation::NonBlockingLockExclusive))
}

/// Gives the lock up while others still read the file. Nothing may be written by this value any more.
pub fn unlock(file: &Locked) -> io::Result<()> {
    retry(|| flock(file, FlockOperation::Unlock))
}

/// Removes a name.
pub fn unlink(directory: &impl AsFd, name: &str) -> io::Result<()> {
    Ok(unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?)
}

/// Removes an empty directory of this directory.
pub fn remove_directory(directory: &impl AsFd, name: &str) -> io::Result<()> {
    Ok(unlinkat(directory, name, UnlinkatFlags::RemoveDir)?)
}

/// Gives a file of this directory another name in it, replacing what had it.
pub fn rename(directory: &impl AsFd, from: &str, to: &str) -> io::Result<()> {
    Ok(renameat(directory, from, directory, to)?)
}

/// Writes all of `bytes` at `offset`. May wait for the disk.
pub fn write_at(file: &impl AsFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let at = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match retry(|| nix::sys::uio::pwrite(file, bytes, at))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Cuts the file off behind `size` bytes. May wait for the disk.
pub fn truncate(file: &impl AsFd, size: u64) -> io::Result<()> {
    let size = i64::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
    retry(|| nix::unistd::ftruncate(file, size))
}

/// Reads at `offset`; 0 is the end of the file. May wait for the disk.
pub fn read_at(file: &impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    retry(|| nix::sys::uio::pread(file, buffer, at))
}

/// Fills the buffer from this offset of the file on, as far as there is enough. May wait for the disk.
pub fn fill_from(file: &impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match read_at(file, &mut buffer[count..], offset + count as u64)? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// Fills the buffer with the bytes from `offset` on; an error where the file ends before. May wait for the disk.
pub fn read_exact_at(file: &impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if fill_from(file, buffer, offset)? < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Sets the modification time, in seconds since 1970. May wait for the disk.
pub fn set_modified(file: &impl AsFd, unix_secs: u64) -> io::Result<()> {
    let time = TimeSpec::new(i64::try_from(unix_secs).unwrap_or(i64::MAX), 0);
    Ok(futimens(file, &time, &time)?)
}

/// Sets the modification time to now, more finely than the clock ticks with which the system dates changes: no other
/// change gets the same. May wait for the disk.
pub fn set_modified_now(file: &impl AsFd) -> io::Result<()> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = TimeSpec::from_duration(since);
    Ok(futimens(file, &now, &now)?)
}

/// Does this name in the directory stand for the file with this device and inode?
pub fn is_named(directory: &impl AsFd, name: &str, id: (u64, u64)) -> bool {
    info_at(directory, name).is_ok_and(|named| named.id == id)
}

/// Opens and locks the regular file of this very name. An error where there is none, where another holder lives, and
/// where the name has gone to another file meanwhile.
pub fn lock_named(directory: &impl AsFd, name: &str) -> io::Result<(Locked, Info)> {
    let locked = lock(open_existing(directory, name)?)?;
    let info = info(&locked)?;
    if info.kind != Kind::File || !is_named(directory, name, info.id) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok((locked, info))
}

/// True for the error of a lock that is held elsewhere.
pub fn is_held(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_racy_until_the_clock_has_moved_on_since_its_last_change() {
        let at = |secs: u64, nanos: u32| SystemTime::UNIX_EPOCH + Duration::new(secs, nanos);
        let info = |changed: (i64, i64)| Info {
            kind: Kind::File,
            size: 1,
            modified: at(7, 0),
            changed,
            links: 1,
            id: (1, 1),
        };
        let fine = info((100, 999_000_000));
        assert!(fine.is_racy(at(100, 999_000_000)) && fine.is_racy(at(101, 18_000_000)));
        assert!(!fine.is_racy(at(101, 19_000_000)));
        // A tick that began after the clock was read.
        assert!(fine.is_racy(at(100, 998_000_000)));
        assert!(!fine.is_racy(at(50, 0)), "of a clock that was ahead");
        let coarse = info((100, 0));
        assert!(coarse.is_racy(at(102, 999_999_999)) && !coarse.is_racy(at(103, 0)));
        assert!(!info((-1, 5)).is_racy(at(100, 0)));
    }
}
