//! Resolving the origin's name and connecting to one of its addresses.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::Trust;
use super::addresses;
use super::transport::Transport;
use crate::config::Origin;
use crate::error::{Error, Kind, Side};
use crate::rt::budget::Permit;
use crate::rt::{Runtime, Socket, blocking, timeout};
use crate::sys::{is_exhausted, socket};

/// Addresses of a name that are considered.
const MAX_FOUND: usize = 64;
/// The next address is tried after this time without an answer (RFC 8305 section 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Where there is no descriptor for one more attempt at a time, the oldest has this long before it gives up its turn:
/// time for a lost SYN to be sent again.
const TURN: Duration = Duration::from_secs(2);

/// Connects within `limit` to the first address of the name that answers. `spare` is the descriptor of one more
/// attempt at the same time, if there is one.
pub async fn connect<R: Runtime>(
    origin: &Origin,
    limit: Duration,
    trust: Option<&Trust>,
    spare: impl Fn() -> Option<Permit>,
) -> Result<Transport<R>, Error> {
    let connecting = async {
        let socket = match resolve(origin).await?.as_slice() {
            [] => return Err(Error::with(Side::Origin, Kind::Resolve, &origin.host)),
            [only] => connect_to::<R>(*only).await?,
            several => race::<R>(several, limit, spare).await?,
        };
        secure(socket, origin, trust).await
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
    let look_up = move || name.to_socket_addrs().map(|all| all.take(MAX_FOUND).collect::<Vec<_>>());
    let found = blocking::run(&blocking::RESOLVER, look_up);
    let found = found.await.and_then(|found| found);
    found.map(addresses::in_order).map_err(|error| refused(&error))
}

/// One address that is being connected to.
struct Attempt<'a, S> {
    address: SocketAddr,
    began: Instant,
    connecting: Pin<Box<dyn Future<Output = Result<S, Error>> + 'a>>,
}

/// The next event of a race.
enum Event<S> {
    /// The attempt at this place has ended.
    Ended(usize, Result<S, Error>),
    /// It is time for the next address.
    Due,
}

/// Tries one address after the other, without waiting long for any (RFC 8305): the first that answers wins, and the
/// other attempts are closed. The caller bounds the time.
async fn race<R: Runtime>(
    tried: &[SocketAddr],
    limit: Duration,
    spare: impl Fn() -> Option<Permit>,
) -> Result<R::Socket, Error> {
    let mut waiting = tried.iter().copied().peekable();
    let mut running: Vec<Attempt<'_, R::Socket>> = Vec::new();
    // The request has one descriptor for this: each further attempt at a time takes one.
    let mut spares: Vec<Permit> = Vec::new();
    let turn = TURN.min(limit / u32::try_from(tried.len().max(1)).unwrap_or(u32::MAX));
    loop {
        let left = running.first().map_or(turn, |oldest| turn.saturating_sub(oldest.began.elapsed()));
        let mut pause = NEXT_AFTER;
        if waiting.peek().is_some() && running.len() > spares.len() {
            spares.extend(spare());
        }
        if waiting.peek().is_some() && running.len() > spares.len() {
            pause = left;
            if left.is_zero() {
                addresses::note(running.remove(0).address);
            }
        }
        if running.len() <= spares.len()
            && let Some(address) = waiting.next()
        {
            let connecting = Box::pin(connect_to::<R>(address));
            running.push(Attempt { address, began: Instant::now(), connecting });
        }
        match next_event::<R>(&mut running, waiting.peek().map(|_| pause)).await {
            Event::Due => {}
            Event::Ended(at, Ok(socket)) => {
                let winner = running.remove(at);
                addresses::forget(winner.address);
                note_overtaken(&running, winner.began);
                return Ok(socket);
            }
            Event::Ended(at, Err(error)) => {
                let failed = running.remove(at);
                // A lack of our own says nothing of the address.
                if error.side == Side::Origin {
                    addresses::note(failed.address);
                }
                if running.is_empty() && waiting.peek().is_none() {
                    return Err(error);
                }
            }
        }
    }
}

/// Those that one has overtaken which began later.
fn note_overtaken<S>(running: &[Attempt<'_, S>], winner_began: Instant) {
    for attempt in running.iter().filter(|attempt| attempt.began < winner_began) {
        addresses::note(attempt.address);
    }
}

/// Waits for the end of an attempt, or for the `pause` before the next one to pass.
async fn next_event<R: Runtime>(
    running: &mut [Attempt<'_, R::Socket>],
    pause: Option<Duration>,
) -> Event<R::Socket> {
    let ended = poll_fn(|context| {
        for (at, attempt) in running.iter_mut().enumerate() {
            if let Poll::Ready(result) = attempt.connecting.as_mut().poll(context) {
                return Poll::Ready(Event::Ended(at, result));
            }
        }
        Poll::Pending
    });
    let due = async {
        match pause {
            Some(pause) => R::sleep(pause).await,
            None => pending().await,
        }
        Event::Due
    };
    or(ended, due).await
}

async fn connect_to<R: Runtime>(address: SocketAddr) -> Result<R::Socket, Error> {
    let refused = |error: io::Error| {
        if is_exhausted(&error) {
            return Error::with(Side::Proxy, Kind::Io, error);
        }
        Error::with(Side::Origin, Kind::Connect, error)
    };
    let socket = socket::connect(address).and_then(R::socket).map_err(refused)?;
    socket.writable().await.map_err(refused)?;
    socket::take_error(&socket).map_err(refused)?;
    Ok(socket)
}

/// TLS over the socket, or the socket as it is.
#[cfg_attr(
    not(feature = "tls"),
    allow(clippy::unused_async, unused_variables, reason = "only TLS has a handshake")
)]
async fn secure<R: Runtime>(
    socket: R::Socket,
    origin: &Origin,
    trust: Option<&Trust>,
) -> Result<Transport<R>, Error> {
    #[cfg(feature = "tls")]
    if let (true, Some(trust)) = (origin.https, trust) {
        let stream = super::tls::TlsStream::handshake(socket, &origin.host, trust).await?;
        return Ok(Transport::Tls(Box::new(stream)));
    }
    if origin.https {
        return Err(Error::with(Side::Proxy, Kind::Tls, "https needs the tls feature"));
    }
    Ok(Transport::Plain(socket))
}
