//! A miss: the origin is asked once, and its response goes to the file that every client follows.

use futures_lite::future::or;

use super::progress::Start;
use super::request::{self, OriginRequest};
use super::resume::{self, Opened};
use super::storable::storable;
use super::transfer::{self, Storing};
use super::{backpressure, form, origin};
use crate::cache::inflight::Permit;
use crate::cache::partial::Partial;
use crate::cache::room::Room;
use crate::downstream::client::Client;
use crate::downstream::head;
use crate::error::{Error, Kind, Side};
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::{BypassReason, Outcome};
use crate::proxy::exchange::{Context, Exchange};
use crate::proxy::next::{Next, Role};
use crate::proxy::revalidated::invalidate;
use crate::rt::Runtime;
use crate::upstream::body::OriginBody;

/// Fetches the file once there is room for one more that waits for its name; this client follows it like any other.
pub(crate) async fn lead<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    permit: Permit,
) -> Next<R> {
    let gone = async {
        client.gone().await;
        Err(Error::with(Side::Proxy, Kind::Busy, "who asked hung up in the line for the disk"))
    };
    match or(async { Ok(backpressure::room(exchange).await) }, gone).await {
        Ok(Some(room)) => fetch(exchange, client, permit, room).await,
        Ok(None) => {
            exchange.log.debug(format_args!("not saved - {}", BypassReason::DiskBehind.as_str()));
            permit.decline(BypassReason::DiskBehind);
            Next::Pass(BypassReason::DiskBehind)
        }
        Err(error) => left(exchange, client, permit, &error).await,
    }
}

/// Only this client has gone: one of those who wait leads instead.
async fn left<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    permit: Permit,
    error: &Error,
) -> Next<R> {
    exchange.log.debug(format_args!("error with proxy request {error}"));
    permit.withdraw();
    Next::Done(client.send_error(error, false, true).await)
}

/// Asks the origin, and begins to store what it says. The fetch is a task of its own: it goes on when the client leaves.
async fn fetch<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    permit: Permit,
    room: Room,
) -> Next<R> {
    let context = exchange.context;
    let query = context.shared.config.fills.query;
    let asked = request::fill_request(&context.upstream.origin, exchange.request, query);
    exchange.log.debug(format_args!("proxying GET to {}", exchange.origin_url(&asked)));
    let opened = resume::open(exchange, client.gone(), permit.key(), &asked).await;
    let Opened { answer, body, left } = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind == Kind::Busy => return left(exchange, client, permit, &error).await,
        Err(error) => {
            exchange.log.debug(format_args!("error with proxy request {error}"));
            permit.fail(error.clone());
            return Next::Fail(error);
        }
    };
    let due = own_is_due(exchange, &asked, &answer, permit.key());
    if let (None, Some(why)) = (&left, due) {
        origin::settle(body);
        permit.decline(why);
        return Next::Pass(why);
    }
    let begun = match left {
        Some(left) => Ok(left),
        None => anew(context, permit.key(), &answer).await,
    };
    let (partial, start) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            log_declined(exchange.log, &answer, why);
            permit.decline(why);
            exchange.outcome.set(Some(Outcome::Pass(why)));
            invalidate::note_missing(exchange, &answer);
            return Next::hand_on(answer, body);
        }
    };
    exchange.outcome.set(Some(Outcome::Miss));
    store(exchange, permit, asked, (answer, body), (partial, room, start))
}

/// Begins to store a response of which nothing is there yet.
async fn anew<R: Runtime>(
    context: &Context<R>,
    key: &Key,
    answer: &ResponseHead,
) -> Result<(Partial, Start), BypassReason> {
    let end = storable(answer, key, &context.shared.config)?;
    let partial = context.shared.cache.begin::<R>(key).await?;
    Ok((partial, Start { end, ..Start::default() }))
}

/// Stores a response of the immutable class; this client follows the file.
pub(crate) fn store<R: Runtime>(
    exchange: &Exchange<'_, R>,
    permit: Permit,
    asked: OriginRequest,
    (answer, body): (ResponseHead, OriginBody<R>),
    (partial, room, start): (Partial, Room, Start),
) -> Next<R> {
    let mut fields = head::answer_fields(&answer.fields);
    fields.remove("content-encoding");
    fields.remove("accept-ranges");
    let storing = Storing { asked, answer, fields, body, partial, room, start, kept: None, proof: None };
    let (fill, follower, at_hand) = transfer::store(exchange, permit, storing);
    Next::Follow(fill, follower, Role::Leader(at_hand))
}

/// Why another answer is due to a client that says more than the fill did, or says it in another form.
fn own_is_due<R: Runtime>(
    exchange: &Exchange<'_, R>,
    asked: &OriginRequest,
    answer: &ResponseHead,
    key: &Key,
) -> Option<BypassReason> {
    let why = storable(answer, key, &exchange.context.shared.config).err()?;
    let own = if request::is_denied(answer.status) { BypassReason::Denied } else { why };
    if matches!(own, BypassReason::Denied | BypassReason::Vary) && request::says_more(exchange.request, asked)
    {
        return Some(own);
    }
    form::differs(exchange.request).then_some(BypassReason::OtherForm)
}

fn log_declined(log: &RequestLog, answer: &ResponseHead, why: BypassReason) {
    if (200..300).contains(&answer.status) {
        log.debug(format_args!("not saved - {}", why.as_str()));
    } else {
        let status = answer.status;
        log.debug(format_args!(
            "statusCode {status} from backend not in 200 range - proxying back to caller"
        ));
    }
}
