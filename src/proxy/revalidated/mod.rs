//! The class of paths that are stored and revalidated with the origin (RFC 9111).
//!
//! `cached` finds the stored response, and whether it may be used. If not, the origin is asked once for all who want the
//! same (`ask`), and the response that is stored by then, or comes, is sent (`answer`). What the rules are is in
//! [`crate::http::caching`].

pub mod answer;
pub mod ask;
pub mod document;
pub mod head_request;
pub mod invalidate;
pub mod wanted;

use std::sync::Arc;

use super::next::{Next, Role};
use crate::cache::fill::{Fill, NoFile};
use crate::cache::inflight::Permit;
use crate::cache::response::StoredResponse;
use crate::http::caching::reuse::{self, Reuse};
use crate::http::caching::stored::StoredHead;
use crate::outcome::{BypassReason, CacheUse};
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;
use crate::sys::clock;
use ask::FetchOutcome;
use wanted::CacheRequest;

/// Asks the origin; the next step is what comes of it.
pub(crate) async fn lead<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    stored: Option<StoredResponse>,
) -> Next<R> {
    match wanted.ask(permit, stored).await {
        FetchOutcome::Stored(stored, how) => Next::Stored(Box::new(stored), how),
        FetchOutcome::Filling { fill, follower, at_hand } => {
            Next::Follow(fill, follower, Role::Leader(at_hand))
        }
        FetchOutcome::Slow { fill, follower } => Next::Follow(fill, follower, Role::Leader(None)),
        FetchOutcome::NotStored(_, _) if wanted.is_in_other_form() => Next::Pass(BypassReason::OtherForm),
        FetchOutcome::NotStored(answer, body) => Next::hand_on(*answer, body),
        FetchOutcome::Confirmed(stored) => Next::Stored(Box::new(stored), CacheUse::Revalidated),
        FetchOutcome::Bypass(why) => Next::Pass(why),
        FetchOutcome::Failed(error, stored) => wanted.failed(error, stored),
    }
}

/// Waits for what another request's exchange with the origin comes to.
pub(crate) async fn join<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    fill: Arc<Fill>,
    stored: Option<StoredResponse>,
) -> Next<R> {
    let waiter = Waiter::new();
    // Joined before the head is waited for, so that nothing passes by meanwhile.
    let next = Next::follow(Arc::clone(&fill));
    match fill.answer(&waiter).await {
        Ok(_) => {}
        Err(NoFile::Again) => return Next::Again,
        Err(NoFile::Declined(why)) => return Next::Pass(why),
        Err(NoFile::Failed(error)) => return wanted.failed(error, stored),
    }
    let kept = fill.kept();
    if let Some(why) = kept.as_ref().and_then(|kept| is_for_others(wanted, &kept.head)) {
        return Next::Pass(why);
    }
    let is_new = kept.as_ref().is_none_or(|kept| kept.checked > wanted.arrived);
    let fresh = kept.as_ref().is_some_and(|kept| {
        let (now, checked) = (clock::unix_secs(), Some(kept.checked));
        reuse::decide(&kept.head, &wanted.directives, now, &wanted.policy) == Reuse::Fresh
            && !invalidate::is_in_doubt(&wanted.exchange.context.shared, wanted.key, checked)
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
    wanted.debug("download in progress - response follows it");
    next
}

/// Why a response that arrives for other clients is not for this one, if it is not.
fn is_for_others<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, head: &StoredHead) -> Option<BypassReason> {
    if !head.variant.matches(&wanted.exchange.request.fields) {
        return Some(BypassReason::Variant);
    }
    (head.status != 200 && wanted.is_in_other_form()).then_some(BypassReason::OtherForm)
}
