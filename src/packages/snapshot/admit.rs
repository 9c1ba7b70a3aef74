//! What has come for a member of an index set: it joins the current generation, or makes a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fits::has_unproven;
use super::member::{Member, MemberState, is_same};
use super::refresh::RefreshedMember;
use super::serve::{PATIENCE, SnapshotRequest, SnapshotStep};
use super::table::{Access, Generation, RefreshTurn};
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::outcome;
use crate::rt::{Runtime, timeout};

impl<R: Runtime> SnapshotRequest<'_, '_, '_, R> {
    pub(crate) fn member(&self, what: MemberState) -> Member {
        Member { target: self.refresh.target(), what }
    }

    /// The client's generation has not got it, and is not current. Where all that the client has had is the same in the
    /// current one, it goes on with that.
    pub(crate) async fn carry_over(&self, from: &Arc<Generation<Member>>) -> SnapshotStep<R> {
        let superseded = SnapshotStep::Failed(Error::new(Side::Proxy, Kind::Superseded), None);
        let (exchange, shared) = (self.wanted.exchange, &self.refresh.context.shared);
        let Some(to) = self.refresh.set.current() else { return superseded };
        for key in shared.sets.seen(self.who, &self.id) {
            let (Some(one), Some(other)) = (from.get(&key), to.get(&key)) else { return superseded };
            let (Some(one), Some(other)) = (one.open(exchange, &key).await, other.open(exchange, &key).await)
            else {
                return superseded;
            };
            if !is_same::<R>(&one, &other).await {
                return superseded;
            }
        }
        if self.access() == Access::Read {
            shared.sets.carry(self.who, &self.id, from, &to);
            return SnapshotStep::Again;
        }
        let Some(member) = to.get(self.key()) else { return SnapshotStep::Apart };
        SnapshotStep::Member { generation: to, member, begins: false, how: outcome::CacheUse::Hit }
    }

    /// A member that the current generation has not got.
    pub(crate) async fn first(
        &self,
        turn: RefreshTurn<Member>,
        current: Option<Arc<Generation<Member>>>,
        member: Member,
        begins: bool,
        how: outcome::CacheUse,
    ) -> SnapshotStep<R> {
        if let Some(generation) = current {
            return self.join(turn, generation, member, begins, how).await;
        }
        let generation = Generation::new(BTreeMap::from([(self.key().clone(), member.clone())]));
        turn.switch(Arc::clone(&generation));
        self.refresh.settle(&generation, self.key(), &member);
        SnapshotStep::Member { generation, member, begins, how }
    }

    /// A member that the current generation has, as the origin has it now. Another one makes a new generation.
    pub(crate) async fn compared(
        &self,
        turn: RefreshTurn<Member>,
        current: Option<Arc<Generation<Member>>>,
        renewed: RefreshedMember,
        how: outcome::CacheUse,
    ) -> SnapshotStep<R> {
        let Some(generation) = current else { return SnapshotStep::Apart };
        match renewed {
            RefreshedMember::Same(member) if has_unproven(&generation) => {
                self.admit(turn, generation, member, true, how).await
            }
            RefreshedMember::Same(member) => {
                generation.put(self.key(), member.clone());
                if !self.refresh.set.rests()
                    && generation.take_look()
                    && !self.refresh.is_proven(&generation).await
                    && let Some(members) = self.changed_since(&generation).await
                {
                    self.refresh.collect(turn, members);
                    return SnapshotStep::Again;
                }
                SnapshotStep::Member { generation, member, begins: true, how }
            }
            RefreshedMember::Other { now, .. } => {
                let mut members = generation.all();
                members.insert(self.key().clone(), now);
                self.refresh.collect(turn, members);
                SnapshotStep::Again
            }
            RefreshedMember::Gone | RefreshedMember::Failed(_) => SnapshotStep::Apart,
        }
    }

    /// The members, if one has changed beside the one that is asked for. One that cannot be had says nothing.
    async fn changed_since(&self, generation: &Arc<Generation<Member>>) -> Option<BTreeMap<Key, Member>> {
        let mut members = generation.all();
        let others: Vec<Key> = members.keys().filter(|key| *key != self.key()).cloned().collect();
        let mut changed = false;
        let renewed = timeout::<R, _>(PATIENCE, self.refresh.renew_all(&members, others)).await;
        for (key, renewed) in renewed.unwrap_or_default() {
            match renewed {
                RefreshedMember::Same(now) => generation.put(&key, now),
                RefreshedMember::Other { now, .. } => {
                    members.insert(key, now);
                    changed = true;
                }
                RefreshedMember::Gone | RefreshedMember::Failed(_) => {}
            }
        }
        changed.then_some(members)
    }

    /// A member that has just come joins the current generation: at once, if that itself lists just this.
    async fn join(
        &self,
        turn: RefreshTurn<Member>,
        generation: Arc<Generation<Member>>,
        member: Member,
        begins: bool,
        how: outcome::CacheUse,
    ) -> SnapshotStep<R> {
        let Some(listed) = self.refresh.proof(&generation, self.key()).await else {
            return self.admit(turn, generation, member, begins, how).await;
        };
        if self.refresh.is_as_listed(self.key(), &member, &listed).await {
            generation.put(self.key(), member.clone());
            self.refresh.settle(&generation, self.key(), &member);
            return SnapshotStep::Member { generation, member, begins, how };
        }
        self.misfit(turn, generation).await
    }

    /// What the origin has for the client is not what the current generation lists: the generation is over, or the
    /// origin is half-way.
    pub(crate) async fn misfit(
        &self,
        turn: RefreshTurn<Member>,
        generation: Arc<Generation<Member>>,
    ) -> SnapshotStep<R> {
        let members = generation.all();
        let telling = self.refresh.telling(&members);
        match self.renewed_of(&generation, members, vec![telling]).await {
            Ok(None) => SnapshotStep::Misfit,
            Ok(Some(_)) if self.refresh.set.rests() => SnapshotStep::Misfit,
            Ok(Some(members)) => {
                self.refresh.collect(turn, members);
                SnapshotStep::Again
            }
            Err(error) => SnapshotStep::Failed(error, None),
        }
    }

    /// Whether the origin still has the list of this generation, as far as it says so in time.
    pub(crate) async fn is_still_listed(&self, generation: &Arc<Generation<Member>>) -> bool {
        let members = generation.all();
        let telling = self.refresh.telling(&members);
        match timeout::<R, _>(PATIENCE, self.renewed_of(generation, members, vec![telling])).await {
            Ok(Ok(changed)) => changed.is_none() || self.refresh.set.rests(),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Asks about these members, one group after the other until something has changed; all members then, if so. What
    /// fails says nothing, unless nothing else is said.
    async fn renewed_of(
        &self,
        generation: &Arc<Generation<Member>>,
        mut members: BTreeMap<Key, Member>,
        groups: Vec<Vec<Key>>,
    ) -> Result<Option<BTreeMap<Key, Member>>, Error> {
        let (mut answered, mut error, mut changed) = (false, None, false);
        for keys in groups {
            for (key, renewed) in self.refresh.renew_all(&members, keys).await {
                answered |= !matches!(renewed, RefreshedMember::Failed(_));
                match renewed {
                    RefreshedMember::Same(now) => generation.put(&key, now),
                    RefreshedMember::Other { now, .. } => {
                        members.insert(key, now);
                        changed = true;
                    }
                    RefreshedMember::Gone => changed = true,
                    RefreshedMember::Failed(failed) => error = Some(failed),
                }
            }
            if changed {
                return Ok(Some(members));
            }
        }
        error.filter(|_| !answered).map_or(Ok(None), Err)
    }

    /// Adds a member that has just come to the current generation, if that is still what the origin has.
    async fn admit(
        &self,
        turn: RefreshTurn<Member>,
        generation: Arc<Generation<Member>>,
        member: Member,
        begins: bool,
        how: outcome::CacheUse,
    ) -> SnapshotStep<R> {
        let mut members = generation.all();
        let asked = self.refresh.checked_for_another(&members);
        // One is asked about again: of two machines that answer in turn, the other one's word counts too.
        let again = asked.first().cloned().into_iter().collect();
        let changed = match self.renewed_of(&generation, members.clone(), vec![asked, again]).await {
            Ok(changed) => changed,
            Err(error) => return SnapshotStep::Failed(error, None),
        };
        if changed.is_some() && self.refresh.set.rests() {
            return SnapshotStep::Failed(Error::new(Side::Proxy, Kind::Superseded), None);
        }
        let is_changed = changed.is_some();
        members = changed.unwrap_or_else(|| generation.all());
        members.insert(self.key().clone(), member.clone());
        // One that lists others may not list those that there are.
        if is_changed || !self.refresh.misfits(&members).await.is_empty() {
            self.refresh.collect(turn, members);
            return SnapshotStep::Again;
        }
        generation.put(self.key(), member.clone());
        self.refresh.settle(&generation, self.key(), &member);
        SnapshotStep::Member { generation, member, begins, how }
    }
}
