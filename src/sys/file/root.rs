//! A directory tree that no path leads out of: every look-up stays beneath its top.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::super::{is_exhausted, retry};
use super::{Info, info, info_at};

/// Symbolic links followed in one path before it counts as a loop, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The top of a tree: nothing opened through it lies outside.
#[derive(Debug)]
pub struct Root {
    /// As it was given: the name may later be that of another directory.
    path: PathBuf,
    top: RwLock<Arc<Top>>,
}

/// The directory that the name stands for now.
#[derive(Debug)]
struct Top {
    directory: OwnedFd,
    /// Its real path, to recognise absolute links that lead back inside.
    real_path: PathBuf,
    id: (u64, u64),
    /// A call may wait for another machine there, or for another program.
    is_remote: bool,
}

impl Top {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(path, flags, Mode::empty())?;
        let id = info(&directory)?.id;
        let is_remote = is_remote(&directory);
        Ok(Self { directory, real_path: path.canonicalize()?, id, is_remote })
    }
}

impl Root {
    /// Opens the directory `path`. Blocks; for start-up only.
    pub fn open(path: &Path) -> io::Result<Self> {
        // A later change of the working directory must not move it.
        let path = std::path::absolute(path)?;
        Ok(Self { top: RwLock::new(Arc::new(Top::open(&path)?)), path })
    }

    /// Checks whether the name is still that of the open directory. If not, opens the directory of that name, which is
    /// created if it is missing. Blocks; not for a worker.
    pub fn refresh(&self) -> io::Result<()> {
        let id = nix::sys::stat::stat(&self.path).map(|stat| Info::of(&stat).id);
        if id == Ok(self.top().id) {
            return Ok(());
        }
        if id == Err(Errno::ENOENT) {
            std::fs::create_dir_all(&self.path)?;
        }
        let top = Arc::new(Top::open(&self.path)?);
        *self.top.write().unwrap_or_else(PoisonError::into_inner) = top;
        Ok(())
    }

    /// For calls that do not wait for another machine, since it cannot be changed meanwhile.
    fn top(&self) -> RwLockReadGuard<'_, Arc<Top>> {
        self.top.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does all of it lie where a call may wait for another machine, or for another program?
    pub fn is_remote(&self) -> bool {
        self.top().is_remote
    }

    /// Opens the existing file or directory at `path` for reading. Links are followed as long as
    /// they stay inside; one that leads out is `CrossesDevices` (EXDEV).
    pub fn open_file(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_beneath(path, reading(), Reach::Anywhere)
    }

    /// The same from what the system has in memory, hence without waiting for the disk; `WouldBlock` where that does not
    /// suffice, and always on systems without such a call. A name never looked up is such a case (openat2(2),
    /// RESOLVE_CACHED; Linux 5.12).
    pub fn open_file_cached(&self, path: &str) -> io::Result<OwnedFd> {
        let top = self.top();
        if top.is_remote {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match open_at_once(&top, path, reading(), Within::Memory) {
            // What the walk would be for; EINVAL is a kernel that does not know the flag.
            Err(error) if lacks_call(&error) || walk_may_help(&error) || is_invalid(&error) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result,
        }
    }

    /// The same without leaving the file system of the top, and only if that is on this machine: `WouldBlock` where the
    /// path leads to another one (openat2(2), RESOLVE_NO_XDEV), on which a call may never return. Systems without that call cross to
    /// file systems mounted below.
    pub fn open_file_here(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_beneath(path, reading(), Reach::Here)
    }

    fn open_beneath(&self, path: &str, flags: OFlag, reach: Reach) -> io::Result<OwnedFd> {
        // Not locked while a dead server is waited for.
        let top = Arc::clone(&self.top());
        let within = match reach {
            Reach::Here if top.is_remote => return Err(io::ErrorKind::WouldBlock.into()),
            Reach::Here => Within::FileSystem,
            Reach::Anywhere => Within::Top,
        };
        match open_at_once(&top, path, flags, within) {
            Err(error) if lacks_call(&error) => walk(&top, path, flags),
            Err(error) if walk_may_help(&error) => match reach {
                Reach::Here => Err(io::ErrorKind::WouldBlock.into()),
                Reach::Anywhere => walk(&top, path, flags),
            },
            result => result,
        }
    }

    /// Opens the directory at `path` ("" is the top).
    pub fn open_directory(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_directory_by(path, Reach::Anywhere)
    }

    /// The same within this reach: `WouldBlock` says that it takes more.
    pub fn open_directory_by(&self, path: &str, reach: Reach) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        self.open_beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, reach)
    }

    /// Opens the directory at `path` and makes what is missing of it, mode 0777 less the umask. Also how
    /// much of `path` names what was there before. No directory is made where its name with `ending` is there:
    /// `ResourceBusy` says so; `WouldBlock` that it is out of reach.
    pub fn make_directory(
        &self,
        path: &str,
        ending: Option<&str>,
        reach: Reach,
    ) -> io::Result<(OwnedFd, usize)> {
        let mut parent = self.open_directory_by("", reach)?;
        let mut there = 0;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let name = path[..end].rsplit('/').next().unwrap_or(path);
            let is_claimed =
                || ending.is_some_and(|ending| info_at(&parent, &format!("{name}{ending}")).is_ok());
            if is_claimed() && info_at(&parent, name).is_err() {
                return Err(Errno::EBUSY.into());
            }
            match mkdirat(&parent, name, Mode::from_bits_truncate(0o777)) {
                Ok(()) if is_claimed() => {
                    // Created by another thread that had found no directory.
                    super::remove_directory(&parent, name)?;
                    return Err(Errno::EBUSY.into());
                }
                Ok(()) => {}
                Err(Errno::EEXIST) => there = end,
                Err(error) => return Err(error.into()),
            }
            parent = self.open_directory_by(&path[..end], reach)?;
        }
        Ok((parent, there))
    }

    /// Removes the directories at `path`, from the last one, if that is `last` still (device and inode), up
    /// to but without the one at its first `there` bytes, as long as they are empty. May wait for the disk.
    pub fn remove_empty(&self, path: &str, there: usize, last: (u64, u64)) {
        let mut end = path.len();
        while end > there {
            let (above, name) = path[..end].rsplit_once('/').unwrap_or(("", &path[..end]));
            let Ok(directory) = self.open_directory(above) else { return };
            let is_another =
                end == path.len() && info_at(&directory, name).map_or(true, |info| info.id != last);
            if is_another || unlinkat(&directory, name, UnlinkatFlags::RemoveDir).is_err() {
                return;
            }
            end = above.len();
        }
    }
}

/// How far a look-up may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Not out of the file system of the top, which is on this machine.
    Here,
    /// Wherever it leads beneath the top: it may wait for another machine.
    Anywhere,
}

/// What a look-up must stay in.
#[derive(Clone, Copy)]
enum Within {
    /// The tree.
    Top,
    /// The file system of the top.
    FileSystem,
    /// What the system has of that in memory.
    Memory,
}

/// One openat2(2), which stays beneath the top.
#[cfg(linux_calls)]
fn open_at_once(top: &Top, path: &str, flags: OFlag, within: Within) -> io::Result<OwnedFd> {
    use nix::fcntl::{OpenHow, ResolveFlag, openat2};
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let resolve = match within {
        Within::Top => beneath,
        Within::FileSystem => beneath | ResolveFlag::RESOLVE_NO_XDEV,
        Within::Memory => {
            beneath | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED)
        }
    };
    retry(|| openat2(&top.directory, path, OpenHow::new().flags(flags).resolve(resolve)))
}

/// No such call.
#[cfg(not(linux_calls))]
fn open_at_once(_: &Top, _: &str, _: OFlag, _: Within) -> io::Result<OwnedFd> {
    Err(Errno::ENOSYS.into())
}

/// The kernel is older than 5.6, or a filter lets nobody make the call.
fn lacks_call(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// An absolute link may still lead back inside (EXDEV); or a rename raced with the look-up (EAGAIN).
fn walk_may_help(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EXDEV | libc::EAGAIN))
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Resolves `path` one component at a time, reading links itself.
fn walk(top: &Top, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
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

/// Does the file lie where a call may wait for another machine, or for another program (statfs(2))?
#[cfg(target_os = "linux")]
pub fn is_remote(file: &OwnedFd) -> bool {
    /// NFS, SMB (three numbers), FUSE, 9P, AFS, Ceph, Coda, Lustre, automounts.
    const REMOTE: [u32; 11] = [
        0x6969, 0x517b, 0xfe534d42, 0xff534d42, 0x65735546, 0x01021997, 0x5346414f, 0x00c36400, 0x73757245,
        0x0bd00bd0, 0x0187,
    ];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the numbers have 32 bits")]
    let kind = |system: nix::sys::statfs::Statfs| system.filesystem_type().0 as u32;
    nix::sys::statfs::fstatfs(file).is_ok_and(|system| REMOTE.contains(&kind(system)))
}

/// Nothing is known of it here.
#[cfg(not(target_os = "linux"))]
pub fn is_remote(_: &OwnedFd) -> bool {
    false
}

/// How a file to be served is opened.
fn reading() -> OFlag {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC
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
        _ if is_exhausted(error) => Missing::Exhausted,
        _ => Missing::Refused,
    }
}

#[cfg(linux_calls)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::Kind;
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
