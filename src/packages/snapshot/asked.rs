//! A request of an index set asks the origin for its member, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use super::generations::Access;
use super::member::{MemberState, StoredMember};
use super::serve::{Asking, SetState, SnapshotRequest, SnapshotStep, apart};
use crate::cache::fill::{Fill, NoFile};
use crate::cache::inflight;
use crate::error::Kind;
use crate::outcome::{BypassReason, CacheUse};
use crate::proxy::fetch::origin;
use crate::proxy::next::{Next, Role};
use crate::proxy::revalidated::ask::FetchOutcome;
use crate::proxy::revalidated::wanted::CacheRequest;
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, timeout};

/// How long a member must be fetched for until its client gets the beginning, without knowing whether it will fit.
const PROOF_WAIT: Duration = Duration::from_secs(1);

impl<R: Runtime> SnapshotRequest<'_, '_, '_, R> {
    pub(crate) async fn ask_in_turn(&self, asking: Asking, waiter: &Waiter) -> SnapshotStep<R> {
        let (wanted, shared) = (self.wanted, &self.refresh.context.shared);
        let permit = match shared.store.inflight.enter(self.key()) {
            inflight::Turn::Lead(permit) => permit,
            inflight::Turn::Follow(fill) => {
                fill.left(waiter).await;
                return SnapshotStep::Again;
            }
            inflight::Turn::Full => return SnapshotStep::Done(apart()),
        };
        let Ok(kept) = shared.cache.find::<R>(wanted.exchange.request, self.key()).await else {
            return SnapshotStep::Done(apart());
        };
        if let SetState::With(generation, had) = &asking.state {
            // A file that replaces another waits for its name until the new generation is complete.
            let wanted = CacheRequest { place: self.key().spare(), proof: None, ..*wanted };
            return match self.refresh.ask(&wanted, (permit, kept), had, waiter).await {
                Ok((renewed, how)) => self.compared(&asking.turn, generation, had, renewed, how).await,
                Err(outcome) => self.no_member(&asking, outcome).await,
            };
        }
        let proof = match asking.state.generation() {
            Some(generation) => self.refresh.proof(generation, self.key()).await,
            None => None,
        };
        let is_listed = proof.is_some();
        let wanted = CacheRequest { place: None, proof, ..*wanted };
        match wanted.ask(permit, kept).await {
            FetchOutcome::Stored(kept, how) => match StoredMember::of(&kept) {
                Some(what) => self.first(asking, what, how).await,
                None => SnapshotStep::Done(Next::Stored(Box::new(kept), how)),
            },
            FetchOutcome::Filling { fill, follower, .. } => {
                let begun = self.begun(asking, &fill, is_listed, waiter).await;
                drop(follower);
                begun
            }
            outcome @ (FetchOutcome::NotStored(..)
            | FetchOutcome::Slow { .. }
            | FetchOutcome::Confirmed(_)
            | FetchOutcome::Bypass(_)
            | FetchOutcome::Failed(..)) => self.no_member(&asking, outcome).await,
        }
    }

    /// A member that nobody has asked for before is being fetched.
    async fn begun(
        &self,
        asking: Asking,
        fill: &Arc<Fill>,
        is_listed: bool,
        waiter: &Waiter,
    ) -> SnapshotStep<R> {
        if let (Some(generation), true) = (asking.state.generation(), is_listed) {
            let ended = timeout::<R, _>(PROOF_WAIT, fill.left(waiter)).await;
            // The client gets the end of it in any case, if the origin itself serves it beside this list.
            if ended.is_err() && self.is_still_listed(generation).await {
                fill.give_anyway();
            }
            match fill.answer(waiter).await {
                Err(NoFile::Failed(error)) if error.kind == Kind::Mismatch => {
                    return self.misfit(&asking.turn, generation).await;
                }
                Err(NoFile::Failed(error)) => return SnapshotStep::Done(self.failed(error, None)),
                Ok(_) | Err(_) => {}
            }
        }
        self.first(asking, MemberState::Filling(Arc::clone(fill)), CacheUse::Fetched).await
    }

    /// What the origin has is no member of the set, or is for this client alone.
    async fn no_member(&self, asking: &Asking, outcome: FetchOutcome<R>) -> SnapshotStep<R> {
        SnapshotStep::Done(match outcome {
            FetchOutcome::Stored(kept, how) => Next::Stored(Box::new(kept), how),
            FetchOutcome::Slow { fill, follower } => Next::Follow(fill, follower, Role::Leader(None)),
            FetchOutcome::Confirmed(kept) => Next::Stored(Box::new(kept), CacheUse::Revalidated),
            FetchOutcome::Bypass(why) => Next::Pass(why),
            // A refusal is for this client, and changes nothing.
            FetchOutcome::NotStored(_, _) if self.wanted.is_in_other_form() => {
                Next::Pass(BypassReason::OtherForm)
            }
            FetchOutcome::NotStored(answer, body) if self.access() == Access::Head => {
                origin::settle(body.rest);
                Next::RelayHead(answer)
            }
            FetchOutcome::NotStored(answer, body) => Next::hand_on(*answer, body),
            FetchOutcome::Filling { .. } => return SnapshotStep::Again,
            FetchOutcome::Failed(error, kept) => {
                // An origin that cannot be reached fails for all members.
                let is_all = matches!(error.kind, Kind::Connect | Kind::Resolve | Kind::Tls);
                asking.turn.fail((!is_all).then(|| self.key()), error.clone());
                return self.without_origin(asking, error, kept).await;
            }
        })
    }
}
