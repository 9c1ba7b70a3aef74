//! Files of the immutable class: what has the name is served, and what has not is fetched once for all.

use super::client::Client;
use super::exchange::{Exchange, LOOKS};
use super::lookup::look_up;
use super::reply::Reply;
use super::storable::may_fill;
use super::{backpressure, follow, hit, loops, pass};
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::outcome::{Outcome, Why};
use crate::rt::Runtime;
use crate::store::Found;
use crate::store::inflight::Turn;

/// Answers from the cache, or fetches the file into it.
pub(super) async fn cached<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: Key,
) -> Reply {
    let store = &exchange.context.shared.store;
    for _ in 0..LOOKS {
        let endings = store.inflight.endings();
        let found = look_up(exchange, &key).await;
        if !matches!(found, Found::Absent) {
            return present(exchange, client, key, found).await;
        }
        // Not to join a fill that waits for this very request.
        if loops::has_looped(exchange.request) {
            return pass::looped(exchange, client).await;
        }
        let turn = match may_fill(exchange) {
            Ok(()) => store.inflight.enter(&key),
            // What is being fetched anyway answers a HEAD too.
            Err(Why::HeadOnMiss) => match store.inflight.get(&key) {
                Some(fill) => Turn::Follow(fill),
                None => return pass::run(exchange, client, Why::HeadOnMiss).await,
            },
            Err(why) => return pass::run(exchange, client, why).await,
        };
        match turn {
            Turn::Full => return pass::run(exchange, client, Why::FillsFull).await,
            Turn::Follow(fill) => {
                if let Some(reply) = follow::join(exchange, client, &key, fill).await {
                    return reply;
                }
            }
            Turn::Lead(permit) if store.inflight.endings() == endings => {
                return backpressure::lead(exchange, client, permit).await;
            }
            // A fill has ended between the look-up and the turn.
            Turn::Lead(permit) => match look_up(exchange, &key).await {
                Found::Absent => return backpressure::lead(exchange, client, permit).await,
                Found::File(_) | Found::Directory | Found::Unusable(_) => permit.withdraw(),
            },
        }
    }
    pass::run(exchange, client, Why::Disk).await
}

/// Something has the name.
pub(super) async fn present<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: Key,
    found: Found,
) -> Reply {
    match found {
        Found::File(entry) if entry.held.is_none() => {
            exchange.outcome.set(Some(Outcome::Hit(None)));
            hit::send_lent(exchange, client, key, entry).await
        }
        Found::File(entry) => {
            let file = exchange.context.files.keep(exchange.request.path(), key, entry);
            hit::first(exchange, client, file).await
        }
        Found::Directory => directory(exchange, client, key.as_str()).await,
        Found::Unusable(why) => unusable(exchange, client, why).await,
        Found::Absent => pass::run(exchange, client, Why::Disk).await,
    }
}

/// Something has the name that is not to be served.
pub(super) async fn unusable<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    why: Why,
) -> Reply {
    if why != Why::Descriptors {
        return pass::run(exchange, client, why).await;
    }
    // The file may be there: nobody else is to be asked for it.
    let error = Error::with(Side::Us, Kind::Busy, why.as_str());
    exchange.log.debug(format_args!("{error}"));
    exchange.send_error(client, &error).await
}

/// A directory: it is not listed.
pub(super) async fn directory<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    path: &str,
) -> Reply {
    let path = exchange.context.shared.store.display_path(path);
    exchange.log.debug(format_args!("{path} is a directory - sending 400 to client"));
    client.send_empty(400, exchange.keep()).await
}
