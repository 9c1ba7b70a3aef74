//! The origin: connections to it, and exchanges over them. Knows nothing of the cache.

mod addresses;
pub mod body;
pub mod connect;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transport;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, Limits, Origin};
use crate::error::{Error, Kind, Side};
use crate::fd_budget::{Descriptors, OriginUse, Place, Purpose};
use crate::http::request::{HeadLimits, Method};
use crate::http::response::{self, ResponseHead};
use crate::rt::Runtime;
use crate::rt::budget::{Holder, Permit};
use body::OriginBody;
use transport::Transport;

#[cfg(feature = "tls")]
pub use tls::Trust;

/// Interim responses (1xx) ignored before the final one.
const MAX_INTERIM: usize = 16;
/// The least time that a fill waits for a place among the requests to the origin.
const FILL_WAIT: Duration = Duration::from_secs(30);
/// Bytes read from the origin at a time while its head is incomplete: a head and a small body.
const HEAD_READ: usize = 72 * 1024;

/// Without TLS there is nothing to trust.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub struct Trust;

#[cfg(not(feature = "tls"))]
impl Trust {
    /// Always an error.
    pub fn load() -> Result<(Self, Vec<String>), String> {
        Err("this build has no TLS: an https URL needs the feature \"tls\"".to_owned())
    }

    /// Nothing to load.
    pub fn reload(&self) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// One worker's way to the origin, and to the servers it redirects to, with the idle connections.
pub struct Upstream<R: Runtime> {
    /// Where it is.
    pub origin: Arc<Origin>,
    limits: Limits,
    head_limits: HeadLimits,
    trust: Option<Trust>,
    /// It is never asked.
    offline: bool,
    /// To whatever server, those idle for longest first.
    idle: RefCell<Vec<Idle<R>>>,
    /// What a request at the origin needs of them.
    descriptors: Descriptors,
}

/// One connection, between requests or in one.
pub struct Connection<R: Runtime> {
    /// What the bytes go over.
    pub transport: Rc<Transport<R>>,
    /// Bytes received and not consumed yet.
    pub input: Vec<u8>,
    /// It has served a request before, so the origin may be about to close it.
    pub reused: bool,
    /// Bytes may follow on it that belong to no response.
    doubtful: bool,
    /// The server at its other end.
    to: Arc<Origin>,
    /// Held while a request is under way on it.
    place: Option<Place>,
}

/// One that waits for the next request, since when, and what its socket takes.
struct Idle<R: Runtime> {
    since: Instant,
    connection: Connection<R>,
    _socket: Permit,
}

impl<R: Runtime> Upstream<R> {
    /// A way to the configured origin, with a part of these `descriptors`. `trust` is needed for https.
    pub fn new(config: &Config, trust: Option<Trust>, descriptors: Descriptors) -> Self {
        let (origin, limits) = (Arc::new(config.origin.clone()), config.limits.clone());
        let (head_limits, offline, idle) = (limits.head(), config.offline, RefCell::default());
        Self { origin, limits, head_limits, trust, offline, idle, descriptors }
    }

    /// The limits it works under.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sends a server a request without a body and waits for the head of the response. Asks a second
    /// time, on a new connection, when a reused one turns out to be closed (RFC 9112 section 9.3.1).
    pub async fn ask(
        self: &Rc<Self>,
        to: &Arc<Origin>,
        place: Place,
        head: &[u8],
        method: &Method,
    ) -> Result<(ResponseHead, OriginBody<R>), Error> {
        // What may not be repeated is not sent over a connection that may be closing.
        let idle = if method.is_idempotent() { self.idle_connection(to) } else { None };
        let mut connection = match idle {
            Some(idle) => idle,
            None => self.connect(to).await?,
        };
        connection.place = Some(place);
        let mut answer = self.try_once(&mut connection, head, method).await;
        if let Err(error) = &answer
            && connection.reused
            && connection.input.is_empty()
            && error.kind == Kind::Closed
        {
            let place = connection.place.take();
            connection = Connection { place, ..self.connect(to).await? };
            answer = self.try_once(&mut connection, head, method).await;
        }
        let answer = answer?;
        let body = OriginBody::new(self, connection, &answer, method, true)?;
        Ok((answer, body))
    }

    async fn try_once(
        &self,
        connection: &mut Connection<R>,
        head: &[u8],
        method: &Method,
    ) -> Result<ResponseHead, Error> {
        connection.transport.write_all(head, self.limits.stall_time).await?;
        let reading = self.read_head_unbounded(connection, method);
        crate::rt::timeout::<R, _>(self.limits.response_head_time, reading)
            .await
            .map_err(Error::timeout(Side::Origin))?
    }

    /// Waits for a final head; interim ones (1xx) are swallowed. The caller bounds its time.
    pub async fn read_head_unbounded(
        &self,
        connection: &mut Connection<R>,
        method: &Method,
    ) -> Result<ResponseHead, Error> {
        for _ in 0..=MAX_INTERIM {
            let head = self.read_one_head(&connection.transport, &mut connection.input).await?;
            if head.is_interim() {
                connection.doubtful |= !head.is_surely_empty(&Method::Get);
            } else {
                // A bad body length is an error here, before the head is used.
                head.body(method).map_err(|bad| bad_http(bad.as_str()))?;
                return Ok(head);
            }
        }
        Err(bad_http("too many interim answers"))
    }

    async fn read_one_head(
        &self,
        transport: &Transport<R>,
        input: &mut Vec<u8>,
    ) -> Result<ResponseHead, Error> {
        let mut scanned = 0;
        loop {
            let parsed = response::parse(input, &self.head_limits, &mut scanned);
            if let Some((head, used)) = parsed.map_err(|bad| bad_http(bad.as_str()))? {
                input.drain(..used);
                return Ok(head);
            }
            if input.is_empty() {
                transport.expect().await?;
            }
            if transport.read_unbounded(input, HEAD_READ).await? == 0 {
                return Err(Error::new(Side::Origin, Kind::Closed));
            }
        }
    }

    /// An idle connection to that server that still stands.
    fn idle_connection(&self, to: &Arc<Origin>) -> Option<Connection<R>> {
        let serves = |theirs: &Arc<Origin>| Arc::ptr_eq(theirs, to) || theirs.is_same_server(to);
        let mut idle = self.idle.borrow_mut();
        loop {
            // The one that was given back last.
            let at = idle.iter().rposition(|idle| serves(&idle.connection.to))?;
            let found = idle.remove(at);
            if self.is_usable(&found) {
                return Some(found.connection);
            }
        }
    }

    fn is_usable(&self, idle: &Idle<R>) -> bool {
        idle.since.elapsed() < self.limits.origin_idle_time && idle.connection.transport.is_quiet()
    }

    /// A new connection to the origin, for a request of this client that is passed on.
    pub async fn fresh_connection(&self, client: Option<Holder>) -> Result<Connection<R>, Error> {
        let place = Some(self.place(OriginUse::Pass, client).await?);
        Ok(Connection { place, ..self.connect(&self.origin).await? })
    }

    /// A place at the origin for this client, or for nobody.
    pub async fn place(&self, origin_use: OriginUse, client: Option<Holder>) -> Result<Place, Error> {
        if self.offline {
            return Err(Error::new(Side::Origin, Kind::Offline));
        }
        // A short time for the origin's response is no reason to give a fill up that the disk has slowed down.
        let limit = match origin_use {
            OriginUse::Keep => self.limits.response_head_time.max(FILL_WAIT),
            OriginUse::Pass => self.limits.response_head_time,
        };
        let place = crate::rt::timeout::<R, _>(limit, self.descriptors.place(origin_use, client)).await;
        place.map_err(Error::timeout(Side::Proxy))
    }

    async fn connect(&self, to: &Arc<Origin>) -> Result<Connection<R>, Error> {
        let spare = || self.descriptors.try_take(Purpose::Idle, 1);
        let connect = || connect::connect::<R>(to, self.limits.connect_time, self.trust.as_ref(), spare);
        let mut connected = connect().await;
        if matches!(&connected, Err(error) if error.side == Side::Proxy && error.kind == Kind::Io) {
            // The system has no descriptor left: once more without what is open for speed only.
            self.descriptors.exhausted::<R>().await;
            connected = connect().await;
        }
        let (transport, to) = (Rc::new(connected?), Arc::clone(to));
        Ok(Connection { transport, input: Vec::new(), reused: false, doubtful: false, to, place: None })
    }

    /// Keeps a connection whose last response has been read to its end.
    pub fn give_back(&self, mut connection: Connection<R>) {
        if connection.input.is_empty() {
            connection.reused = true;
            connection.input = Vec::new();
            connection.place = None;
            let mut idle = self.idle.borrow_mut();
            if idle.len() >= self.limits.idle_origin_connections && !idle.is_empty() {
                idle.remove(0);
            }
            let since = Instant::now();
            let socket = self.descriptors.try_take(Purpose::Idle, 1);
            idle.extend(socket.map(|_socket| Idle { since, connection, _socket }));
        }
    }

    /// Closes all that are idle.
    pub fn clear(&self) {
        drop(self.idle.take());
    }

    /// Closes what has been idle for too long.
    pub fn prune(&self) {
        self.idle.borrow_mut().retain(|idle| self.is_usable(idle));
    }
}

fn bad_http(what: &str) -> Error {
    Error::with(Side::Origin, Kind::Protocol, what)
}
