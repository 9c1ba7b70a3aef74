//! TCP sockets, always non-blocking and close-on-exec.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::MsgFlags;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::retry;

/// Connections the kernel may hold for us before they are accepted (capped by the system's own limit).
const BACKLOG: i32 = 4096;

/// Bytes that a connection holds beyond those under way to its client. Without it that is megabytes, and a
/// thousand slow readers of long files take all the memory that the system has for TCP.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 512 * 1024;

/// Set on a send that another follows at once (MSG_MORE); systems without it send a little earlier.
#[cfg(target_os = "linux")]
const MORE: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_MORE);
#[cfg(not(target_os = "linux"))]
const MORE: MsgFlags = MsgFlags::empty();

/// Opens a listening socket. `shared` lets several sockets of this process listen on one port
/// (SO_REUSEPORT); without it an address that anybody listens on is refused with `AddrInUse`,
/// while one that merely has connections in TIME_WAIT is taken (SO_REUSEADDR).
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        share_port(&socket)?;
    }
    cap_unsent(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Bounds what the system holds for a client that reads slowly (TCP_NOTSENT_LOWAT, tcp(7)); accepted
/// sockets inherit it from their listener. Other systems have their own bounds.
pub fn cap_unsent(listener: &impl AsFd) {
    #[cfg(target_os = "linux")]
    drop(SockRef::from(listener).set_tcp_notsent_lowat(MOST_UNSENT));
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
}

/// Lets other sockets that ask for the same listen on this one's port (SO_REUSEPORT).
#[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
pub fn share_port(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_reuse_port(true)
}

/// This system has no such option.
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
pub fn share_port(_: &impl AsFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The address a socket is bound to.
pub fn local_address(socket: &impl AsFd) -> io::Result<SocketAddr> {
    internet(&SockRef::from(socket).local_addr()?)
}

/// The machine's name on the network; empty where it has none that is text.
pub fn host_name() -> String {
    let name = nix::sys::utsname::uname().ok().and_then(|u| u.nodename().to_str().map(str::to_owned));
    name.unwrap_or_default()
}

/// Whether it is a listening socket.
#[cfg(target_os = "linux")]
pub fn is_listening(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).is_listener()
}

/// The address at the other end of a socket.
pub fn peer_address(socket: &impl AsFd) -> io::Result<SocketAddr> {
    internet(&SockRef::from(socket).peer_addr()?)
}

fn internet(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Accepts one waiting connection, or `WouldBlock`.
pub fn accept(listener: &impl AsFd) -> io::Result<(OwnedFd, IpAddr)> {
    let (socket, address) = SockRef::from(listener).accept()?;
    let ip = address.as_socket().map_or(IpAddr::from([0, 0, 0, 0]), |a| a.ip());
    prepare_accepted(&socket)?;
    Ok((socket.into(), ip))
}

/// Whether a connection waits to be accepted. Does not block.
pub fn has_waiting(listener: &impl AsFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut look = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // A poll that fails counts as none.
    retry(|| poll(&mut look, PollTimeout::ZERO)).is_ok_and(|ready| ready > 0)
}

/// Makes calls on it return at once.
pub fn never_block(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_nonblocking(true)
}

/// What every accepted socket needs: never block, and send small writes at once.
pub fn prepare_accepted(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)
}

/// Starts a connection; it stands when the socket turns writable and [`take_error`] has none.
pub fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) && !super::would_block(&error) => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

/// The pending error of a socket, if there is one (SO_ERROR).
pub fn take_error(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).take_error()?.map_or(Ok(()), Err)
}

/// Receives into `buffer`; 0 is the peer's end of stream.
pub fn recv(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    recv_with(socket, buffer, MsgFlags::MSG_DONTWAIT)
}

/// Checks for received bytes without taking them: 1 if there are any, 0 at the peer's end of stream.
pub fn peek(socket: &impl AsFd) -> io::Result<usize> {
    recv_with(socket, &mut [0; 1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK)
}

fn recv_with(socket: &impl AsFd, buffer: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    retry(|| nix::sys::socket::recv(socket.as_fd().as_raw_fd(), buffer, flags))
}

/// Receives up to `most` bytes behind those in `buffer`; 0 is the peer's end of stream.
pub fn recv_more(socket: &impl AsFd, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    buffer.reserve(most);
    let had = buffer.len();
    let socket = SockRef::from(socket);
    let room = &mut buffer.spare_capacity_mut()[..most];
    let received = retry(|| socket.recv_with_flags(room, libc::MSG_DONTWAIT))?;
    // SAFETY: there is room for `most` bytes more, and the call has written `received` of them.
    unsafe { buffer.set_len(had + received) };
    Ok(received)
}

/// Sends what fits of `head` and then `body`, in one call.
pub fn send_both(socket: &impl AsFd, head: &[u8], body: &[u8]) -> io::Result<usize> {
    let pieces = [io::IoSlice::new(head), io::IoSlice::new(body)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let fd = socket.as_fd().as_raw_fd();
    retry(|| nix::sys::socket::sendmsg::<()>(fd, &pieces, &[], flags, None))
}

/// Sends what fits of `bytes`. `more` says that a body follows at once (MSG_MORE), so that head
/// and body share a segment.
pub fn send(socket: &impl AsFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    let more = if more { MORE } else { MsgFlags::empty() };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | more;
    let fd = socket.as_fd().as_raw_fd();
    retry(|| nix::sys::socket::send(fd, bytes, flags))
}

/// How much of what was sent the peer's system has not acknowledged yet (SIOCOUTQ, tcp(7)). A peer
/// that does not read fills its window, and this stops to become less.
#[cfg(target_os = "linux")]
pub fn untaken(socket: &impl AsFd) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int, for which `bytes` has room, and the descriptor is open for as
    // long as it takes. SIOCOUTQ is another name of TIOCOUTQ.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    u64::try_from(bytes).ok().filter(|_| result == 0)
}

/// This system does not say so.
#[cfg(not(target_os = "linux"))]
pub fn untaken(_: &impl AsFd) -> Option<u64> {
    None
}

/// Makes the close of this socket a reset: the peer cannot mistake it for the end of a body.
pub fn reset_on_close(socket: &impl AsFd) {
    // A socket that refuses the option is already gone; there is nothing left to make visible.
    drop(SockRef::from(socket).set_linger(Some(Duration::ZERO)));
}

/// Makes a listening socket refuse what comes from now on, in every copy of its descriptor.
pub fn stop_listening(socket: &impl AsFd) {
    drop(SockRef::from(socket).shutdown(std::net::Shutdown::Both));
}

/// Undoes [`reset_on_close`].
pub fn close_normally(socket: &impl AsFd) {
    drop(SockRef::from(socket).set_linger(None));
}

/// Says that no more will be sent.
pub fn finish_sending(socket: &impl AsFd) {
    drop(SockRef::from(socket).shutdown(std::net::Shutdown::Write));
}

/// Borrows the descriptor of a socket type that offers only its number.
#[cfg(target_os = "linux")]
pub(crate) fn borrow<T>(_owner: &T, fd: std::os::fd::RawFd) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: the number comes from `_owner`, which keeps the descriptor open, and the result
    // borrows `_owner`.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listener_listens() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        assert!(!is_listening(&socket).unwrap());
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        assert!(!is_listening(&socket).unwrap());
        socket.listen(1).unwrap();
        assert!(is_listening(&socket).unwrap());
    }
}
