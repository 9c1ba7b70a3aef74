//! Answering one request: the only place where HTTP, the cache and the origin meet.

pub mod authority;
pub mod cached;
pub mod deliver;
pub mod exchange;
pub mod fetch;
pub mod hit;
pub mod loops;
pub mod next;
pub mod no_cache;
pub mod open_files;
pub mod pass;
pub mod passing;
pub mod recent_checks;
pub mod revalidated;
pub mod upload;

use std::time::Instant;

use crate::cache::Found;
use crate::downstream::client::Client;
use crate::downstream::reply::Reply;
use crate::http::request::{Method, RequestHead};
use crate::observe::log::RequestLog;
use crate::outcome::BypassReason;
use crate::packages::{rebuilt, snapshot};
use crate::route::{self, Route};
use crate::rt::Runtime;
use exchange::{Context, Exchange, LOOKS};
use next::Next;
use open_files::Freshness;

/// The log of a request that has just come.
pub fn incoming<R: Runtime>(context: &Context<R>, request: &RequestHead) -> RequestLog {
    let log = RequestLog::new(context.lines.log());
    if log.is_on() {
        let target = String::from_utf8_lossy(&request.target);
        log.debug(format_args!("INCOMING REQUEST - {} {target}", request.method.as_str()));
    }
    log
}

/// Answers one request, step by step.
pub async fn respond<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>) -> Reply {
    let (request, arrived) = (exchange.request, Instant::now());
    if !request.is_origin_form()
        && let Some(reply) = authority::refuse(exchange, client).await
    {
        return reply;
    }
    if exchange.context.shared.comparisons.any() {
        Box::pin(rebuilt::wait(exchange)).await;
    }
    let mut is_check = no_cache::is_wanted(exchange);
    if !is_check
        && matches!(request.method, Method::Get | Method::Head)
        && let Some(file) =
            exchange.context.files.find(request.path(), &exchange.context.shared.store, Freshness::MustStat)
    {
        return hit::serve(exchange, client, file).await;
    }
    let route = route::decide(request, &exchange.context.classes);
    let mut is_apart = exchange.context.shared.config.rules.is_empty();
    for _ in 0..LOOKS {
        let mut next = match &route {
            // Boxed: it has much to remember, and most requests are of the other class.
            Route::Check(key) if !is_apart => {
                Box::pin(snapshot::serve::step(exchange, client, key, arrived)).await
            }
            Route::Check(key) => Box::pin(revalidated::step(exchange, key, arrived)).await,
            Route::Cache(key) if is_check => Box::pin(no_cache::step(exchange, key)).await,
            Route::Cache(key) => cached::step(exchange, client, key).await,
            Route::Pass(why) => Next::Pass(*why),
            Route::Directory(path) => match exchange.context.shared.cache.look_up_path::<R>(path).await {
                Found::Directory => cached::directory(exchange, path),
                Found::File(_) | Found::Absent | Found::Unusable(_) => Next::Pass(BypassReason::NoName),
            },
            Route::BadPath(reason) => {
                let log = exchange.log;
                log.debug(format_args!("failed to parse pathname - sending 400 to client - {reason}"));
                Next::Status(400)
            }
        };
        if let Next::Head(key, kept) = next {
            let kept = kept.map(|kept| *kept);
            next = Box::pin(revalidated::head_request::step(exchange, client, (&key, arrived), kept)).await;
        }
        if let Next::Follow(fill, follower, role) = next {
            next = deliver::follow::serve(exchange, client, &fill, follower, role).await;
        }
        is_check &= !matches!(next, Next::AsItIs);
        is_apart |= matches!(next, Next::Apart);
        if let Some(reply) = perform(exchange, client, next).await {
            return reply;
        }
    }
    pass::run(exchange, client, BypassReason::Disk).await
}

/// Does the last step of a request. `None`: there is another one.
async fn perform<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    last: Next<R>,
) -> Option<Reply> {
    Some(match last {
        Next::Done(reply) => reply,
        Next::File(key, entry) => hit::first(exchange, client, key, entry).await,
        Next::Stored(stored) => {
            let (kept, fields) = *stored;
            revalidated::answer::send(exchange, client, kept, fields).await
        }
        Next::Pass(why) => pass::run(exchange, client, why).await,
        Next::Looped => pass::looped(exchange, client).await,
        Next::HandOn(response) => pass::hand_on(exchange, client, response.0, response.1).await,
        Next::Relay(response) => {
            let (answer, body) = *response;
            deliver::relay::relay(exchange, &client.out(), client.gone(), answer, body, exchange.keep()).await
        }
        Next::RelayHead(answer) => deliver::relay::head_of(exchange, client, &answer).await,
        Next::Status(status) => client.send_empty(status, exchange.keep()).await,
        Next::Fail(error) => exchange.send_error(client, &error).await,
        Next::Again | Next::AsItIs | Next::Apart | Next::Head(..) | Next::Follow(..) => return None,
    })
}
