//! The listening sockets: one a worker, all on one address.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use crate::sys::socket;

/// Opens `count` listening sockets on `host:port`. An address that another program listens on is
/// refused; one whose last connections are still in TIME_WAIT is not.
pub fn open(host: &str, port: u16, count: usize) -> Result<(SocketAddr, Vec<OwnedFd>), String> {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("cannot listen on {place}: another program listens there already")
        }
        _ => format!("cannot listen on {place} (--host, --port): {error}"),
    };
    let mut addresses = (host, port).to_socket_addrs().map_err(refused)?;
    let address = addresses.next().ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
    // The first takes the port for itself alone, which fails if anybody else listens there, and
    // shares it afterwards: at no time can another instance come in.
    let first = socket::listen(address, false).map_err(refused)?;
    let address = socket::local_address(&first).map_err(refused)?;
    let listeners = share(first, address, count).map_err(refused)?;
    Ok((address, listeners))
}

#[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
fn share(first: OwnedFd, address: SocketAddr, count: usize) -> io::Result<Vec<OwnedFd>> {
    socket::share_port(&first)?;
    let others = (1..count).map(|_| socket::listen(address, true));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Without SO_REUSEPORT all workers accept from one socket.
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
fn share(first: OwnedFd, _: SocketAddr, count: usize) -> io::Result<Vec<OwnedFd>> {
    (0..count).map(|_| first.try_clone()).collect()
}
