//! Answering one request: the only place where HTTP, the cache and the origin meet.

pub mod authority;
pub mod behind;
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
use crate::outcome::{BypassReason, CacheUse, Outcome, Stale};
use crate::packages::{rebuilt, snapshot};
use crate::route::{self, Route};
use crate::rt::Runtime;
use deliver::{follow, relay};
use exchange::{Context, Exchange, LOOKS};
use fetch::fill;
use next::{FreshnessPolicy, Next, Role};
use open_files::Freshness;
use revalidated::wanted::CacheRequest;
use revalidated::{answer, head_request};

/// The log of a request that has just come.
pub fn incoming<R: Runtime>(context: &Context<R>, request: &RequestHead) -> RequestLog {
    let log = RequestLog::new(context.lines.log());
    if log.is_on() {
        let target = String::from_utf8_lossy(&request.target);
        log.debug(format_args!("INCOMING REQUEST - {} {target}", request.method.as_str()));
    }
    log
}

/// Answers one request.
pub async fn respond<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>) -> Reply {
    let (request, arrived) = (exchange.request, Instant::now());
    let (context, shared) = (exchange.context, &exchange.context.shared);
    if !request.is_origin_form()
        && let Some(reply) = authority::refuse(exchange, client).await
    {
        return reply;
    }
    if shared.packages.comparisons.any() {
        Box::pin(rebuilt::wait(exchange)).await;
    }
    let is_reload = no_cache::is_wanted(exchange);
    if !is_reload
        && matches!(request.method, Method::Get | Method::Head)
        && let Some(file) = context.files.find(request.path(), &shared.store, Freshness::MustStat)
    {
        return hit::serve(exchange, client, file).await;
    }
    let route = route::decide(request, &context.classes);
    let (key, policy) = match &route {
        Route::Cache(key) if is_reload => (key, FreshnessPolicy::Reload),
        Route::Cache(key) => (key, FreshnessPolicy::Immutable),
        Route::Revalidate(key) if shared.config.rules.is_empty() => (key, FreshnessPolicy::Revalidate),
        Route::Revalidate(key) => (key, FreshnessPolicy::Member),
        Route::Pass(why) => return pass::run(exchange, client, *why).await,
        Route::Directory(path) => match shared.cache.look_up_path::<R>(path).await {
            Found::Directory => {
                cached::log_directory(exchange, path);
                return client.send_empty(400, exchange.keep()).await;
            }
            Found::File(_) | Found::Absent | Found::Unusable(_) => {
                return pass::run(exchange, client, BypassReason::NoName).await;
            }
        },
        Route::BadPath(reason) => {
            let log = exchange.log;
            log.debug(format_args!("failed to parse pathname - sending 400 to client - {reason}"));
            return client.send_empty(400, exchange.keep()).await;
        }
    };
    take_steps(&CacheRequest::new(exchange, key, arrived), client, policy).await
}

/// Takes step after step until there is a response. A step says what the next one is, and calls no other.
async fn take_steps<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    client: &mut Client<R>,
    mut policy: FreshnessPolicy,
) -> Reply {
    let exchange = wanted.exchange;
    let (mut next, mut looks) = (Next::Again, 0);
    loop {
        // Boxed are the steps that have much to remember: most requests take none of them.
        next = match next {
            Next::Again if looks == LOOKS => Next::Pass(BypassReason::Disk),
            Next::Again => {
                looks += 1;
                match policy {
                    FreshnessPolicy::Member => Box::pin(snapshot::serve::step(wanted, client)).await,
                    FreshnessPolicy::Revalidate => Box::pin(cached::step(wanted, policy)).await,
                    FreshnessPolicy::Immutable | FreshnessPolicy::Reload => {
                        cached::step(wanted, policy).await
                    }
                }
            }
            Next::Use(other) => {
                policy = other;
                Next::Again
            }
            Next::Fetch(permit) => fill::lead(exchange, client, permit).await,
            Next::Reload(permit, entry) => Box::pin(no_cache::lead(exchange, permit, *entry)).await,
            Next::JoinReload(fill) => no_cache::join(fill).await,
            Next::Revalidate(permit, stored) => {
                Box::pin(revalidated::lead(wanted, permit, stored.map(|stored| *stored))).await
            }
            Next::Join(fill, stored) => revalidated::join(wanted, fill, stored.map(|stored| *stored)).await,
            Next::Head(stored) => {
                Box::pin(head_request::step(wanted, client, stored.map(|stored| *stored))).await
            }
            Next::Follow(fill, follower, role) => {
                if role == Role::Follower && exchange.outcome.get().is_none() {
                    exchange.outcome.set(Some(Outcome::Follow));
                }
                follow::serve(exchange, client, &fill, follower, role).await
            }
            Next::Done(reply) => return reply,
            Next::File(entry) => return hit::first(exchange, client, wanted.key.clone(), *entry).await,
            Next::Stored(stored, how) => {
                let is_behind = how == CacheUse::Stale(Stale::WhileRevalidate);
                if is_behind && policy == FreshnessPolicy::Revalidate {
                    behind::revalidate(wanted);
                }
                return answer::send(wanted, client, *stored, how).await;
            }
            Next::Pass(why) => return pass::run(exchange, client, why).await,
            Next::Looped => return pass::looped(exchange, client).await,
            Next::HandOn(response) => return pass::hand_on(exchange, client, response.0, response.1).await,
            Next::Relay(response) => return relay::to_client(exchange, client, response.0, response.1).await,
            Next::RelayHead(answer) => return relay::head_of(exchange, client, &answer).await,
            Next::Status(status) => return client.send_empty(status, exchange.keep()).await,
            Next::Fail(error) => return exchange.send_error(client, &error).await,
        };
    }
}
