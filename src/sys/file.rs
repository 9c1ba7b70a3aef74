//! Files beneath a directory that nothing may lead out of.

mod attributes;
mod durable;
mod walk;

pub use attributes::{attribute, remove_attribute, set_attribute};
pub use durable::{sync_data, sync_many};
pub use walk::entries;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::retry;

/// Symbolic links followed in one path before it counts as a loop, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

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

/// The top of a tree: nothing opened through it lies outside.
#[derive(Debug)]
pub struct Root {
    /// As it was given: the same name may come to stand for another directory.
    path: PathBuf,
    top: RwLock<Top>,
}

/// The directory that the name stands for now.
#[derive(Debug)]
struct Top {
    directory: OwnedFd,
    /// Its real path, to recognise absolute links that lead back inside.
    real_path: PathBuf,
    id: (u64, u64),
}

impl Top {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(path, flags, Mode::empty())?;
        let id = info(&directory)?.id;
        Ok(Self { directory, real_path: path.canonicalize()?, id })
    }
}

impl Root {
    /// Opens the directory `path`. Blocks; for start-up only.
    pub fn open(path: &Path) -> io::Result<Self> {
        // A later change of the working directory must not move it.
        let path = std::path::absolute(path)?;
        Ok(Self { top: RwLock::new(Top::open(&path)?), path })
    }

    /// Looks whether the name still stands for the directory that is open, and opens it anew (and
    /// makes it anew) if not. Blocks; not for a worker.
    pub fn refresh(&self) -> io::Result<()> {
        let id = nix::sys::stat::stat(&self.path).map(|stat| Info::of(&stat).id);
        if id == Ok(self.top().id) {
            return Ok(());
        }
        if id == Err(Errno::ENOENT) {
            std::fs::create_dir_all(&self.path)?;
        }
        let top = Top::open(&self.path)?;
        *self.top.write().unwrap_or_else(PoisonError::into_inner) = top;
        Ok(())
    }

    fn top(&self) -> RwLockReadGuard<'_, Top> {
        self.top.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the existing file or directory at `path` for reading. Links are followed as long as
    /// they stay inside; one that leads out is `CrossesDevices` (EXDEV).
    pub fn open_file(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_beneath(path, reading())
    }

    /// The same where memory alone can tell, hence without waiting for the disk; `WouldBlock` where
    /// it cannot. A name never looked for is such a case (openat2(2), RESOLVE_CACHED; Linux 5.12).
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub fn open_file_cached(&self, path: &str) -> io::Result<OwnedFd> {
        let cached = nix::fcntl::ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED);
        match self.open_at_once(path, reading(), cached) {
            // What the walk would be for; EINVAL is a kernel that does not know the flag.
            Err(error) if walk_may_help(&error) || error.raw_os_error() == Some(libc::EINVAL) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result,
        }
    }

    /// The same where memory alone can tell; `WouldBlock` always, on systems that do not say so.
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    pub fn open_file_cached(&self, _path: &str) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Opens the directory at `path` ("" is the top).
    pub fn open_directory(&self, path: &str) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        self.open_beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
    }

    /// Opens the directory at `path` and makes what is missing of it, mode 0777 less the umask. Also how
    /// much of `path` names what was there before.
    pub fn make_directory(&self, path: &str) -> io::Result<(OwnedFd, usize)> {
        let mut parent = self.top().directory.try_clone()?;
        let mut there = 0;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let name = path[..end].rsplit('/').next().unwrap_or(path);
            match mkdirat(&parent, name, Mode::from_bits_truncate(0o777)) {
                Ok(()) => {}
                Err(Errno::EEXIST) => there = end,
                Err(error) => return Err(error.into()),
            }
            parent = self.open_directory(&path[..end])?;
        }
        Ok((parent, there))
    }

    /// Removes the directories at `path`, from the last one up to but without the one at its first `there`
    /// bytes, as long as they are empty. May wait for the disk.
    pub fn remove_empty(&self, path: &str, there: usize) {
        let mut end = path.len();
        while end > there {
            let (above, name) = path[..end].rsplit_once('/').unwrap_or(("", &path[..end]));
            let removed = self
                .open_directory(above)
                .and_then(|directory| Ok(unlinkat(&directory, name, UnlinkatFlags::RemoveDir)?));
            if removed.is_err() {
                return;
            }
            end = above.len();
        }
    }

    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    fn open_beneath(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        match self.open_at_once(path, flags, nix::fcntl::ResolveFlag::empty()) {
            // An absolute link may still lead back inside; a kernel before 5.6 or a filter has no
            // openat2 at all; EAGAIN is a rename that raced with the look-up.
            Err(error) if walk_may_help(&error) => self.walk(path, flags),
            result => result,
        }
    }

    /// One openat2(2) with these restrictions on top of staying beneath.
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    fn open_at_once(
        &self,
        path: &str,
        flags: OFlag,
        restrictions: nix::fcntl::ResolveFlag,
    ) -> io::Result<OwnedFd> {
        use nix::fcntl::{OpenHow, ResolveFlag, openat2};
        let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(beneath | restrictions);
        retry(|| openat2(&self.top().directory, path, how))
    }

    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    fn open_beneath(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        self.walk(path, flags)
    }

    /// Resolves `path` one component at a time, reading links itself.
    fn walk(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let top = self.top();
        let mut above = vec![top.directory.try_clone()?];
        let mut rest: VecDeque<OsString> = path.split('/').map(OsString::from).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            let here = above.last().ok_or_else(outside)?;
            match name.as_bytes() {
                b"" | b"." => continue,
                b".." => {
                    above.pop();
                    if above.is_empty() {
                        return Err(outside());
                    }
                    continue;
                }
                _ => {}
            }
            let stat = fstatat(here, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFLNK {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP.into());
                }
                let target = PathBuf::from(readlinkat(here, name.as_os_str())?);
                let target = match target.strip_prefix(&top.real_path) {
                    Ok(inside) => {
                        above.truncate(1);
                        inside.to_owned()
                    }
                    Err(_) if target.is_absolute() => return Err(outside()),
                    Err(_) => target,
                };
                prepend(&target, &mut rest);
            } else if kind == SFlag::S_IFDIR {
                let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
                above.push(retry(|| openat(here, name.as_os_str(), directory, Mode::empty()))?);
            } else if rest.is_empty() {
                return retry(|| openat(here, name.as_os_str(), flags | OFlag::O_NOFOLLOW, Mode::empty()));
            } else {
                return Err(Errno::ENOTDIR.into());
            }
        }
        above.pop().ok_or_else(outside)
    }
}

/// How a file to be served is opened.
fn reading() -> OFlag {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn walk_may_help(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EXDEV | libc::ENOSYS | libc::EPERM | libc::EAGAIN))
}

fn outside() -> io::Error {
    Errno::EXDEV.into()
}

fn prepend(path: &Path, rest: &mut VecDeque<OsString>) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => rest.push_front(name.to_owned()),
            Component::ParentDir => rest.push_front("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
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
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let flags = flags | NO_ACCESS_TIME;
    retry(|| openat(directory, name, flags, Mode::from_bits_truncate(0o666)))
}

/// Opens an existing file of this very name for reading and writing.
pub fn open_existing(directory: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    retry(|| openat(directory, name, flags, Mode::empty()))
}

/// The same for reading only: enough to lock it, where it belongs to somebody else.
pub fn open_foreign(directory: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    retry(|| openat(directory, name, flags, Mode::empty()))
}

/// Locks the file, or says `WouldBlock` when another holder lives.
pub fn lock(file: OwnedFd) -> io::Result<Locked> {
    // SAFETY: no memory is passed, and `file` is open for as long as the call takes.
    let call = || unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    retry(|| Errno::result(call()))?;
    Ok(Locked(file))
}

/// Gives the lock up while others still read the file. Nothing is to be written by this value any more.
pub fn unlock(file: &Locked) -> io::Result<()> {
    // SAFETY: no memory is passed, and `file` is open for as long as the call takes.
    let call = || unsafe { libc::flock(file.0.as_raw_fd(), libc::LOCK_UN) };
    retry(|| Errno::result(call())).map(drop)
}

/// Removes a name.
pub fn unlink(directory: &impl AsFd, name: &str) -> io::Result<()> {
    Ok(unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?)
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

/// Sets the modification time, in seconds since 1970. May wait for the disk.
pub fn set_modified(file: &impl AsFd, unix_secs: u64) -> io::Result<()> {
    let time = TimeSpec::new(i64::try_from(unix_secs).unwrap_or(i64::MAX), 0);
    Ok(futimens(file, &time, &time)?)
}

/// Why a look-up failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Nothing has the name, or nothing can have it.
    Absent,
    /// A link leads out of the tree, or in circles.
    Outside,
    /// A socket, or a device without a driver.
    NotRegular,
    /// No descriptor is left to open it.
    Exhausted,
    /// The disk or the permissions.
    Refused,
}

/// Sorts the errors of [`Root::open_file`] (open(2), openat2(2)).
pub fn missing(error: &io::Error) -> Missing {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => Missing::Absent,
        Some(libc::EXDEV | libc::ELOOP) => Missing::Outside,
        Some(libc::ENXIO | libc::ENODEV) => Missing::NotRegular,
        _ if super::is_exhausted(error) => Missing::Exhausted,
        _ => Missing::Refused,
    }
}

/// Is this the error of a lock that somebody else holds?
pub fn is_held(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn error(opened: io::Result<OwnedFd>) -> i32 {
        opened.unwrap_err().raw_os_error().unwrap_or(libc::EAGAIN)
    }

    #[test]
    fn a_look_up_from_memory_says_when_it_cannot_tell() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/there"), b"x").unwrap();
        // A kernel before 5.12, or a filter: nothing is ever known.
        let Ok(file) = root.open_file_cached("a/there") else {
            eprintln!("SKIPPED: no look-up from memory here");
            return;
        };
        assert_eq!(info(&file).unwrap().size, 1);
        assert_eq!(info(&root.open_file_cached("a").unwrap()).unwrap().kind, Kind::Directory);
        // Never looked for: only the directory's blocks can tell. From then on it is known.
        assert_eq!(error(root.open_file_cached("a/missing")), libc::EAGAIN);
        assert_eq!(error(root.open_file("a/missing")), libc::ENOENT);
        assert_eq!(error(root.open_file_cached("a/missing")), libc::ENOENT);
        fs::write(directory.path().join("a/missing"), b"here now").unwrap();
        assert_eq!(info(&root.open_file_cached("a/missing").unwrap()).unwrap().size, 8);
    }

    #[test]
    fn a_look_up_from_memory_leads_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        symlink("/etc/passwd", directory.path().join("out")).unwrap();
        symlink("../../etc/passwd", directory.path().join("up")).unwrap();
        for name in ["out", "up"] {
            assert_eq!(error(root.open_file(name)), libc::EXDEV, "{name}");
            // The walk has the last word on it, and may read the disk.
            assert_eq!(error(root.open_file_cached(name)), libc::EAGAIN, "{name}");
        }
    }
}
