//! One client connection: read a head, answer it, log it, and again.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crate::config::Limits;
use crate::error::{Error, Kind, Side};
use crate::http::request::{self, HeadLimits, Refusal, RequestHead};
use crate::observe::access_log::{self, Entry};
use crate::observe::log::RequestLog;
use crate::rt::{Runtime, Socket, timeout};
use crate::serve::client::Client;
use crate::serve::{Context, Exchange, Reply, respond};
use crate::sys::{socket, would_block};

/// Bytes of a head read at a time.
const HEAD_READ: usize = 16 * 1024;
/// After a refusal: bytes and time a client may go on sending before the connection is cut, so
/// that it reads the answer instead of a reset (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
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
    let limits = &context.shared.config.limits;
    let mut client = Client::<R> { socket, peer, input: Vec::new(), stall_time: limits.stall_time };
    loop {
        let log_to = &context.shared.log;
        match next_request(&context, &mut client, limits).await {
            Ok(request) => {
                let log = RequestLog::new(log_to);
                let exchange = Exchange { context: &context, request: &request, log: &log };
                let reply = Box::pin(respond(&exchange, &mut client)).await;
                record(&client, &request, &reply, &log);
                if !reply.keep {
                    let left =
                        !client.input.is_empty() || !matches!(request.body, request::RequestBody::None);
                    return finish::<R>(&client, reply.end.is_ok() && left).await;
                }
            }
            Err(NoRequest::Gone) => return,
            Err(NoRequest::Refused(refusal)) => {
                let reply = client.send_empty(refusal.status(), false).await;
                let log = RequestLog::new(log_to);
                log.debug(format_args!("request refused - {}", refusal.as_str()));
                record_refused(&client, &reply, &log);
                return finish::<R>(&client, true).await;
            }
            Err(NoRequest::Late) => {
                let reply = client.send_error(&Error::new(Side::Client, Kind::Timeout), false, true).await;
                record_refused(&client, &reply, &RequestLog::new(log_to));
                return finish::<R>(&client, true).await;
            }
        }
    }
}

/// The next head, parsed. An idle connection holds no buffer.
async fn next_request<R: Runtime>(
    context: &Context<R>,
    client: &mut Client<R>,
    limits: &Limits,
) -> Result<RequestHead, NoRequest> {
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
        } else if context.shared.stopping.load(Ordering::Relaxed) {
            return Err(NoRequest::Gone);
        } else {
            client.input = Vec::new();
        }
        let limit = deadline.map_or(limits.idle_time, |at| at.saturating_duration_since(Instant::now()));
        match receive(context, client, limit).await {
            Ok(0) => return Err(NoRequest::Gone),
            Ok(_) => {}
            Err(error) if error.kind == Kind::Timeout && deadline.is_some() => {
                return Err(NoRequest::Late);
            }
            Err(_) => return Err(NoRequest::Gone),
        }
    }
}

/// Adds what the client sends to its input.
async fn receive<R: Runtime>(
    context: &Context<R>,
    client: &mut Client<R>,
    limit: Duration,
) -> Result<usize, Error> {
    loop {
        let received = {
            let mut scratch = context.scratch.borrow_mut();
            scratch.resize(HEAD_READ, 0);
            let received = socket::recv(&client.socket, &mut scratch);
            client.input.extend_from_slice(&scratch[..*received.as_ref().unwrap_or(&0)]);
            received
        };
        match received {
            Err(error) if would_block(&error) => {
                let ready = timeout::<R, _>(limit, client.socket.readable()).await;
                ready
                    .map_err(Error::timeout(Side::Client))?
                    .map_err(|error| Error::io(Side::Client, &error))?;
            }
            result => return result.map_err(|error| Error::io(Side::Client, &error)),
        }
    }
}

/// The end of a connection. `linger` lets the client read its answer although it was still sending.
async fn finish<R: Runtime>(client: &Client<R>, linger: bool) {
    if !linger {
        return;
    }
    socket::finish_sending(&client.socket);
    let drain = async {
        let mut sink = [0; 4096];
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match socket::recv(&client.socket, &mut sink) {
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
    if let Err(error) = &reply.end {
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
    let cut = |text| &<[u8]>::get(text, ..SKETCH).unwrap_or(text)[..];
    write_line(
        log,
        &Entry {
            client: client.peer,
            user: None,
            at: SystemTime::now(),
            method: cut(method),
            target: cut(target),
            version: number_of(std::str::from_utf8(cut(version)).unwrap_or("-")),
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
