//! One client connection: read a request head, send the response, log it, and start again.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::parking::Parking;
use crate::downstream::client::Client;
use crate::downstream::rate::Rate;
use crate::downstream::reply::Reply;
use crate::error::{Error, Kind, Side};
use crate::http::fields::Fields;
use crate::http::request::{self, BadMessage, RequestHead};
use crate::observe::access_log::{self, Entry};
use crate::observe::log::RequestLog;
use crate::proxy::exchange::{Context, Exchange};
use crate::proxy::hit::{self, AtOnce, Rest};
use crate::proxy::{incoming, respond};
use crate::rt::{Runtime, Socket, fairness, timeout};
use crate::sys::{clock, socket, would_block};

/// Bytes of a head read at a time.
const HEAD_READ: usize = 16 * 1024;
/// A connection that has been silent for this long holds no buffer, and an incomplete head may be evicted.
pub(super) const BUSY: Duration = Duration::from_secs(1);
/// Time for a client over its connection limit to take the 429.
const REFUSAL_TIME: Duration = Duration::from_millis(250);
/// After a refusal: bytes and time a client may go on sending before the connection is cut, so
/// that it reads the response instead of a reset (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// At a stop: how long a connection may take to send its first request, or the rest of a head.
const LAST_CALL: Duration = Duration::from_millis(500);
/// Pipelined requests of one connection after which others get their turn.
const TURN: usize = 16;
/// Bytes of each part of a refused request line in the log.
const SKETCH: usize = 1024;

/// Why there is no next request.
enum NoRequest {
    /// The client has gone, has been silent for too long, or is evicted.
    Gone,
    /// The head is malformed or too large.
    Refused(BadMessage),
    /// The head was not complete before its deadline.
    Late,
    /// Incomplete heads already take all the memory that they may.
    OutOfMemory,
    /// Too many requests were pipelined.
    TooManyPipelined,
}

/// How the wait for the first bytes of a request ended.
enum Wait {
    /// They are in the client's input.
    Bytes,
    /// Nothing for [`BUSY`]: the connection may be parked.
    Quiet,
    /// The connection is to be closed.
    Closed,
}

/// A connection while it has a task.
pub(super) struct Connection<'a, R: Runtime> {
    context: Rc<Context<R>>,
    parking: &'a Parking,
    pub(super) client: Client<R>,
    /// Bytes at the front of the input that are scanned, of a head that is incomplete.
    scanned: usize,
}

impl<'a, R: Runtime> Connection<'a, R> {
    /// A connection that a worker has accepted.
    pub(super) fn new(
        context: &Rc<Context<R>>,
        parking: &'a Parking,
        socket: R::Socket,
        peer: IpAddr,
    ) -> Self {
        let rate = Rate::new(&context.shared.config.limits, &parking.evictable);
        let client = Client { socket, address: peer, peer: peer.to_string().into(), input: Vec::new(), rate };
        Self { context: Rc::clone(context), parking, client, scanned: 0 }
    }

    /// Serves the connection to its end (false), or until it idles and can be parked (true). `first`: it has had
    /// no request yet. What takes more than one step is boxed, so that a connection that only waits stays small.
    pub(super) async fn serve(&mut self, mut first: bool) -> bool {
        let mut in_a_row: usize = 0;
        loop {
            if self.client.input.is_empty() {
                in_a_row = 0;
                match self.idle(first).await {
                    Wait::Bytes => {}
                    Wait::Quiet => return true,
                    Wait::Closed => return false,
                }
            } else {
                in_a_row += 1;
                if in_a_row.is_multiple_of(TURN) {
                    // A client that always has sent more would never wait for anything.
                    R::yield_now().await;
                }
            }
            let most = self.context.shared.config.limits.pipelined;
            let next = if most.is_some_and(|most| in_a_row >= most) {
                Err(NoRequest::TooManyPipelined)
            } else {
                self.read_head()
            };
            let keep = match next {
                Ok(Some(request)) => {
                    let log = incoming(&self.context, &request);
                    match hit::at_once(&Exchange::new(&self.context, &request, &log), &self.client) {
                        AtOnce::Sent(reply) => self.record(&request, &reply, &log),
                        AtOnce::Begun(rest, reply) => {
                            Box::pin(self.send_rest(request, log, rest, reply)).await
                        }
                        AtOnce::No => Box::pin(self.answer(request, log)).await,
                    }
                }
                Ok(None) => Box::pin(self.answer_later()).await,
                Err(why) => Box::pin(self.refuse_request(why)).await,
            };
            if !keep || (self.client.input.is_empty() && self.parking.is_place_wanted.take()) {
                return false;
            }
            first = false;
        }
    }

    /// Sends the rest of a response that has begun; whether another request may follow.
    async fn send_rest(&self, request: RequestHead, log: RequestLog, rest: Rest, reply: Reply) -> bool {
        let reply = hit::go_on(&self.client, rest, reply).await;
        self.record(&request, &reply, &log)
    }

    /// Answers a request; whether another may follow.
    async fn answer(&mut self, request: RequestHead, log: RequestLog) -> bool {
        let exchange = Exchange::new(&self.context, &request, &log).of(self.client.address);
        let reply = respond(&exchange, &mut self.client).await;
        self.record(&request, &reply, &log);
        let unread = !request.body.is_empty() || !self.client.input.is_empty();
        if !reply.keep && unread && reply.end.is_ok() {
            self.linger().await;
        }
        reply.keep
    }

    /// Waits for the rest of a head, then answers. A connection that stays incomplete is evicted when others
    /// wait for a place, or at a stop.
    async fn answer_later(&mut self) -> bool {
        let (context, parking) = (Rc::clone(&self.context), self.parking);
        let evicted = async {
            R::sleep(BUSY).await;
            parking.evictable.evicted().await;
        };
        let gone = async {
            or(evicted, closing(&context, LAST_CALL)).await;
            Err(NoRequest::Gone)
        };
        match or(self.rest_of_head(), gone).await {
            Ok(request) => {
                let log = incoming(&self.context, &request);
                self.answer(request, log).await
            }
            Err(why) => self.refuse_request(why).await,
        }
    }

    /// Tells the client why its request is refused. No other follows: always false.
    async fn refuse_request(&mut self, why: NoRequest) -> bool {
        let (log, client) = (RequestLog::new(self.context.lines.log()), &self.client);
        let reply = match why {
            NoRequest::Gone => return false,
            NoRequest::Refused(refusal) => {
                log.debug(format_args!("request refused - {}", refusal.as_str()));
                client.send_empty(refusal.status(), false).await
            }
            NoRequest::TooManyPipelined => {
                log.debug(format_args!("request refused - too many in a row"));
                client.send_empty(429, false).await
            }
            NoRequest::OutOfMemory => {
                let error = Error::with(Side::Proxy, Kind::Busy, "no memory for more heads");
                log.debug(format_args!("{error}"));
                client.send_error(&error, false, true).await
            }
            NoRequest::Late => client.send_error(&Error::new(Side::Client, Kind::Timeout), false, true).await,
        };
        let (method, target, version) = request::sketch(&client.input);
        let version = std::str::from_utf8(cut(version)).unwrap_or("-");
        self.write_line((cut(method), cut(target), version), None, &reply, &log);
        self.linger().await;
        false
    }

    /// Refuses the connection of a client that has reached its limit (RFC 6585 section 4).
    pub(super) async fn refuse(&mut self) {
        let peer = self.client.address;
        self.context.shared.log.debug(format_args!("connection refused - too many of {peer}"));
        let refusal = async {
            if self.client.send_empty(429, false).await.end.is_ok() {
                self.linger().await;
            }
        };
        timeout::<R, _>(REFUSAL_TIME, refusal).await.unwrap_or_default();
    }

    /// Reads a head from the front of the input; `None` if it is incomplete.
    fn read_head(&mut self) -> Result<Option<RequestHead>, NoRequest> {
        let (limits, input) = (self.context.shared.config.limits.head(), &mut self.client.input);
        match request::parse(input, &limits, &mut self.scanned) {
            Ok(Some((request, used))) => {
                self.scanned = 0;
                if used == input.len() {
                    self.context.buffers.give_back(std::mem::take(input));
                } else {
                    input.drain(..used);
                }
                Ok(Some(request))
            }
            Ok(None) => Ok(None),
            Err(refusal) => Err(NoRequest::Refused(refusal)),
        }
    }

    /// Waits for the rest of a head, whose time limit starts now.
    async fn rest_of_head(&mut self) -> Result<RequestHead, NoRequest> {
        let context = Rc::clone(&self.context);
        let (limits, mut held) = (&context.shared.config.limits, HeadBytes(&context.head_bytes, 0));
        let reading = async {
            loop {
                if held.set(self.client.input.len()) > limits.head_memory {
                    return Err(NoRequest::OutOfMemory);
                }
                match self.receive() {
                    Ok(1..) => {
                        if let Some(request) = self.read_head()? {
                            return Ok(request);
                        }
                    }
                    Err(error) if would_block(&error) && self.client.socket.readable().await.is_ok() => {}
                    Ok(0) | Err(_) => return Err(NoRequest::Gone),
                }
            }
        };
        timeout::<R, _>(limits.head_time, reading).await.unwrap_or(Err(NoRequest::Late))
    }

    /// Adds what the client has sent to its input.
    fn receive(&mut self) -> io::Result<usize> {
        let mut scratch = self.context.scratch.borrow_mut();
        scratch.resize(HEAD_READ, 0);
        let received = socket::recv(&self.client.socket, &mut scratch)?;
        self.client.input.extend_from_slice(&scratch[..received]);
        Ok(received)
    }

    /// Waits for the first bytes of a request, with a receive buffer at first. A connection that stays quiet returns
    /// its buffer, and is parked; where there is no parking it waits on, and is evicted when others wait for a
    /// place. A stop ends the wait; only a connection that has not had a request yet gets a moment for it.
    async fn idle(&mut self, first: bool) -> Wait {
        let Self { context, parking, client, .. } = self;
        let limit = context.shared.config.limits.idle_time;
        let mut wait = limit.min(BUSY);
        let first_bytes = async {
            loop {
                let (received, buffer) = client.socket.receive(context.buffers.lend(), wait).await;
                match received {
                    Ok(1..) => {
                        client.input = buffer;
                        return Wait::Bytes;
                    }
                    Err(error) if error.kind() == io::ErrorKind::TimedOut && wait < limit => {
                        context.buffers.give_back(buffer);
                        if parking.is_open() {
                            return Wait::Quiet;
                        }
                        wait = limit;
                        let ready = async { client.socket.readable().await.is_ok() };
                        let evicted = async {
                            parking.evictable.evicted().await;
                            false
                        };
                        if timeout::<R, _>(limit - BUSY, or(ready, evicted)).await != Ok(true) {
                            return Wait::Closed;
                        }
                    }
                    Ok(0) | Err(_) => return Wait::Closed,
                }
            }
        };
        let closed = async {
            closing(context, if first { LAST_CALL } else { Duration::ZERO }).await;
            Wait::Closed
        };
        or(first_bytes, closed).await
    }

    /// Ends the sending side, and discards what the client still sends, so that it reads its response. Whether it
    /// ends in time or not, the connection is closed next.
    async fn linger(&mut self) {
        socket::finish_sending(&self.client.socket);
        let drain = async {
            let mut discarded = 0;
            while discarded < LINGER_BYTES {
                self.client.input.clear();
                match self.receive() {
                    Ok(count @ 1..) => discarded += count,
                    Err(error) if would_block(&error) && self.client.socket.readable().await.is_ok() => {}
                    Ok(0) | Err(_) => return,
                }
            }
        };
        timeout::<R, _>(LINGER_TIME, drain).await.unwrap_or_default();
    }

    /// Writes the access line of a request; whether the connection stays open.
    fn record(&self, request: &RequestHead, reply: &Reply, log: &RequestLog) -> bool {
        // A client that has what it wants may leave; that is no error.
        if let Err(error) = &reply.end
            && (error.side, error.kind) != (Side::Client, Kind::Closed)
        {
            log.debug(format_args!("response cut short - {error}"));
        }
        let line = (request.method.as_str().as_bytes(), &*request.target, request.version.as_str());
        self.write_line(line, Some(&request.fields), reply, log);
        fairness::note_response(reply.length.unwrap_or(0));
        reply.keep
    }

    /// Writes an access line for this request line (method, target, version); `fields` if the head was valid.
    fn write_line(
        &self,
        (method, target, version): (&[u8], &[u8], &str),
        fields: Option<&Fields>,
        reply: &Reply,
        log: &RequestLog,
    ) {
        let field = |name| fields.and_then(|fields| fields.get(name));
        let user = field("authorization").and_then(access_log::basic_user);
        let entry = Entry {
            client: &self.client.peer,
            user: user.as_deref(),
            at: clock::unix_secs(),
            method,
            target,
            version: version.strip_prefix("HTTP/").unwrap_or(version),
            status: reply.status,
            content_length: reply.length,
            referer: field("referer"),
            agent: field("user-agent"),
        };
        self.context.lines.access(&entry, log);
    }
}

/// Waits for a stop, and then for this time.
async fn closing<R: Runtime>(context: &Context<R>, last_call: Duration) {
    context.closing.notified().await;
    if !last_call.is_zero() {
        R::sleep(last_call).await;
    }
}

/// A part of a refused request line, for the log.
fn cut(text: &[u8]) -> &[u8] {
    text.get(..SKETCH).unwrap_or(text)
}

/// The bytes of one incomplete head, and their sum over all heads of this worker.
struct HeadBytes<'a>(&'a Cell<usize>, usize);

impl HeadBytes<'_> {
    /// This head has `bytes` now; the new sum.
    fn set(&mut self, bytes: usize) -> usize {
        self.0.set(self.0.get() - self.1 + bytes);
        self.1 = bytes;
        self.0.get()
    }
}

impl Drop for HeadBytes<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}
