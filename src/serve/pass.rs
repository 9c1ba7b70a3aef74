//! What is not kept: the request goes to the origin and the answer to the client, both streamed.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::client::{Client, Out};
use super::kept::invalidate;
use super::redirect::{self, Follow};
use super::upload::{self, Sent};
use super::{Exchange, Reply, form, head, splice};
use crate::error::{Error, Kind, Side};
use crate::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::http::request::{Method, Version};
use crate::http::response::{HeadWriter, ResponseBody, ResponseHead};
use crate::outcome::{Outcome, Why};
use crate::rt::{Runtime, share};
use crate::sys::socket;
use crate::upstream::Connection;
use crate::upstream::body::OriginBody;

/// What a client hears that asked to be told before it sends its body (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Passes the request on.
pub async fn run<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, why: Why) -> Reply {
    exchange.outcome.set(Some(Outcome::Pass(why)));
    if !matches!(why, Why::Method | Why::NoMatch | Why::HeadOnMiss) {
        exchange.log.debug(format_args!("not cached - {}", why.as_str()));
    }
    if head::has_looped(exchange.request) {
        return looped(exchange, client).await;
    }
    if exchange.request.forwards_left() == Some(0) {
        return last(exchange, client).await;
    }
    exchange.log.debug(format_args!("request will be proxied with no caching"));
    let answered = if exchange.request.body.is_empty() {
        bodiless(exchange, client, why).await
    } else {
        with_body(exchange, client).await
    };
    match answered {
        Ok(reply) => reply,
        // The client broke off or broke the rules in its own body.
        Err(error) if error.side == Side::Client => client.send_empty(error.status(), false).await,
        Err(error) => {
            exchange.log.debug(format_args!("error with proxy request {error}"));
            let keep = exchange.keep() && error.side == Side::Origin;
            client.send_error(&error, keep, exchange.request.method != Method::Head).await
        }
    }
}

/// Ends a loop: the way to the origin leads back here (RFC 5842 section 7.2).
pub async fn looped<R: Runtime>(exchange: &Exchange<'_, R>, client: &Client<R>) -> Reply {
    let error = Error::new(Side::Us, Kind::Loop);
    exchange.log.debug(format_args!("error with proxy request {error}"));
    client.send_error(&error, exchange.keep(), exchange.request.method != Method::Head).await
}

/// Answers a request that may be forwarded no more (RFC 9110 section 7.6.2). What came with it is not told back: a
/// TRACE would show a page's script what it may not see (section 9.3.8).
async fn last<R: Runtime>(exchange: &Exchange<'_, R>, client: &Client<R>) -> Reply {
    exchange.log.debug(format_args!("answered here - Max-Forwards is 0"));
    let status = if exchange.request.method.as_str() == "TRACE" { 501 } else { 200 };
    client.send_empty(status, exchange.keep() && exchange.request.body.is_empty()).await
}

async fn bodiless<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    why: Why,
) -> Result<Reply, Error> {
    let asked = head::pass_request(&exchange.context.upstream.origin, exchange.request);
    // Of what is no file of ours, or was asked by ourselves, the asker follows the redirects.
    let follow = if matches!(why, Why::NoMatch | Why::Returned) { Follow::Never } else { Follow::Maybe };
    let (answer, body) = redirect::ask(exchange, client.hung_up(), &asked, follow).await?;
    invalidate::note(exchange, &answer).await;
    Ok(relay(exchange, &client.out(), answer, body, exchange.keep()).await)
}

/// A request with a body: both bodies may stream at once.
async fn with_body<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>) -> Result<Reply, Error> {
    let (upstream, request) = (&exchange.context.upstream, exchange.request);
    // A reused connection may be closed under a body that cannot be sent twice.
    let connection = upstream.fresh_connection().await?;
    let transport = Rc::clone(&connection.transport);
    transport
        .write_all(&head::pass_request(&upstream.origin, request).head(), client.rate.stall_time)
        .await?;
    if request.expects_continue() && client.input.is_empty() {
        client.out().send(CONTINUE).await?;
    }
    let Client { socket, input, rate, .. } = client;
    let given = rate.anew();
    let upload = Upload::default();
    let sending = async {
        let sent = upload::run::<R>(request.body, input, socket, &transport, &given).await;
        upload.whole.set(sent.is_ok());
        upload.overtaken.set(matches!(sent, Ok(Sent::Overtaken)));
        upload.ended.set(Some(Instant::now()));
        sent.map(drop)
    };
    let out = Out::new(socket, rate);
    let mut answering = pin!(answer_to_upload(exchange, &out, connection, &upload));
    let first = or(async { First::Sent(sending.await) }, async { First::Answered(answering.as_mut().await) });
    let reply = match first.await {
        First::Answered(reply) => reply,
        // The client broke its request off before anyone answered it.
        First::Sent(Err(error)) if error.side == Side::Client && !upload.answered.get() => Err(error),
        // Whatever became of the request: an answer that has begun goes on, and an origin that
        // stopped reading may have sent one.
        First::Sent(_) => answering.await,
    };
    reply.map(|reply| Reply { keep: reply.keep && upload.whole.get(), ..reply })
}

enum First {
    Sent(Result<(), Error>),
    Answered(Result<Reply, Error>),
}

/// How far a request's body and the answer to it are.
#[derive(Default)]
struct Upload {
    /// When the sending ended, in whatever way.
    ended: Cell<Option<Instant>>,
    /// The origin has all of it.
    whole: Cell<bool>,
    /// The origin had answered before it had all of it.
    overtaken: Cell<bool>,
    /// The client has got the beginning of an answer.
    answered: Cell<bool>,
}

impl Upload {
    /// Waits until the answer has had its time, which begins when the request has been sent.
    async fn overdue<R: Runtime>(&self, limit: Duration) -> Error {
        loop {
            let left = self.ended.get().map_or(limit, |at| limit.saturating_sub(at.elapsed()));
            if left.is_zero() {
                return Error::new(Side::Origin, Kind::Timeout);
            }
            R::sleep(left).await;
        }
    }
}

/// Waits for the answer, however long the request takes, and relays it.
async fn answer_to_upload<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    mut connection: Connection<R>,
    upload: &Upload,
) -> Result<Reply, Error> {
    let (upstream, request) = (&exchange.context.upstream, exchange.request);
    let head = upstream.read_head_unbounded(&mut connection, &request.method);
    let overdue = async { Err(upload.overdue::<R>(upstream.limits().response_head_time).await) };
    let mut answer = or(head, overdue).await?;
    // An origin that answers early may take what is still to come for the rest of this request.
    let reusable = upload.whole.get() && !upload.overtaken.get();
    let body = OriginBody::new(upstream, connection, &answer, &request.method, reusable)?;
    upload.answered.set(true);
    invalidate::note(exchange, &answer).await;
    let target = upstream.origin.target(&form::own(request));
    redirect::adapt(exchange.context, &target, &mut answer);
    let keep = request.keep_alive() && upload.whole.get() && !exchange.context.shared.stop.is_asked();
    Ok(relay(exchange, out, answer, body, keep).await)
}

/// Passes on an answer that was asked for to be kept. A client that reads slowly must not hold one of the places
/// for such answers: where so many are passed on already, it is asked for again in its turn.
pub async fn hand_on<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    answer: ResponseHead,
    mut body: OriginBody<R>,
) -> Reply {
    if body.try_pass() {
        return relay(exchange, &client.out(), answer, body, exchange.keep()).await;
    }
    drop(body);
    let why = if let Some(Outcome::Pass(why)) = exchange.outcome.get() { why } else { Why::NoUse };
    run(exchange, client, why).await
}

/// The head of an answer to a GET, for a client that has asked for no more.
pub async fn head_of<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    answer: &ResponseHead,
) -> Reply {
    let keep = exchange.keep();
    let (described, length) = describe(answer, ResponseBody::None, false);
    let sent = client.out().send(&exchange.finish(described, keep)).await;
    Reply::ended(answer.status, length, keep, sent)
}

/// Sends the origin's answer to the client as it comes.
pub async fn relay<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    answer: ResponseHead,
    mut body: OriginBody<R>,
    keep: bool,
) -> Reply {
    let request = exchange.request;
    let framing = answer.body(&request.method).unwrap_or(ResponseBody::UntilClose);
    let chunked = framing == ResponseBody::Chunked && request.version == Version::Http11;
    // An end that the origin did not prove is not claimed: a cache before us would keep a short file.
    let by_close = matches!(framing, ResponseBody::Chunked | ResponseBody::UntilClose) && !chunked;
    let keep = keep && !by_close;
    let (described, length) = describe(&answer, framing, chunked);
    let sent = async {
        out.send(&exchange.finish(described, keep)).await?;
        send_body(exchange, out, &mut body, chunked).await
    };
    if by_close {
        // The close is the body's end: until that is reached, any end of ours must look different.
        socket::reset_on_close(out.socket());
    }
    let sent = sent.await;
    if by_close && sent.is_ok() {
        socket::close_normally(out.socket());
    }
    Reply::ended(answer.status, length, keep, sent)
}

/// The head for the client, and the Content-Length in it.
fn describe(answer: &ResponseHead, framing: ResponseBody, chunked: bool) -> (HeadWriter, Option<u64>) {
    let mut described = HeadWriter::with_reason(answer.status, &answer.reason);
    described = described.fields(&head::answer_fields(&answer.fields));
    let length = match framing {
        ResponseBody::Length(length) => Some(length),
        // The length of what is not sent: HEAD and 304 tell it all the same.
        ResponseBody::None if answer.status != 204 => answer
            .fields
            .get("content-length")
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|value| value.parse().ok()),
        ResponseBody::None | ResponseBody::Chunked | ResponseBody::UntilClose => None,
    };
    if let Some(length) = length {
        described = described.field("Content-Length", length.to_string());
    } else if chunked {
        described = described.field("Transfer-Encoding", "chunked");
    }
    (described, length)
}

/// Sends a body as it comes, in chunks or as it is.
pub async fn send_body<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    body: &mut OriginBody<R>,
    chunked: bool,
) -> Result<(), Error> {
    let mut piece = Vec::new();
    // What came with the head goes first; then the rest may move inside the kernel.
    while !chunked && body.is_buffered() && body.next(&mut piece).await? {
        out.send(&piece).await?;
    }
    piece = Vec::new();
    body.forget_begun();
    splice::to_client(&exchange.context.pipes, body, out).await?;
    let mut turn = 0;
    while body.next(&mut piece).await? {
        if chunked {
            out.send_more(chunk_head(piece.len()).as_ref()).await?;
            piece.extend_from_slice(CHUNK_END);
        }
        out.send(&piece).await?;
        turn += piece.len() as u64;
        if turn >= share::slice() {
            turn = 0;
            out.writable().await?;
            share::turned();
        }
    }
    if chunked { out.send(LAST_CHUNK).await } else { Ok(()) }
}
