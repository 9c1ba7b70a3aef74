//! One client connection: read a head, answer it, log it, and again.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::parking::Parking;
use crate::config::Limits;
use crate::downstream::client::Client;
use crate::downstream::rate::Rate;
use crate::downstream::reply::Reply;
use crate::error::{Error, Kind, Side};
use crate::http::request::{self, BadMessage, HeadLimits, RequestHead};
use crate::observe::access_log::{self, Entry};
use crate::observe::log::RequestLog;
use crate::proxy::exchange::{Context, Exchange};
use crate::proxy::hit::{self, AtOnce, Rest};
use crate::proxy::{incoming, respond};
use crate::rt::{Runtime, Socket, fairness, timeout};
use crate::sys::{clock, socket, would_block};

/// Bytes of a head read at a time.
const HEAD_READ: usize = 16 * 1024;
/// A connection that has been silent for so long holds no buffer, and one without a whole head gives way.
pub(super) const BUSY: Duration = Duration::from_secs(1);
/// A client that has all the connections it may have is told so, and given so long to take it.
const REFUSAL_TIME: Duration = Duration::from_millis(250);
/// After a refusal: bytes and time a client may go on sending before the connection is cut, so
/// that it reads the answer instead of a reset (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// At a stop: how long a connection may take to send its first request, or the rest of a head.
const LAST_CALL: Duration = Duration::from_millis(500);
/// Requests of one connection after which others get their turn.
const TURN: usize = 16;
/// How long the first line of a refused head may get in the log.
const SKETCH: usize = 1024;

/// Why there is no next request.
enum NoRequest {
    /// The client has gone, or has been silent for too long.
    Gone,
    /// What it sent is refused.
    Refused(BadMessage),
    /// The head did not come in time.
    Late,
    /// Heads that are not complete take all the memory they may.
    Crowded,
    /// So many came before the answers to those before them.
    Hasty,
}

/// How a wait for a request ended.
enum Waited {
    /// Its first bytes are there.
    Bytes,
    /// Nothing came for a while, and the connection may be parked.
    Quiet,
}

/// What the bytes that have come amount to.
enum Input {
    /// A request.
    Request(RequestHead),
    /// Incomplete head; bytes already scanned.
    Partial(usize),
    /// No request.
    None(NoRequest),
}

/// Serves a connection to its end; or, where it can be parked, until it idles: then its socket comes back.
/// It is `fresh` before its first request. What takes more than one step is boxed, so that a
/// connection that only waits stays small.
pub(super) async fn serve<R: Runtime>(
    context: Rc<Context<R>>,
    socket: R::Socket,
    peer: IpAddr,
    fresh: bool,
    parking: &Parking,
) -> Option<R::Socket> {
    let limits = &context.shared.config.limits;
    let mut client = client(socket, peer, limits);
    let mut first = fresh;
    let mut in_a_row: usize = 0;
    loop {
        if client.input.is_empty() {
            in_a_row = 0;
            match idle(&context, &mut client, first, parking).await {
                Ok(Waited::Bytes) => {}
                Ok(Waited::Quiet) => return Some(client.socket),
                Err(_) => return None,
            }
        } else {
            in_a_row += 1;
            if in_a_row.is_multiple_of(TURN) {
                // One that has always sent more already would never wait for anything.
                R::yield_now().await;
            }
        }
        let hasty = limits.pipelined.is_some_and(|most| in_a_row >= most);
        let next = if hasty { Input::None(NoRequest::Hasty) } else { read_head(&context, &mut client, 0) };
        let goes_on = match next {
            Input::Request(request) => {
                let log = incoming(&context, &request);
                match hit::at_once(&Exchange::new(&context, &request, &log), &client) {
                    AtOnce::Sent(reply) => {
                        record(&context, &client, &request, &reply, &log);
                        reply.keep
                    }
                    AtOnce::Begun(rest, reply) => {
                        Box::pin(go_on(&context, &client, request, log, rest, reply)).await
                    }
                    AtOnce::No => Box::pin(answer(&context, &mut client, request, log)).await,
                }
            }
            Input::Partial(scanned) => Box::pin(answer_later(&context, &mut client, scanned, parking)).await,
            Input::None(why) => Box::pin(end(&context, &client, why)).await,
        };
        if !goes_on || (client.input.is_empty() && parking.is_place_wanted()) {
            return None;
        }
        first = false;
    }
}

/// Goes on with an answer that has begun; whether another request may follow.
async fn go_on<R: Runtime>(
    context: &Rc<Context<R>>,
    client: &Client<R>,
    request: RequestHead,
    log: RequestLog,
    rest: Rest,
    reply: Reply,
) -> bool {
    let reply = hit::go_on(client, rest, reply).await;
    record(context, client, &request, &reply, &log);
    reply.keep
}

/// Answers a request; whether another may follow.
async fn answer<R: Runtime>(
    context: &Rc<Context<R>>,
    client: &mut Client<R>,
    request: RequestHead,
    log: RequestLog,
) -> bool {
    let exchange = Exchange::new(context, &request, &log).of(client.address);
    let reply = respond(&exchange, client).await;
    record(context, client, &request, &reply, &log);
    if !reply.keep {
        let unread = !request.body.is_empty();
        let linger = reply.end.is_ok() && (unread || !client.input.is_empty());
        finish(context, client, linger).await;
    }
    reply.keep
}

/// Waits for the rest of a head, then answers. One that has not come after a moment may never come: it
/// gives way to somebody who waits for a place, and to a stop.
async fn answer_later<R: Runtime>(
    context: &Rc<Context<R>>,
    client: &mut Client<R>,
    scanned: usize,
    parking: &Parking,
) -> bool {
    let giving_way = async {
        R::sleep(BUSY).await;
        parking.told_to_go().await;
    };
    let closing = async {
        context.closing.notified().await;
        R::sleep(LAST_CALL).await;
    };
    let given_up = async {
        or(giving_way, closing).await;
        Err(NoRequest::Gone)
    };
    match or(rest_of_head(context, client, scanned), given_up).await {
        Ok(request) => {
            let log = incoming(context, &request);
            answer(context, client, request, log).await
        }
        Err(why) => end(context, client, why).await,
    }
}

/// The end of a connection that has no next request: never does another follow.
async fn end<R: Runtime>(context: &Rc<Context<R>>, client: &Client<R>, why: NoRequest) -> bool {
    let log = RequestLog::new(context.lines.log());
    let reply = match why {
        NoRequest::Gone => return false,
        NoRequest::Refused(refusal) => {
            log.debug(format_args!("request refused - {}", refusal.as_str()));
            client.send_empty(refusal.status(), false).await
        }
        NoRequest::Hasty => {
            log.debug(format_args!("request refused - too many in a row"));
            client.send_empty(429, false).await
        }
        NoRequest::Crowded => {
            let error = Error::with(Side::Proxy, Kind::Busy, "no memory for more heads");
            log.debug(format_args!("{error}"));
            client.send_error(&error, false, true).await
        }
        NoRequest::Late => client.send_error(&Error::new(Side::Client, Kind::Timeout), false, true).await,
    };
    record_refused(context, client, &reply, &log);
    finish(context, client, true).await;
    false
}

fn client<R: Runtime>(socket: R::Socket, address: IpAddr, limits: &Limits) -> Client<R> {
    let peer = address.to_string().into_boxed_str();
    Client { socket, address, peer, input: Vec::new(), rate: Rate::new(limits) }
}

/// Refuses a connection of a client that has all it may have (RFC 6585 section 4).
pub async fn refuse<R: Runtime>(context: Rc<Context<R>>, socket: R::Socket, peer: IpAddr) {
    context.shared.log.debug(format_args!("connection refused - too many of {peer}"));
    let client = client::<R>(socket, peer, &context.shared.config.limits);
    let told = async {
        if client.send_empty(429, false).await.end.is_ok() {
            finish(&context, &client, true).await;
        }
    };
    timeout::<R, _>(REFUSAL_TIME, told).await.unwrap_or_default();
}

/// Reads a head from the front of what has come; so far has it been looked at.
fn read_head<R: Runtime>(context: &Context<R>, client: &mut Client<R>, mut scanned: usize) -> Input {
    let limits = head_limits(context);
    match request::parse(&client.input, &limits, &mut scanned) {
        Ok(Some((request, used))) if used == client.input.len() => {
            context.buffers.give_back(std::mem::take(&mut client.input));
            Input::Request(request)
        }
        Ok(Some((request, used))) => {
            client.input.drain(..used);
            Input::Request(request)
        }
        Ok(None) => Input::Partial(scanned),
        Err(refusal) => Input::None(NoRequest::Refused(refusal)),
    }
}

fn head_limits<R: Runtime>(context: &Context<R>) -> HeadLimits {
    let limits = &context.shared.config.limits;
    HeadLimits { bytes: limits.head_bytes, fields: limits.head_fields, target: limits.target_bytes }
}

/// Waits for the rest of a head that has begun; its time has begun too.
async fn rest_of_head<R: Runtime>(
    context: &Context<R>,
    client: &mut Client<R>,
    mut scanned: usize,
) -> Result<RequestHead, NoRequest> {
    let (most, mut held) = (context.shared.config.limits.head_memory, Held(&context.head_bytes, 0));
    let reading = async {
        loop {
            if held.reaches(client.input.len(), most) {
                return Err(NoRequest::Crowded);
            }
            match receive(context, client) {
                Ok(1..) => match read_head(context, client, scanned) {
                    Input::Request(request) => return Ok(request),
                    Input::Partial(upto) => scanned = upto,
                    Input::None(why) => return Err(why),
                },
                Err(error) if would_block(&error) && client.socket.readable().await.is_ok() => {}
                Ok(0) | Err(_) => return Err(NoRequest::Gone),
            }
        }
    };
    let limit = context.shared.config.limits.head_time;
    timeout::<R, _>(limit, reading).await.unwrap_or(Err(NoRequest::Late))
}

/// The bytes of one incomplete head, among those of all on this worker.
struct Held<'a>(&'a Cell<usize>, usize);

impl Held<'_> {
    /// There are so many now. Is that too much for all of them?
    fn reaches(&mut self, bytes: usize, most: usize) -> bool {
        self.0.set(self.0.get() - self.1 + bytes);
        self.1 = bytes;
        self.0.get() > most
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - self.1);
    }
}

/// Adds what the client has sent to its input.
fn receive<R: Runtime>(context: &Context<R>, client: &mut Client<R>) -> io::Result<usize> {
    let mut scratch = context.scratch.borrow_mut();
    scratch.resize(HEAD_READ, 0);
    let received = socket::recv(&client.socket, &mut scratch)?;
    client.input.extend_from_slice(&scratch[..received]);
    Ok(received)
}

/// Waits for the first bytes of a request. A stop ends that at once; only a connection that has
/// not had a request yet gets a moment for it.
async fn idle<R: Runtime>(
    context: &Context<R>,
    client: &mut Client<R>,
    first: bool,
    parking: &Parking,
) -> Result<Waited, NoRequest> {
    let closing = async {
        context.closing.notified().await;
        if first {
            R::sleep(LAST_CALL).await;
        }
        Err(NoRequest::Gone)
    };
    or(first_bytes(context, client, parking), closing).await
}

/// Waits for them, at first with a buffer to receive them in. One that idles for longer gives its
/// buffer back, and is parked if it may be.
async fn first_bytes<R: Runtime>(
    context: &Context<R>,
    client: &mut Client<R>,
    parking: &Parking,
) -> Result<Waited, NoRequest> {
    let limit = context.shared.config.limits.idle_time;
    let mut patience = limit.min(BUSY);
    loop {
        let (received, buffer) = client.socket.receive(context.buffers.lend(), patience).await;
        match received {
            Ok(1..) => {
                client.input = buffer;
                return Ok(Waited::Bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut && patience < limit => {
                context.buffers.give_back(buffer);
                if parking.is_open() {
                    return Ok(Waited::Quiet);
                }
                patience = limit;
                unparked(client, parking, limit - BUSY).await?;
            }
            Ok(0) | Err(_) => return Err(NoRequest::Gone),
        }
    }
}

/// Waits in place for the first bytes, where there is no parking. One that idles so gives way to somebody
/// who waits for a place.
async fn unparked<R: Runtime>(
    client: &Client<R>,
    parking: &Parking,
    limit: Duration,
) -> Result<(), NoRequest> {
    let told = async {
        parking.told_to_go().await;
        Err(NoRequest::Gone)
    };
    let ready = async { client.socket.readable().await.map_err(|_| NoRequest::Gone) };
    timeout::<R, _>(limit, or(ready, told)).await.unwrap_or(Err(NoRequest::Gone))
}

/// The end of a connection. `linger` lets the client read its answer although it was still sending.
async fn finish<R: Runtime>(context: &Context<R>, client: &Client<R>, linger: bool) {
    if !linger {
        return;
    }
    socket::finish_sending(&client.socket);
    let drain = async {
        let mut taken = 0;
        while taken < LINGER_BYTES {
            // Without room nothing could be received, which would look like the end.
            let received = {
                let mut scratch = context.scratch.borrow_mut();
                scratch.resize(HEAD_READ, 0);
                socket::recv(&client.socket, &mut scratch)
            };
            match received {
                Ok(0) => return,
                Ok(count) => taken += count,
                Err(error) if would_block(&error) && client.socket.readable().await.is_ok() => {}
                Err(_) => return,
            }
        }
    };
    // In time or not, the connection is closed now.
    timeout::<R, _>(LINGER_TIME, drain).await.unwrap_or_default();
}

fn record<R: Runtime>(
    context: &Context<R>,
    client: &Client<R>,
    request: &RequestHead,
    reply: &Reply,
    log: &RequestLog,
) {
    // A client that has what it wants may leave; that is no error.
    let left = |error: &&Error| (error.side, error.kind) == (Side::Client, Kind::Closed);
    if let Some(error) = reply.end.as_ref().err().filter(|error| !left(error)) {
        log.debug(format_args!("response cut short - {error}"));
    }
    let user = request.fields.get("authorization").and_then(access_log::basic_user);
    let entry = Entry {
        client: &client.peer,
        user: user.as_deref(),
        at: clock::unix_secs(),
        method: request.method.as_str().as_bytes(),
        target: &request.target,
        version: number_of(request.version.as_str()),
        status: reply.status,
        content_length: reply.length,
        referer: request.fields.get("referer"),
        agent: request.fields.get("user-agent"),
    };
    context.lines.access(&entry, log);
    fairness::note_response(reply.length.unwrap_or(0));
}

/// The line of a request that never became one.
fn record_refused<R: Runtime>(context: &Context<R>, client: &Client<R>, reply: &Reply, log: &RequestLog) {
    let (method, target, version) = request::sketch(&client.input);
    let cut = |text: &'_ [u8]| text[..text.len().min(SKETCH)].to_vec();
    let (method, target, version) = (cut(method), cut(target), cut(version));
    let entry = Entry {
        client: &client.peer,
        user: None,
        at: clock::unix_secs(),
        method: &method,
        target: &target,
        version: number_of(std::str::from_utf8(&version).unwrap_or("-")),
        status: reply.status,
        content_length: reply.length,
        referer: None,
        agent: None,
    };
    context.lines.access(&entry, log);
}

/// `1.1` of `HTTP/1.1`.
fn number_of(version: &str) -> &str {
    version.strip_prefix("HTTP/").unwrap_or(version)
}
