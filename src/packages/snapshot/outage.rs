//! What a client gets of an index set when the origin has failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fits::is_as_left;
use super::generations::Generation;
use super::member::{Member, StoredMember};
use super::serve::{Asking, SetState, SnapshotRequest, SnapshotStep};
use crate::cache::response::StoredResponse;
use crate::error::{Error, Kind};
use crate::outcome::{self, Stale};
use crate::proxy::next::Next;
use crate::rt::Runtime;

/// What is stored of a member, and the generation that it is of.
pub(crate) type Stored = (Arc<Generation>, Arc<StoredResponse>);

impl<R: Runtime> SnapshotRequest<'_, '_, '_, R> {
    /// The origin could not be asked; this is `found` on the disk.
    pub(crate) async fn without_origin(
        &self,
        asking: &Asking,
        error: Error,
        found: Option<StoredResponse>,
    ) -> SnapshotStep<R> {
        // A file that has replaced it on the disk is used instead, if it fits.
        let stored = match &asking.state {
            SetState::With(generation, had) => {
                let kept = had.open(self.wanted.exchange, self.key()).await;
                kept.map(|kept| (Arc::clone(generation), kept))
            }
            SetState::Empty | SetState::Without(_) => None,
        };
        let stored = match (stored, found) {
            (None, Some(found)) => self.found(asking, &error, found).await,
            (stored, _) => stored,
        };
        SnapshotStep::Done(self.failed(error, stored))
    }

    /// A set of which nothing has been validated since the start has the files on the disk. All of them are validated
    /// as soon as the origin can be asked.
    async fn found(&self, asking: &Asking, error: &Error, found: StoredResponse) -> Option<Stored> {
        let current = asking.state.generation();
        if !self.wanted.may_use(&found, error) || !current.is_none_or(is_as_left) {
            return None;
        }
        let kept = StoredResponse { checked: None, ..found };
        let member = Member { target: self.refresh.target(), what: StoredMember::of(&kept)? };
        // The files of an earlier process may be of two generations.
        let mut members = match current {
            Some(current) => self.still_there(current).await,
            None => BTreeMap::new(),
        };
        members.insert(self.key().clone(), member.clone());
        if !self.refresh.misfits(&members).await.is_empty() {
            return None;
        }
        let generation = asking.turn.generation_or_new(current);
        generation.put(self.key(), member);
        Some((generation, Arc::new(kept)))
    }

    /// The end of a request: what is `stored`, if that may be used after this error.
    pub(crate) fn failed(&self, error: Error, stored: Option<Stored>) -> Next<R> {
        self.wanted.exchange.log.debug(format_args!("error with index set {error}"));
        let is_superseded = error.kind == Kind::Superseded;
        let usable = |(_, kept): &Stored| is_superseded || self.wanted.may_use(kept, &error);
        let Some((generation, kept)) = stored.filter(usable) else { return Next::Fail(error) };
        let why = if is_superseded { Stale::WhileRevalidate } else { self.wanted.why_stale(&kept, &error) };
        self.pin(&generation, self.pinned().is_none());
        Next::Stored(Box::new(StoredResponse::clone(&kept)), outcome::CacheUse::Stale(why))
    }
}
