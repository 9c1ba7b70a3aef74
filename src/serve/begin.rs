//! The beginning of a file in progress.

use super::exchange::Context;
use super::lookup::exhausted;
use super::progress::Start;
use super::storable::storable;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::outcome::Why;
use crate::rt::Runtime;
use crate::store::partial::Partial;

/// Begins to store a file; where the system has no descriptor left, once more after that.
pub(super) async fn begin<R: Runtime>(context: &Context<R>, key: &Key) -> Result<Partial, Why> {
    let begun = context.shared.store.begin(key);
    if !matches!(begun, Err(Why::Descriptors)) {
        return begun;
    }
    exhausted(context).await;
    context.shared.store.begin(key)
}

/// Begins to store an answer of which nothing is there yet.
pub(super) async fn anew<R: Runtime>(
    context: &Context<R>,
    key: &Key,
    answer: &ResponseHead,
) -> Result<(Partial, Start), Why> {
    let end = storable(answer, key, &context.shared.config)?;
    let partial = begin(context, key).await?;
    Ok((partial, Start { end, ..Start::default() }))
}
