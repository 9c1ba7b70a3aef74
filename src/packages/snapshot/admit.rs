//! A member that has been fetched joins the current generation, or makes a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fits::has_unproven;
use super::generations::{Access, Generation, RefreshTurn};
use super::member::{Member, MemberState, is_same};
use super::refresh::RefreshedMember;
use super::serve::{Asking, PATIENCE, Served, SnapshotRequest, SnapshotStep, apart, superseded};
use crate::error::{Error, Side};
use crate::key::Key;
use crate::outcome::CacheUse;
use crate::rt::{Runtime, timeout};

impl<R: Runtime> SnapshotRequest<'_, '_, '_, R> {
    /// The client's generation has not got the member, and is not current. Where all that the client has read is the
    /// same in the current one, it continues with that.
    pub(crate) async fn carry_over(&self, from: &Arc<Generation>) -> SnapshotStep<R> {
        let shared = &self.refresh.context.shared;
        let Some(to) = self.carried(from).await else {
            return SnapshotStep::Done(self.failed(superseded(), None));
        };
        if self.access() == Access::Read {
            shared.packages.sets.carry(self.who, &self.id, from, &to);
            return SnapshotStep::Again;
        }
        match to.get(self.key()) {
            Some(member) => {
                SnapshotStep::Member(Served { generation: to, member, begins: false, how: CacheUse::Hit })
            }
            None => SnapshotStep::Done(apart()),
        }
    }

    async fn carried(&self, from: &Arc<Generation>) -> Option<Arc<Generation>> {
        let (exchange, to) = (self.wanted.exchange, self.refresh.set.current()?);
        for key in self.refresh.context.shared.packages.sets.seen(self.who, &self.id) {
            let one = from.get(&key)?.open(exchange, &key).await?;
            let other = to.get(&key)?.open(exchange, &key).await?;
            if !is_same::<R>(&one, &other).await {
                return None;
            }
        }
        Some(to)
    }

    /// A member that the current generation has not got. It joins at once if the generation itself lists just this.
    pub(crate) async fn first(&self, asking: Asking, what: MemberState, how: CacheUse) -> SnapshotStep<R> {
        let Asking { turn, state, begins } = asking;
        let member = Member { target: self.refresh.target(), what };
        let generation = turn.generation_or_new(state.generation());
        let served = Served { generation, member, begins, how };
        if state.generation().is_none() {
            return self.joined(served);
        }
        match self.refresh.proof(&served.generation, self.key()).await {
            None => self.admit(&turn, served).await,
            Some(listed) if self.refresh.is_as_listed(self.key(), &served.member, &listed).await => {
                self.joined(served)
            }
            Some(_) => self.misfit(&turn, &served.generation).await,
        }
    }

    fn joined(&self, served: Served) -> SnapshotStep<R> {
        served.generation.put(self.key(), served.member.clone());
        self.refresh.settle(&served.generation, self.key(), &served.member);
        SnapshotStep::Member(served)
    }

    /// A member that the current generation has, as the origin has it now. Another one makes a new generation.
    pub(crate) async fn compared(
        &self,
        turn: &RefreshTurn,
        generation: &Arc<Generation>,
        had: &Member,
        renewed: RefreshedMember,
        how: CacheUse,
    ) -> SnapshotStep<R> {
        match renewed {
            RefreshedMember::Same(member) => {
                let served = Served { generation: Arc::clone(generation), member, begins: true, how };
                if has_unproven(generation) {
                    return self.admit(turn, served).await;
                }
                generation.put(self.key(), served.member.clone());
                match self.look(generation).await {
                    Some(members) => self.collect(turn, members),
                    None => SnapshotStep::Member(served),
                }
            }
            RefreshedMember::Other(now) => {
                let mut members = generation.all();
                members.insert(self.key().clone(), now);
                self.collect(turn, members)
            }
            RefreshedMember::Failed(error) if error.side != Side::Disk => {
                let before = had.open(self.wanted.exchange, self.key()).await;
                let stored = before.map(|before| (Arc::clone(generation), before));
                SnapshotStep::Done(self.failed(error, stored))
            }
            RefreshedMember::Gone | RefreshedMember::Failed(_) => SnapshotStep::Done(apart()),
        }
    }

    fn collect(&self, turn: &RefreshTurn, members: BTreeMap<Key, Member>) -> SnapshotStep<R> {
        self.refresh.collect(turn.clone(), members);
        SnapshotStep::Again
    }

    /// Validates all other members, if that is due; the members, if one has changed. Failures are ignored.
    async fn look(&self, generation: &Arc<Generation>) -> Option<BTreeMap<Key, Member>> {
        if self.refresh.set.rests() || !generation.take_look() || self.refresh.is_proven(generation).await {
            return None;
        }
        let others = generation.all().into_keys().filter(|key| key != self.key()).collect();
        let renewed = timeout::<R, _>(PATIENCE, self.renewed_of(generation, vec![others], false)).await;
        renewed.ok()?.ok()?
    }

    /// The origin's file is not the one that the current generation lists: the generation is over, or the origin is in
    /// the middle of an update.
    pub(crate) async fn misfit(&self, turn: &RefreshTurn, generation: &Arc<Generation>) -> SnapshotStep<R> {
        let anchors = self.refresh.anchors_or_all(&generation.all());
        match self.renewed_of(generation, vec![anchors], true).await {
            Ok(Some(members)) if !self.refresh.set.rests() => self.collect(turn, members),
            Ok(_) => SnapshotStep::Misfit,
            Err(error) => SnapshotStep::Done(self.failed(error, None)),
        }
    }

    /// Whether the origin still has the list of this generation, as far as it says so in time.
    pub(crate) async fn is_still_listed(&self, generation: &Arc<Generation>) -> bool {
        let anchors = self.refresh.anchors_or_all(&generation.all());
        match timeout::<R, _>(PATIENCE, self.renewed_of(generation, vec![anchors], true)).await {
            Ok(Ok(changed)) => changed.is_none() || self.refresh.set.rests(),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Validates these members, one group after the other until something has changed; all members then, if so. An
    /// error counts only if there are no answers.
    async fn renewed_of(
        &self,
        generation: &Arc<Generation>,
        groups: Vec<Vec<Key>>,
        counts_gone: bool,
    ) -> Result<Option<BTreeMap<Key, Member>>, Error> {
        let mut members = generation.all();
        let (mut answered, mut error, mut changed) = (false, None, false);
        for keys in groups {
            for (key, renewed) in self.refresh.renew_all(&members, keys).await {
                answered |= !matches!(renewed, RefreshedMember::Failed(_));
                match renewed {
                    RefreshedMember::Same(now) => generation.put(&key, now),
                    RefreshedMember::Other(now) => {
                        members.insert(key, now);
                        changed = true;
                    }
                    RefreshedMember::Gone => changed |= counts_gone,
                    RefreshedMember::Failed(failed) => error = Some(failed),
                }
            }
            if changed {
                return Ok(Some(members));
            }
        }
        error.filter(|_| !answered).map_or(Ok(None), Err)
    }

    /// Adds a member to the current generation, if that has not changed at the origin.
    async fn admit(&self, turn: &RefreshTurn, served: Served) -> SnapshotStep<R> {
        let generation = &served.generation;
        let asked = self.refresh.checked_for_another(&generation.all());
        // One is validated twice: where two machines answer in turn, both are asked.
        let again = asked.first().cloned().into_iter().collect();
        let changed = match self.renewed_of(generation, vec![asked, again], true).await {
            Ok(Some(_)) if self.refresh.set.rests() => Err(superseded()),
            changed => changed,
        };
        let changed = match changed {
            Ok(changed) => changed,
            Err(error) => return SnapshotStep::Done(self.failed(error, None)),
        };
        let is_changed = changed.is_some();
        let mut members = changed.unwrap_or_else(|| generation.all());
        members.insert(self.key().clone(), served.member.clone());
        // A file that lists others may not list these.
        if is_changed || !self.refresh.misfits(&members).await.is_empty() {
            return self.collect(turn, members);
        }
        self.joined(served)
    }
}
