//! The listening sockets: one for each worker, all on one address.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::sys::{process, socket};

/// Attempts to take a port that is in use, and the pause between them.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Sockets that listen.
#[derive(Debug)]
pub struct Listening {
    /// Their address.
    pub address: SocketAddr,
    /// One for each worker.
    pub sockets: Vec<OwnedFd>,
    /// They belong to the service manager, and the next process accepts from them.
    pub inherited: bool,
}

/// The sockets that a service manager has opened for this process, or else its own on `host:port`.
pub fn open(host: &str, port: u16, count: usize) -> Result<Listening, String> {
    match inherited(count) {
        Ok(Some(listening)) => Ok(listening),
        Ok(None) => open_own(host, port, count),
        Err(error) => Err(format!("cannot use the socket handed over: {error}")),
    }
}

/// sd_listen_fds(3).
#[cfg(target_os = "linux")]
fn inherited(count: usize) -> io::Result<Option<Listening>> {
    let mut handed = listenfd::ListenFd::from_env();
    let taken = (0..handed.len()).filter_map(|index| handed.take_tcp_listener(index).transpose());
    let all: Vec<OwnedFd> = taken.map(|listener| Ok(listener?.into())).collect::<io::Result<_>>()?;
    let Some(first) = all.first() else { return Ok(None) };
    let address = socket::local_address(first)?;
    for listener in &all {
        if !socket::is_listening(listener)? {
            return Err(io::Error::other("it does not listen"));
        }
        socket::never_block(listener)?;
        socket::cap_unsent(listener);
    }
    let sockets = (0..count).map(|worker| all[worker % all.len()].try_clone()).collect::<io::Result<_>>()?;
    Ok(Some(Listening { address, sockets, inherited: true }))
}

#[cfg(not(target_os = "linux"))]
fn inherited(_: usize) -> io::Result<Option<Listening>> {
    Ok(None)
}

/// Opens `count` listening sockets on `host:port`. An address that another program listens on is
/// refused; one whose last connections are still in TIME_WAIT is not.
fn open_own(host: &str, port: u16, count: usize) -> Result<Listening, String> {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let refused = |error: io::Error| {
        let said = format!("cannot listen on {place} (--host or FS_CACHE_HOST, --port or FS_CACHE_PORT)");
        if error.kind() == io::ErrorKind::AddrInUse {
            return format!("{said}: address already in use, another program listens there");
        }
        format!("{said}: {}", process::error_text(&error))
    };
    let mut addresses = (host, port).to_socket_addrs().map_err(refused)?;
    let address = addresses.next().ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
    // The first takes the port for itself alone, which fails if another program listens there, and
    // shares it afterwards: at no time can another instance listen too.
    let first = listen_alone(address).map_err(refused)?;
    let address = socket::local_address(&first).map_err(refused)?;
    let sockets = share(first, address, count).map_err(refused)?;
    Ok(Listening { address, sockets, inherited: false })
}

/// Takes the port. Sockets of a process that was just killed may take the system a moment to
/// close, so a port in use is tried again before it counts as another program's.
fn listen_alone(address: SocketAddr) -> io::Result<OwnedFd> {
    for _ in 1..ATTEMPTS {
        match socket::listen(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    socket::listen(address, false)
}

#[cfg(linux_calls)]
fn share(first: OwnedFd, address: SocketAddr, count: usize) -> io::Result<Vec<OwnedFd>> {
    socket::share_port(&first)?;
    let others = (1..count).map(|_| socket::listen(address, true));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Without SO_REUSEPORT all workers accept from one socket.
#[cfg(not(linux_calls))]
fn share(first: OwnedFd, _: SocketAddr, count: usize) -> io::Result<Vec<OwnedFd>> {
    (0..count).map(|_| first.try_clone()).collect()
}
