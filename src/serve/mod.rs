//! Answering one request: the only place where HTTP, the cache and the origin meet.

mod authority;
pub mod backpressure;
mod begin;
pub mod buffers;
mod cached;
pub mod client;
pub mod comparisons;
pub mod deliver;
pub mod exchange;
pub mod far;
pub mod fill;
pub mod follow;
mod form;
pub mod growing;
pub mod head;
pub mod hit;
pub mod kept;
pub mod lent;
pub mod lookup;
pub mod loops;
pub mod pass;
pub mod progress;
pub mod rate;
pub mod ready;
pub mod rebuilt;
pub mod redirect;
pub mod relay;
pub mod reply;
pub mod resume;
pub mod revalidate;
pub mod revalidated;
pub mod splice;
mod storable;
mod unstored;
pub mod upload;
pub mod warm;
mod whole;

use std::time::Instant;

use crate::http::request::{Method, RequestHead};
use crate::observe::log::RequestLog;
use crate::outcome::Why;
use crate::route::{self, Route};
use crate::rt::Runtime;
use crate::store::Found;
use cached::{cached, directory};
use client::Client;
use exchange::{Context, Exchange};
use ready::Freshness;
use reply::Reply;

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
    if !request.is_origin_form()
        && let Some(reply) = authority::refuse(exchange, client).await
    {
        return reply;
    }
    if exchange.context.shared.comparisons.any() {
        Box::pin(rebuilt::wait(exchange)).await;
    }
    let is_check = revalidate::is_wanted(exchange);
    if !is_check
        && matches!(request.method, Method::Get | Method::Head)
        && let Some(file) =
            exchange.context.files.find(request.path(), &exchange.context.shared.store, Freshness::MustStat)
    {
        return hit::serve(exchange, client, file).await;
    }
    match route::decide(request, &exchange.context.classes) {
        Route::Cache(key) if is_check => Box::pin(revalidate::serve(exchange, client, key)).await,
        Route::Cache(key) => cached(exchange, client, key).await,
        // Boxed: it has much to remember, and most requests are of the other class.
        Route::Check(key) => Box::pin(kept::serve(exchange, client, &key, arrived)).await,
        Route::Pass(why) => pass::run(exchange, client, why).await,
        Route::Directory(path) => match lookup::find::<R>(&exchange.context.shared, &path).await {
            Found::Directory => directory(exchange, client, &path).await,
            Found::File(_) | Found::Absent | Found::Unusable(_) => {
                pass::run(exchange, client, Why::NoName).await
            }
        },
        Route::BadPath(reason) => {
            exchange.log.debug(format_args!("failed to parse pathname - sending 400 to client - {reason}"));
            client.send_empty(400, exchange.keep()).await
        }
    }
}
