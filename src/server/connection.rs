//! One client connection: read a head, answer it, log it, and again.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use futures_lite::future::or;

use crate::error::{Error, Kind, Side};
use crate::http::request::{self, HeadLimits, Refusal, RequestBody, RequestHead};
use crate::observe::access_log::{self, Entry};
use crate::observe::log::RequestLog;
use crate::rt::{Runtime, Socket, TimedOut, timeout};
use crate::serve::client::Client;
use crate::serve::{Context, Exchange, Reply, respond};
use crate::sys::{socket, would_block};

/// Bytes of a head read at a time.
const HEAD_READ: usize = 16 * 1024;
/// After a refusal: bytes and time a client may go on sending before the connection is cut, so
/// that it reads the answer instead of a reset (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// At a stop: how long a connection may take to send its first request.
const LAST_CALL: Duration = Duration::from_millis(500);
/// Requests of one connection after which others get their turn.
const TURN: u32 = 16;
/// How long the first line of a refused head may get in the log.
const SKETCH: usize = 1024;

/// Why there is no next request.
enum NoRequest {
    /// The client has gone, or has been silent for too long.
    Gone,
    /// What it sent is refused.
    Refused(Refusal),
    /// The head did not come in time.
    Late,
}

/// Serves a connection to its end.
pub async fn serve<R: Runtime>(context: Rc<Context<R>>, socket: R::Socket, peer: IpAddr) {
    let stall_time = context.shared.config.limits.stall_time;
    let mut client = Client::<R> { socket, peer, input: Vec::new(), stall_time };
    let mut first = true;
    let mut served: u32 = 0;
    loop {
        let log_to = &context.shared.log;
        match next_request(&context, &mut client, first).await {
            Ok(request) => {
                first = false;
                served = served.wrapping_add(1);
                if served.is_multiple_of(TURN) {
                    // One that has always sent more already would never wait for anything.
                    R::turn().await;
                }
                let log = RequestLog::new(log_to);
                let exchange = Exchange { context: &context, request: &request, log: &log };
                let reply = Box::pin(respond(&exchange, &mut client)).await;
                record(&client, &request, &reply, &log);
                if !reply.keep {
                    let unread = !matches!(request.body, RequestBody::None | RequestBody::Length(0));
                    let linger = reply.end.is_ok() && (unread || !client.input.is_empty());
                    return finish(&context, &client, linger).await;
                }
            }
            Err(NoRequest::Gone) => return,
            Err(NoRequest::Refused(refusal)) => {
                let reply = client.send_empty(refusal.status(), false).await;
                let log = RequestLog::new(log_to);
                log.debug(format_args!("request refused - {}", refusal.as_str()));
                record_refused(&client, &reply, &log);
                return finish(&context, &client, true).await;
            }
            Err(NoRequest::Late) => {
                let reply = client.send_error(&Error::new(Side::Client, Kind::Timeout), false, true).await;
                record_refused(&client, &reply, &RequestLog::new(log_to));
                return finish(&context, &client, true).await;
            }
        }
    }
}

/// The next head, parsed. An idle connection holds no buffer.
async fn next_request<R: Runtime>(
    context: &Context<R>,
    client: &mut Client<R>,
    first: bool,
) -> Result<RequestHead, NoRequest> {
    let limits = &context.shared.config.limits;
    let head_limits =
        HeadLimits { bytes: limits.head_bytes, fields: limits.head_fields, target: limits.target_bytes };
    let mut scanned = 0;
    let mut deadline = None;
    loop {
        if !client.input.is_empty() {
            deadline.get_or_insert_with(|| Instant::now() + limits.head_time);
            match request::parse(&client.input, &head_limits, &mut scanned) {
                Ok(Some((request, used))) => {
                    client.input.drain(..used);
                    return Ok(request);
                }
                Ok(None) => {}
                Err(refusal) => return Err(NoRequest::Refused(refusal)),
            }
        }
        match receive(context, client) {
            Ok(1..) => continue,
            Err(error) if would_block(&error) => {}
            Ok(0) | Err(_) => return Err(NoRequest::Gone),
        }
        match deadline {
            None => idle(context, client, first).await?,
            Some(deadline) => {
                let limit = deadline.saturating_duration_since(Instant::now());
                match timeout::<R, _>(limit, client.socket.readable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(NoRequest::Gone),
                    Err(TimedOut) => return Err(NoRequest::Late),
                }
            }
        }
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

/// Waits for the first byte of a request. A stop ends that at once; only a connection that has
/// not had a request yet gets a moment for it.
async fn idle<R: Runtime>(
    context: &Context<R>,
    client: &mut Client<R>,
    first: bool,
) -> Result<(), NoRequest> {
    client.input = Vec::new();
    let readable = async {
        match client.socket.readable().await {
            Ok(()) => Ok(()),
            Err(_) => Err(NoRequest::Gone),
        }
    };
    let closing = async {
        context.closing.heard().await;
        if !first {
            return Err(NoRequest::Gone);
        }
        R::sleep(LAST_CALL).await;
        Err(NoRequest::Gone)
    };
    let limit = context.shared.config.limits.idle_time;
    timeout::<R, _>(limit, or(readable, closing)).await.unwrap_or(Err(NoRequest::Gone))
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
            let received = socket::recv(&client.socket, &mut context.scratch.borrow_mut());
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

fn record<R: Runtime>(client: &Client<R>, request: &RequestHead, reply: &Reply, log: &RequestLog) {
    // A client that has what it wants may leave; that is no error.
    let left = |error: &&Error| (error.side, error.kind) == (Side::Client, Kind::Closed);
    if let Some(error) = reply.end.as_ref().err().filter(|error| !left(error)) {
        log.debug(format_args!("response cut short - {error}"));
    }
    let user = request.fields.get("authorization").and_then(access_log::basic_user);
    write_line(
        log,
        &Entry {
            client: client.peer,
            user: user.as_deref(),
            at: SystemTime::now(),
            method: request.method.as_str().as_bytes(),
            target: &request.target,
            version: number_of(request.version.as_str()),
            status: reply.status,
            content_length: reply.length,
            referer: request.fields.get("referer"),
            agent: request.fields.get("user-agent"),
        },
    );
}

/// The line of a request that never became one.
fn record_refused<R: Runtime>(client: &Client<R>, reply: &Reply, log: &RequestLog) {
    let (method, target, version) = request::sketch(&client.input);
    let cut = |text: &'_ [u8]| text[..text.len().min(SKETCH)].to_vec();
    let (method, target, version) = (cut(method), cut(target), cut(version));
    write_line(
        log,
        &Entry {
            client: client.peer,
            user: None,
            at: SystemTime::now(),
            method: &method,
            target: &target,
            version: number_of(std::str::from_utf8(&version).unwrap_or("-")),
            status: reply.status,
            content_length: reply.length,
            referer: None,
            agent: None,
        },
    );
}

/// `1.1` of `HTTP/1.1`.
fn number_of(version: &str) -> &str {
    version.strip_prefix("HTTP/").unwrap_or(version)
}

fn write_line(log: &RequestLog, entry: &Entry<'_>) {
    let mut line = Vec::with_capacity(256);
    access_log::format(entry, &mut line);
    log.access(&line);
}
