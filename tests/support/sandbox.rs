//! What is done to the child between fork and exec: limits, a umask, closed descriptors, and a
//! filter that refuses one system call.
#![allow(unsafe_code, reason = "the code between fork and exec can only be given through an unsafe call")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// One change to the child's surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// The file mode creation mask.
    Umask(libc::mode_t),
    /// No regular file may grow beyond this; the signal that goes with it is ignored, so that
    /// the write fails as on a full disk.
    FileSize(u64),
    /// Soft and hard limit of open descriptors.
    Descriptors(u64, u64),
    /// This descriptor is closed, as by `>&-` in a shell.
    Closed(i32),
    /// This system call fails with EPERM, as under a container's filter.
    Refuse(libc::c_long),
    /// This file is what it finds as /etc/hosts.
    Hosts(&'static std::ffi::CStr),
    /// A change of the user takes no capabilities (capabilities(7), SECBIT_NO_SETUID_FIXUP).
    KeepCapabilities,
}

/// Applies `limits` in the child, in order.
pub(crate) fn apply(command: &mut Command, limits: Vec<Limit>) {
    let hook = move || limits.iter().try_for_each(|limit| limit.apply());
    // SAFETY: the hook makes only async-signal-safe calls (umask, setrlimit, signal, close,
    // prctl) and touches no memory that another thread of the parent could hold locked.
    unsafe {
        command.pre_exec(hook);
    }
}

impl Limit {
    fn apply(self) -> io::Result<()> {
        match self {
            Self::Umask(mask) => {
                // SAFETY: umask cannot fail and takes no pointer.
                unsafe { libc::umask(mask) };
                Ok(())
            }
            Self::FileSize(bytes) => {
                // SAFETY: SIG_IGN is a valid disposition and SIGXFSZ a valid signal.
                unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
                set_limit(libc::RLIMIT_FSIZE, bytes, bytes)
            }
            Self::Descriptors(soft, hard) => set_limit(libc::RLIMIT_NOFILE, soft, hard),
            Self::Closed(descriptor) => {
                // SAFETY: closing a descriptor of the child that nothing uses before exec.
                check(unsafe { libc::close(descriptor) })
            }
            Self::Refuse(call) => refuse(call),
            Self::Hosts(file) => cover_hosts(file),
            Self::KeepCapabilities => {
                const NO_SETUID_FIXUP: libc::c_int = 1 << 2;
                // SAFETY: no pointer is passed.
                check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0) })
            }
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_limit(which: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to a live, initialised value.
    check(unsafe { libc::setrlimit(which, &raw const limit) })
}

/// Four BPF instructions: load the call's number; if it is the one, EPERM, else allow.
fn refuse(call: libc::c_long) -> io::Result<()> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let number = u32::try_from(call).map_err(io::Error::other)?;
    let mut program = [
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, number),
        step(RETURN, 0, 0, eperm),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: no pointer is passed.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `filter` and the program it points to are alive during the call.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) })
}

/// Puts the file over /etc/hosts, in mounts of the child's own: as root, or in a user namespace.
fn cover_hosts(file: &std::ffi::CStr) -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: unshare takes flags only; the child has one thread.
    let own = check(unsafe { libc::unshare(libc::CLONE_NEWNS) })
        .or_else(|_| check(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUSER) }));
    own?;
    let all = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the strings end with a NUL, and these flags want no type and no data.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, all, none.cast()) })?;
    // SAFETY: as above.
    check(unsafe { libc::mount(file.as_ptr(), c"/etc/hosts".as_ptr(), none, libc::MS_BIND, none.cast()) })
}

/// Whether this process may create an io_uring at all.
pub(crate) fn io_uring_allowed() -> bool {
    // A null parameter block is refused with EFAULT by a kernel that would otherwise create the
    // ring, and with EPERM or ENOSYS by one that would not.
    // SAFETY: the kernel checks the pointer itself.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, 0) };
    result >= 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Sends a signal to a child that has not been waited for yet.
pub(crate) fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: the child is ours and not reaped, so the id cannot belong to another process.
    check(unsafe { libc::kill(pid, signal) }).unwrap();
}

/// The attribute in which an in-progress file says how a later fill can go on with it.
const RECORD: &std::ffi::CStr = c"user.fs-caching-server.partial";

/// The record of a file, as text; none where it has none, or the file system takes none.
pub(crate) fn record(path: &std::path::Path) -> Option<String> {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(path).ok()?;
    let mut value = vec![0_u8; 4096];
    // SAFETY: the name ends with a NUL, the buffer has the length that is passed, the descriptor is open.
    let length =
        unsafe { libc::fgetxattr(file.as_raw_fd(), RECORD.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    String::from_utf8(value).ok()
}

/// Replaces the record of a file; false where the file system takes none.
pub(crate) fn set_record(path: &std::path::Path, text: &str) -> bool {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(path).unwrap();
    // SAFETY: the name ends with a NUL, the value has the length that is passed, the descriptor is open.
    let set =
        unsafe { libc::fsetxattr(file.as_raw_fd(), RECORD.as_ptr(), text.as_ptr().cast(), text.len(), 0) };
    set == 0
}

/// Ends a connection now (connect(2) with AF_UNSPEC), where the system can. Closing it ends it only once
/// every child that is between fork and exec has closed its copy, too.
pub(crate) fn disconnect(stream: &std::net::TcpStream) {
    use std::os::fd::AsRawFd;
    // SAFETY: an address of all zeros is a valid value, and AF_UNSPEC is zero on all systems.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size_of_val(&nowhere)).unwrap();
    // SAFETY: the address outlives the call and has the size that is passed; the descriptor is open.
    unsafe { libc::connect(stream.as_raw_fd(), &raw const nowhere, size) };
}

/// Whether the kernel can fence off a process.
pub(crate) fn has_landlock() -> bool {
    /// Asks for the version of the interface instead of making rules (landlock_create_ruleset(2)).
    const VERSION: libc::c_int = 1;
    // SAFETY: with this flag the kernel wants no attributes.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) };
    version >= 1
}
