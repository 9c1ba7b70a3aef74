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
    // The probe shares its port with nobody, as the sockets that follow do with each other: so it
    // finds out whether somebody else is there.
    let probe = socket::listen(address, false).map_err(refused)?;
    let address = socket::local_address(&probe).map_err(refused)?;
    if cfg!(any(target_os = "illumos", target_os = "solaris")) {
        let shared = (0..count).map(|_| probe.try_clone()).collect::<io::Result<Vec<_>>>();
        return Ok((address, shared.map_err(refused)?));
    }
    drop(probe);
    let listeners = (0..count).map(|_| socket::listen(address, true)).collect::<io::Result<Vec<_>>>();
    Ok((address, listeners.map_err(refused)?))
}
