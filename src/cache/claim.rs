//! What the cache says of a key, and whose turn it is to ask the origin: the same for every class. A class says how its
//! responses are found, and which of them are fresh.

use std::sync::Arc;

use super::fill::Fill;
use super::inflight::{Inflight, Permit, Turn};
use crate::key::Key;
use crate::outcome::BypassReason;

/// What it says.
pub enum Claim<T, F> {
    /// This may be used without a word of the origin, in this way.
    Fresh(T, F),
    /// This may not; the turn to ask is the caller's.
    Stale(T, Permit),
    /// There is nothing; the turn is the caller's.
    Absent(Permit),
    /// Somebody asks already; this is there meanwhile.
    Filling(Arc<Fill>, Option<T>),
    /// As many ask as may.
    Full,
    /// What is there cannot be served.
    Unusable(BypassReason),
}

/// Finds what there is and takes the turn if that is not `fresh`; before that the request may be `refused`, which is
/// then the answer.
pub async fn claim<T, F, N>(
    inflight: &Arc<Inflight>,
    key: &Key,
    find: impl AsyncFn() -> Result<Option<T>, BypassReason>,
    fresh: impl Fn(&T) -> Option<F>,
    refused: impl AsyncFnOnce(Option<T>) -> Result<Option<T>, N>,
) -> Result<Claim<T, F>, N> {
    let endings = inflight.endings();
    let found = match find().await {
        Ok(found) => found,
        Err(why) => return Ok(Claim::Unusable(why)),
    };
    let found = match fresh_or(found, &fresh) {
        Ok(claim) => return Ok(claim),
        Err(found) => refused(found).await?,
    };
    let permit = match inflight.enter(key) {
        Turn::Lead(permit) => permit,
        Turn::Follow(fill) => return Ok(Claim::Filling(fill, found)),
        Turn::Full => return Ok(Claim::Full),
    };
    if inflight.endings() == endings {
        return Ok(led(permit, found));
    }
    // A fill has ended since, maybe of this path; while the turn is ours, none of it does.
    let again = match find().await {
        Ok(again) => fresh_or(again, &fresh),
        Err(why) => Ok(Claim::Unusable(why)),
    };
    Ok(match again {
        Ok(claim) => {
            permit.withdraw();
            claim
        }
        Err(found) => led(permit, found),
    })
}

fn fresh_or<T, F>(found: Option<T>, fresh: impl Fn(&T) -> Option<F>) -> Result<Claim<T, F>, Option<T>> {
    match found.as_ref().and_then(fresh) {
        Some(how) => found.map(|found| Claim::Fresh(found, how)).ok_or(None),
        None => Err(found),
    }
}

fn led<T, F>(permit: Permit, found: Option<T>) -> Claim<T, F> {
    match found {
        Some(found) => Claim::Stale(found, permit),
        None => Claim::Absent(permit),
    }
}
