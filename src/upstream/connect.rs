//! Resolving the origin's name and connecting to one of its addresses.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::Trust;
use super::transport::Transport;
use crate::config::Origin;
use crate::error::{Error, Kind, Side};
use crate::rt::{Runtime, Socket, blocking, timeout};
use crate::sys::{is_exhausted, socket};

/// Addresses tried of those a name has.
const MAX_ADDRESSES: usize = 8;

/// Connects within `limit`, trying the addresses of the name in turn.
pub async fn connect<R: Runtime>(
    origin: &Origin,
    limit: Duration,
    trust: Option<&Trust>,
) -> Result<Transport<R>, Error> {
    let connecting = async {
        let addresses = resolve(origin).await?;
        let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut refused = Error::with(Side::Origin, Kind::Resolve, &origin.host);
        for address in addresses {
            match connect_to::<R>(address, share).await {
                Ok(socket) => return secure(socket, origin, trust).await,
                Err(error) => refused = error,
            }
        }
        Err(refused)
    };
    timeout::<R, _>(limit, connecting).await.map_err(Error::timeout(Side::Origin))?
}

async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(ip) = origin.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, origin.port)]);
    }
    let refused = |why: &dyn std::fmt::Display| Error::with(Side::Origin, Kind::Resolve, why);
    if blocking::RESOLVER.is_full() {
        return Err(refused(&"too many look-ups wait"));
    }
    let name = (origin.host.clone(), origin.port);
    let look_up = move || name.to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect::<Vec<_>>());
    let found = blocking::run(&blocking::RESOLVER, look_up);
    let found = found.await.and_then(|found| found);
    found.map_err(|error| refused(&error))
}

async fn connect_to<R: Runtime>(address: SocketAddr, limit: Duration) -> Result<R::Socket, Error> {
    let refused = |error: io::Error| {
        if is_exhausted(&error) {
            return Error::with(Side::Us, Kind::Io, error);
        }
        Error::with(Side::Origin, Kind::Connect, error)
    };
    let socket = socket::connect(address).and_then(R::socket).map_err(refused)?;
    let ready = timeout::<R, _>(limit, socket.writable()).await;
    ready.map_err(Error::timeout(Side::Origin))?.map_err(refused)?;
    socket::take_error(&socket).map_err(refused)?;
    Ok(socket)
}

#[cfg(feature = "tls")]
async fn secure<R: Runtime>(
    socket: R::Socket,
    origin: &Origin,
    trust: Option<&Trust>,
) -> Result<Transport<R>, Error> {
    match trust {
        Some(trust) if origin.https => {
            let stream = super::tls::TlsStream::handshake(socket, &origin.host, trust).await?;
            Ok(Transport::Tls(Box::new(stream)))
        }
        _ => plain(socket, origin),
    }
}

#[cfg(not(feature = "tls"))]
async fn secure<R: Runtime>(
    socket: R::Socket,
    origin: &Origin,
    _: Option<&Trust>,
) -> Result<Transport<R>, Error> {
    plain(socket, origin)
}

fn plain<R: Runtime>(socket: R::Socket, origin: &Origin) -> Result<Transport<R>, Error> {
    if origin.https {
        return Err(Error::with(Side::Us, Kind::Tls, "https needs the tls feature"));
    }
    Ok(Transport::Plain(socket))
}
