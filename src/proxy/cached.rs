//! Files of the immutable class: what has the name is always fresh, and what has not is fetched once for all.

use std::sync::Arc;

use super::exchange::Exchange;
use super::fetch::fill;
use super::fetch::storable::may_fill;
use super::loops;
use super::next::Next;
use crate::cache::claim::{Claim, claim};
use crate::cache::fill::Fill;
use crate::cache::{Entry, Found};
use crate::downstream::client::Client;
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::outcome::{BypassReason, Outcome};
use crate::rt::Runtime;

/// What may have the name.
enum Named {
    File(Entry),
    Directory,
}

/// Answers from the cache, or fetches the file into it.
pub(crate) async fn step<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: &Key,
) -> Next<R> {
    let cache = &exchange.context.shared.cache;
    let inflight = &cache.store.inflight;
    let find = async || match cache.look_up::<R>(key).await {
        Found::File(entry) => Ok(Some(Named::File(entry))),
        Found::Directory => Ok(Some(Named::Directory)),
        Found::Absent => Ok(None),
        Found::Unusable(why) => Err(why),
    };
    let refused = async |absent| match may_fill(exchange) {
        // Not to join a fill that waits for this very request.
        _ if loops::has_looped(exchange.request) => Err(Next::Looped),
        Ok(()) => Ok(absent),
        // What is being fetched anyway answers a HEAD too.
        Err(BypassReason::HeadOnMiss) => Err(inflight
            .get(key)
            .map_or(Next::Pass(BypassReason::HeadOnMiss), |fill| joined(exchange, key, fill))),
        Err(why) => Err(Next::Pass(why)),
    };
    match claim(inflight, key, find, |_| Some(()), refused).await {
        Ok(Claim::Fresh(Named::File(entry), ())) => Next::File(key.clone(), entry),
        Ok(Claim::Fresh(Named::Directory, ())) => directory(exchange, key.as_str()),
        Ok(Claim::Filling(fill, _)) => joined(exchange, key, fill),
        Ok(Claim::Absent(permit) | Claim::Stale(_, permit)) => fill::lead(exchange, client, permit).await,
        Ok(Claim::Full) => Next::Pass(BypassReason::FillsFull),
        Ok(Claim::Unusable(why)) => unusable(exchange, why),
        Err(next) => next,
    }
}

/// Follows a fill that somebody else has started.
fn joined<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key, fill: Arc<Fill>) -> Next<R> {
    if exchange.log.is_on() {
        let path = exchange.context.shared.store.display(key);
        exchange.log.debug(format_args!("{path} download in progress - response follows it"));
    }
    exchange.outcome.set(Some(Outcome::Follow));
    Next::follow(fill)
}

/// Something has the name that is not to be served.
pub(crate) fn unusable<R: Runtime>(exchange: &Exchange<'_, R>, why: BypassReason) -> Next<R> {
    if why != BypassReason::Descriptors {
        return Next::Pass(why);
    }
    // The file may be there: nobody else is to be asked for it.
    let error = Error::with(Side::Proxy, Kind::Busy, why.as_str());
    exchange.log.debug(format_args!("{error}"));
    Next::Fail(error)
}

/// A directory: it is not listed.
pub(crate) fn directory<R: Runtime>(exchange: &Exchange<'_, R>, path: &str) -> Next<R> {
    let path = exchange.context.shared.store.display_path(path);
    exchange.log.debug(format_args!("{path} is a directory - sending 400 to client"));
    Next::Status(400)
}
