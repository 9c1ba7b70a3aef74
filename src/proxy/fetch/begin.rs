//! The beginning of a file in progress.

use std::sync::Arc;

use super::progress::Start;
use super::storable::storable;
use crate::cache::partial::Partial;
use crate::cache::place::PATIENCE;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::proxy::exchange::{Context, Shared};
use crate::proxy::lookup::exhausted;
use crate::rt::Runtime;

/// Begins to store a file; where the system has no descriptor left, once more after that.
pub(crate) async fn begin<R: Runtime>(context: &Context<R>, key: &Key) -> Result<Partial, BypassReason> {
    let begun = create::<R>(&context.shared, key).await;
    if !matches!(begun, Err(BypassReason::Descriptors)) {
        return begun;
    }
    exhausted(context).await;
    create::<R>(&context.shared, key).await
}

/// At once on this machine, else by a thread that may wait for another.
async fn create<R: Runtime>(shared: &Arc<Shared>, key: &Key) -> Result<Partial, BypassReason> {
    if let Some(begun) = shared.store.begin_here(key) {
        return begun;
    }
    let (theirs, of) = (Arc::clone(shared), key.clone());
    shared.store.way(key.as_str()).run::<R, _>(PATIENCE, move || theirs.store.begin(&of)).await?
}

/// Leaves the file for a later fill. Its record may not be on the disk yet.
pub(crate) async fn leave<R: Runtime>(mut partial: Partial, stored: u64) {
    let place = partial.place().clone();
    // What cannot be left goes.
    place.work::<R, _>(move || partial.leave(stored)).await.unwrap_or_default();
}

/// Begins to store an answer of which nothing is there yet.
pub(crate) async fn anew<R: Runtime>(
    context: &Context<R>,
    key: &Key,
    answer: &ResponseHead,
) -> Result<(Partial, Start), BypassReason> {
    let end = storable(answer, key, &context.shared.config)?;
    let partial = begin(context, key).await?;
    Ok((partial, Start { end, ..Start::default() }))
}
