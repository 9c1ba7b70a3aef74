//! What a client gets of an index set when the origin has failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fits::is_as_left;
use super::member::{Member, StoredMember};
use super::serve::{SnapshotRequest, SnapshotStep};
use super::table::{Generation, RefreshTurn};
use crate::cache::response::StoredResponse;
use crate::error::{Error, Kind};
use crate::outcome::{self, Stale};
use crate::proxy::next::Next;
use crate::rt::Runtime;

impl<R: Runtime> SnapshotRequest<'_, '_, '_, R> {
    /// The origin could not be asked. A set that is as an earlier process has left it has what is on the disk: that was
    /// all there was then, and the origin is asked about all of it as soon as it can be.
    pub(crate) async fn without_origin(
        &self,
        turn: &RefreshTurn<Member>,
        error: Error,
        current: Option<Arc<Generation<Member>>>,
        had: Option<Member>,
        kept: Option<StoredResponse>,
    ) -> SnapshotStep<R> {
        // Who has replaced the file on the disk wants that one, if it fits.
        let had = match had {
            Some(had) => had.open(self.wanted.exchange, self.key()).await,
            None => None,
        };
        if had.is_some() {
            return SnapshotStep::Failed(error, current.zip(had));
        }
        let left = kept.filter(|kept| self.wanted.may_use(kept, &error));
        let left = left.map(|kept| StoredResponse { checked: None, ..kept });
        let left = left.and_then(|kept| Some((StoredMember::of(&kept)?, kept)));
        let Some((what, kept)) = left.filter(|_| current.as_ref().is_none_or(is_as_left)) else {
            return SnapshotStep::Failed(error, None);
        };
        // What an earlier process has left may be of two generations.
        let mut members = match &current {
            Some(current) => self.still_there(current).await,
            None => BTreeMap::new(),
        };
        members.insert(self.key().clone(), self.member(what.clone()));
        if !self.refresh.misfits(&members).await.is_empty() {
            return SnapshotStep::Failed(error, None);
        }
        let generation = current.unwrap_or_else(|| {
            let generation = Generation::new(BTreeMap::new());
            turn.switch(Arc::clone(&generation));
            generation
        });
        generation.put(self.key(), self.member(what));
        SnapshotStep::Failed(error, Some((generation, Arc::new(kept))))
    }

    pub(crate) fn failed(
        &self,
        error: Error,
        kept: Option<(Arc<Generation<Member>>, Arc<StoredResponse>)>,
    ) -> Next<R> {
        let exchange = self.wanted.exchange;
        exchange.log.debug(format_args!("error with index set {error}"));
        let usable =
            |kept: &StoredResponse| error.kind == Kind::Superseded || self.wanted.may_use(kept, &error);
        match kept.filter(|(_, kept)| usable(kept)) {
            Some((generation, kept)) => {
                let why = if error.kind == Kind::Superseded {
                    Stale::WhileRevalidate
                } else {
                    self.wanted.why_stale(&kept, &error)
                };
                self.pin(&generation, self.pinned().is_none());
                Next::Stored(Box::new(StoredResponse::clone(&kept)), outcome::CacheUse::Stale(why))
            }
            None => Next::Fail(error),
        }
    }
}
