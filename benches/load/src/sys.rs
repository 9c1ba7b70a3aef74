//! System calls that the standard library does not have.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub const READ: u32 = libc::EPOLLIN as u32;
pub const WRITE: u32 = libc::EPOLLOUT as u32;

/// Readiness of many descriptors, level-triggered.
pub struct Epoll(OwnedFd);

/// Descriptors found ready by one wait: token and events.
pub type Ready = Vec<libc::epoll_event>;

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed; the result is checked and owned by nobody else.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        check(fd)?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn add(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, events)
    }

    pub fn change(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, events)
    }

    fn control(&self, operation: i32, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }

    /// Waits for `milliseconds` (-1: for ever, 0: not at all) and replaces what is in `ready`.
    pub fn wait(&self, ready: &mut Ready, milliseconds: i32) -> io::Result<()> {
        ready.clear();
        // SAFETY: the vector has room for `capacity` events, and its length is set to those written.
        unsafe {
            let room = ready.capacity() as i32;
            let count = libc::epoll_wait(self.0.as_raw_fd(), ready.as_mut_ptr(), room, milliseconds);
            match check(count) {
                Ok(count) => ready.set_len(count as usize),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

/// A connection, non-blocking from then on, that closes with a reset: a closed one leaves no
/// TIME_WAIT behind, of which 10,000 a round would use up the ports.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: pointer and length are those of `linger`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    })?;
    Ok(stream)
}

/// Takes up to `length` bytes off the socket without copying them (tcp(7), MSG_TRUNC).
pub fn discard(stream: &TcpStream, length: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC the kernel of a TCP socket writes nothing to the (null) buffer.
    check_size(unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), length, libc::MSG_TRUNC) })
}

/// Sends the pieces; `more` says that more follows at once.
pub fn send(stream: &TcpStream, pieces: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid message header; IoSlice is iovec by its documentation.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = pieces.len();
        let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
        libc::sendmsg(stream.as_raw_fd(), &raw const message, flags)
    };
    check_size(sent)
}

/// Nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A timer that is readable each `interval` nanoseconds.
pub fn ticks(interval: u64) -> io::Result<OwnedFd> {
    let time = libc::timespec {
        tv_sec: (interval / 1_000_000_000) as i64,
        tv_nsec: (interval % 1_000_000_000) as i64,
    };
    let every = libc::itimerspec { it_interval: time, it_value: time };
    // SAFETY: no pointer is passed; the result is checked and owned by nobody else.
    let timer = unsafe {
        let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
        check(fd)?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: `every` outlives the call; the old value is not asked for.
    check(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const every, std::ptr::null_mut()) })?;
    Ok(timer)
}

/// Ticks since the last call.
pub fn ticked(timer: &OwnedFd) -> u64 {
    let mut count = 0u64;
    // SAFETY: eight bytes are written at most, the size of `count`.
    let read = unsafe { libc::read(timer.as_raw_fd(), (&raw mut count).cast(), 8) };
    if read == 8 { count } else { 0 }
}

/// Lets another process of this core run.
pub fn give_way() {
    // SAFETY: no arguments.
    unsafe { libc::sched_yield() };
}

/// Moves this process to one core. Where that is not allowed it stays, and the figure is worse.
pub fn run_on(cpu: usize) {
    // SAFETY: all zeroes is an empty set; CPU_SET checks nothing, so the number is kept in range.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu.min(libc::CPU_SETSIZE as usize - 1), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Goes before all normal processes of this core. False where that is not allowed.
pub fn go_first() -> bool {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: `priority` outlives the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
}

/// As many descriptors as the hard limit allows.
pub fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives both calls. If they fail, connections will, which is reported there.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
