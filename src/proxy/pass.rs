//! What is not kept: the request goes to the origin and the answer to the client, both streamed.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::deliver::relay::{relay, to_client};
use super::exchange::Exchange;
use super::fetch::form;
use super::fetch::origin::{self, Follow};
use super::fetch::request;
use super::loops;
use super::passing::Passing;
use super::revalidated::invalidate;
use super::upload::{self, Sent};
use crate::downstream::client::{Client, Out, unless};
use crate::downstream::reply::Reply;
use crate::error::{Error, Kind, Side};
use crate::http::request::Method;
use crate::http::response::ResponseHead;
use crate::outcome::{BypassReason, Outcome};
use crate::rt::Runtime;
use crate::rt::notify::Notify;
use crate::upstream::Connection;
use crate::upstream::body::OriginBody;

/// What a client hears that asked to be told before it sends its body (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Passes the request on.
pub async fn run<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, why: BypassReason) -> Reply {
    exchange.outcome.set(Some(Outcome::Pass(why)));
    if !matches!(why, BypassReason::Method | BypassReason::NoMatch | BypassReason::HeadOnMiss) {
        exchange.log.debug(format_args!("not cached - {}", why.as_str()));
    }
    if loops::has_looped(exchange.request) {
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
    let error = Error::new(Side::Proxy, Kind::Loop);
    exchange.log.debug(format_args!("error with proxy request {error}"));
    exchange.send_error(client, &error).await
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
    why: BypassReason,
) -> Result<Reply, Error> {
    let asked = request::pass_request(&exchange.context.upstream.origin, exchange.request);
    // Of what is no file of ours, or was asked by ourselves, the asker follows the redirects.
    let follow = if matches!(why, BypassReason::NoMatch | BypassReason::Returned) {
        Follow::Never
    } else {
        Follow::Maybe
    };
    let (answer, body) = origin::ask(exchange, client.gone(), &asked, follow).await?;
    invalidate::note(exchange, &answer).await;
    invalidate::note_missing(exchange, &answer);
    Ok(to_client(exchange, client, answer, body).await)
}

/// A request with a body: both bodies may stream at once.
async fn with_body<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>) -> Result<Reply, Error> {
    let (upstream, request) = (&exchange.context.upstream, exchange.request);
    // A reused connection may be closed under a body that cannot be sent twice.
    let connection = upstream.fresh_connection(exchange.client).await?;
    let transport = Rc::clone(&connection.transport);
    transport
        .write_all(&request::pass_request(&upstream.origin, request).head(), client.rate.stall_time)
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
        upload.ended.notify_all();
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
    /// Rings when the sending has ended, in whatever way.
    ended: Notify,
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
        self.ended.notified().await;
        R::sleep(limit).await;
        Error::new(Side::Origin, Kind::Timeout)
    }

    /// Waits until the client has gone. Before its request has been sent that is for the sending to see.
    async fn gone<R: Runtime>(&self, out: &Out<'_, R>) {
        self.ended.notified().await;
        out.gone().await;
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
    let mut answer = unless(upload.gone(out), or(head, overdue)).await?;
    // An origin that answers early may take what is still to come for the rest of this request.
    let reusable = upload.whole.get() && !upload.overtaken.get();
    let body = OriginBody::new(upstream, connection, &answer, &request.method, reusable)?;
    upload.answered.set(true);
    invalidate::note(exchange, &answer).await;
    let target = upstream.origin.target(&form::own(request));
    origin::adapt(exchange.context, &target, &mut answer);
    let keep = request.keep_alive() && upload.whole.get() && !exchange.context.shared.stop.is_asked();
    Ok(relay(exchange, out, upload.gone(out), answer, body, keep).await)
}

/// Passes on an answer that was asked for to be kept. A client that reads slowly must not hold one of the places
/// for such answers: where so many are passed on already, it is asked for again in its turn.
pub async fn hand_on<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    answer: ResponseHead,
    body: impl Into<Passing<R>>,
) -> Reply {
    let mut body = body.into();
    if body.rest.try_pass() {
        return to_client(exchange, client, answer, body).await;
    }
    drop(body);
    let why = if let Some(Outcome::Pass(why)) = exchange.outcome.get() { why } else { BypassReason::NoUse };
    run(exchange, client, why).await
}
