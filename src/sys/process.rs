//! The process: descriptor limit, processors, signals.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid};
#[cfg(target_os = "linux")]
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// An identifier of this boot of the system, where there is one (random(4), `boot_id`). Reads a file that is not on a
/// disk.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty() && id.len() <= 64)
}

/// Raises the soft limit of open descriptors to the hard one; returns what then holds.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        return Ok(soft);
    }
    Ok(hard)
}

/// Lets the other threads of this process go first when there are fewer processors than work
/// (setpriority(2), which on Linux is about one thread).
pub fn step_back() {
    // Elsewhere the call is about the whole process. A thread that may not do this goes on as it was.
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(None, 10).unwrap_or_default();
}

/// Lets the allocator keep what is freed for the next request: by itself it gives memory back as soon
/// as a buffer is freed, and every miss would take it from the system again, page by page (mallopt(3)).
/// [`give_back_memory`] does so when there is time.
/// Other allocators stay as they are.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Larger pieces come from the system one by one, and go back there.
        const LARGE: i32 = 4 * 1024 * 1024;
        /// Free memory at the end of an arena that is worth giving back at once.
        const SPARE: i32 = 64 * 1024 * 1024;
        for (parameter, value) in [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, SPARE)] {
            // SAFETY: the call takes numbers and locks the allocator itself.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// Gives memory that is free inside the allocator back to the system (malloc_trim(3)). Takes a
/// millisecond or so. Other allocators do so by themselves, or never.
pub fn give_back_memory() {
    // SAFETY: the call takes a number and locks the allocator itself.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The processors this process may run on, in order.
#[cfg(target_os = "linux")]
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

/// The processors this process may run on, in order.
#[cfg(not(target_os = "linux"))]
pub fn allowed_cpus() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// Binds the calling thread to one processor.
#[cfg(target_os = "linux")]
pub fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Binds the calling thread to one processor (processor_bind(2)).
#[cfg(target_os = "illumos")]
pub fn pin_to(cpu: usize) -> io::Result<()> {
    let cpu = libc::processorid_t::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
    /// "Myself" (sys/procset.h); libc does not name it.
    const P_MYID: libc::id_t = -1;
    // SAFETY: the call takes numbers only; the old binding is not asked for.
    let bound = unsafe { libc::processor_bind(libc::P_LWPID, P_MYID, cpu, std::ptr::null_mut()) };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds the calling thread to one processor: not known here.
#[cfg(not(any(target_os = "linux", target_os = "illumos")))]
pub fn pin_to(_: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalAction {
    /// SIGTERM, SIGINT, SIGQUIT: the end.
    Stop,
    /// SIGHUP: read again what can change.
    Reload,
}

/// The signals that the program handles, blocked in every thread and taken by one that waits for them.
#[derive(Debug)]
pub struct Signals(SigSet);

impl Signals {
    /// Blocks the handled signals in this thread and in those it starts from now on, and with
    /// them all others that would end the process without a need: one that rotates logs sends SIGUSR1,
    /// and a file at its size limit (SIGXFSZ) is an error of a write. Those of a fault still end it, and
    /// a terminal can still stop and continue it.
    pub fn block() -> io::Result<Self> {
        use Signal::{
            SIGABRT, SIGBUS, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGQUIT, SIGSEGV, SIGSYS, SIGTERM,
            SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU,
        };
        let mut blocked = SigSet::all();
        for left in
            [SIGABRT, SIGBUS, SIGCONT, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU]
        {
            blocked.remove(left);
        }
        blocked.thread_block()?;
        Ok(Self([SIGTERM, SIGINT, SIGQUIT, SIGHUP].into_iter().collect()))
    }

    /// Starts a thread that sends what each signal asks for.
    pub fn watch(self) -> io::Result<Receiver<SignalAction>> {
        let (tell, told) = channel();
        let watch = move || {
            while let Ok(signal) = self.0.wait() {
                let what = if signal == Signal::SIGHUP { SignalAction::Reload } else { SignalAction::Stop };
                if tell.send(what).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(watch)?;
        Ok(told)
    }
}

/// A user of the system.
#[derive(Debug)]
pub struct User {
    /// Its number.
    pub id: u32,
    /// Its own group, where it has an entry.
    pub group: Option<u32>,
    /// Its name, where it has an entry.
    pub login: Option<String>,
}

/// Finds a user by name, or by number; a number need not have an entry. Blocks; for start-up only.
pub fn user(text: &str) -> Result<User, String> {
    let number = text.parse::<u32>().ok();
    let found = match number {
        Some(id) => nix::unistd::User::from_uid(Uid::from_raw(id)),
        None => nix::unistd::User::from_name(text),
    };
    match (found.map_err(|error| error.desc().to_owned())?, number) {
        (Some(user), _) => {
            Ok(User { id: user.uid.as_raw(), group: Some(user.gid.as_raw()), login: Some(user.name) })
        }
        (None, Some(id)) => Ok(User { id, group: None, login: None }),
        (None, None) => Err("no user has this name".to_owned()),
    }
}

/// Finds a group by name, or by number: its number, and what it was called. Blocks; for start-up only.
pub fn group(text: &str) -> Result<(u32, String), String> {
    let id = match text.parse::<u32>() {
        Ok(id) => Some(id),
        Err(_) => {
            let found = nix::unistd::Group::from_name(text).map_err(|error| error.desc().to_owned())?;
            found.map(|group| group.gid.as_raw())
        }
    };
    Ok((id.ok_or("no group has this name")?, text.to_owned()))
}

/// Gives a directory to a user and a group (chown(2)). Blocks; for start-up only.
pub fn give(path: &Path, user: Option<u32>, group: u32) -> io::Result<()> {
    Ok(nix::unistd::chown(path, user.map(Uid::from_raw), Some(Gid::from_raw(group)))?)
}

/// Is this process root's?
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Goes on as another user and in another group, for good: with the other groups of `login` and no
/// more, without capabilities, and unable to gain rights by executing anything (setgroups(2),
/// setgid(2), setuid(2), capabilities(7)). A process that is who it is to be keeps its groups. An error
/// if root's rights would stay.
pub fn become_user(user: Option<u32>, login: Option<&str>, group: u32) -> io::Result<()> {
    let (gid, same) = (Gid::from_raw(group), Uid::effective().as_raw());
    if is_root() || user.is_some_and(|user| user != same) || Gid::effective() != gid {
        match login.map(CString::new).transpose()? {
            Some(login) => nix::unistd::initgroups(&login, gid)?,
            None => nix::unistd::setgroups(&[gid])?,
        }
        nix::unistd::setgid(gid)?;
    }
    if let Some(user) = user.filter(|user| *user != same) {
        nix::unistd::setuid(Uid::from_raw(user))?;
        #[cfg(target_os = "linux")]
        drop_capabilities()?;
        // A process that can change back has kept its rights.
        if nix::unistd::setuid(Uid::from_raw(same)).is_ok() {
            return Err(io::Error::other("the user could be changed back"));
        }
    }
    if is_root() {
        return Err(io::Error::other("root gives up nothing"));
    }
    #[cfg(target_os = "linux")]
    drop_capabilities().and_then(|()| Ok(nix::sys::prctl::set_no_new_privs()?))?;
    Ok(())
}

/// A change of the user takes root's capabilities, but not those that a service manager gave to another
/// user, nor any where the process's secure bits say so (capabilities(7)).
#[cfg(target_os = "linux")]
fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// May this process make files in the directory (access(2))? Blocks; for start-up only.
pub fn may_write(path: &Path) -> io::Result<()> {
    use nix::unistd::{AccessFlags, access};
    Ok(access(path, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// The words of an error of the system, without its number.
pub fn error_text(error: &io::Error) -> String {
    errno(error).map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}

/// The name of an error of the system, such as `EPERM`.
pub fn error_name(error: &io::Error) -> String {
    errno(error).map_or_else(|| error.to_string(), |errno| format!("{errno:?}"))
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// Kernel release, such as `6.1.0`.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or_else(|_| String::new(), |u| u.release().to_string_lossy().into_owned())
}
