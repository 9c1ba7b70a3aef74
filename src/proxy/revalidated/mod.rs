//! The class of paths that are kept and checked with the origin (RFC 9111).
//!
//! One request, in order: what is kept is looked up (`responses`); [`reuse`] says whether it may be
//! used; if not, the origin is asked once for all who want the same (`ask`), and what is kept by
//! then, or comes, is the answer (`answer`). What the rules are is in [`crate::http::caching`].

pub mod answer;
pub mod ask;
pub mod head_request;
pub mod invalidate;
pub mod wanted;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::cached::unusable;
use super::exchange::Exchange;
use super::loops;
use super::next::{Next, Role};
use crate::cache::claim::{Claim, claim};
use crate::cache::fill::{Fill, NoFile};
use crate::cache::inflight::{Permit, Turn};
use crate::cache::response::StoredResponse;
use crate::error::{Error, Kind, Side};
use crate::http::caching::reuse::{self, Reuse};
use crate::http::request::Method;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::{self, BypassReason, Outcome, Stale};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, spawn_guarded};
use crate::sys::clock;
use ask::FetchOutcome;
use wanted::CacheRequest;

/// The next step of a GET or HEAD that came at this moment.
pub(crate) async fn step<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key, arrived: Instant) -> Next<R> {
    let wanted = match CacheRequest::of(exchange, key, arrived) {
        Ok(wanted) => wanted,
        Err(why) => return Next::Pass(why),
    };
    if wanted.directives.no_store {
        return Next::Pass(BypassReason::NoStore);
    }
    let (request, cache) = (exchange.request, &exchange.context.shared.cache);
    let refused = async |kept: Option<StoredResponse>| match &request.method {
        _ if wanted.directives.only_if_cached => Err(Next::Fail(Error::new(Side::Origin, Kind::NotCached))),
        // Not to wait for an exchange that waits for this very request: what is at hand has to do.
        _ if loops::has_looped(request) => Err(Next::Looped),
        _ if exchange.has_returned() => Err(Next::Pass(BypassReason::Returned)),
        Method::Head => Err(Next::Head(key.clone(), kept.map(Box::new))),
        Method::Get | Method::Other(_) => Ok(kept),
    };
    let find = async || cache.find::<R>(request, key).await;
    let fresh = |kept: &StoredResponse| usable_at_once(&wanted, kept);
    match claim(&cache.store.inflight, key, find, fresh, refused).await {
        Ok(Claim::Fresh(kept, how)) => {
            if how == outcome::CacheUse::Stale(Stale::WhileRevalidate) {
                check_behind(&wanted);
            }
            answer::stored(&wanted, kept, how)
        }
        Ok(Claim::Stale(kept, permit)) => lead(&wanted, permit, Some(kept)).await,
        Ok(Claim::Absent(permit)) => lead(&wanted, permit, None).await,
        Ok(Claim::Filling(fill, kept)) => join(&wanted, fill, kept).await,
        Ok(Claim::Full) => Next::Pass(BypassReason::FillsFull),
        Ok(Claim::Unusable(why)) => unusable(exchange, why),
        Err(next) => next,
    }
}

/// As what it may be used without a word of the origin, if it may.
fn usable_at_once<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    kept: &StoredResponse,
) -> Option<outcome::CacheUse> {
    let verdict = reuse::decide(&kept.head, &wanted.directives, clock::unix_secs(), &wanted.policy);
    match verdict {
        _ if invalidate::is_in_doubt(&wanted.exchange.context.shared, wanted.key, kept.checked) => None,
        _ if kept.is_checked_since(wanted.arrived) => Some(outcome::CacheUse::Revalidated),
        Reuse::Fresh => Some(outcome::CacheUse::Hit),
        Reuse::Stale => Some(outcome::CacheUse::Stale(Stale::Accepted)),
        Reuse::WhileChecked => Some(outcome::CacheUse::Stale(Stale::WhileRevalidate)),
        Reuse::Check => None,
    }
}

/// Asks the origin; the next step is what comes of it.
async fn lead<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    kept: Option<StoredResponse>,
) -> Next<R> {
    match ask::ask(wanted, permit, kept).await {
        FetchOutcome::Stored(kept, how) => answer::stored(wanted, kept, how),
        FetchOutcome::Filling { fill, follower, at_hand } => {
            Next::Follow(fill, follower, Role::Leader(at_hand))
        }
        FetchOutcome::NotStored(_, _) if wanted.is_in_other_form() => Next::Pass(BypassReason::OtherForm),
        FetchOutcome::NotStored(answer, body) => Next::hand_on(*answer, body),
        FetchOutcome::Confirmed(kept) => answer::stored(wanted, kept, outcome::CacheUse::Revalidated),
        FetchOutcome::Bypass(why) => Next::Pass(why),
        FetchOutcome::Failed(error, kept) => answer::failed(wanted, error, kept),
    }
}

/// Waits for what another request's exchange with the origin comes to.
async fn join<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    fill: Arc<Fill>,
    kept: Option<StoredResponse>,
) -> Next<R> {
    let exchange = wanted.exchange;
    let Ok(waiter) = Waiter::new() else { return Next::Status(500) };
    // Joined before the head is waited for, so that nothing passes by meanwhile.
    let next = Next::follow(Arc::clone(&fill));
    match fill.answer(&waiter).await {
        Ok(_) => {}
        Err(NoFile::Again) => return Next::Again,
        Err(NoFile::Declined(why)) => return Next::Pass(why),
        Err(NoFile::Failed(error)) => return answer::failed(wanted, error, kept),
    }
    let kept = fill.kept();
    let is_new = kept.as_ref().is_none_or(|kept| kept.checked > wanted.arrived);
    let fresh = kept.as_ref().is_some_and(|kept| {
        let (now, checked) = (clock::unix_secs(), Some(kept.checked));
        reuse::decide(&kept.head, &wanted.directives, now, &wanted.policy) == Reuse::Fresh
            && !invalidate::is_in_doubt(&exchange.context.shared, wanted.key, checked)
    });
    if !is_new && !fresh && fill.is_whole() {
        // It will be the file in a moment, and then that is checked.
        drop(next);
        fill.left(&waiter).await;
        return Next::Again;
    }
    // Nor does anybody begin with what an unsafe request has overtaken.
    if !is_new && (wanted.directives.no_cache || fill.is_invalid()) {
        return Next::Pass(BypassReason::NoCache);
    }
    exchange.outcome.set(Some(Outcome::Follow));
    wanted.debug("download in progress - response follows it");
    next
}

/// Checks what is kept while its client is served, unless somebody does so already.
fn check_behind<R: Runtime>(wanted: &CacheRequest<'_, '_, R>) {
    let context = Rc::clone(wanted.exchange.context);
    let first = context.shared.store.inflight.enter(wanted.key);
    if !matches!(&first, Turn::Lead(_)) && !is_ending(&first) {
        return;
    }
    let (request, log): (_, RequestLog) = (wanted.exchange.request.clone(), wanted.exchange.log.clone());
    let (key, directives, policy) = (wanted.key.clone(), wanted.directives, wanted.policy);
    let busy = context.shared.stop.busy();
    spawn_guarded::<R>(busy, async move {
        let exchange = Exchange::new(&context, &request, &log);
        let arrived = Instant::now();
        let wanted = CacheRequest {
            exchange: &exchange,
            key: &key,
            directives,
            policy,
            arrived,
            place: None,
            proof: None,
        };
        let Some(permit) = after_the_last(&wanted, first).await else { return };
        // A copy of its own: the one at hand is for the client.
        let Ok(kept) = context.shared.cache.find::<R>(&request, &key).await else { return permit.withdraw() };
        // Every wait in it has its limit. A fill goes on as a task of its own.
        drop(ask::ask(&wanted, permit, kept).await);
    });
}

/// Is it a fill that has all of its file, which may have its name already? What is found then is its file, and nobody
/// checks that.
fn is_ending(turn: &Turn) -> bool {
    matches!(turn, Turn::Follow(fill) if fill.is_whole())
}

/// The right to ask, once what is ending has ended. `None`: somebody else asks.
async fn after_the_last<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, first: Turn) -> Option<Permit> {
    match first {
        Turn::Lead(permit) => Some(permit),
        Turn::Full => None,
        Turn::Follow(fill) => {
            fill.left(&Waiter::new().ok()?).await;
            match wanted.exchange.context.shared.store.inflight.enter(wanted.key) {
                Turn::Lead(permit) => Some(permit),
                Turn::Follow(_) | Turn::Full => None,
            }
        }
    }
}
