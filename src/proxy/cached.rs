//! What the cache has for a request, and what is to be done about it: the same steps for every class. A class is a
//! freshness policy: which stored responses may be used without a word of the origin.

use std::sync::Arc;
use std::time::Instant;

use super::exchange::Exchange;
use super::fetch::storable::may_fill;
use super::loops;
use super::next::FreshnessPolicy::{self, Immutable, Member, Reload, Revalidate};
use super::next::Next;
use super::revalidated::invalidate;
use super::revalidated::wanted::CacheRequest;
use crate::cache::claim::{Claim, claim};
use crate::cache::fill::Fill;
use crate::cache::response::StoredResponse;
use crate::cache::{Entry, Found};
use crate::error::{Error, Kind, Side};
use crate::http::caching::reuse::{self, Reuse};
use crate::http::request::Method;
use crate::outcome::{BypassReason, CacheUse, Stale};
use crate::rt::Runtime;
use crate::sys::clock;

/// What the cache has under a key.
enum Stored {
    /// A file of the immutable class.
    File(Entry),
    /// A directory.
    Directory,
    /// A stored response of the revalidated class.
    Response(StoredResponse),
}

/// Answers from the cache, or says who asks the origin.
pub(crate) async fn step<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, policy: FreshnessPolicy) -> Next<R> {
    let is_revalidated = matches!(policy, Revalidate | Member);
    if is_revalidated {
        if let Err(why) = wanted.is_of_class() {
            return Next::Pass(why);
        }
        if wanted.directives.no_store {
            return Next::Pass(BypassReason::NoStore);
        }
    }
    let find = async || find(wanted, is_revalidated).await;
    let fresh = |stored: &Stored| fresh(wanted, policy, stored);
    let refused = async |stored| may_ask(wanted, is_revalidated, stored);
    match claim(&wanted.cache().store.inflight, wanted.key, find, fresh, refused).await {
        Ok(Claim::Fresh(Stored::File(entry), _)) => Next::File(Box::new(entry)),
        Ok(Claim::Fresh(Stored::Directory, _) | Claim::Stale(Stored::Directory, _)) => {
            log_directory(wanted.exchange, wanted.key.as_str());
            Next::Status(400)
        }
        Ok(Claim::Fresh(Stored::Response(stored), how)) => Next::Stored(Box::new(stored), how),
        Ok(Claim::Stale(Stored::Response(stored), permit)) => {
            Next::Revalidate(permit, Some(Box::new(stored)))
        }
        Ok(Claim::Stale(Stored::File(entry), permit)) => Next::Reload(permit, Box::new(entry)),
        Ok(Claim::Absent(permit)) if is_revalidated => Next::Revalidate(permit, None),
        Ok(Claim::Absent(permit)) => Next::Fetch(permit),
        Ok(Claim::Filling(fill, Some(Stored::Response(stored)))) => Next::Join(fill, Some(Box::new(stored))),
        Ok(Claim::Filling(fill, _)) if is_revalidated => Next::Join(fill, None),
        Ok(Claim::Filling(fill, Some(_))) => Next::JoinReload(fill),
        Ok(Claim::Filling(fill, None)) => joined(wanted, fill),
        Ok(Claim::Full) if policy == Reload => Next::Use(Immutable),
        Ok(Claim::Full) => Next::Pass(BypassReason::FillsFull),
        Ok(Claim::Unusable(why)) => unusable(wanted.exchange, why),
        Err(next) => next,
    }
}

async fn find<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    is_revalidated: bool,
) -> Result<Option<Stored>, BypassReason> {
    let cache = wanted.cache();
    if is_revalidated {
        let found = cache.find::<R>(wanted.exchange.request, wanted.key).await;
        return found.map(|found| found.map(Stored::Response));
    }
    match cache.look_up::<R>(wanted.key).await {
        Found::File(entry) => Ok(Some(Stored::File(entry))),
        Found::Directory => Ok(Some(Stored::Directory)),
        Found::Absent => Ok(None),
        Found::Unusable(why) => Err(why),
    }
}

/// As what it may be used without a word of the origin, if it may.
fn fresh<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    policy: FreshnessPolicy,
    stored: &Stored,
) -> Option<CacheUse> {
    let shared = &wanted.exchange.context.shared;
    let stored = match stored {
        Stored::Response(stored) => stored,
        // Of one that has been asked about just now another version may be coming.
        Stored::File(_) if policy == Reload => {
            let is_due = shared.revalidated.is_due(wanted.key, Instant::now());
            let is_coming = || shared.store.inflight.get(wanted.key).is_some();
            return (!is_due && !is_coming()).then_some(CacheUse::Hit);
        }
        Stored::File(_) | Stored::Directory => return Some(CacheUse::Hit),
    };
    match reuse::decide(&stored.head, &wanted.directives, clock::unix_secs(), &wanted.policy) {
        _ if invalidate::is_in_doubt(shared, wanted.key, stored.checked) => None,
        _ if stored.is_checked_since(wanted.arrived) => Some(CacheUse::Revalidated),
        Reuse::Fresh => Some(CacheUse::Hit),
        Reuse::Stale => Some(CacheUse::Stale(Stale::Accepted)),
        Reuse::WhileRevalidate => Some(CacheUse::Stale(Stale::WhileRevalidate)),
        Reuse::Validate => None,
    }
}

/// May the origin be asked for this request, so that all who want the same have the response? Otherwise the next step.
fn may_ask<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    is_revalidated: bool,
    stored: Option<Stored>,
) -> Result<Option<Stored>, Next<R>> {
    let exchange = wanted.exchange;
    if is_revalidated && wanted.directives.only_if_cached {
        return Err(Next::Fail(Error::new(Side::Origin, Kind::NotCached)));
    }
    // Not to wait for an exchange that waits for this very request.
    if loops::has_looped(exchange.request) {
        return Err(Next::Looped);
    }
    if exchange.has_returned() {
        return Err(Next::Pass(BypassReason::Returned));
    }
    match stored {
        Some(Stored::Response(stored)) if exchange.request.method == Method::Head => {
            Err(Next::Head(Some(Box::new(stored))))
        }
        None if is_revalidated && exchange.request.method == Method::Head => Err(Next::Head(None)),
        None if !is_revalidated => match may_fill(exchange) {
            Ok(()) => Ok(None),
            // What is being fetched anyway answers a HEAD too.
            Err(BypassReason::HeadOnMiss) => {
                let fill = exchange.context.shared.store.inflight.get(wanted.key);
                Err(fill.map_or(Next::Pass(BypassReason::HeadOnMiss), |fill| joined(wanted, fill)))
            }
            Err(why) => Err(Next::Pass(why)),
        },
        stored => Ok(stored),
    }
}

/// Follows a fill that another request has started.
fn joined<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, fill: Arc<Fill>) -> Next<R> {
    wanted.debug("download in progress - response follows it");
    Next::follow(fill)
}

/// Something has the name that is not to be served.
fn unusable<R: Runtime>(exchange: &Exchange<'_, R>, why: BypassReason) -> Next<R> {
    if why != BypassReason::Descriptors {
        return Next::Pass(why);
    }
    // The file may be there: nobody else is to be asked for it.
    let error = Error::with(Side::Proxy, Kind::Busy, why.as_str());
    exchange.log.debug(format_args!("{error}"));
    Next::Fail(error)
}

/// A directory: it is not listed.
pub(crate) fn log_directory<R: Runtime>(exchange: &Exchange<'_, R>, path: &str) {
    let path = exchange.context.shared.store.display_path(path);
    exchange.log.debug(format_args!("{path} is a directory - sending 400 to client"));
}
